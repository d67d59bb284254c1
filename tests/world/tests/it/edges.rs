//! Two edges of a cluster: phones register at one, their calls come in at the other.

use crate::town::{ACME, INSIDE, MINUTE, SECOND, listed};
use signalbox_actors::{Answer, LegId, PbxProfile};
use signalbox_base::{Cidr, EventSeq, JournalId, Text, Transport};
use signalbox_engine::remote::{self, Liveness, Update, Version};
use signalbox_engine::settings::{ListenerSettings, Serves};
use signalbox_engine::{Command, Settings};
use signalbox_schemas::Event;
use signalbox_schemas::backend::BackendStateChanged;
use signalbox_schemas::words::BackendState;
use signalbox_world::{
    BackendPlan, Crash, EdgeId, PbxId, PhoneId, TenantPlan, Weather, World, edge_settings, hosted,
};
use std::time::Duration;

/// Edge b, and the PBX that calls there.
const OUTSIDE_B: &str = "192.0.2.2:5060";
const INSIDE_B: &str = "10.0.0.6:5060";
const CALLER: &str = "10.0.1.2";
/// Where the edges hear each other.
const EDGES: [&str; 2] = ["10.0.9.1:5070", "10.0.9.2:5070"];
const NAMES: [&str; 2] = ["edge-a", "edge-b"];

struct Pair {
    world: World,
    edges: [EdgeId; 2],
    caller: PbxId,
    phones: Vec<PhoneId>,
    /// The last event of each edge that the other knows.
    told: [EventSeq; 2],
}

fn clustered(mut settings: Settings, at: &str) -> Settings {
    let network = u16::try_from(settings.networks.len()).expect("a few");
    settings.networks.push(Text::new("edges"));
    settings.listeners.push(ListenerSettings {
        network,
        transport: Transport::Udp,
        address: hosted(at),
        advertise: Text::new(at),
        serves: Serves { endpoints: false, backends: false, trunks: false, edges: true },
        domain: None,
    });
    for listener in settings.listeners.iter_mut().filter(|l| l.network != network) {
        listener.serves.edges = false;
    }
    settings.edges = EDGES.iter().map(|edge| Cidr::host(hosted(edge).ip())).collect();
    settings
}

impl Pair {
    /// Everybody has registered at edge a, and edge b knows.
    fn new(seed: u64, weather: Weather) -> Self {
        let mut world = World::new(seed, weather);
        world.add_pbx(ACME.tenant, ACME.pbx_profile());
        let profile = PbxProfile::new(hosted(CALLER), ACME.domain, hosted(INSIDE_B).ip());
        let caller = world.add_pbx(ACME.tenant, profile);
        let phones: Vec<_> =
            (0..ACME.phones).map(|n| world.add_phone(ACME.tenant, ACME.phone_profile(n), None)).collect();
        let of = |pbx| TenantPlan { backends: vec![BackendPlan::new("pbx", pbx)], ..ACME.plan() };
        let a = edge_settings(NAMES[0], hosted(crate::town::OUTSIDE), hosted(INSIDE), &[of(ACME.pbx)]);
        let b = edge_settings(NAMES[1], hosted(OUTSIDE_B), hosted(INSIDE_B), &[of(CALLER)]);
        let edges = [world.add_edge(clustered(a, EDGES[0])), world.add_edge(clustered(b, EDGES[1]))];
        let mut pair = Self { world, edges, caller, phones, told: [EventSeq(0); 2] };
        pair.world.run(SECOND);
        for phone in pair.phones.clone() {
            pair.world.phone(phone, |p, now, out| p.register(now, out));
        }
        let all = |world: &World| world.phones().all(|p| p.registered_until().is_some());
        assert!(pair.world.run_until(MINUTE * 2, all), "not everybody could register");
        pair.world.run(SECOND);
        pair.share();
        pair
    }

    /// Each edge hears that the other lives, and what it has recorded since.
    fn share(&mut self) {
        for (from, to) in [(0, 1), (1, 0)] {
            let edge = Text::new(NAMES[from]);
            let address = Some(hosted(EDGES[from]));
            let alive = Update::Peer { edge: edge.clone(), address, liveness: Liveness::Alive };
            self.world.tell(self.edges[to], &[alive]);
            let journal = JournalId(from as u128 + 1);
            let mut updates = Vec::new();
            for event in self.world.events(self.edges[from]) {
                if event.seq <= self.told[from] {
                    continue;
                }
                self.told[from] = event.seq;
                let version = Version { journal, seq: event.seq, at: event.wall };
                let mut data = Vec::new();
                event.event.write_data(&mut data);
                let about = (event.kind.as_str(), &*event.tenant, &Text::new(&event.subject));
                updates.extend(remote::read(&edge, version, about, &data).expect("events read"));
            }
            self.world.tell(self.edges[to], &updates);
        }
    }

    /// The PBX at edge b calls phones of edge a, which answer or not; either end hangs up.
    fn calls(&mut self, count: u64) {
        for _ in 0..count {
            let phone = *self.world.random().pick(&self.phones.clone());
            let answer = *self.world.random().pick(&[
                Answer::Status(486),
                Answer::After { ring: Duration::from_millis(300), talk: Some(SECOND * 2) },
                Answer::After { ring: Duration::from_millis(50), talk: None },
                Answer::After { ring: Duration::ZERO, talk: Some(SECOND) },
            ]);
            self.world.phone(phone, |p, _, _| p.set_answer(answer));
            let leg = self.dial(phone);
            self.world.run(SECOND * 3);
            self.world.pbx(self.caller, |p, now, out| p.hang_up(now, leg, out));
            self.share();
        }
    }

    /// The PBX at edge b calls a phone of edge a.
    fn dial(&mut self, phone: PhoneId) -> LegId {
        let to = format!("sip:{}", self.world.see_phone(phone).aor());
        let from = format!("sip:600@{}", ACME.domain);
        let leg =
            self.world.pbx(self.caller, |p, now, out| p.originate(now, &to, &from, hosted(INSIDE_B), out));
        leg.expect("a PBX has room for a call")
    }

    /// What the PBX heard instead of an answer.
    fn refusal(&self, leg: LegId) -> Option<u16> {
        self.world.see_pbx(self.caller).seen_call(leg)?.failed.map(|(_, status)| status)
    }

    /// Edge b hears that edge a lives, or does not.
    fn judge(&mut self, liveness: Liveness) {
        let edge = Text::new(NAMES[0]);
        self.world.tell(self.edges[1], &[Update::Peer { edge, address: Some(hosted(EDGES[0])), liveness }]);
    }

    /// Nobody has a call any more, and nothing is wrong.
    #[track_caller]
    fn assert_good(&mut self) {
        for _ in 0..60 {
            self.world.run(SECOND * 10);
            self.share();
            if self.world.is_at_rest() {
                break;
            }
        }
        self.world.run(SECOND * 2);
        for edge in self.edges {
            self.world.run_until_durable(edge);
        }
        let faults = self.world.judge();
        assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), listed(&faults));
        let calls_at =
            |edge| self.world.events(edge).iter().filter(|event| event.kind.starts_with("call.")).count();
        assert_eq!(calls_at(self.edges[0]), 0, "the hop is no call");
        assert!(calls_at(self.edges[1]) > 0);
    }
}

#[test]
fn given_phones_of_one_edge_when_they_are_called_at_the_other_then_every_call_ends_on_both_sides_once() {
    let mut pair = Pair::new(1, Weather::FINE);
    pair.calls(12);
    pair.assert_good();
}

#[test]
fn given_rough_weather_when_calls_cross_edges_then_no_leg_is_left_and_each_answered_call_has_one_record() {
    for seed in 2..6 {
        let mut pair = Pair::new(seed, Weather::ROUGH);
        pair.calls(10);
        pair.assert_good();
    }
}

#[test]
fn given_calls_across_edges_when_either_edge_dies_and_comes_back_then_no_leg_is_left() {
    for (seed, which) in [(7, 0), (8, 1)] {
        let mut pair = Pair::new(seed, Weather::FINE);
        pair.calls(2);
        for phone in pair.phones.clone() {
            pair.world.phone(phone, |p, _, _| {
                p.set_answer(Answer::After { ring: Duration::from_millis(100), talk: Some(SECOND * 8) });
            });
        }
        pair.dial(pair.phones[0]);
        pair.world.run(SECOND * 2);
        pair.world.crash(pair.edges[which], Crash::Process);
        pair.world.run(SECOND * 2);
        pair.share();
        pair.calls(2);
        pair.assert_good();
    }
}

#[test]
fn given_an_edge_that_says_nothing_when_its_phone_is_called_then_the_caller_hears_480_in_seconds() {
    let mut pair = Pair::new(9, Weather::FINE);
    pair.calls(1);
    pair.world.set_restart_after(MINUTE);
    // Nothing is heard of it, and nobody has judged yet.
    pair.world.crash(pair.edges[0], Crash::Process);
    let leg = pair.dial(pair.phones[0]);
    pair.world.run(SECOND);
    assert_eq!(pair.refusal(leg), None, "it may be busy");
    pair.world.run(SECOND * 3 / 2);
    assert_eq!(pair.refusal(leg), Some(480));
    pair.world.run(MINUTE);
    pair.calls(2);
    pair.assert_good();
}

#[test]
fn given_a_phone_that_rings_when_its_edge_is_lost_or_another_process_then_the_caller_hears_480_at_once() {
    // It is away for longer than its lease, or was started again before anybody missed it.
    for (seed, away) in [(10, MINUTE * 2), (11, SECOND)] {
        let mut pair = Pair::new(seed, Weather::FINE);
        pair.calls(1);
        pair.world.set_restart_after(away);
        let phone = pair.phones[0];
        let ring = Answer::After { ring: SECOND * 40, talk: None };
        pair.world.phone(phone, |p, _, _| p.set_answer(ring));
        let leg = pair.dial(phone);
        pair.world.run(SECOND * 2);
        pair.world.crash(pair.edges[0], Crash::Process);
        pair.world.run(SECOND * 5);
        assert_eq!(pair.refusal(leg), None, "it still rings, for all that is known");
        pair.judge(Liveness::Lost);
        if away == SECOND {
            pair.judge(Liveness::Alive);
        }
        pair.world.run(SECOND / 2);
        assert_eq!(pair.refusal(leg), Some(480));
        pair.world.run(MINUTE * 4);
        pair.share();
        pair.calls(2);
        pair.assert_good();
    }
}

#[test]
fn given_a_phone_that_rings_when_its_edge_stops_in_order_then_the_caller_and_the_phone_hear_it() {
    let mut pair = Pair::new(12, Weather::FINE);
    let phone = pair.phones[0];
    pair.world.phone(phone, |p, _, _| p.set_answer(Answer::Ring));
    let leg = pair.dial(phone);
    pair.world.run(SECOND);
    pair.world.command(pair.edges[0], Command::Stop { clean: true });
    pair.world.run(SECOND);
    assert_eq!(pair.refusal(leg), Some(480));
    assert_eq!(pair.world.see_phone(phone).legs_alive(), 0, "it does not ring any more");
    pair.assert_good();
}

#[test]
fn given_a_backend_that_others_find_down_when_an_edge_starts_then_it_is_passed_over_until_its_own_probes() {
    for told in [false, true] {
        let mut world = World::new(13, Weather::FINE);
        let profile = |local| PbxProfile { local: hosted(local), ..ACME.pbx_profile() };
        let silent = world.add_pbx(ACME.tenant, profile(ACME.pbx));
        let other = world.add_pbx(ACME.tenant, profile(CALLER));
        let phones = [0, 1].map(|n| world.add_phone(ACME.tenant, ACME.phone_profile(n), None));
        world.pbx(silent, |p, _, _| p.stall());
        let backends = vec![
            BackendPlan::new("silent", ACME.pbx),
            BackendPlan { priority: 2, ..BackendPlan::new("other", CALLER) },
        ];
        let plan = TenantPlan { backends, ..ACME.plan() };
        let settings = edge_settings(NAMES[0], hosted(crate::town::OUTSIDE), hosted(INSIDE), &[plan]);
        let edge = world.add_edge(settings);
        if told {
            let (from, at) = (Text::new(NAMES[1]), world.now().wall);
            let version = Version { journal: JournalId(2), seq: EventSeq(1), at };
            let event = Event::from(BackendStateChanged { to: BackendState::Down, ..Default::default() });
            let mut data = Vec::new();
            event.write_data(&mut data);
            let about = (event.kind().versioned(), ACME.tenant, &Text::new("silent"));
            let judged = remote::read(&from, version, about, &data).expect("events read");
            let alive = Update::Peer { edge: from.clone(), address: None, liveness: Liveness::Alive };
            world.tell(edge, &[alive, judged.expect("it is a judgement")]);
        }
        world.phone(phones[0], |p, now, out| p.register(now, out));
        world.run(SECOND);
        let is_there = |world: &World, n: usize| world.see_phone(phones[n]).registered_until().is_some();
        assert_eq!(is_there(&world, 0), told, "it waited for the silent one first");
        // Its own probes have the last word, whatever the others still say.
        world.pbx(silent, |p, now, _| p.start(now.mono));
        world.run(MINUTE);
        world.phone(phones[1], |p, now, out| p.register(now, out));
        world.run(SECOND);
        let aor = world.see_phone(phones[1]).aor();
        let now = world.now().mono;
        let at = |pbx| world.see_pbx(pbx).contacts(&aor, now).len();
        assert_eq!((is_there(&world, 1), at(silent), at(other)), (true, 1, 0));
    }
}
