//! What other edges say, whatever comes twice, late or between each other's words.

use proptest::prelude::*;
use signalbox_base::{EventSeq, JournalId, Text, Wall};
use signalbox_engine::remote::{Bound, Cache, Liveness, Registered, Update, Version};
use signalbox_engine::state::BindingKey;
use std::collections::BTreeMap;

const NAME: &str = "acme/401@acme.test";
const NOW: Wall = Wall(1_000_000_000_000);

fn name(edge: u8) -> Text {
    Text::from(format!("edge-{edge}"))
}

fn version(edge: u8, seq: u64) -> Version {
    let at = Wall(NOW.0 + i64::try_from(seq).expect("small") * 1_000_000);
    Version { journal: JournalId(u128::from(edge) + 1), seq: EventSeq(seq), at }
}

fn bound(edge: u8, seq: u64, key: u8) -> Update {
    let version = version(edge, seq);
    Update::Bound(Bound {
        edge: name(edge),
        version,
        name: Text::new(NAME),
        key: BindingKey(u128::from(key)),
        expires_at: Wall(NOW.0 + 3_600_000_000),
        q: None,
        registered: Registered { call: None, cseq: 1, at: version.at },
    })
}

fn alive(edge: u8, liveness: Liveness) -> Update {
    let address = Some(format!("10.0.9.{edge}:5070").parse().expect("an address"));
    Update::Peer { edge: name(edge), address, liveness }
}

/// What an edge does with a key: binds it or lets it go. Numbers are the place in the list.
fn history() -> impl Strategy<Value = Vec<(u8, u8, bool)>> {
    prop::collection::vec((1u8..4, 0u8..4, any::<bool>()), 0..60)
}

fn updates(history: &[(u8, u8, bool)]) -> Vec<Update> {
    let all = history.iter().zip(1u64..);
    all.map(|((edge, key, binds), seq)| match binds {
        true => bound(*edge, seq, *key),
        false => Update::Unbound {
            edge: name(*edge),
            version: version(*edge, seq),
            key: BindingKey(u128::from(*key)),
        },
    })
    .collect()
}

fn dump(cache: &Cache) -> Vec<String> {
    let mut all: Vec<String> = cache.dump().map(|update| format!("{update:?}")).collect();
    all.sort();
    all
}

proptest! {
    #[test]
    fn what_comes_again_changes_nothing_and_only_an_owner_removes(
        history in history(), again in prop::collection::vec((0usize..60, 1usize..20), 0..20),
    ) {
        let updates = updates(&history);
        let (mut once, mut often) = (Cache::default(), Cache::default());
        for cache in [&mut once, &mut often] {
            for edge in 1..4 {
                cache.apply(alive(edge, Liveness::Alive));
            }
        }
        for (at, update) in updates.iter().enumerate() {
            once.apply(update.clone());
            often.apply(update.clone());
            // A reader that goes back reads a stretch again, in its order.
            for (_, back) in again.iter().filter(|(when, _)| *when == at) {
                for old in &updates[at.saturating_sub(*back)..=at] {
                    often.apply(old.clone());
                }
            }
        }
        prop_assert_eq!(dump(&once), dump(&often));
        // Whose last word about a key was that it is bound has it; nobody else's word counts.
        let mut model: BTreeMap<(u8, u8), (bool, u64)> = BTreeMap::new();
        for ((edge, key, binds), seq) in history.iter().zip(1u64..) {
            model.insert((*key, *edge), (*binds, seq));
        }
        let bound = model.values().filter(|(binds, _)| *binds).count();
        prop_assert_eq!(often.len(), bound);
        for key in 0..4 {
            let newest = model.iter().filter(|((k, _), (binds, _))| *k == key && *binds);
            let newest = newest.max_by_key(|(_, (_, seq))| *seq).map(|((_, edge), _)| name(*edge));
            let found = often.find("acme", BindingKey(u128::from(key)), NOW);
            prop_assert_eq!(found.away.first().map(|away| away.edge.clone()), newest);
            prop_assert!(often.find("globex", BindingKey(u128::from(key)), NOW).away.is_empty());
        }
    }

    #[test]
    fn what_is_written_and_read_again_is_the_same(history in history()) {
        let mut cache = Cache::default();
        for update in updates(&history) {
            cache.apply(update);
        }
        let mut again = Cache::default();
        for update in cache.dump() {
            again.apply(update);
        }
        prop_assert_eq!(dump(&cache), dump(&again));
    }
}

#[test]
fn given_an_edge_with_a_new_disk_when_it_starts_then_what_it_had_is_gone_and_a_continued_journal_keeps_it() {
    let mut cache = Cache::default();
    let started = |journal, continues, seq| Update::Started {
        edge: name(1),
        version: Version { journal: JournalId(journal), ..version(1, seq) },
        continues,
    };
    cache.apply(alive(1, Liveness::Alive));
    cache.apply(started(2, None, 1));
    cache.apply(bound(1, 2, 7));
    cache.apply(bound(2, 2, 7));
    cache.apply(started(3, Some(JournalId(2)), 10));
    assert_eq!(cache.len(), 2);
    cache.apply(started(4, None, 20));
    assert_eq!(cache.len(), 1, "another edge's stays");
    assert_eq!(cache.len_of("edge-2"), 1);
}

#[test]
fn given_a_lost_owner_then_nobody_is_reached_there_and_all_is_forgotten_in_its_time() {
    let mut cache = Cache::default();
    cache.apply(alive(1, Liveness::Alive));
    for key in 0..200 {
        cache.apply(bound(1, u64::from(key) + 1, key));
    }
    cache.apply(alive(1, Liveness::Lost));
    let found = cache.find_all(NAME, NOW);
    assert!(found.away.is_empty() && found.lost);
    let later = Wall(NOW.0 + 3_600_000_000);
    assert_eq!(cache.find_all(NAME, later), Default::default());
    while cache.sweep(later) {}
    assert!(cache.is_empty());
}
