//! What a connection's bytes mean, without I/O: TLS or not, and within it SIP as it is framed on a stream, or WebSocket.

use super::websocket::{Upgrade, WebSocket};
use rustls::Connection;
use rustls::pki_types::CertificateDer;
use signalbox_sip::stream::{Frame, Framer};
use signalbox_sip::{Limits, Malformed};
use std::io::{ErrorKind, Read, Write};

/// Plain text that may wait in a TLS session, for its handshake; beyond it the session is broken.
const TLS_WAITING_MAX: usize = 1 << 20;

/// A frame that a session hands over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A whole message.
    Message(&'a [u8]),
    /// A keep-alive that wants an answer.
    Ping,
    /// A keep-alive that wants none, or the answer to one.
    Pong,
    /// What cannot be framed: nothing follows.
    Unframed(&'a [u8], Malformed),
    /// The verified certificate of who connected, DER, before anything that it sent.
    Shown(&'a [u8]),
    /// TLS has failed, and why: nothing follows.
    TlsFailed(&'a str),
}

/// Why a session cannot go on.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Broken {
    /// The peer said that it closes.
    Closed,
    /// The peer's bytes are no SIP, or no WebSocket.
    Junk,
    /// TLS has failed.
    Tls(rustls::Error),
    /// Too much waits.
    Full,
}

/// One connection's protocol state.
#[derive(Debug)]
pub(super) struct Session {
    tls: Option<Box<Connection>>,
    framing: Framing,
    /// The certificate of who connected is to be handed over.
    shows: bool,
}

#[derive(Debug)]
pub(super) enum Framing {
    /// RFC 3261 §18.3.
    Sip(Framer),
    /// The HTTP request that asks for WebSocket (RFC 6455 §4.2).
    Upgrade(Box<Upgrade>),
    /// One SIP message a frame (RFC 7118 §5).
    WebSocket(Box<WebSocket>),
}

impl Framing {
    pub(super) fn sip() -> Self {
        Self::Sip(Framer::new(Limits::DATAGRAM))
    }
}

impl Session {
    pub(super) fn new(tls: Option<Box<Connection>>, framing: Framing) -> Self {
        let tls = tls.map(|mut tls| {
            tls.set_buffer_limit(Some(TLS_WAITING_MAX));
            tls
        });
        Self { tls, framing, shows: false }
    }

    /// One whose peer is to be named by its certificate.
    pub(super) fn showing(self) -> Self {
        Self { shows: true, ..self }
    }

    /// Takes bytes from the wire, hands over what is whole, and appends to `out` what the protocols answer by themselves.
    /// `scratch` is for plain text.
    ///
    /// # Errors
    /// Why nothing more can come. What `out` got is still to be sent.
    pub(super) fn receive(
        &mut self,
        mut wire: &[u8],
        scratch: &mut [u8],
        out: &mut Vec<u8>,
        mut each: impl FnMut(Piece<'_>),
    ) -> Result<(), Broken> {
        let Some(tls) = &mut self.tls else { return self.framing.take(wire, out, &mut each) };
        let mut replies = Vec::new();
        let mut outcome = Ok(());
        while outcome.is_ok() && !wire.is_empty() {
            // Its buffer holds what one record needs; reading from memory fails only when that is full.
            outcome = match tls.read_tls(&mut wire) {
                Ok(0) | Err(_) => Err(Broken::Junk),
                Ok(_) => tls.process_new_packets().map(drop).map_err(Broken::Tls),
            };
            if self.shows && outcome.is_ok() && !tls.is_handshaking() {
                self.shows = false;
                if let Some(certificate) = tls.peer_certificates().and_then(<[_]>::first) {
                    each(Piece::Shown(certificate));
                }
            }
            while outcome.is_ok() {
                match tls.reader().read(scratch) {
                    Ok(0) => outcome = Err(Broken::Closed),
                    Ok(count) => outcome = self.framing.take(&scratch[..count], &mut replies, &mut each),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => outcome = Err(Broken::Junk),
                }
            }
        }
        encrypt(tls, &replies, out).and(outcome)
    }

    /// Appends a message to what goes out on the wire.
    ///
    /// # Errors
    /// [`Broken::Full`] when too much waits for a handshake.
    pub(super) fn send(&mut self, message: &[u8], wire: &mut Vec<u8>) -> Result<(), Broken> {
        match (&mut self.tls, &mut self.framing) {
            (None, framing) => framing.put(message, wire),
            (Some(tls), Framing::Sip(_)) => encrypt(tls, message, wire),
            (Some(tls), framing) => {
                let mut plain = Vec::with_capacity(message.len() + 16);
                framing.put(message, &mut plain)?;
                encrypt(tls, &plain, wire)
            }
        }
    }

    /// What is to be written first: the calling side of TLS begins.
    pub(super) fn begin(&mut self, wire: &mut Vec<u8>) {
        if let Some(tls) = &mut self.tls {
            let _ = encrypt(tls, b"", wire);
        }
    }

    /// Says goodbye, as far as there is a way to say it.
    pub(super) fn close(&mut self, wire: &mut Vec<u8>) {
        let mut plain = Vec::new();
        if let Framing::WebSocket(socket) = &mut self.framing {
            socket.close(&mut plain);
        }
        match &mut self.tls {
            None => wire.extend_from_slice(&plain),
            Some(tls) => {
                let _ = encrypt(tls, &plain, wire);
                tls.send_close_notify();
                let _ = encrypt(tls, b"", wire);
            }
        }
    }

    /// What the peer has shown over TLS, verified: nothing, maybe. `None` without TLS.
    pub(super) fn certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.tls.as_ref().map(|tls| tls.peer_certificates().unwrap_or_default())
    }

    /// Whether messages may flow: handshakes are over.
    pub(super) fn is_open(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking())
            && !matches!(self.framing, Framing::Upgrade(_))
    }

    /// Whether a message has begun and is not whole.
    pub(super) fn has_partial(&self) -> bool {
        match &self.framing {
            Framing::Sip(framer) => framer.buffered() > 0,
            Framing::Upgrade(_) => false,
            Framing::WebSocket(socket) => socket.has_partial(),
        }
    }
}

impl Framing {
    fn take(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        each: &mut impl FnMut(Piece<'_>),
    ) -> Result<(), Broken> {
        match self {
            Self::Sip(framer) => {
                framer.push(bytes);
                frames(framer, each)
            }
            Self::Upgrade(upgrade) => match upgrade.take(bytes, out)? {
                Some(socket) => {
                    *self = Self::WebSocket(Box::new(socket));
                    // What came behind the request is in it already.
                    self.take(b"", out, each)
                }
                None => Ok(()),
            },
            Self::WebSocket(socket) => socket.take(bytes, out, each),
        }
    }

    fn put(&mut self, message: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        match self {
            Self::Sip(_) => {
                out.extend_from_slice(message);
                Ok(())
            }
            // Nothing has come over it that could be answered.
            Self::Upgrade(_) => Err(Broken::Full),
            Self::WebSocket(socket) => socket.put(message, out),
        }
    }
}

fn frames(framer: &mut Framer, each: &mut impl FnMut(Piece<'_>)) -> Result<(), Broken> {
    loop {
        match framer.next_frame() {
            Ok(Some((Frame::Message(_), bytes))) => each(Piece::Message(bytes)),
            Ok(Some((Frame::Ping, _))) => each(Piece::Ping),
            Ok(Some((Frame::Pong, _))) => each(Piece::Pong),
            Ok(None) => return Ok(()),
            Err(fault) => {
                each(Piece::Unframed(framer.rest(), fault));
                return Err(Broken::Junk);
            }
        }
    }
}

/// Gives plain text to the session, and appends all that it has for the wire.
fn encrypt(tls: &mut Connection, plain: &[u8], wire: &mut Vec<u8>) -> Result<(), Broken> {
    let mut rest = plain;
    loop {
        let taken = tls.writer().write(rest).unwrap_or(0);
        rest = &rest[taken..];
        while tls.wants_write() {
            // Memory takes every byte.
            if tls.write_tls(wire).is_err() {
                return Err(Broken::Full);
            }
        }
        if rest.is_empty() {
            return Ok(());
        }
        if taken == 0 {
            return Err(Broken::Full);
        }
    }
}
