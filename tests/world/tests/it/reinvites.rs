//! An edge dies at every step of a re-INVITE, from either side: whoever asked hears a final answer, both ends go on, and the
//! call ends once.

use crate::town::{ACME, SECOND, Town};
use signalbox_actors::{CallPlan, LegId, Observed};
use signalbox_sip::Method;
use signalbox_world::{Crash, CrashPoint, Seeded, Weather, seeds};
use std::time::Duration;

/// A network on which every third datagram is lost.
const STORM: Weather = Weather { loss: 333, ..Weather::ROUGH };

/// A call between a phone and its PBX.
struct Story {
    town: Town,
    at_phone: LegId,
    at_pbx: LegId,
}

impl Story {
    fn begin(seed: u64) -> Self {
        let mut town = Town::varied(seed, Weather::FINE, &[ACME]);
        town.register_all();
        town.call(town.phones[0], CallPlan::to("600"));
        town.world.run(SECOND * 3);
        let at_phone = town.world.see_phone(town.phones[0]).calls().next().unwrap().leg;
        let at_pbx = town.world.see_pbx(town.pbxs[0]).calls().next().unwrap().leg;
        Self { town, at_phone, at_pbx }
    }

    /// One end holds the other, or lets it go.
    fn hold(&mut self, by_phone: bool, on: bool) -> bool {
        let (phone, pbx) = (self.town.phones[0], self.town.pbxs[0]);
        if !by_phone {
            return self.town.world.pbx(pbx, |p, now, out| p.hold(now, self.at_pbx, on, out));
        }
        self.town.world.phone(phone, |p, now, out| {
            if on { p.hold(now, self.at_phone, out) } else { p.resume(now, self.at_phone, out) }
        });
        true
    }

    fn modifying(&self) -> usize {
        let world = &self.town.world;
        world.see_phone(self.town.phones[0]).modifying() + world.see_pbx(self.town.pbxs[0]).modifying()
    }

    /// Until every re-INVITE has its answer.
    fn wait(&mut self, at_most: Duration) {
        let (phone, pbx, edge) = (self.town.phones[0], self.town.pbxs[0], self.town.edge);
        self.town.world.run_until(at_most, |world| {
            let open = world.see_phone(phone).modifying() + world.see_pbx(pbx).modifying();
            world.edge(edge).is_alive() && open == 0
        });
        self.town.world.run(SECOND);
    }

    /// What came of re-INVITEs, in order.
    fn answers(&self, by_phone: bool) -> Vec<u16> {
        let world = &self.town.world;
        let seen = match by_phone {
            true => world.see_phone(self.town.phones[0]).seen(),
            false => world.see_pbx(self.town.pbxs[0]).seen(),
        };
        let status = |what: &Observed| match what {
            Observed::InDialogAnswered { method: Method::Invite, status, .. } => Some(*status),
            _ => None,
        };
        seen.iter().filter_map(|seen| status(&seen.what)).collect()
    }

    /// Nothing is open; either end can hold and release the other, and hang up. Then everything is over, once.
    fn goes_on_to_its_end(mut self, what: &str, by_phone: bool) {
        assert_eq!(self.modifying(), 0, "{what}: a re-INVITE without an answer");
        for by_phone in [by_phone, !by_phone] {
            for on in [true, false] {
                let before = self.answers(by_phone).len();
                assert!(self.hold(by_phone, on), "{what}: the call is gone");
                self.town.world.run(SECOND);
                assert_eq!(self.answers(by_phone)[before..], [200], "{what}: by the phone {by_phone}");
            }
        }
        let (phone, pbx) = (self.town.phones[0], self.town.pbxs[0]);
        if by_phone {
            self.town.world.pbx(pbx, |p, now, out| p.hang_up(now, self.at_pbx, out));
        } else {
            self.town.world.phone(phone, |p, now, out| p.hang_up(now, self.at_phone, out));
        }
        self.town.world.run(SECOND);
        let edge = self.town.world.edge(self.town.edge);
        assert_eq!(edge.engine().unwrap().calls_active(), 0, "{what}");
        self.town.assert_good();
    }
}

/// Where and how the edge dies, after so many datagrams or commits since the re-INVITE was sent. False beyond its end.
fn die_at(story: &mut Story, point: u64, step: u64, how: Crash) -> bool {
    let (world, edge) = (&mut story.town.world, story.town.edge);
    let commit = world.edge(edge).commits() + step;
    let lives = world.edge(edge).lives();
    match point {
        0 => {
            let wanted = world.delivered() + step - 1;
            if !world.run_until(SECOND * 2, |world| world.delivered() >= wanted) {
                return false;
            }
            world.crash(edge, how);
            return true;
        }
        1 => world.edge_mut(edge).crash_at(CrashPoint::BetweenCommitAndSend(commit), how),
        2 => world.edge_mut(edge).crash_at(CrashPoint::AmidSending(commit), how),
        _ => world.edge_mut(edge).crash_at(CrashPoint::AmidCommit(commit), how),
    }
    world.run_until(SECOND * 2, |world| world.edge(edge).lives() > lives)
}

#[test]
fn promise_3_given_a_reinvite_when_the_edge_dies_at_any_step_of_it_then_both_ends_go_on() {
    let mut deaths = 0;
    for seed in seeds(2) {
        let _seeded = Seeded::new("promise_3_given_a_reinvite", seed);
        for (by_phone, storm, point) in (0..16_u64).map(|n| (n % 2 == 0, n / 2 % 2 == 0, n / 4)) {
            for step in 1.. {
                let how = if step % 2 == 0 { Crash::Process } else { Crash::Power };
                let mut story = Story::begin(seed + step);
                assert!(story.hold(by_phone, true));
                if !die_at(&mut story, point, step, how) {
                    break;
                }
                deaths += 1;
                if storm {
                    story.town.world.set_weather(STORM);
                    story.town.world.run(SECOND * 4);
                    story.town.world.set_weather(Weather::FINE);
                }
                story.wait(if storm { SECOND * 45 } else { SECOND * 6 });
                let what = format!("seed {seed}, by the phone {by_phone}, storm {storm}, {point}.{step}");
                story.goes_on_to_its_end(&what, by_phone);
            }
        }
    }
    assert!(deaths > 60, "only {deaths} points were found");
}

/// Both sides ask at once, and the edge dies.
#[test]
fn promise_3_given_reinvites_from_both_sides_when_the_edge_dies_then_both_hear_and_go_on() {
    for seed in seeds(6) {
        let _seeded = Seeded::new("promise_3_given_reinvites_from_both", seed);
        let mut story = Story::begin(seed);
        story.hold(true, true);
        let apart = Duration::from_micros(story.town.world.random().below(3_000));
        story.town.world.run(apart);
        story.hold(false, true);
        let until = Duration::from_micros(story.town.world.random().below(12_000));
        story.town.world.run(until);
        story.town.world.crash(story.town.edge, Crash::Power);
        story.wait(SECOND * 6);
        story.goes_on_to_its_end(&format!("seed {seed}"), true);
    }
}
