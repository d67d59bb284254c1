//! The brokers themselves: they start, die, come back and go back, and let in whom they should.

use async_nats::jetstream::{self, stream};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{FutureProducer, FutureRecord};
use signalbox_brokers::{Kafka, KafkaOptions, Nats, NatsLogin, NatsOptions, NatsUser, Server, kafka};
use signalbox_e2e::wait;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

async fn stored_in(nats: &Nats) -> u64 {
    let stream = jetstream::new(nats.client().await).get_stream("STORY").await.unwrap();
    stream.cached_info().state.messages
}

async fn make_stream(nats: &Nats) -> jetstream::Context {
    let context = jetstream::new(nats.client().await);
    let config =
        stream::Config { name: "STORY".into(), subjects: vec!["story.>".into()], ..Default::default() };
    context.create_stream(config).await.unwrap();
    context
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_events_in_nats_when_it_is_killed_and_rolled_back_then_it_holds_what_it_held_then() {
    let mut nats = Nats::start(NatsOptions::default());
    let context = make_stream(&nats).await;
    let publish = async |context: &jetstream::Context| {
        context.publish("story.a", "one".into()).await.unwrap().await.unwrap();
    };
    publish(&context).await;
    let copied = nats.copy();
    let context = jetstream::new(nats.client().await);
    publish(&context).await;
    nats.kill9();
    nats.start_again();
    assert_eq!(stored_in(&nats).await, 2, "it was killed, not its disk");
    nats.roll_back(&copied);
    assert_eq!(stored_in(&nats).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_any_login_to_nats_when_a_client_uses_it_then_a_stream_can_be_made_and_others_are_refused() {
    for login in [NatsLogin::Token, NatsLogin::User, NatsLogin::Nkey, NatsLogin::Credentials] {
        let tls = login != NatsLogin::Token;
        let options =
            NatsOptions { login, tls, client_certificates: login == NatsLogin::Nkey, ..Default::default() };
        let nats = Nats::start(options);
        make_stream(&nats).await;
        let mut stranger = async_nats::ConnectOptions::new();
        if let Some(tls) = nats.tls() {
            stranger = stranger.add_root_certificates(tls.ca.clone());
        }
        assert!(stranger.connect(nats.url()).await.is_err(), "{login:?} is not needed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_user_of_nats_with_few_rights_when_it_publishes_elsewhere_then_nothing_is_stored() {
    let acme = NatsUser {
        name: "acme".into(),
        password: "pw".into(),
        publish: Some(vec!["story.acme".into()]),
        subscribe: Some(vec!["_INBOX.>".into()]),
    };
    let nats = Nats::start(NatsOptions { users: vec![acme], ..Default::default() });
    make_stream(&nats).await;
    let options = async_nats::ConnectOptions::with_user_and_password("acme".into(), "pw".into());
    let client = options.connect(nats.url()).await.unwrap();
    client.publish("story.globex", "x".into()).await.unwrap();
    jetstream::new(client).publish("story.acme", "x".into()).await.unwrap().await.unwrap();
    assert_eq!(stored_in(&nats).await, 1);
}

async fn make_topic(kafka: &Kafka) {
    let admin: AdminClient<_> = kafka.client().create().unwrap();
    let topic = NewTopic::new("story", 1, TopicReplication::Fixed(1));
    let made = admin.create_topics([&topic], &AdminOptions::new()).await.unwrap();
    assert_eq!(made, [Ok("story".to_owned())]);
}

async fn produce(client: &ClientConfig) -> i64 {
    let producer: FutureProducer = client.create().unwrap();
    producer.send(FutureRecord::to("story").key("k").payload("v"), SOON).await.unwrap().offset
}

fn end(kafka: &Kafka) -> i64 {
    let consumer: BaseConsumer = kafka.client().create().unwrap();
    consumer.fetch_watermarks("story", 0, SOON).unwrap().1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_events_in_kafka_when_it_is_killed_and_rolled_back_then_it_holds_what_it_held_then() {
    let mut kafka = Kafka::start(KafkaOptions::default());
    make_topic(&kafka).await;
    assert_eq!(produce(&kafka.client()).await, 0);
    let copied = kafka.copy();
    assert_eq!(produce(&kafka.client()).await, 1);
    kafka.kill9();
    kafka.start_again();
    assert_eq!(end(&kafka), 2, "it was killed, not its disk");
    kafka.roll_back(&copied);
    assert_eq!(end(&kafka), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_story_that_left_kafka_dead_with_topics_when_the_next_has_it_then_it_runs_and_is_empty() {
    let mut first = kafka::lease();
    make_topic(&first).await;
    assert_eq!(produce(&first.client()).await, 0);
    first.kill9();
    drop(first);
    let next = kafka::lease();
    make_topic(&next).await;
    assert_eq!(end(&next), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_users_of_kafka_when_they_log_in_then_each_sees_what_it_may() {
    let user = |name: &str| (name.to_owned(), format!("pw-{name}"));
    let kafka = Kafka::start(KafkaOptions {
        scram: vec![user("edge"), user("acme")],
        plain: vec![user("other")],
        tls: true,
        acls: true,
        properties: vec![],
    });
    make_topic(&kafka).await;
    let as_user = |name: &str, password: &str, mechanism: &str| {
        let mut client = kafka.client();
        client
            .set("bootstrap.servers", kafka.sasl_url())
            .set("security.protocol", "sasl_ssl")
            .set("ssl.ca.location", kafka.tls().unwrap().ca.display().to_string())
            .set("sasl.mechanism", mechanism)
            .set("sasl.username", name)
            .set("sasl.password", password);
        client
    };
    let sees = |client: ClientConfig| {
        let consumer: BaseConsumer = client.create().unwrap();
        consumer.fetch_metadata(None, SOON).ok().map(|metadata| metadata.topics().len())
    };
    assert_eq!(produce(&as_user("edge", "pw-edge", "SCRAM-SHA-512")).await, 0);
    assert_eq!(produce(&as_user("other", "pw-other", "PLAIN")).await, 1);
    assert_eq!(sees(as_user("acme", "pw-acme", "SCRAM-SHA-256")), Some(0));
    kafka.allow_read("acme", "sto");
    wait::until_true("the broker to know its new rule", || {
        sees(as_user("acme", "pw-acme", "SCRAM-SHA-256")) == Some(1)
    });
    let mut anonymous = kafka.client();
    anonymous
        .set("bootstrap.servers", kafka.tls_url())
        .set("security.protocol", "ssl")
        .set("ssl.ca.location", kafka.tls().unwrap().ca.display().to_string());
    assert_eq!(sees(anonymous), Some(1));
    let consumer: BaseConsumer = as_user("edge", "wrong", "SCRAM-SHA-512").create().unwrap();
    assert!(consumer.fetch_metadata(None, Duration::from_secs(3)).is_err());
}
