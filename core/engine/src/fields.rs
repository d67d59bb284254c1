//! What names a request's transaction.

use signalbox_base::Flow;
use signalbox_sip::Message;
use signalbox_sip::transaction::RequestFields;

/// The fields that tell a request's transaction from others; an error for what is no request or has no Via.
pub(crate) fn fields_of<'m>(request: &'m Message<&[u8]>, flow: &Flow) -> Result<RequestFields<'m>, ()> {
    RequestFields::of_message(request, scope_of(flow)).ok().filter(|_| request.is_request()).ok_or(())
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
