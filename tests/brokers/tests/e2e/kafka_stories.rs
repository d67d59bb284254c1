//! Kafka as a relay writes to it: it dies, goes back, asks who we are, has other topics than it should.

use crate::kafka_hand::{Line, above, in_time, mixed, read, reader, records, source};
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewPartitions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use signalbox_brokers::conformance::Pen;
use signalbox_brokers::{Kafka, KafkaOptions, Server, kafka};
use signalbox_bus::Delivered;
use signalbox_bus::kafka::{Config, Heartbeats, KafkaBroker, Login, Mechanism, heartbeats};
use signalbox_bus::publisher::{Broker, Failure, LaneId};
use signalbox_bus::wire::LOCATION_TOPIC;
use std::path::PathBuf;

fn broker(config: &Config) -> KafkaBroker {
    KafkaBroker::new(config.clone(), "edge-1")
}

async fn refused(config: &Config) -> Failure {
    in_time("a refusal", broker(config).connect()).await.err().expect("it must not be taken")
}

fn misfit(failure: Failure) -> Vec<String> {
    let Failure::Misfit(lines) = failure else { panic!("{failure:?}") };
    lines
}

/// What is wrong and what else there is to say, asked with this configuration.
async fn inspected(config: &Config) -> (Vec<String>, Vec<String>) {
    let found = in_time("a look", broker(config).inspect("edge-1")).await.unwrap();
    (found.wrong, found.notes)
}

fn admin(kafka: &Kafka) -> AdminClient<DefaultClientContext> {
    kafka.client().create().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_events_under_way_when_kafka_is_killed_then_none_of_them_is_sent_when_it_is_back() {
    let mut kafka = kafka::lease();
    let broker = broker(&kafka.config());
    let mut line = Line::open(&broker).await.unwrap();
    let events = mixed(&mut Pen::new(source()), 40);
    line.put(&events[..20]).await;
    let known = line.saved.clone();
    kafka.kill9();
    let sent = line.send(&events[20..40]);
    assert!(sent.is_ok() || matches!(sent, Err(Failure::Unreachable(_))));
    line.until_lost().await;
    kafka.start_again();
    assert!(line.send(&events[20..21]).is_err(), "a connection that was lost stays lost");
    let mut again = Line::reopen(&broker).await;
    let found = again.ends(&known).await;
    assert_eq!(above(&found), [0u64; 0], "nothing came after what was acknowledged");
    assert_eq!(found.iter().filter(|lane| lane.known_holds).count(), known.len());
    again.put(&events[20..]).await;
    assert_eq!(above(&again.ends(&known).await), (21..=40).collect::<Vec<_>>());
    let dir = tempfile::tempdir().unwrap();
    let mut subscription = reader(kafka.config(), dir.path()).await;
    let mut seqs: Vec<u64> = read(&mut *subscription, 40).await.iter().map(|event| event.seq.0).collect();
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=40).collect::<Vec<_>>(), "each is stored once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_copy_from_before_a_producer_or_one_that_knows_it_when_kafka_goes_back_then_the_loss_shows() {
    let mut kafka = kafka::lease();
    let broker = broker(&kafka.config());
    let events = mixed(&mut Pen::new(source()), 40);
    let mut line = Line::open(&broker).await.unwrap();
    line.put(&events[..10]).await;
    // This copy knows the producer of the line.
    let knows_it = kafka.copy();
    line.until_lost().await;
    let mut line = Line::reopen(&broker).await;
    line.put(&events[10..20]).await;
    let known = line.saved.clone();
    line.send(&events[20..25]).unwrap();
    kafka.roll_back(&knows_it);
    line.until_lost().await;
    // It was from before the first write of this one's producer.
    let mut line = Line::reopen(&broker).await;
    let found = line.ends(&known).await;
    assert_eq!(above(&found), (1..=10).collect::<Vec<_>>());
    assert!(found.iter().all(|lane| !lane.known_holds));
    line.put(&events[10..40]).await;
    let found = line.ends(&known).await;
    let all: Vec<u64> = above(&line.ends(&[]).await);
    assert_eq!(all, (1..=40).collect::<Vec<_>>(), "each is there once: {found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_no_saved_places_when_the_ends_are_asked_then_others_are_told_apart_and_the_tail_is_whole() {
    let kafka = kafka::lease();
    let broker = broker(&kafka.config());
    let mut line = Line::open(&broker).await.unwrap();
    let mut pen = Pen::new(source());
    let other = signalbox_bus::Source { edge: "edge-2".into(), ..source() };
    let older = signalbox_bus::Source { journal: signalbox_base::JournalId(9), ..source() };
    line.put(&[pen.event("call.routed.v1", "acme", "k", 1)]).await;
    line.put(&[Pen::new(older).event("call.routed.v1", "acme", "k", 1)]).await;
    let others: Vec<Delivered> = {
        let mut pen = Pen::new(other);
        (0..3_000).map(|_| pen.event("call.routed.v1", "acme", "k", 1)).collect()
    };
    line.send(&others).unwrap();
    for _ in &others {
        in_time("an acknowledgement", line.connection.publisher.told()).await;
    }
    let found = line.ends(&[]).await;
    let lane = found.iter().find(|lane| lane.last.is_some()).unwrap();
    let (last, of_journal) = (lane.last.as_ref().unwrap(), lane.last_of_journal.as_ref().unwrap());
    assert_eq!((last.id.journal, last.place), (signalbox_base::JournalId(9), 1));
    assert_eq!((of_journal.id.journal, of_journal.place), (signalbox_base::JournalId(1), 0));
    assert_eq!(lane.above.len(), 2, "3,000 events of another edge lie behind them");
    let at = found.iter().position(|lane| lane.last.is_some()).unwrap();
    let lane = LaneId(u16::try_from(at).unwrap());
    let read = line.connection.own.read_back(&source(), lane, 0, 1).await.unwrap();
    assert_eq!((read.len(), read[0].id.seq.0, &*read[0].domain, read[0].domain_seq), (1, 1, "call", 1));
    assert_eq!(line.connection.own.read_back(&source(), lane, 2, 10).await.unwrap(), []);
    assert_eq!(line.connection.own.read_back(&source(), lane, 9_999, 10).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_logins_over_tls_when_the_password_is_right_then_all_works_and_else_it_is_told() {
    let user = |name: &str| (name.to_owned(), format!("{name}'s secret"));
    let options =
        KafkaOptions { scram: vec![user("edge")], plain: vec![user("plain")], ..Default::default() };
    let kafka = Kafka::start(options);
    let file = |name: &str, text: &str| -> PathBuf {
        let path = kafka.dir().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (right, wrong) = (file("right", "edge's secret\n"), file("wrong", "no secret"));
    let plain = file("plain", "plain's secret");
    let login = |mechanism, user: &str, password_file: &PathBuf| {
        let login = Login { mechanism, user: user.into(), password_file: password_file.clone() };
        Config { login: Some(login), ..kafka.config() }
    };
    let mut pen = Pen::new(source());
    let ways = [
        login(Mechanism::ScramSha512, "edge", &right),
        login(Mechanism::ScramSha256, "edge", &right),
        login(Mechanism::Plain, "plain", &plain),
    ];
    for (n, config) in ways.iter().enumerate() {
        let mut line = Line::open(&broker(config)).await.unwrap();
        line.put(&mixed(&mut pen, 3)).await;
        let mut subscription = reader(config.clone(), kafka.dir()).await;
        assert_eq!(read(&mut *subscription, 3 * (n + 1)).await.len(), 3 * (n + 1));
    }
    let strangers = [
        login(Mechanism::ScramSha512, "edge", &wrong),
        login(Mechanism::ScramSha256, "nobody", &right),
        login(Mechanism::Plain, "plain", &wrong),
    ];
    for config in strangers {
        let failure = refused(&config).await;
        assert!(matches!(failure, Failure::Denied(_)), "{failure:?}");
        assert!(failure.to_string().contains("uthentication"), "{failure}");
    }
    let untrusted = Config { ca_file: Some(kafka.tls().unwrap().stranger.clone()), ..ways[0].clone() };
    let failure = refused(&untrusted).await;
    assert!(matches!(&failure, Failure::Unreachable(why) if why.contains("ertificate")), "{failure:?}");
    let bare = Config { tls: false, ..ways[2].clone() };
    assert!(misfit(refused(&bare).await)[0].contains("PLAIN"));
    let lost = Config {
        login: Some(Login { password_file: "/nowhere".into(), ..ways[0].login.clone().unwrap() }),
        ..ways[0].clone()
    };
    assert!(misfit(refused(&lost).await)[0].contains("/nowhere"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_topics_when_their_count_of_partitions_changes_then_it_is_refused_with_the_reason() {
    let kafka = kafka::lease();
    let config = kafka.config();
    Line::open(&broker(&config)).await.unwrap();
    let lines = misfit(refused(&Config { partitions: 6, ..config.clone() }).await);
    let line = lines.iter().find(|line| line.starts_with("topic signalbox.call.v1 ")).unwrap();
    assert!(line.contains("has 3 partitions, the configuration says 6") && line.contains("order"), "{line}");
    let more = [NewPartitions::new("signalbox.call.v1", 5)];
    admin(&kafka).create_partitions(&more, &AdminOptions::new()).await.unwrap()[0].clone().unwrap();
    kafka.settle();
    let lines = misfit(refused(&config).await);
    assert!(lines.len() == 1 && lines[0].contains("has 5 partitions, the configuration says 3"), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_topics_to_be_checked_only_when_something_is_wrong_then_every_finding_says_what_to_do() {
    let kafka = kafka::lease();
    let config = kafka.config();
    let unmanaged = Config { manage: false, ..config.clone() };
    let lines = misfit(refused(&unmanaged).await);
    let line = lines.iter().find(|line| line.starts_with("topic signalbox.call.v1 ")).unwrap();
    for said in
        ["is missing", "3 partitions", "retention.ms=34560000000", "message.timestamp.type=LogAppendTime"]
    {
        assert!(line.contains(said), "{line}");
    }
    assert!(
        lines.iter().any(|line| line.contains(LOCATION_TOPIC) && line.contains("cleanup.policy=compact"))
    );
    assert_eq!(inspected(&unmanaged).await, (lines, Vec::new()), "asked, it says the same");
    let (wrong, notes) = inspected(&config).await;
    assert_eq!(wrong, [""; 0]);
    assert!(notes.len() == 1 && notes[0].contains("signalbox.call.v1"), "they will be made: {notes:?}");
    let too_many = Config { replicas: 3, ..config.clone() };
    let (wrong, _) = inspected(&too_many).await;
    assert!(wrong.iter().any(|line| line.contains("replicas = 3: there are fewer brokers")), "{wrong:?}");
    let (_, notes) = inspected(&config).await;
    assert_eq!(notes.len(), 1, "asking makes nothing");
    Line::open(&broker(&config)).await.unwrap();
    Line::open(&broker(&unmanaged)).await.unwrap();
    let altered = AlterConfig::new(ResourceSpecifier::Topic("signalbox.security.v1"))
        .set("retention.ms", "1000")
        .set("segment.ms", "3600000");
    admin(&kafka).alter_configs(&[altered], &AdminOptions::new()).await.unwrap().remove(0).unwrap();
    let lines = misfit(refused(&unmanaged).await);
    assert!(
        lines[0].contains("topic signalbox.security.v1: retention.ms is 1000, it must be 7776000000"),
        "{lines:?}"
    );
    let (_, notes) = inspected(&config).await;
    assert!(notes.iter().any(|note| note.contains("the relay sets it to 7776000000")), "{notes:?}");
    Line::open(&broker(&config)).await.unwrap();
    Line::open(&broker(&unmanaged)).await.unwrap();
    let asked = [ResourceSpecifier::Topic("signalbox.security.v1")];
    let told = admin(&kafka).describe_configs(&asked, &AdminOptions::new()).await.unwrap().remove(0).unwrap();
    let segment = told.get("segment.ms").unwrap().value.clone();
    assert_eq!(segment.as_deref(), Some("3600000"), "an operator's own setting stays");
}

fn registration(pen: &mut Pen, what: &str, data: &serde_json::Value) -> Delivered {
    let event = pen.event(&format!("registration.{what}.v1"), "acme", "acme/401@acme.example", 1);
    Delivered { data: data.to_string().into_bytes().into(), ..event }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_bindings_when_they_come_change_and_go_then_the_compacted_topic_holds_the_latest_state() {
    let kafka = kafka::lease();
    let broker = broker(&kafka.config());
    let mut pen = Pen::new(source());
    let added = |binding: &str| serde_json::json!({"edge": "edge-1", "aor": "401@acme.example", "binding": binding, "user_agent": "Phone/1"});
    let bound = serde_json::json!({"edge": "edge-1", "aor": "401@acme.example", "binding": "b1", "expires_at": "2026-11-21T17:00:00Z"});
    let events =
        [registration(&mut pen, "added", &added("b1")), registration(&mut pen, "added", &added("b2"))];
    Line::open(&broker).await.unwrap().put(&events).await;
    // A relay that starts anew knows what the refresh does not say.
    let broker = KafkaBroker::new(kafka.config(), "edge-1");
    let mut line = Line::open(&broker).await.unwrap();
    let gone = serde_json::json!({"aor": "401@acme.example", "binding": "b2"});
    let events = [registration(&mut pen, "refreshed", &bound), registration(&mut pen, "removed", &gone)];
    line.put(&events).await;
    let records = records(&kafka, LOCATION_TOPIC);
    let last = |binding: &str| {
        let key = format!("acme/401@acme.example/{binding}/edge-1");
        records.iter().rev().find(|(of, _)| *of == key).unwrap().1.clone()
    };
    let state: serde_json::Value = serde_json::from_slice(&last("b1").unwrap()).unwrap();
    assert_eq!(
        (&state["user_agent"], &state["expires_at"]),
        (&"Phone/1".into(), &"2026-11-21T17:00:00Z".into())
    );
    assert_eq!(last("b2"), None, "what is gone has a tombstone");
    let found = line.ends(&[]).await;
    assert_eq!(above(&found), [1, 2, 3, 4], "the events themselves are there, too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_tenant_with_a_right_on_its_prefix_when_it_reads_everything_then_it_gets_its_own_only() {
    let user = |name: &str| (name.to_owned(), format!("{name}-secret"));
    let options = KafkaOptions { scram: vec![user("edge"), user("acme")], acls: true, ..Default::default() };
    let kafka = Kafka::start(options);
    kafka.allow_read("acme", "signalbox.tenant.acme.");
    let config = Config { per_tenant: true, ..kafka.config() };
    let broker = broker(&config);
    let mut pen = Pen::new(source());
    let events: Vec<Delivered> = (0..30)
        .map(|n| {
            pen.event(["call.routed.v1", "security.blocked.v1"][n % 2], ["acme", "acme-2", ""][n % 3], "k", 1)
        })
        .collect();
    // A tenant's topics are made at first need: the first event of each is refused, and the next connection has them.
    let line = Line::open(&broker).await.unwrap();
    let mut encoder = broker.encoder();
    let refused =
        events.iter().filter(|event| encoder.encode(event, &line.connection.lanes).is_err()).count();
    assert_eq!(refused, 20);
    Line::open(&broker).await.unwrap().put(&events).await;
    let password_file = kafka.dir().join("acme");
    std::fs::write(&password_file, "acme-secret").unwrap();
    let login = Login { mechanism: Mechanism::ScramSha512, user: "acme".into(), password_file };
    let tenant = Config { login: Some(login), ..config.clone() };
    let mut subscription = reader(tenant.clone(), kafka.dir()).await;
    let read_by_tenant = read(&mut *subscription, 10).await;
    assert!(read_by_tenant.iter().all(|event| &*event.tenant == "acme"));
    let last = pen.event("call.routed.v1", "acme", "k", 1);
    let foreign = pen.event("call.routed.v1", "acme-2", "k", 1);
    Line::open(&broker).await.unwrap().put(&[foreign, last.clone()]).await;
    assert_eq!(read(&mut *subscription, 1).await, [last]);
    let mut all = reader(config.clone(), kafka.dir()).await;
    assert_eq!(read(&mut *all, 32).await.len(), 32, "the operator reads all of them");
    // Whoever may only read is told what an edge needs.
    kafka.allow_read("acme", "signalbox.");
    let (wrong, _) = inspected(&Config { manage: false, ..tenant }).await;
    assert!(wrong.iter().any(|line| line.contains("DescribeConfigs")), "{wrong:?}");
    assert!(wrong.iter().any(|line| line.contains("no right to publish")), "{wrong:?}");
    assert_eq!(inspected(&config).await.0, [""; 0], "the edge's own login has every right");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_reader_when_a_tenant_s_first_topic_appears_then_it_is_read_from_its_beginning() {
    let kafka = kafka::lease();
    let config = Config { per_tenant: true, ..kafka.config() };
    let broker = broker(&config);
    let mut pen = Pen::new(source());
    let shared = pen.event("call.routed.v1", "", "k", 1);
    let mut line = Line::open(&broker).await.unwrap();
    line.put(std::slice::from_ref(&shared)).await;
    let mut subscription = reader(config, kafka.dir()).await;
    assert_eq!(read(&mut *subscription, 1).await, [shared]);
    let new = pen.event("call.routed.v1", "acme", "k", 1);
    assert!(broker.encoder().encode(&new, &line.connection.lanes).is_err());
    Line::open(&broker).await.unwrap().put(std::slice::from_ref(&new)).await;
    assert_eq!(read(&mut *subscription, 1).await, [new]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_edges_that_live_when_they_say_so_then_who_listens_hears_it() {
    let kafka = kafka::lease();
    let config = kafka.config();
    let failure = heartbeats(&config).await.err().unwrap();
    assert!(misfit(failure)[0].contains("signalbox.heartbeat.v1 is missing"));
    Line::open(&broker(&config)).await.unwrap();
    let mut heard = heartbeats(&config).await.unwrap();
    let sender = Heartbeats::new(&config).unwrap();
    sender.send("test/edge-1", b"{\"calls\":3}").unwrap();
    let beat = in_time("a heartbeat", heard.recv()).await.unwrap();
    assert_eq!((&*beat.key, &*beat.body), ("test/edge-1", &b"{\"calls\":3}"[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_replay_when_it_is_published_then_it_lies_in_its_own_topic_and_no_live_reader_gets_it() {
    let kafka = kafka::lease();
    let config = kafka.config();
    let events = mixed(&mut Pen::new(source()), 10);
    Line::open(&broker(&config)).await.unwrap().put(&events[..2]).await;
    let replay = KafkaBroker::replay(config.clone(), "r-1");
    Line::open(&replay).await.unwrap().put(&events).await;
    assert_eq!(records(&kafka, "signalbox.replay.r-1").len(), 10);
    let mut subscription = reader(config.clone(), kafka.dir()).await;
    read(&mut *subscription, 2).await;
    Line::open(&broker(&config)).await.unwrap().put(&events[9..]).await;
    assert_eq!(read(&mut *subscription, 1).await, [events[9].clone()]);
}
