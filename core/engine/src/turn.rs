//! One turn's view of the engine, lent to every room: what time it is, what is known, and how to say something.

use crate::backend::Backends;
use crate::classes::{self, Sent};
use crate::contract::{ClassB, Counters, Entropy, Level, Note, Outbox, RecordOut, Release, Transmit, Watch};
use crate::facts::Fact;
use crate::gate::noise::{Noise, One, Seen, What, rule_index};
use crate::net::{Net, Timer, User, branch_of, ticket_of};
use crate::settings::{ListenerSettings, Settings};
use crate::state::State;
use crate::tenancy::Directory;
use crate::trace::Traceparent;
use signalbox_base::{CallUid, EventSeq, Flow, ListenerId, Mono, Now, Text, Transport};
use signalbox_schemas::Aggregate;
use signalbox_schemas::words::RequestRule;
use signalbox_sip::transaction::{
    Branch, ClientTx, Gate, MethodTag, NewClient, OpenError, RespondError, ServerTx, TimerId, Tx,
};
use signalbox_sip::{Message, Method};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

/// Lent to each room for one turn.
pub struct Turn<'a> {
    /// The time.
    pub now: Now,
    /// What the edge is told about the world.
    pub settings: &'a Settings,
    /// Whose an address or a domain is.
    pub directory: &'a mut Directory,
    /// Durable state: read it here, change it by [`Turn::record`].
    pub state: &'a mut State,
    /// Transactions and timers.
    pub net: &'a mut Net,
    /// Health of backends, and who is next.
    pub backends: &'a mut Backends,
    /// Counted noise.
    pub noise: &'a mut Noise,
    /// What other edges say.
    pub remote: &'a mut crate::remote::Cache,
    /// What was received carries it.
    pub traceparent: Option<Traceparent>,
    /// What this turn produces.
    pub out: &'a mut Outbox,
    /// Randomness.
    pub entropy: &'a mut dyn Entropy,
    /// Who is watched.
    pub watch: &'a Watch,
    /// Counts for metrics.
    pub counters: &'a mut Counters,
}

impl Turn<'_> {
    /// The edge's name, for events.
    #[must_use]
    pub fn edge(&self) -> Text {
        self.settings.identity.edge.clone()
    }

    /// Records a fact: numbers it, writes it for the journal and applies it to the state.
    pub fn record(&mut self, fact: Fact) -> EventSeq {
        let seq = self.state.next_seq();
        let correlation = match fact.correlation {
            // The subject of a call's event is the call.
            Some(_) if fact.event.kind().aggregate() == Aggregate::Call => fact.subject.clone(),
            Some(call) => Text::from(call.to_string()),
            None => Text::default(),
        };
        let arena = &mut self.out.arena;
        let trace = arena.len();
        arena.extend_from_slice(self.traceparent.as_ref().map_or(&[], Traceparent::as_bytes));
        let start = arena.len();
        fact.event.write_data(arena);
        let middle = arena.len();
        fact.private.encode(arena);
        let end = arena.len();
        self.out.records.push(RecordOut {
            seq,
            wall: fact.wall,
            kind: fact.event.kind().versioned(),
            tenant: fact.tenant.as_ref().map(|t| t.text().clone()).unwrap_or_default(),
            subject: fact.subject.clone(),
            correlation,
            traceparent: range(trace, start),
            causation: fact.causation,
            data: range(start, middle),
            private: range(middle, end),
            urgent: false,
        });
        if let Some(call) = fact.correlation {
            let kind = fact.event.kind();
            self.note(About { call: Some(call), ..About::default() }, || format!("{} {seq}", kind.short()));
        }
        self.state.apply_fact(seq, fact);
        seq
    }

    /// The same for what must be on disk soon though no message waits for it.
    pub fn record_urgent(&mut self, fact: Fact) -> EventSeq {
        let seq = self.record(fact);
        if let Some(last) = self.out.records.last_mut() {
            last.urgent = true;
        }
        seq
    }

    /// Sends a response within its transaction. `record` is the record that explains it, if there is one; the table of
    /// classes says whether it waits for it. Nothing is sent when it is too late, which the error says.
    ///
    /// # Errors
    /// When the transaction is over or answered, or another response waits.
    pub fn respond(
        &mut self,
        tx: ServerTx,
        method: Method,
        status: u16,
        record: Option<EventSeq>,
        build: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), RespondError> {
        let Some(flow) = self.net.table.flow(tx) else { return Err(RespondError::Gone) };
        if !self.net.table.may_respond(tx, status) {
            let held = self.net.table.user(tx).is_some();
            return Err(if held { RespondError::Answered } else { RespondError::Gone });
        }
        let passed = matches!(self.net.table.user(tx), Some(User::Hop(_)));
        let sent = if passed { Sent::Passed } else { Sent::Response(status) };
        let release = classes::release(method, sent, record);
        let bytes = self.write(build);
        let gate = self.gate(release);
        let slice = self.out.bytes(&bytes);
        self.net.table.respond(tx, status, slice, gate, self.now.mono)?;
        if let (Gate::Held, Release::After(seq)) = (gate, release) {
            self.net.hold(seq, tx.into());
        }
        if let Some(class) = usize::from(status / 100).checked_sub(1).filter(|c| *c < 6) {
            self.counters.responses_sent[class] += 1;
        }
        self.transmit(flow, bytes, release, None);
        Ok(())
    }

    /// A fresh branch for a request of this method.
    pub fn branch(&mut self, method: Method) -> Branch {
        branch_of(self.entropy.next_u64(), method)
    }

    /// Sends a request in a transaction of its own; its top Via must bear `branch`.
    ///
    /// # Errors
    /// When there are too many transactions, or the branch is in use.
    pub fn request(
        &mut self,
        new: Outgoing,
        build: impl FnOnce(&mut Vec<u8>),
    ) -> Result<ClientTx, OpenError> {
        let Outgoing { method, sent, flow, branch, user, record } = new;
        let release = classes::release(method, sent, record);
        let start = self.out.arena.len();
        let bytes = self.write(build);
        let gate = self.gate(release);
        let started = self.net.table.start(
            NewClient {
                branch,
                method: MethodTag::new(method.as_bytes()),
                flow,
                bytes: self.out.bytes(&bytes),
                gate,
            },
            user,
            self.now.mono,
        );
        let tx = match started {
            Ok(tx) => tx,
            Err(error) => {
                self.out.arena.truncate(start);
                return Err(error);
            }
        };
        if let (Gate::Held, Release::After(seq)) = (gate, release) {
            self.net.hold(seq, tx.into());
        }
        self.transmit(flow, bytes, release, Some(branch));
        Ok(tx)
    }

    /// Sends something that has no transaction: an ACK, a ping, a stateless request or response.
    pub fn send(
        &mut self,
        flow: Flow,
        method: Method,
        sent: Sent,
        record: Option<EventSeq>,
        build: impl FnOnce(&mut Vec<u8>),
    ) -> Range<u32> {
        let release = classes::release(method, sent, record);
        let bytes = self.write(build);
        self.transmit(flow, bytes.clone(), release, None);
        bytes
    }

    /// The same with a release of the caller's own, for repetitions.
    pub fn send_as(&mut self, flow: Flow, release: Release, build: impl FnOnce(&mut Vec<u8>)) {
        let bytes = self.write(build);
        self.transmit(flow, bytes, release, None);
    }

    /// Starts a timer of a room.
    pub fn start_timer(&mut self, at: Mono, timer: Timer) -> TimerId {
        self.net.timers.start(at, timer)
    }

    /// Stops it.
    pub fn cancel_timer(&mut self, id: TimerId) {
        self.net.timers.cancel(id);
    }

    /// Counts a rejection: for metrics, and within its budget as an event.
    pub fn reject(&mut self, source: IpAddr, rule: RequestRule, offset: Option<usize>) {
        self.count_rejected(source, rule, offset, Seen::default());
    }

    /// The same, with what the request said of itself.
    pub fn reject_request<B: AsRef<[u8]>>(
        &mut self,
        source: IpAddr,
        rule: RequestRule,
        offset: Option<usize>,
        request: &Message<B>,
    ) {
        let seen = self.seen(request);
        self.count_rejected(source, rule, offset, seen);
    }

    /// Counts a request beyond a limit, which has this name.
    pub(crate) fn reject_beyond<B: AsRef<[u8]>>(
        &mut self,
        source: IpAddr,
        limit: Text,
        request: &Message<B>,
    ) {
        let seen = Seen { failure: Some(limit), ..self.seen(request) };
        self.count_rejected(source, RequestRule::Limit, None, seen);
    }

    /// Counts wrong credentials for an AoR (`user@domain`), as an event within its budget.
    pub fn auth_failed<B: AsRef<[u8]>>(&mut self, source: IpAddr, aor: &str, request: &Message<B>) {
        let seen = Seen { aor: Some(Text::new(aor)), ..self.seen(request) };
        self.count_noise(One { source, what: What::AuthFailed, seen });
    }

    /// Counts a TLS handshake that failed, as an event within its budget.
    pub(crate) fn tls_failed(&mut self, flow: &Flow, reason: &Text) {
        let seen = Seen { failure: Some(reason.clone()), outbound: flow.conn.is_none(), ..Seen::default() };
        self.count_noise(One { source: flow.remote.ip(), what: What::TlsFailed, seen });
    }

    fn seen<B: AsRef<[u8]>>(&self, request: &Message<B>) -> Seen {
        Seen::of(request, |host| self.directory.is_own_host(host))
    }

    fn count_rejected(&mut self, source: IpAddr, rule: RequestRule, offset: Option<usize>, seen: Seen) {
        self.counters.rejected[rule_index(rule)] += 1;
        let offset = offset.map(|o| u32::try_from(o).unwrap_or(u32::MAX));
        self.count_noise(One { source, what: rule.into(), seen: Seen { offset, ..seen } });
    }

    fn count_noise(&mut self, one: One) {
        if let Some(at) = self.noise.count(self.now.mono, &self.settings.noise, one) {
            self.start_timer(at, Timer::Noise);
        }
    }

    /// The listener that carries traffic of a network over a transport: the first one.
    #[must_use]
    pub fn listener(&self, network: u16, transport: Transport) -> Option<(ListenerId, &ListenerSettings)> {
        self.settings
            .listeners
            .iter()
            .position(|l| l.network == network && l.transport == transport)
            .and_then(|at| Some((ListenerId(u16::try_from(at).ok()?), &self.settings.listeners[at])))
    }

    /// The same towards an address: the first one of its family.
    #[must_use]
    pub fn listener_towards(
        &self,
        network: u16,
        transport: Transport,
        remote: SocketAddr,
    ) -> Option<(ListenerId, &ListenerSettings)> {
        let fits = |l: &&ListenerSettings| {
            l.network == network && l.transport == transport && l.address.is_ipv4() == remote.is_ipv4()
        };
        let (at, found) = self.settings.listeners.iter().enumerate().find(|(_, l)| fits(l))?;
        Some((ListenerId(u16::try_from(at).ok()?), found))
    }

    /// `host:port` told to peers on a flow, for Via, Contact and Record-Route.
    #[must_use]
    pub fn advertised(&self, flow: &Flow) -> Text {
        match self.settings.listener(flow.listener) {
            Some(listener) => listener.advertise.clone(),
            None => Text::from(flow.local.to_string()),
        }
    }

    /// Whether no more registrations and calls are taken: `Some(seconds)` for Retry-After.
    #[must_use]
    pub fn closed_for_new(&self) -> Option<u32> {
        use crate::contract::Pressure;
        if self.net.draining {
            return Some(30);
        }
        (self.net.stalled || self.net.pressure > Pressure::Normal).then_some(5)
    }

    /// A line for whoever watches this call, AoR or source; free when nobody watches.
    pub fn note(&mut self, about: About<'_>, text: impl FnOnce() -> String) {
        if self.watch.is_idle() || !about.is_watched(self.watch) {
            return;
        }
        self.out.notes.push(Note {
            level: Level::Debug,
            call: about.call,
            aor: about.aor.map(Text::new),
            source: about.source,
            text: text(),
        });
    }

    /// A line for the operator, whoever watches.
    pub fn tell(&mut self, text: String) {
        self.out.notes.push(Note { level: Level::Info, call: None, aor: None, source: None, text });
    }

    /// A repetition that the transactions asked for.
    pub(crate) fn repeat(&mut self, tx: Tx, flow: Flow, bytes: &[u8]) {
        if matches!(tx, Tx::Client(_)) {
            self.counters.retransmissions += 1;
        }
        self.send_as(flow, Release::Now(ClassB::Retransmission), |out| out.extend_from_slice(bytes));
    }

    fn write(&mut self, build: impl FnOnce(&mut Vec<u8>)) -> Range<u32> {
        let start = self.out.arena.len();
        build(&mut self.out.arena);
        range(start, self.out.arena.len())
    }

    fn gate(&self, release: Release) -> Gate {
        match release {
            Release::After(seq) if !self.net.is_durable(seq) => Gate::Held,
            _ => Gate::Now,
        }
    }

    /// Whether a registered phone is there, or a peer of the configuration at a listener for these. Such need no budget:
    /// anybody may have sent something in a peer's name to a listener for strangers.
    pub(crate) fn is_at_home(&self, flow: &Flow) -> bool {
        let listener = self.settings.listener(flow.listener);
        self.state.registrations().knows_flow(flow)
            || listener.is_some_and(|listener| self.directory.is_peer(listener, flow.remote))
    }

    /// Puts a message into the outbox, unless its receiver has proven nothing and has had its share.
    pub(crate) fn transmit(
        &mut self,
        flow: Flow,
        bytes: Range<u32>,
        release: Release,
        branch: Option<Branch>,
    ) {
        let flow = self.net.current(flow);
        let len = (bytes.end - bytes.start) as usize;
        // The budget is for answers to strangers. A registered phone has proven its address, whatever was counted of it
        // before; what a record explains was earned by whoever it goes to; and requests go only to those whom a binding, a
        // dialog or the configuration names: a phone that has unregistered still gets the BYE of its call.
        let is_answer = self.out.bytes(&bytes).starts_with(b"SIP/2.0 ");
        if flow.transport == Transport::Udp
            && is_answer
            && self.net.sources.counts(flow.remote)
            && !self.is_at_home(&flow)
        {
            match release {
                Release::Now(_) if !self.net.sources.may_send(flow.remote, len) => return,
                Release::Now(_) => {}
                Release::After(_) => self.net.sources.earned(flow.remote, len),
            }
        }
        if let Release::After(seq) = release
            && let Some(record) = self.out.records.iter_mut().rev().find(|r| r.seq <= seq)
            && record.seq == seq
        {
            record.urgent = true;
        }
        self.out.transmits.push(Transmit { release, flow, bytes, ticket: branch.map(ticket_of) });
    }
}

/// A request about to be sent in a transaction.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing {
    /// Its method.
    pub method: Method,
    /// Inside a call's dialog or not: its row in the table of classes.
    pub sent: Sent,
    /// Over which flow.
    pub flow: Flow,
    /// Branch of its top Via.
    pub branch: Branch,
    /// Who hears of it.
    pub user: User,
    /// The record that explains it.
    pub record: Option<EventSeq>,
}

/// What a note is about.
#[derive(Clone, Copy, Debug, Default)]
pub struct About<'a> {
    /// A call.
    pub call: Option<CallUid>,
    /// `user@domain`.
    pub aor: Option<&'a str>,
    /// A source.
    pub source: Option<SocketAddr>,
}

impl About<'_> {
    fn is_watched(&self, watch: &Watch) -> bool {
        watch.all
            || self.call.is_some_and(|call| watch.calls.contains(&call))
            || self.aor.is_some_and(|aor| watch.aors.iter().any(|a| **a == *aor))
            || self.source.is_some_and(|source| watch.sources.contains(&source.ip()))
    }
}

fn range(start: usize, end: usize) -> Range<u32> {
    let at = |n: usize| u32::try_from(n).expect("an outbox is drained long before it holds 4 GiB");
    at(start)..at(end)
}
