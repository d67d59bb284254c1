//! Promise 2: whatever happened, the journal folded anew is the state that was lived, and so are a snapshot and its tail.

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
                diff: vec![Text::new("a: 0 → 1")],
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
    fn live_equals_replay_equals_snapshot_and_tail(steps in prop::collection::vec(step(), 1..40)) {
        let mut world = World::new(pool());
        let mut phones: Vec<Phone> = [("401", "192.0.2.1"), ("401", "192.0.2.2"), ("402", "192.0.2.3"), ("403", "192.0.2.4")]
            .iter()
            .map(|(user, ip)| Phone::new(user, "acme.test", &format!("{ip}:5060")))
            .collect();
        // A snapshot is taken an entry at a time, between the steps that follow.
        let mut taken: Option<(signalbox_base::EventSeq, snapshot::Cursor, Vec<snapshot::Entry>, bool)> = None;
        for (at, step) in steps.iter().enumerate() {
            run(&mut world, &mut phones, step, at as u64 + 1);
            if matches!(step, Step::Snapshot) && taken.is_none() {
                taken = Some((world.engine.state().last(), snapshot::Cursor::default(), vec![], false));
            }
            if let Some((_, cursor, entries, done)) = &mut taken
                && !*done
            {
                *done = snapshot::write(world.engine.state(), cursor, 1, entries);
            }
        }
        let lived = dump(world.engine.state());
        prop_assert_eq!(&lived, &dump(&replay(&world.journal)));
        if let Some((begun, mut cursor, mut entries, done)) = taken {
            if !done {
                prop_assert!(snapshot::write(world.engine.state(), &mut cursor, usize::MAX, &mut entries));
            }
            let mut state = snapshot::read(JOURNAL, state::FOLD_VERSION, begun, entries).expect("what was written reads");
            for record in world.journal.iter().filter(|r| r.seq > begun) {
                state::apply(&mut state, &record.stored()).expect("the tail folds");
            }
            prop_assert_eq!(&lived, &dump(&state));
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
