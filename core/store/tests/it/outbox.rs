//! Events of the store itself are numbered without gaps.

use crate::support::both_migrated;
use signalbox_base::{JournalId, Wall};
use signalbox_store::outbox::{Draft, store_id};
use signalbox_store::{Statement, Store};

fn draft(kind: &str) -> Draft {
    Draft {
        kind: kind.to_owned(),
        tenant: "acme".to_owned(),
        subject: "cdr".to_owned(),
        at: Wall(5),
        correlation: String::new(),
        causation: String::new(),
        data: "{}".to_owned(),
    }
}

async fn numbers(store: &Store) -> Vec<(i64, i64, String)> {
    let sql = "SELECT sequence, domainsequence, domain FROM outbox ORDER BY sequence";
    let rows = store.query(sql, vec![]).await.unwrap();
    let read = |row: &signalbox_store::Row| {
        let domain = row.text("domain").unwrap().unwrap().to_owned();
        (row.int("sequence").unwrap().unwrap(), row.int("domainsequence").unwrap().unwrap(), domain)
    };
    rows.iter().map(read).collect()
}

#[tokio::test]
async fn given_writers_at_once_and_one_that_fails_when_events_are_appended_then_no_number_is_missing() {
    for (_database, store) in both_migrated().await {
        store.transaction(draft("projection.parked.v1").append(Wall(6))).await.unwrap();
        let mut failing = draft("alert.fired.v1").append(Wall(6));
        failing.push(Statement::new("INSERT INTO store_meta (name, value) VALUES ('store_id', '')", vec![]));
        store.transaction(failing).await.unwrap_err();
        let (one, two) =
            (draft("alert.fired.v1").append(Wall(7)), draft("projection.resumed.v1").append(Wall(7)));
        let (a, b) = tokio::join!(store.transaction(one), store.transaction(two));
        a.and(b).unwrap();
        let mut written = numbers(&store).await;
        assert_eq!(written.iter().map(|row| row.0).collect::<Vec<_>>(), [1, 2, 3], "{}", store.kind());
        written.sort_by(|a, b| (&a.2, a.1).cmp(&(&b.2, b.1)));
        let domains: Vec<_> = written.iter().map(|row| (row.2.as_str(), row.1)).collect();
        assert_eq!(domains, [("alert", 1), ("projection", 1), ("projection", 2)]);
    }
}

#[tokio::test]
async fn given_a_new_store_when_asked_then_it_has_an_id_of_its_own_like_a_journals() {
    let mut ids = Vec::new();
    for (_database, store) in both_migrated().await {
        ids.push(store_id(&store).await.unwrap().parse::<JournalId>().unwrap());
    }
    assert_ne!(ids[0], ids[1]);
}
