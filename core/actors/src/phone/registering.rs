//! REGISTER from the phone's side (RFC 3261 §10.2).

use super::{Phone, Plan};
use crate::datagram::Datagram;
use crate::line::{Owned, Use};
use crate::login::{Authorization, is_worth_an_answer};
use crate::seen::Observed;
use crate::ua::{Request, Ua};
use signalbox_base::{Mono, Text};
use signalbox_sip::header::{NameAddr, delta_seconds};
use signalbox_sip::{HeaderName, Method};
use std::time::Duration;

/// After a refusal or silence, a phone that refreshes tries again.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// The registration of one phone.
#[derive(Debug)]
pub(super) struct Registering {
    call_id: Text,
    tag: Text,
    cseq: u32,
    /// What the REGISTER under way asks for; 0 removes.
    asked: Option<u32>,
    /// Challenges answered with the REGISTER under way.
    answers: u8,
    until: Option<Mono>,
    left: bool,
}

impl Registering {
    pub(super) fn new(ua: &mut Ua<Use>) -> Self {
        let (call_id, tag, cseq) = (ua.call_id().into(), ua.tag().into(), ua.first_cseq() - 1);
        Self { call_id, tag, cseq, asked: None, answers: 0, until: None, left: false }
    }

    pub(super) fn until(&self) -> Option<Mono> {
        self.until
    }

    pub(super) fn has_left(&self) -> bool {
        self.left
    }
}

impl Phone {
    /// Registers, or refreshes. Without effect while a REGISTER is under way.
    pub fn register(&mut self, now: Mono, out: &mut Vec<Datagram>) {
        self.begin_register(now, self.profile.expires_secs, out);
    }

    /// Removes its Contact (RFC 3261 §10.2.2).
    pub fn unregister(&mut self, now: Mono, out: &mut Vec<Datagram>) {
        self.begin_register(now, 0, out);
    }

    fn begin_register(&mut self, now: Mono, expires: u32, out: &mut Vec<Datagram>) {
        if self.registering.asked.is_none() {
            self.agenda.forget(|plan| *plan == Plan::Refresh);
            self.registering.asked = Some(expires);
            self.registering.answers = 0;
            self.send_register(now, expires, None, out);
        }
    }

    fn send_register(
        &mut self,
        now: Mono,
        expires: u32,
        authorization: Option<Authorization>,
        out: &mut Vec<Datagram>,
    ) {
        self.registering.cseq += 1;
        let Registering { call_id, tag, cseq, .. } = &self.registering;
        let (branch, device) = (self.line.ua.branch(), self.line.ua.device);
        let (aor, ways) = (self.aor(), &device.contact);
        let to = format!("sip:{aor}");
        let contact = match expires {
            0 if device.leaves_all => "*".to_owned(),
            _ if ways.expires_inside => format!("<{}>;expires={expires}", self.line.contact),
            _ => format!("<{}>{}", self.line.contact, self.instance),
        };
        let mut bytes = Vec::with_capacity(768);
        let mut request = self
            .line
            .ua
            .begin(&mut bytes, Method::Register, ("sip:", self.profile.domain.as_str()), branch)
            .header(HeaderName::From, format_args!("<sip:{aor}>;tag={tag}"))
            .header(HeaderName::To, device.form.to(&to))
            .header(HeaderName::CallId, call_id.as_str())
            .header(HeaderName::CSeq, format_args!("{cseq} REGISTER"))
            .header(HeaderName::Contact, contact);
        if !ways.expires_inside {
            request = request.header(HeaderName::Expires, expires);
        }
        for (name, value) in device.registering {
            request = request.extension(name, *value);
        }
        if let Some(Authorization { name, value }) = authorization {
            request = request.header(name, value);
        }
        request.finish();
        let (to, user) = (self.profile.edge, Use::Owner(0, Method::Register));
        self.line.ua.send(now, Request { to, branch, method: Method::Register, bytes, user }, out);
    }

    /// The answer to REGISTER.
    pub(super) fn on_registered(
        &mut self,
        now: Mono,
        status: u16,
        response: Option<&Owned>,
        out: &mut Vec<Datagram>,
    ) {
        let Some(asked) = self.registering.asked else { return };
        if let (401 | 407, Some(response)) = (status, response)
            && is_worth_an_answer(response, self.registering.answers)
        {
            let uri = format!("sip:{}", self.profile.domain);
            let login = self.line.login.as_ref();
            let answer =
                login.and_then(|l| l.answer(response, Method::Register, &uri, &mut self.line.ua.random));
            if answer.is_some() {
                self.registering.answers += 1;
                return self.send_register(now, asked, answer, out);
            }
        }
        self.registering.asked = None;
        self.registering.left = asked == 0 && (200..300).contains(&status);
        match response {
            Some(response) if (200..300).contains(&status) => self.on_granted(now, asked, response),
            _ => {
                self.saw(now, Observed::RegisterRefused { status });
                if self.profile.refresh && asked > 0 {
                    self.agenda.plan(now.plus(RETRY_AFTER), Plan::Refresh);
                }
            }
        }
    }

    fn on_granted(&mut self, now: Mono, asked: u32, response: &Owned) {
        let contacts: Vec<_> =
            response.values(HeaderName::Contact).filter_map(|value| NameAddr::parse(value).ok()).collect();
        let own: Vec<_> = contacts.iter().filter(|c| c.uri == self.line.contact.as_bytes()).collect();
        if asked == 0 {
            self.registering.until = None;
            if !own.is_empty() {
                self.line.violations.note(now, "our Contact is still there after Expires: 0", response);
            }
            return self.saw(now, Observed::Unregistered);
        }
        if own.len() != 1 {
            self.line.violations.note(
                now,
                "our Contact is not in the 200 once (RFC 3261 §10.3 step 8)",
                response,
            );
        }
        let general = response.value(HeaderName::Expires).and_then(|value| delta_seconds(value).ok());
        let expires_secs = own.first().and_then(|c| c.expires()).or(general).unwrap_or(asked);
        self.registering.until = Some(now.plus(Duration::from_secs(u64::from(expires_secs))));
        let contacts = contacts.len();
        self.saw(now, Observed::Registered { expires_secs, contacts });
        self.keep_alive(now);
        if self.profile.refresh {
            // RFC 3261 leaves the moment open; four fifths leave room for retries.
            let refresh = Duration::from_secs(u64::from(expires_secs)) * 4 / 5;
            self.agenda.plan(now.plus(refresh), Plan::Refresh);
        }
    }
}
