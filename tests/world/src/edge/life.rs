//! One process of an edge, from its start to its end.

use super::commit::DIE_WITHIN_OPERATIONS;
use super::{EdgeHost, Seed};
use crate::events::fold_all;
use crate::oracle::{Oracle, UNOPENED};
use signalbox_actors::Random;
use signalbox_base::{ConnId, EventSeq, Flow, ListenerId, Mono, Now, Wall};
use signalbox_engine::{
    Ask, Command, CommandReply, Context, Engine, Input, Outbox, RecordOut, Release, SendError, Settings,
    Watch,
};
use signalbox_journal::{Class, CommitAt, GroupCommit, Journal, NewRecord, Queue, Writer};
use signalbox_schemas::Event;
use signalbox_schemas::edge::EdgeStarted;
use signalbox_schemas::values::TransportAddress;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// A commit running this long is told to the engine (DESIGN.md §6).
pub(super) const STALLED_AFTER: Duration = Duration::from_millis(200);
/// Rounds of timers in one wake-up.
const DUE_ROUNDS_MAX: usize = 64;

/// What the host wants of the world.
pub(crate) enum Effect {
    /// A datagram leaves.
    Send { from: SocketAddr, to: SocketAddr, bytes: Vec<u8> },
    /// The commit under way ends then.
    CommitEnds { at: Mono },
    /// A commit may be due then.
    CommitDue { at: Mono },
    /// Look then whether the commit stalls.
    LookForStall { at: Mono },
    /// The process is dead.
    Died,
}

/// A process.
pub(crate) struct Life {
    pub(crate) engine: Engine,
    pub(crate) writer: Writer,
    /// When it began, by the world's clock: its own monotonic clock starts at zero.
    began: Mono,
    settings: Arc<Settings>,
    entropy: Seed,
    outbox: Outbox,
    /// Made and not handed to the journal yet.
    records: Vec<Owned>,
    /// Waiting for their records, in order.
    held: VecDeque<Held>,
    pub(super) queue: Queue,
    pub(super) policy: GroupCommit,
    /// The commit under way: when it began.
    pub(super) committing: Option<Mono>,
    pub(super) stalled: bool,
    pub(super) durable: EventSeq,
    /// What commands were answered.
    pub(crate) replies: Vec<CommandReply>,
}

/// A record outside the outbox.
struct Owned {
    record: RecordOut,
    traceparent: Vec<u8>,
    data: Vec<u8>,
    private: Vec<u8>,
}

struct Held {
    after: EventSeq,
    flow: Flow,
    bytes: Vec<u8>,
}

impl Life {
    /// Opens the journal, folds it, and lets the engine resume.
    /// `None`, and a fault, when the journal refuses to open.
    pub(super) fn begin(
        host: &EdgeHost,
        now: Now,
        oracle: &mut Oracle,
        effects: &mut Vec<Effect>,
    ) -> Option<Self> {
        let mut random = Random::new(host.seed ^ u64::from(host.lives).wrapping_mul(0x5851_F42D_4C95_7F2D));
        let mut salt = [0; 32];
        salt.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&random.bits().to_le_bytes()));
        let identity = &host.settings.identity;
        let opened = Journal::open(host.disk.storage(), host.config(), identity, now.wall, salt);
        let (writer, recovered) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                oracle.fault(now.mono, UNOPENED, error.to_string());
                return None;
            }
        };
        let mut state = fold_all(&writer);
        state.start_after(recovered.last);
        let settings = Arc::new(Settings { journal: writer.journal(), ..host.settings.clone() });
        let started = EdgeStarted {
            edge: identity.edge.clone(),
            version: settings.version.clone(),
            config_revision: 1,
            addresses: settings
                .listeners
                .iter()
                .map(|l| TransportAddress::new(l.transport, l.address))
                .collect(),
            continues: recovered.continues,
            clean: recovered.created || state.edge().stopped_clean,
            calls_recovered: u64::from(state.calls().active()),
            bindings_recovered: state.registrations().len() as u64,
        };
        let engine = Engine::new(Arc::clone(&settings), state, std::array::from_fn(|_| random.bits()));
        let mut life = Self {
            engine,
            writer,
            began: now.mono,
            settings,
            entropy: Seed(random),
            outbox: Outbox::default(),
            records: Vec::new(),
            held: VecDeque::new(),
            queue: Queue::default(),
            policy: GroupCommit::default(),
            committing: None,
            stalled: false,
            durable: recovered.last,
            replies: Vec::new(),
        };
        let watch = Watch::default();
        let own = life.own_time(now);
        let mut cx = Context { entropy: &mut life.entropy, watch: &watch };
        life.engine.resume(own, &mut cx, &mut life.outbox);
        life.perform(now, oracle, effects, host);
        life.turn(now, Input::Command(Command::Note(Box::new(Event::from(started)))), oracle, effects, host);
        Some(life)
    }

    fn own_time(&self, now: Now) -> Now {
        Now { mono: Mono(now.mono.0 - self.began.0), wall: now.wall }
    }

    /// When the engine wants to be woken, by the world's clock.
    pub(crate) fn next_due(&self) -> Option<Mono> {
        self.engine.next_due().map(|at| Mono(at.0.saturating_add(self.began.0)))
    }

    /// One turn and what it decided.
    pub(crate) fn turn(
        &mut self,
        now: Now,
        input: Input<'_>,
        oracle: &mut Oracle,
        effects: &mut Vec<Effect>,
        host: &EdgeHost,
    ) {
        let (own, watch) = (self.own_time(now), Watch::default());
        let mut cx = Context { entropy: &mut self.entropy, watch: &watch };
        self.engine.handle(own, input, &mut cx, &mut self.outbox);
        self.perform(now, oracle, effects, host);
    }

    /// A datagram came to a listener.
    pub(crate) fn receive(
        &mut self,
        now: Now,
        (to, from, bytes): (SocketAddr, SocketAddr, &[u8]),
        oracle: &mut Oracle,
        effects: &mut Vec<Effect>,
        host: &EdgeHost,
    ) {
        let Some(index) = self.settings.listeners.iter().position(|l| l.address == to) else { return };
        let listener = ListenerId(u16::try_from(index).expect("an edge has a few listeners"));
        let transport = self.settings.listeners[index].transport;
        // A phone has one connection, so that its address names it.
        let conn = transport.reliable().then(|| connection_of(from));
        let flow = Flow { transport, conn, ..Flow::udp(listener, to, from) };
        self.turn(now, Input::Packet { flow, bytes }, oracle, effects, host);
    }

    /// The network said that a peer cannot be reached.
    pub(crate) fn refused(
        &mut self,
        now: Now,
        remote: SocketAddr,
        oracle: &mut Oracle,
        effects: &mut Vec<Effect>,
        host: &EdgeHost,
    ) {
        let input = Input::Unsent { ticket: None, remote, cause: SendError::Refused };
        self.turn(now, input, oracle, effects, host);
    }

    /// Runs what is due.
    pub(crate) fn due(&mut self, now: Now, oracle: &mut Oracle, effects: &mut Vec<Effect>, host: &EdgeHost) {
        for _ in 0..DUE_ROUNDS_MAX {
            if self.next_due().is_none_or(|at| at > now.mono) {
                return;
            }
            self.turn(now, Input::Due, oracle, effects, host);
        }
    }

    /// Performs the outbox: sends what may leave, keeps what must wait, queues records.
    fn perform(&mut self, now: Now, oracle: &mut Oracle, effects: &mut Vec<Effect>, host: &EdgeHost) {
        let mut outbox = std::mem::take(&mut self.outbox);
        for transmit in outbox.transmits.drain(..) {
            let bytes = outbox.arena[transmit.bytes.start as usize..transmit.bytes.end as usize].to_vec();
            match transmit.release {
                Release::After(after) if after > self.durable => {
                    self.queue.note(now.mono, Class::A);
                    self.held.push_back(Held { after, flow: transmit.flow, bytes });
                }
                release => send(now.mono, release, &transmit.flow, bytes, oracle, effects, host),
            }
        }
        for record in outbox.records.drain(..) {
            self.queue.note(now.mono, if record.urgent { Class::A } else { Class::B });
            let part = |range: &std::ops::Range<u32>| {
                outbox.arena[range.start as usize..range.end as usize].to_vec()
            };
            let traceparent = part(&record.traceparent);
            let (data, private) = (part(&record.data), part(&record.private));
            self.records.push(Owned { record, traceparent, data, private });
        }
        // Every peer of the stories has an address: nothing is to be resolved, and UDP has nothing to close.
        let asked = outbox.asks.drain(..).find(|ask| matches!(ask, Ask::Resolve { .. }));
        assert_eq!(asked, None, "stories use literal addresses");
        self.replies.append(&mut outbox.replies);
        outbox.clear();
        self.outbox = outbox;
        self.plan_commit(now, effects);
    }

    pub(super) fn plan_commit(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.committing.is_some() {
            return;
        }
        match self.policy.next(now.mono, &self.queue) {
            CommitAt::Now => effects.push(Effect::CommitDue { at: now.mono }),
            CommitAt::At(at) => effects.push(Effect::CommitDue { at }),
            CommitAt::Idle => {}
        }
    }

    /// Hands everything made so far to the journal.
    pub(super) fn append_all(&mut self, now: Wall) {
        for Owned { record, traceparent, data, private } in self.records.drain(..) {
            let new = NewRecord {
                expect_seq: Some(record.seq),
                wall: record.wall,
                recorded: now,
                kind: record.kind,
                tenant: &record.tenant,
                subject: &record.subject,
                correlation: &record.correlation,
                traceparent: std::str::from_utf8(&traceparent).expect("the engine writes hexadecimal"),
                causation: record.causation,
                data: &data,
                private: &private,
            };
            self.writer.append(&new).expect("the engine numbers its records as the journal does");
        }
    }

    /// Sends what the durable records held back.
    pub(super) fn release(
        &mut self,
        now: Now,
        at_most: usize,
        oracle: &mut Oracle,
        effects: &mut Vec<Effect>,
        host: &EdgeHost,
    ) {
        let durable = self.durable;
        let mut rest = VecDeque::new();
        let mut sent = 0;
        for held in std::mem::take(&mut self.held) {
            if held.after <= durable && sent < at_most {
                sent += 1;
                send(now.mono, Release::After(held.after), &held.flow, held.bytes, oracle, effects, host);
            } else {
                rest.push_back(held);
            }
        }
        self.held = rest;
    }

    /// The commit under way is cut short: some of its operations reach the disk.
    pub(super) fn commit_in_part(&mut self, now: Wall, host: &EdgeHost, random: &mut Random) {
        host.disk.die_at(random.below(DIE_WITHIN_OPERATIONS));
        // Whatever it says, nobody will hear of it.
        let _ = self.writer.commit(now);
    }

    /// Whether nothing waits for the disk.
    pub(crate) fn is_settled(&self) -> bool {
        self.records.is_empty() && self.held.is_empty() && self.committing.is_none()
    }

    /// An operator's command.
    pub(crate) fn command(
        &mut self,
        now: Now,
        command: Command,
        oracle: &mut Oracle,
        effects: &mut Vec<Effect>,
        host: &EdgeHost,
    ) -> Option<CommandReply> {
        self.turn(now, Input::Command(command), oracle, effects, host);
        self.replies.pop()
    }
}

fn connection_of(phone: SocketAddr) -> ConnId {
    match phone.ip() {
        IpAddr::V4(ip) => ConnId(u64::from(u32::from(ip)) << 16 | u64::from(phone.port())),
        IpAddr::V6(_) => unreachable!("phones on streams have IPv4 addresses"),
    }
}

fn send(
    now: Mono,
    release: Release,
    flow: &Flow,
    bytes: Vec<u8>,
    oracle: &mut Oracle,
    effects: &mut Vec<Effect>,
    host: &EdgeHost,
) {
    oracle.edge_sends(now, release, flow, &bytes, host.disk.durable());
    effects.push(Effect::Send { from: flow.local, to: flow.remote, bytes });
}
