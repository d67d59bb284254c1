//! History and news for whoever has no broker: the example over HTTP, and `signalbox replay`.

use crate::given::{edge_and_kamailio, registered};
use serde_json::Value;
use signalbox_e2e::{Edge, Process, World, contract, wait};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

fn example() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../compose/examples/shell/sse_calls.sh")
        .canonicalize()
        .unwrap()
}

/// A call that nobody answers: its events are enough here.
fn a_call(world: &World, edge: &Edge, port: u16) {
    let mut phone = registered(world, edge, "401", port);
    let (answer, _) = phone.call("sip:499@acme.test");
    assert!(answer.status() >= Some(300), "{answer}");
}

fn lines(events: &[Value]) -> Vec<String> {
    let text = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
    let line = |event: &Value| ["id", "type", "tenantid", "subject"].map(|name| text(event, name)).join(" ");
    events.iter().map(line).collect()
}

#[test]
fn given_the_example_over_http_when_it_is_killed_and_the_edge_restarts_then_it_goes_on_where_it_ended() {
    let world = World::new("sse");
    let (mut edge, _pbx) = edge_and_kamailio(&world);
    let place = world.dir().join("position");
    let run = |edge: &Edge, name: &str| {
        let url = format!("http://{}", edge.admin());
        Process::start(world.dir(), name, Command::new(example()).arg(url).arg(&place))
    };
    // It begins with news; a position of nowhere is how to have everything.
    fs::write(&place, "from-the-beginning").unwrap();
    let mut first = run(&edge, "first");
    a_call(&world, &edge, 5070);
    edge.await_events("call.failed", 1);
    let before = edge.events("call");
    let (last, before) = (contract::text(before.last().unwrap(), "id").to_owned(), before.len());
    // Done with, that is: killed before it has kept the place, it would print the last one again.
    wait::until_true("the first call at the subscriber", || {
        let kept = fs::read_to_string(&place).unwrap_or_default();
        first.stdout().lines().count() >= before && number(&kept) >= number(&last)
    });
    first.kill();
    edge.terminate();
    edge.start();
    edge.await_backend("pbx", "up");
    a_call(&world, &edge, 5071);
    let second = run(&edge, "second");
    let all = wait::until("everything at the subscriber", || {
        let all = edge.events("call");
        let told = first.stdout().lines().count() + second.stdout().lines().count();
        (all.len() > before && told >= all.len()).then_some(all)
    });
    let told = first.stdout() + &second.stdout();
    assert_eq!(told.lines().collect::<Vec<_>>(), lines(&all), "each event of calls once, in order");
}

/// The number of a position or of an event's id; none of what is neither.
fn number(position: &str) -> Option<u64> {
    position.rsplit('.').next()?.parse().ok()
}

#[test]
fn given_history_when_it_is_replayed_to_a_file_then_it_is_the_same_marked_and_can_be_narrowed() {
    let world = World::new("replay");
    let (mut edge, _pbx) = edge_and_kamailio(&world);
    a_call(&world, &edge, 5070);
    edge.await_events("call.failed", 1);
    edge.terminate();
    let events = edge.events("");

    let file = world.dir().join("history.ndjson");
    let told = edge.rows(&["replay", "--to", "file", "--out", file.to_str().unwrap()]).pop().unwrap();
    assert_eq!(told["events"].as_u64(), Some(events.len() as u64), "{told}");
    let mut replayed = read(&fs::read_to_string(&file).unwrap());
    for event in &mut replayed {
        let mark = event.as_object_mut().unwrap().remove("replayid");
        assert_eq!(mark, Some(told["id"].clone()), "{event}");
    }
    assert_eq!(replayed, events);
    let over = edge.verb(&["replay", "--to", "file", "--out", file.to_str().unwrap()]);
    assert_eq!(over.code, 1, "nothing is written over: {over:?}");

    let calls = edge.verb(&["replay", "--to", "file", "--out", "-", "--domain", "call", "--tenant", "acme"]);
    assert_eq!((calls.code, read(&calls.stdout).len()), (0, edge.events("call").len()), "{calls:?}");
    let at = contract::text(&events[2], "time");
    let early = edge.verb(&["replay", "--to", "file", "--to", at, "--out", "-"]);
    let expected = events.iter().filter(|event| contract::text(event, "time") <= at).count();
    assert_eq!((early.code, read(&early.stdout).len()), (0, expected), "{early:?}");
    for wrong in [
        &["replay"][..],
        &["replay", "--to", "file"],
        &["replay", "--to", "fax"],
        &["replay", "--resume", "no"],
        &[
            "replay",
            "--to",
            "file",
            "--out",
            "-",
            "--from",
            "2026-11-21T15:00:00Z",
            "--to",
            "2026-11-21T14:00:00Z",
        ],
        &["replay", "--to", "file", "--out", "/no/such/directory/history.ndjson"],
    ] {
        assert_ne!(edge.verb(wrong).code, 0, "{wrong:?}");
    }
    let nowhere = edge.verb(&["replay", "--to", "file", "--out", "/no/such/directory/history.ndjson"]);
    assert!(nowhere.stderr.contains("/no/such/directory/history.ndjson"), "{nowhere:?}");
}

#[test]
fn given_a_web_service_that_breaks_off_when_the_replay_is_resumed_then_it_has_everything_in_order() {
    let world = World::new("webhook");
    let (mut edge, _pbx) = edge_and_kamailio(&world);
    a_call(&world, &edge, 5070);
    edge.await_events("call.failed", 1);
    edge.terminate();

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/in", listener.local_addr().unwrap());
    // It refuses the first batch for good, is overloaded at the second try, and then takes all.
    let service = std::thread::spawn(move || {
        ["403 Forbidden", "503 Service Unavailable", "200 OK"].map(|answer| serve(&listener, answer))
    });
    let refused =
        edge.verb(&["replay", "--to", "webhook", "--url", &url, "--type", "call.failed,call.ended"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    let id = refused.stderr.split("--resume ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let resumed = edge.verb(&["replay", "--resume", &id]);
    assert_eq!(resumed.code, 0, "{resumed:?}");
    let bodies = service.join().unwrap();
    assert!(bodies[0] == bodies[1] && bodies[1] == bodies[2], "the same batch until it is taken");
    let ids = |events: &[Value]| events.iter().map(|e| e["id"].clone()).collect::<Vec<_>>();
    let taken = serde_json::from_str::<Vec<Value>>(&bodies[2]).unwrap();
    let ended = |event: &Value| {
        ["call.failed", "call.ended"].iter().any(|kind| contract::text(event, "type").contains(kind))
    };
    let expected: Vec<Value> = edge.events("call").into_iter().filter(ended).collect();
    assert!(!taken.is_empty());
    assert_eq!(ids(&taken), ids(&expected));
    assert_eq!(edge.verb(&["replay", "--resume", &id]).code, 1, "it has ended");
}

fn read(ndjson: &str) -> Vec<Value> {
    ndjson.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Takes one request and answers it; its body.
fn serve(listener: &TcpListener, answer: &str) -> String {
    let (mut stream, _): (TcpStream, _) = listener.accept().unwrap();
    let mut bytes = Vec::new();
    let body_at = loop {
        let mut some = [0; 4096];
        let got = stream.read(&mut some).unwrap();
        assert!(got > 0, "a whole request");
        bytes.extend_from_slice(&some[..got]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        assert!(head.starts_with("POST /in HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("Content-Type: application/cloudevents-batch+json"), "{head}");
        let length: usize =
            head.split("Content-Length: ").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
        if body.len() >= length {
            break head.len() + 4;
        }
    };
    write!(stream, "HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    String::from_utf8(bytes[body_at..].to_vec()).unwrap()
}
