//! Whose a request is: address or domain → tenant and domain (DESIGN.md §5 "Tenant and domain").

mod directory;
mod resolve;

pub use directory::{Directory, Peer, PeerRef};
pub use resolve::{Origin, OriginKind, Refusal, resolve, resolve_among};
