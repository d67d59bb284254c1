//! NATS as the relay sees it: what it publishes through, what it is told, and what it finds again.

use crate::nats_hand::{PATIENCE, Relay, made, next, numbers, pen};
use async_nats::jetstream::{self, stream};
use futures_util::StreamExt;
use serde_json::json;
use signalbox_base::{EventSeq, JournalId};
use signalbox_brokers::{Nats, NatsLogin, NatsOptions, NatsUser, Server};
use signalbox_bus::nats::{Config, Heartbeats, NatsBroker, NatsBus};
use signalbox_bus::publisher::{Broker, Failure, LaneId, LaneSaved, Refusal, Ticket, Told};
use signalbox_bus::{Bus, Delivered, Error, FileHints, Filter, Request, Source, Start};
use std::sync::Arc;
use std::time::Duration;

fn calls(pen: &mut signalbox_brokers::conformance::Pen, count: usize) -> Vec<Delivered> {
    (0..count).map(|n| pen.event("call.routed.v1", "acme", &format!("k_{n}"), 1)).collect()
}

async fn misfit(config: Config) -> Vec<String> {
    match NatsBroker::new(config).connect().await {
        Err(Failure::Misfit(findings)) => findings,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it fits"),
    }
}

async fn denied(config: Config) -> String {
    match NatsBroker::new(config).connect().await {
        Err(Failure::Denied(why)) => why.to_string(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was let in"),
    }
}

#[tokio::test]
async fn given_any_login_when_the_relay_connects_then_streams_are_made_and_events_acknowledged_in_order() {
    for login in [NatsLogin::Open, NatsLogin::Token, NatsLogin::User, NatsLogin::Nkey, NatsLogin::Credentials]
    {
        let tls = matches!(login, NatsLogin::User | NatsLogin::Nkey);
        let client_certificates = login == NatsLogin::Nkey;
        let nats = Nats::start(NatsOptions { login, tls, client_certificates, ..NatsOptions::default() });
        let mut relay = Relay::connect(nats.config()).await;
        let events = calls(&mut pen(), 100);
        relay.publish(&events);
        for place in 1..=100 {
            let ticket = Ticket(place);
            assert_eq!(relay.told().await, Told::Acked { ticket, place, duplicate: false }, "{login:?}");
        }
        relay.publish(&events[..1]);
        assert_eq!(relay.told().await, Told::Acked { ticket: Ticket(101), place: 1, duplicate: true });
    }
}

#[tokio::test]
async fn given_wrong_credentials_when_the_relay_connects_then_it_is_told_that_it_is_refused() {
    let nats = Nats::start(NatsOptions { login: NatsLogin::User, tls: true, ..NatsOptions::default() });
    let right = nats.config();
    let wrong = nats.dir().join("wrong");
    std::fs::write(&wrong, "pw-wrong\n").unwrap();
    let login = signalbox_bus::nats::Login::User("edge".into(), wrong);
    assert!(denied(Config { login, ..right.clone() }).await.contains("authorization"));
    let stranger = Some(nats.tls().unwrap().stranger.clone());
    assert!(denied(Config { ca_file: stranger, ..right.clone() }).await.contains("certificate"));
    let missing = Some(nats.dir().join("no-such-file.pem"));
    assert!(denied(Config { ca_file: missing, ..right }).await.contains("no-such-file.pem"));
    let nats = Nats::start(NatsOptions { client_certificates: true, ..NatsOptions::default() });
    let without = Config { certificate: None, ..nats.config() };
    assert!(denied(without).await.to_lowercase().contains("certificate"));
}

#[tokio::test]
async fn given_no_server_or_an_old_one_when_the_relay_connects_then_it_is_told_what_to_do() {
    let mut nats = Nats::start(NatsOptions::default());
    let config = nats.config();
    nats.kill9();
    let failed = NatsBroker::new(config.clone()).connect().await;
    assert!(matches!(failed, Err(Failure::Unreachable(_))));
    // No release so old is at hand: its greeting is enough.
    let old = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://{}", old.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        for _ in 0..3 {
            greet(&old);
        }
    });
    let config = Config { urls: vec![url], ..config };
    let findings = misfit(config.clone()).await;
    assert_eq!(findings.len(), 1);
    assert!(findings[0].contains("2.9.10") && findings[0].contains("2.10"), "{findings:?}");
    assert_eq!(NatsBroker::new(config.clone()).inspect("edge-1").await.unwrap().wrong, findings);
    // A reader waits for the update.
    let hints = Arc::new(FileHints::new(nats.dir()));
    let request =
        Request { name: None, filter: Filter::default(), start: Start::Beginning, linger: Duration::ZERO };
    let read = NatsBus::new(config, hints).subscribe(request).await.map(drop);
    let Err(Error::Unavailable(why)) = read else { panic!("{read:?}") };
    assert!(why.contains("2.9.10"), "{why}");
    // The connection was dropped: the other side sees its end.
    tokio::task::spawn_blocking(|| server.join().unwrap()).await.unwrap();
}

/// Greets one client as an old server does, and waits for it to go.
fn greet(old: &std::net::TcpListener) {
    use std::io::{Read, Write};
    let (mut client, _) = old.accept().unwrap();
    let info = json!({"server_id": "x", "version": "2.9.10", "max_payload": 1 << 20, "headers": true});
    write!(client, "INFO {info}\r\n").unwrap();
    client.read_exact(&mut [0; 8]).unwrap();
    client.write_all(b"PONG\r\n").unwrap();
    let _ = client.read_to_end(&mut Vec::new());
}

#[tokio::test]
async fn given_a_login_without_rights_when_asked_then_each_right_that_is_missing_is_named() {
    let edge = |publish: &[&str]| NatsUser {
        name: "relay".to_owned(),
        password: "pw-relay".to_owned(),
        publish: Some(publish.iter().map(|subject| (*subject).to_owned()).collect()),
        subscribe: None,
    };
    let users = vec![edge(&["$JS.API.>", "signalbox.v1.*.*.*.edge-1"])];
    let nats = Nats::start(NatsOptions { login: NatsLogin::User, users, ..NatsOptions::default() });
    made(&nats).await;
    let file = nats.dir().join("relay-password");
    std::fs::write(&file, "pw-relay").unwrap();
    let login = signalbox_bus::nats::Login::User("relay".to_owned(), file);
    let broker = NatsBroker::new(Config { login, ..nats.config() });
    assert_eq!(broker.inspect("edge-1").await.unwrap().wrong, [""; 0]);
    let wrong = broker.inspect("edge-2").await.unwrap().wrong;
    assert_eq!(wrong.len(), 4, "{wrong:?}");
    assert!(wrong[0].contains("signalbox.v1.call.checked._.edge-2"), "{wrong:?}");
    // Nothing was stored by asking.
    let context = jetstream::new(nats.client().await);
    for stream in ["SIGNALBOX_CALL", "SIGNALBOX_OPERATIONS"] {
        assert_eq!(context.get_stream(stream).await.unwrap().cached_info().state.messages, 0);
    }
}

#[tokio::test]
async fn given_streams_of_somebody_else_when_they_are_only_checked_then_every_fault_is_named() {
    let nats = Nats::start(NatsOptions::default());
    let context = jetstream::new(nats.client().await);
    let checked = Config { manage: false, ..nats.config() };
    let missing = misfit(checked.clone()).await;
    assert_eq!(missing.len(), 4);
    assert!(missing[0].contains("nats stream add SIGNALBOX_CALL"), "{missing:?}");
    let managed = NatsBroker::new(nats.config()).inspect("edge-1").await.unwrap();
    assert_eq!((managed.wrong.len(), managed.notes.len()), (0, 4), "they will be made: {managed:?}");
    assert_eq!(NatsBroker::new(checked.clone()).inspect("edge-1").await.unwrap().wrong, missing);
    let theirs = stream::Config {
        name: "SIGNALBOX_CALL".into(),
        subjects: vec!["signalbox.v1.call.>".into(), "theirs.>".into()],
        max_age: Duration::from_secs(3_600),
        duplicate_window: Duration::from_secs(1),
        max_messages: 5,
        ..Default::default()
    };
    context.create_stream(theirs).await.unwrap();
    let findings = misfit(checked.clone()).await.join("\n");
    for fault in ["media", "oldest", "allow-direct", "deny-delete", "max_msgs is 5", "max_age", "dupe-window"]
    {
        assert!(findings.contains(fault), "{fault} is not in {findings}");
    }
    // Managed, it is mended, and what it has besides is left.
    let mut relay = Relay::connect(nats.config()).await;
    relay.publish(&calls(&mut pen(), 6));
    for _ in 0..6 {
        assert!(matches!(relay.told().await, Told::Acked { .. }));
    }
    let mended = context.get_stream("SIGNALBOX_CALL").await.unwrap().cached_info().config.clone();
    assert!(mended.subjects.contains(&"theirs.>".to_owned()) && mended.subjects.len() == 6);
    assert_eq!(mended.discard, stream::DiscardPolicy::New);
    assert!(Relay::try_connect(checked).await.is_ok());
}

#[tokio::test]
async fn given_what_cannot_be_changed_when_streams_are_managed_then_it_is_said_and_nothing_is_deleted() {
    let nats = Nats::start(NatsOptions::default());
    let context = jetstream::new(nats.client().await);
    made(&nats).await;
    context.publish("signalbox.v1.call.ended.acme.edge-1", "x".into()).await.unwrap().await.unwrap();
    // A shorter age would delete at once: it stays, and people are told.
    let mut shorter = nats.config();
    shorter.max_age.call = Duration::from_nanos(1);
    shorter.max_bytes = 10;
    let told = NatsBroker::new(shorter.clone()).inspect("edge-1").await.unwrap().notes.join("\n");
    assert!(told.contains("max_age") && told.contains("max_bytes"), "{told}");
    made_with(shorter).await;
    assert_eq!(context.get_stream("SIGNALBOX_CALL").await.unwrap().cached_info().state.messages, 1);
    let findings = misfit(Config { replicas: 3, ..nats.config() }).await;
    assert!(findings[0].contains("bus.nats.replicas"), "{findings:?}");
    context.delete_stream("SIGNALBOX_SECURITY").await.unwrap();
    let memory = stream::Config {
        name: "SIGNALBOX_SECURITY".into(),
        subjects: vec!["signalbox.v1.security.>".into()],
        storage: stream::StorageType::Memory,
        ..Default::default()
    };
    context.create_stream(memory).await.unwrap();
    let findings = misfit(nats.config()).await;
    assert!(findings[0].contains("SIGNALBOX_SECURITY") && findings[0].contains("memory"), "{findings:?}");
}

async fn made_with(config: Config) {
    assert!(Relay::try_connect(config).await.is_ok());
}

#[tokio::test]
async fn given_a_full_stream_when_events_are_published_then_they_are_refused_and_taken_when_there_is_room() {
    let nats = Nats::start(NatsOptions::default());
    let small = Config { max_bytes: 20_000, ..nats.config() };
    let mut relay = Relay::connect(small).await;
    let events = calls(&mut pen(), 60);
    relay.publish(&events);
    let told: Vec<Told> = relay.told_of(60).await;
    let taken = told.iter().filter(|told| matches!(told, Told::Acked { .. })).count();
    assert!(taken > 5 && taken < 60, "{taken}");
    let full = Told::Refused { ticket: Ticket(60), why: Refusal::Full };
    assert_eq!(told[59], full);
    let mut relay = Relay::connect(nats.config()).await;
    let found = relay.ends(&[]).await;
    assert_eq!(numbers(&found[0].above), (1..=taken as u64).collect::<Vec<_>>());
    relay.publish(&events[taken..]);
    assert!(relay.told_of(60 - taken).await.iter().all(|told| matches!(told, Told::Acked { .. })));
}

#[tokio::test]
async fn given_an_event_that_is_too_large_or_has_no_stream_then_only_it_is_refused() {
    let nats = Nats::start(NatsOptions { max_payload: 4_096, ..NatsOptions::default() });
    let notes = NatsBroker::new(nats.config()).inspect("edge-1").await.unwrap().notes;
    assert!(notes[0].contains("max_payload"), "{notes:?}");
    let mut relay = Relay::connect(nats.config()).await;
    let mut events = calls(&mut pen(), 3);
    events[1].data = format!(r#"{{"text":"{}"}}"#, "x".repeat(4_096)).as_bytes().into();
    relay.publish(&events);
    let told = relay.told_of(3).await;
    let refused: Vec<&Told> = told.iter().filter(|told| !matches!(told, Told::Acked { .. })).collect();
    let [Told::Refused { ticket: Ticket(2), why: Refusal::TooLarge { bytes, max: 4_096 } }] = refused[..]
    else {
        panic!("{refused:?}")
    };
    assert!(*bytes > 4_096);
    jetstream::new(nats.client().await).delete_stream("SIGNALBOX_CALL").await.unwrap();
    relay.publish(&events[..1]);
    let refused = Told::Refused { ticket: Ticket(4), why: Refusal::NoStream };
    assert_eq!(relay.told().await, refused);
}

#[tokio::test]
async fn given_events_under_way_when_the_server_is_killed_then_it_is_told_and_nothing_is_stored_later() {
    let mut nats = Nats::start(NatsOptions::default());
    let mut pen = pen();
    let events = calls(&mut pen, 2_000);
    // The relay's thread: its runtime goes with the connection.
    let (first, config) = (events[..1_000].to_vec(), nats.config());
    let (acked, wait) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let known = runtime.block_on(async {
            let mut relay = Relay::connect(config).await;
            relay.publish(&first[..500]);
            let mut told = relay.told_of(500).await;
            acked.send(()).unwrap();
            loop {
                match next(&mut *relay.connection.publisher).await {
                    Told::Lost(_) => break,
                    other => told.push(other),
                }
            }
            // It is broken: what is queued now must never be sent.
            relay.publish_anyway(&first[500..]);
            told.len()
        });
        drop(runtime);
        known
    });
    wait.recv().unwrap();
    nats.kill9();
    assert_eq!(thread.join().unwrap(), 500);
    nats.start_again();
    let mut relay = Relay::connect(nats.config()).await;
    let found = relay.ends(&[]).await;
    assert_eq!(numbers(&found[0].above).last(), Some(&500), "nothing stale was sent on reconnection");
    relay.publish(&events[500..]);
    relay.told_of(1_500).await;
    let found = relay.ends(&[]).await;
    assert_eq!(numbers(&found[0].above), (1..=2_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn given_a_server_that_was_rolled_back_then_its_ends_say_what_is_left_and_what_does_not_hold() {
    let mut nats = Nats::start(NatsOptions::default());
    let mut pen = pen();
    let events = calls(&mut pen, 30);
    let mut relay = Relay::connect(nats.config()).await;
    relay.publish(&events[..10]);
    relay.told_of(10).await;
    let copied = nats.copy();
    let mut relay = Relay::connect(nats.config()).await;
    relay.publish(&events[10..20]);
    relay.told_of(10).await;
    let known = relay.known(&events[19], 20);
    let holds = relay.ends(std::slice::from_ref(&known)).await.swap_remove(0);
    assert!(holds.known_holds && holds.above.is_empty());
    assert_eq!(holds.last_of_journal.as_ref().unwrap().id.seq, EventSeq(20));
    nats.roll_back(&copied);
    let mut relay = Relay::connect(nats.config()).await;
    let lost = relay.ends(std::slice::from_ref(&known)).await.swap_remove(0);
    assert!(!lost.known_holds);
    assert_eq!(numbers(&lost.above), (1..=10).collect::<Vec<_>>());
    assert_eq!(lost.last.unwrap().id.seq, EventSeq(10));
    // Another event at the known place is not the known one.
    relay.publish(&events[20..30]);
    relay.told_of(10).await;
    let other = relay.ends(std::slice::from_ref(&known)).await.swap_remove(0);
    assert!(!other.known_holds);
    assert_eq!(other.last.unwrap().id.seq, EventSeq(30));
    // The same place of a stream that was made anew.
    let context = jetstream::new(nats.client().await);
    context.delete_stream("SIGNALBOX_CALL").await.unwrap();
    let mut relay = Relay::connect(nats.config()).await;
    relay.publish(&events[..20]);
    relay.told_of(20).await;
    let anew = relay.ends(std::slice::from_ref(&known)).await.swap_remove(0);
    assert!(!anew.known_holds && anew.above.len() == 20);
}

#[tokio::test]
async fn given_streams_that_many_share_then_only_what_is_ours_is_found() {
    let nats = Nats::start(NatsOptions::default());
    let mut relay = Relay::connect(nats.config()).await;
    let mut own = pen();
    let source = relay.source.clone();
    let other = |edge: &str, cluster: &str, journal: u128| Source {
        edge: edge.into(),
        cluster: cluster.into(),
        journal: JournalId(journal),
    };
    let strangers = [other("edge-2", "test", 2), other("edge-1", "elsewhere", 3)];
    let events = calls(&mut own, 5);
    relay.publish(&events);
    let earlier = Source { journal: JournalId(9), ..source.clone() };
    for from in strangers.into_iter().chain([earlier.clone()]) {
        relay.publish(&calls(&mut signalbox_brokers::conformance::Pen::new(from), 4));
    }
    relay.told_of(17).await;
    let found = relay.ends(&[]).await.swap_remove(0);
    let journals: Vec<u128> = found.above.iter().map(|found| found.id.journal.0).collect();
    assert_eq!(journals, [1, 1, 1, 1, 1, 9, 9, 9, 9]);
    assert_eq!(found.last.unwrap().id.journal, earlier.journal);
    let last = found.last_of_journal.unwrap();
    assert_eq!((last.id.journal, last.id.seq, last.place), (source.journal, EventSeq(5), 5));
    assert_eq!(last.digest, Some(signalbox_bus::wire::digest(&events[4])));
    let back = relay.connection.own.read_back(&source, LaneId(0), 3, 4).await.unwrap();
    assert_eq!(numbers(&back), [3, 4, 5, 1]);
    assert_eq!((back[0].domain_seq, &*back[0].domain), (3, "call"));
    let empty = relay.connection.own.read_back(&source, LaneId(1), 1, 100).await.unwrap();
    assert!(empty.is_empty());
}

#[tokio::test]
async fn given_events_that_retention_took_when_the_relay_comes_back_then_nothing_counts_as_lost() {
    let nats = Nats::start(NatsOptions::default());
    let mut relay = Relay::connect(nats.config()).await;
    let events = calls(&mut pen(), 10);
    relay.publish(&events);
    relay.told_of(10).await;
    let known = relay.known(&events[9], 10);
    let stream = jetstream::new(nats.client().await).get_stream("SIGNALBOX_CALL").await.unwrap();
    stream.purge().await.unwrap();
    let found = relay.ends(&[known]).await.swap_remove(0);
    assert!(found.known_holds && found.above.is_empty());
}

#[tokio::test]
async fn given_an_edge_without_rights_when_it_publishes_then_the_event_is_refused() {
    let few = NatsUser {
        name: "few".into(),
        password: "pw".into(),
        publish: Some(vec!["$JS.API.>".into(), "signalbox.v1.call.>".into()]),
        subscribe: Some(vec!["_INBOX.>".into()]),
    };
    let none = NatsUser { name: "none".into(), publish: Some(vec!["x".into()]), ..few.clone() };
    let nats = Nats::start(NatsOptions { users: vec![few, none], ..NatsOptions::default() });
    made(&nats).await;
    let password = nats.dir().join("pw");
    std::fs::write(&password, "pw").unwrap();
    let as_user = |name: &str| Config {
        login: signalbox_bus::nats::Login::User(name.into(), password.clone()),
        ..nats.config()
    };
    let mut relay = Relay::connect(as_user("few")).await;
    let mut pen = pen();
    let events =
        [pen.event("call.ended.v1", "acme", "c", 1), pen.event("security.blocked.v1", "", "192.0.2.1", 1)];
    relay.publish(&events);
    let told = relay.told_of(2).await;
    assert!(told.contains(&Told::Acked { ticket: Ticket(1), place: 1, duplicate: false }));
    let refused = told.iter().any(|told| {
        matches!(told, Told::Refused { ticket: Ticket(2), why: Refusal::NotAllowed(what) } if what.contains("security"))
    });
    assert!(refused, "{told:?}");
    assert!(denied(as_user("none")).await.contains("Permissions"));
}

#[tokio::test]
async fn given_a_tenant_s_reader_then_it_reads_its_tenant_and_nothing_else() {
    const FILTER: &str = "signalbox.v1.*.*.acme.*";
    let api = "$JS.API.CONSUMER";
    let acme = NatsUser {
        name: "acme".into(),
        password: "pw".into(),
        publish: Some(vec![
            format!("{api}.CREATE.SIGNALBOX_CALL.acme.{FILTER}"),
            format!("{api}.MSG.NEXT.SIGNALBOX_CALL.acme"),
        ]),
        subscribe: Some(vec![FILTER.into(), "_INBOX_acme.>".into()]),
    };
    let nats = Nats::start(NatsOptions { users: vec![acme], ..NatsOptions::default() });
    let mut relay = Relay::connect(nats.config()).await;
    let mut pen = pen();
    let events = ["acme", "globex", "acme", ""].map(|tenant| pen.event("call.ended.v1", tenant, "c", 1));
    relay.publish(&events);
    relay.told_of(4).await;
    let options = async_nats::ConnectOptions::with_user_and_password("acme".into(), "pw".into());
    let options = options.custom_inbox_prefix("_INBOX_acme").request_timeout(Some(Duration::from_secs(1)));
    let client = options.connect(nats.url()).await.unwrap();
    let create = |name: &str, filter: &str| {
        let body = json!({"stream_name": "SIGNALBOX_CALL", "config": {"name": name, "ack_policy": "none",
            "deliver_policy": "all", "filter_subject": filter}});
        client.request(format!("{api}.CREATE.SIGNALBOX_CALL.{name}.{FILTER}"), body.to_string().into())
    };
    let foreign = create("acme", "signalbox.v1.*.*.*.*").await.unwrap();
    assert!(String::from_utf8_lossy(&foreign.payload).contains("\"error\""));
    let made = create("acme", FILTER).await.unwrap();
    assert!(!String::from_utf8_lossy(&made.payload).contains("\"error\""));
    // What is pulled keeps its own subject, so an inbox of its own is needed.
    let mut pulled = client.subscribe("_INBOX_acme.pull").await.unwrap();
    let ask = json!({"batch": 10, "no_wait": true}).to_string();
    let pull = format!("{api}.MSG.NEXT.SIGNALBOX_CALL.acme");
    client.publish_with_reply(pull, "_INBOX_acme.pull", ask.into()).await.unwrap();
    for (tenant, seq) in [("acme", 1), ("acme", 3)] {
        let next = tokio::time::timeout(PATIENCE, pulled.next()).await.unwrap().unwrap();
        let event = Delivered::from_structured(&next.payload).unwrap();
        assert_eq!((&*event.tenant, event.seq), (tenant, EventSeq(seq)));
    }
    let end = tokio::time::timeout(PATIENCE, pulled.next()).await.unwrap().unwrap();
    assert!(end.status.is_some(), "there was more: {end:?}");
    for beyond in [
        "$JS.API.STREAM.MSG.GET.SIGNALBOX_CALL",
        "$JS.API.DIRECT.GET.SIGNALBOX_CALL",
        "$JS.API.CONSUMER.CREATE.SIGNALBOX_CALL",
        "$JS.API.CONSUMER.MSG.NEXT.SIGNALBOX_CALL.other",
        "$JS.API.STREAM.INFO.SIGNALBOX_CALL",
    ] {
        let answer = client.request(beyond, json!({"seq": 2}).to_string().into()).await;
        assert!(answer.is_err(), "{beyond} was answered");
    }
}

#[tokio::test]
async fn given_edges_that_tell_that_they_live_then_who_listens_hears_it_and_nothing_is_stored() {
    let nats = Nats::start(NatsOptions::default());
    made(&nats).await;
    let prod = Heartbeats::connect(&nats.config(), "prod").await.unwrap();
    let other = Heartbeats::connect(&nats.config(), "lab").await.unwrap();
    let mut heard = prod.listen().await.unwrap();
    other.beat("edge-9", b"{}").await.unwrap();
    prod.beat("edge 1.a", br#"{"calls":3}"#).await.unwrap();
    let (edge, body) = heard.next().await.unwrap();
    assert_eq!((&*edge, &body[..]), ("edge 1.a", &br#"{"calls":3}"#[..]));
    let context = jetstream::new(nats.client().await);
    for group in signalbox_bus::wire::GROUPS {
        assert_eq!(context.get_stream(group.stream).await.unwrap().cached_info().state.messages, 0);
    }
    drop(nats);
    assert!(heard.next().await.is_err());
}

/// The replay's stream is no stream of live events, and made on demand.
#[tokio::test]
async fn given_a_replay_then_it_goes_to_a_stream_of_its_own() {
    let nats = Nats::start(NatsOptions::default());
    let broker: Arc<dyn Broker> = Arc::new(NatsBroker::replay(nats.config(), "r-1"));
    let mut relay = Relay::with(broker).await;
    relay.publish(&calls(&mut pen(), 2));
    assert_eq!(relay.told_of(2).await.len(), 2);
    let stream = jetstream::new(nats.client().await).get_stream("SIGNALBOX_REPLAY").await.unwrap();
    assert_eq!(stream.cached_info().state.messages, 2);
}

/// What the relay would have saved.
impl Relay {
    fn known(&self, event: &Delivered, place: u64) -> LaneSaved {
        let lane = &self.connection.lanes[0];
        LaneSaved {
            name: lane.name.to_string(),
            incarnation: lane.incarnation.to_string(),
            place,
            journal: event.source.journal.to_string(),
            seq: event.seq.0,
        }
    }
}
