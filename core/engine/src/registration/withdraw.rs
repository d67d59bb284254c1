//! Taking a phone out at its backend when it is gone, where that one lets the edge (`trusts_edge`).

use super::register::Registrar;
use crate::backend::flow_to;
use crate::call::via;
use crate::classes::Sent;
use crate::net::User;
use crate::state::BindingKey;
use crate::turn::{Outgoing, Turn};
use signalbox_sip::{HeaderName, Method, RequestBuilder};

impl Registrar {
    /// Sends the backend a REGISTER that removes a binding. `false` where it would not take it from the edge, or is not there.
    /// Whatever it answers, nobody waits for it: its own expiry ends the registration as well.
    pub(super) fn withdraw(&self, turn: &mut Turn<'_>, key: BindingKey) -> bool {
        let Some((aor, _)) = turn.state.registrations().binding(key) else { return false };
        let Some(peer) = turn.directory.find(turn.settings, aor.tenant(), &aor.backend) else { return false };
        let trusts = turn.directory.peer(turn.settings, peer).is_some_and(|found| found.backend.trusts_edge);
        let Some(flow) = flow_to(turn, peer).filter(|_| trusts && turn.backends.accepts(peer)) else {
            return false;
        };
        let (address, domain) = (aor.address().to_owned(), aor.domain().to_owned());
        let (method, branch, host) =
            (Method::Register, turn.branch(Method::Register), turn.advertised(&flow));
        let (tag, call) = (turn.entropy.next_u64(), turn.entropy.next_u64());
        let transport = if flow.transport.reliable() {
            format!(";transport={}", flow.transport.in_uri())
        } else {
            String::new()
        };
        let new = Outgoing { method, sent: Sent::Request, flow, branch, user: User::Nobody, record: None };
        let via = via(turn.settings, &flow, branch, None);
        let sent = turn.request(new, |out| {
            RequestBuilder::new(out, method, ("sip:", &*domain))
                .header(HeaderName::Via, &*via)
                .header(HeaderName::MaxForwards, 70_u32)
                .header(HeaderName::From, format_args!("<sip:{address}>;tag={tag:016x}"))
                .header(HeaderName::To, format_args!("<sip:{address}>"))
                .header(HeaderName::CallId, format_args!("{call:016x}@{host}"))
                .header(HeaderName::CSeq, "1 REGISTER")
                .header(HeaderName::Contact, format_args!("<sip:{key}@{host}{transport}>;expires=0"))
                .finish();
        });
        sent.is_ok()
    }
}
