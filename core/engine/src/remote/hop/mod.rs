//! A request between a phone of this edge and another edge: passed on, answered by what comes back, and forgotten.
//!
//! It is a transaction on each side and nothing more (RFC 3261 §16 as to CANCEL, ACK, Timer C and repeated 2xx): no call, no
//! record, no event. Vias, Contacts and routes are each side's own, so that neither sees the other; everything else passes
//! untouched.

mod admit;
mod answer;
mod write;

use crate::backend::Asked;
use crate::call::raw::Raw;
use crate::classes::Sent;
use crate::dispatch::open_hop;
use crate::net::User;
use crate::state::BindingKey;
use crate::state::calls::PendingRequest;
use crate::turn::{Outgoing, Turn};
use admit::{Used, admit};
use foldhash::HashMap;
use signalbox_base::{ConnId, Flow, Text};
use signalbox_schemas::words::RequestRule;
use signalbox_sip::transaction::{ClientTx, End as Over, ServerKey, ServerTx};
use signalbox_sip::{Message, Method};
use std::net::SocketAddr;

pub(super) use super::ticket::{End, Way};

/// Requests on their way between phones of this edge and other edges.
#[derive(Debug, Default)]
pub(crate) struct Hops {
    pending: HashMap<u64, Pending>,
    asked: Asked,
    used: Used,
    shown: Shown,
    last_number: u64,
}

/// What the certificates of edges that have connected are good for.
#[derive(Debug, Default)]
struct Shown(HashMap<ConnId, Vec<Text>>);

/// Who sends a request.
#[derive(Clone, Copy, Debug)]
struct Sender<'h> {
    flow: Flow,
    /// The names in its certificate, for an edge that has shown one.
    names: &'h [Text],
    /// Where it takes requests, as far as that is known.
    home: SocketAddr,
}

/// The two ends of a dialog through this edge.
#[derive(Clone, Debug)]
struct Between {
    tenant: Text,
    key: BindingKey,
    call: u64,
    phone: Flow,
    edge: SocketAddr,
}

/// A request that may pass: between whom, to which end, and how.
#[derive(Debug)]
struct Admitted {
    between: Between,
    to: End,
    flow: Flow,
    uri: Text,
    routes: Vec<Text>,
}

/// Why one may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Refused {
    status: u16,
    reason: &'static str,
    /// What is told of it, where it is somebody's fault.
    rule: Option<RequestRule>,
}

#[derive(Debug)]
struct Pending {
    method: Method,
    call_id: Raw,
    /// What the sender's answers need.
    request: PendingRequest,
    between: Between,
    /// Which end it was sent to.
    to: End,
    /// Where it came from.
    from: Flow,
    server: ServerTx,
    /// Where it went.
    flow: Flow,
    client: Option<ClientTx>,
    /// Nothing was heard yet.
    silent: bool,
    /// A final answer has gone back.
    answered: bool,
    /// The sender has given up: CANCEL goes out as soon as it may.
    cancelled: bool,
}

impl Hops {
    /// A request that bears a ticket. `false` when the ticket is nobody's and the request is like any other.
    pub(crate) fn on_request(
        &mut self,
        turn: &mut Turn<'_>,
        flow: Flow,
        key: ServerKey,
        request: &Message<&[u8]>,
    ) -> bool {
        let admitted = match self.admit(turn, flow, request) {
            Ok(admitted) => admitted,
            Err(None) => return false,
            Err(Some(refused)) => {
                refuse(turn, &flow, request, refused);
                return true;
            }
        };
        let method = request.method();
        let Some(server) = open_hop(turn, flow, key, method) else {
            turn.net.shed += 1;
            let full = Refused { status: 503, reason: "Service Unavailable", rule: None };
            refuse(turn, &flow, request, full);
            return true;
        };
        self.last_number += 1;
        let number = self.last_number;
        if let Some(user) = turn.net.transactions_mut().user_mut(server) {
            *user = User::Hop(number);
        }
        let pending = Pending {
            method,
            call_id: Raw::from(request.call_id()),
            request: crate::call::pending(request, &flow),
            between: admitted.between.clone(),
            to: admitted.to,
            from: flow,
            server,
            flow: admitted.flow,
            client: None,
            silent: true,
            answered: false,
            cancelled: false,
        };
        self.pending.insert(number, pending);
        self.pass(turn, number, &admitted, request);
        true
    }

    /// An ACK that bears a ticket: it has no transaction. `false` when it is not for here.
    pub(crate) fn on_ack(&mut self, turn: &mut Turn<'_>, flow: &Flow, request: &Message<&[u8]>) -> bool {
        match self.admit(turn, *flow, request) {
            Ok(admitted) => {
                let branch = turn.branch(Method::Ack);
                let via = write::via(turn, &admitted.flow, branch);
                let settings = turn.settings;
                turn.send(admitted.flow, Method::Ack, Sent::Passed, None, |out| {
                    write::request(out, settings, request, &admitted, &via);
                });
                true
            }
            Err(Some(_)) => true,
            Err(None) => false,
        }
    }

    /// Another edge has connected, and its certificate is good for these names.
    pub(crate) fn on_shown(&mut self, flow: &Flow, names: &[Text]) {
        if let Some(conn) = flow.conn {
            self.shown.0.insert(conn, names.to_vec());
        }
    }

    /// A connection is gone.
    pub(crate) fn on_flow_closed(&mut self, flow: &Flow) {
        if let Some(conn) = flow.conn {
            self.shown.0.remove(&conn);
        }
    }

    /// Where what belongs to a dialog goes from now on that another edge speaks in: over a connection to its listener, for the
    /// one that it made may end any time. Any other flow is as it is.
    pub(crate) fn home(&self, turn: &Turn<'_>, flow: Flow) -> Flow {
        self.shown.home(turn, flow)
    }

    fn admit(
        &mut self,
        turn: &Turn<'_>,
        flow: Flow,
        request: &Message<&[u8]>,
    ) -> Result<Admitted, Option<Refused>> {
        let sender =
            Sender { flow, names: self.shown.names(&flow), home: self.shown.home(turn, flow).remote };
        admit(&mut self.used, turn, &sender, request)
    }

    fn pass(&mut self, turn: &mut Turn<'_>, number: u64, admitted: &Admitted, request: &Message<&[u8]>) {
        let Some(pending) = self.pending.get_mut(&number) else { return };
        let method = pending.method;
        if method == Method::Invite {
            // The other edge stops repeating, and knows that this one lives.
            answer::own(turn, pending, 100);
        }
        let (flow, branch) = (admitted.flow, turn.branch(method));
        let via = write::via(turn, &flow, branch);
        let sent = Sent::Passed;
        let new = Outgoing { method, sent, flow, branch, user: User::Hop(number), record: None };
        let settings = turn.settings;
        match turn.request(new, |out| write::request(out, settings, request, admitted, &via)) {
            Ok(client) => {
                pending.client = Some(client);
                let waiting = &self.pending;
                self.asked.add(flow.remote, number, |n, to| waiting.get(&n).is_some_and(|p| p.waits_for(to)));
            }
            Err(_) => {
                pending.give_up(turn, 503);
            }
        }
    }

    /// The sender cancels an INVITE; its CANCEL is answered already.
    pub(crate) fn on_cancel(&mut self, turn: &mut Turn<'_>, number: u64) {
        if let Some(pending) = self.pending.get_mut(&number) {
            pending.cancel(turn);
        }
    }

    /// Timer C of an INVITE: it rang for too long (RFC 3261 §16.8).
    pub(crate) fn on_timer_c(&mut self, turn: &mut Turn<'_>, number: u64) {
        self.on_cancel(turn, number);
    }

    /// This edge ends: nobody is left to tell what becomes of what rings.
    pub(crate) fn on_stop(&mut self, turn: &mut Turn<'_>) {
        let mut numbers: Vec<u64> = self.pending.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            let pending = self.pending.get_mut(&number).filter(|pending| !pending.answered);
            if let Some(pending) = pending.filter(|pending| pending.method == Method::Invite) {
                pending.cancel(turn);
                pending.give_up(turn, 480);
            }
        }
    }

    /// A transaction is over: with neither left, nothing is.
    pub(crate) fn on_ended(&mut self, turn: &mut Turn<'_>, number: u64, client: bool, why: Over) {
        let Some(pending) = self.pending.get_mut(&number) else { return };
        if client {
            pending.client = None;
            if !pending.answered {
                // An end that cannot be reached is not there; one that says nothing is left to the sender's own patience.
                let status = if why == Over::Timeout { 408 } else { 480 };
                pending.give_up(turn, status);
            }
        }
        let over = |pending: &Pending| turn.net.transactions().user(pending.server).is_none();
        if self.pending.get(&number).is_some_and(|pending| pending.client.is_none() && over(pending)) {
            self.pending.remove(&number);
        }
    }

    /// A peer cannot be reached: what was sent there and has heard nothing has failed.
    pub(crate) fn on_unreachable(&mut self, turn: &mut Turn<'_>, remote: SocketAddr) {
        for number in self.asked.take(remote) {
            let pending = self.pending.get(&number).filter(|pending| pending.waits_for(remote));
            if let Some(client) = pending.and_then(|pending| pending.client) {
                turn.net.table.transport_error(client, &mut turn.net.outputs);
            }
        }
    }
}

impl Sender<'_> {
    /// An edge that has shown a certificate is who that says.
    fn may_be(&self, edge: &Text) -> bool {
        self.names.is_empty() || is_named(self.names, edge)
    }
}

impl Shown {
    fn names(&self, flow: &Flow) -> &[Text] {
        flow.conn.and_then(|conn| self.0.get(&conn)).map_or(&[], Vec::as_slice)
    }

    fn home(&self, turn: &Turn<'_>, flow: Flow) -> Flow {
        let names = self.names(&flow);
        if names.is_empty() {
            return flow;
        }
        let known = turn.remote.edges().find(|(edge, _)| is_named(names, edge));
        let home = known.and_then(|(_, peer)| peer.address);
        home.map_or(flow, |remote| Flow { remote, conn: None, ..flow })
    }
}

impl Pending {
    fn waits_for(&self, remote: SocketAddr) -> bool {
        self.silent && self.client.is_some() && self.flow.remote == remote
    }
}

/// Whether an edge's name is among those in a certificate, where case does not count (RFC 4343).
fn is_named(names: &[Text], edge: &Text) -> bool {
    names.iter().any(|name| name.eq_ignore_ascii_case(edge))
}

/// Answers what may not pass, and counts it where it is somebody's fault.
fn refuse(turn: &mut Turn<'_>, flow: &Flow, request: &Message<&[u8]>, refused: Refused) {
    if let Some(rule) = refused.rule {
        turn.reject_request(flow.remote.ip(), rule, None, request);
    }
    crate::dispatch::reject(turn, *flow, request, refused.status, refused.reason);
}
