//! One SQL text, one set of values, one class of fault on both databases.

use crate::support::{both, both_migrated};
use signalbox_base::Wall;
use signalbox_store::{Class, Config, Statement, Store, Value};
use std::path::Path;

async fn with_table(store: &Store) {
    let table = "CREATE TABLE thing (name TEXT NOT NULL PRIMARY KEY, big BIGINT, small INTEGER, half REAL, \
        whole DOUBLE PRECISION, at TIMESTAMP)";
    store.execute(table, vec![]).await.unwrap();
}

#[tokio::test]
async fn given_values_of_each_kind_when_written_then_both_databases_read_the_same() {
    let mut read = Vec::new();
    for database in both().await {
        let store = database.store().await;
        with_table(&store).await;
        // $2 before $1: to SQLite the first would be numbered first.
        let insert = "INSERT INTO thing (big, name, small, half, whole, at) VALUES ($2, $1, $3, $4, $5, $6)";
        let odd = "O'Neil \u{1F600} nul\0";
        let at = Value::Timestamp(Wall(951_782_400_999_999));
        let values = vec![odd.into(), i64::MAX.into(), (-1i64).into(), 0.7.into(), 0.1.into(), at];
        store.execute(insert, values).await.unwrap();
        store
            .execute(
                insert,
                vec!["empty".into(), Value::Null, Value::Null, Value::Null, Value::Null, Value::Null],
            )
            .await
            .unwrap();
        let rows =
            store.query("SELECT * FROM thing WHERE name <> $1 ORDER BY name DESC", vec!["x".into()]).await;
        read.push(rows.unwrap().iter().map(|row| row.values().to_vec()).collect::<Vec<_>>());
    }
    assert_eq!(read[0], read[1]);
    let full = &read[0].iter().find(|row| row[0] != Value::from("empty")).unwrap();
    assert_eq!(full[1..5], [i64::MAX.into(), (-1i64).into(), 0.7.into(), 0.1.into()]);
    assert_eq!(full[5], "2000-02-29 00:00:00".into());
}

#[tokio::test]
async fn given_a_batch_with_a_bad_row_when_committed_then_nothing_of_it_is_kept_and_the_statement_is_named() {
    for database in both().await {
        let store = database.store().await;
        with_table(&store).await;
        let insert = |name: &str| Statement::new("INSERT INTO thing (name) VALUES ($1)", vec![name.into()]);
        let batch = vec![insert("a"), insert("b"), insert("a"), insert("c")];
        let error = store.transaction(batch).await.unwrap_err();
        assert_eq!((error.class(), error.statement()), (Class::Row, Some(2)), "{error}");
        assert!(store.query("SELECT name FROM thing", vec![]).await.unwrap().is_empty());
        let many = (0..300).map(|n| insert(&n.to_string())).collect();
        assert_eq!(store.transaction(many).await.unwrap(), vec![1; 300], "the connection is usable again");
    }
}

#[tokio::test]
async fn given_a_short_cut_when_it_touches_nothing_then_what_stands_behind_it_is_done_and_else_not_twice() {
    for database in both().await {
        let store = database.store().await;
        with_table(&store).await;
        let add = |name: &'static str, by: i64| {
            let update = "UPDATE thing SET big = big + $2 WHERE name = $1 AND small IS NULL";
            Statement::new(update, vec![name.into(), by.into()]).or_else(move || {
                let upsert = "INSERT INTO thing (name, big) VALUES ($1, $2) \
                    ON CONFLICT (name) DO UPDATE SET big = thing.big + excluded.big";
                vec![Statement::new(upsert, vec![name.into(), by.into()])]
            })
        };
        let touched = store.transaction(vec![add("a", 1), add("a", 2), add("b", 5)]).await.unwrap();
        assert_eq!(touched, [1, 1, 1], "{}", store.kind());
        store.transaction(vec![add("a", 4)]).await.unwrap();
        let rows = store.query("SELECT big FROM thing ORDER BY name", vec![]).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.int("big").unwrap().unwrap()).collect::<Vec<_>>(), [7, 5]);
        // A fault behind a short cut is the short cut's.
        let wrong = Statement::new("UPDATE thing SET big = 0 WHERE name = 'x'", vec![])
            .or_else(|| vec![Statement::new("INSERT INTO thing (name) VALUES ('a')", vec![])]);
        let error = store.transaction(vec![add("a", 8), wrong]).await.unwrap_err();
        assert_eq!((error.class(), error.statement()), (Class::Row, Some(1)), "{error}");
    }
}

#[tokio::test]
async fn given_a_transaction_that_is_durable_later_when_it_is_done_then_it_is_seen_and_whole_as_any_other() {
    for database in both().await {
        let (store, other) = (database.store().await, database.store().await);
        with_table(&store).await;
        let insert = |name: &str| Statement::new("INSERT INTO thing (name) VALUES ($1)", vec![name.into()]);
        let bad = vec![insert("a"), insert("a")];
        assert_eq!(store.transaction_soon_durable(bad).await.unwrap_err().statement(), Some(1));
        let touched = store.transaction_soon_durable(vec![insert("a"), insert("b")]).await.unwrap();
        assert_eq!(touched, [1, 1]);
        store.transaction(vec![insert("c")]).await.unwrap();
        let rows = other.query("SELECT name FROM thing", vec![]).await.unwrap();
        assert_eq!(rows.len(), 3, "{}", store.kind());
    }
}

#[tokio::test]
async fn given_a_guard_that_does_not_hold_when_committed_then_all_is_rolled_back_as_fenced() {
    for database in both().await {
        let store = database.store().await;
        with_table(&store).await;
        let guard = Statement::guard("UPDATE thing SET big = 1 WHERE name = $1", vec!["gone".into()], 1);
        let write = Statement::new("INSERT INTO thing (name) VALUES ('a')", vec![]);
        let error = store.transaction(vec![guard, write]).await.unwrap_err();
        assert_eq!((error.class(), error.statement()), (Class::Fenced, Some(0)));
        assert!(store.query("SELECT name FROM thing", vec![]).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn given_a_wrong_table_or_column_or_number_of_parameters_when_asked_then_it_is_a_schema_fault() {
    for (_database, store) in both_migrated().await {
        for (sql, params) in [
            ("SELECT x FROM nowhere", vec![]),
            ("SELECT nothing FROM location", vec![]),
            ("SELECT aor FROM location WHERE aor = $1", vec![]),
        ] {
            let error = store.query(sql, params).await.err();
            assert_eq!(error.map(|e| e.class()), Some(Class::Schema), "{} {sql}", store.kind());
        }
    }
}

#[tokio::test]
async fn given_a_user_without_rights_when_writing_then_it_is_a_permission_fault() {
    let [_, (database, store)] = both_migrated().await;
    store.execute("CREATE ROLE reader LOGIN", vec![]).await.unwrap();
    let url = database.url.replace("postgres@", "reader@");
    let reader = Store::open(&Config::parse(&url, None, Path::new("/")).unwrap()).await.unwrap();
    let error = reader.execute("DELETE FROM cdr", vec![]).await.unwrap_err();
    assert_eq!(error.class(), Class::Permission, "{error}");
}

#[tokio::test]
async fn given_a_server_that_is_not_there_when_asked_then_it_is_retryable_and_tells_no_password() {
    let password = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(password.path(), "hunter2").unwrap();
    // A port that was free a moment ago and that nobody listens on.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://someone@127.0.0.1:{port}/db?sslmode=disable");
    let config = Config::parse(&url, Some(password.path()), Path::new("/")).unwrap();
    let error = Store::open(&config).await.unwrap().ping().await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[tokio::test]
async fn given_a_constraint_fault_when_shown_then_it_does_not_quote_the_row() {
    for database in both().await {
        let store = database.store().await;
        with_table(&store).await;
        let insert = "INSERT INTO thing (name) VALUES ($1)";
        store.execute(insert, vec!["secret-name".into()]).await.unwrap();
        let error = store.execute(insert, vec!["secret-name".into()]).await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret-name"), "{error}");
    }
}
