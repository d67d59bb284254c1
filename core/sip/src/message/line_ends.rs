//! Lines that end in LF alone. RFC 3261 §7 wants CRLF; hand-written clients send LF, and Kamailio and Asterisk read both. Read
//! they are here too, but they must not go on so: a next hop that sees no line end there would read other headers than we did.

use super::Message;

impl<B: AsRef<[u8]>> Message<B> {
    /// Whether a line of the head ends in LF alone. Such a message is not to be passed on, nor are its values, before
    /// [`Message::with_line_ends`].
    #[must_use]
    pub fn has_bare_line_feeds(&self) -> bool {
        self.index.bare_lf
    }

    /// The message with CRLF at the end of each line of its head, folds included; the body is as it was.
    #[must_use]
    pub fn with_line_ends(&self) -> Vec<u8> {
        let bytes = self.as_bytes();
        let (head, body) = bytes.split_at(bytes.len() - self.body().len());
        let mut out = Vec::with_capacity(bytes.len() + self.index.headers.len() + 2);
        let mut before = 0;
        for &byte in head {
            if byte == b'\n' && before != b'\r' {
                out.push(b'\r');
            }
            out.push(byte);
            before = byte;
        }
        out.extend_from_slice(body);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::Limits;
    use super::*;

    const HEAD: &str = "MESSAGE sip:a@h SIP/2.0\nVia: SIP/2.0/UDP h;branch=z9hG4bK2\r\nFrom: <sip:a@h>\n ;tag=1\nTo: <sip:b@h>\n\
                        Call-ID: x\nCSeq: 2 MESSAGE\n";

    #[test]
    fn given_bare_line_feeds_when_mended_then_the_head_has_crlf_and_the_body_is_as_it_was() {
        for (rest, body) in
            [("Content-Length: 4\n\na\nb\n", "a\nb\n"), ("\nno\nlength\n", "no\nlength\n"), ("", "")]
        {
            let text = format!("\n{HEAD}{rest}");
            let message = Message::parse(text.as_bytes(), &Limits::DATAGRAM).unwrap();
            assert!(message.has_bare_line_feeds());
            let mended = message.with_line_ends();
            let again = Message::parse(&*mended, &Limits::DATAGRAM).unwrap();
            assert!(!again.has_bare_line_feeds());
            assert_eq!(again.body(), body.as_bytes());
            assert_eq!(again.from_tag(), Some(b"1".as_slice()));
            let lines =
                |message: &Message<&[u8]>| message.headers().map(|h| h.name.to_vec()).collect::<Vec<_>>();
            assert_eq!(lines(&again), lines(&message));
            let head = mended.strip_suffix(body.as_bytes()).unwrap();
            assert!(head.iter().enumerate().all(|(at, &b)| b != b'\n' || head[at - 1] == b'\r'));
        }
        let proper = HEAD.replace("\r\n", "\n").replace('\n', "\r\n") + "\r\na\nb";
        let message = Message::parse(proper.as_bytes(), &Limits::DATAGRAM).unwrap();
        assert!(!message.has_bare_line_feeds(), "a body may hold what it likes");
        assert_eq!(message.with_line_ends(), proper.as_bytes());
    }
}
