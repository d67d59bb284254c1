//! Stories of the built binary among real peers: Kamailio, Asterisk, SIPp, PostgreSQL, a real NAT.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod peers;
