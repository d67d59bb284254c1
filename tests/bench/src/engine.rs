//! The engine alone, in process: what a registration and a call cost it in allocations, bytes and nanoseconds, and what
//! each keeps in memory. Same message shapes as the load generator; no socket, no disk, a clock that is counted.

use crate::messages::{DOMAIN, Request, answer};
use crate::report::Report;
use anyhow::{Context as _, Result};
use signalbox_base::{
    EdgeIdentity, Flow, JournalId, ListenerId, Mono, Now, Secret, TenantId, Text, Transport, Wall,
};
use signalbox_engine::settings::{
    BackendSettings, CallsFrom, ContactMode, DomainSettings, EarlyDialogs, Hide, ListenerSettings,
    NoiseBudget, Numbering, PeerAddress, ProbeSettings, Redirects, Rules, Serves, TenantLimits,
    TenantSettings, TimerSettings,
};
use signalbox_engine::state::State;
use signalbox_engine::{Context, Engine, Entropy, Input, Outbox, Settings, Watch};
use signalbox_sip::{HeaderName, Limits, Message};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Registrations or calls of a round.
const ROUND: u64 = 500;
/// Rounds at least, however short the time given.
const ROUNDS_MIN: u32 = 3;
/// Bindings and calls that are up at once when memory is weighed: hash tables are as full as they are on average.
const KEPT: u64 = 3_000;
/// Between one registration or call and the next, on the engine's clock.
const PACE: Duration = Duration::from_millis(1);
/// The longest that a transaction lives on after its end (64 T1 and a little), and a call behind its record.
const QUIET: Duration = Duration::from_secs(120);

const CALLER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7000);
const BACKEND: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7001);
const EDGE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 5060);

/// A source of bits that is the same in every run (SplitMix64).
struct Seeded(u64);

impl Entropy for Seeded {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }
}

/// What the engine used while it handled something.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    allocations: u64,
    bytes: u64,
    /// Bytes that are still held, more than were before.
    kept: i64,
    spent: Duration,
    records: u64,
    sent: u64,
    journal: u64,
}

/// The engine and both sides of its traffic.
struct Bench {
    engine: Engine,
    now: Now,
    entropy: Seeded,
    watch: Watch,
    out: Outbox,
    text: String,
    wire: Vec<(SocketAddr, Vec<u8>)>,
    next: u64,
    /// REGISTERs sent: each has a branch of its own, in however many rounds.
    registers: u64,
    used: Used,
}

fn settings() -> Result<Settings> {
    let address = PeerAddress {
        transport: Transport::Udp,
        host: Text::new("127.0.0.1"),
        port: Some(BACKEND.port()),
        literal: Some(BACKEND),
        any_transport: false,
    };
    let probe = ProbeSettings { interval: None, ..ProbeSettings::default() };
    let backend = BackendSettings {
        name: Text::new("pbx"),
        address,
        source: Vec::new(),
        priority: 1,
        weight: 1,
        domain: None,
        network: 0,
        contact: ContactMode::Token,
        hide: Hide::Off,
        trusts_edge: false,
        register: None,
        early_dialogs: EarlyDialogs::Single,
        redirects: Redirects::Follow,
        probe,
    };
    let listener = ListenerSettings {
        network: 0,
        transport: Transport::Udp,
        address: EDGE,
        advertise: Text::from(EDGE.to_string()),
        serves: Serves::ALL,
        domain: None,
    };
    let tenant = TenantSettings {
        name: "bench".parse::<TenantId>().context("a tenant's name")?,
        domains: vec![DomainSettings { name: Text::new(DOMAIN), ..DomainSettings::default() }],
        calls_from: CallsFrom::Registered,
        backends: vec![backend],
        limits: TenantLimits::default(),
        numbering: Numbering::default(),
    };
    Ok(Settings {
        identity: EdgeIdentity { cluster: Text::new("bench"), edge: Text::new("edge-1") },
        journal: JournalId(0x0192_0000_0000_0000_0000_0000_0000_0001),
        version: Text::new("0.1.0"),
        networks: vec![Text::new("default")],
        listeners: vec![listener],
        tenants: vec![tenant],
        probe,
        timers: TimerSettings::default(),
        trunks: Vec::new(),
        rules: Rules::default(),
        noise: NoiseBudget::default(),
        edges: Vec::new(),
        cluster_key: Secret::new(b"the key of the bench".to_vec()),
    })
}

impl Bench {
    fn new() -> Result<Self> {
        let settings = Arc::new(settings()?);
        let state = State::new(settings.journal);
        let mut bench = Self {
            engine: Engine::new(settings, state, [1, 2, 3]),
            now: Now { mono: Mono(1_000_000_000), wall: Wall(1_790_000_000_000_000) },
            entropy: Seeded(7),
            watch: Watch::default(),
            out: Outbox::default(),
            text: String::with_capacity(2048),
            wire: Vec::new(),
            next: 0,
            registers: 0,
            used: Used::default(),
        };
        let mut cx = Context { entropy: &mut bench.entropy, watch: &bench.watch };
        bench.engine.resume(bench.now, &mut cx, &mut bench.out);
        bench.out.clear();
        Ok(bench)
    }

    /// One turn, counted; what it recorded is on disk at once, and what it sent lies in `wire`.
    #[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
    fn turn(&mut self, input: Input<'_>) {
        let Self { engine, now, entropy, watch, out, used, .. } = self;
        let mut cx = Context { entropy, watch };
        let mut spent = Duration::ZERO;
        let info = allocation_counter::measure(|| {
            let begun = Instant::now();
            engine.handle(*now, input, &mut cx, out);
            if let Some(last) = out.records.last().map(|record| record.seq) {
                engine.handle(*now, Input::Committed(last), &mut cx, out);
            }
            spent = begun.elapsed();
        });
        used.allocations += info.count_total;
        used.bytes += info.bytes_total;
        used.kept += info.bytes_current;
        used.spent += spent;
        used.records += out.records.len() as u64;
        used.sent += out.transmits.len() as u64;
        used.journal += out.records.iter().map(|r| (r.data.len() + r.private.len()) as u64).sum::<u64>();
        self.wire.clear();
        self.wire.extend(out.transmits.iter().map(|t| (t.flow.remote, out.bytes(&t.bytes).to_vec())));
        out.clear();
    }

    fn packet(&mut self, from: SocketAddr, bytes: &[u8]) {
        self.turn(Input::Packet { flow: Flow::udp(ListenerId(0), EDGE, from), bytes });
    }

    /// Lets time pass, with every timer that falls due.
    fn advance(&mut self, by: Duration) {
        let end = self.now.plus(by);
        while let Some(due) = self.engine.next_due().filter(|due| *due <= end.mono) {
            self.now = self.now.plus(due.since(self.now.mono));
            self.turn(Input::Due);
        }
        self.now = end;
    }

    /// What was last sent to the one side or the other.
    fn sent_to(&self, to: SocketAddr) -> Result<String> {
        let last = self.wire.iter().rev().find(|(remote, _)| *remote == to);
        let (_, bytes) = last.with_context(|| format!("the engine sent nothing to {to}"))?;
        Ok(String::from_utf8(bytes.clone())?)
    }

    fn request(&mut self, request: &Request<'_>) {
        let mut text = std::mem::take(&mut self.text);
        request.write(&mut text);
        self.packet(CALLER, text.as_bytes());
        self.text = text;
    }

    fn answer(&mut self, request: &str, status: &str, tag: &str) {
        let mut text = std::mem::take(&mut self.text);
        answer(request, status, tag, BACKEND, &mut text);
        self.packet(BACKEND, text.as_bytes());
        self.text = text;
    }

    /// REGISTER of a user, answered by the backend.
    fn register(&mut self, user: u64, cseq: u32) -> Result<()> {
        let (uri, to_user) = (format!("sip:{DOMAIN}"), format!("u{user}"));
        let request = Request {
            method: "REGISTER",
            uri: &uri,
            from: CALLER,
            user,
            to_user: &to_user,
            to_tag: None,
            call: user,
            cseq,
            branch: self.registers,
            routes: &[],
        };
        self.registers += 1;
        self.request(&request);
        let forwarded = self.sent_to(BACKEND)?;
        self.answer(&forwarded, "200 OK", "t1");
        let answered = self.sent_to(CALLER)?;
        anyhow::ensure!(answered.starts_with("SIP/2.0 200"), "REGISTER got {answered}");
        self.advance(PACE);
        Ok(())
    }

    /// INVITE, 100, 180, 200, ACK; and BYE, 200 unless the call stays up.
    fn call(&mut self, stays: bool) -> Result<()> {
        const CALLS: u64 = 1 << 32;
        let id = CALLS + self.next;
        self.next += 1;
        let (uri, user) = (format!("sip:600@{DOMAIN}"), id % ROUND);
        let invite = Request {
            method: "INVITE",
            uri: &uri,
            from: CALLER,
            user,
            to_user: "600",
            to_tag: None,
            call: id,
            cseq: 1,
            branch: id << 8,
            routes: &[],
        };
        self.request(&invite);
        let forwarded = self.sent_to(BACKEND)?;
        let tag = format!("t{id}");
        self.answer(&forwarded, "180 Ringing", &tag);
        self.answer(&forwarded, "200 OK", &tag);
        let answered = self.sent_to(CALLER)?;
        anyhow::ensure!(answered.starts_with("SIP/2.0 200"), "INVITE got {answered}");
        let message = Message::parse(answered.as_bytes(), &Limits::DATAGRAM)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let to_tag = message.to_tag().map(text);
        let contact = message.value(HeaderName::Contact).map(text).context("the 200 has no Contact")?;
        let target =
            contact.trim_start_matches('<').split('>').next().context("an empty Contact")?.to_owned();
        let mut routes: Vec<String> = message.values(HeaderName::RecordRoute).map(text).collect();
        routes.reverse();
        let inside = Request { uri: &target, to_tag: to_tag.as_deref(), routes: &routes, ..invite };
        self.request(&Request { method: "ACK", branch: id << 8 | 1, ..inside });
        if !stays {
            self.request(&Request { method: "BYE", branch: id << 8 | 2, cseq: 2, ..inside });
            let bye = self.sent_to(BACKEND)?;
            self.answer(&bye, "200 OK", &tag);
        }
        self.advance(PACE);
        Ok(())
    }

    /// What is used by some work.
    fn measure(&mut self, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<Used> {
        self.used = Used::default();
        work(self)?;
        Ok(self.used)
    }

    fn round(&mut self, users: std::ops::Range<u64>, cseq: u32) -> Result<()> {
        users.into_iter().try_for_each(|user| self.register(user, cseq))?;
        self.advance(QUIET);
        Ok(())
    }

    fn calls(&mut self, count: u64) -> Result<()> {
        (0..count).try_for_each(|_| self.call(false))?;
        self.advance(QUIET);
        Ok(())
    }
}

/// Rounds until the time is over; the least time of a round, and the counts of the last one, when everything that grows
/// has grown.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn rounds(
    report: &mut Report,
    part: &str,
    seconds: u64,
    mut round: impl FnMut(u32) -> Result<Used>,
) -> Result<()> {
    let (begun, mut least, mut last, mut count) = (Instant::now(), Duration::MAX, Used::default(), 0);
    while count < ROUNDS_MIN || begun.elapsed() < Duration::from_secs(seconds) {
        last = round(count)?;
        // The first one grows what is kept from turn to turn.
        least = if count == 0 { Duration::MAX } else { least.min(last.spent) };
        count += 1;
    }
    let each = |total: u64| total as f64 / ROUND as f64;
    report.add(part, "signalbox", 0, "allocations", each(last.allocations));
    report.add(part, "signalbox", 0, "bytes_allocated", each(last.bytes));
    report.add(part, "signalbox", 0, "ns", least.as_nanos() as f64 / ROUND as f64);
    report.add(part, "signalbox", 0, "records", each(last.records));
    report.add(part, "signalbox", 0, "journal_bytes", each(last.journal));
    report.add(part, "signalbox", 0, "messages_sent", each(last.sent));
    Ok(())
}

/// Registrations: as they come and as they are refreshed.
pub(crate) fn registers(report: &mut Report, seconds: u64) -> Result<()> {
    let mut bench = Bench::new()?;
    rounds(report, "engine/register", seconds, |count| {
        let first = u64::from(count) * ROUND;
        bench.measure(|bench| bench.round(first..first + ROUND, 1))
    })?;
    rounds(report, "engine/refresh", seconds, |count| bench.measure(|bench| bench.round(0..ROUND, 2 + count)))
}

/// Calls from the first INVITE to the end of the last transaction.
pub(crate) fn calls(report: &mut Report, seconds: u64) -> Result<()> {
    let mut bench = Bench::new()?;
    bench.round(0..ROUND, 1)?;
    let mut again = 2;
    rounds(report, "engine/call", seconds, |_| {
        // Virtual time passes quickly: what is registered would expire.
        bench.round(0..ROUND, again)?;
        again += 1;
        bench.measure(|bench| bench.calls(ROUND))
    })
}

/// Memory of what stays.
pub(crate) fn memory(report: &mut Report) -> Result<()> {
    let mut bench = Bench::new()?;
    bench.round(0..ROUND, 1)?;
    bench.calls(ROUND)?;
    let mut weigh = |part: &str, work: &mut dyn FnMut(&mut Bench) -> Result<()>| -> Result<()> {
        let at_once = bench.measure(|bench| work(bench))?;
        let later = bench.measure(|bench| {
            bench.advance(QUIET);
            // What a call is forgotten by is a record of another one.
            bench.calls(1)
        })?;
        let each = |bytes: i64| bytes as f64 / KEPT as f64;
        report.add(part, "signalbox", 0, "live_bytes_at_once", each(at_once.kept));
        report.add(part, "signalbox", 0, "live_bytes", each(at_once.kept + later.kept));
        Ok(())
    };
    weigh("engine/binding", &mut |bench| (ROUND..ROUND + KEPT).try_for_each(|user| bench.register(user, 1)))?;
    weigh("engine/held", &mut |bench| (0..KEPT).try_for_each(|_| bench.call(true)))
}
