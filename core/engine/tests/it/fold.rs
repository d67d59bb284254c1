//! Promise 2: whatever happened, the journal folded anew is the state that was lived, and so are a snapshot and its tail.

use crate::call_support::{established, hang_up, phone_calls, with_phone};
use crate::growing::Growing;
use crate::support::*;
use proptest::prelude::*;
use signalbox_base::Text;
use signalbox_engine::contract::BackendWish;
use signalbox_engine::state::{self, snapshot};
use signalbox_engine::{Command, Settings};
use std::sync::Arc;
use std::time::Duration;

const PBXS: [&str; 2] = ["10.0.1.1:5060", "10.0.1.2:5060"];

fn pool() -> Settings {
    let mut settings = acme();
    settings.tenants[0].backends.push(backend("pbx-2", PBXS[1], 1, None));
    settings
}

#[derive(Clone, Debug)]
enum Step {
    Register { phone: usize, secs: u32, status: u16 },
    RemoveAll { phone: usize },
    Move { phone: usize, port: u16 },
    Wait { secs: u64 },
    Wish { backend: usize, wish: BackendWish },
    Reload,
    RemoveByAdmin { phone: usize },
    Snapshot,
}

fn step() -> impl Strategy<Value = Step> {
    let wish = prop::sample::select(vec![BackendWish::Enable, BackendWish::Drain, BackendWish::Disable]);
    prop_oneof![
        6 => (0..4usize, prop::sample::select(vec![0u32, 60, 61, 600]), prop::sample::select(vec![200u16, 200, 200, 403, 401, 503]))
            .prop_map(|(phone, secs, status)| Step::Register { phone, secs, status }),
        1 => (0..4usize).prop_map(|phone| Step::RemoveAll { phone }),
        2 => (0..4usize, 1000..1004u16).prop_map(|(phone, port)| Step::Move { phone, port }),
        3 => (1..90u64).prop_map(|secs| Step::Wait { secs }),
        1 => (0..2usize, wish).prop_map(|(backend, wish)| Step::Wish { backend, wish }),
        1 => Just(Step::Reload),
        1 => (0..4usize).prop_map(|phone| Step::RemoveByAdmin { phone }),
        2 => Just(Step::Snapshot),
    ]
}

fn answer(world: &mut World, status: u16, secs: u32) {
    for pbx in PBXS {
        for sent in world.take_to(addr(pbx)) {
            let text = if status == 200 { granted(&sent, secs) } else { response(&sent, status, "") };
            world.deliver(inside(pbx), text);
        }
    }
}

fn run(world: &mut World, phones: &mut [Phone], step: &Step, at: u64) {
    match step {
        Step::Register { phone, secs, status } => {
            let text = phones[*phone].register(*secs);
            world.deliver(phones[*phone].flow, text);
            answer(world, *status, *secs);
            answer(world, *status, *secs);
        }
        Step::RemoveAll { phone } => {
            let text = phones[*phone].register_with("Contact: *\r\nExpires: 0\r\n");
            world.deliver(phones[*phone].flow, text);
            answer(world, 200, 0);
        }
        Step::Move { phone, port } => {
            let ip = phones[*phone].flow.remote.ip();
            phones[*phone].flow = outside(&format!("{ip}:{port}"));
        }
        Step::Wait { secs } => world.advance(Duration::from_secs(*secs)),
        Step::Wish { backend, wish } => {
            let name = Text::from(format!("pbx-{}", backend + 1));
            world.command(Command::Backend { name, wish: *wish, actor: Text::new("root") });
        }
        Step::Reload => {
            let settings = Arc::new(pool());
            world.command(Command::Reload {
                settings,
                revision: at,
                sha256: Text::new("00"),
                effective: Text::new("{\"a\":1}"),
                diff: Vec::new(),
                actor: Text::new("root"),
            });
        }
        Step::RemoveByAdmin { phone } => {
            let aor = Text::from(format!("{}@{}", phones[*phone].user, phones[*phone].domain));
            world.command(Command::RemoveBinding { aor, tenant: None, actor: Text::new("root") });
        }
        Step::Snapshot => {}
    }
    world.take();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn promise_2_live_equals_replay_equals_snapshot_and_tail(steps in prop::collection::vec(step(), 1..40)) {
        let mut world = World::new(pool());
        let mut phones: Vec<Phone> = [("401", "192.0.2.1"), ("401", "192.0.2.2"), ("402", "192.0.2.3"), ("403", "192.0.2.4")]
            .iter()
            .map(|(user, ip)| Phone::new(user, "acme.test", &format!("{ip}:5060")))
            .collect();
        // A snapshot is taken an entry at a time, between the steps that follow.
        let mut taken: Option<(Growing, bool)> = None;
        for (at, step) in steps.iter().enumerate() {
            run(&mut world, &mut phones, step, at as u64 + 1);
            if matches!(step, Step::Snapshot) && taken.is_none() {
                taken = Some((Growing::begin(&world), false));
            }
            if let Some((growing, done)) = &mut taken
                && !*done
            {
                *done = growing.step(&world, 1);
            }
        }
        world.assert_replay_equals_live();
        if let Some((mut growing, done)) = taken {
            prop_assert!(done || growing.step(&world, usize::MAX));
            growing.assert_gives_what_lives(&world);
        }
    }
}

#[test]
fn given_another_fold_or_a_gap_then_it_is_refused_with_the_reason() {
    let mut world = World::new(acme());
    let mut phone = Phone::new("401", "acme.test", "192.0.2.1:5060");
    register(&mut world, &mut phone, "10.0.1.1:5060", 60);
    register(&mut world, &mut phone, "10.0.1.1:5060", 60);
    let wrong = snapshot::read(JOURNAL, state::FOLD_VERSION + 1, world.engine.state().last(), vec![]);
    assert!(wrong.is_err_and(|e| e.to_string().contains("fold version")));
    let mut state = state::State::new(JOURNAL);
    state::apply(&mut state, &world.journal[0].stored()).unwrap();
    let gap = state::apply(&mut state, &world.journal[2].stored());
    assert!(matches!(gap, Err(state::FoldError::Gap { .. })));
}

/// Ended calls stay for the redo window, so that thousands of them are there: no look at the engine takes them all.
#[test]
fn given_calls_that_begin_change_end_and_are_forgotten_between_the_steps_of_a_snapshot_then_it_and_its_tail_are_what_lives()
 {
    for first_at in 0..6 {
        let (mut world, phone) = with_phone();
        // Two that have ended, and will be forgotten; two that go on.
        for (id, ends) in [("e1", true), ("g1", false), ("e2", true), ("g2", false)] {
            let mut call = established(&mut world, &phone, id);
            if ends {
                hang_up(&mut world, &mut call);
            }
        }
        let mut growing = Growing::begin(&world);
        assert!(!growing.step(&world, first_at), "four calls, a phone and the rest are more than {first_at}");
        // One ends and one begins behind or before the cursor, as their random uids have it.
        let mut late = established(&mut world, &phone, "n1");
        let _ringing = phone_calls(&mut world, &phone, "n2");
        world.take();
        growing.step(&world, 1);
        hang_up(&mut world, &mut late);
        growing.step(&world, 1);
        let mut again = growing.clone();
        assert!(again.step(&world, usize::MAX));
        again.assert_gives_what_lives(&world);
        // The ended ones fall out of the redo window with the next call's record, the answered ones lose their 2xx.
        world.advance(Duration::from_secs(65));
        world.take();
        phone_calls(&mut world, &phone, "n3");
        assert!(growing.step(&world, usize::MAX));
        growing.assert_gives_what_lives(&world);
    }
}

/// The record of one call forgets others: also when that record is in the snapshot already.
#[test]
fn given_a_snapshot_that_holds_the_last_calls_record_then_what_that_record_made_of_others_is_made_again() {
    let mut proven = 0;
    for seed in 0..12 {
        let (mut world, phone) = with_phone();
        world.entropy = Seeded(seed);
        let mut call = established(&mut world, &phone, "e");
        hang_up(&mut world, &mut call);
        let mut growing = Growing::begin(&world);
        // The ended call is written; the next one's first record forgets it.
        assert!(!growing.step(&world, 2));
        world.advance(Duration::from_secs(65));
        world.take();
        phone_calls(&mut world, &phone, "n");
        growing.step(&world, 1);
        // Only if the new one's random uid is the greater one it is written too.
        proven += u32::from(growing.last_is_a_call());
        assert!(growing.step(&world, usize::MAX));
        growing.assert_gives_what_lives(&world);
    }
    assert!(proven > 0);
}

/// Lines of a dump about AoRs.
fn aors(state: &state::State) -> Vec<String> {
    dump(state).lines().filter(|line| line.starts_with("acme/")).map(str::to_owned).collect()
}

/// A history that begins in the middle, as after retention, folded without a snapshot, as after an upgrade.
fn fold_behind(journal: &[Record], first: usize) -> state::State {
    let mut state = state::State::new(JOURNAL);
    for record in &journal[first..] {
        state::apply(&mut state, &record.stored()).expect("a retained history folds");
    }
    state
}

fn refresh(world: &mut World, phone: &mut Phone, lines: &str) {
    world.advance(Duration::from_secs(100));
    world.take();
    let text =
        phone.register_with(&format!("Contact: {};+sip.instance=\"<urn:uuid:7>\"\r\n{lines}", phone.contact));
    world.deliver(phone.flow, text);
    answer(world, 200, 120);
}

#[test]
fn given_a_history_whose_beginning_was_retired_when_folded_anew_then_no_phone_is_lost() {
    let mut world = World::new(acme());
    let mut phone = Phone::new("401", "acme.test", "192.0.2.1:5060");
    phone.contact = "<sip:401:word@192.0.2.1:5060>;q=0.7".to_owned();
    let said = "Expires: 120\r\nAllow: INVITE, BYE\r\nPath: <sip:p:word@192.0.2.1;lr>\r\nSupported: path\r\n";
    for _ in 0..100 {
        refresh(&mut world, &mut phone, said);
    }
    let lived = aors(world.engine.state());
    assert_eq!(lived.len(), 1);
    let told: Vec<usize> = (0..world.journal.len())
        .filter(|at| world.journal[*at].kind.starts_with("registration.refreshed"))
        .collect();
    assert!(told.len() > 90);
    let size = |at: &usize| world.journal[*at].private.len();
    let plain = told.iter().map(size).min().unwrap();
    let whole: Vec<usize> = told.iter().copied().filter(|at| size(at) > plain + 40).collect();
    assert!((2..=4).contains(&whole.len()), "one an hour is told whole: {whole:?} of {told:?}");
    // Wherever it is cut: behind the last whole one the phone can still be called, before it nothing is missing.
    for first in 1..=*told.last().unwrap() {
        let state = fold_behind(&world.journal, first);
        let (aor, binding) = state.registrations().over_flow(&phone.flow).next().expect("the phone is there");
        assert_eq!((&*aor.name, &*aor.backend), ("acme/401@acme.test", "pbx-1"));
        assert_eq!(binding.contact, "sip:401:word@192.0.2.1:5060");
        if first <= *whole.last().unwrap() {
            assert_eq!(aors(&state), lived, "cut before record {first}");
        }
    }
    world.assert_replay_equals_live();
}

#[test]
fn given_a_phone_that_said_other_things_in_a_refresh_told_whole_then_live_equals_replay() {
    let mut world = World::new(acme());
    let mut phone = Phone::new("401", "acme.test", "192.0.2.1:5060");
    let said = ["", "Allow: INVITE\r\n", "Path: <sip:p;lr>\r\nSupported: path\r\nAllow: BYE , INVITE\r\n"];
    for at in 0..120 {
        phone.call_id = format!("boot-{}", at / 9);
        phone.contact = format!("<sip:401@192.0.2.1:5060>;q=0.{}", at / 7 % 10);
        let lines = format!("Expires: 120\r\n{}", said[at / 5 % 3]);
        refresh(&mut world, &mut phone, &lines);
        world.assert_replay_equals_live();
    }
}
