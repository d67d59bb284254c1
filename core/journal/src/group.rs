//! When to commit: a pure decision over what is queued.

use signalbox_base::Mono;
use std::time::Duration;

/// Group commit. The first class-A record after idle commits at once; after that commits start at least
/// `commit_interval` apart and take everything queued. Class-B records alone wait up to `class_b_start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupCommit {
    /// Least time between the starts of two commits. Default 3 ms: a flush costs CPU whatever it carries, and 3 ms leave
    /// p99 of what waits for one well under 5 ms.
    pub commit_interval: Duration,
    /// A batch of class B alone starts its commit this long after its oldest record. Default 80 ms: class B is
    /// durable within 100 ms, and the disk gets the rest.
    pub class_b_start: Duration,
}

impl Default for GroupCommit {
    fn default() -> Self {
        Self { commit_interval: Duration::from_millis(3), class_b_start: Duration::from_millis(80) }
    }
}

/// What waits for a commit. `note` records as they are queued; `started` when a commit takes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// When the oldest queued record that holds back a class-A release was queued.
    pub oldest_a: Option<Mono>,
    /// When the oldest other record was queued.
    pub oldest_b: Option<Mono>,
    /// When the last commit started.
    pub last_start: Option<Mono>,
}

/// The promise of what a record holds back (DESIGN.md §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Something leaves only once it is durable.
    A,
    /// Nothing waits for it; durable within 100 ms.
    B,
}

/// When the next commit starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitAt {
    /// At once.
    Now,
    /// Not before this moment; ask again when something is queued.
    At(Mono),
    /// Nothing is queued.
    Idle,
}

impl Queue {
    /// A record was queued at `now`.
    pub fn note(&mut self, now: Mono, class: Class) {
        let slot = match class {
            Class::A => &mut self.oldest_a,
            Class::B => &mut self.oldest_b,
        };
        slot.get_or_insert(now);
    }

    /// A commit that takes everything starts at `now`.
    pub fn started(&mut self, now: Mono) {
        *self = Self { oldest_a: None, oldest_b: None, last_start: Some(now) };
    }
}

impl GroupCommit {
    /// When to commit what is queued, seen at `now`.
    #[must_use]
    pub fn next(&self, now: Mono, queue: &Queue) -> CommitAt {
        let wanted_a = queue.oldest_a;
        let wanted_b = queue.oldest_b.map(|queued| queued.plus(self.class_b_start));
        let Some(wanted) = wanted_a.into_iter().chain(wanted_b).min() else { return CommitAt::Idle };
        let earliest = queue.last_start.map_or(wanted, |start| start.plus(self.commit_interval));
        let due = wanted.max(earliest);
        if due <= now { CommitAt::Now } else { CommitAt::At(due) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn the_first_class_a_record_after_idle_commits_at_once() {
        let (policy, mut queue) = (GroupCommit::default(), Queue::default());
        assert_eq!(policy.next(Mono(0), &queue), CommitAt::Idle);
        queue.note(Mono(5 * MS), Class::A);
        assert_eq!(policy.next(Mono(5 * MS), &queue), CommitAt::Now);
        queue.started(Mono(5 * MS));
        assert_eq!(policy.next(Mono(5 * MS), &queue), CommitAt::Idle);
    }

    #[test]
    fn commits_start_an_interval_apart() {
        let (policy, mut queue) = (GroupCommit::default(), Queue::default());
        queue.started(Mono(10 * MS));
        queue.note(Mono(10 * MS + 1), Class::A);
        assert_eq!(policy.next(Mono(11 * MS), &queue), CommitAt::At(Mono(13 * MS)));
        assert_eq!(policy.next(Mono(13 * MS), &queue), CommitAt::Now);
    }

    #[test]
    fn class_b_alone_waits_and_goes_along_with_class_a() {
        let (policy, mut queue) = (GroupCommit::default(), Queue::default());
        queue.note(Mono(0), Class::B);
        assert_eq!(policy.next(Mono(MS), &queue), CommitAt::At(Mono(80 * MS)));
        queue.note(Mono(2 * MS), Class::A);
        assert_eq!(policy.next(Mono(2 * MS), &queue), CommitAt::Now);
        queue.started(Mono(2 * MS));
        assert_eq!(queue.oldest_b, None);
    }

    proptest! {
        #[test]
        fn a_queued_record_is_never_left_without_a_moment(
            now in 0..1_000_000_000u64, a: Option<u32>, b: Option<u32>, last: Option<u32>,
        ) {
            let at = |v: Option<u32>| v.map(|v| Mono(u64::from(v)));
            let queue = Queue { oldest_a: at(a), oldest_b: at(b), last_start: at(last) };
            match GroupCommit::default().next(Mono(now), &queue) {
                CommitAt::Idle => prop_assert!(a.is_none() && b.is_none()),
                CommitAt::At(due) => prop_assert!(due > Mono(now)),
                CommitAt::Now => prop_assert!(a.is_some() || b.is_some()),
            }
        }
    }
}
