//! Digest authentication (RFC 7616 for SIP by RFC 8760): challenges, responses, stateless nonces.

mod challenge;
mod nonce;
mod replays;
mod response;
mod write;

pub use challenge::{Algorithm, AuthParams, Challenge, Credentials, DigestError, Qop};
pub use nonce::{NonceIssuer, NonceVerdict, ReplayWindow};
pub use replays::Replays;
pub use response::{Ha1, ResponseInput, verify};
pub use write::{Answer, write_challenge};
