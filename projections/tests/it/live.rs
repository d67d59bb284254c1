//! The tables follow a journal that grows, and are made anew from it: they are the same.

use crate::journal::OnDisk;
use crate::scripted::quick;
use crate::stories::Edge as Story;
use crate::support::both_migrated;
use crate::tables::{a_day, dump};
use signalbox_bus::{Bus, Delivered};
use signalbox_projections::{Group, StatusHandle, all};
use signalbox_schemas::words::ModificationKind;
use signalbox_store::Store;
use std::sync::Arc;
use tokio::sync::watch;

/// Some calls at once, phones that move, a backend that comes and goes: as one edge tells it.
pub(crate) fn a_busy_day() -> Vec<Delivered> {
    let mut edge: Story = a_day().remove(0);
    for n in 10..40 {
        let user = format!("{n}@acme.test");
        edge.added("acme", &user, "udp:192.0.2.7:5060");
        let mut call = edge.attempted("acme", n);
        edge.routed(&call, 1);
        let other = edge.attempted("globex", n + 100);
        edge.progressed(&call);
        edge.refreshed("acme", &user, Some("udp:192.0.2.99:1024"));
        edge.failed(&other);
        edge.answered(&mut call);
        if n % 3 == 0 {
            edge.held(&call, ModificationKind::Hold);
            edge.removed("acme", &user);
        }
        if n % 4 != 0 {
            edge.ended(&call);
        }
    }
    edge.events
}

pub(crate) async fn until_all_have(
    statuses: &[StatusHandle],
    seq: u64,
    running: &tokio::task::JoinHandle<()>,
) {
    let has = |status: &StatusHandle| status.get().sources.values().any(|source| source.through >= seq);
    while !statuses.iter().all(has) {
        assert!(!running.is_finished(), "{:?}", statuses.iter().map(StatusHandle::get).collect::<Vec<_>>());
        tokio::task::yield_now().await;
    }
}

pub(crate) fn follow(
    bus: Arc<dyn Bus>,
    store: &Store,
) -> (Vec<StatusHandle>, watch::Sender<bool>, tokio::task::JoinHandle<()>) {
    let group = Group::new(all(), bus, store.clone(), quick());
    let (statuses, (stop, asked)) = (group.statuses(), watch::channel(false));
    (statuses, stop, tokio::spawn(group.run(asked, |stopped| panic!("{stopped}"))))
}

#[tokio::test]
async fn promise_2_given_a_journal_that_grows_when_tables_follow_it_or_are_made_anew_then_the_tables_are_the_same()
 {
    let events = a_busy_day();
    let (live_stores, fresh_stores) = (both_migrated().await, both_migrated().await);
    let mut dumps = Vec::new();
    for ((_live, live), (_fresh, fresh)) in live_stores.into_iter().zip(fresh_stores) {
        let mut journal = OnDisk::begin();
        let (mut statuses, mut stop, mut running) = follow(journal.beside(), &live);
        for (n, some) in events.chunks(7).enumerate() {
            journal.write(some);
            // Batches of many sizes: at times the tables are level with the journal, at times it runs ahead.
            if n % 3 == 0 {
                until_all_have(&statuses, some.last().unwrap().seq.0, &running).await;
            }
            if n == 10 {
                stop.send_replace(true);
                running.await.unwrap();
                (statuses, stop, running) = follow(journal.beside(), &live);
            }
        }
        let last = events.last().unwrap().seq.0;
        until_all_have(&statuses, last, &running).await;
        stop.send_replace(true);
        running.await.unwrap();
        dumps.push(dump(&live).await);

        let (statuses, stop, running) = follow(journal.apart(), &fresh);
        until_all_have(&statuses, last, &running).await;
        stop.send_replace(true);
        running.await.unwrap();
        dumps.push(dump(&fresh).await);
    }
    assert!(dumps[0].iter().all(|(_, rows)| !rows.is_empty()));
    for (n, other) in dumps.iter().enumerate().skip(1) {
        assert_eq!(*other, dumps[0], "followed or made anew, in SQLite or in PostgreSQL ({n})");
    }
}
