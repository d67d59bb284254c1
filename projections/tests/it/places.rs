//! Where bindings are and were: the open place is in the binding's row, the history gets it when it ends.

use crate::interleaving::cases;
use crate::scripted::{Scripted, run, run_all};
use crate::stories::Edge;
use crate::support::{both, both_migrated, sqlite};
use crate::tables::dump;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use signalbox_base::Wall;
use signalbox_bus::{Delivered, Order};
use signalbox_projections::{LocationHistoryRow, Locations, queries};
use signalbox_schemas::registration::{RegistrationAdded, RegistrationRefreshed, RegistrationRemoved};
use signalbox_store::{Store, Value};

const AOR: &str = "401@acme.test";

async fn history(store: &Store) -> Vec<LocationHistoryRow> {
    let sql = "SELECT * FROM location_history ORDER BY valid_from";
    store.query(sql, vec![]).await.unwrap().iter().map(|row| LocationHistoryRow::read(row).unwrap()).collect()
}

async fn at(store: &Store, at: Wall) -> Vec<LocationHistoryRow> {
    queries::locations_at(store, Some("acme"), Some(AOR), at).await.unwrap()
}

/// Folds `events` as if nothing had been folded before.
async fn again(events: &[Delivered], store: &Store) {
    store.execute("DELETE FROM projection_position", vec![]).await.unwrap();
    run_all(Scripted::of(events), store).await;
}

/// A refresh that tells of another program and another Call-ID.
fn renewed(edge: &mut Edge, received: Option<&str>) {
    let refreshed = RegistrationRefreshed {
        edge: edge.name.clone(),
        aor: AOR.into(),
        binding: format!("b-{AOR}").into(),
        contact: "sip:401@10.0.0.9;ob".into(),
        expires_at: Wall(edge.now().0 + 900_000_000).into(),
        received: received.map(|from| from.parse().unwrap()),
        user_agent: Some("Phone/2".into()),
        call_id: Some("reg-2".into()),
        ..RegistrationRefreshed::default()
    };
    edge.tell("acme", &format!("acme/{AOR}"), refreshed);
}

#[tokio::test]
async fn given_a_binding_when_its_places_end_then_the_history_has_each_as_it_began_and_with_its_last_lease() {
    let mut edge = Edge::new(1);
    edge.added("acme", AOR, "udp:192.0.2.7:5060");
    let added = edge.now();
    renewed(&mut edge, None);
    let renewed_at = edge.now();
    let stayed = edge.events.clone();
    edge.refreshed("acme", AOR, Some("udp:192.0.2.99:1024"));
    let moved = edge.now();
    let gone = edge.events.clone();
    edge.removed("acme", AOR);
    for (_database, store) in both_migrated().await {
        run_all(Scripted::of(&stayed), &store).await;
        assert_eq!(history(&store).await, [], "{}", store.kind());
        let open = &at(&store, renewed_at).await[0];
        assert_eq!((open.sequence, open.valid_from, open.valid_to), (1, added.0, None));
        assert_eq!((open.user_agent.as_str(), open.callid.as_str()), ("Phone/1", "reg-1"));
        assert_eq!(open.expires_at, added.0 + 900_000_000, "the lease is the binding's");

        run_all(Scripted::of(&gone), &store).await;
        let ended = history(&store).await;
        let left =
            LocationHistoryRow { valid_to: Some(moved.0), ended: Some("moved".to_owned()), ..open.clone() };
        assert_eq!(ended, [left], "{}", store.kind());
        assert_eq!(at(&store, renewed_at).await, ended, "it is found at a moment when it was open");
        let open = &at(&store, moved).await[0];
        assert_eq!((open.sequence, open.valid_from), (3, moved.0));
        assert_eq!((open.user_agent.as_str(), open.callid.as_str()), ("Phone/2", "reg-2"));

        run_all(Scripted::of(&edge.events), &store).await;
        let ended = history(&store).await;
        let until = Some(edge.now().0);
        let left = LocationHistoryRow { valid_to: until, ended: Some("client".to_owned()), ..open.clone() };
        assert_eq!(ended[1..], [left], "{}", store.kind());
        assert!(at(&store, edge.now()).await.is_empty());
        assert!(queries::locations(&store, None, None).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn given_places_when_their_events_come_again_then_none_ends_or_begins_twice() {
    let mut edge = Edge::new(1);
    edge.added("acme", AOR, "udp:192.0.2.7:5060");
    edge.refreshed("acme", AOR, Some("udp:192.0.2.99:1024"));
    let before = edge.events.clone();
    edge.added("acme", AOR, "udp:192.0.2.99:1024");
    edge.refreshed("acme", AOR, Some("udp:192.0.2.100:1024"));
    let open = edge.events.clone();
    edge.expired("acme", AOR);
    for (_database, store) in both_migrated().await {
        run_all(Scripted::of(&open), &store).await;
        let tables = dump(&store).await;
        for late in [&before, &open] {
            again(late, &store).await;
            assert_eq!(dump(&store).await, tables, "{}", store.kind());
        }
        run_all(Scripted::of(&edge.events), &store).await;
        let tables = dump(&store).await;
        again(&edge.events, &store).await;
        assert_eq!(dump(&store).await, tables, "{}", store.kind());
        let sequences: Vec<i64> = history(&store).await.iter().map(|row| row.sequence).collect();
        assert_eq!(sequences, [1, 2, 4], "registering again where it was is the same place");
    }
}

/// Tables as they were when the history held open places too.
async fn before_the_migration(store: &Store) {
    let files = [
        include_str!("../../../migrations/common/V1__store.sql"),
        include_str!("../../../migrations/common/V3__location.sql"),
        include_str!("../../../migrations/common/V6__open_place.sql"),
    ];
    for file in files {
        apply(store, file).await;
    }
}

async fn apply(store: &Store, file: &str) {
    for statement in file.split_inclusive(";\n").filter(|text| text.contains(";\n")) {
        store.execute(statement.to_owned(), vec![]).await.unwrap();
    }
}

/// A binding, its last event being number `sequence`.
async fn old_row(store: &Store, binding: &str, sequence: i64) {
    let sql = "INSERT INTO location (id, ruid, contact_id, username, domain, contact, received, expires, q, callid, \
        cseq, last_modified, user_agent, tenant, aor, binding, edge, journal, sequence, flow_state, registered_at, \
        refreshed_at, expires_at) VALUES (1, $1, 1, '401', 'acme.test', 'sip:401@10.0.0.9', 'sip:192.0.2.7:5060', \
        2000, 1.0, 'reg-2', 2, '2026-11-21 14:00:00', 'Phone/2', 'acme', '401@acme.test', $1, 'edge-1', 'J', $2, \
        'reachable', 1000, 1500, 2000000000)";
    store.execute(sql, vec![binding.into(), Value::Int(sequence)]).await.unwrap();
}

async fn old_place(store: &Store, binding: &str, sequence: i64, from: i64, to: Option<i64>) {
    let sql = "INSERT INTO location_history (tenant, aor, binding, edge, journal, sequence, valid_from, valid_to, ended, \
        username, domain, contact, received, user_agent, callid, expires_at) VALUES ('acme', '401@acme.test', $1, \
        'edge-1', 'J', $2, $3, $4, $5, '401', 'acme.test', 'sip:401@10.0.0.9', 'sip:192.0.2.7:5060', 'Phone/1', \
        'reg-1', 5000)";
    let ended = to.map_or(Value::Null, |_| Value::Word("moved"));
    let params = vec![binding.into(), Value::Int(sequence), Value::Int(from), to.into(), ended];
    store.execute(sql, params).await.unwrap();
}

#[tokio::test]
async fn given_open_places_in_the_history_when_migrated_then_they_are_in_their_rows_and_end_like_others() {
    for database in both().await {
        let store = database.store().await;
        before_the_migration(&store).await;
        old_row(&store, "moved-once", 9).await;
        old_place(&store, "moved-once", 3, 1000, Some(1200)).await;
        old_place(&store, "moved-once", 5, 1200, None).await;
        old_row(&store, "without-place", 8).await;
        old_place(&store, "without-row", 7, 1300, None).await;
        apply(&store, include_str!("../../../migrations/common/V8__place_in_the_row.sql")).await;
        apply(&store, include_str!("../../../migrations/common/V9__turn.sql")).await;

        let told = |rows: Vec<LocationHistoryRow>| {
            let told = |row: LocationHistoryRow| {
                (row.binding, row.sequence, row.valid_from, row.valid_to, row.ended)
            };
            rows.into_iter().map(told).collect::<Vec<_>>()
        };
        let moved = ("moved-once".to_owned(), 3, 1000, Some(1200), Some("moved".to_owned()));
        let orphan = ("without-row".to_owned(), 7, 1300, Some(5000), Some("expired".to_owned()));
        assert_eq!(told(history(&store).await), [moved.clone(), orphan.clone()], "{}", store.kind());
        assert_eq!(told(at(&store, Wall(1199)).await), [moved]);
        let open = |name: &str, sequence, from| (name.to_owned(), sequence, from, None, None);
        let now_open = [open("moved-once", 5, 1200), open("without-place", 8, 1500)];
        assert_eq!(told(at(&store, Wall(6000)).await), now_open);
        let [first, second, third] = [now_open[0].clone(), now_open[1].clone(), orphan];
        assert_eq!(told(at(&store, Wall(1500)).await), [first, second, third]);
        let begun = &at(&store, Wall(6000)).await[0];
        assert_eq!((begun.user_agent.as_str(), begun.callid.as_str()), ("Phone/1", "reg-1"));
        assert_eq!(begun.expires_at, 2_000_000_000, "its lease is the binding's");

        let mut edge = Edge::new(1);
        let removed = RegistrationRemoved {
            edge: edge.name.clone(),
            aor: AOR.into(),
            binding: "moved-once".into(),
            ..RegistrationRemoved::default()
        };
        edge.tell("acme", &format!("acme/{AOR}"), removed);
        run(Box::new(Locations), Scripted::of(&edge.events), &store).await.0.unwrap();
        let ended = history(&store).await.into_iter().find(|row| row.sequence == 5).unwrap();
        assert_eq!((ended.valid_to, ended.expires_at), (Some(edge.now().0), 2_000_000_000));
        assert_eq!((ended.user_agent.as_str(), ended.journal.as_str()), ("Phone/1", "J"));
    }
}

/// What happens to a binding, with the port it comes from and the number of its Call-ID where they are told.
#[derive(Clone, Debug)]
enum Step {
    Added(u16, u8),
    Refreshed(Option<u16>, Option<u8>),
    Removed,
    Expired,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (port, call) = (1_u16..4, 1_u8..4);
    let refreshed = (prop::option::of(port.clone()), prop::option::of(call.clone()));
    let step = prop_oneof![
        2 => (port, call).prop_map(|(port, call)| Step::Added(port, call)),
        5 => refreshed.prop_map(|(port, call)| Step::Refreshed(port, call)),
        1 => Just(Step::Removed),
        1 => Just(Step::Expired),
    ];
    prop::collection::vec(step, 1..25)
}

fn tell(edge: &mut Edge, step: &Step) {
    let received = |port: u16| format!("udp:192.0.2.7:{port}").parse().unwrap();
    let call = |number: u8| format!("call-{number}").into();
    let (contact, subject) = ("sip:401@10.0.0.9;ob".into(), format!("acme/{AOR}"));
    let (name, aor, binding) = (edge.name.clone(), AOR.into(), format!("b-{AOR}").into());
    let expires_at = Wall(edge.now().0 + 600_000_000).into();
    match step {
        Step::Added(port, number) => {
            let added = RegistrationAdded {
                edge: name,
                aor,
                binding,
                domain: "acme.test".into(),
                contact,
                expires_at,
                received: Some(received(*port)),
                call_id: call(*number),
                ..RegistrationAdded::default()
            };
            edge.tell("acme", &subject, added);
        }
        Step::Refreshed(port, number) => {
            let refreshed = RegistrationRefreshed {
                edge: name,
                aor,
                binding,
                contact,
                expires_at,
                received: port.map(received),
                call_id: number.map(call),
                ..RegistrationRefreshed::default()
            };
            edge.tell("acme", &subject, refreshed);
        }
        Step::Removed => edge.removed("acme", AOR),
        Step::Expired => edge.expired("acme", AOR),
    }
}

/// A place as the history tells it.
#[derive(Clone, Debug, PartialEq)]
struct Place {
    sequence: i64,
    from: i64,
    until: Option<i64>,
    ended: Option<&'static str>,
    port: Option<u16>,
    call: Option<u8>,
    expires_at: i64,
}

impl Place {
    fn read(row: &LocationHistoryRow) -> Self {
        let words = ["moved", "client", "expired"];
        let ended = row.ended.as_deref().map(|why| *words.iter().find(|word| **word == why).unwrap());
        let number =
            |text: &str, before: char| text.rsplit_once(before).map(|(_, rest)| rest.parse().unwrap());
        Self {
            sequence: row.sequence,
            from: row.valid_from,
            until: row.valid_to,
            ended,
            port: row.received.as_deref().and_then(|received| number(received, ':')),
            call: number(&row.callid, '-').map(|call| u8::try_from(call).unwrap()),
            expires_at: row.expires_at,
        }
    }
}

/// What an edge tells of a binding to which `steps` happen, and all its places: those that ended, and the open one.
fn lived(steps: &[Step]) -> (Vec<Delivered>, Vec<Place>, Option<Place>) {
    let (mut edge, mut ended, mut open) = (Edge::new(1), Vec::new(), None::<Place>);
    // The last Call-ID, and whether the row knows the socket: only what was added tells it here.
    let (mut last_call, mut socket) = (None, false);
    for (step, sequence) in steps.iter().zip(1..) {
        let before = edge.now();
        tell(&mut edge, step);
        let now = edge.now().0;
        let end = |place: Place, why| Place { until: Some(now), ended: Some(why), ..place };
        let why = if matches!(step, Step::Removed) { "client" } else { "expired" };
        let (port, call, told) = match *step {
            Step::Added(port, call) => (Some(port), Some(call), true),
            Step::Refreshed(port, call) => (port, call, false),
            Step::Removed | Step::Expired => {
                // The story's `expired` tells the moment before it is recorded.
                let at = if why == "expired" { before.0 } else { now };
                ended.extend(open.take().map(|place| Place { until: Some(at), ..end(place, why) }));
                (last_call, socket) = (None, false);
                continue;
            }
        };
        last_call = call.or(last_call);
        let expires_at = before.0 + 600_000_000;
        let stays = |place: &Place| port.is_none_or(|port| place.port == Some(port)) && (socket || !told);
        open = match open.take() {
            Some(place) if stays(&place) => Some(Place { expires_at, ..place }),
            left => {
                let port = port.or(left.as_ref().and_then(|place| place.port));
                ended.extend(left.map(|place| end(place, "moved")));
                let (until, ended, call) = (None, None, last_call);
                Some(Place { sequence, from: now, until, ended, port, call, expires_at })
            }
        };
        socket |= told;
    }
    (edge.events, ended, open)
}

#[test]
fn given_whatever_happens_to_a_binding_when_folded_in_any_batches_then_history_and_row_tell_its_places() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(cases(40)) });
    let outcome = runner.run(&(steps(), 1_usize..8), |(steps, size)| {
        let (events, ended, open) = lived(&steps);
        let end = events.last().unwrap().time;
        let (told, now) = runtime.block_on(async {
            let database = sqlite();
            let store = database.store().await;
            store.migrate().await.unwrap();
            let batches = events.chunks(size).map(<[_]>::to_vec).collect();
            run_all(Scripted::new(Order::Source, batches), &store).await;
            (history(&store).await, at(&store, end).await)
        });
        prop_assert_eq!(told.iter().map(Place::read).collect::<Vec<_>>(), ended);
        prop_assert_eq!(now.iter().map(Place::read).collect::<Vec<_>>(), Vec::from_iter(open));
        Ok(())
    });
    outcome.unwrap();
}
