//! Stream framing: however the bytes are cut, the same frames come out.

use signalbox_sip::stream::{Frame, Framer};
use signalbox_sip::{Limits, Message};

/// What a stream gave: frames, and whether it ended in an error.
#[derive(Debug, PartialEq, Eq)]
struct Cut {
    messages: Vec<Vec<u8>>,
    pings: usize,
    failed: bool,
}

const LIMITS: Limits = Limits { message_bytes_max: 8 * 1024, ..Limits::DATAGRAM };

/// See the module. The first byte says how large the pieces are.
pub fn stream(bytes: &[u8]) -> bool {
    let Some((size, bytes)) = bytes.split_first() else { return false };
    let whole = frames([bytes]);
    let cut = frames(bytes.chunks(usize::from(*size).max(1)));
    assert_eq!(cut.messages, whole.messages, "the same messages, however they arrive");
    assert_eq!(cut.failed, whole.failed);
    for message in &whole.messages {
        assert!(message.len() <= LIMITS.message_bytes_max);
        // A frame is not yet a message; but as one it must be complete.
        if let Ok(message) = Message::parse(message.as_slice(), &LIMITS) {
            assert!(message.as_bytes().len() <= bytes.len());
        }
    }
    !whole.messages.is_empty()
}

fn frames<'b>(pieces: impl IntoIterator<Item = &'b [u8]>) -> Cut {
    let mut framer = Framer::new(LIMITS);
    let mut got = Cut { messages: Vec::new(), pings: 0, failed: false };
    for piece in pieces {
        framer.push(piece);
        loop {
            match framer.next_frame() {
                Ok(Some((Frame::Message(len), bytes))) => {
                    assert_eq!(len, bytes.len());
                    got.messages.push(bytes.to_vec());
                }
                Ok(Some((Frame::Ping, _))) => got.pings += 1,
                Ok(Some((Frame::Pong, _))) => {}
                Ok(None) => break,
                Err(_) => {
                    got.failed = true;
                    return got;
                }
            }
        }
        assert!(framer.buffered() <= LIMITS.message_bytes_max, "what waits is bounded");
    }
    got
}
