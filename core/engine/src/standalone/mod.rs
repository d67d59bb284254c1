//! Requests outside calls: OPTIONS, MESSAGE, SUBSCRIBE, NOTIFY and whatever else is not INVITE or REGISTER.

use crate::tenancy::Origin;
use crate::turn::Turn;
use signalbox_base::Flow;
use signalbox_sip::Message;
use signalbox_sip::transaction::{ClientTx, End, ServerTx};
use std::net::SocketAddr;

#[derive(Debug, Default)]
pub(crate) struct Standalone {}

pub(crate) fn is_for_the_edge(_turn: &Turn<'_>, _request: &Message<&[u8]>) -> bool {
    false
}
pub(crate) fn bears_token(_request: &Message<&[u8]>) -> bool {
    false
}
impl Standalone {
    pub(crate) fn on_request(&mut self, _turn: &mut Turn<'_>, _origin: Origin, _tx: ServerTx, _request: &Message<&[u8]>) {}
    pub(crate) fn on_dialog_request(&mut self, _turn: &mut Turn<'_>, _flow: Flow, _tx: ServerTx, _request: &Message<&[u8]>) {}
    pub(crate) fn on_response(&mut self, _turn: &mut Turn<'_>, _number: u64, _tx: ClientTx, _response: &Message<&[u8]>) {}
    pub(crate) fn on_ended(&mut self, _turn: &mut Turn<'_>, _number: u64, _tx: ClientTx, _why: End) {}
    pub(crate) fn on_abandoned(&mut self, _number: u64) {}
    pub(crate) fn on_timer(&mut self, _turn: &mut Turn<'_>, _number: u64, _attempt: u16) {}
    pub(crate) fn on_unreachable(&mut self, _turn: &mut Turn<'_>, _remote: SocketAddr) {}
}
