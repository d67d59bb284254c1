//! A simulated world around the real engine and the real journal: virtual time, a network that loses, doubles and
//! reorders, NAT boxes, a disk that crashes; decided by one seed, so that every failure can be run again.
//!
//! ```text
//!  Phone ─┐  NAT        ┌───────── EdgeHost ─────────┐
//!  Phone ─┴──┤├── Network ── engine turn ── outbox      │       Oracle: looks at every packet sent
//!  Pbx  ────────┘       │   │ records      │ held       │       and delivered, and at the end at
//!  Attacker ────┘       │ journal ── commit ┴─ release  │       everybody's story and the journal
//!                       └──── Disk (crashes) ───────────┘
//! ```
//!
//! A story that fails prints its seed: `SIGNALBOX_SEED=7 cargo test -p signalbox-world --test it <story>` runs it again, and
//! `SIGNALBOX_TRACE=1` prints every datagram that arrives. `SIGNALBOX_EFFORT=10` tries ten times as many seeds.
//!
//! [`World`] moves time; [`EdgeHost`] keeps the driver's side of the engine's contract; the [`oracle`] knows what must
//! never happen.

mod disk;
mod edge;
mod events;
mod nat;
mod network;
pub mod oracle;
mod scene;
mod seed;
mod snapshot;
mod world;

pub use disk::Disk;
pub use edge::{Crash, CrashPoint, EdgeHost};
pub use events::{Recorded, read_events};
pub use nat::{Nat, NatKind};
pub use network::Weather;
pub use scene::{BackendPlan, TenantPlan, edge_settings, hosted};
pub use seed::{Seeded, effort, seeds};
pub use snapshot::Snapshot;
pub use world::{AttackerId, EdgeId, NatId, PbxId, PhoneId, World};
