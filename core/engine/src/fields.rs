//! What names a request's transaction.

use signalbox_base::Flow;
use signalbox_sip::Message;
use signalbox_sip::transaction::RequestFields;

/// The fields that tell a request's transaction from others; an error for what is no request or has no Via.
pub(crate) fn fields_of<'m>(request: &'m Message<&[u8]>, flow: &Flow) -> Result<RequestFields<'m>, ()> {
    let via = request.top_via().map_err(|_| ())?;
    let method = match request.start_line() {
        signalbox_sip::message::StartLine::Request { .. } => request.cseq().method,
        signalbox_sip::message::StartLine::Response { .. } => return Err(()),
    };
    Ok(RequestFields {
        method,
        branch: via.branch(),
        sent_by_host: via.host,
        sent_by_port: via.port,
        via: via.raw,
        uri: request.request_uri().unwrap_or_default(),
        from_tag: request.from_tag().unwrap_or_default(),
        to_tag: request.to_tag().unwrap_or_default(),
        call_id: request.call_id(),
        cseq: request.cseq().number,
        scope: scope_of(flow),
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
