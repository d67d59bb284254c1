//! What the TLS options promise, against a server that has a certificate and one that has none.

use crate::postgres::start;
use crate::support::postgres;
use signalbox_store::{Class, Config, Store};
use std::path::Path;

#[tokio::test]
async fn given_a_server_without_tls_when_tls_is_demanded_then_nothing_is_sent_in_the_clear() {
    let database = postgres().await;
    let demanded = database.url.replace("sslmode=disable", "sslmode=require");
    let store = Store::open(&Config::parse(&demanded, None, Path::new("/")).unwrap()).await.unwrap();
    assert!(store.ping().await.is_err());
    let plain = Store::open(&Config::parse(&database.url, None, Path::new("/")).unwrap()).await.unwrap();
    plain.ping().await.unwrap();
}

#[tokio::test]
async fn given_a_root_file_that_is_none_when_opened_then_it_is_named() {
    let url = "postgres://u@db.example/x?sslrootcert=/nowhere/ca.pem";
    let error = Store::open(&Config::parse(url, None, Path::new("/")).unwrap()).await.unwrap_err();
    assert_eq!(error.class(), Class::Config);
    assert!(error.to_string().contains("/nowhere/ca.pem"), "{error}");
}

#[tokio::test]
async fn given_a_server_with_a_certificate_when_verified_then_only_its_root_and_its_name_pass() {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let server = start(Some((&own.cert.pem(), &own.signing_key.serialize_pem())), "");
    let dir = tempfile::tempdir().unwrap();
    let (root, wrong_root) = (dir.path().join("root.pem"), dir.path().join("wrong.pem"));
    std::fs::write(&root, own.cert.pem()).unwrap();
    std::fs::write(&wrong_root, other.cert.pem()).unwrap();
    let ask = async |host: &str, options: String| {
        let url = format!("postgres://postgres@{host}:{}/postgres?{options}", server.port);
        let store = Store::open(&Config::parse(&url, None, Path::new("/")).unwrap()).await.unwrap();
        let encrypted = "SELECT COUNT(*) AS n FROM pg_stat_ssl WHERE ssl AND pid = pg_backend_pid()";
        store.query(encrypted, vec![]).await.map(|rows| rows[0].int("n").unwrap())
    };
    let verified = |root: &Path| format!("sslmode=verify-full&sslrootcert={}", root.display());
    assert_eq!(ask("localhost", verified(&root)).await, Ok(Some(1)));
    assert_eq!(ask("127.0.0.1", "sslmode=require".to_owned()).await, Ok(Some(1)));
    assert!(ask("127.0.0.1", verified(&root)).await.is_err(), "the certificate is for another name");
    assert!(ask("localhost", verified(&wrong_root)).await.is_err(), "another root");
    assert!(ask("localhost", String::new()).await.is_err(), "verified against the system's roots by default");
}
