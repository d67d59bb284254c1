//! The keeper thread: what the journal needs besides commits, at its own pace and never in their way.
//!
//! A few times a second, and whenever a segment is begun (so that a reserve in use is told before the next segment is), it
//! refills the reserve, hashes and retires sealed segments, and tells the engine thread how tight the disk is. Now and then it takes a snapshot, a few aggregates a look, so that a restart does not depend on how long
//! history is.

use crate::commit::Progress;
use crate::turn::{Mailbox, Told};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, never, select};
use signalbox_base::{EventSeq, JournalId, Text};
use signalbox_engine::state::{FOLD_VERSION, snapshot};
use signalbox_engine::{Command, CommandReply, Engine, Pressure};
use signalbox_io::Clock;
use signalbox_journal::storage::{OpenMode, SharedStorage};
use signalbox_journal::{Error, Fact, Keeper, Layout, Mark, Overrun, Sealed, SnapshotWriter};
use signalbox_schemas::Event;
use signalbox_schemas::journal::{JournalOverrun, JournalSealed};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Between two rounds of housekeeping.
const ROUND: Duration = Duration::from_millis(500);
/// A snapshot is taken when this many records came since the last one, whatever the time.
const SNAPSHOT_RECORDS: u64 = 200_000;
/// Or when this long has passed with any record.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(15 * 60);
/// Aggregates written by one look at the engine.
const AGGREGATES_A_LOOK: usize = 64;
/// A look that the engine thread does not take within this has failed; the snapshot is given up.
const LOOK_WITHIN: Duration = Duration::from_secs(5);

/// What the keeper thread works with.
pub(crate) struct Keeping {
    pub(crate) keeper: Keeper,
    pub(crate) mailbox: Mailbox,
    pub(crate) progress: Arc<Progress>,
    pub(crate) clock: Clock,
    pub(crate) edge: Text,
    pub(crate) files: Files,
    /// Segments whose `journal.sealed` is recorded, but not the digest file: there was no room for it.
    pub(crate) unconfirmed: Vec<Sealed>,
}

/// Where snapshots go.
#[derive(Clone)]
pub(crate) struct Files {
    pub(crate) storage: SharedStorage,
    pub(crate) layout: Layout,
    pub(crate) mark: Mark,
    pub(crate) journal: JournalId,
}

/// Ends the keeper thread when dropped.
pub(crate) struct StopKeeping(#[expect(dead_code, reason = "its drop is the message")] Sender<()>);

/// The signal that ends [`run`], and its receiver.
pub(crate) fn until_stopped() -> (StopKeeping, Receiver<()>) {
    let (sender, receiver) = bounded(0);
    (StopKeeping(sender), receiver)
}

/// Works until the other end of `stop` is dropped; `begun` says that the journal began a segment. The first round is at
/// once: until then a new journal has no reserve.
pub(crate) fn run(mut keeping: Keeping, stop: &Receiver<()>, mut begun: Receiver<()>) {
    let mut snapshot_at = keeping.clock.now().mono;
    let mut snapshot_seq = keeping.progress.durable();
    let mut failing = false;
    loop {
        match keeping.round() {
            Ok(()) => failing = false,
            // Told once: the cause lasts until somebody acts, and the next round tries again.
            Err(error) if !failing => {
                failing = true;
                tracing::error!(%error, "the journal's housekeeping failed; it is tried again");
            }
            Err(_) => {}
        }
        let (now, durable) = (keeping.clock.now().mono, keeping.progress.durable());
        let records = durable.0 - snapshot_seq.0;
        if records >= SNAPSHOT_RECORDS || (records > 0 && now.since(snapshot_at) >= SNAPSHOT_INTERVAL) {
            (snapshot_at, snapshot_seq) = (now, durable);
            if let Err(error) = keeping.snapshot(stop) {
                tracing::warn!(%error, "no snapshot was taken; the next start folds more of the journal");
            }
        }
        select! {
            recv(stop) -> _ => return,
            recv(begun) -> told => if told.is_err() { begun = never() },
            default(ROUND) => {}
        }
    }
}

impl Keeping {
    fn round(&mut self) -> Result<(), Error> {
        let mut outcome = self.confirm();
        for fact in self.keeper.turn(self.clock.now().wall)? {
            match fact {
                // A fact that could not be confirmed is told again after a restart; the others have their turn.
                Fact::Sealed(sealed) => outcome = outcome.and(self.sealed(&sealed)),
                Fact::Damaged(damage) => {
                    let (file, offset, reason) = (damage.file.display(), damage.offset, &damage.reason);
                    tracing::error!(%file, offset, reason, "a journal segment is damaged; run `signalbox doctor`");
                }
                Fact::Overrun(overrun) => self.overrun(&overrun),
                Fact::Pressure(pressure) => {
                    tracing::warn!(?pressure, "room for the journal changed");
                    self.mailbox.tell(Told::Pressure(as_engine(pressure)));
                }
            }
        }
        outcome
    }

    /// The digest becomes an event, and only then counts: a segment is not retired before its digest is published.
    fn sealed(&mut self, sealed: &Sealed) -> Result<(), Error> {
        let path = self.files.layout.dir.join(&sealed.segment);
        let bytes = self.files.storage.open(&path, OpenMode::Read).and_then(|file| file.len()).unwrap_or(0);
        let event = JournalSealed {
            edge: self.edge.clone(),
            segment: sealed.first,
            last_sequence: sealed.last,
            bytes,
            sha256: Text::new(&sealed.sha256),
        };
        if !matches!(self.record(Event::from(event)), Some(CommandReply::Done(_))) {
            return Ok(());
        }
        self.unconfirmed.push(sealed.clone());
        self.confirm()
    }

    /// Writes the digests of what is recorded; those that a full disk refuses are tried again by the next round.
    fn confirm(&mut self) -> Result<(), Error> {
        while let Some(sealed) = self.unconfirmed.last() {
            self.keeper.confirm_sealed(sealed)?;
            self.unconfirmed.pop();
        }
        Ok(())
    }

    fn overrun(&self, overrun: &Overrun) {
        let Overrun { sink, from, to } = overrun;
        tracing::error!(
            sink,
            from = from.0,
            to = to.0,
            "the journal was full and the sink lost these events"
        );
        let event = JournalOverrun {
            edge: self.edge.clone(),
            sink: Text::new(sink),
            first_sequence: *from,
            last_sequence: *to,
        };
        self.record(Event::from(event));
    }

    /// Records an event and waits until it is durable; `None` when the engine thread has gone.
    fn record(&self, event: Event) -> Option<CommandReply> {
        let (asker, answer) = oneshot::channel();
        self.mailbox.tell(Told::Command(Box::new(Command::Note(Box::new(event))), Some(asker)));
        answer.blocking_recv().ok()
    }

    fn snapshot(&self, stop: &Receiver<()>) -> Result<(), Error> {
        let Some(begin) = self.look(|engine| engine.state().last()) else { return Ok(()) };
        let mut writer = self.files.begin(begin)?;
        let mut cursor = snapshot::Cursor::default();
        loop {
            let step = move |engine: &Engine| {
                let mut entries = Vec::new();
                let mut at = cursor;
                let done = snapshot::write(engine.state(), &mut at, AGGREGATES_A_LOOK, &mut entries);
                (entries, at, done)
            };
            let Some((entries, at, done)) = self.look(step) else { return Ok(()) };
            cursor = at;
            for entry in &entries {
                writer.put(entry.key.as_bytes(), entry.seq, &entry.bytes)?;
            }
            if done {
                break;
            }
        }
        // The last aggregates may be ahead of the disk for a moment.
        loop {
            match writer.finish() {
                Err(Error::SnapshotAhead { .. }) => {}
                ended => return ended,
            }
            if stop.recv_timeout(ROUND) != Err(RecvTimeoutError::Timeout) {
                return Ok(());
            }
        }
    }

    /// Runs `look` on the engine thread; `None` when it is gone or too busy.
    fn look<T: Send + 'static>(&self, look: impl FnOnce(&Engine) -> T + Send + 'static) -> Option<T> {
        let (asker, answer) = bounded(1);
        self.mailbox.tell(Told::Look(Box::new(move |engine, _| {
            // Whoever asked may have given up.
            let _ = asker.send(look(engine));
        })));
        answer.recv_timeout(LOOK_WITHIN).ok()
    }
}

impl Files {
    fn begin(&self, begin: EventSeq) -> Result<SnapshotWriter, Error> {
        let Self { storage, layout, mark, journal } = self.clone();
        SnapshotWriter::begin(storage, layout, mark, journal, FOLD_VERSION, begin)
    }

    /// The whole state at once, after the last turn and the last commit.
    pub(crate) fn write_last(&self, engine: &Engine) -> Result<(), Error> {
        let state = engine.state();
        let mut writer = self.begin(state.last())?;
        let (mut cursor, mut entries) = (snapshot::Cursor::default(), Vec::new());
        while !snapshot::write(state, &mut cursor, AGGREGATES_A_LOOK, &mut entries) {
            for entry in entries.drain(..) {
                writer.put(entry.key.as_bytes(), entry.seq, &entry.bytes)?;
            }
        }
        for entry in entries {
            writer.put(entry.key.as_bytes(), entry.seq, &entry.bytes)?;
        }
        writer.finish()
    }
}

fn as_engine(pressure: signalbox_journal::Pressure) -> Pressure {
    match pressure {
        signalbox_journal::Pressure::Normal => Pressure::Normal,
        signalbox_journal::Pressure::Reserve => Pressure::Reserve,
        signalbox_journal::Pressure::Full => Pressure::Full,
    }
}
