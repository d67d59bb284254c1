//! How dialogs come to be (RFC 3261 §12.1).

use super::id::DialogId;
use super::route_set::RouteSet;
use super::state::{Dialog, Phase, Role};
use serde::{Deserialize, Serialize};
use signalbox_base::Text;

/// What our dialog-making request fixed: each fork that answers makes a dialog of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outgoing {
    /// Call-ID.
    pub call_id: Text,
    /// Tag of From.
    pub local_tag: Text,
    /// From without its tag, as written.
    pub local_uri: Text,
    /// To, as written.
    pub remote_uri: Text,
    /// CSeq.
    pub cseq: u32,
    /// The Request-URI: the target of a peer whose response lacks Contact.
    pub request_uri: Text,
    /// Whether it was sent over TLS to a SIPS URI (RFC 3261 §12.1.2).
    pub secure: bool,
}

/// What a response from the peer says about the dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response<'a> {
    /// Status code.
    pub status: u16,
    /// Tag of To; empty when there is none.
    pub to_tag: &'a str,
    /// The URI in Contact.
    pub contact: Option<&'a str>,
    /// Values of Record-Route, top first.
    pub record_route: &'a [&'a str],
}

/// What a dialog-making request from the peer says, and the tag we answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incoming<'a> {
    /// Call-ID.
    pub call_id: &'a str,
    /// The tag we put in To.
    pub local_tag: &'a str,
    /// Tag of From; empty for an RFC 2543 peer.
    pub from_tag: &'a str,
    /// To, as written.
    pub local_uri: &'a str,
    /// From without its tag, as written.
    pub remote_uri: &'a str,
    /// CSeq.
    pub cseq: u32,
    /// The URI in Contact.
    pub contact: &'a str,
    /// Values of Record-Route, top first.
    pub record_route: &'a [&'a str],
    /// Whether it came over TLS with a SIPS Request-URI (RFC 3261 §12.1.1).
    pub secure: bool,
}

impl Outgoing {
    /// The dialog that a response makes (RFC 3261 §12.1.2): a 101–199 with a tag an early one, a 2xx a confirmed one,
    /// whatever its tag. `None` for any other.
    #[must_use]
    pub fn dialog(&self, response: &Response<'_>) -> Option<Dialog> {
        let phase = match response.status {
            101..=199 if !response.to_tag.is_empty() => Phase::Early,
            200..=299 => Phase::Confirmed,
            _ => return None,
        };
        Some(Dialog {
            id: DialogId {
                call_id: self.call_id.clone(),
                local_tag: self.local_tag.clone(),
                remote_tag: response.to_tag.into(),
            },
            role: Role::Uac,
            phase,
            local_uri: self.local_uri.clone(),
            remote_uri: self.remote_uri.clone(),
            remote_target: response.contact.map_or_else(|| self.request_uri.clone(), Text::new),
            route_set: RouteSet::of_response(response.record_route.iter().copied()),
            local_cseq: Some(self.cseq),
            remote_cseq: None,
            secure: self.secure,
        })
    }
}

impl Incoming<'_> {
    /// The dialog that our response of `status` makes (RFC 3261 §12.1.1). `None` when it makes none.
    #[must_use]
    pub fn dialog(&self, status: u16) -> Option<Dialog> {
        let phase = match status {
            101..=199 => Phase::Early,
            200..=299 => Phase::Confirmed,
            _ => return None,
        };
        Some(Dialog {
            id: DialogId {
                call_id: self.call_id.into(),
                local_tag: self.local_tag.into(),
                remote_tag: self.from_tag.into(),
            },
            role: Role::Uas,
            phase,
            local_uri: self.local_uri.into(),
            remote_uri: self.remote_uri.into(),
            remote_target: self.contact.into(),
            route_set: RouteSet::of_request(self.record_route.iter().copied()),
            local_cseq: None,
            remote_cseq: Some(self.cseq),
            secure: self.secure,
        })
    }
}
