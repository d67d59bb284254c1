//! The subscribers of `compose/examples`, each with its stock client, against real brokers with events as the product
//! publishes them.

use signalbox_base::EventSeq;
use signalbox_brokers::{Kafka, KafkaOptions, Nats, NatsOptions, cache};
use signalbox_bus::Delivered;
use signalbox_bus::kafka::KafkaBroker;
use signalbox_bus::nats::NatsBroker;
use signalbox_bus::publisher::{Broker, Ticket, Told};
use signalbox_e2e::edge::said;
use std::path::{Path, PathBuf};
use std::process::Command;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../compose/examples").canonicalize().unwrap()
}

/// Every kind of event that there is, as the golden samples have it, each with a number of its own, and with its data in one
/// line as the product writes it.
fn events() -> Vec<Delivered> {
    let read = |(number, kind): (u64, &signalbox_schemas::Kind)| {
        let mut event = Delivered::from_structured(kind.example().as_bytes()).unwrap();
        (event.seq, event.domain_seq) = (EventSeq(number), number);
        let data: serde_json::Value = serde_json::from_slice(&event.data).unwrap();
        event.data = serde_json::to_vec(&data).unwrap().into();
        event
    };
    (1..).zip(signalbox_schemas::Kind::ALL).map(read).collect()
}

/// What a subscriber of calls prints: id, type, tenant, subject.
fn calls() -> Vec<String> {
    let calls = events().into_iter().filter(|event| event.domain() == "call");
    let line = |e: Delivered| format!("{} io.signalbox.{} {} {}", e.id(), e.kind, e.tenant, e.subject);
    calls.map(line).collect()
}

/// Publishes everything as the relay does: never two of one key under way.
async fn publish(broker: &dyn Broker) {
    let mut connection = broker.connect().await.unwrap();
    let mut encoder = broker.encoder();
    for (number, event) in (1..).zip(events()) {
        let out = encoder.encode(&event, &connection.lanes).unwrap();
        connection.publisher.publish(Ticket(number), &out).unwrap();
        let told = connection.publisher.told().await;
        assert!(matches!(told, Told::Acked { ticket: Ticket(n), .. } if n == number), "{told:?}");
    }
}

/// Runs an example to its end and compares what it prints with what was published; order by key holds everywhere, and all
/// these events are of one call.
fn prints_all_calls(name: &str, command: &mut Command) {
    let mut limited = Command::new("timeout");
    limited.arg("300").arg(command.get_program()).args(command.get_args());
    if let Some(dir) = command.get_current_dir() {
        limited.current_dir(dir);
    }
    let ended = said(&mut limited);
    assert_eq!(ended.code, 0, "{name}: {ended:?}");
    let printed = ended.stdout.lines().map(|line| line.replace('"', ""));
    let printed: Vec<String> =
        printed.map(|line| line.split(' ').take(4).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(printed, calls(), "{name}");
}

fn python(file: &str) -> Command {
    let mut command = Command::new(cache().join("python/bin/python"));
    command.arg(examples().join("python").join(file));
    command
}

/// `go run`, with the versions that are pinned.
fn go(package: &str) -> Command {
    let mut command = Command::new("go");
    command.args(["run", "-mod=readonly", package]).current_dir(examples().join("go"));
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_events_on_nats_then_every_example_prints_the_calls() {
    let nats = Nats::start(NatsOptions::default());
    publish(&NatsBroker::new(nats.config())).await;
    let (url, count) = (nats.url(), calls().len().to_string());
    let port = url.rsplit(':').next().unwrap();
    prints_all_calls("python", python("nats_calls.py").args([&*url, &count]));
    prints_all_calls("go", go("./nats").args(["-url", &url, "-count", &count]));
    prints_all_calls("rust", Command::new(env!("CARGO_BIN_EXE_example-nats")).args([&*url, &count]));
    let shell = examples().join("shell/nats_calls.sh");
    prints_all_calls("shell", Command::new(shell).args(["127.0.0.1", port, &count]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_events_on_kafka_then_every_example_prints_the_calls() {
    let kafka = Kafka::start(KafkaOptions::default());
    publish(&KafkaBroker::new(kafka.config(), "edge-1")).await;
    let (servers, count) = (kafka.url(), calls().len().to_string());
    prints_all_calls("python", python("kafka_calls.py").args([&*servers, &count]));
    prints_all_calls("go", go("./kafka").args(["-servers", &servers, "-count", &count]));
    prints_all_calls("rust", Command::new(env!("CARGO_BIN_EXE_example-kafka")).args([&*servers, &count]));
    prints_all_calls(
        "shell",
        Command::new(examples().join("shell/kafka_calls.sh")).args([&*servers, &count]),
    );
}

#[test]
fn every_example_has_less_than_thirty_lines() {
    let mut counted = 0;
    let mut open = vec![examples()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let kind = path.extension().and_then(|end| end.to_str()).unwrap_or_default().to_owned();
            if path.is_dir() {
                open.push(path);
            } else if ["py", "go", "rs", "sh"].contains(&&*kind) {
                let lines = std::fs::read_to_string(&path).unwrap().lines().count();
                assert!(lines < 30, "{} has {lines}", path.display());
                counted += 1;
            }
        }
    }
    assert_eq!(counted, 9, "examples came or went: run them here");
}
