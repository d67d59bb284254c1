//! The engine: one value, one turn per input.

use crate::backend::{self, Backends};
use crate::call::Calls;
use crate::contract::{Context, Counters, Input, Outbox, Pressure, SendError, Ticket};
use crate::dispatch;
use crate::facts::{edge, security};
use crate::gate::blocks::Blocks;
use crate::gate::noise::Noise;
use crate::net::{Net, Timer, User};
use crate::registration::Registrar;
use crate::remote;
use crate::settings::Settings;
use crate::standalone::Standalone;
use crate::state::State;
use crate::tenancy::Directory;
use crate::tidy;
use crate::turn::Turn;
use signalbox_base::{Flow, Mono, Now};
use signalbox_schemas::words::{OverloadLevel, OverloadResource};
use signalbox_sip::transaction::{End, Output, Timing, Tx};
use std::net::SocketAddr;
use std::sync::Arc;

/// Outputs of transactions handled for one input, at most; what is left waits for the next.
const OUTPUTS_MAX: usize = 4096;

/// One SIP core. See the crate's documentation for what drives it.
#[derive(Debug)]
pub struct Engine {
    pub(crate) settings: Arc<Settings>,
    pub(crate) directory: Directory,
    state: State,
    net: Net,
    backends: Backends,
    noise: Noise,
    remote: remote::Cache,
    rooms: Rooms,
    counters: Counters,
    due: Vec<Timer>,
}

/// The rooms that handle what is for them; each is lent a [`Turn`].
#[derive(Debug, Default)]
pub(crate) struct Rooms {
    pub(crate) calls: Calls,
    pub(crate) registrar: Registrar,
    pub(crate) standalone: Standalone,
    pub(crate) hops: remote::Hops,
    pub(crate) blocks: Blocks,
}

impl Engine {
    /// Over a state that was new, or came from a snapshot and the journal behind it. `seed` is random and stays in the
    /// process. [`Engine::resume`] must follow before the first input.
    #[must_use]
    pub fn new(settings: Arc<Settings>, mut state: State, seed: [u64; 3]) -> Self {
        state.end_of_replay();
        let timers = &settings.timers;
        let timing = Timing { t1: timers.t1, t2: timers.t2, t4: timers.t4, timer_c: Some(timers.timer_c) };
        Self {
            directory: Directory::new(&settings),
            backends: Backends::new(&settings, state.backends()),
            net: Net::new(timing, seed),
            settings,
            state,
            noise: Noise::default(),
            remote: remote::Cache::default(),
            rooms: Rooms::default(),
            counters: Counters::default(),
            due: Vec::new(),
        }
    }

    /// After a start: timers are armed again, what was promised before is redone, backends are probed. `now` is the first
    /// moment of the engine's life.
    pub fn resume(&mut self, now: Now, cx: &mut Context<'_>, out: &mut Outbox) {
        // Before anything new is recorded: when the process before this one was last known to live.
        let died = self.state.edge().last_wall;
        let (mut turn, rooms) = self.lend(now, cx, out);
        let last = turn.state.last();
        turn.net.set_committed(last);
        backend::resume(&mut turn);
        rooms.registrar.resume(&mut turn);
        rooms.calls.resume(&mut turn, died);
        settle(&mut turn, rooms);
        self.count();
    }

    /// One turn.
    pub fn handle(&mut self, now: Now, input: Input<'_>, cx: &mut Context<'_>, out: &mut Outbox) {
        match input {
            Input::Due => self.due(now, cx, out),
            Input::Command(command) => {
                self.command(now, command, cx, out);
                self.count();
            }
            other => {
                let (mut turn, rooms) = self.lend(now, cx, out);
                match other {
                    Input::Packet { flow, bytes } => dispatch::packet(&mut turn, rooms, flow, bytes),
                    Input::Unframed { flow, bytes, fault } => {
                        dispatch::malformed(&mut turn, &flow, bytes, &fault);
                    }
                    Input::Message { flow, message } => dispatch::message(&mut turn, rooms, flow, &message),
                    Input::Committed(seq) => {
                        let now = turn.now.mono;
                        turn.net.commit(seq, now);
                    }
                    Input::Resolved { query, targets, again_after } => {
                        backend::on_resolved(&mut turn, query, targets, again_after);
                    }
                    Input::Shown { flow, names } => rooms.hops.on_shown(&flow, names),
                    Input::TlsFailed { flow, reason } => turn.tls_failed(&flow, reason),
                    Input::FlowClosed { flow, .. } => flow_closed(&mut turn, rooms, &flow),
                    Input::Unsent { ticket, remote, cause } => {
                        unsent(&mut turn, rooms, ticket, remote, cause)
                    }
                    Input::Remote(updates) => remote::on_updates(&mut turn, rooms, updates),
                    Input::Pressure(level) => pressure(&mut turn, level),
                    Input::Stalled(stalled) => stall(&mut turn, stalled),
                    Input::Due | Input::Command(_) => {}
                }
                settle(&mut turn, rooms);
            }
        }
        let (clients, servers) = self.net.table.len();
        self.counters.transactions = (clients + servers) as u64;
    }

    /// When [`Input::Due`] is wanted; it may be early.
    #[must_use]
    pub fn next_due(&self) -> Option<Mono> {
        self.net.next_due()
    }

    /// Counts for metrics.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Durable state, to read.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What other edges say, to read.
    #[must_use]
    pub fn remote(&self) -> &remote::Cache {
        &self.remote
    }

    /// Health of backends and trunks.
    #[must_use]
    pub fn backends(&self) -> &Backends {
        &self.backends
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// Calls in progress, as a drain waits for.
    #[must_use]
    pub fn calls_active(&self) -> u64 {
        self.rooms.calls.active()
    }

    /// Calls that have ended while somebody still waits for the answer to their last request: a drain waits for these too.
    #[must_use]
    pub fn calls_unanswered(&self) -> u64 {
        self.rooms.calls.unanswered()
    }

    /// Entries that strangers fill: sources told apart, and kinds of noise counted. Both are bounded, whoever sends.
    #[must_use]
    pub fn strangers_held(&self) -> (usize, usize) {
        (self.net.sources.held(), self.noise.held())
    }

    /// Entries that memory is held for, of registrations and timers. It follows what there is, up and down.
    #[must_use]
    pub fn room_held(&self) -> usize {
        self.state.registrations().capacity() + self.rooms.registrar.capacity() + self.net.timers.capacity()
    }

    /// Blocks listening to addresses, from a list of the operator's or of the security plane.
    pub fn blocks_mut(&mut self) -> &mut Blocks {
        &mut self.rooms.blocks
    }

    /// Splits the engine into the view that rooms are lent and the rooms.
    pub(crate) fn lend<'a>(
        &'a mut self,
        now: Now,
        cx: &'a mut Context<'_>,
        out: &'a mut Outbox,
    ) -> (Turn<'a>, &'a mut Rooms) {
        let turn = Turn {
            now,
            settings: &self.settings,
            directory: &mut self.directory,
            state: &mut self.state,
            net: &mut self.net,
            backends: &mut self.backends,
            noise: &mut self.noise,
            remote: &mut self.remote,
            traceparent: None,
            out,
            entropy: &mut *cx.entropy,
            watch: cx.watch,
            counters: &mut self.counters,
        };
        (turn, &mut self.rooms)
    }

    fn due(&mut self, now: Now, cx: &mut Context<'_>, out: &mut Outbox) {
        self.count();
        let mut due = std::mem::take(&mut self.due);
        let (mut turn, rooms) = self.lend(now, cx, out);
        turn.net.table.due(now.mono, Input::DUE_MAX, &mut turn.net.outputs);
        settle(&mut turn, rooms);
        turn.net.timers.pop_due(now.mono, Input::DUE_MAX, &mut due);
        for timer in due.drain(..) {
            on_timer(&mut turn, rooms, timer);
            settle(&mut turn, rooms);
        }
        tidy::look(&mut turn, rooms);
        self.due = due;
    }

    /// Gauges, and the counters' width, follow the state and the settings; often enough when timers run.
    pub(crate) fn count(&mut self) {
        self.counters.requests.resize(self.settings.networks.len().max(1), Default::default());
        let tenants = &self.settings.tenants;
        self.counters.registrations.resize(tenants.len(), 0);
        self.counters.calls.resize(tenants.len(), 0);
        for (at, tenant) in tenants.iter().enumerate() {
            self.counters.registrations[at] =
                u64::from(self.state.registrations().of_tenant(tenant.name.as_str()));
            self.counters.calls[at] = u64::from(self.state.calls().active_of(&tenant.name));
        }
    }
}

/// Hands what transactions want to whoever owns them, until there is nothing left.
pub(crate) fn settle(turn: &mut Turn<'_>, rooms: &mut Rooms) {
    let mut left = OUTPUTS_MAX;
    while left > 0 && !turn.net.outputs.is_empty() {
        let mut outputs = std::mem::take(&mut turn.net.outputs);
        for output in outputs.drain(..) {
            left = left.saturating_sub(1);
            match output {
                Output::Send { tx, flow, bytes } => turn.repeat(tx, flow, &bytes),
                Output::Tell { tx, what } => match turn.net.table.user(tx).copied() {
                    Some(user @ User::CallLeg { .. }) => rooms.calls.on_tell(turn, user, tx, what),
                    Some(User::Hop(number)) => rooms.hops.on_timer_c(turn, number),
                    _ => {}
                },
                Output::Ended { tx, user, why } => ended(turn, rooms, tx, user, why),
            }
        }
        if turn.net.outputs.is_empty() {
            // Its memory is kept for the next turn.
            turn.net.outputs = outputs;
        }
    }
}

fn ended(turn: &mut Turn<'_>, rooms: &mut Rooms, tx: Tx, user: User, why: End) {
    match (user, tx) {
        (User::Nobody, _) => {}
        (User::CallLeg { .. }, _) => rooms.calls.on_ended(turn, user, tx, why),
        (User::Register(number), Tx::Client(tx)) => rooms.registrar.on_ended(turn, number, tx, why),
        (User::Register(number), Tx::Server(_)) => rooms.registrar.on_abandoned(number),
        (User::Outbound(number), Tx::Client(tx)) => {
            rooms.registrar.outbound.on_ended(turn, number, tx, why);
        }
        (User::Outbound(_), Tx::Server(_)) => {}
        (User::Standalone(number), Tx::Client(tx)) => rooms.standalone.on_ended(turn, number, tx, why),
        (User::Standalone(number), Tx::Server(_)) => rooms.standalone.on_abandoned(number),
        (User::Hop(number), tx) => {
            rooms.hops.on_ended(turn, number, matches!(tx, Tx::Client(_)), why);
        }
        (User::Probe(peer), Tx::Client(tx)) => backend::on_ended(turn, peer, tx),
        (User::Probe(_), Tx::Server(_)) => {}
    }
}

fn on_timer(turn: &mut Turn<'_>, rooms: &mut Rooms, timer: Timer) {
    match timer {
        Timer::Expiry(_) | Timer::Ping(_) | Timer::RegisterFailover(..) | Timer::Sweep => {
            rooms.registrar.on_timer(turn, timer);
        }
        Timer::StandaloneFailover(number, attempt) => rooms.standalone.on_timer(turn, number, attempt),
        Timer::Outbound(number) => rooms.registrar.outbound.on_timer(turn, number),
        Timer::Probe(_) | Timer::ProbeTimeout(..) | Timer::Resolve(_) => backend::on_timer(turn, timer),
        Timer::Noise => close_noise(turn),
        Timer::Tidy => tidy::on_timer(turn, rooms),
        Timer::Call(timer) => rooms.calls.on_timer(turn, timer),
    }
}

/// The window of noise closes: its counted events.
fn close_noise(turn: &mut Turn<'_>) {
    let (now, settings) = (turn.now.mono, turn.settings);
    let (counted, window) = turn.noise.close(now, &settings.noise);
    for one in &counted {
        let fact = security::counted(turn, one, window);
        turn.record(fact);
    }
}

fn unsent(
    turn: &mut Turn<'_>,
    rooms: &mut Rooms,
    ticket: Option<Ticket>,
    remote: SocketAddr,
    cause: SendError,
) {
    if matches!(cause, SendError::Busy) {
        // The socket is full, the peer is well: retransmission will do.
        return;
    }
    if let Some(tx) = ticket.and_then(|t| turn.net.client_of(t)) {
        turn.net.table.transport_error(tx, &mut turn.net.outputs);
        return;
    }
    if matches!(cause, SendError::Refused | SendError::Unreachable) {
        rooms.registrar.on_unreachable(turn, remote);
        unreachable(turn, rooms, remote);
    }
}

/// Whoever waits for something from there waits in vain.
pub(crate) fn unreachable(turn: &mut Turn<'_>, rooms: &mut Rooms, remote: SocketAddr) {
    rooms.standalone.on_unreachable(turn, remote);
    rooms.hops.on_unreachable(turn, remote);
    rooms.calls.on_unreachable(turn, remote);
}

/// Whoever is registered over it cannot be reached, and requests that were sent over it and not answered have failed
/// (RFC 3261 §17.1.4). What has been answered provisionally may still be answered over another connection (§18.2.2).
fn flow_closed(turn: &mut Turn<'_>, rooms: &mut Rooms, flow: &Flow) {
    if let Some(conn) = flow.conn {
        turn.net.reused.remove(&conn);
    }
    rooms.hops.on_flow_closed(flow);
    rooms.registrar.on_flow_closed(turn, flow);
    rooms.registrar.outbound.on_flow_closed(turn, flow);
    rooms.registrar.on_unreachable(turn, flow.remote);
    unreachable(turn, rooms, flow.remote);
}

fn pressure(turn: &mut Turn<'_>, level: Pressure) {
    if std::mem::replace(&mut turn.net.pressure, level) == level {
        return;
    }
    let word = match level {
        Pressure::Normal => OverloadLevel::Normal,
        Pressure::Reserve => OverloadLevel::Reserve,
        Pressure::Full => OverloadLevel::Full,
    };
    overloaded(turn, word, OverloadResource::Disk);
}

fn stall(turn: &mut Turn<'_>, stalled: bool) {
    if std::mem::replace(&mut turn.net.stalled, stalled) == stalled {
        return;
    }
    let level = if stalled { OverloadLevel::Reserve } else { OverloadLevel::Normal };
    overloaded(turn, level, OverloadResource::Commit);
}

fn overloaded(turn: &mut Turn<'_>, level: OverloadLevel, resource: OverloadResource) {
    let shed = std::mem::take(&mut turn.net.shed);
    let fact = edge::overloaded(turn, level, resource, shed);
    turn.record(fact);
}
