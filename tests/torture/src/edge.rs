//! The real engine on a virtual clock, with a disk that answers at once: bytes in, messages out.

use signalbox_actors::Random;
use signalbox_base::{EventSeq, Flow, JournalId, ListenerId, Mono, Now, Text, Wall};
use signalbox_engine::settings::{
    CallsFrom, Group, Hide, Match, MemberName, NumberBlock, Pattern, PeerLimits, ProbeSettings, Ring, Rule,
    To, TrunkDirection, TrunkSettings,
};
use signalbox_engine::state::{self, State, StoredRecord};
use signalbox_engine::{Context, Counters, Engine, Entropy, Input, Outbox, Settings, Watch};
use signalbox_sip::{HeaderName, Limits, Message};
use signalbox_world::{BackendPlan, TenantPlan, edge_settings, hosted};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Where phones reach the edge.
pub const OUTSIDE: &str = "192.0.2.1:5060";
/// The same by IPv6.
pub const OUTSIDE_6: &str = "[2001:db8::10]:5060";
/// The edge's own address as RFC 5118 §4.10 writes it: with an IPv4 tail.
pub const OUTSIDE_TAILED: &str = "[2001:db8::192.0.2.1]:5060";
/// Where the PBX reaches the edge.
pub const INSIDE: &str = "10.0.0.5:5060";
/// The PBX.
pub const PBX: &str = "10.0.1.1:5060";
/// A phone; also where its messages say that they come from.
pub const PHONE: &str = "198.51.100.10:5060";
/// A carrier, at an edge that has one.
pub const CARRIER: &str = "203.0.113.20:5060";
/// A phone with IPv6.
pub const PHONE_6: &str = "[2001:db8::9:1]:5060";

/// Turns in which timers fall due, for one step of time at most.
const DUE_MAX: usize = 100_000;

/// A message that left the edge.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Where to.
    pub to: SocketAddr,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Sent {
    /// The message, when it is one.
    #[must_use]
    pub fn message(&self) -> Option<Message<&[u8]>> {
        Message::parse(self.bytes.as_slice(), &Limits::DATAGRAM).ok()
    }

    /// The status code. A reply to a broken request echoes what is broken, and may be no readable message.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        let digits = self.bytes.strip_prefix(b"SIP/2.0 ")?.get(..3)?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }
}

struct Bits(Random);

impl Entropy for Bits {
    fn next_u64(&mut self) -> u64 {
        self.0.bits()
    }
}

/// An edge with one tenant, whose PBX authenticates everybody: what is not refused reaches the PBX.
pub struct Edge {
    engine: Engine,
    now: Now,
    entropy: Bits,
    outbox: Outbox,
    committed: EventSeq,
    sent: Vec<Sent>,
    /// The journal folded as it grows.
    folded: State,
}

/// What [`settings`] serves.
fn tenant(domains: &[&'static str], calls_from: CallsFrom) -> TenantPlan {
    let backends = vec![BackendPlan::new("pbx", PBX)];
    TenantPlan { name: "acme", domains: domains.to_vec(), backends, calls_from }
}

/// Settings of the edge; no probes, so that what it sends is an answer to what it got.
fn settings(domains: &[&'static str], calls_from: CallsFrom) -> Settings {
    let plans = [tenant(domains, calls_from)];
    let mut settings = edge_settings("edge-1", hosted(OUTSIDE), hosted(INSIDE), &plans);
    for address in [OUTSIDE_6, OUTSIDE_TAILED] {
        let mut six = settings.listeners[0].clone();
        six.address = hosted(address);
        six.advertise = address.into();
        settings.listeners.push(six);
    }
    for backend in settings.tenants.iter_mut().flat_map(|tenant| &mut tenant.backends) {
        backend.probe = ProbeSettings { interval: None, ..ProbeSettings::default() };
    }
    settings
}

/// The same with a carrier, by numbers and routes, and nobody shall know of the other side.
fn with_carrier(mut settings: Settings) -> Settings {
    settings.listeners[0].serves.trunks = true;
    let tenant = &mut settings.tenants[0];
    tenant.numbering.own = NumberBlock::parse("+442079460000/4").into_iter().collect();
    tenant.numbering.blocked_callers = vec![Pattern::Anonymous, Pattern::Prefix(Text::new("+4490"))];
    tenant.backends[0].hide = Hide::Full;
    let mut peer = tenant.backends[0].clone();
    (peer.name, peer.network) = (Text::new("carrier"), 0);
    peer.address.literal = Some(hosted(CARRIER));
    peer.address.host = Text::from(hosted(CARRIER).ip().to_string());
    settings.trunks.push(TrunkSettings {
        peer,
        tenant: None,
        direction: TrunkDirection::Both,
        limits: PeerLimits { calls: Some(3), calls_per_second: Some(5) },
        template_in: None,
        template_out: None,
    });
    let ring = Ring { stages: vec![vec![Text::new("401@example.com")]], ring_for: Duration::from_secs(20) };
    let out = Group::in_order(Text::new("out"), [MemberName::Trunk(Text::new("carrier"))]);
    for (number, to) in [("6", To::Ring(ring)), ("+", To::Group(Arc::new(out)))] {
        let matches = Match { number: vec![Pattern::Prefix(Text::new(number))], ..Match::default() };
        let name = Text::new(number);
        let rule = Rule { name, tenant: None, matches, tags: Vec::new(), to: Some(to), template: None };
        settings.rules.routes.push(rule);
    }
    settings
}

impl Edge {
    /// An edge that serves these domains.
    #[must_use]
    pub fn new(domains: &[&'static str], calls_from: CallsFrom) -> Self {
        Self::of(settings(domains, calls_from))
    }

    /// The same with [`CARRIER`] outside, routes and `hide = "full"`.
    #[must_use]
    pub fn with_carrier(domains: &[&'static str], calls_from: CallsFrom) -> Self {
        Self::of(with_carrier(settings(domains, calls_from)))
    }

    fn of(settings: Settings) -> Self {
        let journal = JournalId(1);
        let engine = Engine::new(Arc::new(settings), State::new(journal), [1, 2, 3]);
        let mut edge = Self {
            engine,
            now: Now { mono: Mono(1_000_000_000), wall: Wall::from_secs(1_800_000_000) },
            entropy: Bits(Random::new(7)),
            outbox: Outbox::default(),
            committed: EventSeq(0),
            sent: Vec::new(),
            folded: State::new(journal),
        };
        let watch = Watch::default();
        let mut cx = Context { entropy: &mut edge.entropy, watch: &watch };
        edge.engine.resume(edge.now, &mut cx, &mut edge.outbox);
        edge.drain();
        edge
    }

    /// A datagram from outside (a phone, a stranger), or from inside when it is the PBX's.
    pub fn receive(&mut self, from: SocketAddr, bytes: &[u8]) {
        self.input(Input::Packet { flow: flow(from), bytes });
    }

    /// Lets time pass, with whatever falls due.
    ///
    /// # Panics
    /// When timers never rest.
    pub fn wait(&mut self, time: Duration) {
        let end = self.now.plus(time);
        for _ in 0..DUE_MAX {
            let Some(due) = self.engine.next_due().filter(|due| *due <= end.mono) else {
                self.now = end;
                return;
            };
            self.now = self.now.plus(due.since(self.now.mono));
            self.input(Input::Due);
        }
        panic!("timers never rest");
    }

    /// What was sent since it was last asked.
    pub fn take(&mut self) -> Vec<Sent> {
        std::mem::take(&mut self.sent)
    }

    /// The engine's counters.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        self.engine.counters()
    }

    /// Server and client transactions alive.
    #[must_use]
    pub fn transactions(&self) -> u64 {
        self.engine.counters().transactions
    }

    /// Calls alive.
    #[must_use]
    pub fn calls_active(&self) -> u64 {
        self.engine.calls_active()
    }

    /// Bindings alive.
    #[must_use]
    pub fn bindings(&self) -> usize {
        self.engine.state().registrations().len()
    }

    /// Records so far.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.committed.0
    }

    /// Promise 2: the journal, folded anew, is the state that was lived.
    ///
    /// # Panics
    /// When it is not.
    pub fn assert_replay_equals_live(&self) {
        assert_eq!(dump(self.engine.state()), dump(&self.folded), "replay differs from live");
    }

    fn input(&mut self, input: Input<'_>) {
        let watch = Watch::default();
        let mut cx = Context { entropy: &mut self.entropy, watch: &watch };
        self.engine.handle(self.now, input, &mut cx, &mut self.outbox);
        self.drain();
    }

    fn drain(&mut self) {
        let mut last = self.committed;
        for record in &self.outbox.records {
            assert_eq!(record.seq, last.next(), "records are numbered without gaps");
            last = record.seq;
            let stored = StoredRecord {
                seq: record.seq,
                wall: record.wall,
                kind: record.kind,
                tenant: &record.tenant,
                subject: &record.subject,
                correlation: &record.correlation,
                causation: record.causation,
                data: self.outbox.bytes(&record.data),
                private: self.outbox.bytes(&record.private),
            };
            state::apply(&mut self.folded, &stored).expect("what the engine records can be folded");
        }
        for transmit in &self.outbox.transmits {
            let bytes = self.outbox.bytes(&transmit.bytes).to_vec();
            self.sent.push(Sent { to: transmit.flow.remote, bytes });
        }
        self.outbox.clear();
        if last > self.committed {
            self.committed = last;
            self.input(Input::Committed(last));
        }
    }
}

/// The state in one canonical form.
fn dump(state: &State) -> Vec<(String, Vec<u8>)> {
    let mut entries = Vec::new();
    let mut cursor = state::snapshot::Cursor::default();
    assert!(state::snapshot::write(state, &mut cursor, usize::MAX, &mut entries), "all in one go");
    let mut all: Vec<_> = entries.into_iter().map(|e| (format!("{:?}", e.key), e.bytes)).collect();
    all.sort();
    all
}

/// The listener that a source's datagrams come to.
fn flow(from: SocketAddr) -> Flow {
    let (listener, local) = match from {
        _ if from == hosted(PBX) => (1, INSIDE),
        SocketAddr::V6(_) => (2, OUTSIDE_6),
        SocketAddr::V4(_) => (0, OUTSIDE),
    };
    Flow::udp(ListenerId(listener), hosted(local), from)
}

/// A response to a request that the edge sent, with more header lines.
#[must_use]
pub fn response(request: &Message<&[u8]>, status: u16, lines: &str) -> Vec<u8> {
    let mut out = format!("SIP/2.0 {status} Said\r\n").into_bytes();
    for header in request.headers() {
        let copied =
            [HeaderName::Via, HeaderName::From, HeaderName::To, HeaderName::CallId, HeaderName::CSeq]
                .contains(&header.id)
                || header.id == HeaderName::RecordRoute;
        if copied {
            out.extend_from_slice(&[header.name, b": ", header.value].concat());
            let tagged = header.id != HeaderName::To || request.to_tag().is_some();
            out.extend_from_slice(if tagged { b"\r\n" } else { b";tag=pbx\r\n" });
        }
    }
    out.extend_from_slice(lines.as_bytes());
    out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    out
}
