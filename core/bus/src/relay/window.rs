//! Events between the cursor and the last one read: which wait for their key, which are under way, which are acknowledged.
//!
//! Everything is a ring or a table that keeps its room: nothing is allocated for an event once a window was full.

use super::machine::Meta;
use super::saved::{LaneState, Ranges, Top};
use crate::publisher::Ticket;
use signalbox_base::{EventSeq, JournalId, Mono, Wall};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

/// No other slot waits for this one's key.
const NOBODY: u64 = u64::MAX;
/// The lane of numbers that no event stands for.
const NO_LANE: u16 = u16::MAX;

/// The window.
#[derive(Debug, Default)]
pub(super) struct Window {
    slots: VecDeque<Slot>,
    /// Number of the first slot; they are counted up for ever.
    base: u64,
    /// Keys that have an event under way, with the last slot that waits for each.
    keys: HashMap<u64, u64, BuildHasherDefault<Hashed>>,
    tickets: VecDeque<Flight>,
    /// The first of `tickets`; older ones are done with.
    first_ticket: u64,
    /// Per lane, what is under way there, in order of tickets.
    flying: Vec<VecDeque<u64>>,
    under_way: usize,
    bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    seq: u64,
    journal: JournalId,
    key: u64,
    /// The next slot of the same key.
    next: u64,
    recorded: Wall,
    bytes: u32,
    lane: u16,
    acked: bool,
}

#[derive(Clone, Copy, Debug)]
struct Flight {
    slot: u64,
    sent: Mono,
    told: bool,
}

/// An event to publish now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Departure {
    pub(super) ticket: Ticket,
    pub(super) seq: EventSeq,
}

/// What a ticket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Passenger {
    pub(super) seq: EventSeq,
    pub(super) journal: JournalId,
    pub(super) lane: usize,
    /// It is the oldest of its lane.
    pub(super) first: bool,
}

/// Keys are hashes already.
#[derive(Debug, Default)]
pub(super) struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Window {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    /// Empties it for `lanes` lanes; tickets of before say nothing any more.
    pub(super) fn clear(&mut self, lanes: usize) {
        self.first_ticket += self.tickets.len() as u64;
        self.base += self.slots.len() as u64;
        self.slots.clear();
        self.tickets.clear();
        self.keys.clear();
        self.flying.iter_mut().for_each(VecDeque::clear);
        self.flying.resize_with(lanes, VecDeque::new);
        (self.under_way, self.bytes) = (0, 0);
    }

    /// Numbers up to `seq` for which nothing is to be sent.
    pub(super) fn pass(&mut self, seq: EventSeq) {
        self.push(Slot {
            seq: seq.0,
            journal: JournalId(0),
            key: 0,
            next: NOBODY,
            recorded: Wall(0),
            bytes: 0,
            lane: NO_LANE,
            acked: true,
        });
    }

    /// An event that was read; `had` when it need not be sent. Departs at once unless another of its key is under way.
    pub(super) fn take(&mut self, now: Mono, meta: &Meta, had: bool) -> Option<Departure> {
        let slot = self.push(Slot {
            seq: meta.seq.0,
            journal: meta.journal,
            key: meta.key,
            next: NOBODY,
            recorded: meta.recorded,
            bytes: u32::try_from(meta.bytes).unwrap_or(u32::MAX),
            lane: meta.lane.0,
            acked: had,
        });
        self.bytes += meta.bytes;
        if had {
            return None;
        }
        match self.keys.insert(meta.key, slot) {
            Some(before) => {
                self.slot(before).next = slot;
                None
            }
            None => Some(self.depart(now, slot)),
        }
    }

    /// What a ticket is for; `None` for one of an earlier connection, or that was told of already.
    pub(super) fn passenger(&mut self, ticket: Ticket) -> Option<Passenger> {
        let flight = self.tickets.get(usize::try_from(ticket.0.checked_sub(self.first_ticket)?).ok()?)?;
        if flight.told {
            return None;
        }
        let slot = *self.slot(flight.slot);
        let lane = usize::from(slot.lane);
        let first = self.flying.get(lane).and_then(VecDeque::front) == Some(&ticket.0);
        Some(Passenger { seq: EventSeq(slot.seq), journal: slot.journal, lane, first })
    }

    /// A ticket's event is acknowledged; the next of its key departs.
    pub(super) fn arrive(&mut self, now: Mono, ticket: Ticket) -> Option<Departure> {
        let at = usize::try_from(ticket.0.checked_sub(self.first_ticket)?).ok()?;
        let flight = self.tickets.get_mut(at)?;
        flight.told = true;
        let number = flight.slot;
        let slot = self.slot(number);
        slot.acked = true;
        let (key, next, lane) = (slot.key, slot.next, usize::from(slot.lane));
        self.under_way -= 1;
        while self.tickets.front().is_some_and(|flight| flight.told) {
            self.tickets.pop_front();
            self.first_ticket += 1;
        }
        if let Some(lane) = self.flying.get_mut(lane) {
            match lane.iter().position(|flying| *flying == ticket.0) {
                Some(0) => drop(lane.pop_front()),
                Some(at) => drop(lane.remove(at)),
                None => {}
            }
        }
        if next == NOBODY {
            self.keys.remove(&key);
            return None;
        }
        Some(self.depart(now, next))
    }

    /// Takes the acknowledged ones off the front; the last of them.
    pub(super) fn advance(&mut self) -> Option<EventSeq> {
        let mut last = None;
        while let Some(slot) = self.slots.front().filter(|slot| slot.acked) {
            last = Some(EventSeq(slot.seq));
            self.bytes -= slot.bytes as usize;
            self.slots.pop_front();
            self.base += 1;
        }
        last
    }

    /// When the oldest event under way was sent.
    pub(super) fn oldest_sent(&self) -> Option<Mono> {
        self.tickets.front().map(|flight| flight.sent)
    }

    /// When the oldest event that is not acknowledged was journalled.
    pub(super) fn oldest_recorded(&self) -> Option<Wall> {
        self.slots.front().filter(|slot| !slot.acked).map(|slot| slot.recorded)
    }

    /// Adds what is acknowledged above the cursor to what the lanes have.
    pub(super) fn fold(&self, lanes: &mut [LaneState]) {
        let mut open: Vec<Option<(u64, u64)>> = vec![None; lanes.len()];
        for slot in self.slots.iter().filter(|slot| slot.lane != NO_LANE) {
            let lane = usize::from(slot.lane);
            let Some(run) = open.get_mut(lane) else { continue };
            if slot.acked {
                *run = Some((run.map_or(slot.seq, |(from, _)| from), slot.seq));
            } else if let Some((from, to)) = run.take() {
                lanes[lane].have.insert(from, to);
            }
        }
        for (lane, run) in lanes.iter_mut().zip(open) {
            run.into_iter().for_each(|(from, to)| Ranges::insert(&mut lane.have, from, to));
        }
    }

    fn push(&mut self, slot: Slot) -> u64 {
        self.slots.push_back(slot);
        self.base + self.slots.len() as u64 - 1
    }

    fn slot(&mut self, number: u64) -> &mut Slot {
        let at = usize::try_from(number - self.base).expect("a window has fewer slots than memory");
        &mut self.slots[at]
    }

    fn depart(&mut self, now: Mono, number: u64) -> Departure {
        let slot = *self.slot(number);
        let ticket = self.first_ticket + self.tickets.len() as u64;
        self.tickets.push_back(Flight { slot: number, sent: now, told: false });
        if let Some(lane) = self.flying.get_mut(usize::from(slot.lane)) {
            lane.push_back(ticket);
        }
        self.under_way += 1;
        Departure { ticket: Ticket(ticket), seq: EventSeq(slot.seq) }
    }
}

impl Passenger {
    /// As the top of its lane.
    pub(super) fn top(&self, place: u64) -> Top {
        Top { place, journal: self.journal, seq: self.seq }
    }
}
