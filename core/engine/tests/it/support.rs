//! An engine on a virtual clock and an in-memory wire: every story is told against it.

use signalbox_base::{
    EdgeIdentity, EventSeq, Flow, JournalId, ListenerId, Mono, Now, Secret, TenantId, Text, Transport, Wall,
};
use signalbox_engine::settings::{
    BackendSettings, CallsFrom, ContactMode, DomainSettings, EarlyDialogs, Hide, ListenerSettings,
    NoiseBudget, Numbering, PeerAddress, ProbeSettings, Redirects, Rules, Serves, TenantLimits,
    TenantSettings, TimerSettings,
};
use signalbox_engine::state::{self, State, StoredRecord, snapshot};
use signalbox_engine::{
    Ask, Command, CommandReply, Context, Engine, Entropy, Input, Note, Outbox, Release, Settings, Watch,
};
use signalbox_sip::{HeaderName, Limits, Message};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A seeded source of bits (SplitMix64).
pub(crate) struct Seeded(pub(crate) u64);

impl Entropy for Seeded {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }
}

/// A message that left the edge.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) flow: Flow,
    pub(crate) release: Release,
    pub(crate) bytes: Vec<u8>,
}

impl Sent {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub(crate) fn message(&self) -> Message<&[u8]> {
        Message::parse(self.bytes.as_slice(), &Limits::DATAGRAM).expect("the edge sends what it would read")
    }

    /// The status code; of a reply to a broken request too, which echoes what is broken.
    pub(crate) fn status(&self) -> Option<u16> {
        self.text().strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3)?.parse().ok())
    }

    pub(crate) fn header(&self, name: HeaderName) -> Option<String> {
        self.message().value(name).map(|v| String::from_utf8_lossy(v).into_owned())
    }

    pub(crate) fn uri(&self) -> String {
        String::from_utf8_lossy(self.message().request_uri().expect("a request")).into_owned()
    }
}

/// A record as it lies in the journal.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) seq: EventSeq,
    pub(crate) wall: Wall,
    pub(crate) kind: &'static str,
    pub(crate) tenant: String,
    pub(crate) subject: String,
    pub(crate) correlation: String,
    pub(crate) causation: EventSeq,
    pub(crate) data: Vec<u8>,
    pub(crate) private: Vec<u8>,
}

impl Record {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.data).expect("records carry JSON")
    }

    pub(crate) fn stored(&self) -> StoredRecord<'_> {
        StoredRecord {
            seq: self.seq,
            wall: self.wall,
            kind: self.kind,
            tenant: &self.tenant,
            subject: &self.subject,
            correlation: &self.correlation,
            causation: self.causation,
            data: &self.data,
            private: &self.private,
        }
    }
}

/// The engine with everything around it.
pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) now: Now,
    pub(crate) entropy: Seeded,
    pub(crate) watch: Watch,
    /// Whether the disk answers at once.
    pub(crate) auto_commit: bool,
    pub(crate) journal: Vec<Record>,
    pub(crate) asks: Vec<Ask>,
    pub(crate) replies: Vec<CommandReply>,
    pub(crate) notes: Vec<Note>,
    wire: Vec<Sent>,
    held: Vec<(EventSeq, Sent)>,
    committed: EventSeq,
    out: Outbox,
}

pub(crate) const START: Wall = Wall(1_790_000_000_000_000);
pub(crate) const JOURNAL: JournalId = JournalId(0x0192_0000_0000_0000_0000_0000_0000_0001);

impl World {
    pub(crate) fn new(settings: Settings) -> Self {
        Self::over(settings, State::new(JOURNAL), Now { mono: Mono(1_000_000_000), wall: START }, Vec::new())
    }

    /// An engine over a state that was recovered from `journal`.
    pub(crate) fn over(settings: Settings, state: State, now: Now, journal: Vec<Record>) -> Self {
        let committed = state.last();
        let mut world = Self {
            engine: Engine::new(Arc::new(settings), state, [1, 2, 3]),
            now,
            entropy: Seeded(7 + committed.0),
            watch: Watch::default(),
            auto_commit: true,
            journal,
            asks: Vec::new(),
            replies: Vec::new(),
            notes: Vec::new(),
            wire: Vec::new(),
            held: Vec::new(),
            committed,
            out: Outbox::default(),
        };
        let mut cx = Context { entropy: &mut world.entropy, watch: &world.watch };
        world.engine.resume(world.now, &mut cx, &mut world.out);
        world.drain();
        world
    }

    /// What is durable survives; the process does not.
    pub(crate) fn crash_and_restart(self, after: Duration) -> Self {
        let committed = self.committed;
        let journal: Vec<Record> = self.journal.into_iter().filter(|r| r.seq <= committed).collect();
        let settings = (**self.engine.settings()).clone();
        let state = replay(&journal);
        let now = Now { mono: Mono(1), wall: self.now.wall.plus(after) };
        Self::over(settings, state, now, journal)
    }

    pub(crate) fn input(&mut self, input: Input<'_>) {
        let mut cx = Context { entropy: &mut self.entropy, watch: &self.watch };
        self.engine.handle(self.now, input, &mut cx, &mut self.out);
        self.drain();
    }

    pub(crate) fn deliver(&mut self, flow: Flow, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref().to_vec();
        self.input(Input::Packet { flow, bytes: &bytes });
    }

    pub(crate) fn command(&mut self, command: Command) -> CommandReply {
        self.input(Input::Command(command));
        self.replies.pop().expect("each command is answered")
    }

    /// Lets time pass, with every timer that falls due.
    pub(crate) fn advance(&mut self, by: Duration) {
        let end = self.now.plus(by);
        for _ in 0..2_000_000 {
            match self.engine.next_due().filter(|due| *due <= end.mono) {
                Some(due) => {
                    self.now = self.now.plus(due.since(self.now.mono));
                    self.input(Input::Due);
                }
                None => {
                    self.now = end;
                    return;
                }
            }
        }
        panic!("timers never rest");
    }

    /// The disk has it all.
    pub(crate) fn commit(&mut self) {
        let Some(last) = self.journal.last().map(|r| r.seq) else { return };
        if last <= self.committed {
            return;
        }
        self.committed = last;
        let (free, held) = std::mem::take(&mut self.held).into_iter().partition(|(seq, _)| *seq <= last);
        self.held = held;
        let free: Vec<(EventSeq, Sent)> = free;
        self.wire.extend(free.into_iter().map(|(_, sent)| sent));
        self.input(Input::Committed(last));
    }

    /// Everything sent since it was last asked.
    pub(crate) fn take(&mut self) -> Vec<Sent> {
        std::mem::take(&mut self.wire)
    }

    /// What was sent to an address since; the rest stays.
    pub(crate) fn take_to(&mut self, to: SocketAddr) -> Vec<Sent> {
        let (mine, rest) = std::mem::take(&mut self.wire).into_iter().partition(|s| s.flow.remote == to);
        self.wire = rest;
        mine
    }

    /// The one message sent to an address.
    #[track_caller]
    pub(crate) fn one_to(&mut self, to: SocketAddr) -> Sent {
        let mut mine = self.take_to(to);
        assert_eq!(mine.len(), 1, "to {to}: {:#?}", mine.iter().map(Sent::text).collect::<Vec<_>>());
        mine.remove(0)
    }

    /// Messages that wait for the disk.
    pub(crate) fn waiting(&self) -> usize {
        self.held.len()
    }

    /// Records but those about backends, which traffic finds up or down in passing.
    pub(crate) fn told(&self) -> Vec<&Record> {
        self.journal.iter().filter(|r| !r.kind.starts_with("backend.")).collect()
    }

    /// Kinds of what was told behind the first so many, without versions.
    pub(crate) fn told_kinds(&self, behind: usize) -> Vec<&'static str> {
        self.told()[behind..].iter().map(|r| r.kind.trim_end_matches(".v1")).collect()
    }

    /// Kinds of the records since a place in the journal, without versions; those about backends left out.
    pub(crate) fn kinds(&self, since: usize) -> Vec<&'static str> {
        let told = self.journal[since..].iter().filter(|r| !r.kind.starts_with("backend."));
        told.map(|r| r.kind.trim_end_matches(".v1")).collect()
    }

    /// Records of a kind.
    pub(crate) fn records(&self, kind: &str) -> Vec<&Record> {
        self.journal.iter().filter(|r| r.kind.trim_end_matches(".v1") == kind).collect()
    }

    /// Promise 2: the journal folded anew, and a snapshot with its tail, give the state that was lived.
    #[track_caller]
    pub(crate) fn assert_replay_equals_live(&self) {
        let lived = dump(self.engine.state());
        let replayed = replay(&self.journal);
        assert_eq!(lived, dump(&replayed), "replay differs from live");
        assert_eq!(self.engine.state().calls(), replayed.calls(), "replay differs from live");
    }

    fn drain(&mut self) {
        let mut out = std::mem::take(&mut self.out);
        for r in &out.records {
            let last = self.journal.last().map_or(EventSeq(0), |r| r.seq);
            assert_eq!(r.seq, last.next(), "sequences are gapless");
            self.journal.push(Record {
                seq: r.seq,
                wall: r.wall,
                kind: r.kind,
                tenant: r.tenant.to_string(),
                subject: r.subject.to_string(),
                correlation: r.correlation.to_string(),
                causation: r.causation,
                data: out.bytes(&r.data).to_vec(),
                private: out.bytes(&r.private).to_vec(),
            });
        }
        for t in &out.transmits {
            let sent = Sent { flow: t.flow, release: t.release, bytes: out.bytes(&t.bytes).to_vec() };
            match t.release {
                Release::After(seq) if seq > self.committed => self.held.push((seq, sent)),
                _ => self.wire.push(sent),
            }
        }
        self.asks.append(&mut out.asks);
        self.replies.append(&mut out.replies);
        self.notes.append(&mut out.notes);
        out.clear();
        self.out = out;
        if self.auto_commit {
            self.commit();
        }
    }
}

/// A state folded from the journal.
pub(crate) fn replay(journal: &[Record]) -> State {
    let mut state = State::new(JOURNAL);
    for record in journal {
        state::apply(&mut state, &record.stored()).expect("what was recorded folds");
    }
    state
}

/// The state in one canonical form.
pub(crate) fn dump(state: &State) -> String {
    let mut entries = Vec::new();
    let done = snapshot::write(state, &mut snapshot::Cursor::default(), usize::MAX, &mut entries);
    assert!(done);
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    let mut text = format!("last {}\n", state.last());
    for entry in entries {
        // Stamps of the two singletons are the whole state's last record; AoRs bear their own.
        text.push_str(&format!("{} {} {:?}\n", entry.key, entry.seq, entry.bytes));
    }
    text
}

pub(crate) fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// Outside listener 0 and inside listener 1.
pub(crate) fn outside(remote: &str) -> Flow {
    Flow::udp(ListenerId(0), addr("203.0.113.1:5060"), addr(remote))
}

pub(crate) fn inside(remote: &str) -> Flow {
    Flow::udp(ListenerId(1), addr("10.0.0.5:5060"), addr(remote))
}

pub(crate) fn backend(name: &str, address: &str, priority: u16, domain: Option<&str>) -> BackendSettings {
    let address = addr(address);
    BackendSettings {
        name: Text::new(name),
        address: PeerAddress {
            transport: Transport::Udp,
            host: Text::from(address.ip().to_string()),
            port: Some(address.port()),
            literal: Some(address),
            any_transport: false,
        },
        source: vec![],
        priority,
        weight: 1,
        domain: domain.map(Text::new),
        network: 1,
        contact: ContactMode::Token,
        hide: Hide::Off,
        trusts_edge: false,
        register: None,
        early_dialogs: EarlyDialogs::Single,
        redirects: Redirects::Follow,
        probe: ProbeSettings { interval: None, ..ProbeSettings::default() },
    }
}

pub(crate) fn domain(name: &str, aliases: &[&str]) -> DomainSettings {
    let aliases = aliases.iter().map(|a| Text::new(a)).collect();
    DomainSettings { name: Text::new(name), aliases, ..DomainSettings::default() }
}

pub(crate) fn tenant(
    name: &str,
    domains: Vec<DomainSettings>,
    backends: Vec<BackendSettings>,
) -> TenantSettings {
    TenantSettings {
        name: name.parse::<TenantId>().expect("a name"),
        domains,
        calls_from: CallsFrom::Registered,
        backends,
        limits: TenantLimits::default(),
        numbering: Numbering::default(),
    }
}

/// An edge with an outside for phones and an inside for backends.
pub(crate) fn settings(tenants: Vec<TenantSettings>) -> Settings {
    let listener = |network, address: &str, endpoints, backends| ListenerSettings {
        network,
        transport: Transport::Udp,
        address: addr(address),
        advertise: Text::new(address),
        serves: Serves { endpoints, backends, trunks: false, edges: false },
        domain: None,
    };
    Settings {
        identity: EdgeIdentity { cluster: Text::new("test"), edge: Text::new("edge-1") },
        journal: JOURNAL,
        version: Text::new("0.1.0"),
        networks: vec![Text::new("outside"), Text::new("inside")],
        listeners: vec![
            listener(0, "203.0.113.1:5060", true, false),
            listener(1, "10.0.0.5:5060", false, true),
        ],
        tenants,
        trunks: Vec::new(),
        rules: Rules::default(),
        probe: ProbeSettings::default(),
        timers: TimerSettings::default(),
        noise: NoiseBudget::default(),
        edges: Vec::new(),
        cluster_key: Secret::new(b"the key of the test cluster".to_vec()),
    }
}

/// One tenant `acme` with `acme.test` (alias `old.acme.test`) and `pbx-1`.
pub(crate) fn acme() -> Settings {
    settings(vec![tenant(
        "acme",
        vec![domain("acme.test", &["old.acme.test"])],
        vec![backend("pbx-1", "10.0.1.1:5060", 1, None)],
    )])
}

/// A phone that registers.
#[derive(Clone, Debug)]
pub(crate) struct Phone {
    pub(crate) user: String,
    pub(crate) domain: String,
    pub(crate) flow: Flow,
    pub(crate) contact: String,
    pub(crate) call_id: String,
    pub(crate) cseq: u32,
    pub(crate) extra: String,
}

impl Phone {
    pub(crate) fn new(user: &str, domain: &str, remote: &str) -> Self {
        Self {
            user: user.to_owned(),
            domain: domain.to_owned(),
            flow: outside(remote),
            contact: format!("<sip:{user}@{remote}>"),
            call_id: format!("reg-{user}-{domain}-{remote}"),
            cseq: 0,
            extra: String::new(),
        }
    }

    /// The next REGISTER with these Contact and Expires lines.
    pub(crate) fn register_with(&mut self, lines: &str) -> String {
        self.cseq += 1;
        let Self { user, domain, flow, call_id, cseq, extra, .. } = &*self;
        let via = flow.remote;
        format!(
            "REGISTER sip:{domain} SIP/2.0\r\nVia: SIP/2.0/UDP {via};branch=z9hG4bK{call_id}{cseq};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{user}@{domain}>;tag=p{cseq}\r\nTo: <sip:{user}@{domain}>\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq} REGISTER\r\nUser-Agent: Test/1\r\n{lines}{extra}Content-Length: 0\r\n\r\n"
        )
    }

    pub(crate) fn register(&mut self, expires: u32) -> String {
        let lines = format!("Contact: {}\r\nExpires: {expires}\r\n", self.contact);
        self.register_with(&lines)
    }
}

/// A response to a request, with more header lines.
pub(crate) fn response(request: &Sent, status: u16, lines: &str) -> String {
    let message = request.message();
    let mut text = format!("SIP/2.0 {status} Said\r\n");
    for header in message.headers() {
        let value = String::from_utf8_lossy(header.value);
        match header.id {
            HeaderName::Via
            | HeaderName::From
            | HeaderName::CallId
            | HeaderName::CSeq
            | HeaderName::RecordRoute => {
                text.push_str(&format!("{}: {value}\r\n", String::from_utf8_lossy(header.name)));
            }
            HeaderName::To if message.to_tag().is_none() => {
                text.push_str(&format!("To: {value};tag=pbx\r\n"))
            }
            HeaderName::To => text.push_str(&format!("To: {value}\r\n")),
            _ => {}
        }
    }
    text + lines + "Content-Length: 0\r\n\r\n"
}

/// A 200 that grants every Contact of the REGISTER so many seconds.
pub(crate) fn granted(request: &Sent, secs: u32) -> String {
    let contacts: String = request
        .message()
        .values(HeaderName::Contact)
        .filter(|v| *v != b"*" && secs > 0)
        .map(|value| format!("Contact: {};expires={secs}\r\n", String::from_utf8_lossy(value)))
        .collect();
    response(request, 200, &contacts)
}

/// Registers a phone through the backend at `pbx`, and gives the token that the backend got.
#[track_caller]
pub(crate) fn register(world: &mut World, phone: &mut Phone, pbx: &str, secs: u32) -> String {
    let request = phone.register(secs);
    world.deliver(phone.flow, request);
    let at_pbx = world.one_to(addr(pbx));
    world.deliver(inside(pbx), granted(&at_pbx, secs));
    let answer = world.one_to(phone.flow.remote);
    assert_eq!(answer.status(), Some(200), "{}", answer.text());
    token_in(&at_pbx)
}

/// The user of the first Contact.
pub(crate) fn token_in(request: &Sent) -> String {
    let contact = request.header(HeaderName::Contact).expect("a Contact");
    contact.trim_start_matches("<sip:").split('@').next().expect("a user").to_owned()
}

/// A request out of a dialog.
pub(crate) fn request(method: &str, uri: &str, from: &str, via: SocketAddr, id: &str) -> String {
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {via};branch=z9hG4bK{id};rport\r\nMax-Forwards: 70\r\n\
         From: <{from}>;tag=f{id}\r\nTo: <{uri}>\r\nCall-ID: {id}\r\nCSeq: 1 {method}\r\n\
         Contact: <sip:me@{via}>\r\nContent-Length: 0\r\n\r\n"
    )
}
