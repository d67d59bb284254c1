//! `/events`: the journal as server-sent events.

use crate::world::{Peer, World};
use serde_json::Value;
use signalbox_edge::{EdgeConfig, EdgeHandle, Hooks};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A client that reads line by line. HTTP/1.0, so that the body is the stream itself.
struct Client {
    status: u16,
    lines: BufReader<TcpStream>,
}

/// One block of the stream.
#[derive(Debug, Default)]
struct Told {
    id: String,
    name: String,
    data: String,
}

impl Client {
    fn open(edge: &EdgeHandle, query: &str, headers: &str) -> Self {
        let address: SocketAddr = edge.admin_address().unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET /events{query} HTTP/1.0\r\nHost: localhost\r\n{headers}\r\n").unwrap();
        let mut lines = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(lines.read_line(&mut head).unwrap() > 0, "{head}");
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(status != 200 || head.contains("text/event-stream"), "{head}");
        Self { status, lines }
    }

    fn after(edge: &EdgeHandle, query: &str, position: &str) -> Self {
        Self::open(edge, query, &format!("Last-Event-ID: {position}\r\n"))
    }

    /// The next block with data; nothing at the end of the stream.
    fn next(&mut self) -> Option<Told> {
        let mut told = Told::default();
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some(("id", id)) => told.id = id.to_owned(),
                Some(("event", name)) => told.name = name.to_owned(),
                Some(("data", data)) => told.data = data.to_owned(),
                _ if line == "\n" && !told.data.is_empty() => return Some(told),
                _ => {}
            }
        }
    }

    /// Events until one is of this type, that one included.
    fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let told = self.next().unwrap_or_else(|| panic!("{kind} did not come"));
            let event: Value = serde_json::from_str(&told.data).unwrap();
            assert_eq!(told.id, event["id"], "the position is the event's id");
            events.push(event);
            if events.last().unwrap()["type"] == format!("io.signalbox.{kind}.v1") {
                return events;
            }
        }
    }

    fn body(mut self) -> String {
        let mut body = String::new();
        self.lines.read_to_string(&mut body).unwrap();
        body
    }
}

fn numbers(events: &[Value]) -> Vec<u64> {
    events.iter().map(|event| event["sequence"].as_str().unwrap().parse().unwrap()).collect()
}

fn registers(world: &World, edge: &EdgeHandle, user: &str) {
    let phone = Peer::phone();
    world.register_up_to_the_answer(edge, &phone, user);
    phone.receive("SIP/2.0 200");
}

#[test]
fn given_a_client_when_the_edge_restarts_then_it_goes_on_without_a_loss_or_a_double() {
    let world = World::new();
    let edge = world.start();
    registers(&world, &edge, "401");
    let mut client = Client::open(&edge, "?from=beginning", "");
    let mut events = client.until("registration.added");
    assert_eq!(events[0]["specversion"], "1.0");
    let position = events.last().unwrap()["id"].as_str().unwrap().to_owned();
    drop(client);
    world.stop(&edge);

    let edge = world.start();
    let mut client = Client::after(&edge, "", &position);
    events.extend(client.until("edge.started"));
    registers(&world, &edge, "402");
    events.extend(client.until("registration.added"));
    let all: Vec<u64> = (1..=events.len() as u64).collect();
    assert_eq!(numbers(&events), all, "every number once");
    world.stop(&edge);
    let mut rest = Vec::new();
    while let Some(told) = client.next() {
        rest.push(told.data.parse::<Value>().unwrap());
    }
    assert_eq!(
        rest.last().unwrap()["type"],
        "io.signalbox.edge.stopped.v1",
        "up to the end, and then it ends"
    );
}

#[test]
fn given_filters_then_only_what_is_asked_for_comes() {
    let world = World::new();
    let edge = world.start();
    registers(&world, &edge, "401");
    let added = Client::open(&edge, "?from=beginning&domain=registration", "").until("registration.added");
    assert_eq!(added.len(), 1, "{added:#?}");
    let both = Client::open(&edge, "?from=beginning&type=edge.started,registration.added", "")
        .until("registration.added");
    assert_eq!(both.iter().filter(|event| event["type"] == "io.signalbox.edge.started.v1").count(), 1);
    assert_eq!(both.len(), 2);
    let acme = Client::open(&edge, "?from=beginning&tenant=acme", "").until("registration.added");
    assert!(acme.iter().all(|event| event["tenantid"] == "acme"));
    // A live client sees nothing of before.
    let mut live = Client::open(&edge, "?domain=registration", "");
    registers(&world, &edge, "402");
    let news = live.until("registration.added");
    assert!(news.len() == 1 && news[0]["subject"] == "acme/402@acme.test", "{news:#?}");
    for wrong in ["?domain=cal", "?type=call.enden", "?domain=call&type=edge.started", "?from=noon", "?x=1"] {
        let refused = Client::open(&edge, wrong, "");
        assert_eq!(refused.status, 400, "{wrong}");
        assert!(refused.body().ends_with('\n'), "it says why");
    }
    world.stop(&edge);
}

#[test]
fn given_a_position_of_another_journal_then_it_is_told_and_all_comes_from_the_beginning() {
    let world = World::new();
    let edge = world.start();
    registers(&world, &edge, "401");
    let mut client = Client::open(&edge, "?from=beginning", "");
    let journal = client.next().unwrap().id.split_once('.').unwrap().0.to_owned();
    for foreign in ["01JD8Z6Q4V5X7Y9A2C4E6G8J0M.3", &format!("{journal}.999999"), "nonsense"] {
        let mut client = Client::after(&edge, "", foreign);
        assert_eq!(client.next().unwrap().name, "reset", "{foreign}");
        assert_eq!(client.next().unwrap().id, format!("{journal}.1"), "{foreign}");
    }
    // One that holds is no reset, wherever it is given.
    let query = format!("?from={journal}.1");
    assert_eq!(Client::open(&edge, &query, "").next().unwrap().id, format!("{journal}.2"));
    world.stop(&edge);
}

#[test]
fn given_too_many_clients_then_one_more_is_sent_away_until_one_leaves() {
    let world = World::new();
    let edge = world.start();
    let mut clients: Vec<Client> = (0..32).map(|_| Client::open(&edge, "", "")).collect();
    assert!(clients.iter().all(|client| client.status == 200));
    assert_eq!(Client::open(&edge, "", "").status, 503);
    clients.pop();
    world.until("a free place", || Client::open(&edge, "", "").status == 200);
    world.stop(&edge);
}

#[test]
fn given_a_token_then_only_who_has_it_reads_events() {
    let world = World::new();
    let file = world.data_dir().join("token");
    std::fs::write(&file, "s3cret\n").unwrap();
    let config = EdgeConfig { events_token_file: Some(file.clone()), ..world.config() };
    let edge = world.start_with(config, Hooks::default()).unwrap();
    let with = |token: &str| Client::open(&edge, "", &format!("Authorization: Bearer {token}\r\n")).status;
    assert_eq!(Client::open(&edge, "", "").status, 401);
    assert_eq!((with("s3cres"), with(""), with("s3cret")), (401, 401, 200));
    std::fs::write(&file, "other").unwrap();
    assert_eq!((with("s3cret"), with("other")), (401, 200), "it was changed while running");
    std::fs::write(&file, "").unwrap();
    assert_eq!(with(""), 401, "an empty token is none");
    world.stop(&edge);
}

#[test]
fn given_a_port_that_others_reach_then_without_a_token_nobody_reads_events() {
    let world = World::new();
    let config = EdgeConfig { admin_listen: Some("0.0.0.0:0".parse().unwrap()), ..world.config() };
    let edge = world.start_with(config, Hooks::default()).unwrap();
    let refused = Client::open(&edge, "", "");
    assert_eq!(refused.status, 403);
    assert!(refused.body().contains("events_token_file"));
    world.stop(&edge);
}

/// The status of `path`, asked under a name.
fn asked(edge: &EdgeHandle, path: &str, name: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(edge.admin_address().unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

#[test]
fn given_a_name_that_a_page_has_pointed_at_us_then_only_health_is_told_under_it() {
    let world = World::new();
    let config = EdgeConfig { admin_hosts: vec!["edge-1.example.net".to_owned()], ..world.config() };
    let edge = world.start_with(config, Hooks::default()).unwrap();
    for path in ["/events", "/metrics", "/schemas", "/catalogue"] {
        let (status, told) = asked(&edge, path, "rebound.example:8060");
        assert_eq!(status, 421, "{path}: {told}");
        assert!(told.contains("[admin] hosts"), "{told}");
    }
    for path in ["/health", "/ready"] {
        assert_eq!(
            asked(&edge, path, "rebound.example").0,
            200,
            "{path}: load balancers call us as they like"
        );
    }
    for name in ["127.0.0.1", "localhost:8060", "[::1]:8060", "EDGE-1.example.net:8060"] {
        assert_eq!(asked(&edge, "/metrics", name).0, 200, "{name}");
    }
    world.stop(&edge);
}
