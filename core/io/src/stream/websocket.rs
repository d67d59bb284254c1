//! WebSocket (RFC 6455) as a transport for SIP (RFC 7118), serving side: the upgrade, and one message a frame.

use super::session::{Broken, Piece};
use signalbox_sip::{Limits, is_keepalive};
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server::{Request, create_response, write_response};
use tungstenite::http::{HeaderValue, header};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Error, Message};

/// The HTTP request at most, bytes: cookies of a page may come with it.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// The subprotocol (RFC 7118 §4).
const SUBPROTOCOL: &str = "sip";
const READ_BUFFER_BYTES: usize = 4096;

/// The pages that may open connections, as browsers name them (`https://phone.example.net`). Empty: all. Who is no browser
/// names none and is not stopped by it.
pub(super) type Origins = Arc<[String]>;

/// Waits for the request that asks for WebSocket.
#[derive(Debug)]
pub(super) struct Upgrade {
    buffer: Vec<u8>,
    origins: Origins,
}

impl Upgrade {
    pub(super) fn new(origins: Origins) -> Self {
        Self { buffer: Vec::new(), origins }
    }

    /// Takes bytes; the socket once the request is whole and good. What it is answered goes to `out`.
    ///
    /// # Errors
    /// [`Broken::Junk`] when it asks for something else.
    pub(super) fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Option<WebSocket>, Broken> {
        self.buffer.extend_from_slice(bytes);
        let (size, request) = match Request::try_parse(&self.buffer) {
            Ok(Some(whole)) => whole,
            Ok(None) if self.buffer.len() < REQUEST_BYTES_MAX => return Ok(None),
            Ok(None) | Err(_) => return Err(refuse(out, "400 Bad Request", "")),
        };
        if !self.may_come_from(request.headers().get(header::ORIGIN)) {
            return Err(refuse(out, "403 Forbidden", ""));
        }
        let mut response = match create_response(&request) {
            Ok(response) => response,
            Err(_) => {
                let wanted = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
                return Err(refuse(out, "426 Upgrade Required", wanted));
            }
        };
        let mut offered = request
            .headers()
            .get_all(header::SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','));
        // RFC 7118 §4: who does not offer it does not speak SIP.
        if !offered.any(|name| name.trim().eq_ignore_ascii_case(SUBPROTOCOL)) {
            return Err(refuse(out, "400 Bad Request", "Sec-WebSocket-Protocol: sip\r\n"));
        }
        let protocol = HeaderValue::from_static(SUBPROTOCOL);
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        write_response(&mut *out, &response).map_err(|_| Broken::Junk)?;
        Ok(Some(WebSocket::new(self.buffer.split_off(size))))
    }

    fn may_come_from(&self, origin: Option<&HeaderValue>) -> bool {
        let Some(origin) = origin.filter(|_| !self.origins.is_empty()) else { return true };
        self.origins.iter().any(|known| origin.as_bytes().eq_ignore_ascii_case(known.as_bytes()))
    }
}

fn refuse(out: &mut Vec<u8>, status: &str, more: &str) -> Broken {
    let head = format!("HTTP/1.1 {status}\r\n{more}Content-Length: 0\r\nConnection: close\r\n\r\n");
    out.extend_from_slice(head.as_bytes());
    Broken::Junk
}

/// An open WebSocket, over memory.
#[derive(Debug)]
pub(super) struct WebSocket {
    socket: tungstenite::WebSocket<Pipe>,
    partial: bool,
}

impl WebSocket {
    fn new(behind: Vec<u8>) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(Limits::MESSAGE_BYTES_CEILING))
            .max_frame_size(Some(Limits::MESSAGE_BYTES_CEILING));
        let pipe = Pipe { input: behind, ..Pipe::default() };
        Self {
            socket: tungstenite::WebSocket::from_raw_socket(pipe, Role::Server, Some(config)),
            partial: false,
        }
    }

    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        each: &mut impl FnMut(Piece<'_>),
    ) -> Result<(), Broken> {
        self.socket.get_mut().feed(bytes);
        self.partial |= !bytes.is_empty();
        let outcome = loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => each(piece(text.as_bytes())),
                Ok(Message::Binary(bytes)) => each(piece(&bytes)),
                // It answers pings by itself; whoever pings is alive.
                Ok(Message::Ping(_) | Message::Pong(_)) => each(Piece::Pong),
                Ok(Message::Close(_)) => break Err(Broken::Closed),
                Ok(Message::Frame(_)) => break Err(Broken::Junk),
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => break Ok(()),
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => break Err(Broken::Closed),
                Err(_) => break Err(Broken::Junk),
            }
            self.partial = !self.socket.get_ref().is_empty();
        };
        let _ = self.socket.flush();
        self.socket.get_mut().drain_to(out);
        outcome
    }

    pub(super) fn put(&mut self, message: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        let frame = match std::str::from_utf8(message) {
            // Browsers answer a ping frame by themselves, and know nothing of line ends.
            _ if is_keepalive(message) && message.len() >= 4 => Message::Ping(Vec::new().into()),
            Ok(text) => Message::text(text),
            Err(_) => Message::binary(message.to_vec()),
        };
        let sent = self.socket.send(frame);
        self.socket.get_mut().drain_to(out);
        sent.map_err(|_| Broken::Closed)
    }

    pub(super) fn close(&mut self, out: &mut Vec<u8>) {
        let _ = self.socket.close(None);
        let _ = self.socket.flush();
        self.socket.get_mut().drain_to(out);
    }

    pub(super) fn has_partial(&self) -> bool {
        self.partial
    }
}

fn piece(bytes: &[u8]) -> Piece<'_> {
    match bytes {
        _ if !is_keepalive(bytes) => Piece::Message(bytes),
        _ if bytes.len() >= 4 => Piece::Ping,
        _ => Piece::Pong,
    }
}

/// Both directions of a connection, in memory.
#[derive(Debug, Default)]
struct Pipe {
    input: Vec<u8>,
    read: usize,
    output: Vec<u8>,
}

impl Pipe {
    fn feed(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    fn is_empty(&self) -> bool {
        self.read == self.input.len()
    }

    fn drain_to(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.output);
        self.output = Vec::new();
    }
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let rest = &self.input[self.read..];
        if rest.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        self.read += count;
        if self.is_empty() {
            (self.input, self.read) = (Vec::new(), 0);
        }
        Ok(count)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
