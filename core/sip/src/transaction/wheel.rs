//! A hierarchical timer wheel: every timer of the edge, at constant cost.
//!
//! Eight levels of 64 slots; a slot of level 0 is one millisecond, a slot of level `n` is 64 times one of level
//! `n - 1`, so the wheel spans all of [`Mono`]. A timer sits at the level of the highest group of six bits in which its
//! tick differs from the wheel's own; when the wheel reaches the start of a slot above level 0 it moves that slot's
//! timers down. Starting and cancelling are a few writes, whatever the number of timers: an edge holds a million
//! registration timers that are nearly all refreshed before they fire, which is what a heap is worst at.
//!
//! No timer fires early: an instant inside a millisecond is rounded up to its end.

use super::chunks::Chunks;
use signalbox_base::Mono;
use std::num::NonZeroU32;

const TICK_NS: u64 = 1_000_000;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// 8 × 6 bits of milliseconds are more than 64 bits of nanoseconds.
const LEVELS: usize = 8;
const NIL: u32 = u32::MAX;

/// Timers moved between levels in one call of [`Wheel::pop_due`], so that a crowded slot cannot stall a turn.
pub const MOVES_MAX: usize = 1024;

/// Names one started timer. A handle of a timer that fired or was cancelled names nothing, for ever
/// (until 2³² reuses of its place).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId {
    index: u32,
    generation: NonZeroU32,
}

/// Timers that each carry a small key.
#[derive(Clone, Debug)]
pub struct Wheel<K> {
    entries: Chunks<Entry<K>>,
    /// Free entries, linked both ways.
    free: u32,
    /// Of new entries: above those of entries that were given back, whose timers stay over.
    first: NonZeroU32,
    live: usize,
    /// Every timer of an earlier tick has been handed out.
    elapsed: u64,
    /// A slot above level 0 that the wheel has reached and not yet emptied.
    cascading: Option<usize>,
    occupied: [u64; LEVELS],
    slots: Box<[List]>,
}

#[derive(Clone, Debug)]
struct Entry<K> {
    key: K,
    tick: u64,
    prev: u32,
    next: u32,
    generation: NonZeroU32,
    /// `level * SLOTS + slot`, or `FREE`.
    home: u16,
}

const FREE: u16 = u16::MAX;

#[derive(Clone, Copy, Debug)]
struct List {
    head: u32,
    tail: u32,
}

const EMPTY: List = List { head: NIL, tail: NIL };

impl<K: Copy> Default for Wheel<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Copy> Wheel<K> {
    /// No timers, at time zero.
    #[must_use]
    pub fn new() -> Self {
        Self {
            entries: Chunks::new(),
            free: NIL,
            first: NonZeroU32::MIN,
            live: 0,
            elapsed: 0,
            cascading: None,
            occupied: [0; LEVELS],
            slots: vec![EMPTY; LEVELS * SLOTS].into_boxed_slice(),
        }
    }

    /// Number of timers running.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether no timer runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Timers that there is room for without growing.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.entries.len()
    }

    /// Whether most of the memory that timers once needed is empty.
    #[must_use]
    pub fn is_sparse(&self) -> bool {
        self.entries.last_piece().is_some() && self.live < self.entries.len() / 8
    }

    /// Gives back a piece of it, if no timer is there. `false` when one is, or there is nothing to give.
    pub fn give_back(&mut self) -> bool {
        let Some(last) = self.entries.last_piece().filter(|_| self.is_sparse()) else { return false };
        if last.clone().any(|index| self.entries[index].home != FREE) {
            return false;
        }
        for index in last {
            let next = self.entries[index].generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
            self.first = self.first.max(next);
            self.unlink_free(index);
        }
        self.entries.pop_piece();
        true
    }

    /// Starts a timer that is due at `at`, rounded up to a millisecond; at once when `at` has passed.
    pub fn start(&mut self, at: Mono, key: K) -> TimerId {
        let tick = at.0.div_ceil(TICK_NS).max(self.elapsed);
        let entry = Entry { key, tick, prev: NIL, next: NIL, generation: self.first, home: FREE };
        let index = if self.free == NIL {
            self.entries.push(entry)
        } else {
            let index = self.free;
            self.unlink_free(index);
            let old = &mut self.entries[index];
            *old = Entry { generation: old.generation, ..entry };
            index
        };
        self.live += 1;
        self.link(index);
        TimerId { index, generation: self.entries[index].generation }
    }

    /// Moves a timer to another moment; what it names stays. `false` when it fired or was cancelled.
    pub fn restart(&mut self, id: TimerId, at: Mono) -> bool {
        if !self.is_running(id) {
            return false;
        }
        let tick = at.0.div_ceil(TICK_NS).max(self.elapsed);
        if self.entries[id.index].tick != tick {
            self.unlink(id.index);
            self.entries[id.index].tick = tick;
            self.link(id.index);
        }
        true
    }

    fn is_running(&self, id: TimerId) -> bool {
        let entry = self.entries.get(id.index);
        entry.is_some_and(|entry| entry.generation == id.generation && entry.home != FREE)
    }

    /// Stops a timer. `false` when it fired, was cancelled, or never was.
    pub fn cancel(&mut self, id: TimerId) -> bool {
        if !self.is_running(id) {
            return false;
        }
        self.unlink(id.index);
        self.release(id.index);
        true
    }

    /// A moment not later than the first timer's, and the time to call [`Wheel::pop_due`]. It may be earlier when the
    /// first timer is far off (the wheel then only moves timers down): at most once per level for each timer.
    #[must_use]
    pub fn next_due(&self) -> Option<Mono> {
        let tick = if self.cascading.is_some() { self.elapsed } else { self.next_slot()?.1 };
        Some(Mono(tick.saturating_mul(TICK_NS)))
    }

    /// Appends the keys of at most `max` timers due at `now`, earliest millisecond first; timers of one millisecond
    /// come in no promised order. When more are due, or more work than [`MOVES_MAX`] is left,
    /// [`Wheel::next_due`] is not later than `now` and the caller comes again.
    pub fn pop_due(&mut self, now: Mono, max: usize, out: &mut Vec<K>) {
        let target = (now.0 / TICK_NS).max(self.elapsed);
        let mut moves = MOVES_MAX;
        let mut room = max;
        loop {
            if !self.finish_cascade(&mut moves) {
                return;
            }
            match self.next_slot() {
                Some((home, start)) if start <= target => {
                    self.elapsed = start;
                    if home >= SLOTS {
                        self.cascading = Some(home);
                        continue;
                    }
                    while self.slots[home].head != NIL {
                        if room == 0 {
                            return;
                        }
                        room -= 1;
                        let index = self.slots[home].head;
                        out.push(self.entries[index].key);
                        self.unlink(index);
                        self.release(index);
                    }
                }
                _ => {
                    self.elapsed = target;
                    return;
                }
            }
        }
    }

    /// Moves timers of the reached slot down; `false` when `moves` ran out first.
    fn finish_cascade(&mut self, moves: &mut usize) -> bool {
        let Some(home) = self.cascading else { return true };
        while self.slots[home].head != NIL {
            if *moves == 0 {
                return false;
            }
            *moves -= 1;
            let index = self.slots[home].head;
            self.unlink(index);
            self.link(index);
        }
        self.cascading = None;
        true
    }

    /// The first occupied slot and the tick it starts at. Timers of a lower level are due before those of a higher.
    fn next_slot(&self) -> Option<(usize, u64)> {
        let level = self.occupied.iter().position(|bits| *bits != 0)?;
        let slot = self.occupied[level].trailing_zeros() as usize;
        let shift = SLOT_BITS * level as u32;
        let above = self.elapsed >> (shift + SLOT_BITS) << (shift + SLOT_BITS);
        Some((level * SLOTS + slot, above | (slot as u64) << shift))
    }

    fn link(&mut self, index: u32) {
        let entry = &mut self.entries[index];
        let differing = (self.elapsed ^ entry.tick) | (SLOTS as u64 - 1);
        let level = ((63 - differing.leading_zeros()) / SLOT_BITS) as usize;
        let slot = (entry.tick >> (SLOT_BITS * level as u32)) as usize % SLOTS;
        let home = level * SLOTS + slot;
        let list = &mut self.slots[home];
        entry.home = home as u16;
        entry.prev = list.tail;
        entry.next = NIL;
        let last = std::mem::replace(&mut list.tail, index);
        if last == NIL {
            list.head = index;
        } else {
            self.entries[last].next = index;
        }
        self.occupied[level] |= 1 << slot;
    }

    fn unlink(&mut self, index: u32) {
        let Entry { prev, next, home, .. } = self.entries[index];
        let home = usize::from(home);
        let list = &mut self.slots[home];
        if prev == NIL {
            list.head = next;
        } else {
            self.entries[prev].next = next;
        }
        if next == NIL {
            list.tail = prev;
        } else {
            self.entries[next].prev = prev;
        }
        if self.slots[home].head == NIL {
            self.occupied[home / SLOTS] &= !(1 << (home % SLOTS));
        }
    }

    /// Frees an unlinked place; its next user gets another generation.
    fn release(&mut self, index: u32) {
        let entry = &mut self.entries[index];
        entry.generation = entry.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        entry.home = FREE;
        (entry.prev, entry.next) = (NIL, self.free);
        if let Some(head) = self.entries.get_mut(self.free) {
            head.prev = index;
        }
        self.free = index;
        self.live -= 1;
    }

    fn unlink_free(&mut self, index: u32) {
        let Entry { prev, next, .. } = self.entries[index];
        match self.entries.get_mut(prev) {
            Some(before) => before.next = next,
            None => self.free = next,
        }
        if let Some(behind) = self.entries.get_mut(next) {
            behind.prev = prev;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const MS: u64 = TICK_NS;

    fn drain(wheel: &mut Wheel<u32>, now: Mono) -> Vec<u32> {
        let mut out = Vec::new();
        while wheel.next_due().is_some_and(|due| due <= now) {
            wheel.pop_due(now, 7, &mut out);
        }
        out
    }

    #[test]
    fn memory_of_timers_that_are_over_is_given_back_and_their_handles_stay_over() {
        let mut wheel = Wheel::new();
        let all: Vec<TimerId> = (0..5_000).map(|n| wheel.start(Mono(u64::from(n) * MS), n)).collect();
        assert!(!wheel.give_back(), "all run");
        for id in &all[7..] {
            assert!(wheel.cancel(*id));
        }
        let mut steps = 0;
        while wheel.give_back() {
            steps += 1;
        }
        assert!(steps >= 8 && wheel.entries.len() <= 512 && !wheel.is_sparse());
        let again: Vec<TimerId> = (0..5_000).map(|n| wheel.start(Mono(9_000 * MS), n)).collect();
        assert_eq!(wheel.len(), 5_007);
        assert!(all[7..].iter().all(|old| !wheel.cancel(*old)));
        assert!(again.iter().all(|new| wheel.cancel(*new)));
        assert_eq!(drain(&mut wheel, Mono(9_000 * MS)), [0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_timer_never_fires_early() {
        let mut wheel = Wheel::new();
        wheel.start(Mono(5 * MS + 1), 1);
        assert!(drain(&mut wheel, Mono(5 * MS + 1)).is_empty());
        assert_eq!(drain(&mut wheel, Mono(6 * MS)), [1]);
    }

    #[test]
    fn a_timer_in_the_past_is_due_at_once() {
        let mut wheel = Wheel::new();
        assert!(drain(&mut wheel, Mono(1_000 * MS)).is_empty());
        wheel.pop_due(Mono(1_000 * MS), 1, &mut Vec::new());
        wheel.start(Mono(3), 9);
        assert_eq!(wheel.next_due(), Some(Mono(1_000 * MS)));
        assert_eq!(drain(&mut wheel, Mono(1_000 * MS)), [9]);
    }

    #[test]
    fn an_old_handle_cannot_cancel_the_next_user_of_its_place() {
        let mut wheel = Wheel::new();
        let first = wheel.start(Mono(MS), 1);
        assert!(wheel.cancel(first));
        let second = wheel.start(Mono(MS), 2);
        assert!(!wheel.cancel(first));
        assert_eq!(wheel.len(), 1);
        assert!(wheel.cancel(second));
        assert!(wheel.is_empty() && wheel.next_due().is_none());
    }

    #[test]
    fn a_crowded_slot_is_moved_in_bounded_pieces_and_loses_nobody() {
        let mut wheel = Wheel::new();
        let at = Mono(3_600_000 * MS);
        for i in 0..5_000u32 {
            wheel.start(Mono(at.0 + u64::from(i % 60) * MS), i);
        }
        let (mut out, mut calls) = (Vec::new(), 0);
        while !wheel.is_empty() {
            let before = out.len();
            wheel.pop_due(Mono(at.0 + 60 * MS), 100, &mut out);
            assert!(out.len() - before <= 100);
            calls += 1;
        }
        assert!(calls >= 5_000 / 100);
        assert!(out.windows(2).all(|w| w[0] % 60 <= w[1] % 60), "earliest first");
        out.sort_unstable();
        assert!(out.into_iter().eq(0..5_000));
    }

    #[test]
    fn a_timer_at_the_end_of_time_is_held() {
        let mut wheel = Wheel::new();
        wheel.start(Mono(u64::MAX), 1);
        assert!(drain(&mut wheel, Mono(u64::MAX - 2 * MS)).is_empty());
        assert_eq!(wheel.len(), 1);
    }

    #[derive(Clone, Debug)]
    enum Op {
        Start(u64),
        Restart(usize, u64),
        Cancel(usize),
        Advance(u64),
    }

    fn span() -> impl Strategy<Value = u64> {
        prop_oneof![0..3 * MS, 0..100 * MS, 0..10_000 * MS, 0..100_000_000 * MS]
    }

    proptest! {
        #[test]
        fn behaves_as_a_sorted_map_does(ops in prop::collection::vec(prop_oneof![
            3 => span().prop_map(Op::Start),
            1 => any::<usize>().prop_map(Op::Cancel),
            1 => (any::<usize>(), span()).prop_map(|(nth, after)| Op::Restart(nth, after)),
            2 => span().prop_map(Op::Advance),
        ], 1..200)) {
            let mut wheel = Wheel::new();
            let mut model: BTreeMap<(u64, u32), TimerId> = BTreeMap::new();
            let (mut now, mut serial) = (0u64, 0u32);
            for op in ops {
                match op {
                    Op::Start(after) => {
                        let at = now + after;
                        let id = wheel.start(Mono(at), serial);
                        model.insert((at.div_ceil(MS), serial), id);
                        serial += 1;
                    }
                    Op::Restart(nth, after) if !model.is_empty() => {
                        let key = *model.keys().nth(nth % model.len()).unwrap();
                        let id = model.remove(&key).unwrap();
                        prop_assert!(wheel.restart(id, Mono(now + after)));
                        model.insert(((now + after).div_ceil(MS), key.1), id);
                    }
                    Op::Restart(..) => {}
                    Op::Cancel(nth) if !model.is_empty() => {
                        let key = *model.keys().nth(nth % model.len()).unwrap();
                        prop_assert!(wheel.cancel(model[&key]));
                        prop_assert!(!wheel.cancel(model.remove(&key).unwrap()));
                    }
                    Op::Cancel(_) => {}
                    Op::Advance(by) => {
                        now += by;
                        let got = drain(&mut wheel, Mono(now));
                        let rest = model.split_off(&(now / MS + 1, 0));
                        let due = std::mem::replace(&mut model, rest);
                        let tick = |serial: &u32| due.keys().find(|(_, s)| s == serial).map(|(t, _)| *t);
                        let ticks: Vec<_> = got.iter().map(|s| tick(s).expect("only due timers fire")).collect();
                        prop_assert!(ticks.is_sorted());
                        prop_assert_eq!(got.len(), due.len());
                    }
                }
                prop_assert_eq!(wheel.len(), model.len());
                let first = model.keys().next().map(|(tick, _)| Mono(tick * MS));
                let due_in_time = match (wheel.next_due(), first) {
                    (None, None) => true,
                    (Some(due), Some(first)) => due <= first,
                    _ => false,
                };
                prop_assert!(due_in_time);
            }
        }
    }
}
