//! Both databases come to the same tables, once, whoever migrates.

use crate::support::{both, both_migrated};
use signalbox_store::{Class, Store};
use std::collections::BTreeMap;

/// Every table's columns in order, without those of the migrations themselves.
async fn columns(store: &Store) -> BTreeMap<String, Vec<String>> {
    let sql = match store.kind() {
        "sqlite" => {
            "SELECT m.name AS tab, c.name AS col FROM sqlite_master m, pragma_table_info(m.name) c \
             WHERE m.type = 'table' ORDER BY m.name, c.cid"
        }
        _ => {
            "SELECT CAST(table_name AS TEXT) AS tab, CAST(column_name AS TEXT) AS col FROM information_schema.columns \
             WHERE table_schema = 'public' ORDER BY table_name, ordinal_position"
        }
    };
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in store.query(sql, vec![]).await.unwrap() {
        let (table, column) = (row.text("tab").unwrap().unwrap(), row.text("col").unwrap().unwrap());
        tables.entry(table.to_owned()).or_default().push(column.to_owned());
    }
    tables.remove("refinery_schema_history");
    tables
}

#[tokio::test]
async fn given_both_databases_when_migrated_then_they_have_the_same_tables_and_columns() {
    let [(_a, sqlite), (_b, postgres)] = both_migrated().await;
    let tables = columns(&sqlite).await;
    assert_eq!(tables, columns(&postgres).await);
    let usual = "id ruid contact_id username domain contact received path expires q callid cseq last_modified flags cflags \
        user_agent socket methods instance sip_instance reg_id server_id connection_id keepalive partition kv_store attr";
    let location = &tables["location"];
    assert!(
        usual.split_whitespace().all(|name| location.iter().any(|column| column == name)),
        "{location:?}"
    );
}

#[tokio::test]
async fn given_two_processes_when_both_migrate_at_once_then_one_does_and_both_go_on() {
    for database in both().await {
        let (a, b) = (database.store().await, database.store().await);
        let (first, second) = tokio::join!(a.migrate(), b.migrate());
        let mut applied = [first.unwrap().len(), second.unwrap().len()];
        applied.sort_unstable();
        assert_eq!(applied[0], 0, "{}", a.kind());
        assert!(applied[1] > 0);
        assert_eq!(a.migrate().await.unwrap(), Vec::<String>::new());
    }
}

/// A crash amid a migration is a failure amid it, as far as the tables can tell.
#[tokio::test]
async fn given_a_migration_that_fails_half_way_then_nothing_of_it_is_there_and_the_next_makes_all() {
    for database in both().await {
        let store = database.store().await;
        store.execute("CREATE TABLE backend_state (in_the_way INTEGER)", vec![]).await.unwrap();
        store.migrate().await.unwrap_err();
        store.query("SELECT name FROM store_meta", vec![]).await.expect_err("nothing before it stays either");
        store.execute("DROP TABLE backend_state", vec![]).await.unwrap();
        assert!(store.migrate().await.unwrap().len() > 5, "{}", store.kind());
    }
}

#[tokio::test]
async fn given_an_applied_file_that_differs_when_migrating_then_it_is_refused_before_anything_changes() {
    for (_database, store) in both_migrated().await {
        let changed = "UPDATE refinery_schema_history SET checksum = '1' WHERE version = 3";
        store.execute(changed, vec![]).await.unwrap();
        assert_eq!(store.migrate().await.unwrap_err().class(), Class::Config, "{}", store.kind());
    }
}

#[tokio::test]
async fn given_tables_of_a_later_version_when_migrating_then_both_versions_are_named_and_nothing_changes() {
    for (_database, store) in both_migrated().await {
        let later = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) \
            VALUES (99, 'later', '2026-11-21T00:00:00Z', '1')";
        store.execute(later, vec![]).await.unwrap();
        store
            .execute("UPDATE store_meta SET value = '9.9.0' WHERE name = 'migrated_by'", vec![])
            .await
            .unwrap();
        let error = store.migrate().await.unwrap_err();
        assert_eq!(error.class(), Class::Newer, "{}", store.kind());
        let text = error.to_string();
        for word in ["migration 99", "Signalbox 9.9.0", concat!("Signalbox ", env!("CARGO_PKG_VERSION"))] {
            assert!(text.contains(word), "{word}: {text}");
        }
    }
}
