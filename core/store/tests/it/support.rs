//! A fresh store on each database.

use crate::postgres;
use signalbox_store::{Config, Store};
use std::path::Path;
use tempfile::TempDir;

/// An address to open stores at; an SQLite file goes with it.
pub(crate) struct Database {
    pub(crate) config: Config,
    /// For those who need it as text: another process, another user.
    #[allow(dead_code, reason = "shared with packages that need no text")]
    pub(crate) url: String,
    _dir: Option<TempDir>,
}

impl Database {
    pub(crate) async fn store(&self) -> Store {
        Store::open(&self.config).await.unwrap()
    }
}

pub(crate) fn sqlite() -> Database {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("signalbox.db");
    Database { config: Config::sqlite(&path), url: format!("sqlite:{}", path.display()), _dir: Some(dir) }
}

pub(crate) async fn postgres() -> Database {
    postgres_on(postgres::server()).await
}

/// An empty database on this server.
pub(crate) async fn postgres_on(server: &postgres::Server) -> Database {
    let name = postgres::new_name();
    let admin = Config::parse(&server.url("postgres", "postgres"), None, Path::new("/")).unwrap();
    Store::open(&admin).await.unwrap().query(format!("CREATE DATABASE {name}"), vec![]).await.unwrap();
    let url = server.url("postgres", &name);
    Database { config: Config::parse(&url, None, Path::new("/")).unwrap(), url, _dir: None }
}

/// An empty database of each kind.
pub(crate) async fn both() -> [Database; 2] {
    [sqlite(), postgres().await]
}

/// The same, with tables.
pub(crate) async fn both_migrated() -> [(Database, Store); 2] {
    let [sqlite, postgres] = both().await;
    let (a, b) = (sqlite.store().await, postgres.store().await);
    a.migrate().await.unwrap();
    b.migrate().await.unwrap();
    [(sqlite, a), (postgres, b)]
}
