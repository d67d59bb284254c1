//! Two edges of a cluster: phones register at one, their calls come in at the other.

use crate::town::{ACME, INSIDE, MINUTE, SECOND, listed};
use signalbox_actors::{Answer, PbxProfile};
use signalbox_base::{Cidr, EventSeq, JournalId, Text, Transport};
use signalbox_engine::Settings;
use signalbox_engine::remote::{self, Liveness, Update, Version};
use signalbox_engine::settings::{ListenerSettings, Serves};
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
                let about = (event.kind.as_str(), &Text::new(&event.subject));
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
            let to = format!("sip:{}", self.world.see_phone(phone).aor());
            let from = format!("sip:600@{}", ACME.domain);
            let leg = self
                .world
                .pbx(self.caller, |p, now, out| p.originate(now, &to, &from, hosted(INSIDE_B), out));
            self.world.run(SECOND * 3);
            if let Some(leg) = leg {
                self.world.pbx(self.caller, |p, now, out| p.hang_up(now, leg, out));
            }
            self.share();
        }
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
        let to = format!("sip:{}", pair.world.see_phone(pair.phones[0]).aor());
        let from = format!("sip:600@{}", ACME.domain);
        pair.world.pbx(pair.caller, |p, now, out| p.originate(now, &to, &from, hosted(INSIDE_B), out));
        pair.world.run(SECOND * 2);
        pair.world.crash(pair.edges[which], Crash::Process);
        pair.world.run(SECOND * 2);
        pair.share();
        pair.calls(2);
        pair.assert_good();
    }
}
