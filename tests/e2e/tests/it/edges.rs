//! Two edges on one bus: a phone at one is called through the other.

use crate::brokered::{Broker, Subscriber};
use crate::given::{ACME, acme, hang_up, hold_and_resume, talk};
use serde_json::Value;
use signalbox_brokers::{Nats, NatsOptions, Server, kafka};
use signalbox_e2e::load::Voicemail;
use signalbox_e2e::phone::unique;
use signalbox_e2e::{Edge, Phone, World, http, wait};
use std::net::SocketAddr;
use std::time::Duration;

/// Hosts of edge a, where phones register, and edge b, where a PBX calls.
pub(crate) const A: u8 = 1;
const B: u8 = 4;
/// Of the registrations whose way to the other edge is measured.
const MEASURED: usize = 50;
pub(crate) const USER: &str = "sip:401@acme.test";
/// Of stories where nobody waits for the usual ones.
pub(crate) const QUICK: &str = "heartbeat = \"200ms\"\nlease = \"1200ms\"\n";
/// What edges have without a word about it.
const USUAL: &str = "";
const USUAL_LEASE: Duration = Duration::from_secs(5);

/// Two edges that run, a PBX at each, and nobody registered.
pub(crate) struct Pair {
    pub(crate) a: Edge,
    pub(crate) b: Edge,
    /// Calls at edge b.
    pub(crate) pbx: Phone,
    _registrar: Voicemail,
    /// Of edge b, for phones that move there.
    _second: Voicemail,
}

/// Over UDP between edges.
fn udp(_edge: &str) -> (&'static str, String) {
    ("udp", QUICK.to_owned())
}

/// An edge's configuration. `between` is the transport between edges, and more of `[cluster]`.
pub(crate) fn config(
    world: &World,
    broker: &dyn Broker,
    host: u8,
    tenants: &str,
    (transport, cluster): (&str, String),
) -> String {
    let network = world.ip(A).to_string();
    let network = network.rsplit_once('.').unwrap().0;
    let (sip, edges) = (world.at(host, 5060), world.at(host, 5070));
    format!(
        "{}\n{tenants}\n[cluster]\nedges = [\"{network}.0/29\"]\n{cluster}\
         [[listener]]\nnetwork = \"sip\"\naddress = \"udp:{sip}\"\nserves = [\"endpoints\", \"backends\"]\n\
         [[listener]]\nnetwork = \"edges\"\naddress = \"{transport}:{edges}\"\nserves = [\"edges\"]\n",
        broker.config()
    )
}

/// A tenant with a PBX that phones register at, and one that calls.
pub(crate) fn with_caller(tenant: &str, registrar: SocketAddr, caller: SocketAddr) -> String {
    format!(
        "[[tenant]]\nname = \"{tenant}\"\ndomains = [\"{tenant}.test\"]\nbackends = [\
         {{ name = \"registrar\", address = \"udp:{registrar}\" }}, \
         {{ name = \"pbx\", address = \"udp:{caller}\", priority = 9, probe = {{ interval = \"0s\" }} }}]\n"
    )
}

fn pair(world: &World, broker: &dyn Broker) -> Pair {
    pair_over(world, broker, udp)
}

/// `between` says of each edge over which transport it speaks to the other, and what else stands in its `[cluster]`.
pub(crate) fn pair_over(
    world: &World,
    broker: &dyn Broker,
    between: impl Fn(&str) -> (&'static str, String),
) -> Pair {
    let (registrar, second, caller) = (world.at(2, 5060), world.at(5, 5060), world.at(3, 5060));
    let of_a = config(world, broker, A, &acme(registrar), between("edge-a"));
    let mut a = Edge::in_cluster(world, "edge-a", A, &of_a);
    let of_b = config(world, broker, B, &with_caller("acme", second, caller), between("edge-b"));
    let mut b = Edge::in_cluster(world, "edge-b", B, &of_b);
    let (registrar, second) = (Voicemail::start(registrar), Voicemail::start(second));
    a.start();
    b.start();
    a.await_backend("pbx", "up");
    b.await_backend("registrar", "up");
    let pbx = Phone::new("402", ACME, caller, b.sip());
    let pair = Pair { a, b, pbx, _registrar: registrar, _second: second };
    pair.await_state("edge-a", "alive");
    pair
}

impl Pair {
    /// What edge b says of the other one.
    fn seen(&self, edge: &str) -> Option<String> {
        let status = &self.b.rows(&["status"])[0];
        let component = status["components"].as_array()?.iter().find(|c| c["edge"]["name"] == edge)?;
        component["edge"]["state"].as_str().map(str::to_owned)
    }

    pub(crate) fn await_state(&self, edge: &str, state: &str) {
        wait::until_true(&format!("{edge} to be {state}"), || self.seen(edge).as_deref() == Some(state));
    }

    fn known(&self) -> u64 {
        known(&self.b)
    }

    pub(crate) fn await_known(&self, known: u64) {
        wait::until_true(&format!("{known} bindings at the other edge"), || self.known() >= known);
    }
}

/// A figure of an edge, 0 where there is none.
pub(crate) fn metric(edge: &Edge, series: &str) -> u64 {
    let text = http::get(edge.admin(), "/metrics").map(|(_, text)| text).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(series));
    line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).map_or(0, |figure| figure as u64)
}

/// Bindings of edge a that an edge knows.
fn known(edge: &Edge) -> u64 {
    metric(edge, "signalbox_peer_edge_bindings{edge=\"edge-a\"}")
}

pub(crate) fn phone(world: &World, edge: &Edge, user: &str, port: u16) -> Phone {
    let mut phone = Phone::new(user, ACME, world.at(20, port), edge.sip());
    let answer = phone.register(600);
    assert_eq!(answer.status(), Some(200), "{answer}");
    phone
}

#[test]
fn given_two_edges_on_nats_when_a_phone_of_one_is_called_at_the_other_then_it_is_reached_both_ways() {
    let world = World::new("edges-nats");
    called_through_the_other(&world, &Nats::start(NatsOptions::default()));
}

#[test]
fn given_two_edges_on_kafka_when_a_phone_of_one_is_called_at_the_other_then_it_is_reached_both_ways() {
    let world = World::new("edges-kafka");
    called_through_the_other(&world, &kafka::lease());
}

/// A phone registers at edge a and is called at edge b; each end holds, and each end hangs up once.
pub(crate) fn calls_cross(world: &World, pair: &mut Pair) {
    let mut called = phone(world, &pair.a, "401", 5062);
    pair.await_known(1);
    let (mut dialog, mut others) = talk(&mut pair.pbx, &mut called, USER);
    hold_and_resume(&mut pair.pbx, &mut dialog, &mut called);
    hold_and_resume(&mut called, &mut others, &mut pair.pbx);
    hang_up(&mut pair.pbx, &mut dialog, &mut called);
    let (_, mut others) = talk(&mut pair.pbx, &mut called, USER);
    hang_up(&mut called, &mut others, &mut pair.pbx);
    // The edge that was called has the calls; the phone's edge has none of them.
    let ended = pair.b.await_events("call.ended", 2);
    assert_eq!(
        (&ended[0]["data"]["released_by"], &ended[1]["data"]["released_by"]),
        (&"caller".into(), &"callee".into())
    );
    let routed = pair.b.events("call.routed");
    assert_eq!(routed[0]["data"]["target"]["edge"], "edge-a");
    assert!(pair.a.events("call").is_empty(), "{:?}", pair.a.events("call"));
}

fn called_through_the_other(world: &World, broker: &dyn Broker) {
    let mut pair = pair(world, broker);
    calls_cross(world, &mut pair);

    // How long after the 200 the other edge knows.
    let mut took: Vec<Duration> = (0..MEASURED)
        .map(|nth| {
            let before = pair.known();
            let _phone = phone(world, &pair.a, &format!("5{nth:02}"), 6000 + u16::try_from(nth).unwrap());
            let answered = wait::now();
            wait::until_true("the other edge to know", || pair.known() > before);
            answered.elapsed()
        })
        .collect();
    took.sort();
    eprintln!(
        "the other edge knows {:?} after the 200 at p50, {:?} at p99 ({MEASURED} registrations, seen in its metrics)",
        took[MEASURED / 2],
        took[MEASURED * 99 / 100]
    );
}

#[test]
fn given_a_phone_that_moves_when_its_old_binding_ends_then_both_edges_reach_it_where_it_is() {
    let world = World::new("edges-move");
    let nats = Nats::start(NatsOptions::default());
    let mut pair = pair(&world, &nats);
    let before = phone(&world, &pair.a, "401", 5062);
    let local = before.local;
    pair.await_known(1);
    drop(before);
    // The same device with the same Contact, at the other edge.
    let mut moved = Phone::new("401", ACME, local, pair.b.sip());
    assert_eq!(moved.register(600).status(), Some(200));
    let (mut dialog, _) = talk(&mut pair.pbx, &mut moved, USER);
    hang_up(&mut pair.pbx, &mut dialog, &mut moved);
    // Its old binding is removed where it was.
    drop(moved);
    let mut leaving = Phone::new("401", ACME, local, pair.a.sip());
    assert_eq!(leaving.register(0).status(), Some(200));
    pair.a.await_events("registration.removed", 1);
    drop(leaving);
    wait::until_true("the other edge to know", || pair.known() == 0);
    let mut moved = Phone::new("401", ACME, local, pair.b.sip());
    let (mut dialog, _) = talk(&mut pair.pbx, &mut moved, USER);
    hang_up(&mut pair.pbx, &mut dialog, &mut moved);
}

#[test]
fn given_an_edge_on_nats_that_is_killed_then_its_loss_and_return_are_told_and_its_phones_are_480_meanwhile() {
    let world = World::new("edges-lost-nats");
    killed_and_back(&world, &Nats::start(NatsOptions::default()));
}

#[test]
fn given_an_edge_on_kafka_that_is_killed_then_its_loss_and_return_are_told_and_its_phones_are_480_meanwhile()
{
    let world = World::new("edges-lost-kafka");
    killed_and_back(&world, &kafka::lease());
}

fn killed_and_back(world: &World, broker: &dyn Broker) {
    let mut pair = pair_over(world, broker, |_| ("udp", USUAL.to_owned()));
    let mut called = phone(world, &pair.a, "401", 5062);
    pair.await_known(1);
    let mut subscriber = broker.subscriber(world, "subscriber");
    let killed = wait::now();
    pair.a.kill();
    let lost = await_told(&mut subscriber, "io.signalbox.edge.lost.v1");
    let told = killed.elapsed();
    // It was written within the lease.
    let silent = of_day(&lost["time"]) - of_day(&lost["data"]["last_heard_at"]);
    let silent = Duration::from_secs_f64(silent.rem_euclid(86_400.0));
    assert!(silent < USUAL_LEASE, "{lost}");
    let dialled = wait::now();
    let (answer, _) = pair.pbx.call(USER);
    assert_eq!(answer.status(), Some(480), "{answer}");
    eprintln!(
        "edge.lost was written {silent:?} after the last heartbeat (lease 5 s) and with a subscriber {told:?} after the \
         kill; 480 came within {:?}",
        dialled.elapsed()
    );
    // It comes back, with its binding.
    pair.a.start();
    await_told(&mut subscriber, "io.signalbox.edge.returned.v1");
    pair.await_state("edge-a", "alive");
    let (mut dialog, _) = talk(&mut pair.pbx, &mut called, USER);
    hang_up(&mut pair.pbx, &mut dialog, &mut called);
    // An edge that stops in order is no loss, and its phones are 480 at once.
    pair.a.terminate();
    pair.await_state("edge-a", "stopped");
    let (answer, _) = pair.pbx.call(USER);
    assert_eq!(answer.status(), Some(480), "{answer}");
}

/// Seconds of the day in a time of an event.
fn of_day(time: &Value) -> f64 {
    let clock = time.as_str().unwrap().split('T').nth(1).unwrap().trim_end_matches('Z');
    clock.split(':').fold(0.0, |seconds, part| seconds * 60.0 + part.parse::<f64>().unwrap())
}

fn await_told(subscriber: &mut Subscriber, kind: &str) -> Value {
    wait::until(kind, || {
        subscriber.look();
        subscriber.got.iter().find(|event| event["type"] == kind && event["subject"] == "edge-a").cloned()
    })
}

#[test]
fn given_two_tenants_with_a_401_at_one_edge_when_both_are_called_at_the_other_then_each_call_reaches_its_own()
{
    let world = World::new("edges-tenants");
    let nats = Nats::start(NatsOptions::default());
    let tenants = ["acme", "globex"];
    let (registrar, second) = (|n| world.at(2, 5060 + n), |n| world.at(5, 5060 + n));
    let caller = |n| world.at(3, 5060 + n);
    let of = |at: &dyn Fn(u16) -> SocketAddr, callers: &dyn Fn(u16) -> SocketAddr| -> String {
        tenants.iter().zip(0..).map(|(tenant, n)| with_caller(tenant, at(n), callers(n))).collect()
    };
    let nobody = |n| world.at(6, 5060 + n);
    let of_a = config(&world, &nats, A, &of(&registrar, &nobody), udp("edge-a"));
    let of_b = config(&world, &nats, B, &of(&second, &caller), udp("edge-b"));
    let mut a = Edge::in_cluster(&world, "edge-a", A, &of_a);
    let mut b = Edge::in_cluster(&world, "edge-b", B, &of_b);
    let _registrars = [registrar(0), registrar(1), second(0), second(1)].map(Voicemail::start);
    a.start();
    b.start();
    a.await_backend("registrar", "up");
    let mut phones: Vec<Phone> = (0..)
        .zip(tenants)
        .map(|(n, tenant)| {
            let mut phone = Phone::new("401", &format!("{tenant}.test"), world.at(20, 5062 + n), a.sip());
            assert_eq!(phone.register(600).status(), Some(200));
            phone
        })
        .collect();
    let mut pbxs: Vec<Phone> = (0..)
        .zip(tenants)
        .map(|(n, t)| Phone::new("402", &format!("{t}.test"), caller(n), b.sip()))
        .collect();
    wait::until_true("both to be known", || known(&b) >= 2);
    // By its own domain's name, and by the other's: a PBX speaks for its own tenant only.
    for (n, domain) in [(0, "acme.test"), (1, "globex.test"), (0, "globex.test"), (1, "acme.test")] {
        let (mut dialog, _) = talk(&mut pbxs[n], &mut phones[n], &format!("sip:401@{domain}"));
        hang_up(&mut pbxs[n], &mut dialog, &mut phones[n]);
        assert!(phones[1 - n].unexpected().is_empty(), "{domain}");
    }
    let ended = b.await_events("call.ended", 4);
    assert!(
        ended.iter().all(|event| event["data"]["egress_peer"]
            == format!("401@{}.test", event["tenantid"].as_str().unwrap())),
        "{ended:#?}"
    );
}

#[test]
fn given_a_bus_that_is_away_when_an_edge_restarts_then_it_reaches_the_other_s_phones_by_what_it_knew() {
    let world = World::new("edges-stale");
    let mut nats = Nats::start(NatsOptions::default());
    let mut pair = pair(&world, &nats);
    let mut called = phone(&world, &pair.a, "401", 5062);
    pair.await_known(1);
    nats.kill9();
    let (mut dialog, _) = talk(&mut pair.pbx, &mut called, USER);
    hang_up(&mut pair.pbx, &mut dialog, &mut called);
    // What it knows is written when it stops, as it is every few seconds.
    pair.b.terminate();
    pair.b.start();
    let (mut dialog, _) = talk(&mut pair.pbx, &mut called, USER);
    hang_up(&mut pair.pbx, &mut dialog, &mut called);
    nats.start_again();
    pair.await_state("edge-a", "alive");
}

#[test]
fn given_strangers_at_the_listener_for_edges_then_they_are_refused_and_it_is_told() {
    let world = World::new("edges-strangers");
    let nats = Nats::start(NatsOptions::default());
    let pair = pair(&world, &nats);
    let _called = phone(&world, &pair.a, "401", 5062);
    let edges = world.at(A, 5070);
    let mut stranger = Phone::new("409", ACME, world.at(9, 5060), edges);
    let (answer, _) = stranger.call(USER);
    assert_eq!(answer.status(), Some(403), "{answer}");
    // From where edges are, but with a ticket that is none.
    let mut liar = Phone::new("409", ACME, world.at(B, 5999), edges);
    let headers = |cseq: u32| {
        format!(
            "Route: <sip:h_{}@{edges};lr>\r\nFrom: <{USER}>;tag=x\r\nTo: <{USER}>\r\nCall-ID: {}\r\nCSeq: {cseq} MESSAGE\r\n",
            "A".repeat(120),
            unique("forged")
        )
    };
    assert_eq!(liar.transaction(USER, "MESSAGE", headers, "").status(), Some(403));
    let told = pair.a.await_events("security.request_rejected", 2);
    let rules: Vec<_> = told.iter().map(|event| event["data"]["rule"].clone()).collect();
    assert!(rules.contains(&"unknown_peer".into()) && rules.contains(&"acl".into()), "{rules:?}");
}
