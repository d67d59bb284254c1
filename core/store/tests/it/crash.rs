//! Killed in the middle: a transaction is there whole or not at all.

use crate::support::{Database, both_migrated};
use signalbox_base::Wall;
use signalbox_store::positions::{claim, load};
use signalbox_store::{Config, Position, Statement, Store};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

const URL: &str = "SIGNALBOX_TEST_CRASH_URL";

fn pair(n: u64, side: &str) -> Statement {
    let name = format!("{n}-{side}");
    Statement::new("INSERT INTO store_meta (name, value) VALUES ($1, $2)", vec![name.into(), side.into()])
}

async fn count(store: &Store, side: &str) -> u64 {
    let sql = "SELECT COUNT(*) AS n FROM store_meta WHERE value = $1";
    let rows = store.query(sql, vec![side.into()]).await.unwrap();
    rows[0].int("n").unwrap().unwrap().unsigned_abs()
}

/// Not a test by itself: what the next one starts and kills.
#[tokio::test]
#[ignore = "the child of the next test"]
async fn child_that_writes_pairs_until_it_is_killed() {
    let Ok(url) = std::env::var(URL) else { return };
    let store = Store::open(&Config::parse(&url, None, Path::new("/")).unwrap()).await.unwrap();
    let mut held = claim(&store, "crash", 1, "child", None, Wall(1)).await.unwrap();
    let mut position =
        load(&store, "crash", 1).await.unwrap().pop().map_or(Position::default(), |s| s.position);
    loop {
        let n = position.low() + 1;
        position.apply(n);
        let save = held.save("source", "call", &position, n, Wall(1));
        store.transaction(vec![held.guard(Wall(1)), pair(n, "left"), pair(n, "right"), save]).await.unwrap();
        held.passed();
        println!("wrote {n}");
    }
}

fn run_and_kill(database: &Database, after: usize) {
    let this = std::env::current_exe().unwrap();
    let mut child = Command::new(this)
        .args(["--exact", "crash::child_that_writes_pairs_until_it_is_killed", "--ignored", "--nocapture"])
        .env(URL, &database.url)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let wrote = lines.map_while(Result::ok).filter(|line| line.contains("wrote")).take(after).count();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(wrote, after, "the child ended by itself");
}

#[tokio::test]
async fn given_a_writer_killed_at_any_moment_when_read_then_rows_and_position_agree_and_it_can_go_on() {
    for (database, store) in both_migrated().await {
        for round in 1..=3 {
            run_and_kill(&database, 7 * round);
            // The server may still be ending the dead process's transaction: claiming waits for it.
            claim(&store, "crash", 1, "parent", None, Wall(2)).await.unwrap();
            let low = load(&store, "crash", 1).await.unwrap()[0].position.low();
            assert!(low >= 7 * round as u64);
            assert_eq!(
                (count(&store, "left").await, count(&store, "right").await),
                (low, low),
                "{}",
                store.kind()
            );
        }
    }
}

#[tokio::test]
async fn given_a_connection_cut_in_mid_transaction_when_tried_again_then_it_is_written_once() {
    let [_, (database, store)] = both_migrated().await;
    let other = database.store().await;
    store.execute("INSERT INTO store_meta (name, value) VALUES ('locked', 'x')", vec![]).await.unwrap();
    // The transaction writes its first row, then waits in the server until it is cut.
    let waits = "UPDATE store_meta SET value = CAST(pg_sleep(600) AS TEXT) WHERE name = 'locked'";
    let writing = tokio::spawn(async move {
        let error =
            store.transaction(vec![pair(1, "left"), Statement::new(waits, vec![])]).await.unwrap_err();
        (store, error)
    });
    let cut = "SELECT COUNT(*) AS n FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE datname = current_database() AND wait_event = 'PgSleep') cut";
    while other.query(cut, vec![]).await.unwrap()[0].int("n").unwrap() == Some(0) {
        tokio::task::yield_now().await;
    }
    let (store, error) = writing.await.unwrap();
    assert!(error.is_retryable(), "{error}");
    assert_eq!(count(&store, "left").await, 0);
    store.transaction(vec![pair(1, "left"), pair(1, "right")]).await.unwrap();
    assert_eq!(count(&store, "left").await, 1);
}
