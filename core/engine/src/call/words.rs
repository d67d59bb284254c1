//! A final answer that a rule of the configuration gives, as whoever is called would have written it.

use super::call::{Core, State};
use super::cdr::{Outcome, Reason};
use super::limits::RETRY_AFTER_SECS;
use super::message;
use super::raw::Raw;
use super::setup::Setup;
use crate::settings::Rejection;
use crate::sips;
use crate::state::calls::PendingRequest;
use crate::turn::Turn;
use signalbox_base::Text;
use signalbox_schemas::words::{Category, ReleasedBy};
use signalbox_sip::{HeaderName, Limits, Message, Method, Put};

/// What the caller is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Words {
    status: u16,
    phrase: Text,
    headers: Vec<(HeaderName, Raw)>,
    /// Where it is not what the status says.
    category: Option<Category>,
}

impl Words {
    /// A refusal by a rule.
    pub(super) fn rejection(rejection: &Rejection) -> Self {
        let Rejection { status, reason, cause } = rejection;
        let phrase = reason.clone().unwrap_or_else(|| Text::new(message::phrase(*status)));
        let cause = cause.map(|cause| Raw::from(format!("Q.850;cause={cause};text=\"{phrase}\"")));
        let headers = cause.map(|value| (HeaderName::Reason, value)).into_iter().collect();
        Self { status: *status, phrase, headers, category: None }
    }

    /// Where else the caller may try.
    pub(super) fn redirection(contacts: &[Text]) -> Self {
        let contact = |uri: &Text| (HeaderName::Contact, Raw::from(format!("<{uri}>")));
        Self { headers: contacts.iter().map(contact).collect(), ..Self::plain(302) }
    }

    /// The tenant hears nothing of this caller.
    pub(super) fn blocked() -> Self {
        Self { category: Some(Category::Blocked), ..Self::plain(603) }
    }

    /// A status alone.
    pub(crate) fn plain(status: u16) -> Self {
        Self { status, phrase: Text::new(message::phrase(status)), headers: Vec::new(), category: None }
    }

    /// Whoever is called has as many calls as a user may.
    pub(super) fn busy() -> Self {
        Self { category: Some(Category::Limit), ..Self::plain(486) }
    }

    /// No peer of a group takes one more call.
    pub(super) fn full() -> Self {
        let headers = vec![(HeaderName::RetryAfter, Raw::from(RETRY_AFTER_SECS.to_string()))];
        Self { headers, category: Some(Category::Limit), ..Self::plain(503) }
    }

    /// Status and phrase.
    pub(crate) fn said(&self) -> (u16, &str) {
        (self.status, &self.phrase)
    }

    /// Header lines beside those of any answer.
    pub(crate) fn headers(&self) -> &[(HeaderName, Raw)] {
        &self.headers
    }

    /// `sips:` was asked for, and nobody can be reached by it (RFC 5630).
    pub(crate) fn sips_not_allowed(warning: &str) -> Self {
        let headers = vec![(HeaderName::Warning, Raw::from(warning.as_bytes()))];
        Self { status: sips::STATUS, phrase: Text::new(sips::REASON), headers, category: None }
    }

    fn write(&self, call_id: &[u8], pending: &PendingRequest) -> Raw {
        let mut out = Vec::with_capacity(512);
        ("SIP/2.0 ", (u32::from(self.status), (" ", (&*self.phrase, "\r\n")))).put(&mut out);
        for via in pending.vias() {
            ("Via: ", (via, "\r\n")).put(&mut out);
        }
        ("From: ", (pending.from(), ("\r\nTo: ", (pending.to(), "\r\n")))).put(&mut out);
        ("Call-ID: ", (call_id, ("\r\nCSeq: ", (pending.cseq, (" ", (Method::Invite, "\r\n"))))))
            .put(&mut out);
        for (name, value) in &self.headers {
            (name.as_str(), (": ", (&**value, "\r\n"))).put(&mut out);
        }
        "Content-Length: 0\r\n\r\n".put(&mut out);
        Raw::from(out.as_slice())
    }
}

impl Setup {
    /// Ends the call with these words.
    pub(super) fn say(self: Box<Self>, core: &mut Core, turn: &mut Turn<'_>, words: &Words) -> State {
        let bytes = words.write(&core.caller.call_id, &self.invite);
        let reason = Reason::read(
            words.headers.iter().filter(|(name, _)| *name == HeaderName::Reason).map(|(_, value)| &**value),
            Some(words.phrase.as_bytes()),
        );
        let mut outcome = Outcome::failed(ReleasedBy::Edge, words.status, false, reason);
        outcome.category = words.category.unwrap_or(outcome.category);
        let message = Message::parse(bytes, &Limits::DATAGRAM).ok();
        self.fail(core, turn, outcome, words.status, message.as_ref())
    }
}
