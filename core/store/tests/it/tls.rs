//! What the TLS options promise, against a server that has none.

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
