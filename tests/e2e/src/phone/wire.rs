//! How a phone reaches the edge: datagrams, or one connection over TCP, TLS or WebSocket.

use crate::message::Message;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::fmt::Debug;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;

const MOMENT: Duration = Duration::from_millis(50);
const MESSAGE_MAX: usize = 65_535;

/// The way to the edge.
#[derive(Debug)]
pub struct Wire {
    kind: Kind,
    /// As Via names it.
    pub(super) via: &'static str,
    /// As a URI says it.
    pub(super) parameter: &'static str,
}

#[derive(Debug)]
enum Kind {
    Datagrams { socket: UdpSocket, edge: SocketAddr },
    Stream(Mutex<Stream>),
    WebSocket(Box<Mutex<tungstenite::WebSocket<Box<dyn Line>>>>),
}

/// Bytes both ways.
trait Line: Read + Write + Send + Debug {}

impl<T: Read + Write + Send + Debug> Line for T {}

#[derive(Debug)]
struct Stream {
    line: Box<dyn Line>,
    read: Vec<u8>,
}

impl Wire {
    /// Datagrams from this socket.
    #[must_use]
    pub fn udp(socket: UdpSocket, edge: SocketAddr) -> Self {
        socket.set_read_timeout(Some(MOMENT)).expect("a span above zero is allowed");
        Self { kind: Kind::Datagrams { socket, edge }, via: "UDP", parameter: "" }
    }

    /// A connection without TLS, and our address on it.
    #[must_use]
    pub fn tcp(edge: SocketAddr) -> (Self, SocketAddr) {
        let (line, local) = connect(edge);
        (Self::stream(Box::new(line), "TCP", ";transport=tcp"), local)
    }

    /// A connection with TLS to whom this authority vouches to be `name`, and our address on it.
    #[must_use]
    pub fn tls(edge: SocketAddr, ca: &Path, name: &str) -> (Self, SocketAddr) {
        let (line, local) = encrypted(edge, ca, name);
        (Self::stream(Box::new(line), "TLS", ";transport=tls"), local)
    }

    /// A WebSocket; with TLS where an authority is named.
    ///
    /// # Panics
    /// The edge refuses it.
    #[must_use]
    pub fn websocket(edge: SocketAddr, tls: Option<(&Path, &str)>) -> (Self, SocketAddr) {
        let (line, local): (Box<dyn Line>, SocketAddr) = match tls {
            None => {
                let (line, local) = connect(edge);
                (Box::new(line), local)
            }
            Some((ca, name)) => {
                let (line, local) = encrypted(edge, ca, name);
                (Box::new(line), local)
            }
        };
        let mut request = format!("ws://{edge}/").into_client_request().expect("it is a URL");
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("sip"));
        let socket = loop_until_open(tungstenite::client(request, line));
        let via = if tls.is_some() { "WSS" } else { "WS" };
        (Self { kind: Kind::WebSocket(Box::new(Mutex::new(socket))), via, parameter: ";transport=ws" }, local)
    }

    fn stream(line: Box<dyn Line>, via: &'static str, parameter: &'static str) -> Self {
        let stream = Stream { line, read: Vec::new() };
        Self { kind: Kind::Stream(Mutex::new(stream)), via, parameter }
    }

    /// Whether a message is lost only with the connection, so that nothing is repeated.
    pub(super) fn is_reliable(&self) -> bool {
        !matches!(self.kind, Kind::Datagrams { .. })
    }

    /// Sends bytes to the edge, which may be down at the moment.
    pub(super) fn send(&self, bytes: &[u8]) {
        match &self.kind {
            Kind::Datagrams { socket, edge } => {
                let _ = socket.send_to(bytes, edge);
            }
            Kind::Stream(stream) => {
                let line = &mut stream.lock().unwrap_or_else(PoisonError::into_inner).line;
                let _ = line.write_all(bytes).and_then(|()| line.flush());
            }
            Kind::WebSocket(socket) => {
                let text = String::from_utf8_lossy(bytes).into_owned();
                let mut socket = socket.lock().unwrap_or_else(PoisonError::into_inner);
                let _ = socket.send(tungstenite::Message::text(text));
            }
        }
    }

    /// The next message, if one comes within a moment.
    pub(super) fn receive(&self) -> Option<Message> {
        match &self.kind {
            Kind::Datagrams { socket, .. } => {
                let mut buffer = vec![0; MESSAGE_MAX];
                let (len, _) = socket.recv_from(&mut buffer).ok()?;
                Message::read(&buffer[..len])
            }
            Kind::Stream(stream) => stream.lock().unwrap_or_else(PoisonError::into_inner).next(),
            Kind::WebSocket(socket) => {
                let mut socket = socket.lock().unwrap_or_else(PoisonError::into_inner);
                match socket.read().ok()? {
                    tungstenite::Message::Text(text) => Message::read(text.as_bytes()),
                    tungstenite::Message::Binary(bytes) => Message::read(&bytes),
                    _ => None,
                }
            }
        }
    }
}

impl Stream {
    fn next(&mut self) -> Option<Message> {
        loop {
            // Keep-alives stand between messages.
            let blank = self.read.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            self.read.drain(..blank);
            if let Some(len) = whole(&self.read) {
                let message: Vec<u8> = self.read.drain(..len).collect();
                return Message::read(&message);
            }
            let mut buffer = vec![0; MESSAGE_MAX];
            match self.line.read(&mut buffer) {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.read.extend_from_slice(&buffer[..count]),
            }
        }
    }
}

/// How long the message is that has come whole.
fn whole(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let len = head + length.unwrap_or(0usize);
    (bytes.len() >= len).then_some(len)
}

fn connect(edge: SocketAddr) -> (TcpStream, SocketAddr) {
    let line = TcpStream::connect(edge).unwrap_or_else(|error| panic!("{edge}: {error}"));
    line.set_read_timeout(Some(MOMENT)).expect("a span above zero is allowed");
    let local = line.local_addr().expect("it is connected");
    (line, local)
}

fn encrypted(
    edge: SocketAddr,
    ca: &Path,
    name: &str,
) -> (StreamOwned<ClientConnection, TcpStream>, SocketAddr) {
    let (mut line, local) = connect(edge);
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(ca).expect("the authority is a file"))
        .expect("it is a certificate");
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).expect("it is a name");
    let mut session = ClientConnection::new(Arc::new(config), name).expect("the name can be asked for");
    let patient = crate::wait::Deadline::within(crate::wait::LONG);
    while session.is_handshaking() && patient.left().is_some() {
        match session.complete_io(&mut line) {
            Err(error) if is_pause(&error) => {}
            other => {
                other.unwrap_or_else(|error| panic!("{edge}: {error}"));
            }
        }
    }
    (StreamOwned::new(session, line), local)
}

fn is_pause(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

type Shaking = Result<
    (tungstenite::WebSocket<Box<dyn Line>>, tungstenite::handshake::client::Response),
    tungstenite::HandshakeError<tungstenite::ClientHandshake<Box<dyn Line>>>,
>;

fn loop_until_open(mut outcome: Shaking) -> tungstenite::WebSocket<Box<dyn Line>> {
    let patient = crate::wait::Deadline::within(crate::wait::LONG);
    loop {
        outcome = match outcome {
            Ok((socket, _)) => return socket,
            Err(tungstenite::HandshakeError::Interrupted(middle)) if patient.left().is_some() => {
                middle.handshake()
            }
            Err(error) => panic!("{error}"),
        }
    }
}
