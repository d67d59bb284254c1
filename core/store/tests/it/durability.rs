//! What a commit waits for, as PostgreSQL itself sees it when it commits; whatever its default is.

use crate::support::postgres;
use signalbox_store::{Statement, Store};

/// Notes for each write of a row what its transaction's commit is going to wait for.
async fn noted(store: &Store) {
    for sql in [
        "CREATE TABLE noted (n BIGSERIAL, name TEXT, waits TEXT)",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO noted (name, waits) \
            VALUES (NEW.name, current_setting(''synchronous_commit'')); RETURN NULL; END'",
        "CREATE CONSTRAINT TRIGGER noting AFTER INSERT ON store_meta DEFERRABLE INITIALLY DEFERRED \
            FOR EACH ROW EXECUTE FUNCTION note()",
    ] {
        store.query(sql, vec![]).await.unwrap();
    }
}

const INSERT: &str = "INSERT INTO store_meta (name, value) VALUES ($1, 'x') RETURNING name";

#[tokio::test]
async fn given_any_default_of_the_server_when_committed_then_it_waits_for_the_disk_unless_it_need_not() {
    for default in ["off", "on"] {
        let database = postgres().await;
        let store = database.store().await;
        store.migrate().await.unwrap();
        noted(&store).await;
        let name = store.query("SELECT current_database() AS name", vec![]).await.unwrap();
        let name = name[0].text("name").unwrap().unwrap().to_owned();
        let set = format!("ALTER DATABASE {name} SET synchronous_commit = {default}");
        store.query(set, vec![]).await.unwrap();
        let store = database.store().await;
        let insert = |name: &'static str| Statement::new(INSERT, vec![name.into()]);
        assert_eq!(store.transaction(vec![insert("now"), insert("now too")]).await.unwrap(), [1, 1]);
        assert_eq!(store.transaction_soon_durable(vec![insert("later")]).await.unwrap(), [1]);
        store.write_returning(INSERT, vec!["returning".into()]).await.unwrap();
        let rows = store.query("SELECT name, waits FROM noted ORDER BY n", vec![]).await.unwrap();
        let told: Vec<_> = rows
            .iter()
            .map(|row| (row.text("name").unwrap().unwrap(), row.text("waits").unwrap().unwrap()))
            .collect();
        assert_eq!(
            told,
            [("now", "on"), ("now too", "on"), ("later", "off"), ("returning", "on")],
            "by default {default}"
        );
    }
}
