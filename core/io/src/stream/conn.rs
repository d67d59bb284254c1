//! One connection: its socket, its session, what waits to be written, and how long it has been silent.

use super::SendFailure;
use super::config::StreamLimits;
use super::mail::StreamEnd;
use super::session::{Broken, Piece, Session};
use rustls::Error;
use signalbox_base::{Flow, Mono};
use socket2::Socket;
use std::io::{ErrorKind, Read, Write};

/// Written bytes above this are moved out of the way at once; below it they wait for the rest.
const COMPACT_BYTES: usize = 16 * 1024;
/// The part of the read buffer that plain text is decrypted into: a TLS record is no longer.
const SCRATCH_BYTES: usize = 16 * 1024;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Ours, not accepted yet by the peer.
    Dialling,
    /// TLS or WebSocket is being negotiated.
    Handshaking,
    /// The peer's, from which nothing whole came yet.
    Unproven,
    /// Messages flow.
    Open,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Conn {
    socket: Socket,
    /// As the edge knows it: connections of our own making have no `conn` in it.
    pub(super) flow: Flow,
    /// A connection that a peer has made is found as this one, which the edge would make, too.
    pub(super) stands_for: Option<Box<Flow>>,
    pub(super) session: Session,
    /// Bytes for the wire; those before `written` are out.
    queue: Vec<u8>,
    written: usize,
    /// Marks of messages of which some bytes may be in the queue.
    tickets: Vec<u64>,
    phase: Phase,
    /// Since when it has been in its phase.
    since: Mono,
    /// Since when a message has been incomplete.
    partial: Option<Mono>,
    /// When anything came or went.
    active: Mono,
    /// Whether the poller is asked to tell when it can be written to.
    pub(super) wants_write: bool,
    /// Whether it is in the list of those to be written to in this round.
    pub(super) touched: bool,
}

/// How a connection ended, for the edge.
pub(super) type Ended = StreamEnd;

impl Conn {
    /// A connection that a peer made.
    pub(super) fn accepted(socket: Socket, flow: Flow, session: Session, now: Mono) -> Self {
        let phase = if session.is_open() { Phase::Unproven } else { Phase::Handshaking };
        Self::new(socket, flow, session, phase, now)
    }

    /// A connection that the edge is making.
    pub(super) fn dialled(socket: Socket, flow: Flow, session: Session, now: Mono) -> Self {
        Self { wants_write: true, ..Self::new(socket, flow, session, Phase::Dialling, now) }
    }

    fn new(socket: Socket, flow: Flow, session: Session, phase: Phase, now: Mono) -> Self {
        Self {
            socket,
            flow,
            stands_for: None,
            session,
            queue: Vec::new(),
            written: 0,
            tickets: Vec::new(),
            phase,
            since: now,
            partial: None,
            active: now,
            wants_write: false,
            touched: false,
        }
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Reads once what is there and hands over what is whole. More may be left: the poller tells again.
    ///
    /// # Errors
    /// How it ended.
    pub(super) fn read(
        &mut self,
        now: Mono,
        buffer: &mut [u8],
        mut each: impl FnMut(Flow, Piece<'_>),
    ) -> Result<(), Ended> {
        let (wire, scratch) = buffer.split_at_mut(buffer.len() - SCRATCH_BYTES);
        let count = match (&self.socket).read(wire) {
            Ok(0) => return Err(StreamEnd::Closed),
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(());
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Err(StreamEnd::Closed),
            Err(_) => return Err(StreamEnd::Failed),
        };
        let flow = self.flow;
        let (mut whole, mut alive) = (false, false);
        let outcome = self.session.receive(&wire[..count], scratch, &mut self.queue, |piece| {
            whole |= matches!(piece, Piece::Message(_));
            alive = true;
            each(flow, piece);
        });
        if let Err(broken) = outcome {
            if let Broken::Tls(error) = &broken {
                each(flow, Piece::TlsFailed(&error.to_string()));
            }
            return Err(self.end_of(&broken));
        }
        self.active = now;
        if self.phase == Phase::Handshaking && self.session.is_open() {
            self.enter(if self.flow.conn.is_some() { Phase::Unproven } else { Phase::Open }, now);
        }
        if whole {
            self.enter(Phase::Open, now);
        }
        // The clock of a message starts with its first byte, and again behind each whole one.
        self.partial = self.session.has_partial().then(|| self.partial.filter(|_| !alive).unwrap_or(now));
        Ok(())
    }

    /// Takes a message to be written.
    ///
    /// # Errors
    /// The peer reads too slowly, or the session is broken.
    pub(super) fn send(
        &mut self,
        bytes: &[u8],
        ticket: Option<u64>,
        limits: &StreamLimits,
    ) -> Result<(), Ended> {
        if self.waiting() + bytes.len() > limits.unread_bytes_max {
            return Err(StreamEnd::Unread);
        }
        self.session.send(bytes, &mut self.queue).map_err(|broken| self.end_of(&broken))?;
        self.tickets.extend(ticket);
        Ok(())
    }

    /// Writes what waits, as far as the network takes it; whether all of it is out.
    ///
    /// # Errors
    /// How it ended.
    pub(super) fn write(&mut self, now: Mono) -> Result<bool, Ended> {
        if self.phase == Phase::Dialling {
            return Ok(false);
        }
        while self.written < self.queue.len() {
            match (&self.socket).write(&self.queue[self.written..]) {
                Ok(count) => {
                    self.written += count;
                    self.active = now;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.written >= COMPACT_BYTES {
                        self.queue.drain(..self.written);
                        self.written = 0;
                    }
                    return Ok(false);
                }
                Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                    return Err(StreamEnd::Closed);
                }
                Err(_) => return Err(StreamEnd::Failed),
            }
        }
        // Most connections are silent most of the time: they keep no memory.
        (self.queue, self.written) = (Vec::new(), 0);
        if self.phase == Phase::Open || self.phase == Phase::Unproven {
            self.tickets = Vec::new();
        }
        Ok(true)
    }

    /// The poller says that a connection of ours is made, or has failed.
    ///
    /// # Errors
    /// It has failed; why is in [`Conn::failure`].
    pub(super) fn dialled_through(&mut self, now: Mono) -> Result<(), Ended> {
        if self.phase != Phase::Dialling {
            return Ok(());
        }
        match self.socket.take_error() {
            Ok(None) => {
                self.enter(if self.session.is_open() { Phase::Open } else { Phase::Handshaking }, now);
                self.session.begin(&mut self.queue);
                self.active = now;
                Ok(())
            }
            Ok(Some(_)) | Err(_) => Err(StreamEnd::Failed),
        }
    }

    /// What its end means for messages that waited.
    pub(super) fn failure(&self) -> SendFailure {
        match self.phase {
            Phase::Dialling | Phase::Handshaking => SendFailure::Refused,
            Phase::Unproven | Phase::Open => SendFailure::Gone,
        }
    }

    /// Marks of the messages that are lost with it.
    pub(super) fn lost(&mut self) -> Vec<u64> {
        let nothing_waits = self.waiting() == 0 && self.phase == Phase::Open;
        if nothing_waits { Vec::new() } else { std::mem::take(&mut self.tickets) }
    }

    /// Whether something is to be written.
    pub(super) fn has_output(&self) -> bool {
        self.waiting() > 0
    }

    /// Says goodbye and makes one attempt to write what is left.
    pub(super) fn part(&mut self, now: Mono) {
        if self.phase != Phase::Dialling {
            self.session.close(&mut self.queue);
            let _ = self.write(now);
        }
    }

    /// Whether it has been in some state for too long.
    pub(super) fn overdue(&self, now: Mono, limits: &StreamLimits) -> Option<Ended> {
        let phase = now.since(self.since);
        match self.phase {
            Phase::Dialling if phase >= limits.handshake => return Some(StreamEnd::Failed),
            Phase::Handshaking if phase >= limits.handshake => return Some(StreamEnd::Slow),
            Phase::Unproven if phase >= limits.first_message => return Some(StreamEnd::Slow),
            _ => {}
        }
        if self.partial.is_some_and(|since| now.since(since) >= limits.message) {
            return Some(StreamEnd::Slow);
        }
        (now.since(self.active) >= limits.idle).then_some(StreamEnd::Idle)
    }

    fn end_of(&self, broken: &Broken) -> Ended {
        if let Broken::Tls(error) = broken {
            let ours = self.flow.conn.is_none();
            tracing::debug!(flow = %self.flow, ours, %error, "TLS failed");
        }
        match broken {
            Broken::Closed => StreamEnd::Closed,
            Broken::Junk => StreamEnd::Junk,
            Broken::Tls(Error::NoCertificatesPresented | Error::InvalidCertificate(_)) => {
                StreamEnd::Untrusted
            }
            Broken::Tls(_) => StreamEnd::Failed,
            Broken::Full => StreamEnd::Unread,
        }
    }

    fn waiting(&self) -> usize {
        self.queue.len() - self.written
    }

    fn enter(&mut self, phase: Phase, now: Mono) {
        if self.phase != phase {
            (self.phase, self.since) = (phase, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_connection_takes_little_memory() {
        // 20,000 of them are 8 MB; buffers come and go with what they hold.
        assert!(size_of::<Conn>() <= 400, "{}", size_of::<Conn>());
    }
}
