//! What other threads tell the engine thread.

use crate::wire::Unsent;
use crossbeam_channel::{Receiver, Sender, bounded};
use signalbox_base::Now;
use signalbox_engine::{Command, CommandReply, Engine, Pressure, QueryId, ResolvedTarget, Watch};
use signalbox_io::Waker;
use std::time::Duration;
use tokio::sync::oneshot;

/// Messages that may wait for the engine thread. An operator's command beyond it is refused.
const MAIL_MAX: usize = 4096;

/// A look at the engine between two turns. It must be bounded: 500 rows at most.
pub(crate) type Look = Box<dyn FnOnce(&Engine, Now) + Send>;

/// What others tell the engine thread.
pub(crate) enum Told {
    /// An operator's command; answered once its records are durable.
    Command(Box<Command>, Option<oneshot::Sender<CommandReply>>),
    /// A bounded look.
    Look(Look),
    /// The resolver's answer, and how long it holds.
    Resolved(QueryId, Vec<ResolvedTarget>, Duration),
    /// A held message could not be sent.
    Unsent(Unsent),
    /// What other edges said.
    Remote(Vec<signalbox_engine::remote::Update>),
    /// How much the disk still takes.
    Pressure(Pressure),
    /// Whose steps are noted from now on.
    Watch(Watch),
    /// Tell when no call is left; only asked while draining.
    WhenNoCallIsLeft(oneshot::Sender<()>),
    /// The last words.
    Stop,
}

/// The way to the engine thread; cloned freely.
#[derive(Clone)]
pub(crate) struct Mailbox {
    mail: Sender<Told>,
    waker: Waker,
}

impl Mailbox {
    pub(crate) fn new(waker: Waker) -> (Self, Receiver<Told>) {
        let (mail, received) = bounded(MAIL_MAX);
        (Self { mail, waker }, received)
    }

    /// Queues it and wakes the engine thread. `false` when the queue is full or the thread has gone: what is told here
    /// is repeated by whoever needs it, or answered as refused.
    pub(crate) fn tell(&self, told: Told) -> bool {
        let queued = self.mail.try_send(told).is_ok();
        self.waker.wake();
        queued
    }

    /// Makes the engine thread look around.
    pub(crate) fn wake(&self) {
        self.waker.wake();
    }
}
