//! SIP without I/O: messages as spans over bytes, typed header views, URIs, SDP, digest, transactions, dialogs.
//!
//! ```
//! use signalbox_sip::{Forward, HeaderName, Limits, Message};
//!
//! let bytes = b"OPTIONS sip:b@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n\
//!     From: <sip:a@example.com>;tag=1\r\nTo: <sip:b@example.com>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\n\r\n";
//! let message = Message::parse(bytes.as_slice(), &Limits::DATAGRAM).expect("a complete request");
//! assert_eq!(message.top_via().expect("readable").branch(), Some(b"z9hG4bK1".as_slice()));
//!
//! let mut forward = Forward::new(&message);
//! forward.insert_first(HeaderName::Via, "SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK2");
//! let mut out = Vec::new();
//! forward.write_into(&mut out);
//! assert!(out.starts_with(b"OPTIONS sip:b@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;"));
//! ```
//!
//! Invariants: parsing never panics, never allocates for up to 48 headers, and looks at each byte a bounded number of
//! times; every slice a view returns lies inside the message it came from; an unedited message is written byte for byte.

pub mod dialog;
pub mod digest;
pub mod header;
pub mod message;
pub mod sdp;
pub mod stream;
pub mod transaction;
pub mod uri;

mod text;

pub use header::{HeaderError, HeaderName};
pub use message::{
    Forward, Header, Limits, Malformed, Message, Method, Put, Reason as MalformedReason, RequestBuilder,
    ResponseBuilder, ResponseHead, is_keepalive,
};
pub use uri::Uri;
