//! Pure decisions: what to send, what to record, when to wake.
//!
//! The engine is one value, driven by one thread. It owns no socket, clock, file or random source: the edge (or a
//! simulated world) hands it [`Input`]s with the time, and drains the [`Outbox`] after each. Only [`state::apply`]
//! changes durable state, from records that carry every value it needs; transactions and timers are volatile.

pub mod backend;
pub mod call;
pub mod classes;
mod command;
pub mod contract;
mod dispatch;
mod engine;
pub mod facts;
mod fields;
pub mod gate;
mod headers;
mod hiding;
pub mod media;
pub mod net;
pub mod registration;
pub mod remote;
mod reuse;
pub mod routing;
pub mod settings;
mod sips;
mod standalone;
pub mod state;
pub mod tenancy;
mod tidy;
mod trace;
pub mod turn;

pub use contract::{
    Ask, ClassB, Command, CommandReply, Context, Counters, Entropy, FlowEnd, Input, Level, Note, Outbox,
    Pressure, QueryId, Question, RecordOut, Release, ResolvedTarget, SendError, Ticket, Transmit, Watch,
};
pub use engine::Engine;
pub use settings::Settings;
