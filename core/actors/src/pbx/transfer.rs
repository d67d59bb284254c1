//! Transfers that a PBX makes for its callers, as Asterisk does (RFC 3515, RFC 5589).

use super::Pbx;
use crate::datagram::Datagram;
use crate::line::Extra;
use crate::seen::LegId;
use crate::ua::reason;
use signalbox_base::Mono;
use signalbox_sip::header::NameAddr;
use signalbox_sip::uri::{SipUri, decode, without_headers};
use signalbox_sip::{HeaderName, Method};

impl Pbx {
    /// The peer of `leg` gives its partner to somebody else: to whom it talks in another call (Replaces), or to whoever
    /// answers at `to`.
    pub(super) fn transfer(&mut self, now: Mono, leg: LegId, to: &str, out: &mut Vec<Datagram>) {
        let Some(uri) = NameAddr::parse(to.as_bytes()).ok().and_then(|to| SipUri::parse(to.uri).ok()) else {
            return self.notify(now, leg, 400, out);
        };
        let replaces = replaces_of(&uri);
        let other = replaces.as_deref().map(|replaces| self.line.named(replaces));
        if other == Some(None) {
            return self.notify(now, leg, 481, out);
        }
        let Some(partner) = self.bridges.part(leg) else { return self.notify(now, leg, 603, out) };
        match other.flatten() {
            Some(other) => {
                match self.bridges.part(other) {
                    Some(third) => self.bridges.join(partner, third),
                    None => self.line.hang_up(now, partner, out),
                }
                self.notify(now, leg, 200, out);
                self.line.hang_up(now, other, out);
            }
            None => {
                let from = format!("sip:transfer@{}", self.profile.domains[0]);
                self.bridges.awaits(partner, leg);
                self.dial(now, partner, without_headers(uri.raw), &from, out);
            }
        }
    }

    /// Tells who asked for a transfer how it ended.
    pub(super) fn notify(&mut self, now: Mono, leg: LegId, status: u16, out: &mut Vec<Datagram>) {
        let body = format!("SIP/2.0 {status} {}\r\n", reason(status));
        let headers = [
            (HeaderName::Event, "refer".to_owned()),
            (HeaderName::SubscriptionState, "terminated;reason=noresource".to_owned()),
        ];
        let content = ("message/sipfrag", body.as_bytes());
        self.line.request_with(now, leg, Method::Notify, Extra { content, headers: &headers }, out);
    }
}

fn replaces_of(uri: &SipUri<'_>) -> Option<Vec<u8>> {
    let mut headers = uri.headers.split(|byte| *byte == b'&');
    let value = headers.find_map(|header| header.strip_prefix(b"Replaces="))?;
    Some(decode(value).into_owned())
}
