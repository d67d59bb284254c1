//! Session descriptions (RFC 8866): reading, address rewriting, and what an offer and its answer change.

mod offer_answer;
mod read;
mod rewrite;

pub use offer_answer::{Change, Party, Summary, Tracker};
pub use read::{Codec, Connection, Direction, MEDIA_MAX, Media, Origin, SdpError, Session};
pub use rewrite::replace_addresses;
