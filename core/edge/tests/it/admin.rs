//! The admin socket and HTTP.

use crate::world::{Peer, World};
use serde_json::Value;
use signalbox_edge::admin::protocol::{Request, Wish};
use signalbox_edge::admin::{AskError, ask};
use signalbox_edge::{End, METRICS};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    (status, text.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[test]
fn given_a_registration_when_asked_by_the_socket_then_it_is_listed_and_can_be_removed() {
    let (world, phone) = (World::new(), Peer::phone());
    let edge = world.start();
    world.register_up_to_the_answer(&edge, &phone, "401");
    phone.receive("SIP/2.0 200");
    let socket = world.admin_socket();
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);

    let list = |aor: Option<&str>| {
        let request = Request::Locations { aor: aor.map(str::to_owned), tenant: None, from: 0 };
        ask(&socket, &request).unwrap()["rows"].as_array().unwrap().clone()
    };
    let rows = list(Some("401@acme.test"));
    assert_eq!(rows.len(), 1);
    assert!(rows[0]["contact"].as_str().unwrap().contains(&phone.address().to_string()), "{}", rows[0]);
    assert_eq!(list(Some("402@acme.test")), Vec::<Value>::new());

    let remove = Request::RemoveBinding { aor: "401@acme.test".to_owned(), tenant: None };
    ask(&socket, &remove).unwrap();
    assert_eq!(list(None), Vec::<Value>::new());
    world.stop(&edge);
}

#[test]
fn given_a_backend_when_drained_by_the_socket_then_its_state_says_so() {
    let world = World::new();
    let edge = world.start();
    let socket = world.admin_socket();
    let drain = |name: &str| ask(&socket, &Request::Backend { name: name.to_owned(), wish: Wish::Drain });
    drain("acme/pbx-1").unwrap();
    let backends = ask(&socket, &Request::Backends {}).unwrap();
    assert_eq!(backends["rows"][0]["state"], "draining", "{backends}");
    assert_eq!(backends["rows"][0]["takes_traffic"], false);
    assert!(matches!(drain("acme/nobody"), Err(AskError::Refused(_))));
    world.stop(&edge);
}

#[test]
fn given_several_requests_on_one_connection_then_each_gets_its_line_and_nonsense_an_error() {
    let world = World::new();
    let edge = world.start();
    let mut stream = UnixStream::connect(world.admin_socket()).unwrap();
    stream
        .write_all(b"{\"request\":\"status\"}\nnonsense\n{\"request\":\"calls\"}\n{\"request\":\"log_level\",\"level\":\"debug\"}\n")
        .unwrap();
    let mut lines = BufReader::new(stream).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    let status = next();
    assert_eq!(status["ok"]["edge"], "test/edge-1");
    assert_eq!(status["ok"]["listeners"][0], format!("udp:{}", edge.listeners()[0]));
    assert!(next()["error"].as_str().unwrap().starts_with("not a request"));
    assert_eq!(next()["ok"]["rows"], serde_json::json!([]));
    assert!(next()["error"].as_str().unwrap().contains("log level"), "the hook refuses, and says so");
    world.stop(&edge);
}

#[test]
fn given_a_stop_by_the_socket_then_the_edge_ends_in_order_and_nobody_answers_any_more() {
    let world = World::new();
    let edge = world.start();
    let stopped = ask(&world.admin_socket(), &Request::Stop { deadline_ms: 5_000 }).unwrap();
    assert_eq!(stopped["calls_left"], 0);
    assert!(matches!(world.wait(edge.wait_end()), End::Stopped(_)));
    world.until("the socket's end", || !world.admin_socket().exists());
    let gone = ask(&world.admin_socket(), &Request::Status {});
    assert!(matches!(gone, Err(AskError::NotRunning(_))));
}

#[test]
fn given_a_stale_socket_file_when_started_then_it_is_replaced() {
    let world = World::new();
    std::fs::write(world.admin_socket(), b"left over").unwrap();
    let edge = world.start();
    ask(&world.admin_socket(), &Request::Health {}).unwrap();
    world.stop(&edge);
}

#[test]
fn given_http_then_health_readiness_metrics_and_schemas_are_served_and_nothing_else() {
    let world = World::new();
    let edge = world.start();
    let address = edge.admin_address().unwrap();
    world.until("readiness", || get(address, "/ready").0 == 200);
    let (status, health) = get(address, "/health");
    let health: Value = serde_json::from_str(&health).unwrap();
    assert_eq!((status, &health["status"]), (200, &Value::from("ok")), "{health}");
    assert_eq!(health["metrics"]["registrations"], 0);
    let (_, metrics) = get(address, "/metrics");
    for metric in METRICS {
        let name = metric.name.strip_suffix("_total").unwrap_or(metric.name);
        assert!(metrics.contains(&format!("# TYPE {name} ")), "{} is not scraped:\n{metrics}", metric.name);
    }
    assert!(metrics.ends_with("# EOF\n"));
    assert!(get(address, "/schemas/asyncapi.yaml").1.starts_with("asyncapi"));
    assert_eq!(get(address, "/schemas/io.signalbox.call.ended.v1/1.0.json").0, 200);
    assert_eq!(get(address, "/schemas/nothing").0, 404);
    let (status, page) = get(address, "/catalogue");
    assert!(status == 200 && page.contains("<h3 id=\"call.ended\">"));
    assert_eq!(get(address, "/reload").0, 404);
    world.stop(&edge);
}

#[test]
fn given_traffic_then_it_is_counted() {
    let (world, phone) = (World::new(), Peer::phone());
    let edge = world.start();
    world.register_up_to_the_answer(&edge, &phone, "401");
    phone.receive("SIP/2.0 200");
    let registrations = "signalbox_registrations{tenant=\"acme\"} 1";
    world.until("the count", || edge.metrics().contains(registrations));
    let metrics = edge.metrics();
    assert!(
        metrics.contains("signalbox_sip_requests_total{method=\"REGISTER\",network=\"all\"} 1"),
        "{metrics}"
    );
    assert!(metrics.contains("signalbox_backend_up{tenant=\"acme\",backend=\"pbx-1\"} 1"), "{metrics}");
    world.stop(&edge);
}
