//! What the tables say after a story, the same in both databases.

use crate::scripted::{Scripted, run_all};
use crate::stories::Edge;
use crate::support::both_migrated;
use signalbox_base::Wall;
use signalbox_projections::queries::{self, Filter};
use signalbox_schemas::words::{BackendState, ModificationKind};
use signalbox_store::{Store, Value};

/// Every row of every projection's table.
pub(crate) async fn dump(store: &Store) -> Vec<(&'static str, Vec<Vec<Value>>)> {
    let mut all = Vec::new();
    for (table, key) in [
        ("location", "tenant, aor, binding, edge"),
        ("location_history", "tenant, aor, binding, edge, journal, sequence"),
        ("calls", "call_uid"),
        ("cdr", "cdr_id"),
        ("backend_state", "edge, tenant, backend"),
        ("backend_history", "journal, sequence"),
    ] {
        let rows = store.query(format!("SELECT * FROM {table} ORDER BY {key}"), vec![]).await.unwrap();
        all.push((table, rows.iter().map(|row| row.values().to_vec()).collect()));
    }
    all
}

/// A little of everything, at two edges.
pub(crate) fn a_day() -> Vec<Edge> {
    let mut edges = vec![Edge::new(1), Edge::new(2)];
    for edge in &mut edges {
        edge.backend("acme", "pbx-1", BackendState::Unknown, BackendState::Up);
        edge.added("acme", "401@acme.test", "udp:192.0.2.7:5060");
        edge.added("globex", "401@globex.test", "tls:192.0.2.8:40000");
        let mut call = edge.attempted("acme", 1);
        edge.routed(&call, 1);
        edge.refreshed("acme", "401@acme.test", None);
        edge.progressed(&call);
        edge.answered(&mut call);
        edge.held(&call, ModificationKind::Hold);
        edge.refreshed("acme", "401@acme.test", Some("udp:192.0.2.99:1024"));
        let busy = edge.attempted("globex", 2);
        edge.backend("acme", "pbx-1", BackendState::Up, BackendState::Down);
        edge.failed(&busy);
        edge.ended(&call);
        edge.removed("globex", "401@globex.test");
        edge.added("acme", "405@acme.test", "udp:192.0.2.9:5060");
        edge.expired("acme", "405@acme.test");
        let open = edge.attempted("acme", 3);
        edge.routed(&open, 2);
        edge.progressed(&open);
    }
    edges
}

pub(crate) fn events(edges: &[Edge]) -> Vec<signalbox_bus::Delivered> {
    edges.iter().flat_map(|edge| edge.events.clone()).collect()
}

#[tokio::test]
async fn given_the_same_events_when_folded_then_both_databases_hold_the_same_tables() {
    let bus = Scripted::of(&events(&a_day()));
    let mut dumps = Vec::new();
    for (_database, store) in both_migrated().await {
        run_all(bus.clone(), &store).await;
        dumps.push(dump(&store).await);
    }
    assert_eq!(dumps[0], dumps[1]);
    let rows: Vec<usize> = dumps[0].iter().map(|(_, rows)| rows.len()).collect();
    assert_eq!(rows, [2, 6, 2, 4, 2, 4]);
}

#[tokio::test]
async fn given_a_phone_that_moved_when_asked_then_the_table_says_where_it_is_and_the_history_where_it_was() {
    let mut edge = Edge::new(1);
    edge.added("acme", "401@acme.test", "udp:192.0.2.7:5060");
    let first = edge.now();
    edge.refreshed("acme", "401@acme.test", None);
    edge.refreshed("acme", "401@acme.test", Some("tcp:192.0.2.99:1024"));
    let second = edge.now();
    let bus = Scripted::of(&edge.events);
    for (_database, store) in both_migrated().await {
        run_all(bus.clone(), &store).await;
        let now = queries::locations(&store, Some("acme"), Some("401")).await.unwrap();
        assert_eq!(now.len(), 1);
        let row = &now[0];
        assert_eq!(row.received.as_deref(), Some("sip:192.0.2.99:1024;transport=tcp"));
        assert_eq!((row.username.as_str(), row.domain.as_str()), ("401", "acme.test"));
        assert_eq!((row.methods, row.cseq, row.q), (Some(9), 7, 1.0));
        assert_eq!((row.last_modified.0, row.refreshed_at), (second, second.0));
        assert_eq!(
            (row.registered_at, row.expires),
            (first.0, (second.0 - 1_000_000 + 600_000_000) / 1_000_000)
        );
        for (at, place) in [(first, "sip:192.0.2.7:5060"), (second, "sip:192.0.2.99:1024;transport=tcp")] {
            let then = queries::locations_at(&store, None, Some("401@acme.test"), at).await.unwrap();
            assert_eq!(then.iter().filter_map(|row| row.received.as_deref()).collect::<Vec<_>>(), [place]);
        }
        let before = queries::locations_at(&store, None, None, Wall(first.0 - 1)).await.unwrap();
        let long_after =
            queries::locations_at(&store, None, None, Wall(second.0 + 601_000_000)).await.unwrap();
        assert!(before.is_empty() && long_after.is_empty(), "a lease that nobody prolonged has ended");
        assert!(queries::locations(&store, Some("globex"), Some("401")).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn given_calls_when_one_is_up_and_others_ended_then_each_is_where_it_belongs() {
    let bus = Scripted::of(&events(&a_day()[..1]));
    for (_database, store) in both_migrated().await {
        run_all(bus.clone(), &store).await;
        let up = queries::calls(&store, None).await.unwrap();
        assert_eq!(up.len(), 1);
        assert_eq!(
            (up[0].state.as_str(), up[0].attempts, up[0].egress_peer.as_deref()),
            ("ringing", 2, Some("pbx-1"))
        );
        let records = queries::cdrs(&store, &Filter::default()).await.unwrap();
        let seen: Vec<_> = records.iter().map(|row| (row.category.as_str(), row.stage.as_deref())).collect();
        assert_eq!(seen, [("answered", None), ("busy", Some("ringing"))], "newest first");
        assert_eq!(records[0].diversion, r#"["sip:a,b@acme.test"]"#);
        let json = serde_json::to_value(&records[0]).unwrap();
        assert_eq!((&json["billable_ms"], &json["codecs"]), (&32_000.into(), &r#"["opus"]"#.into()));
        let last = Filter { last: Some(1), ..Filter::default() };
        assert_eq!(queries::cdrs(&store, &last).await.unwrap(), records[..1]);
        let of_globex = Filter { tenant: Some("globex".into()), ..Filter::default() };
        assert_eq!(queries::cdrs(&store, &of_globex).await.unwrap(), records[1..]);
        let until = Filter { to: Some(Wall(records[0].ended_at)), ..Filter::default() };
        assert_eq!(queries::cdrs(&store, &until).await.unwrap(), records[1..]);
        let since = Filter { from: Some(Wall(records[0].ended_at)), ..Filter::default() };
        assert_eq!(queries::cdrs(&store, &since).await.unwrap(), records[..1]);
        let during =
            queries::calls_ended_since(&store, Some("acme"), Wall(records[0].invited_at)).await.unwrap();
        assert_eq!(during, records[..1]);
        assert_eq!(queries::cdr(&store, &records[1].call_uid).await.unwrap().as_ref(), Some(&records[1]));
    }
}

#[tokio::test]
async fn given_a_backend_that_went_down_when_asked_then_its_state_now_then_and_its_changes_are_told() {
    let edges = a_day();
    let bus = Scripted::of(&events(&edges));
    for (_database, store) in both_migrated().await {
        run_all(bus.clone(), &store).await;
        let states = |rows: Vec<signalbox_projections::BackendRow>| {
            rows.into_iter().map(|row| (row.edge, row.state)).collect::<Vec<_>>()
        };
        let at_both = |state: &str| {
            vec![("edge-1".to_owned(), state.to_owned()), ("edge-2".to_owned(), state.to_owned())]
        };
        assert_eq!(states(queries::backends(&store, Some("acme")).await.unwrap()), at_both("down"));
        let early = Wall(crate::stories::START.0 + 2_000_000);
        assert_eq!(states(queries::backends_at(&store, Some("acme"), early).await.unwrap()), at_both("up"));
        let changes = queries::backend_history(&store, Some("pbx-1"), &Filter::default()).await.unwrap();
        let told: Vec<_> = changes.iter().map(|row| (row.previous.as_str(), row.state.as_str())).collect();
        assert_eq!(told, [("up", "down"), ("up", "down"), ("unknown", "up"), ("unknown", "up")]);
    }
}
