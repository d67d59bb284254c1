//! W3C trace context that messages carry in a header of their own: the events that one leads to carry it on.

use signalbox_sip::Message;

/// A `traceparent` of version 00 (W3C Trace Context §3.2): `00-<trace-id>-<parent-id>-<flags>`, lower-case hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traceparent([u8; Self::LEN]);

impl Traceparent {
    const LEN: usize = 55;

    /// Of a message that has exactly one, well-formed; anything else is as if there were none.
    pub(crate) fn of<B: AsRef<[u8]>>(message: &Message<B>) -> Option<Self> {
        let mut all = message.extension(b"traceparent");
        let one = all.next()?;
        if all.next().is_some() { None } else { Self::parse(one.value) }
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let bytes: [u8; Self::LEN] = text.try_into().ok()?;
        let hexadecimal = |part: &[u8]| part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        // An id of zeros is invalid.
        let id = |part: &[u8]| hexadecimal(part) && part.iter().any(|b| *b != b'0');
        let dashes = [2, 35, 52].iter().all(|at| bytes[*at] == b'-');
        let legal = dashes
            && bytes.starts_with(b"00")
            && id(&bytes[3..35])
            && id(&bytes[36..52])
            && hexadecimal(&bytes[53..]);
        legal.then_some(Self(bytes))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_what_is_no_trace_context_then_there_is_none() {
        let good = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(Traceparent::parse(good).map(|t| t.0), Some(*good));
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            assert_eq!(Traceparent::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
