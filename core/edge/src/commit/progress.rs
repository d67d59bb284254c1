//! How far the journal thread is, for the engine thread to read without being woken.

use signalbox_base::{EventSeq, Mono};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Written by the journal thread, read by the engine thread.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    durable: AtomicU64,
    released: AtomicU64,
    /// Nanoseconds of the moment the running commit started, plus one; 0 when none is running.
    commit_since: AtomicU64,
    full: AtomicBool,
    failed: AtomicBool,
}

impl Progress {
    pub(crate) fn new(durable: EventSeq) -> Self {
        let progress = Self::default();
        progress.durable.store(durable.0, Ordering::Relaxed);
        progress.released.store(durable.0, Ordering::Relaxed);
        progress
    }

    /// Last durable record. Set before what it held back is sent, so that whoever sees an answer to that sees this.
    pub(crate) fn durable(&self) -> EventSeq {
        EventSeq(self.durable.load(Ordering::Acquire))
    }

    /// Last record whose messages have been sent: a message held by this or an earlier one may leave at once.
    pub(crate) fn released(&self) -> EventSeq {
        EventSeq(self.released.load(Ordering::Acquire))
    }

    /// How long the running commit has been running; `None` when there is none.
    pub(crate) fn commit_running_for(&self, now: Mono) -> Option<Duration> {
        let since = self.commit_since.load(Ordering::Acquire).checked_sub(1)?;
        Some(now.since(Mono(since)))
    }

    /// Whether the disk has no room for another segment.
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    /// Whether the journal thread has ended by an error or a panic: nothing becomes durable any more.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// The journal thread ends before it was told to.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }

    pub(super) fn commit_started(&self, at: Mono) {
        self.commit_since.store(at.0.saturating_add(1), Ordering::Release);
    }

    pub(super) fn commit_ended(&self, durable: EventSeq, full: bool) {
        self.durable.store(durable.0, Ordering::Release);
        self.full.store(full, Ordering::Release);
        self.commit_since.store(0, Ordering::Release);
    }

    pub(super) fn released_to(&self, seq: EventSeq) {
        self.released.store(seq.0, Ordering::Release);
    }
}
