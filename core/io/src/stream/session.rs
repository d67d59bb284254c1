//! What a connection's bytes mean, without I/O: SIP as it is framed on a stream.

use signalbox_sip::stream::{Frame, Framer};
use signalbox_sip::{Limits, Malformed};

/// A frame that a session hands over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A whole message.
    Message(&'a [u8]),
    /// A keep-alive that wants an answer.
    Ping,
    /// The answer to one.
    Pong,
    /// What cannot be framed: nothing follows.
    Unframed(&'a [u8], Malformed),
}

/// Why a session cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The peer's bytes are no SIP.
    Junk,
}

/// One connection's protocol state.
#[derive(Debug)]
pub(super) struct Session {
    framer: Framer,
}

impl Session {
    pub(super) fn sip() -> Self {
        Self { framer: Framer::new(Limits::DATAGRAM) }
    }

    /// Takes bytes from the wire and hands over what is whole.
    pub(super) fn receive(&mut self, wire: &[u8], mut each: impl FnMut(Piece<'_>)) -> Result<(), Broken> {
        self.framer.push(wire);
        loop {
            match self.framer.next_frame() {
                Ok(Some((Frame::Message(_), bytes))) => each(Piece::Message(bytes)),
                Ok(Some((Frame::Ping, _))) => each(Piece::Ping),
                Ok(Some((Frame::Pong, _))) => each(Piece::Pong),
                Ok(None) => return Ok(()),
                Err(fault) => {
                    each(Piece::Unframed(self.framer.rest(), fault));
                    return Err(Broken::Junk);
                }
            }
        }
    }

    /// Appends a message to what goes out on the wire.
    pub(super) fn send(&mut self, message: &[u8], wire: &mut Vec<u8>) -> Result<(), Broken> {
        wire.extend_from_slice(message);
        Ok(())
    }

    /// Whether messages may flow: handshakes are over.
    pub(super) fn is_open(&self) -> bool {
        true
    }

    /// Whether a message has begun and is not whole.
    pub(super) fn has_partial(&self) -> bool {
        self.framer.buffered() > 0
    }
}
