//! Tables that are made anew: asked for, missing, damaged; and what is taken over when history is gone.

use crate::journal::OnDisk;
use crate::live::{a_busy_day, follow, until_all_have};
use crate::scripted::quick;
use crate::support::both_migrated;
use crate::tables::dump;
use signalbox_base::{EventSeq, Wall};
use signalbox_bus::{Batch, BoxFuture, Bus, Error, Gap, Order, Progress, Request, Subscription};
use signalbox_projections::{Config, Group, Held, RebuildRow, StatusHandle, all, ask_for_rebuild, rebuilds};
use signalbox_store::lease::{self, Candidate};
use signalbox_store::{Store, outbox};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Tables that follow a journal.
struct Following {
    journal: OnDisk,
    statuses: Vec<StatusHandle>,
    stop: watch::Sender<bool>,
    running: JoinHandle<()>,
    last: u64,
}

impl Following {
    /// Until the tables have the whole day.
    async fn a_day(store: &Store) -> Self {
        let mut journal = OnDisk::begin();
        let events = a_busy_day();
        let last = events.last().unwrap().seq.0;
        journal.write(&events);
        Self::on(journal, store, last).await
    }

    async fn on(journal: OnDisk, store: &Store, last: u64) -> Self {
        let (statuses, stop, running) = follow(journal.beside(), store);
        until_all_have(&statuses, last, &running).await;
        Self { journal, statuses, stop, running, last }
    }

    async fn end(self) -> (OnDisk, u64) {
        self.stop.send_replace(true);
        self.running.await.unwrap();
        (self.journal, self.last)
    }
}

async fn until_rebuilt(store: &Store, projection: &str) -> RebuildRow {
    loop {
        let rows = rebuilds(store).await.unwrap();
        let row = rows.into_iter().find(|row| row.projection == projection);
        match row {
            Some(row) if row.state == "done" => return row,
            Some(row) if row.state == "failed" => panic!("{row:?}"),
            _ => tokio::task::yield_now().await,
        }
    }
}

async fn told(store: &Store) -> Vec<(String, serde_json::Value)> {
    let events = outbox::read(store, 1, 100).await.unwrap();
    events.into_iter().map(|e| (e.draft.kind, serde_json::from_str(&e.draft.data).unwrap())).collect()
}

async fn indexes(store: &Store) -> Vec<String> {
    let sql = match store.kind() {
        "sqlite" => {
            "SELECT name || ' ' || tbl_name AS what FROM sqlite_master WHERE type = 'index' ORDER BY 1"
        }
        _ => {
            "SELECT indexname || ' ' || tablename AS what FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"
        }
    };
    let rows = store.query(sql, vec![]).await.unwrap();
    rows.iter().map(|row| row.text("what").unwrap().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn given_a_wrong_row_when_a_rebuild_is_asked_for_then_readers_see_old_or_new_tables_and_never_half() {
    for (_database, store) in both_migrated().await {
        let following = Following::a_day(&store).await;
        let (before, names) = (dump(&store).await, indexes(&store).await);
        if store.kind() == "postgres" {
            store.execute("GRANT SELECT ON cdr TO PUBLIC", vec![]).await.unwrap();
        }
        store.execute("UPDATE cdr SET caller = 'wrong'", vec![]).await.unwrap();

        let over = Arc::new(AtomicBool::new(false));
        let (reader, ended) = (store.clone(), Arc::clone(&over));
        let reading = tokio::spawn(async move {
            let sql = "SELECT COUNT(*) AS n, CAST(SUM(CASE WHEN caller = 'wrong' THEN 1 ELSE 0 END) AS BIGINT) AS wrong FROM cdr";
            let mut seen = std::collections::BTreeSet::new();
            while !ended.load(Ordering::Relaxed) {
                let row = &reader.query(sql, vec![]).await.unwrap()[0];
                seen.insert((row.int("n").unwrap(), row.int("wrong").unwrap()));
                tokio::task::yield_now().await;
            }
            seen
        });
        ask_for_rebuild(&store, "cdr", Wall(1)).await.unwrap();
        let rebuilt = until_rebuilt(&store, "cdr").await;
        over.store(true, Ordering::Relaxed);
        let rows = before[3].1.len() as i64;
        let seen = reading.await.unwrap();
        assert!(
            seen.iter()
                .all(|(n, wrong)| *n == Some(rows) && matches!(wrong, Some(0)) | (*wrong == Some(rows))),
            "{seen:?}"
        );

        assert_eq!((rebuilt.reason.as_str(), rebuilt.carried), ("asked", 0));
        assert_eq!(dump(&store).await, before);
        assert_eq!(indexes(&store).await, names);
        let (kind, data) = told(&store).await.remove(0);
        assert_eq!((kind.as_str(), &data["projection"]), ("projection.rebuilt.v1", &"cdr".into()));
        if store.kind() == "postgres" {
            let sql = "SELECT COUNT(*) AS n FROM information_schema.role_table_grants WHERE table_name = 'cdr' AND grantee = 'PUBLIC'";
            assert_eq!(
                store.query(sql, vec![]).await.unwrap()[0].int("n"),
                Ok(Some(1)),
                "who could read it still can"
            );
        }
        let (mut journal, last) = following.end().await;
        goes_on(&mut journal, &store, last).await;
    }
}

/// Another day is folded into the tables as if nothing had happened to them: as into new ones.
async fn goes_on(journal: &mut OnDisk, store: &Store, last: u64) {
    let mut more = a_busy_day();
    more.iter_mut().for_each(|event| {
        event.seq.0 += last;
        event.subject = format!("{}2", event.subject).into();
    });
    let end = more.last().unwrap().seq.0;
    journal.write(&more);
    let (statuses, stop, running) = follow(journal.beside(), store);
    until_all_have(&statuses, end, &running).await;
    stop.send_replace(true);
    running.await.unwrap();
    for (_database, fresh) in both_migrated().await {
        let (statuses, stop, running) = follow(journal.beside(), &fresh);
        until_all_have(&statuses, end, &running).await;
        stop.send_replace(true);
        running.await.unwrap();
        assert_eq!(dump(store).await, dump(&fresh).await);
    }
}

#[tokio::test]
async fn given_running_projections_when_a_table_is_dropped_then_it_is_made_anew_without_anybody_asking() {
    for (_database, store) in both_migrated().await {
        let following = Following::a_day(&store).await;
        let before = dump(&store).await;
        store.execute("DROP TABLE location_history", vec![]).await.unwrap();
        let rebuilt = until_rebuilt(&store, "location").await;
        assert_eq!(rebuilt.reason, "table location_history is missing");
        assert_eq!(dump(&store).await, before);
        let statuses = following.statuses.clone();
        let (mut journal, last) = following.end().await;
        assert!(statuses.iter().all(|status| status.get().fault.is_none()));
        goes_on(&mut journal, &store, last).await;
    }
}

#[tokio::test]
async fn given_a_table_that_was_dropped_while_nobody_ran_when_projections_start_then_it_is_made_anew() {
    for (_database, store) in both_migrated().await {
        let (journal, last) = Following::a_day(&store).await.end().await;
        let before = dump(&store).await;
        store.execute("DROP TABLE calls", vec![]).await.unwrap();
        let following = Following::on(journal, &store, last).await;
        until_rebuilt(&store, "calls").await;
        assert_eq!(dump(&store).await, before);
        following.end().await;
    }
}

#[tokio::test]
async fn given_a_damaged_table_when_projections_run_then_it_is_put_aside_and_another_is_made() {
    for (_database, store) in both_migrated().await {
        let following = Following::a_day(&store).await;
        let before = dump(&store).await;
        store.execute("ALTER TABLE backend_state DROP COLUMN cause", vec![]).await.unwrap();
        let rebuilt = until_rebuilt(&store, "backend").await;
        assert_eq!(rebuilt.reason, "table backend_state has no column cause");
        assert_eq!(dump(&store).await, before);
        let aside = store.query("SELECT COUNT(*) AS n FROM backend_state_damaged", vec![]).await.unwrap();
        assert_eq!(aside[0].int("n"), Ok(Some(before[4].1.len() as i64)));
        following.end().await;
    }
}

#[tokio::test]
async fn given_tables_of_another_version_when_projections_start_then_they_are_made_anew_and_read_meanwhile() {
    for (_database, store) in both_migrated().await {
        let (journal, last) = Following::a_day(&store).await.end().await;
        let before = dump(&store).await;
        store
            .execute("UPDATE projection_position SET version = 0 WHERE projection = 'cdr'", vec![])
            .await
            .unwrap();
        store.execute("UPDATE cdr SET caller = 'wrong'", vec![]).await.unwrap();
        let following = Following::on(journal, &store, last).await;
        let rebuilt = until_rebuilt(&store, "cdr").await;
        assert!(rebuilt.reason.contains("version 0"), "{rebuilt:?}");
        assert_eq!(dump(&store).await, before);
        following.end().await;
    }
}

#[tokio::test]
async fn given_a_process_that_has_lost_the_lease_when_a_rebuild_is_asked_for_then_it_touches_no_table() {
    let candidate = |holder: &str, term| Candidate {
        name: "projections",
        holder: holder.to_owned(),
        place: holder.to_owned(),
        alone: false,
        folds: "journal".to_owned(),
        term,
    };
    for (_database, store) in both_migrated().await {
        let (mut journal, events) = (OnDisk::begin(), a_busy_day());
        journal.write(&events);
        let lease = lease::take(&store, &candidate("first", Duration::ZERO)).await.unwrap();
        let group = Group::new(all(), journal.beside(), store.clone(), Config { lease, ..quick() });
        let (statuses, (_stop, asked)) = (group.statuses(), watch::channel(false));
        let running = tokio::spawn(group.run(asked, |stopped| panic!("{stopped}")));
        until_all_have(&statuses, events.last().unwrap().seq.0, &running).await;
        lease::take(&store, &candidate("second", Duration::from_secs(60))).await.unwrap().unwrap();
        ask_for_rebuild(&store, "cdr", Wall(1)).await.unwrap();
        for begun in [true, false] {
            while statuses[2].get().rebuilding.is_some() != begun {
                assert!(!running.is_finished());
                tokio::task::yield_now().await;
            }
        }
        assert!(store.query("SELECT * FROM cdr_rebuild", vec![]).await.is_err());
        running.abort();
    }
}

/// A journal of which retention has taken what is before a number.
struct Retained {
    journal: Arc<dyn Bus>,
    from: u64,
}

struct Rest {
    whole: Box<dyn Subscription>,
    from: u64,
}

impl Bus for Retained {
    fn subscribe(&self, request: Request) -> BoxFuture<'_, Result<Box<dyn Subscription>, Error>> {
        Box::pin(async move {
            let whole = self.journal.subscribe(request).await?;
            Ok(Box::new(Rest { whole, from: self.from }) as Box<dyn Subscription>)
        })
    }

    fn order(&self) -> Order {
        self.journal.order()
    }
}

impl Subscription for Rest {
    fn next_batch(&mut self, max: usize) -> BoxFuture<'_, Result<Batch, Error>> {
        Box::pin(async move {
            let mut batch = self.whole.next_batch(max).await?;
            if let Some(first) = batch.events.first().filter(|event| event.seq.0 < self.from) {
                batch.gaps.push(Gap { from: first.seq, to: EventSeq(self.from - 1) });
            }
            batch.events.retain(|event| event.seq.0 >= self.from);
            Ok(batch)
        })
    }

    fn acknowledge(&mut self, progress: &[Progress]) -> BoxFuture<'_, Result<(), Error>> {
        self.whole.acknowledge(progress)
    }
}

#[tokio::test]
async fn given_a_journal_that_lost_what_was_not_read_when_folded_then_that_is_told_and_what_follows_is_there()
{
    for (_database, store) in both_migrated().await {
        let (mut journal, events) = (OnDisk::begin(), a_busy_day());
        let (read, from, last) = (30, 90, events.last().unwrap().seq.0);
        journal.write(&events[..read]);
        let (mut journal, _) = Following::on(journal, &store, events[read - 1].seq.0).await.end().await;
        journal.write(&events[read..]);
        let held = |statuses: &[StatusHandle]| statuses.iter().map(|one| one.get().held).collect::<Vec<_>>();
        for _ in 0..2 {
            let bus = Arc::new(Retained { journal: journal.beside(), from });
            let (statuses, stop, running) = follow(bus, &store);
            until_all_have(&statuses, last, &running).await;
            for (status, held) in statuses.iter().zip(held(&statuses)) {
                let of_backends = status.get().projection == "backend";
                let lost = held.values().all(|held| matches!(held, Held::Lost { .. })) && held.len() == 1;
                assert!(if of_backends { held.is_empty() } else { lost }, "{held:?}");
                assert!(status.get().is_current());
            }
            stop.send_replace(true);
            running.await.unwrap();
        }
        let later = events[from as usize..].iter().filter(|event| &*event.kind == "call.ended.v1").count();
        let records = number(&store, "SELECT COUNT(*) AS n FROM cdr").await.unwrap();
        assert!(later > 3 && records >= later as i64, "{records} of {later}");
    }
}

#[tokio::test]
async fn given_history_that_is_gone_when_tables_are_made_anew_then_no_row_is_lost_and_records_say_so() {
    for (_database, store) in both_migrated().await {
        let (journal, last) = Following::a_day(&store).await.end().await;
        let before = dump(&store).await;
        let told = store.query("SELECT DISTINCT completeness FROM cdr", vec![]).await.unwrap();
        assert_eq!(told.len(), 1);
        let bus = Arc::new(Retained { journal: journal.beside(), from: last / 2 });
        let (_, stop, running) = follow(bus, &store);
        for projection in ["location", "calls", "cdr", "backend"] {
            ask_for_rebuild(&store, projection, Wall(1)).await.unwrap();
        }
        let mut carried = Vec::new();
        for projection in ["location", "calls", "cdr", "backend"] {
            carried.push(until_rebuilt(&store, projection).await.carried);
        }
        stop.send_replace(true);
        running.await.unwrap();
        assert!(carried.iter().all(|rows| *rows > 0), "{carried:?}");
        let imported = "SELECT COUNT(*) AS n FROM cdr WHERE completeness = 'imported'";
        let imported = store.query(imported, vec![]).await.unwrap()[0].int("n").unwrap().unwrap();
        assert!(imported > 0 && imported <= carried[2], "{imported} of {carried:?}");
        // But for that mark everything is as it was.
        let was = told[0].values()[0].clone();
        store.execute("UPDATE cdr SET completeness = $1", vec![was]).await.unwrap();
        assert_eq!(dump(&store).await, before);
    }
}

async fn run_sql(store: &Store, statements: &[&str]) {
    for sql in statements {
        store.execute((*sql).to_owned(), vec![]).await.unwrap();
    }
}

async fn number(store: &Store, sql: &str) -> Option<i64> {
    store.query(sql.to_owned(), vec![]).await.unwrap()[0].int("n").unwrap()
}

#[tokio::test]
async fn given_things_of_the_operator_s_on_tables_when_these_are_rebuilt_then_they_stay_and_see_the_new_rows()
{
    const BILLED: &str = "SELECT CAST(SUM(billable_ms) AS BIGINT) AS n FROM billing";
    for (_database, store) in both_migrated().await {
        let following = Following::a_day(&store).await;
        let (before, names) = (dump(&store).await, indexes(&store).await);
        let views = [
            "CREATE VIEW billing AS SELECT cdr_id, billable_ms FROM cdr",
            "CREATE VIEW busy AS SELECT call_uid FROM calls",
        ];
        run_sql(&store, &views).await;
        let billed = number(&store, BILLED).await;
        if store.kind() == "postgres" {
            let more = [
                "CREATE TABLE paid (cdr_id TEXT PRIMARY KEY REFERENCES cdr)",
                "INSERT INTO paid SELECT cdr_id FROM cdr",
                "CREATE INDEX of_the_operator ON cdr (caller)",
                "CREATE PUBLICATION warehouse FOR TABLE cdr",
                "GRANT SELECT ON cdr TO PUBLIC",
            ];
            run_sql(&store, &more).await;
        }
        let wrong = [
            "UPDATE cdr SET billable_ms = -1",
            "UPDATE calls SET call_uid = 'ghost' WHERE call_uid = (SELECT MIN(call_uid) FROM calls)",
        ];
        run_sql(&store, &wrong).await;
        for projection in ["cdr", "calls"] {
            ask_for_rebuild(&store, projection, Wall(1)).await.unwrap();
            assert_eq!(until_rebuilt(&store, projection).await.note, "");
        }
        assert_eq!(dump(&store).await, before);
        assert_eq!(number(&store, BILLED).await, billed);
        assert_eq!(number(&store, "SELECT COUNT(*) AS n FROM busy").await, Some(before[2].1.len() as i64));
        let (own, now) =
            indexes(&store).await.into_iter().partition::<Vec<_>, _>(|name| names.contains(name));
        assert_eq!(own, names);
        if store.kind() == "postgres" {
            assert_eq!(now, ["of_the_operator cdr", "paid_pkey paid"]);
            for stays in [
                "SELECT COUNT(*) AS n FROM pg_publication_tables WHERE tablename = 'cdr'",
                "SELECT COUNT(*) AS n FROM pg_constraint WHERE conrelid = 'paid'::regclass AND contype = 'f'",
                "SELECT COUNT(*) AS n FROM information_schema.role_table_grants WHERE table_name = 'cdr' AND grantee = 'PUBLIC'",
            ] {
                assert_eq!(number(&store, stays).await, Some(1), "{stays}");
            }
        }
        let (mut journal, last) = following.end().await;
        goes_on(&mut journal, &store, last).await;
    }
}

#[tokio::test]
async fn given_a_row_that_the_operator_s_table_holds_on_to_when_it_should_go_then_it_is_said_and_all_is_as_it_was()
 {
    let [_, (_database, store)] = both_migrated().await;
    let following = Following::a_day(&store).await;
    let holds = [
        "UPDATE calls SET call_uid = 'ghost' WHERE call_uid = (SELECT MIN(call_uid) FROM calls)",
        "CREATE TABLE noted (call_uid TEXT REFERENCES calls)",
        "INSERT INTO noted VALUES ('ghost')",
    ];
    run_sql(&store, &holds).await;
    let before = dump(&store).await;
    ask_for_rebuild(&store, "calls", Wall(1)).await.unwrap();
    let ended = loop {
        let rows = rebuilds(&store).await.unwrap();
        if let Some(row) = rows.into_iter().find(|row| matches!(row.state.as_str(), "done" | "failed")) {
            break row;
        }
        tokio::task::yield_now().await;
    };
    assert!(ended.state == "failed" && ended.note.contains("noted"), "{ended:?}");
    assert_eq!(dump(&store).await, before);
    let beside = "SELECT COUNT(*) AS n FROM pg_tables WHERE tablename LIKE '%rebuild' AND tablename <> 'projection_rebuild'";
    assert_eq!(number(&store, beside).await, Some(0));
    following.end().await;
}

#[tokio::test]
async fn given_a_view_on_a_damaged_table_when_another_is_made_then_it_is_said_that_the_view_must_be_made_anew()
 {
    for (_database, store) in both_migrated().await {
        let following = Following::a_day(&store).await;
        let before = dump(&store).await;
        let damage = [
            "CREATE VIEW health AS SELECT backend, state FROM backend_state",
            "ALTER TABLE backend_state DROP COLUMN cause",
        ];
        run_sql(&store, &damage).await;
        let note = until_rebuilt(&store, "backend").await.note;
        assert_eq!(dump(&store).await, before);
        // An embedded database's views go by name, a server's hold the table that they were made of.
        let expected = match store.kind() {
            "sqlite" => "",
            _ => "view health reads backend_state_damaged now: drop it and create it again on backend_state",
        };
        assert_eq!(note, expected);
        following.end().await;
    }
}
