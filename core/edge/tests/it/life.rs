//! Starting, draining, stopping, starting again.

use crate::world::{Peer, World, answer, localhost, options, register, settings};
use signalbox_base::{EventSeq, JournalId, Text, Wall};
use signalbox_edge::{EdgeConfig, Fork, Hooks, InForce, Opened, Reloaded, StartError, StreamConfig};
use signalbox_engine::remote::{Bound, Liveness, Registered, Update, Version};
use signalbox_engine::state::BindingKey;
use signalbox_engine::{Command, CommandReply};
use signalbox_journal::{Error, Start};
use signalbox_schemas::config::ConfigChange;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

fn kinds(edge: &signalbox_edge::EdgeHandle) -> Vec<String> {
    let mut reader = edge.journal().reader(Start::Oldest).unwrap();
    let mut kinds = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        kinds.push(record.kind.to_owned());
    }
    kinds
}

#[test]
fn given_a_new_edge_then_its_start_and_its_configuration_are_the_first_events() {
    let world = World::new();
    let edge = world.start();
    world.until("the first records", || edge.durable().0 >= 2);
    assert_eq!(kinds(&edge)[..2], ["edge.started.v1", "config.applied.v1"]);
    world.stop(&edge);
}

#[test]
fn given_what_was_known_of_other_edges_when_the_edge_starts_then_its_first_request_finds_their_phones() {
    let (world, edge) = (World::new(), Text::new("edge-a"));
    let (at, until) = (Wall(0), Wall(i64::MAX));
    let bound = Bound {
        edge: edge.clone(),
        version: Version { journal: JournalId(7), seq: EventSeq(9), at },
        name: "acme/401@acme.test".into(),
        key: BindingKey(5),
        expires_at: until,
        q: None,
        registered: Registered { call: None, cseq: 3, at },
    };
    let lost = Update::Peer { edge, address: None, liveness: Liveness::Lost };
    let config = EdgeConfig { known: vec![lost, Update::Bound(bound)], ..world.config() };
    let edge = world.start_with(config, Hooks::default()).unwrap();
    let pbx = &world.pbx;
    let at = pbx.address();
    for (user, status) in [("401", "480"), ("402", "404")] {
        let message = format!(
            "MESSAGE sip:{user}@acme.test SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bK{user};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:409@acme.test>;tag=f\r\nTo: <sip:{user}@acme.test>\r\n\
             Call-ID: m-{user}@{at}\r\nCSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n"
        );
        pbx.send(edge.listeners()[0], &message);
        pbx.receive(&format!("SIP/2.0 {status}"));
    }
    world.stop(&edge);
}

#[test]
fn given_a_registration_when_the_edge_is_stopped_and_started_then_it_is_still_there_and_nothing_is_recorded_twice()
 {
    let (world, phone) = (World::new(), Peer::phone());
    let edge = world.start();
    world.register_up_to_the_answer(&edge, &phone, "401");
    phone.receive("SIP/2.0 200");
    let report = world.stop(&edge);
    assert_eq!(report.calls_left, 0);
    assert_eq!(kinds(&edge).last().map(String::as_str), Some("edge.stopped.v1"));

    let snapshots = std::fs::read_dir(world.data_dir().join("journal/snapshots")).unwrap();
    assert_eq!(snapshots.count(), 1, "the next start does not depend on how long history is");

    let again = world.start();
    let page = world.wait(again.locations(Default::default())).unwrap();
    assert_eq!(page.rows.len(), 1);
    assert_eq!(page.rows[0]["username"], "401");
    assert_eq!(page.rows[0]["tenant"], "acme");
    assert_eq!(page.rows[0]["edge"], "edge-1");
    world.until("the start's record", || again.durable() > report.last);
    let kinds = kinds(&again);
    assert_eq!(kinds.iter().filter(|kind| *kind == "config.applied.v1").count(), 1, "it did not change");
    assert_eq!(kinds.iter().filter(|kind| *kind == "edge.started.v1").count(), 2);
    world.stop(&again);
}

#[test]
fn given_an_old_journal_when_its_start_asks_for_a_new_identity_then_the_first_event_names_what_it_continues()
{
    let world = World::new();
    let asking = |fork: Fork| {
        let before_first = Arc::new(move |_: &Opened| fork.clone());
        world.start_with(EdgeConfig { before_first: Some(before_first), ..world.config() }, Hooks::default())
    };
    let edge = asking(Fork::New("a new journal is never asked about".to_owned())).unwrap();
    let first = edge.settings().journal;
    let end = world.stop(&edge).last;
    let kept = asking(Fork::Keep).unwrap();
    assert_eq!(kept.settings().journal, first);
    let end = world.stop(&kept).last.max(end);
    let forked = asking(Fork::New("it was copied".to_owned())).unwrap();
    assert_ne!(forked.settings().journal, first);
    world.until("the start's record", || forked.durable() > end);
    let mut reader = forked.journal().reader(Start::Seq(end.next())).unwrap();
    let record = reader.next().unwrap().unwrap();
    assert_eq!((record.kind, record.domain_seq), ("edge.started.v1", 1));
    assert_eq!(record.journal, forked.settings().journal);
    assert!(String::from_utf8_lossy(record.data).contains(&first.to_string()), "it names what it continues");
    world.stop(&forked);
}

#[test]
fn given_a_register_with_a_trace_context_then_its_event_carries_it_and_others_do_not() {
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let (world, phone) = (World::new(), Peer::phone());
    let edge = world.start();
    world.until("readiness", || edge.not_ready().is_none());
    let request = register(&phone, "401", 1);
    let traced = request.replace("User-Agent:", &format!("traceparent: {TRACE}\r\nUser-Agent:"));
    phone.send(edge.listeners()[0], &traced);
    let (at_pbx, _) = world.pbx.receive("REGISTER");
    world.pbx.send(edge.listeners()[0], &answer(&at_pbx, "200 OK", true));
    phone.receive("SIP/2.0 200");
    world.stop(&edge);
    let mut reader = edge.journal().reader(Start::Oldest).unwrap();
    let mut traced = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        if !record.traceparent.is_empty() {
            traced.push((record.kind.to_owned(), record.traceparent.to_owned()));
        }
    }
    assert_eq!(traced, [("registration.added.v1".to_owned(), TRACE.to_owned())]);
}

#[test]
fn given_a_draining_edge_then_new_registrations_get_503_and_it_is_not_ready() {
    let (world, phone) = (World::new(), Peer::phone());
    let edge = world.start();
    world.until("readiness", || edge.not_ready().is_none());
    let drain = Command::Drain { deadline: Duration::from_secs(90), actor: Text::new("test") };
    let drained = world.wait(edge.command(drain)).unwrap();
    assert!(matches!(drained, CommandReply::Done(_)));
    phone.send(edge.listeners()[0], &register(&phone, "401", 1));
    phone.receive("SIP/2.0 503");
    world.pbx.send(edge.listeners()[0], &options(&world.pbx, edge.listeners()[0], 1));
    world.pbx.receive("SIP/2.0 503");
    world.until("the end of readiness", || edge.not_ready().as_deref() == Some("draining"));
    world.stop(&edge);
    assert!(kinds(&edge).contains(&"edge.draining.v1".to_owned()));
}

#[test]
fn given_a_running_edge_when_a_second_one_starts_on_its_journal_then_it_is_refused_and_the_first_goes_on() {
    let world = World::new();
    let edge = world.start();
    let second = world.start_with(world.config(), Hooks::default());
    assert!(matches!(second, Err(StartError::Journal(Error::Locked { .. }))));
    world.pbx.send(edge.listeners()[0], &options(&world.pbx, edge.listeners()[0], 1));
    world.pbx.receive("SIP/2.0 200");
    assert!(world.admin_socket().exists(), "the first one's socket was left alone");
    world.stop(&edge);
    world.until("the socket's end", || !world.admin_socket().exists());
}

#[test]
fn given_a_busy_port_when_started_then_the_error_names_it_and_what_to_do() {
    let world = World::new();
    let holder = UdpSocket::bind(localhost(0)).unwrap();
    let busy = holder.local_addr().unwrap();
    let settings = Arc::new(settings(world.pbx.address(), busy));
    let refused = world.start_with(EdgeConfig { settings, ..world.config() }, Hooks::default());
    let Err(error) = refused else { panic!("the port is taken") };
    assert!(error.to_string().starts_with(&format!("udp:{busy} is already in use; stop")), "{error}");
    world.start_with(world.config(), Hooks::default()).map(|edge| world.stop(&edge)).unwrap();
}

fn changed(key: &str) -> ConfigChange {
    ConfigChange { key: Text::new(key), ..ConfigChange::default() }
}

#[test]
fn given_a_changed_configuration_when_reloaded_then_it_is_an_event_and_a_faulty_one_changes_nothing() {
    let world = World::new();
    let pbx = world.pbx.address();
    let load = move |_: &InForce| {
        let mut settings = settings(pbx, localhost(0));
        settings.tenants[0].limits.calls = Some(7);
        let in_force = InForce { sha256: Text::from("1".repeat(64)), effective: Text::new("{}") };
        let diff = vec![changed("tenant.acme.limits.calls")];
        Ok(Reloaded {
            settings: Arc::new(settings),
            in_force,
            diff,
            streams: StreamConfig::default(),
            dns: Vec::new(),
        })
    };
    let hooks = Hooks { reload: Arc::new(load), ..Hooks::default() };
    let edge = world.start_with(world.config(), hooks).unwrap();
    let (journal, listener) = (edge.settings().journal, edge.settings().listeners[0].address);
    let reply = world.wait(edge.reload(Text::new("test"))).unwrap();
    assert!(matches!(reply, CommandReply::Done(_)), "{reply:?}");
    assert_eq!(edge.settings().tenants[0].limits.calls, Some(7));
    assert_eq!((edge.settings().journal, edge.settings().listeners[0].address), (journal, listener));
    assert_eq!(kinds(&edge).iter().filter(|kind| *kind == "config.applied.v1").count(), 2);
    world.stop(&edge);
}

#[test]
fn given_other_listeners_when_reloaded_then_it_is_refused_with_the_reason_and_recorded() {
    let world = World::new();
    let pbx = world.pbx.address();
    let load = move |_: &InForce| {
        let mut settings = settings(pbx, localhost(0));
        settings.listeners.push(settings.listeners[0].clone());
        Ok(Reloaded {
            settings: Arc::new(settings),
            in_force: InForce::default(),
            diff: vec![changed("listener")],
            streams: StreamConfig::default(),
            dns: Vec::new(),
        })
    };
    let edge =
        world.start_with(world.config(), Hooks { reload: Arc::new(load), ..Hooks::default() }).unwrap();
    let reply = world.wait(edge.reload(Text::new("test"))).unwrap();
    let CommandReply::Refused(why) = reply else { panic!("{reply:?}") };
    assert!(why.contains("restart"), "{why}");
    assert!(kinds(&edge).contains(&"config.rejected.v1".to_owned()));
    world.stop(&edge);
}
