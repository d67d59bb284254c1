//! How messages find their transaction (RFC 3261 §17.1.3, §17.2.3, §9.2).
//!
//! A response finds its client transaction by the branch we made, which is 64 bits of ours. A request finds its server
//! transaction by what its sender wrote; that is hashed into 128 bits with a seed the sender does not know, so that a
//! lookup neither allocates nor can be made to collide.

use crate::header::{HeaderError, Via};
use crate::message::{Message, Method};
use signalbox_base::ShortToken;
use std::fmt;
use std::hash::{BuildHasher, Hasher};

use foldhash::quality::FixedState;

/// A branch of our own: printed as the cookie and 11 characters. 64 bits that repeat neither in time nor among edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Branch(pub u64);

impl Branch {
    /// Reads one of ours; `None` when another element made it.
    #[must_use]
    pub fn parse(branch: &[u8]) -> Option<Self> {
        let token = branch.strip_prefix(Via::MAGIC_COOKIE)?;
        std::str::from_utf8(token).ok()?.parse::<ShortToken>().ok().map(|token| Self(token.0))
    }
}

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "z9hG4bK{}", ShortToken(self.0))
    }
}

/// A method's name in 32 bits (FNV-1a; methods are case-sensitive, RFC 3261 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MethodTag(u32);

impl MethodTag {
    /// INVITE.
    pub const INVITE: Self = Self::new(b"INVITE");
    /// ACK.
    pub const ACK: Self = Self::new(b"ACK");
    /// CANCEL.
    pub const CANCEL: Self = Self::new(b"CANCEL");

    /// Of any method.
    #[must_use]
    pub const fn new(method: &[u8]) -> Self {
        let (mut hash, mut i) = (0x811C_9DC5_u32, 0);
        while i < method.len() {
            hash = (hash ^ method[i] as u32).wrapping_mul(0x0100_0193);
            i += 1;
        }
        Self(hash)
    }
}

impl From<Method> for MethodTag {
    fn from(method: Method) -> Self {
        Self::new(method.as_str().as_bytes())
    }
}

/// Finds a client transaction: our branch and the method, which tells an INVITE from its CANCEL (RFC 3261 §17.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientKey {
    /// Of the top Via.
    pub branch: Branch,
    /// Of CSeq.
    pub method: MethodTag,
}

impl ClientKey {
    /// Of a response: the branch of its top Via and the method of its CSeq. `None` when the branch is not ours.
    #[must_use]
    pub fn of_response(branch: &[u8], cseq_method: &[u8]) -> Option<Self> {
        Branch::parse(branch).map(|branch| Self { branch, method: MethodTag::new(cseq_method) })
    }

    /// The same, read from the message. `None` also when its top Via cannot be read.
    #[must_use]
    pub fn of_message<B: AsRef<[u8]>>(response: &Message<B>) -> Option<Self> {
        Self::of_response(response.top_via().ok()?.branch()?, response.cseq().method)
    }
}

/// What of a request tells its transaction. All slices as they were written.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestFields<'a> {
    /// The method.
    pub method: &'a [u8],
    /// `branch` of the top Via.
    pub branch: Option<&'a [u8]>,
    /// Host of the top Via's sent-by; compared without case.
    pub sent_by_host: &'a [u8],
    /// Port of the top Via's sent-by; an absent port is not the default port, since one sender writes one of them.
    pub sent_by_port: Option<u16>,
    /// The whole value of the top Via; here and below for RFC 2543 senders only.
    pub via: &'a [u8],
    /// Request-URI.
    pub uri: &'a [u8],
    /// Tag of From.
    pub from_tag: &'a [u8],
    /// Tag of To.
    pub to_tag: &'a [u8],
    /// Call-ID.
    pub call_id: &'a [u8],
    /// Number of CSeq.
    pub cseq: u32,
    /// What else must agree: anything that keeps strangers apart, such as a hash of the source address, so that nobody
    /// elsewhere can cancel an INVITE by guessing its branch. Zero is the RFC's rule.
    pub scope: u64,
}

impl<'a> RequestFields<'a> {
    /// Reads a request. A tag that is missing or cannot be read counts as empty.
    ///
    /// # Errors
    /// When its top Via cannot be read; such a request cannot be answered either.
    pub fn of_message<B: AsRef<[u8]>>(request: &'a Message<B>, scope: u64) -> Result<Self, HeaderError> {
        let via = request.top_via()?;
        let cseq = request.cseq();
        // The tags cost a parse each and count only for RFC 2543 senders.
        let branch = via.branch();
        let unique = branch.is_some_and(Via::is_unique);
        let tag = |tag: fn(&'a Message<B>) -> Option<&'a [u8]>| {
            if unique { b"" } else { tag(request).unwrap_or_default() }
        };
        Ok(Self {
            method: cseq.method,
            branch,
            sent_by_host: via.host,
            sent_by_port: via.port,
            via: via.raw,
            uri: request.request_uri().unwrap_or_default(),
            from_tag: tag(Message::from_tag),
            to_tag: tag(Message::to_tag),
            call_id: request.call_id(),
            cseq: cseq.number,
            scope,
        })
    }
}

/// Hashes requests to keys, with a secret seed.
#[derive(Clone, Debug)]
pub struct KeyHasher {
    high: FixedState,
    low: FixedState,
}

/// Finds a server transaction.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServerKey([u64; 2]);

impl ServerKey {
    /// Its bits; nothing follows from them without the seed.
    #[must_use]
    pub const fn bits(self) -> u128 {
        (self.0[0] as u128) << 64 | self.0[1] as u128
    }

    /// A hash that nobody outside can steer: half of it is enough.
    pub(super) const fn hash(self) -> u64 {
        self.0[1]
    }
}

impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerKey({:032x})", self.bits())
    }
}

impl KeyHasher {
    /// `seed` is random and stays in the process.
    #[must_use]
    pub fn new(seed: [u64; 2]) -> Self {
        Self { high: FixedState::with_seed(seed[0]), low: FixedState::with_seed(!seed[1]) }
    }

    /// The request's own transaction; for an ACK, the INVITE's that it may acknowledge (RFC 3261 §17.2.3).
    #[must_use]
    pub fn key(&self, request: &RequestFields<'_>) -> ServerKey {
        match request.method {
            b"ACK" => self.key_as(request, b"INVITE"),
            method => self.key_as(request, method),
        }
    }

    /// The INVITE that a CANCEL means (RFC 3261 §9.2).
    #[must_use]
    pub fn cancelled(&self, cancel: &RequestFields<'_>) -> ServerKey {
        self.key_as(cancel, b"INVITE")
    }

    fn key_as(&self, request: &RequestFields<'_>, method: &[u8]) -> ServerKey {
        let half = |state: &FixedState| {
            let mut hasher = state.build_hasher();
            write(&mut hasher, request, method);
            hasher.finish()
        };
        ServerKey([half(&self.high), half(&self.low)])
    }
}

fn write(hasher: &mut impl Hasher, request: &RequestFields<'_>, method: &[u8]) {
    hasher.write_u64(request.scope);
    field(hasher, method);
    if let Some(branch) = request.branch.filter(|branch| is_rfc3261(branch)) {
        hasher.write_u8(1);
        field(hasher, branch);
        lower_field(hasher, request.sent_by_host);
        hasher.write_u32(request.sent_by_port.map_or(u32::MAX, u32::from));
        return;
    }
    // RFC 2543 senders, RFC 3261 §17.2.3. The To tag of an ACK is the one that the server chose, and a CANCEL carries the
    // INVITE's, so it says nothing about these; among the others it tells requests within a dialog apart.
    hasher.write_u8(2);
    for value in [request.via, request.uri, request.from_tag, request.call_id] {
        field(hasher, value);
    }
    hasher.write_u32(request.cseq);
    if !matches!(method, b"INVITE" | b"CANCEL") {
        field(hasher, request.to_tag);
    }
}

/// A branch that is the cookie and nothing else is unique to nobody (RFC 4475 §3.1.2.14 wants it treated as RFC 2543's).
fn is_rfc3261(branch: &[u8]) -> bool {
    let cookie = Via::MAGIC_COOKIE;
    branch.len() > cookie.len() && branch[..cookie.len()].eq_ignore_ascii_case(cookie)
}

/// With its length first, so that neighbouring fields cannot trade bytes.
fn field(hasher: &mut impl Hasher, value: &[u8]) {
    hasher.write_usize(value.len());
    hasher.write(value);
}

fn lower_field(hasher: &mut impl Hasher, value: &[u8]) {
    hasher.write_usize(value.len());
    for chunk in value.chunks(32) {
        let mut lower = [0; 32];
        lower[..chunk.len()].copy_from_slice(chunk);
        lower.make_ascii_lowercase();
        hasher.write(&lower[..chunk.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Limits;
    use proptest::prelude::*;

    fn hasher() -> KeyHasher {
        KeyHasher::new([1, 2])
    }

    fn invite() -> RequestFields<'static> {
        RequestFields {
            method: b"INVITE",
            branch: Some(b"z9hG4bK776"),
            sent_by_host: b"pc33.example.com",
            sent_by_port: Some(5060),
            via: b"SIP/2.0/UDP pc33.example.com:5060;branch=z9hG4bK776",
            uri: b"sip:bob@example.com",
            from_tag: b"1928",
            to_tag: b"",
            call_id: b"a84b4c76e66710",
            cseq: 314_159,
            scope: 0,
        }
    }

    #[test]
    fn branch_sent_by_and_method_tell_transactions_apart_rfc3261_17_2_3() {
        let key = hasher().key(&invite());
        let host = RequestFields { sent_by_host: b"PC33.EXAMPLE.COM", call_id: b"other", ..invite() };
        assert_eq!(hasher().key(&host), key, "hosts have no case; Call-ID says nothing");
        for other in [
            RequestFields { branch: Some(b"z9hG4bK777"), ..invite() },
            RequestFields { sent_by_host: b"pc34.example.com", ..invite() },
            RequestFields { sent_by_port: Some(5061), ..invite() },
            RequestFields { sent_by_port: None, ..invite() },
            RequestFields { method: b"OPTIONS", ..invite() },
            RequestFields { scope: 7, ..invite() },
        ] {
            assert_ne!(hasher().key(&other), key, "{other:?}");
        }
    }

    #[test]
    fn ack_and_cancel_find_the_invite_rfc3261_17_2_3_and_9_2() {
        let key = hasher().key(&invite());
        assert_eq!(hasher().key(&RequestFields { method: b"ACK", to_tag: b"chosen", ..invite() }), key);
        let cancel = RequestFields { method: b"CANCEL", ..invite() };
        assert_eq!(hasher().cancelled(&cancel), key);
        assert_ne!(hasher().key(&cancel), key, "a CANCEL has a transaction of its own");
        let ack_to_2xx = RequestFields { method: b"ACK", branch: Some(b"z9hG4bKnew"), ..invite() };
        assert_ne!(hasher().key(&ack_to_2xx), key);
    }

    #[test]
    fn without_the_cookie_all_fields_count_rfc3261_17_2_3() {
        for branch in [None, Some(b"1".as_slice()), Some(Via::MAGIC_COOKIE)] {
            let old = RequestFields { branch, ..invite() };
            let key = hasher().key(&old);
            assert_eq!(hasher().key(&RequestFields { method: b"ACK", to_tag: b"chosen", ..old }), key);
            assert_eq!(hasher().cancelled(&RequestFields { method: b"CANCEL", ..old }), key);
            for other in [
                RequestFields { call_id: b"b", ..old },
                RequestFields { cseq: 1, ..old },
                RequestFields { uri: b"sip:carol@example.com", ..old },
                RequestFields { from_tag: b"2", ..old },
                RequestFields { via: b"SIP/2.0/UDP pc34", ..old },
            ] {
                assert_ne!(hasher().key(&other), key);
            }
        }
    }

    #[test]
    fn another_seed_gives_other_keys() {
        assert_ne!(KeyHasher::new([1, 3]).key(&invite()), hasher().key(&invite()));
        assert_ne!(KeyHasher::new([5, 2]).key(&invite()), hasher().key(&invite()));
    }

    #[test]
    fn a_response_of_another_method_or_branch_is_not_ours_rfc3261_17_1_3() {
        let branch = Branch(42);
        let key = ClientKey { branch, method: MethodTag::INVITE };
        let text = branch.to_string();
        assert_eq!(ClientKey::of_response(text.as_bytes(), b"INVITE"), Some(key));
        assert_ne!(ClientKey::of_response(text.as_bytes(), b"CANCEL"), Some(key));
        for bad in ["", "z9hG4bK", "z9hG4bKshort", "z9hG4bK0000000000!", "Z9HG4BK00000000001"] {
            assert_eq!(ClientKey::of_response(bad.as_bytes(), b"INVITE"), None, "{bad}");
        }
    }

    #[test]
    fn a_message_is_read_into_the_same_fields() {
        let bytes = b"INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP pc33.example.com:5060;branch=z9hG4bK776\r\n\
            From: <sip:a@example.com>;tag=1928\r\nTo: <sip:bob@example.com>\r\nCall-ID: a84b4c76e66710\r\n\
            CSeq: 314159 INVITE\r\n\r\n";
        let read = |bytes: &[u8]| {
            let message = Message::parse(bytes, &Limits::DATAGRAM).unwrap();
            hasher().key(&RequestFields::of_message(&message, 0).unwrap())
        };
        assert_eq!(read(bytes), hasher().key(&invite()));
        let old = String::from_utf8_lossy(bytes).replace("z9hG4bK776", "1");
        let fields = RequestFields {
            branch: Some(b"1"),
            via: b"SIP/2.0/UDP pc33.example.com:5060;branch=1",
            ..invite()
        };
        assert_eq!(read(old.as_bytes()), hasher().key(&fields));
    }

    #[test]
    fn a_response_finds_the_client_that_sent_its_branch() {
        let text = format!(
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1;branch={}\r\nFrom: <sip:a@example.com>;tag=1\r\n\
             To: <sip:b@example.com>;tag=2\r\nCall-ID: x\r\nCSeq: 1 BYE\r\n\r\n",
            Branch(42)
        );
        let message = Message::parse(text.as_bytes(), &Limits::DATAGRAM).unwrap();
        let key = ClientKey { branch: Branch(42), method: Method::Bye.into() };
        assert_eq!(ClientKey::of_message(&message), Some(key));
    }

    proptest! {
        #[test]
        fn branches_print_and_read(token: u64) {
            prop_assert_eq!(Branch::parse(Branch(token).to_string().as_bytes()), Some(Branch(token)));
        }

        #[test]
        fn reading_a_branch_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Branch::parse(&bytes);
        }
    }
}
