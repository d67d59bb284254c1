//! WebSocket: who may upgrade, one message a frame, keep-alives and limits.

use crate::streams::{ASK, Came, World, limits};
use signalbox_base::{Flow, Transport};
use signalbox_io::{StreamEnd, StreamLimits};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::{Error, Message, WebSocket};

/// Asks for an upgrade with these headers.
fn upgrade(world: &World, headers: &[(&'static str, &str)]) -> Result<WebSocket<TcpStream>, u16> {
    let mut request = format!("ws://{}/", world.address).into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, HeaderValue::from_str(value).unwrap());
    }
    match tungstenite::client(request, world.connect()) {
        Ok((socket, response)) => {
            assert_eq!(response.headers()["sec-websocket-protocol"], "sip");
            Ok(socket)
        }
        Err(tungstenite::HandshakeError::Failure(Error::Http(response))) => Err(response.status().as_u16()),
        Err(other) => panic!("{other:?}"),
    }
}

const SIP: (&str, &str) = ("Sec-WebSocket-Protocol", "sip");

/// A phone with an open WebSocket.
fn phone(world: &mut World) -> (WebSocket<TcpStream>, Flow) {
    let mut socket = upgrade(world, &[SIP]).unwrap();
    socket.send(Message::text(std::str::from_utf8(ASK).unwrap())).unwrap();
    let flow = world.asked();
    assert_eq!(flow.transport, Transport::Ws);
    (socket, flow)
}

#[test]
fn given_the_subprotocol_then_messages_come_one_a_frame_whatever_frame_and_go_as_text_where_they_are() {
    let mut world = World::over(Transport::Ws, limits());
    let (mut socket, flow) = phone(&mut world);
    // RFC 7118 §5: Content-Length may be left out, a frame is a message.
    let bare = b"OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/WS a;branch=z9hG4bK2\r\n\r\n";
    socket.send(Message::binary(bare.to_vec())).unwrap();
    assert_eq!(world.take(1), [Came::Message(flow, bare.to_vec())]);
    world.send(flow, b"SIP/2.0 200 OK\r\n\r\n", None);
    assert_eq!(socket.read().unwrap(), Message::text("SIP/2.0 200 OK\r\n\r\n"));
    world.send(flow, b"SIP/2.0 200 \xff\r\n\r\n", None);
    assert_eq!(socket.read().unwrap(), Message::binary(b"SIP/2.0 200 \xff\r\n\r\n".to_vec()));
}

#[test]
fn given_keep_alives_then_frames_answer_frames_and_line_ends_answer_line_ends() {
    let mut world = World::over(Transport::Ws, limits());
    let (mut socket, flow) = phone(&mut world);
    socket.send(Message::Ping(b"x".to_vec().into())).unwrap();
    assert_eq!(world.take(1), [Came::Message(flow, b"\r\n".to_vec())], "it is alive");
    assert_eq!(socket.read().unwrap(), Message::Pong(b"x".to_vec().into()));
    socket.send(Message::text("\r\n\r\n")).unwrap();
    assert_eq!(world.take(1), [Came::Message(flow, b"\r\n\r\n".to_vec())]);
    world.send(flow, b"\r\n", None);
    assert_eq!(socket.read().unwrap(), Message::text("\r\n"));
    world.send(flow, b"\r\n\r\n", None);
    assert_eq!(socket.read().unwrap(), Message::Ping(Vec::new().into()), "a browser answers it by itself");
}

#[test]
fn given_a_request_that_is_not_for_sip_then_it_is_refused_with_its_status() {
    let world = World::over(Transport::Ws, limits());
    assert_eq!(upgrade(&world, &[]).unwrap_err(), 400, "without the subprotocol");
    assert_eq!(upgrade(&world, &[("Sec-WebSocket-Protocol", "chat")]).unwrap_err(), 400);
    let mut browser = world.connect();
    browser.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut said = String::new();
    browser.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("HTTP/1.1 426 Upgrade Required\r\n"), "{said}");
    let mut phone = world.connect();
    phone.write_all(ASK).unwrap();
    let mut said = String::new();
    phone.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{said}");
}

#[test]
fn given_origins_then_pages_of_others_are_refused_and_who_is_no_browser_is_not() {
    let known = "https://phone.example.net";
    let world = World::with_origins(&[known]);
    assert_eq!(upgrade(&world, &[SIP, ("Origin", "https://evil.example")]).unwrap_err(), 403);
    upgrade(&world, &[SIP, ("Origin", known)]).unwrap();
    phone(&mut World::with_origins(&[known]));
}

#[test]
fn given_a_frame_above_the_limit_or_a_close_then_the_connection_ends_with_its_reason() {
    let mut world = World::over(Transport::Ws, limits());
    let (mut socket, flow) = phone(&mut world);
    // It may be cut off while it still writes.
    let _ = socket.send(Message::binary(vec![b'x'; 70_000]));
    assert_eq!(world.take(1), [Came::Closed(flow, StreamEnd::Junk)]);
    let (mut socket, flow) = phone(&mut world);
    socket.close(None).unwrap();
    assert_eq!(world.take(1), [Came::Closed(flow, StreamEnd::Closed)]);
    assert!(matches!(socket.read(), Ok(Message::Close(_)) | Err(Error::ConnectionClosed)));
}

#[test]
fn given_a_frame_that_never_ends_then_the_connection_is_closed_in_time() {
    let mut world =
        World::over(Transport::Ws, StreamLimits { message: Duration::from_millis(50), ..limits() });
    let (mut socket, flow) = phone(&mut world);
    // A masked text frame of 100 bytes, of which only some come.
    socket.get_mut().write_all(&[0x81, 0x80 | 100, 1, 2, 3, 4, 5, 6]).unwrap();
    assert_eq!(world.take(1), [Came::Closed(flow, StreamEnd::Slow)]);
}
