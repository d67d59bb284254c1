//! Words shared by every crate: ids, time, addresses, flows, secrets and cheap text.
//!
//! A closed list: a type belongs here only when two crates that may not use each other must agree on it.
//! Nothing here does I/O, reads a clock or draws randomness.

mod cidr;
mod flow;
mod hash;
mod ids;
#[cfg(feature = "schemars")]
mod schema;
mod secret;
mod small;
mod text;
mod time;

pub use cidr::{Cidr, canonical, canonical_ip};
pub use flow::{CompactFlow, ConnId, Flow, ListenerId, Transport};
pub use hash::fnv1a;
pub use ids::{BlockId, CallUid, EdgeIdentity, EventSeq, IdError, JournalId, ShortToken, TenantId};
pub use secret::{Secret, constant_time_eq};
pub use small::SmallText;
pub use text::Text;
pub use time::{Mono, Now, Wall};
