//! What is stored is found by each way, and memory is given back.

use super::*;
use proptest::prelude::*;
use signalbox_base::ListenerId;

fn flow(at: u8) -> Flow {
    let local = SocketAddr::from(([192, 0, 2, 1], 5060));
    Flow::udp(ListenerId(0), local, SocketAddr::from(([198, 51, 100, at], 5060)))
}

fn binding(key: u8, at: u8) -> Binding {
    Binding {
        // Halves of keys agree: what has the same half must still be told apart.
        key: BindingKey(u128::from(key) << 64),
        contact: Text::new("sip:a@198.51.100.1"),
        flow: flow(at).into(),
        path: None,
        instance: None,
        reg_id: None,
        q: None,
        call_id: Text::new("x"),
        cseq: 1,
        expires_at: Default::default(),
        granted_secs: 60,
        behind_nat: false,
        user_agent: None,
        methods: None,
        added_at: Default::default(),
        seq: EventSeq(1),
    }
}

fn with_agent(key: u8, agent: &str) -> Binding {
    Binding { user_agent: Some(Text::new(agent)), ..binding(key, 0) }
}

#[test]
fn given_thousands_of_user_agents_that_came_once_then_those_of_living_phones_are_shared_again() {
    let mut all = Registrations::default();
    let [passing, first, second] = ["acme/1@a.test", "acme/2@a.test", "acme/3@a.test"].map(Text::new);
    let pbx = Text::new("pbx");
    let unique = |n: usize| format!("an agent that nobody else has, and long enough for the heap {n}");
    for n in 0..2 * SHARED_MAX {
        all.put(&passing, &pbx, &pbx, with_agent(0, &unique(n)));
    }
    assert!(all.shared.len() + all.shared_before.len() <= 2 * SHARED_MAX);
    let common = "an agent that everybody has, and long enough to lie on the heap";
    all.put(&first, &pbx, &pbx, with_agent(1, common));
    for n in 0..SHARED_MAX {
        all.put(&passing, &pbx, &pbx, with_agent(0, &unique(n)));
    }
    all.put(&second, &pbx, &pbx, with_agent(2, common));
    let agent = |key| all.binding(binding(key, 0).key).and_then(|(_, b)| b.user_agent.clone()).unwrap();
    assert!(std::ptr::eq(agent(1).as_str(), agent(2).as_str()), "held twice");
}

#[test]
fn given_a_snapshot_that_met_an_aor_at_two_places_then_the_later_entry_is_all_there_is_of_it() {
    let mut all = Registrations::default();
    let entry = |key, at| Aor {
        name: Text::new("acme/1@a.test"),
        backend: Text::new("pbx"),
        home: Text::new("pbx"),
        bindings: [Box::new(binding(key, at))].into_iter().collect(),
        seq: EventSeq(1),
    };
    all.restore(entry(1, 1));
    all.restore(entry(2, 2));
    assert_eq!((all.len(), all.of_tenant("acme")), (1, 1));
    assert!(all.binding(binding(2, 2).key).is_some() && !all.knows_flow(&flow(1)));
}

proptest! {
    #[test]
    fn whatever_is_stored_moved_and_removed_each_way_finds_what_is_there(
        steps in prop::collection::vec((0_u8..12, 0_u8..4, 0_u8..3), 1..80),
    ) {
        let mut all = Registrations::default();
        let mut model = std::collections::BTreeMap::new();
        for (key, at, step) in steps {
            // Three phones of an AoR, over whichever flow.
            let name = Text::from(format!("acme/{}@a.test", key / 3));
            if step == 0 {
                let stays = |_: &Aor, b: &Binding| b.flow == flow(at);
                let extended = all.extend(binding(key, 0).key, stays, |b| b.seq = EventSeq(7));
                prop_assert_eq!(extended, model.get(&key) == Some(&at));
                prop_assert!(!extended || all.aor(&name).is_some_and(|aor| aor.seq == EventSeq(7)));
            } else if step == 1 {
                all.put(&name, &Text::new("pbx"), &Text::new("pbx"), binding(key, at));
                model.insert(key, at);
            } else {
                let removed = all.remove(binding(key, at).key, EventSeq(2)).map(|b| b.flow.get());
                prop_assert_eq!(removed, model.remove(&key).map(flow));
            }
            prop_assert_eq!(all.len(), model.len());
            prop_assert_eq!(all.of_tenant("acme") as usize, model.len());
            for key in 0..12 {
                let found = all.binding(binding(key, 0).key);
                let there = found.map(|(aor, b)| (aor.name.to_string(), b.flow.get()));
                let wanted = model.get(&key).map(|at| (format!("acme/{}@a.test", key / 3), flow(*at)));
                prop_assert_eq!(&there, &wanted);
                prop_assert!(wanted.is_none_or(|(name, _)| all.aor(&name).is_some()));
            }
            for at in 0..4 {
                let mut over: Vec<u128> = all.over_flow(&flow(at)).map(|(_, b)| b.key.0).collect();
                over.sort_unstable();
                let there = model.iter().filter(|(_, where_at)| **where_at == at);
                let wanted: Vec<u128> = there.map(|(key, _)| binding(*key, at).key.0).collect();
                prop_assert_eq!(over, wanted);
            }
        }
        prop_assert_eq!(all.by_name.len(), all.iter().count());
        prop_assert!(all.by_flow.iter().all(|over| !over.places.as_slice().is_empty()));
        prop_assert!(all.by_flow.len() <= model.len());
    }
}

#[test]
fn given_a_crowd_that_has_left_when_memory_is_given_back_then_step_by_step_and_what_is_there_is_found() {
    const CROWD: u32 = 20_000;
    let mut all = Registrations::default();
    let pbx = Text::new("pbx");
    let of = |n: u32| {
        let remote = SocketAddr::from(([198, 51, (n >> 8) as u8, n as u8], 5060));
        let flow = Flow::udp(ListenerId(0), SocketAddr::from(([192, 0, 2, 1], 5060)), remote);
        let key = BindingKey(u128::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835));
        (flow, Binding { key, flow: flow.into(), ..binding(0, 0) })
    };
    let name = |n: u32| Text::from(format!("acme/{n}@a.test"));
    assert!(!all.give_back(), "there is nothing to give");
    for n in 0..CROWD {
        all.put(&name(n), &pbx, &pbx, of(n).1);
    }
    let full = all.capacity();
    assert!(!all.give_back(), "all of it is needed");
    for n in 3..CROWD {
        all.remove(of(n).1.key, EventSeq(2));
    }
    let mut steps = 0;
    while all.give_back() {
        steps += 1;
        assert!(steps <= 1_000, "it never ends");
    }
    assert!(steps >= 4, "{steps}: one thing a step");
    assert!(all.capacity() * 20 < full, "{} of {full}", all.capacity());
    for n in 0..3 {
        assert_eq!(all.aor(&name(n)).map(|aor| aor.bindings.len()), Some(1));
        assert!(all.knows_flow(&of(n).0) && all.binding(of(n).1.key).is_some());
    }
    all.put(&name(9), &pbx, &pbx, of(9).1);
    assert_eq!((all.len(), all.iter().count()), (4, 4));
}
