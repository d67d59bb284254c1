//! Handing what turns produced from the engine thread to the journal thread, and the emptied outboxes back.
//!
//! Outboxes circulate, so that nothing is allocated once they have grown to their usual size. The journal thread is
//! woken only when it could do something earlier than it will by itself: while it waits for the next commit's moment,
//! more records change nothing, and a system call is saved for each batch. Waking nobody is a system call as well, so
//! each side says when it waits.

use signalbox_base::Mono;
use signalbox_engine::Outbox;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Outboxes in circulation besides the one being filled. When all are with the journal thread, turns fill the one at
/// hand further.
const OUTBOXES: usize = 16;

/// What one or more turns produced: records to append and the messages that they hold back.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) outbox: Outbox,
    /// When the oldest record was made that something waits for.
    pub(crate) oldest_a: Option<Mono>,
    /// When the oldest other record was made.
    pub(crate) oldest_b: Option<Mono>,
}

impl Batch {
    /// Empties it and keeps its memory.
    pub(crate) fn clear(&mut self) {
        self.outbox.clear();
        (self.oldest_a, self.oldest_b) = (None, None);
    }

    /// Whether it holds nothing for the journal thread.
    pub(crate) fn is_empty(&self) -> bool {
        self.outbox.records.is_empty() && self.outbox.transmits.is_empty()
    }
}

/// What would make the journal thread act before its timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WokenBy {
    /// Every batch.
    Anything,
    /// Only batches that something waits for.
    Urgent,
    /// Nothing: it is not waiting, or the next commit has its moment.
    Nothing,
}

#[derive(Debug)]
struct Shared {
    full: VecDeque<Batch>,
    free: Vec<Batch>,
    woken_by: WokenBy,
    /// Whether the engine thread waits for an outbox.
    wants_outbox: bool,
    closed: bool,
}

/// Between the two threads.
#[derive(Debug)]
pub(crate) struct Handover {
    shared: Mutex<Shared>,
    changed: Condvar,
    freed: Condvar,
}

impl Default for Handover {
    fn default() -> Self {
        let free = (0..OUTBOXES).map(|_| Batch::default()).collect();
        let (full, woken_by) = (VecDeque::new(), WokenBy::Nothing);
        let shared = Shared { full, free, woken_by, wants_outbox: false, closed: false };
        Self { shared: Mutex::new(shared), changed: Condvar::new(), freed: Condvar::new() }
    }
}

impl Handover {
    /// Swaps a filled batch for an empty one. `false` when none is free: `batch` is as it was and is filled further.
    pub(crate) fn give(&self, batch: &mut Batch) -> bool {
        let mut shared = self.lock();
        let Some(free) = shared.free.pop() else { return false };
        let urgent = batch.oldest_a.is_some();
        shared.full.push_back(std::mem::replace(batch, free));
        let wake = match shared.woken_by {
            WokenBy::Anything => true,
            WokenBy::Urgent => urgent,
            WokenBy::Nothing => false,
        };
        if wake {
            shared.woken_by = WokenBy::Nothing;
            drop(shared);
            self.changed.notify_one();
        }
        true
    }

    /// No more batches come; the journal thread ends once it has worked off what there is.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// Moves what was handed over to `into`. Waits for it as `woken_by` says, at most `timeout` (`None`: for ever).
    /// Whether more may come.
    pub(crate) fn take(&self, woken_by: WokenBy, timeout: Option<Duration>, into: &mut Vec<Batch>) -> bool {
        let mut shared = self.lock();
        let nothing_to_do = |shared: &Shared| {
            let waiting = match woken_by {
                WokenBy::Anything => shared.full.is_empty(),
                WokenBy::Urgent => shared.full.iter().all(|batch| batch.oldest_a.is_none()),
                WokenBy::Nothing => true,
            };
            waiting && !shared.closed
        };
        if timeout != Some(Duration::ZERO) && nothing_to_do(&shared) {
            shared.woken_by = woken_by;
            let still = |shared: &mut Shared| shared.woken_by == woken_by && nothing_to_do(shared);
            shared = match timeout {
                None => self.changed.wait_while(shared, still).unwrap_or_else(PoisonError::into_inner),
                Some(timeout) => {
                    self.changed
                        .wait_timeout_while(shared, timeout, still)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
            shared.woken_by = WokenBy::Nothing;
        }
        into.extend(shared.full.drain(..));
        !shared.closed
    }

    /// Returns an emptied batch for use again.
    pub(crate) fn give_back(&self, mut batch: Batch) {
        batch.clear();
        let mut shared = self.lock();
        shared.free.push(batch);
        if std::mem::take(&mut shared.wants_outbox) {
            drop(shared);
            self.freed.notify_one();
        }
    }

    /// Waits until an outbox is free; `false` when none was within `timeout`.
    pub(crate) fn wait_for_outbox(&self, timeout: Duration) -> bool {
        let mut shared = self.lock();
        shared.wants_outbox = shared.free.is_empty();
        let none_free = |shared: &mut Shared| shared.free.is_empty();
        let waited = self.freed.wait_timeout_while(shared, timeout, none_free);
        let mut shared = waited.unwrap_or_else(PoisonError::into_inner).0;
        shared.wants_outbox = false;
        !shared.free.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urgent() -> Batch {
        Batch { oldest_a: Some(Mono(1)), ..Batch::default() }
    }

    #[test]
    fn given_all_outboxes_with_the_journal_when_given_one_more_then_it_stays_until_one_comes_back() {
        let handover = Handover::default();
        for _ in 0..OUTBOXES {
            assert!(handover.give(&mut urgent()));
        }
        let mut more = urgent();
        assert!(!handover.give(&mut more));
        assert_eq!(more.oldest_a, Some(Mono(1)));
        let mut taken = Vec::new();
        assert!(handover.take(WokenBy::Anything, None, &mut taken));
        assert_eq!(taken.len(), OUTBOXES);
        handover.give_back(taken.pop().unwrap());
        assert!(handover.give(&mut more));
        assert_eq!(more.oldest_a, None, "swapped for an empty one");
    }

    #[test]
    fn given_a_sleeping_journal_thread_when_a_batch_comes_then_it_is_woken() {
        let handover = Handover::default();
        std::thread::scope(|scope| {
            let taker = scope.spawn(|| {
                let mut taken = Vec::new();
                handover.take(WokenBy::Urgent, None, &mut taken);
                taken.len()
            });
            handover.give(&mut Batch { oldest_b: Some(Mono(1)), ..Batch::default() });
            handover.give(&mut urgent());
            assert!(taker.join().unwrap() >= 1);
        });
    }

    #[test]
    fn given_an_engine_thread_without_an_outbox_when_one_comes_back_then_it_is_woken() {
        let handover = Handover::default();
        while handover.give(&mut urgent()) {}
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| handover.wait_for_outbox(Duration::from_secs(60)));
            let mut taken = Vec::new();
            handover.take(WokenBy::Anything, None, &mut taken);
            taken.into_iter().for_each(|batch| handover.give_back(batch));
            assert!(waiter.join().unwrap());
        });
        assert!(!handover.lock().wants_outbox, "nobody waits any more, so nobody is woken");
    }

    #[test]
    fn given_a_closed_handover_when_taken_from_then_it_says_that_nothing_comes() {
        let handover = Handover::default();
        handover.give(&mut urgent());
        handover.close();
        let mut taken = Vec::new();
        assert!(!handover.take(WokenBy::Nothing, None, &mut taken));
        assert_eq!(taken.len(), 1);
    }
}
