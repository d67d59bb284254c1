//! How events reach those who fold or act on them: one [`Bus`] trait, whatever carries them.
//!
//! The embedded bus ([`Local`]) is the journal itself, read in the process that writes it or in another. Every bus
//! keeps the same promises, and one suite (`tests/it`) holds each provider to them:
//!
//! - events of one key (tenant and subject) arrive in order; [`Order`] says whether a whole source does;
//! - an event may arrive twice, never not at all: what is gone from the bus is told as a [`Gap`];
//! - a subscription with a name goes on after what it last acknowledged, also after a crash;
//! - a slow subscription delays nobody else.

mod event;
pub mod heartbeat;
mod hints;
#[cfg(feature = "kafka")]
pub mod kafka;
mod local;
mod named;
pub mod nats;
pub mod presence;
pub mod publisher;
pub mod relay;
mod subscription;
pub mod wire;
mod words;

pub use event::{Delivered, Source};
pub use hints::{Epoch, FileHints, Hint, Hints};
pub use local::Local;
pub use signalbox_journal::Filter;
pub use subscription::{
    Batch, BoxFuture, Bus, Error, Floor, Gap, Order, Progress, Request, Start, Subscription,
};
