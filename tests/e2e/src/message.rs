//! SIP as the stories read it: a few lines of text. It shares no code with what it judges.

use std::fmt;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Request or status line.
    pub start: String,
    /// Headers in order, names as sent except that compact forms are written out.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Message {
    /// Reads a datagram; `None` for anything that is not SIP (a keep-alive, say).
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let start = lines.next().filter(|l| l.contains("SIP/2.0"))?.to_owned();
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((long_name(name.trim()).to_owned(), value.trim().to_owned()))
        };
        let headers = lines.map(header).collect::<Option<Vec<_>>>()?;
        Some(Self { start, headers, body: body.to_owned() })
    }

    /// The first header of a name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Every header of a name.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers
            .iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The status of a response.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.start.strip_prefix("SIP/2.0 ")?.split(' ').next()?.parse().ok()
    }

    /// The method: a request's own, or the one that a response answers.
    #[must_use]
    pub fn method(&self) -> &str {
        match self.status() {
            None => self.start.split(' ').next().unwrap_or_default(),
            Some(_) => self.header("CSeq").and_then(|c| c.split_whitespace().nth(1)).unwrap_or_default(),
        }
    }

    /// The CSeq number.
    #[must_use]
    pub fn cseq(&self) -> u32 {
        self.header("CSeq").and_then(|c| c.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    /// A request's URI.
    #[must_use]
    pub fn uri(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// The Call-ID.
    #[must_use]
    pub fn call_id(&self) -> &str {
        self.header("Call-ID").unwrap_or_default()
    }

    /// The branch of the topmost Via.
    #[must_use]
    pub fn branch(&self) -> &str {
        self.header("Via").and_then(|via| parameter(via, "branch")).unwrap_or_default()
    }

    /// The tag of a From or To.
    #[must_use]
    pub fn tag(&self, header: &str) -> Option<&str> {
        parameter(self.header(header)?, "tag")
    }

    /// The URI of the first Contact.
    #[must_use]
    pub fn contact(&self) -> Option<&str> {
        self.header("Contact").map(address)
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.start)?;
        self.headers.iter().try_for_each(|(name, value)| writeln!(f, "{name}: {value}"))?;
        write!(f, "\n{}", self.body)
    }
}

/// The URI inside a From, To or Contact.
#[must_use]
pub fn address(value: &str) -> &str {
    match value.split_once('<') {
        Some((_, rest)) => rest.split('>').next().unwrap_or_default(),
        None => value.split(';').next().unwrap_or_default().trim(),
    }
}

/// A parameter behind a header's value; what stands in a URI's brackets is the URI's own.
#[must_use]
pub fn parameter<'v>(value: &'v str, name: &str) -> Option<&'v str> {
    let behind = value.rsplit_once('>').map_or(value, |(_, rest)| rest);
    behind.split(';').find_map(|p| p.trim().strip_prefix(name)?.strip_prefix('='))
}

fn long_name(name: &str) -> &str {
    match name.to_ascii_lowercase().as_str() {
        "v" => "Via",
        "f" => "From",
        "t" => "To",
        "i" => "Call-ID",
        "m" => "Contact",
        "l" => "Content-Length",
        "c" => "Content-Type",
        "k" => "Supported",
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read() {
        let text = "SIP/2.0 200 OK\r\nv: SIP/2.0/UDP a:1;branch=z9hG4bK7;rport\r\nFrom: \"A\" <sip:a@x;tag=no>;tag=f\r\n\
            To: sip:b@y;tag=t\r\nCall-ID: c\r\nCSeq: 7 INVITE\r\nm: <sip:b@z;x=1>;expires=60\r\n\r\nbody";
        let message = Message::read(text.as_bytes()).unwrap();
        assert_eq!((message.status(), message.method(), message.cseq()), (Some(200), "INVITE", 7));
        assert_eq!(
            (message.tag("From"), message.tag("To"), message.branch()),
            (Some("f"), Some("t"), "z9hG4bK7")
        );
        assert_eq!((message.contact(), message.body.as_str()), (Some("sip:b@z;x=1"), "body"));
        assert!(Message::read(b"\r\n\r\n").is_none());
    }
}
