//! The relay as a state machine: no clock, no socket, no runtime.
//!
//! ```text
//!  Away ──due──► Connecting ──Reached──► Reconciling ──Resumed──► Flowing
//!   ▲  pause 0, 100 ms ×2 … 10 s             │ Diverged              │ Lost, Refused, out of order, place not rising,
//!   │                                        ▼                       │ no acknowledgement within `ack_within`
//!   └──────────────────────────────── Diverged (a minute)   ◄────────┘ Drop; back to the cursor
//! ```
//!
//! 1. Never two events of one key under way, so their order survives every retry.
//! 2. Everything up to the cursor is acknowledged; it goes back only where a comparison says so.
//! 3. Later events of other keys may overtake a waiting one, by no more than the window.
//! 4. Nothing is skipped: what a broker does not take is shown, and tried again.
//! 5. What is told of an earlier connection changes nothing; nothing is published before the comparison.

use super::pace::Pace;
use super::reconcile::Divergence;
use super::saved::{LaneState, Saved};
pub use super::terms::{Input, Limits, Meta, Note, Output, State, Status};
use super::window::{Departure, Passenger, Window};
use crate::publisher::{Failure, Refusal, Ticket, Told, WINDOW_MAX};
use signalbox_base::{EventSeq, Mono, Text, Wall};
use std::time::Duration;

/// First pause after a failure, and the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LONGEST: Duration = Duration::from_secs(10);
/// When histories have parted: how often is looked whether that has healed.
const PAUSE_DIVERGED: Duration = Duration::from_secs(60);
/// Events asked for at once.
const READ_EVENTS: usize = 256;

/// The machine.
#[derive(Debug)]
pub struct Machine {
    limits: Limits,
    state: State,
    saved: Saved,
    window: Window,
    end: EventSeq,
    pace: Pace,
    /// When the pace lets more be read.
    read_at: Option<Mono>,
    /// The next event to read.
    next: EventSeq,
    reading: bool,
    /// Nothing was taken of what was asked for last: there is no room before something is acknowledged.
    crowded: bool,
    /// Where the last reading began.
    asked: EventSeq,
    /// No lane has anything above, but what was acknowledged on this connection.
    had: u64,
    /// Events up to here may have been sent by an earlier connection or process.
    sent_before: EventSeq,
    sent: EventSeq,
    /// Failures since something last went well.
    failures: u32,
    refused: Option<EventSeq>,
    error: Option<Text>,
    retry_at: Mono,
    stop_by: Option<Mono>,
    dirty: bool,
    saved_at: Mono,
    jitter: u64,
    published: u64,
    acked: u64,
    rewinds: u64,
}

impl Machine {
    /// Goes on after what was saved; `end` is the origin's end, up to which an earlier process may have sent. `seed` makes
    /// pauses differ between relays.
    #[must_use]
    pub fn new(saved: Saved, end: EventSeq, limits: Limits, seed: u64) -> Self {
        let limits = Limits { window: limits.window.clamp(1, WINDOW_MAX), ..limits };
        Self {
            limits,
            state: State::Away,
            next: saved.cursor.next(),
            saved,
            window: Window::default(),
            end,
            pace: Pace::new(limits.drain_per_second, end),
            read_at: None,
            reading: false,
            crowded: false,
            asked: EventSeq(0),
            had: 0,
            sent_before: end,
            sent: EventSeq(0),
            failures: 0,
            refused: None,
            error: None,
            retry_at: Mono(0),
            stop_by: None,
            dirty: false,
            saved_at: Mono(0),
            jitter: seed,
            published: 0,
            acked: 0,
            rewinds: 0,
        }
    }

    /// Takes an input at `now` and appends what is to be done to `out`.
    pub fn handle(&mut self, now: Mono, input: Input, out: &mut Vec<Output>) {
        if self.state == State::Stopped {
            return;
        }
        let flowing = self.state == State::Flowing;
        match input {
            Input::End(end) => {
                self.end = self.end.max(end);
                self.pace.arrived(now, self.end);
            }
            Input::Read(meta) if flowing => self.read(now, &meta, out),
            Input::ReadDone if flowing => self.read_done(now, out),
            Input::Overrun(to) if flowing => self.overrun(to, out),
            Input::Unsendable(seq, why) if flowing => self.refuse(now, seq, why, out),
            Input::Reached if self.state == State::Connecting => self.state = State::Reconciling,
            Input::Resumed(saved) if self.state == State::Reconciling => self.resume(now, saved, out),
            Input::Diverged(parted) => self.diverged(now, parted, out),
            Input::Failed(failure) => self.failed(now, &failure, out),
            Input::Told(told) if flowing => self.told(now, told, out),
            Input::Missing(seqs) if flowing => self.missing(now, &seqs, out),
            Input::Stop(by) => self.stop_by = Some(by),
            _ => {}
        }
        self.advance(out);
        self.go_on(now, out);
    }

    /// When [`Input::Due`] is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Mono> {
        let by_state = match self.state {
            State::Away | State::Diverged => Some(self.retry_at),
            State::Flowing => {
                let late = self.window.oldest_sent().map(|sent| sent.plus(self.limits.ack_within));
                late.into_iter().chain(self.read_at).min()
            }
            State::Connecting | State::Reconciling => None,
            State::Stopped => return None,
        };
        let save = self.dirty.then(|| self.saved_at.plus(self.limits.save_every));
        [by_state, save, self.stop_by].into_iter().flatten().min()
    }

    /// Whether there is room for an event of so many bytes.
    #[must_use]
    pub fn takes(&self, bytes: usize) -> bool {
        let room = self.window.len() < self.limits.window;
        self.window.is_empty() || (room && self.window.bytes() + bytes <= self.limits.window_bytes)
    }

    /// What [`Output::Save`] saves, and what both sides are compared from.
    #[must_use]
    pub fn saved(&self) -> Saved {
        let mut saved = self.saved.clone();
        self.window.fold(&mut saved.lanes);
        saved.lanes.iter_mut().for_each(|lane| lane.have.trim(saved.cursor.0));
        saved
    }

    /// Where it is.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// The origin's end, as far as the machine was told.
    #[must_use]
    pub fn end(&self) -> EventSeq {
        self.end
    }

    /// When the oldest event that is not acknowledged was journalled, where that is known here.
    #[must_use]
    pub fn oldest(&self) -> Option<Wall> {
        self.window.oldest_recorded()
    }

    /// Everything up to here is acknowledged.
    #[must_use]
    pub fn cursor(&self) -> EventSeq {
        self.saved.cursor
    }

    /// How it goes.
    #[must_use]
    pub fn status(&self) -> Status {
        let lane = |lane: &LaneState| {
            let top = lane.top?;
            Some((lane.name.clone(), top.place, top.seq))
        };
        Status {
            state: self.state,
            cursor: self.saved.cursor,
            end: self.end,
            under_way: self.window.under_way(),
            oldest: self.window.oldest_recorded(),
            published: self.published,
            acked: self.acked,
            rewinds: self.rewinds,
            error: self.error.clone(),
            refused: self.refused,
            lanes: self.saved.lanes.iter().filter_map(lane).collect(),
        }
    }

    fn read(&mut self, now: Mono, meta: &Meta, out: &mut Vec<Output>) {
        if meta.seq < self.next {
            return;
        }
        self.next = meta.seq.next();
        self.pace.spend();
        let lane = self.saved.lanes.get(usize::from(meta.lane.0));
        let had = lane.is_some_and(|lane| lane.have.contains(meta.seq.0));
        let departure = self.window.take(now, meta, had);
        self.publish(departure, out);
    }

    fn read_done(&mut self, now: Mono, out: &mut Vec<Output>) {
        self.reading = false;
        self.crowded = self.next == self.asked;
        if self.crowded && self.window.is_empty() {
            self.lost(now, format!("event {} could not be read", self.next).into(), out);
        }
    }

    fn publish(&mut self, departure: Option<Departure>, out: &mut Vec<Output>) {
        let Some(Departure { ticket, seq }) = departure else { return };
        self.sent = self.sent.max(seq);
        self.published += 1;
        out.push(Output::Publish { ticket, seq });
    }

    fn overrun(&mut self, to: EventSeq, out: &mut Vec<Output>) {
        if to < self.next {
            return;
        }
        let from = self.next;
        // Said once; whatever was known to be there already was no loss.
        let had = |lane: &LaneState| lane.have.next_missing(from.0) > to.0;
        if !self.saved.lanes.iter().all(had) {
            out.push(Output::Note(Note::Overrun(from, to)));
        }
        self.saved.lanes.iter_mut().for_each(|lane| lane.have.insert(from.0, to.0));
        self.window.pass(to);
        self.next = to.next();
    }

    fn told(&mut self, now: Mono, told: Told, out: &mut Vec<Output>) {
        match told {
            Told::Acked { ticket, place, duplicate } => self.acked(now, ticket, place, duplicate, out),
            Told::Refused { ticket, why } => {
                if let Some(passenger) = self.window.passenger(ticket) {
                    self.refuse(now, passenger.seq, why, out);
                }
            }
            Told::Lost(why) => self.lost(now, why, out),
        }
    }

    fn acked(&mut self, now: Mono, ticket: Ticket, place: u64, duplicate: bool, out: &mut Vec<Output>) {
        let Some(passenger) = self.window.passenger(ticket) else { return };
        let Passenger { seq, lane, first, .. } = passenger;
        if duplicate && seq > self.sent_before {
            out.push(Output::Note(Note::Unsent(seq)));
            return self.lost(now, format!("event {seq} was known before it was sent").into(), out);
        }
        let top = self.saved.lanes.get(lane).and_then(|lane| lane.top);
        let rises = top.is_none_or(|top| place > top.place);
        // A duplicate lies where it lay before, but is told in its turn: else the top would pass over what is not told.
        if !first || !(duplicate || rises) {
            let why =
                if first { "at a place that is not above the last one" } else { "before an earlier one" };
            return self.lost(now, format!("event {seq} was acknowledged {why}").into(), out);
        }
        if let Some(lane) = self.saved.lanes.get_mut(lane).filter(|_| rises) {
            if lane.top.is_none() {
                lane.first = Some(place);
            }
            lane.top = Some(passenger.top(place));
        }
        self.acked += 1;
        self.dirty = true;
        if self.refused == Some(seq) {
            self.refused = None;
        }
        if self.refused.is_none() {
            self.failures = 0;
            self.error = None;
        }
        let departure = self.window.arrive(now, ticket);
        self.publish(departure, out);
    }

    fn advance(&mut self, out: &mut Vec<Output>) {
        let Some(cursor) = self.window.advance() else { return };
        self.saved.cursor = cursor;
        self.crowded = false;
        self.dirty = true;
        if self.refused.is_some_and(|refused| refused <= cursor) {
            self.refused = None;
        }
        out.push(Output::Forget(cursor));
    }

    fn resume(&mut self, now: Mono, saved: Saved, out: &mut Vec<Output>) {
        // Saved before anything is sent: a lane that was rolled back and half filled again must not look, to a process
        // that remembers the time before, like one that holds everything.
        out.push(Output::Save);
        (self.dirty, self.saved_at) = (false, now);
        self.saved = saved;
        self.window.clear(self.saved.lanes.len());
        self.next = self.saved.cursor.next();
        self.had = self.saved.lanes.iter().filter_map(|lane| lane.have.highest()).max().unwrap_or(0);
        (self.reading, self.crowded) = (false, false);
        self.state = State::Flowing;
        out.push(Output::Note(Note::Flowing(self.saved.cursor)));
    }

    fn diverged(&mut self, now: Mono, parted: Divergence, out: &mut Vec<Output>) {
        if self.state != State::Reconciling {
            return;
        }
        self.error = Some(parted.to_string().into());
        out.push(Output::Note(Note::Diverged(parted)));
        self.fall(now.plus(PAUSE_DIVERGED), out);
        self.state = State::Diverged;
    }

    fn failed(&mut self, now: Mono, failure: &Failure, out: &mut Vec<Output>) {
        if !matches!(self.state, State::Connecting | State::Reconciling) {
            return;
        }
        self.failures = self.failures.max(1);
        self.away(now, failure.to_string().into(), out);
    }

    fn lost(&mut self, now: Mono, why: Text, out: &mut Vec<Output>) {
        self.away(now, why, out);
    }

    fn refuse(&mut self, now: Mono, seq: EventSeq, why: Refusal, out: &mut Vec<Output>) {
        self.refused = Some(seq);
        self.failures = self.failures.max(1);
        self.error = Some(format!("event {seq}: {why}").into());
        out.push(Output::Note(Note::Refused(seq, why)));
        self.fall_back(now, out);
    }

    fn missing(&mut self, now: Mono, seqs: &[EventSeq], out: &mut Vec<Output>) {
        let cursor = self.saved.cursor;
        let missing = || seqs.iter().filter(|seq| **seq <= cursor && seq.0 > 0);
        let (Some(first), Some(last)) = (missing().min().copied(), missing().max().copied()) else { return };
        let count = missing().count();
        out.push(Output::Note(Note::Missing { count, first, last }));
        self.fall(now, out);
        for lane in &mut self.saved.lanes {
            lane.have.insert(first.0, cursor.0);
            missing().for_each(|seq| lane.have.remove(seq.0));
        }
        self.saved.cursor = EventSeq(first.0 - 1);
        self.next = first;
    }

    fn away(&mut self, now: Mono, why: Text, out: &mut Vec<Output>) {
        self.error = Some(why.clone());
        out.push(Output::Note(Note::Away(why)));
        self.fall_back(now, out);
    }

    fn fall_back(&mut self, now: Mono, out: &mut Vec<Output>) {
        let pause = self.pause();
        self.failures += 1;
        self.fall(now.plus(pause), out);
    }

    /// Drops the connection and goes back to the cursor.
    fn fall(&mut self, retry_at: Mono, out: &mut Vec<Output>) {
        self.saved = self.saved();
        if !self.window.is_empty() {
            self.rewinds += 1;
        }
        self.window.clear(self.saved.lanes.len());
        self.sent_before = self.sent_before.max(self.sent);
        self.next = self.saved.cursor.next();
        (self.reading, self.state, self.retry_at) = (false, State::Away, retry_at);
        self.dirty = true;
        out.push(Output::Drop);
    }

    /// Nothing after the first failure, then 100 ms and twice as long each time up to 10 s; half of it by chance.
    fn pause(&mut self) -> Duration {
        let Some(doublings) = self.failures.checked_sub(1) else { return Duration::ZERO };
        let whole = PAUSE_FIRST.saturating_mul(1 << doublings.min(16)).min(PAUSE_LONGEST);
        // SplitMix64.
        self.jitter = self.jitter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.jitter;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        whole / 2 + whole.mul_f64((mixed >> 40) as f64 / f64::from(1 << 25))
    }

    fn go_on(&mut self, now: Mono, out: &mut Vec<Output>) {
        if self.state == State::Flowing
            && self.window.oldest_sent().is_some_and(|sent| sent.plus(self.limits.ack_within) <= now)
        {
            self.lost(now, format!("no acknowledgement for {:?}", self.limits.ack_within).into(), out);
        }
        if self.stops(now, out) {
            return;
        }
        if matches!(self.state, State::Away | State::Diverged) && self.retry_at <= now {
            self.state = State::Connecting;
            out.push(Output::Connect);
        }
        if self.state == State::Flowing {
            self.ask(now, out);
        }
        if self.dirty && self.saved_at.plus(self.limits.save_every) <= now {
            (self.dirty, self.saved_at) = (false, now);
            out.push(Output::Save);
        }
    }

    fn stops(&mut self, now: Mono, out: &mut Vec<Output>) -> bool {
        let Some(by) = self.stop_by else { return false };
        let waits = self.state == State::Flowing && self.saved.cursor < self.end && now < by;
        if waits {
            return false;
        }
        self.fall(now, out);
        self.state = State::Stopped;
        out.extend([Output::Save, Output::Done]);
        true
    }

    /// Asks for more events, where there is room and there are any.
    fn ask(&mut self, now: Mono, out: &mut Vec<Output>) {
        self.read_at = None;
        if self.reading {
            return;
        }
        self.skip(out);
        let room = self.limits.window.saturating_sub(self.window.len());
        let enough = room >= READ_EVENTS.min(self.limits.window.div_ceil(4)) && self.takes(1);
        if self.crowded || self.next > self.end || !enough {
            return;
        }
        let left = usize::try_from(self.end.0 - self.next.0).unwrap_or(usize::MAX).saturating_add(1);
        let events = left.min(room).min(READ_EVENTS);
        self.read_at = self.pace.waits(now, events);
        if self.read_at.is_none() {
            (self.reading, self.asked) = (true, self.next);
            out.push(Output::Read { from: self.next, events });
        }
    }

    /// Passes over what every lane has, unread.
    fn skip(&mut self, out: &mut Vec<Output>) {
        if self.next.0 > self.had {
            return;
        }
        let wanted = self.saved.lanes.iter().map(|lane| lane.have.next_missing(self.next.0)).min();
        let Some(wanted) = wanted.filter(|wanted| *wanted > self.next.0) else { return };
        let through = EventSeq((wanted - 1).min(self.end.0));
        if through < self.next {
            return;
        }
        self.window.pass(through);
        self.next = through.next();
        self.advance(out);
    }
}
