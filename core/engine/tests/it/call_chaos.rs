//! Whatever the network and the power do, every call ends on both sides, and every answered one has exactly one record
//! (promises 2 and 3). The engine itself asserts behind each record of legs that the fold has them as they live.

use crate::call_peers::{Life, Ms, Peer, Wire};
use crate::call_support::{PBX, PHONE, with_phone};
use crate::growing::Growing;
use crate::support::{World, inside};
use proptest::prelude::*;
use signalbox_engine::Entropy;
use std::collections::BTreeMap;
use std::time::Duration;

const STEP: Ms = 50;
/// Everything has ended by then: calls last 45 s at most, and each side gives up 64·T1 after its last word.
const END: Ms = 420_000;
/// No crash and no new call after this.
const CALM: Ms = 60_000;

struct Chaos {
    world: World,
    phone: Peer,
    pbx: Peer,
    wire: Wire,
    now: Ms,
    /// A snapshot that grows an entry at a time while calls go on; a crash ends it.
    snapshot: Option<Growing>,
    snapshots: u32,
}

/// No snapshot of less than so many entries says much.
const ENTRIES_MIN: usize = 3;

fn run(seed: u64, crashes: u64) -> Chaos {
    let (world, phone) = with_phone();
    let mut it = Chaos {
        world,
        phone: Peer::new(phone.flow),
        pbx: Peer::new(inside(PBX)),
        wire: Wire::new(seed),
        now: 0,
        snapshot: None,
        snapshots: 0,
    };
    it.world.auto_commit = false;
    it.pbx.answers = !it.wire.random.next_u64().is_multiple_of(4);
    it.phone.answers = !it.wire.random.next_u64().is_multiple_of(4);
    // Only one side of each call hangs up by itself: the other must be told.
    it.pbx.hangs_up_callee = it.wire.random.next_u64().is_multiple_of(2);
    it.phone.hangs_up_callee = it.wire.random.next_u64().is_multiple_of(2);
    for number in 0..4 {
        it.start_call(number);
    }
    while it.now < END {
        it.step(crashes);
    }
    it.world.commit();
    it
}

impl Chaos {
    fn start_call(&mut self, number: u64) {
        let random = &mut self.wire.random;
        // Somebody who hears nothing for long gives up in the end: 100 may leave before the call is on disk.
        let patience = if random.next_u64().is_multiple_of(3) { 8_000 } else { 90_000 };
        let cancel = Some(self.now + random.next_u64() % patience);
        let lasts = self.now + 5_000 + random.next_u64() % 40_000;
        if number.is_multiple_of(2) {
            let hang_up = (!self.pbx.hangs_up_callee).then_some(lasts);
            self.phone.call(
                self.now,
                "sip:401@acme.test",
                "sip:402@acme.test",
                &format!("out{number}"),
                cancel,
                hang_up,
            );
        } else {
            let hang_up = (!self.phone.hangs_up_callee).then_some(lasts);
            self.pbx.call(
                self.now,
                "sip:402@acme.test",
                "sip:401@acme.test",
                &format!("in{number}"),
                cancel,
                hang_up,
            );
        }
    }

    fn step(&mut self, crashes: u64) {
        self.now += STEP;
        self.world.advance(Duration::from_millis(STEP));
        self.collect();
        for (flow, bytes) in self.wire.due_at_edge(self.now) {
            self.world.deliver(flow, bytes);
            self.collect();
            let fate = self.wire.random.next_u64() % 1000;
            if self.now < CALM && fate < crashes {
                self.crash(fate.is_multiple_of(2));
            } else if !fate.is_multiple_of(3) {
                self.world.commit();
                self.collect();
            }
        }
        if self.wire.random.next_u64().is_multiple_of(2) {
            self.world.commit();
            self.collect();
        }
        self.grow_snapshot();
        for bytes in self.wire.due_at(self.now, PHONE) {
            self.phone.hear(self.now, &bytes, &mut self.wire.random);
        }
        for bytes in self.wire.due_at(self.now, PBX) {
            self.pbx.hear(self.now, &bytes, &mut self.wire.random);
        }
        for (flow, out) in
            [(self.phone.flow, self.phone.tick(self.now)), (self.pbx.flow, self.pbx.tick(self.now))]
        {
            for bytes in out {
                self.wire.post(self.now, flow, &bytes);
            }
        }
    }

    /// Power is lost: with what was not committed, or just behind the commit and before anything it released was sent.
    fn crash(&mut self, behind_the_commit: bool) {
        if behind_the_commit {
            self.world.commit();
            self.world.take();
        }
        self.snapshot = None;
        let before = std::mem::replace(&mut self.world, World::new(crate::support::acme()));
        self.world = before.crash_and_restart(Duration::from_secs(1));
        self.world.auto_commit = false;
        self.collect();
    }

    fn collect(&mut self) {
        for sent in self.world.take() {
            self.wire.carry(self.now, &sent);
        }
    }

    /// A snapshot and its tail are the state that lives, whatever came between its steps.
    fn grow_snapshot(&mut self) {
        let growing = self.snapshot.get_or_insert_with(|| Growing::begin(&self.world));
        if self.wire.random.next_u64().is_multiple_of(8) && growing.step(&self.world, 1) {
            let whole = self.snapshot.take().expect("it was just looked at");
            self.snapshots += u32::from(whole.len() >= ENTRIES_MIN);
            whole.assert_gives_what_lives(&self.world);
        }
    }

    /// No leg alive, one record a call.
    fn verdict(&self, seed: u64) -> Result<(), TestCaseError> {
        for (name, peer) in [("phone", &self.phone), ("pbx", &self.pbx)] {
            for call in &peer.calls {
                prop_assert_eq!(
                    call.life,
                    Life::Over,
                    "seed {}: {} still has {}: {:#?}",
                    seed,
                    name,
                    &call.call_id,
                    call
                );
            }
        }
        prop_assert_eq!(self.world.engine.calls_active(), 0, "seed {}", seed);
        let mut kinds: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for record in self.world.journal.iter().filter(|r| r.kind.starts_with("call.")) {
            kinds.entry(&record.correlation).or_default().push(record.kind.trim_end_matches(".v1"));
        }
        for (uid, seen) in &kinds {
            let count = |kind: &str| seen.iter().filter(|k| **k == kind).count();
            prop_assert_eq!(count("call.attempted"), 1, "seed {}: {} {:?}", seed, uid, seen);
            prop_assert_eq!(count("call.ended"), count("call.answered"), "seed {}: {} {:?}", seed, uid, seen);
            prop_assert_eq!(
                count("call.ended") + count("call.failed"),
                1,
                "seed {}: {} {:?}",
                seed,
                uid,
                seen
            );
        }
        // Whoever heard a 200 to its INVITE has its record, by its own Call-ID.
        let ended: Vec<_> = self.world.records("call.ended").iter().map(|r| r.json()).collect();
        for call in self.phone.calls.iter().chain(&self.pbx.calls).filter(|c| c.heard_answer()) {
            let own = ended.iter().filter(|cdr| cdr["ingress_call_id"] == *call.call_id).count();
            prop_assert_eq!(
                own,
                1,
                "seed {}: records of {} whose caller heard an answer",
                seed,
                &call.call_id
            );
        }
        prop_assert!(self.snapshots > 0, "seed {}: no snapshot had calls", seed);
        self.world.assert_replay_equals_live();
        Ok(())
    }
}

fn cases(default: u32) -> ProptestConfig {
    let effort = std::env::var("SIGNALBOX_EFFORT").ok().and_then(|e| e.parse::<u32>().ok()).unwrap_or(1);
    ProptestConfig {
        cases: default.saturating_mul(effort.max(1)),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn given_a_bad_network_then_all_calls_end_on_both_sides_with_one_record_each(seed: u64) {
        run(seed, 0).verdict(seed)?;
    }

    #[test]
    fn given_a_bad_network_and_crashes_then_all_calls_end_on_both_sides_with_one_record_each(seed: u64) {
        run(seed, 60).verdict(seed)?;
    }
}
