//! What is volatile: transactions, timers, and what waits for the disk. Nothing here survives a restart; `resume` makes
//! anew what must be.

use crate::call::CallTimer;
use crate::call::limits::Pace;
use crate::contract::{Pressure, Ticket};
use crate::gate::sources::Sources;
use crate::state::BindingKey;
use foldhash::{HashMap, HashSet};
use signalbox_base::{CallUid, ConnId, EventSeq, Flow, Mono};
use signalbox_sip::Method;
use signalbox_sip::transaction::{
    Branch, ClientKey, ClientTx, KeyHasher, MethodTag, Output, Table, Timing, Tx, Wheel,
};
use std::collections::VecDeque;

/// Transactions of one side at most; beyond it new requests get 503.
const TRANSACTIONS_MAX: usize = 400_000;

/// Who owns a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// Answered at once; nobody wants to hear of it.
    Nobody,
    /// A REGISTER on its way; the number of its pending entry.
    Register(u64),
    /// A leg of a call; `leg` and `attempt` mean what the calls' room wants.
    CallLeg {
        /// The call.
        call: CallUid,
        /// Which end or branch.
        leg: u8,
        /// Which attempt or transaction of it.
        attempt: u32,
    },
    /// A probe of the backend at this place of the directory.
    Probe(crate::tenancy::PeerRef),
    /// A registration of the edge's own, by its number.
    Outbound(u32),
    /// A stand-alone request; the number of its pending entry.
    Standalone(u64),
    /// A request passed on between a phone of this edge and another edge; the number of its pending entry.
    Hop(u64),
}

/// What a timer of ours is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// A binding may have expired.
    Expiry(BindingKey),
    /// A phone behind NAT wants a ping.
    Ping(BindingKey),
    /// No response to a REGISTER within `failover_after`: pending number and attempt.
    RegisterFailover(u64, u16),
    /// The same for a stand-alone request.
    StandaloneFailover(u64, u16),
    /// A registration of the edge's own is due: its number.
    Outbound(u32),
    /// A backend's next probe.
    Probe(crate::tenancy::PeerRef),
    /// A probe was not answered in time: the probe's number.
    ProbeTimeout(crate::tenancy::PeerRef, u32),
    /// A backend's host name wants to be resolved again.
    Resolve(crate::tenancy::PeerRef),
    /// The window of counted noise closes.
    Noise,
    /// Short-lived memories (Call-ID stickiness) are swept.
    Sweep,
    /// Memory may be given back.
    Tidy,
    /// A timer of a call.
    Call(CallTimer),
}

/// Transactions, timers and what is held.
#[derive(Debug)]
pub struct Net {
    pub(crate) table: Table<User>,
    pub(crate) hasher: KeyHasher,
    pub(crate) timers: Wheel<Timer>,
    pub(crate) outputs: Vec<Output<User>>,
    /// Transactions whose message waits for a record, by that record.
    held: VecDeque<(EventSeq, Tx)>,
    committed: EventSeq,
    /// Bytes of sources that have proven nothing.
    pub(crate) sources: Sources,
    pub(crate) pressure: Pressure,
    pub(crate) stalled: bool,
    pub(crate) draining: bool,
    /// Bindings whose connection is gone: nobody is there until they register again.
    pub(crate) lost: HashSet<BindingKey>,
    /// Connections of peers' making that the driver was asked to send over.
    pub(crate) reused: HashSet<ConnId>,
    /// Memory is being given back.
    pub(crate) tidying: bool,
    /// Where a phone is now whose connection is gone: dialogs and answers follow it.
    moved: Moved,
    /// How fast calls begin, and which peers failed of late.
    pub(crate) pace: Pace,
    /// Requests refused for load since the last `edge.overloaded`.
    pub(crate) shed: u64,
    /// Where a message is written that is wanted before it is sent; its memory is kept from turn to turn.
    scratch: Vec<u8>,
}

impl Net {
    /// An empty buffer; [`Net::give_back`] keeps its memory for the next.
    pub(crate) fn scratch(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.scratch)
    }

    pub(crate) fn give_back(&mut self, mut scratch: Vec<u8>) {
        scratch.clear();
        self.scratch = scratch;
    }

    pub(crate) fn new(timing: Timing, seed: [u64; 3]) -> Self {
        Self {
            table: Table::new(timing, TRANSACTIONS_MAX, seed[0]),
            hasher: KeyHasher::new([seed[1], seed[2]]),
            timers: Wheel::new(),
            outputs: Vec::new(),
            held: VecDeque::new(),
            committed: EventSeq(0),
            sources: Sources::default(),
            pressure: Pressure::Normal,
            stalled: false,
            draining: false,
            lost: HashSet::default(),
            reused: HashSet::default(),
            tidying: false,
            moved: Moved::default(),
            pace: Pace::default(),
            shed: 0,
            scratch: Vec::new(),
        }
    }

    /// Transactions, for a room that must look into one.
    #[must_use]
    pub fn transactions(&self) -> &Table<User> {
        &self.table
    }

    /// The same, to acknowledge, cancel or withdraw.
    pub fn transactions_mut(&mut self) -> &mut Table<User> {
        &mut self.table
    }

    /// Whether a binding can be reached now; one whose connection is gone cannot (480).
    #[must_use]
    pub fn is_reachable(&self, key: BindingKey) -> bool {
        !self.lost.contains(&key)
    }

    /// A phone that was reached over one flow is reached over another from now on. Only connections are given up: a
    /// datagram's flow may still be right.
    pub(crate) fn moved(&mut self, before: &Flow, now: &Flow) {
        if let Some(conn) = before.conn.filter(|_| before != now) {
            self.moved.note(conn, *now);
        }
    }

    /// The flow that stands for this one now.
    pub(crate) fn current(&self, flow: Flow) -> Flow {
        let mut now = flow;
        // Who has come back several times left a step each time.
        for _ in 0..MOVES_MAX {
            match now.conn.and_then(|conn| self.moved.to.get(&conn)) {
                Some(next) => now = *next,
                None => break,
            }
        }
        now
    }

    /// Whether a record is known to be on disk.
    #[must_use]
    pub fn is_durable(&self, seq: EventSeq) -> bool {
        seq <= self.committed
    }

    pub(crate) fn set_committed(&mut self, seq: EventSeq) {
        self.committed = self.committed.max(seq);
    }

    /// Remembers that a transaction's message leaves with this record.
    pub(crate) fn hold(&mut self, seq: EventSeq, tx: Tx) {
        let at = self.held.iter().rposition(|(s, _)| *s <= seq).map_or(0, |at| at + 1);
        self.held.insert(at, (seq, tx));
    }

    /// Everything up to this record is on disk and sent: the held messages begin to exist.
    pub(crate) fn commit(&mut self, seq: EventSeq, now: Mono) {
        self.set_committed(seq);
        while let Some((first, tx)) = self.held.front().copied() {
            if first > seq {
                break;
            }
            self.held.pop_front();
            self.table.released(tx, now);
        }
    }

    pub(crate) fn next_due(&self) -> Option<Mono> {
        match (self.table.next_due(), self.timers.next_due()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// The client transaction that a failed transmit belongs to.
    pub(crate) fn client_of(&self, ticket: Ticket) -> Option<ClientTx> {
        let method = MethodTag::new(METHOD_NAMES[(ticket.0 % METHOD_NAMES.len() as u64) as usize]);
        self.table.find_client(ClientKey { branch: Branch(ticket.0), method })
    }
}

/// Connections that are gone and remembered, at most; the oldest are forgotten first.
const MOVED_MAX: usize = 32_768;
/// Times that a phone may come back within a dialog and still be followed.
const MOVES_MAX: usize = 64;

/// Connections that are gone, with the flows that phones have come back on.
#[derive(Debug, Default)]
struct Moved {
    to: HashMap<ConnId, Flow>,
    order: VecDeque<ConnId>,
}

impl Moved {
    fn note(&mut self, conn: ConnId, now: Flow) {
        if self.to.insert(conn, now).is_none() {
            self.order.push_back(conn);
        }
        if self.order.len() > MOVED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.to.remove(&oldest);
        }
    }
}

/// A branch is 64 random bits of which the lowest four name the method, so that a ticket is enough to find its transaction.
pub(crate) fn branch_of(random: u64, method: Method) -> Branch {
    let name = method.as_bytes();
    let place = METHOD_NAMES.iter().position(|known| *known == name).unwrap_or(METHOD_NAMES.len() - 1);
    Branch(random & !0xF | place as u64)
}

/// The ticket of a request with this branch.
pub(crate) fn ticket_of(branch: Branch) -> Ticket {
    Ticket(branch.0)
}

const METHOD_NAMES: [&[u8]; 16] = [
    b"INVITE",
    b"ACK",
    b"BYE",
    b"CANCEL",
    b"OPTIONS",
    b"REGISTER",
    b"PRACK",
    b"UPDATE",
    b"INFO",
    b"SUBSCRIBE",
    b"NOTIFY",
    b"REFER",
    b"MESSAGE",
    b"PUBLISH",
    b"",
    b"",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_records_out_of_order_then_what_they_hold_is_released_up_to_the_commit() {
        let mut net = Net::new(Timing::RFC, [1, 2, 3]);
        let seqs = |net: &Net| net.held.iter().map(|(s, _)| s.0).collect::<Vec<_>>();
        let tx = some_transaction(&mut net);
        for seq in [5, 3, 9, 5] {
            net.hold(EventSeq(seq), tx);
        }
        assert_eq!(seqs(&net), [3, 5, 5, 9]);
        net.commit(EventSeq(5), Mono(1));
        assert_eq!(seqs(&net), [9]);
        assert!(net.is_durable(EventSeq(5)) && !net.is_durable(EventSeq(6)));
    }

    #[test]
    fn a_branch_names_its_method() {
        for name in &METHOD_NAMES[..14] {
            let method = Method::from_bytes(name).expect("known");
            let branch = branch_of(0xDEAD_BEEF_0000_00FF, method);
            assert_eq!(METHOD_NAMES[(branch.0 % 16) as usize], *name);
        }
    }

    fn some_transaction(net: &mut Net) -> Tx {
        use signalbox_base::ListenerId;
        use signalbox_sip::transaction::{Gate, NewClient};
        let addr = "192.0.2.1:5060".parse().expect("an address");
        let new = NewClient {
            branch: Branch(1),
            method: MethodTag::INVITE,
            flow: Flow::udp(ListenerId(0), addr, addr),
            bytes: b"x",
            gate: Gate::Held,
        };
        net.table.start(new, User::Nobody, Mono(0)).expect("an empty table").into()
    }
}
