//! From a journal, or the store's outbox, to a broker: in order by key, once, whatever dies.
//!
//! ```text
//!  Origin ──read──► Encoder ──► Machine ──publish──► Broker
//!  (journal,                      ▲  │ │                │
//!   outbox)                  told │  │ └─save─► cursor  │
//!                                 └──┼──────────────────┘
//!                                    └─ lost, refused, out of order: drop the connection, go back to the cursor,
//!                                       compare both sides ([`reconcile`]), go on
//! ```
//!
//! [`machine`], [`reconcile`] and [`audit`] are pure; [`run`] is the thread that drives them.

pub mod audit;
mod driver;
pub mod machine;
pub mod origin;
mod pace;
mod readback;
pub mod reconcile;
pub mod run;
pub mod saved;
mod telling;
mod terms;
mod window;

pub use machine::{Input, Limits, Machine, Meta, Note, Output, State, Status};
pub use origin::{JournalOrigin, Link, Look, Origin};
pub use reconcile::{Divergence, Verdict};
pub use run::{Relay, RelayHandle, RelayOptions, RelayStatus};
pub use saved::{LaneState, Ranges, Saved, Top};
