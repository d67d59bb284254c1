//! The edge's loop: receive, one engine turn after the other, commit, release; and how people look at it.
//!
//! ```text
//!  sockets ─► engine thread (turn) ──Release::Now──────────────────────────────► sockets
//!                  │  ▲                                                             ▲
//!          batches │  │ how far the journal is (two counters, read, not sent)       │ Release::After
//!                  ▼  │                                                             │
//!              journal thread (commit): append ─► group commit ─► fsync ────────────┘
//!
//!  stream thread (io): TCP, TLS and WebSocket connections, framed; fed and read in batches by the two above
//!  keeper thread (keep): reserve, digests, retention, snapshots      tokio: HTTP, admin socket, name resolution
//! ```
//!
//! Invariants:
//! - A message that waits for a record is given to a socket only after the fsync of that record returned (promise 1).
//! - The first failed write or fsync stops the edge; nothing that waited is sent, nothing is written again.
//! - The engine thread waits for nobody: batches circulate, looks are bounded, names are resolved elsewhere.
//! - No allocation and no lock that is held over a system call on the way of a datagram, once buffers have grown.

pub mod admin;
mod certificates;
mod commit;
mod config;
pub mod dns;
mod entropy;
mod error;
mod handle;
mod keep;
mod listen;
mod look;
mod metrics;
mod recover;
mod remote;
mod resolver;
mod start;
mod status;
mod supervise;
mod turn;
mod wire;

pub use config::{
    BeforeFirst, EdgeConfig, Fork, Hooks, InForce, LogLevelHook, Opened, ReloadHook, Reloaded, StreamConfig,
    Unusable,
};
pub use error::{Fatal, StartError};
pub use handle::{EdgeHandle, JournalAccess, NoAnswer};
pub use look::{Page, ROWS_MAX, Which};
pub use metrics::{METRICS, Metric, MetricKind};
pub use remote::UPDATES_MAX;
pub use start::Edge;
pub use status::{
    BackendFigure, Component, ComponentState, ComponentsHook, EdgeFigure, Figures, Phase, RelayFigure,
    Traffic,
};
pub use supervise::{End, StopReport};
