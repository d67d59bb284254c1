//! What names a request's transaction.

use crate::state::calls::PendingRequest;
use signalbox_base::Flow;
use signalbox_sip::Message;
use signalbox_sip::header::{NameAddr, Via};
use signalbox_sip::transaction::RequestFields;

/// The fields that tell a request's transaction from others; an error for what is no request or has no Via.
pub(crate) fn fields_of<'m>(request: &'m Message<&[u8]>, flow: &Flow) -> Result<RequestFields<'m>, ()> {
    RequestFields::of_message(request, scope_of(flow)).ok().filter(|_| request.is_request()).ok_or(())
}

/// The same of an INVITE that was kept to be answered later. None when its Via does not read. Of senders before RFC 3261, whose
/// branches name nothing, its repetitions are not found by this.
pub(crate) fn fields_of_pending<'p>(
    invite: &'p PendingRequest,
    call_id: &'p [u8],
    flow: &Flow,
) -> Option<RequestFields<'p>> {
    let via = Via::parse(invite.vias().next()?).ok()?;
    let from_tag = NameAddr::parse(invite.from()).ok().and_then(|from| from.tag()).unwrap_or_default();
    Some(RequestFields {
        method: b"INVITE",
        branch: via.branch(),
        sent_by_host: via.host,
        sent_by_port: via.port,
        via: via.raw,
        from_tag,
        call_id,
        cseq: invite.cseq,
        scope: scope_of(flow),
        ..RequestFields::default()
    })
}

/// Keeps strangers apart: nobody at another address cancels an INVITE or reads an answer by guessing a branch. The port is
/// left out, since a NAT may change it between repetitions.
fn scope_of(flow: &Flow) -> u64 {
    let ip = match flow.remote.ip() {
        std::net::IpAddr::V4(ip) => u128::from(u32::from(ip)),
        std::net::IpAddr::V6(ip) => u128::from(ip),
    };
    let folded = (ip >> 64) as u64 ^ ip as u64;
    folded ^ u64::from(flow.transport.reliable()) << 63
}
