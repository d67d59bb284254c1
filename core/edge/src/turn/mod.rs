//! The engine thread: receive, decide, send what may leave at once, hand the rest to the journal thread.
//!
//! ```text
//!        ┌──────────── wait: sockets, waker, next timer, at most 1 s ◄───────────┐
//!        ▼                                                                       │
//!   receive a batch ─► what became durable ─► a turn per datagram ─► flush ──────┤
//!   what connections brought ─► what became durable ─► a turn each ─► flush ─────┤
//!   mail (commands, looks, answers) ─► a turn each ─► flush ─────────────────────┤
//!   timers ─► flush ─────────────────────────────────────────────────────────────┘
//!   flush: send Release::Now by one sendmmsg a socket; hand records and held messages over
//! ```
//!
//! How far the journal is, is read from shared counters after each receive: an answer to a held message can only arrive
//! after the counter said that it left, so the engine always knows before it sees the answer, and no thread is woken for
//! it. While something is not durable yet, the wait is short.

mod arrive;
mod mailbox;
mod publish;

pub(crate) use mailbox::{Mailbox, Told};
pub(crate) use publish::About;

use crate::commit::{Batch, Handover, Progress};
use crate::entropy::Randomness;
use crate::error::Fatal;
use crate::resolver::Resolver;
use crate::status::{Phase, Shared, Traffic};
use crate::wire::{Unsent, Wires};
use crossbeam_channel::Receiver as MailReceiver;
use signalbox_base::{EventSeq, Flow, Mono, Now};
use signalbox_engine::{
    Ask, Command, CommandReply, Context, Engine, Input, Pressure, Release, SendError, Transmit, Watch,
};
use signalbox_io::udp::RECEIVE_BATCH;
use signalbox_io::{Arrivals, Clock, Poller, Ready, Receiver, Sender, UdpSocket, Waker};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Receives from one socket before the others and the timers have their turn.
const RECEIVES_MAX: usize = 4;
/// Mail worked off before the sockets have their turn.
const MAIL_A_ROUND: usize = 64;
/// Rounds of timers before the sockets have their turn.
const DUE_ROUNDS_MAX: usize = 16;
/// Class-B records wait this long for class-A ones to travel with.
const CLASS_B_WAIT: Duration = Duration::from_millis(50);
/// While something is not durable, the engine thread looks this often.
const DURABLE_LOOK: Duration = Duration::from_millis(5);
/// Figures are published and the clock is checked this often.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// A commit running this long sheds new load (DESIGN.md §6).
const STALLED_AFTER: Duration = Duration::from_millis(200);
/// A commit running this long stops the process.
const STALLED_FATAL: Duration = Duration::from_secs(16);
/// Bytes that may wait for the journal thread in one outbox; beyond it nothing is received.
const OUTBOX_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How long to wait for an outbox when that much waits.
const OUTBOX_WAIT: Duration = Duration::from_millis(20);

/// What the engine thread is made of.
pub(crate) struct Parts {
    pub(crate) engine: Engine,
    pub(crate) wires: Arc<Wires>,
    pub(crate) waker: Waker,
    pub(crate) mail: MailReceiver<Told>,
    pub(crate) handover: Arc<Handover>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) clock: Clock,
    pub(crate) entropy: Randomness,
    pub(crate) watch: Watch,
    pub(crate) resolver: Resolver,
    pub(crate) shared: Arc<Shared>,
    pub(crate) about: About,
    /// What recovery and the start decided, not performed yet.
    pub(crate) first: Batch,
}

/// Runs until told to stop; returns the engine for the last snapshot. The handover is closed in any case.
///
/// # Errors
/// [`Fatal`] when the process must stop.
pub(crate) fn run(parts: Parts) -> Result<Engine, Fatal> {
    let handover = Arc::clone(&parts.handover);
    let outcome = run_loop(parts);
    handover.close();
    outcome
}

fn run_loop(parts: Parts) -> Result<Engine, Fatal> {
    let wires = Arc::clone(&parts.wires);
    let sockets = &wires.sockets;
    let mut receivers: Vec<Receiver> = sockets.iter().map(Receiver::new).collect();
    let mut poller = Poller::new(sockets, parts.waker.clone()).map_err(Fatal::System)?;
    let (waker, mail) = (parts.waker.clone(), parts.mail.clone());
    let mut core = Core::new(parts);
    core.flush();
    core.housekeeping();
    while !core.stopping && !core.parts.progress.has_failed() {
        waker.arm();
        let look_again = !mail.is_empty() || core.has_arrivals() || core.parts.progress.has_failed();
        let timeout = if look_again { Duration::ZERO } else { core.wait_at_most() };
        poller.wait(Some(timeout)).map_err(Fatal::System)?;
        waker.disarm();
        for ready in poller.ready() {
            match ready {
                Ready::Errors(index) => core.take_errors(&sockets[index]),
                Ready::Readable(index) => core.receive(index, &mut receivers[index])?,
            }
        }
        core.receive_from_streams();
        core.learn_durable();
        for told in mail.try_iter().take(MAIL_A_ROUND) {
            core.read_mail(told);
        }
        core.run_timers();
        core.flush();
        core.watch_journal()?;
        core.housekeeping();
    }
    core.hand_over_rest();
    core.publish(Phase::Stopping);
    Ok(core.parts.engine)
}

/// The engine with everything a turn needs.
struct Core {
    parts: Parts,
    sender: Sender,
    /// What connections brought; its memory is kept from round to round.
    arrivals: Arrivals,
    /// Filled turn by turn until it is handed over.
    batch: Batch,
    /// Records of `batch` whose age has been noted.
    noted: usize,
    /// Last record made.
    made: EventSeq,
    /// Last record the engine was told to be durable.
    told: EventSeq,
    records: u64,
    traffic: Traffic,
    /// Answers to commands whose records are not durable yet, in order.
    replies: VecDeque<(EventSeq, CommandReply, oneshot::Sender<CommandReply>)>,
    drained: Vec<oneshot::Sender<()>>,
    unsent: Vec<Unsent>,
    phase: Phase,
    stalled: bool,
    disk: Pressure,
    pressure: Pressure,
    housekept: Option<Mono>,
    stopping: bool,
}

impl Core {
    fn new(mut parts: Parts) -> Self {
        let batch = std::mem::take(&mut parts.first);
        let told = parts.progress.durable();
        Self {
            parts,
            sender: Sender::default(),
            arrivals: Arrivals::default(),
            batch,
            noted: 0,
            made: told,
            told,
            records: 0,
            traffic: Traffic::default(),
            replies: VecDeque::new(),
            drained: Vec::new(),
            unsent: Vec::new(),
            phase: Phase::Serving,
            stalled: false,
            disk: Pressure::Normal,
            pressure: Pressure::Normal,
            housekept: None,
            stopping: false,
        }
    }

    /// One turn.
    fn turn(&mut self, input: Input<'_>) -> Now {
        let now = self.parts.clock.now();
        let Parts { engine, entropy, watch, .. } = &mut self.parts;
        engine.handle(now, input, &mut Context { entropy, watch }, &mut self.batch.outbox);
        now
    }

    fn receive(&mut self, index: usize, receiver: &mut Receiver) -> Result<(), Fatal> {
        let wires = Arc::clone(&self.parts.wires);
        let listener = wires.listener(index);
        for _ in 0..RECEIVES_MAX {
            if self.batch.outbox.arena.len() > OUTBOX_BYTES_MAX {
                break;
            }
            let count = receiver.receive(&wires.sockets[index]).map_err(Fatal::System)?;
            self.learn_durable();
            for datagram in receiver.datagrams() {
                let flow = Flow::udp(listener, datagram.local, datagram.remote);
                self.turn(Input::Packet { flow, bytes: datagram.bytes });
            }
            self.traffic.received += count as u64;
            self.flush();
            if count < RECEIVE_BATCH {
                break;
            }
        }
        Ok(())
    }

    fn take_errors(&mut self, socket: &UdpSocket) {
        let unsent = &mut self.unsent;
        socket.take_errors(|report| {
            let cause = if report.refused { SendError::Refused } else { SendError::Unreachable };
            unsent.push(Unsent { ticket: None, remote: report.remote, cause });
        });
        self.tell_unsent();
    }

    fn tell_unsent(&mut self) {
        while let Some(Unsent { ticket, remote, cause }) = self.unsent.pop() {
            self.turn(Input::Unsent { ticket, remote, cause });
        }
    }

    /// Tells the engine what has become durable, and operators that their commands are.
    fn learn_durable(&mut self) {
        let durable = self.parts.progress.durable();
        if durable > self.told {
            self.told = durable;
            self.turn(Input::Committed(durable));
        }
        while self.replies.front().is_some_and(|(seq, ..)| *seq <= durable) {
            if let Some((_, reply, asker)) = self.replies.pop_front() {
                // An operator that has gone away needs no answer.
                let _ = asker.send(reply);
            }
        }
    }

    fn run_timers(&mut self) {
        for _ in 0..DUE_ROUNDS_MAX {
            let now = self.parts.clock.now().mono;
            if self.parts.engine.next_due().is_none_or(|due| due > now) {
                break;
            }
            self.turn(Input::Due);
        }
    }

    fn read_mail(&mut self, told: Told) {
        match told {
            Told::Command(command, asker) => self.command(*command, asker),
            Told::Look(look) => look(&self.parts.engine, self.parts.clock.now()),
            Told::Resolved(query, targets, again_after) => {
                self.turn(Input::Resolved { query, targets: &targets, again_after });
            }
            Told::Unsent(unsent) => {
                self.unsent.push(unsent);
                self.tell_unsent();
            }
            Told::Remote(updates) => {
                self.turn(Input::Remote(&updates));
            }
            Told::Pressure(pressure) => self.disk = pressure,
            Told::Watch(watch) => self.parts.watch = watch,
            Told::WhenNoCallIsLeft(asker) => self.drained.push(asker),
            Told::Stop => {
                self.phase = Phase::Stopping;
                self.stopping = true;
                let clean = self.calls() == 0;
                self.command(Command::Stop { clean }, None);
            }
        }
    }

    fn command(&mut self, command: Command, asker: Option<oneshot::Sender<CommandReply>>) {
        if matches!(command, Command::Drain { .. }) {
            // Whoever balances load must see it before the first refusal.
            self.phase = Phase::Draining;
            self.publish(self.phase);
        }
        if let Command::Reload { settings, revision, .. } = &command {
            self.parts.about.configured(settings, *revision);
        }
        self.batch.outbox.replies.clear();
        let now = self.turn(Input::Command(command));
        let reply = self.batch.outbox.replies.pop();
        if let (Some(reply), Some(asker)) = (reply, asker) {
            // Somebody waits for its records, whatever class they are.
            self.batch.oldest_a.get_or_insert(now.mono);
            let last = self.batch.outbox.records.last().map_or(self.made, |record| record.seq);
            self.replies.push_back((last, reply, asker));
        }
    }

    /// Performs what the turns since the last flush decided.
    fn flush(&mut self) {
        self.send_what_may_leave();
        self.tell_unsent();
        let outbox = &mut self.batch.outbox;
        for ask in outbox.asks.drain(..) {
            match ask {
                Ask::Resolve { query, question } => self.parts.resolver.ask(query, question),
                Ask::Close { flow } => {
                    if let Some(streams) = &self.parts.wires.streams {
                        streams.close(flow);
                    }
                }
                Ask::Reuse { flow, stands_for } => {
                    if let Some(streams) = &self.parts.wires.streams {
                        streams.reuse(flow, stands_for);
                    }
                }
            }
        }
        for note in outbox.notes.drain(..) {
            publish::log(&note);
        }
        outbox.replies.clear();
        self.note_ages();
        self.hand_over_if_due();
        if !self.drained.is_empty() && self.calls() == 0 && self.parts.engine.calls_unanswered() == 0 {
            for asker in self.drained.drain(..) {
                let _ = asker.send(());
            }
        }
    }

    /// Sends class B, and whatever waits for nothing any more, by one system call for each socket.
    fn send_what_may_leave(&mut self) {
        let released = self.parts.progress.released();
        let outbox = &mut self.batch.outbox;
        let leaving = outbox.transmits.iter().filter(|transmit| may_leave(transmit, released));
        if leaving.clone().next().is_none() {
            return;
        }
        let before = self.unsent.len();
        let unsent = &mut self.unsent;
        let transmits = leaving.map(|transmit| (&*outbox, transmit));
        let count = self.parts.wires.send(&mut self.sender, transmits, |failed| unsent.push(failed));
        let failed = (unsent.len() - before) as u64;
        self.traffic.sent += count as u64 - failed;
        self.traffic.failed += failed;
        outbox.transmits.retain(|transmit| !may_leave(transmit, released));
        if outbox.transmits.is_empty() && outbox.records.is_empty() {
            outbox.arena.clear();
        }
    }

    fn note_ages(&mut self) {
        let now = self.parts.clock.now().mono;
        let outbox = &self.batch.outbox;
        for record in &outbox.records[self.noted..] {
            let oldest = if record.urgent { &mut self.batch.oldest_a } else { &mut self.batch.oldest_b };
            oldest.get_or_insert(now);
            self.made = record.seq;
        }
        self.records += (outbox.records.len() - self.noted) as u64;
        self.noted = outbox.records.len();
        if !outbox.transmits.is_empty() {
            self.batch.oldest_a.get_or_insert(now);
        }
    }

    fn hand_over_if_due(&mut self) {
        let b_waited = |now: Mono| self.batch.oldest_b.is_some_and(|at| now.since(at) >= CLASS_B_WAIT);
        let due = self.batch.oldest_a.is_some() || b_waited(self.parts.clock.now().mono);
        if due && self.parts.handover.give(&mut self.batch) {
            self.noted = 0;
        }
    }

    fn hand_over_rest(&mut self) {
        self.flush();
        while !self.batch.is_empty() && !self.parts.handover.give(&mut self.batch) {
            let freed = self.parts.handover.wait_for_outbox(STALLED_FATAL);
            if !freed || self.parts.progress.has_failed() {
                break;
            }
        }
    }

    /// How long nothing needs to happen unless a datagram or mail comes.
    fn wait_at_most(&mut self) -> Duration {
        let now = self.parts.clock.now().mono;
        if self.batch.outbox.arena.len() > OUTBOX_BYTES_MAX {
            self.parts.handover.wait_for_outbox(OUTBOX_WAIT);
            return Duration::ZERO;
        }
        let timer = self.parts.engine.next_due().map_or(HOUSEKEEPING, |due| due.since(now));
        // Records that are due but found no free outbox are offered again soon, not at once.
        let class_b = self.batch.oldest_b.map_or(HOUSEKEEPING, |at| {
            let left = at.plus(CLASS_B_WAIT).since(now);
            if left.is_zero() { DURABLE_LOOK } else { left }
        });
        let durable = if self.made > self.told { DURABLE_LOOK } else { HOUSEKEEPING };
        timer.min(class_b).min(durable).min(HOUSEKEEPING)
    }

    /// Sheds load while commits stall or the disk is full, and gives up when the disk does not answer.
    fn watch_journal(&mut self) -> Result<(), Fatal> {
        let now = self.parts.clock.now().mono;
        let running = self.parts.progress.commit_running_for(now).unwrap_or_default();
        if running >= STALLED_FATAL {
            return Err(Fatal::Stalled(running));
        }
        let stalled = running >= STALLED_AFTER;
        if stalled != self.stalled {
            self.stalled = stalled;
            self.turn(Input::Stalled(stalled));
            self.publish(self.phase);
        }
        let full = if self.parts.progress.is_full() { Pressure::Full } else { Pressure::Normal };
        let pressure = self.disk.max(full);
        if pressure != self.pressure {
            self.pressure = pressure;
            self.turn(Input::Pressure(pressure));
        }
        Ok(())
    }

    fn calls(&self) -> u64 {
        self.parts.engine.calls_active()
    }
}

fn may_leave(transmit: &Transmit, released: EventSeq) -> bool {
    match transmit.release {
        Release::Now(_) => true,
        Release::After(seq) => seq <= released,
    }
}
