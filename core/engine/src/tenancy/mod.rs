//! Whose a request is: address or domain → tenant and domain (DESIGN.md §5 "Tenant and domain").

mod directory;
mod resolve;

pub(crate) use directory::Site;
pub use directory::{Directory, Peer, PeerRef};
pub use resolve::{Known, Origin, OriginKind, Refusal, resolve, resolve_among};
