//! The journal thread: appends what turns recorded, commits in groups, and sends what the records held back.
//!
//! ```text
//!  engine thread ──batch──► append ──► (group commit's moment) ──► write + fsync ──► durable ──► send held ──► released
//!        ▲                                                             │ error: stop the process, nothing is sent
//!        └──────────────── emptied outboxes ◄──────────────────────────┘
//! ```
//!
//! Invariant (promise 1): a held message is given to a socket only below, after `Writer::commit` returned a watermark at
//! or beyond the record that it waits for.

mod fail_point;
mod handover;
mod progress;

pub(crate) use handover::{Batch, Handover, WokenBy};
pub(crate) use progress::Progress;

use crate::error::Fatal;
use crate::metrics::Measured;
use crate::status::Shared;
use crate::turn::{Mailbox, Told};
use crate::wire::Wires;
use fail_point::{FailPoint, Seam};
use signalbox_base::{EventSeq, Mono};
use signalbox_engine::{Outbox, RecordOut, Release};
use signalbox_io::{Clock, Sender};
use signalbox_journal::{Class, CommitAt, GroupCommit, NewRecord, Queue, Writer};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Between attempts to commit while the disk is full.
const FULL_RETRY: Duration = Duration::from_millis(250);

/// What the journal thread works with.
pub(crate) struct Committer {
    pub(crate) writer: Writer,
    pub(crate) policy: GroupCommit,
    pub(crate) handover: Arc<Handover>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) wires: Arc<Wires>,
    pub(crate) mailbox: Mailbox,
    /// Told of each segment that is begun: the keeper.
    pub(crate) begun: crossbeam_channel::Sender<()>,
    pub(crate) measured: Measured,
    pub(crate) shared: Arc<Shared>,
    pub(crate) clock: Clock,
}

impl Committer {
    /// Works until the handover is closed and empty; returns the writer, with everything committed.
    ///
    /// # Errors
    /// The first failed write or fsync. What was not durable was not sent.
    pub(crate) fn run(self) -> Result<Writer, Fatal> {
        // Dropped on every way out, a panic's included: the engine thread then stops too.
        let end =
            TellEnd { progress: Arc::clone(&self.progress), mailbox: self.mailbox.clone(), in_order: false };
        self.run_until(end)
    }

    fn run_until(self, mut end: TellEnd) -> Result<Writer, Fatal> {
        let mut work = Work {
            sender: Sender::default(),
            queue: Queue::default(),
            incoming: Vec::new(),
            waiting: Vec::new(),
            retry_at: None,
            fail_point: FailPoint::from_environment(),
            parts: self,
        };
        loop {
            let (woken_by, timeout) = work.until_next_commit();
            let open = work.parts.handover.take(woken_by, timeout, &mut work.incoming);
            work.append_incoming()?;
            if !open {
                work.commit_rest()?;
                end.in_order = true;
                return Ok(work.parts.writer);
            }
            if work.is_due() {
                work.commit()?;
            }
        }
    }
}

struct TellEnd {
    progress: Arc<Progress>,
    mailbox: Mailbox,
    in_order: bool,
}

impl Drop for TellEnd {
    fn drop(&mut self) {
        if !self.in_order {
            self.progress.fail();
            self.mailbox.wake();
        }
    }
}

struct Work {
    parts: Committer,
    sender: Sender,
    queue: Queue,
    incoming: Vec<Batch>,
    /// Appended, not yet durable, in order.
    waiting: Vec<Batch>,
    /// When the disk was full: not before this.
    retry_at: Option<Mono>,
    /// Where a test kills this process; none in service.
    fail_point: Option<FailPoint>,
}

impl Work {
    fn until_next_commit(&self) -> (WokenBy, Option<Duration>) {
        let now = self.parts.clock.now().mono;
        match self.next(now) {
            CommitAt::Now => (WokenBy::Nothing, Some(Duration::ZERO)),
            CommitAt::At(at) if self.queue.oldest_a.is_some() => (WokenBy::Nothing, Some(at.since(now))),
            CommitAt::At(at) => (WokenBy::Urgent, Some(at.since(now))),
            // What comes before the next commit may start is taken when it may: one sleep instead of two, and nobody has
            // to wake us.
            CommitAt::Idle => match self.pause_left(now) {
                Duration::ZERO => (WokenBy::Anything, None),
                left => (WokenBy::Nothing, Some(left)),
            },
        }
    }

    /// How long the next commit may not start yet.
    fn pause_left(&self, now: Mono) -> Duration {
        let earliest = self.queue.last_start.map(|start| start.plus(self.parts.policy.commit_interval));
        earliest.map_or(Duration::ZERO, |earliest| earliest.since(now))
    }

    fn is_due(&self) -> bool {
        self.next(self.parts.clock.now().mono) == CommitAt::Now
    }

    fn next(&self, now: Mono) -> CommitAt {
        match (self.parts.policy.next(now, &self.queue), self.retry_at) {
            (CommitAt::Now, Some(retry)) if retry > now => CommitAt::At(retry),
            (next, _) => next,
        }
    }

    fn append_incoming(&mut self) -> Result<(), Fatal> {
        if self.incoming.is_empty() {
            return Ok(());
        }
        let recorded = self.parts.clock.now().wall;
        for batch in self.incoming.drain(..) {
            for record in &batch.outbox.records {
                measure_setup(&self.parts.measured, &batch.outbox, record);
                let new = new_record(&batch.outbox, record, recorded);
                self.parts.writer.append(&new).map_err(Fatal::Journal)?;
            }
            if let Some(at) = batch.oldest_a {
                self.queue.note(at, Class::A);
            }
            if let Some(at) = batch.oldest_b {
                self.queue.note(at, Class::B);
            }
            self.waiting.push(batch);
        }
        Ok(())
    }

    /// One group commit: everything appended becomes durable, then everything it held back is sent.
    fn commit(&mut self) -> Result<(), Fatal> {
        let start = self.parts.clock.now();
        let queued = self.queue;
        self.queue.started(start.mono);
        self.parts.progress.commit_started(start.mono);
        let segment = self.parts.writer.segment();
        let outcome = self.parts.writer.commit(start.wall);
        if self.parts.writer.segment() != segment {
            // One that it has not read yet says the same.
            let _ = self.parts.begun.try_send(());
        }
        let end = self.parts.clock.now().mono;
        let full = match outcome {
            Ok(_) => false,
            Err(error) if error.is_full() && !self.parts.writer.poisoned() => true,
            Err(error) => return Err(Fatal::Journal(error)),
        };
        let durable = self.parts.writer.watermark().get();
        self.parts.progress.commit_ended(durable, full);
        if full {
            self.queue = Queue { last_start: self.queue.last_start, ..queued };
            self.retry_at = Some(end.plus(FULL_RETRY));
        } else {
            self.retry_at = None;
            self.parts.measured.commit_seconds.observe(end.since(start.mono).as_secs_f64());
        }
        self.release(durable);
        Ok(())
    }

    /// Sends what the durable records held back, in order, and returns the outboxes.
    fn release(&mut self, durable: EventSeq) {
        let releasable = self.waiting.iter().take_while(|batch| needs(&batch.outbox) <= durable).count();
        self.pass(Seam::AfterCommit, releasable);
        let Self { waiting, parts, sender, .. } = self;
        let transmits = waiting[..releasable]
            .iter()
            .flat_map(|batch| batch.outbox.transmits.iter().map(|transmit| (&batch.outbox, transmit)));
        let mut failed = 0u64;
        let sent = parts.wires.send(sender, transmits, |unsent| {
            failed += 1;
            parts.mailbox.tell(Told::Unsent(unsent));
        });
        self.pass(Seam::AfterSend, releasable);
        let parts = &self.parts;
        parts.progress.released_to(durable);
        parts.shared.sent.fetch_add((sent as u64).saturating_sub(failed), Ordering::Relaxed);
        parts.shared.failed.fetch_add(failed, Ordering::Relaxed);
        for batch in self.waiting.drain(..releasable) {
            self.parts.handover.give_back(batch);
        }
    }

    /// Ends the process when a test wants it to die here.
    fn pass(&mut self, seam: Seam, releasable: usize) {
        if let Some(point) = &mut self.fail_point
            && point.is_fatal(seam, &self.waiting[..releasable])
        {
            fail_point::die();
        }
    }

    /// The last commits before the end. A full disk is given up on: what is queued was never acknowledged to anyone.
    fn commit_rest(&mut self) -> Result<(), Fatal> {
        if self.parts.writer.queued().0 > 0 || !self.waiting.is_empty() {
            self.commit()?;
        }
        Ok(())
    }
}

/// The highest record that anything in it waits for.
fn needs(outbox: &Outbox) -> EventSeq {
    let last = outbox.records.last().map_or(EventSeq(0), |record| record.seq);
    let held = outbox.transmits.iter().map(|transmit| match transmit.release {
        Release::After(seq) => seq,
        Release::Now(_) => EventSeq(0),
    });
    held.max().map_or(last, |seq| seq.max(last))
}

fn new_record<'a>(
    outbox: &'a Outbox,
    record: &'a RecordOut,
    recorded: signalbox_base::Wall,
) -> NewRecord<'a> {
    NewRecord {
        expect_seq: Some(record.seq),
        wall: record.wall,
        recorded,
        kind: record.kind,
        tenant: &record.tenant,
        subject: &record.subject,
        correlation: &record.correlation,
        traceparent: std::str::from_utf8(outbox.bytes(&record.traceparent)).unwrap_or_default(),
        causation: record.causation,
        data: outbox.bytes(&record.data),
        private: outbox.bytes(&record.private),
    }
}

#[derive(serde::Deserialize)]
struct Setup {
    setup_ms: Option<u64>,
}

/// The time a call took to be answered is in its event; it is read here, off the engine's thread.
fn measure_setup(measured: &Measured, outbox: &Outbox, record: &RecordOut) {
    if record.kind != "call.answered.v1" {
        return;
    }
    let setup = serde_json::from_slice::<Setup>(outbox.bytes(&record.data));
    if let Some(ms) = setup.ok().and_then(|setup| setup.setup_ms) {
        measured.call_setup_seconds.observe(ms as f64 / 1000.0);
    }
}
