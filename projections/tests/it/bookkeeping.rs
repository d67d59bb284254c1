//! The tables that the others are kept by, dropped by somebody: they are made again, and folding goes on.

use crate::journal::OnDisk;
use crate::live::{a_busy_day, follow, until_all_have};
use crate::scripted::{Scripted, quick};
use crate::support::both_migrated;
use crate::tables::{a_day, dump, events};
use signalbox_base::Wall;
use signalbox_projections::{Calls, Runner, Stopped, ask_for_rebuild, rebuilds, restore_bookkeeping};
use signalbox_store::{Class, Store, outbox};
use tokio::sync::watch;

const DROPPED: [&str; 8] = [
    "lease",
    "outbox",
    "outbox_counter",
    "outbox_relay",
    "parked",
    "projection_hint",
    "projection_position",
    "projection_rebuild",
];

async fn drop_all(store: &Store, tables: &[&str]) {
    for table in tables {
        store.execute(format!("DROP TABLE {table}"), vec![]).await.unwrap();
    }
}

#[tokio::test]
async fn given_running_projections_when_their_bookkeeping_is_dropped_then_it_is_made_again_and_they_go_on() {
    for (_database, store) in both_migrated().await {
        let mut journal = OnDisk::begin();
        let events = a_busy_day();
        let (half, end) = (events.len() / 2, events.last().unwrap().seq.0);
        journal.write(&events[..half]);
        let (statuses, stop, running) = follow(journal.beside(), &store);
        until_all_have(&statuses, events[half - 1].seq.0, &running).await;
        let id = outbox::store_id(&store).await.unwrap();
        drop_all(&store, &DROPPED).await;
        journal.write(&events[half..]);
        until_all_have(&statuses, end, &running).await;
        // All of them are there again: a rebuild needs most.
        let asked = async {
            while ask_for_rebuild(&store, "cdr", Wall(1)).await.is_err() {
                tokio::task::yield_now().await;
            }
            while !rebuilds(&store).await.is_ok_and(|rows| rows.iter().any(|row| row.state == "done")) {
                assert!(!running.is_finished());
                tokio::task::yield_now().await;
            }
        };
        asked.await;
        stop.send_replace(true);
        running.await.unwrap();
        assert_eq!(store.restore_bookkeeping().await.unwrap(), [""; 0], "{}", store.kind());
        assert_ne!(outbox::store_id(&store).await.unwrap(), id, "no number is used twice under one id");
        let [(_fresh, fresh), _] = both_migrated().await;
        let (statuses, stop, running) = follow(journal.beside(), &fresh);
        until_all_have(&statuses, end, &running).await;
        stop.send_replace(true);
        running.await.unwrap();
        assert_eq!(dump(&store).await, dump(&fresh).await);
    }
}

#[tokio::test]
async fn given_an_outbox_when_its_counter_is_dropped_then_numbers_go_on_behind_what_is_left() {
    for (_database, store) in both_migrated().await {
        let draft = outbox::Draft {
            kind: "projection.rebuilt.v1".to_owned(),
            tenant: String::new(),
            subject: "cdr".to_owned(),
            at: Wall(1),
            correlation: String::new(),
            causation: String::new(),
            data: "{}".to_owned(),
        };
        for _ in 0..3 {
            store.transaction(draft.append(Wall(1))).await.unwrap();
        }
        let id = outbox::store_id(&store).await.unwrap();
        drop_all(&store, &["outbox_counter"]).await;
        assert_eq!(store.restore_bookkeeping().await.unwrap(), ["outbox_counter"]);
        store.transaction(draft.append(Wall(2))).await.unwrap();
        let last = outbox::read(&store, 1, 10).await.unwrap().pop().unwrap();
        assert_eq!((last.sequence, last.domain_sequence), (4, 4), "{}", store.kind());
        assert_eq!(outbox::store_id(&store).await.unwrap(), id);
        drop_all(&store, &["store_meta"]).await;
        store.restore_bookkeeping().await.unwrap();
        assert_ne!(outbox::store_id(&store).await.unwrap(), id);
    }
}

#[tokio::test]
async fn given_a_damaged_table_of_the_bookkeeping_when_folded_then_one_line_says_what_to_do() {
    let bus = Scripted::of(&events(&a_day()));
    for (_database, store) in both_migrated().await {
        store.execute("ALTER TABLE projection_position DROP COLUMN ranges", vec![]).await.unwrap();
        let runner = Runner::new(Box::new(Calls), bus.clone(), store.clone(), quick());
        let (_stop, asked) = watch::channel(false);
        let Err(Stopped::Store { error, .. }) = runner.run(asked).await else { panic!("it went on") };
        assert_eq!(error.class(), Class::Schema);
        let said = error.to_string();
        assert!(
            said.contains("projection_position has no column ranges: stop Signalbox, DROP TABLE"),
            "{said}"
        );
        drop_all(&store, &["projection_position"]).await;
        assert!(restore_bookkeeping(&store).await.unwrap().unwrap().contains("projection_position"));
    }
}

#[tokio::test]
async fn given_tables_without_their_history_when_migrated_then_it_is_said_and_nothing_is_changed() {
    for (_database, store) in both_migrated().await {
        drop_all(&store, &["refinery_schema_history"]).await;
        let error = store.migrate().await.unwrap_err();
        assert_eq!(error.class(), Class::Config);
        assert!(error.to_string().contains("refinery_schema_history is gone"), "{error}");
    }
}
