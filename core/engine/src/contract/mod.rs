//! The contract between the engine and whoever drives it: the edge's loop, or the simulated world.
//!
//! One turn: `handle(now, input, context, outbox)`, then the driver performs the outbox in order. Records go to the
//! journal in their order; a transmit with [`Release::After`] leaves once that record is durable; the driver then
//! tells the engine by [`Input::Committed`], which is when a held message begins to exist for its transaction.

mod context;
mod counters;
mod input;
mod outbox;
mod release;

pub use context::{Context, Entropy, Watch};
pub use counters::{Counters, METHODS, RULES, SPAN_BOUNDS_MS, Spans};
pub use input::{
    BackendWish, Command, CommandReply, FlowEnd, Input, Pressure, QueryId, ResolvedTarget, SendError, Ticket,
};
pub use outbox::{Ask, Level, Note, Outbox, Question, RecordOut, Transmit};
pub use release::{ClassB, Release};
