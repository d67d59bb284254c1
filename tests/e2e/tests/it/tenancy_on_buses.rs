//! A tenant's login on a broker reads its own events and nothing of another's; everything is a CloudEvent.

use crate::brokered::{Subscriber, python};
use serde_json::Value;
use signalbox_brokers::{Kafka, KafkaOptions, Nats, NatsLogin, NatsOptions, NatsUser};
use signalbox_e2e::edge::said;
use signalbox_e2e::load::Voicemail;
use signalbox_e2e::{Edge, Phone, World, contract, wait};
use std::path::Path;
use std::process::Command;

/// Tenants, their domains, and the hosts of their PBX and phone.
const TENANTS: [(&str, &str, [u8; 2]); 2] =
    [("acme", "acme.test", [2, 20]), ("globex", "globex.test", [3, 21])];

/// An edge of two tenants on a bus; each has had a call.
fn two_tenants_with_a_call_each(world: &World, bus: &str) -> (Edge, Vec<Value>) {
    let tenant = |(name, domain, [pbx, _]): (&str, &str, [u8; 2])| {
        let pbx = world.at(pbx, 5060);
        format!(
            "[[tenant]]\nname = \"{name}\"\ndomains = [\"{domain}\"]\n\
             backends = [{{ name = \"pbx-{name}\", address = \"udp:{pbx}\" }}]\n"
        )
    };
    let _voicemails = TENANTS.map(|(_, _, [pbx, _])| Voicemail::start(world.at(pbx, 5060)));
    let mut edge = Edge::configured(world, &(bus.to_owned() + &TENANTS.map(tenant).concat()));
    edge.start();
    for (name, domain, [_, host]) in TENANTS {
        edge.await_backend(&format!("pbx-{name}"), "up");
        let mut phone = Phone::new("401", domain, world.at(host, 5060), edge.sip());
        assert_eq!(phone.register(600).status(), Some(200));
        let (answer, dialog) = phone.call(&format!("sip:service@{domain}"));
        assert_eq!(answer.status(), Some(200), "{answer}");
        assert_eq!(phone.hang_up(&mut dialog.unwrap()).status(), Some(200));
    }
    edge.await_events("call.ended", 2);
    let journal = edge.events("");
    (edge, journal)
}

fn of(journal: &[Value], tenant: &str) -> Vec<Value> {
    journal.iter().filter(|event| event["tenantid"] == tenant).cloned().collect()
}

#[test]
fn given_nats_when_a_tenant_logs_in_then_it_reads_its_own_events_and_nothing_else() {
    let world = World::new("nats-tenants");
    let user = |(name, _, _): (&str, &str, [u8; 2])| NatsUser {
        name: name.to_owned(),
        password: format!("pw-{name}"),
        publish: Some(vec![
            format!("$JS.API.CONSUMER.CREATE.SIGNALBOX_CALL.{name}.signalbox.v1.*.*.{name}.*"),
            format!("$JS.API.CONSUMER.MSG.NEXT.SIGNALBOX_CALL.{name}"),
        ]),
        subscribe: Some(vec![format!("signalbox.v1.*.*.{name}.*"), format!("_INBOX_{name}.>")]),
    };
    let users = TENANTS.map(user).to_vec();
    let nats = Nats::start(NatsOptions { login: NatsLogin::User, users, ..NatsOptions::default() });
    let password = world.file("bus-password", "pw-edge");
    let bus = format!(
        "[bus]\nkind = \"nats\"\nurl = \"{}\"\n[bus.nats]\nmax_bytes = \"1GiB\"\nuser = \"edge\"\npassword_file = \"{}\"\n",
        nats.url(),
        password.display()
    );
    let (edge, journal) = two_tenants_with_a_call_each(&world, &bus);
    let url = nats.url().replace("nats://", "nats://edge:pw-edge@");
    let mut subscriber = Subscriber::start(&world, "everything", "nats_all.py", &[&url]);
    subscriber.has_all(&journal);
    contract::check(&journal);

    // Each is there with its consumer before the other tries to read from it.
    let tries = |own: &str, other: &str| lines(python("nats_tenant.py").args([&nats.url(), own, other]));
    tries("globex", "acme");
    let tried = tries("acme", "globex");
    assert_eq!(tried[0]["events"], serde_json::json!(["acme"]), "{:#}", tried[0]);
    assert!(tried[0]["refused"].is_null(), "{:#}", tried[0]);
    assert!(tried.len() > 10, "{tried:#?}");
    for one in &tried[1..] {
        assert!(one["refused"].is_string(), "{one:#}");
    }
    drop(edge);
}

#[test]
fn given_kafka_when_a_tenant_logs_in_then_it_reads_its_own_events_and_nothing_else() {
    let world = World::new("kafka-tenants");
    let users = ["edge", "acme"].map(|name| (name.to_owned(), format!("pw-{name}")));
    let kafka = Kafka::start(KafkaOptions { scram: users.to_vec(), acls: true, ..KafkaOptions::default() });
    kafka.allow_read("acme", "signalbox.tenant.acme.");
    let ca = kafka.tls().unwrap().ca.clone();
    let bus = per_tenant(&kafka, &world.file("bus-password", "pw-edge"), &ca);
    let (edge, journal) = two_tenants_with_a_call_each(&world, &bus);

    // Everything, as the operator reads it; and as the tenant does, whose topics are all that it is shown.
    let mut operator = Subscriber::start(&world, "everything", "kafka_all.py", &[&kafka.url()]);
    operator.has_all(&journal);
    contract::check(&journal);
    let ca = ca.to_str().unwrap();
    let login = [&*kafka.sasl_url(), "acme", "pw-acme", ca];
    let mut tenant = Subscriber::start(&world, "tenant", "kafka_all.py", &login);
    tenant.has_all(&of(&journal, "acme"));
    assert!(tenant.got.iter().all(|event| event["tenantid"] == "acme"));
    let others = ["signalbox.tenant.globex.call.v1", "signalbox.call.v1", "signalbox.location.v1"];
    let told = lines(python("kafka_tenant.py").args(login).args(others));
    let seen: Vec<_> = told[0]["topics"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(
        !seen.is_empty() && seen.iter().all(|topic| topic.starts_with("signalbox.tenant.acme.")),
        "{seen:?}"
    );
    assert_eq!(told.len(), 1 + others.len());
    for one in &told[1..] {
        let refused = one["refused"].as_str().unwrap_or_default();
        assert!(refused.contains("AUTHORIZATION_FAILED") || refused.contains("UNKNOWN_TOPIC"), "{one:#}");
    }
    wait::until_true("all calls to end", || edge.rows(&["status"])[0]["calls"] == 0);
}

fn per_tenant(kafka: &Kafka, password: &Path, ca: &Path) -> String {
    format!(
        "[bus]\nkind = \"kafka\"\nurl = \"{}\"\ntls = \"on\"\nca_file = \"{}\"\n\
         [bus.kafka]\npartitions = 2\ntopics = \"per_tenant\"\nuser = \"edge\"\npassword_file = \"{}\"\n",
        kafka.sasl_url(),
        ca.display(),
        password.display()
    )
}

/// Runs a program to its good end; the objects that it printed.
fn lines(command: &mut Command) -> Vec<Value> {
    let mut limited = Command::new("timeout");
    limited.arg("120").arg(command.get_program()).args(command.get_args());
    said(&mut limited).rows()
}
