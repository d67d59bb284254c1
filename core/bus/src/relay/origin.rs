//! What is relayed: a journal, or the store's outbox.

use super::saved::Saved;
use crate::event::{Delivered, Source};
use crate::local::{source_of, told, wall_now};
use crate::subscription::{BoxFuture, Error, Gap};
use crate::wire::digest;
use crate::words::Words;
use signalbox_base::{EdgeIdentity, EventSeq, JournalId, Wall};
use signalbox_journal as journal;
use signalbox_journal::storage::{OpenMode, SharedStorage, StoredFile};
use signalbox_journal::{Cursor, Cursors, Holder, Layout, Mark, Reader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Which journal events belong to, from a number on: after a fork a directory holds several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The journal.
    pub source: Source,
    /// Its first event.
    pub first: EventSeq,
}

/// One event, looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// What it says ([`digest`]).
    pub digest: u64,
    /// When it was journalled.
    pub recorded: Wall,
}

/// A source of events with gapless numbers, and the durable place of its relay.
///
/// The futures are polled on runtimes that end with each connection to the broker: whatever must outlive one (a pool's
/// connections) has to be spawned elsewhere.
pub trait Origin: Send {
    /// The journals, the current one last; empty before the first event.
    fn chain(&mut self) -> BoxFuture<'_, Result<Vec<Link>, Error>>;

    /// The last durable event.
    ///
    /// # Errors
    /// As [`Origin::read`].
    fn end(&self) -> Result<EventSeq, Error>;

    /// Appends at most `max` events from `from` on to `out`, as many as are there. A gap is told when it begins at `from`;
    /// nothing is appended then.
    fn read<'a>(
        &'a mut self,
        from: EventSeq,
        max: usize,
        out: &'a mut Vec<Delivered>,
    ) -> BoxFuture<'a, Result<Option<Gap>, Error>>;

    /// Looks at one event; `None` when it is gone.
    fn look(&mut self, seq: EventSeq) -> BoxFuture<'_, Result<Option<Look>, Error>>;

    /// Waits until there is an event after `seen`. May be dropped at any time.
    fn beyond(&self, seen: EventSeq) -> BoxFuture<'_, ()>;

    /// What was saved last. When nothing was, everything that is still there is to be relayed: the cursor stands before
    /// the oldest event.
    fn load(&mut self) -> BoxFuture<'_, Result<Saved, Error>>;

    /// Saves durably.
    ///
    /// # Errors
    /// [`Error::Fenced`] when another relay has taken over: this one must stop.
    fn save<'a>(&'a mut self, saved: &'a Saved) -> BoxFuture<'a, Result<(), Error>>;
}

/// Bytes of data read at once.
const READ_BYTES: usize = 1 << 20;
/// How often the journal's own cursor follows; it only holds back retention.
const CURSOR_EVERY: Duration = Duration::from_secs(1);
/// First and longest pause between two looks at another process's watermark.
const POLL_FIRST: Duration = Duration::from_millis(2);
const POLL_LONGEST: Duration = Duration::from_millis(50);

/// An edge's journal as an origin. Its cursor is called `relay-nats` or `relay-kafka`; beside it lies
/// `<cursor>.lanes`, JSON, replaced atomically.
pub struct JournalOrigin {
    identity: EdgeIdentity,
    storage: SharedStorage,
    layout: Layout,
    mark: Mark,
    cursors: Cursors,
    name: String,
    holder: Option<(Holder, Cursor)>,
    cursor_written: Wall,
    reader: Option<Reader>,
    words: Words,
    source: Option<Arc<Source>>,
    news: Arc<Notify>,
    _subscription: Option<journal::Subscription>,
}

impl JournalOrigin {
    /// The journal of `identity`, whose writer is in this process (`Mark::Local`) or in another (`Mark::file`), for the
    /// relay to the broker called `broker` ([`crate::publisher::Broker::name`]).
    #[must_use]
    pub fn new(
        identity: EdgeIdentity,
        storage: SharedStorage,
        layout: Layout,
        mark: Mark,
        broker: &str,
    ) -> Self {
        let cursors = Cursors::new(Arc::clone(&storage), layout.clone(), mark.clone());
        let news = Arc::new(Notify::new());
        let subscription = match &mark {
            Mark::Local(watermark) => {
                let news = Arc::clone(&news);
                Some(watermark.subscribe(move |_| news.notify_waiters()))
            }
            Mark::File(_) => None,
        };
        Self {
            identity,
            storage,
            layout,
            mark,
            cursors,
            name: format!("relay-{broker}"),
            holder: None,
            cursor_written: Wall(0),
            reader: None,
            words: Words::default(),
            source: None,
            news,
            _subscription: subscription,
        }
    }

    fn open(&self, start: journal::Start) -> Result<Reader, Error> {
        Reader::open(Arc::clone(&self.storage), self.layout.clone(), self.mark.clone(), start).map_err(told)
    }

    /// The journal of the first event from `seq` on that is there, and that event's number.
    fn journal_at(&self, start: journal::Start) -> Result<Option<(EventSeq, JournalId)>, Error> {
        let mut reader = self.open(start)?;
        loop {
            match reader.next() {
                Ok(record) => return Ok(record.map(|record| (record.seq, record.journal))),
                Err(journal::Error::Gap(_)) => {}
                Err(error) => return Err(told(error)),
            }
        }
    }

    fn links(&self) -> Result<Vec<Link>, Error> {
        let end = self.mark.durable().map_err(told)?;
        let link = |first, journal| {
            let (cluster, edge) = (self.identity.cluster.clone(), self.identity.edge.clone());
            Link { source: Source { cluster, edge, journal }, first }
        };
        let Some((oldest, mut journal)) = self.journal_at(journal::Start::Oldest)? else {
            return Ok(Vec::new());
        };
        let mut links = vec![link(oldest, journal)];
        // Ids change at forks only: find each change by halving.
        let at = |seq| self.journal_at(journal::Start::Seq(EventSeq(seq)));
        let mut from = oldest.0;
        while let Some((_, last)) = at(end.0)?.filter(|(_, last)| *last != journal) {
            let (mut same, mut other) = (from, end.0);
            let mut found = last;
            while other - same > 1 {
                let middle = same + (other - same) / 2;
                match at(middle)? {
                    Some((_, id)) if id != journal => (other, found) = (middle, id),
                    _ => same = middle,
                }
            }
            links.push(link(EventSeq(other), found));
            (from, journal) = (other, found);
        }
        Ok(links)
    }

    fn read_now(
        &mut self,
        from: EventSeq,
        max: usize,
        out: &mut Vec<Delivered>,
    ) -> Result<Option<Gap>, Error> {
        if from > self.mark.durable().map_err(told)? {
            return Ok(None);
        }
        let mut reader = match self.reader.take().filter(|reader| reader.position() == from) {
            Some(reader) => reader,
            None => self.open(journal::Start::Seq(from))?,
        };
        let (before, mut bytes) = (out.len(), 0);
        while out.len() - before < max && bytes < READ_BYTES {
            match reader.next() {
                Ok(Some(record)) => {
                    bytes += record.data.len();
                    let source = source_of(&self.identity, &mut self.source, record.journal);
                    out.push(self.words.delivered(source, &record));
                }
                Ok(None) => break,
                // The reader stands behind the gap: a later read finds it again from where it began.
                Err(journal::Error::Gap(_)) if out.len() > before => return Ok(None),
                Err(journal::Error::Gap(gap)) => {
                    self.reader = Some(reader);
                    return Ok(Some(Gap { from: gap.from, to: gap.to }));
                }
                Err(error) => return Err(told(error)),
            }
        }
        self.reader = Some(reader);
        Ok(None)
    }

    fn look_now(&mut self, seq: EventSeq) -> Result<Option<Look>, Error> {
        if seq.0 == 0 || seq > self.mark.durable().map_err(told)? {
            return Ok(None);
        }
        let mut reader = self.open(journal::Start::Seq(seq))?;
        match reader.next() {
            Ok(Some(record)) => {
                let source = source_of(&self.identity, &mut self.source, record.journal);
                let event = self.words.delivered(source, &record);
                Ok(Some(Look { digest: digest(&event), recorded: event.recorded }))
            }
            Ok(None) | Err(journal::Error::Gap(_)) => Ok(None),
            Err(error) => Err(told(error)),
        }
    }

    fn lanes_file(&self) -> PathBuf {
        self.layout.dir.join("cursors").join(format!("{}.lanes", self.name))
    }

    fn load_now(&mut self) -> Result<Saved, Error> {
        self.holder = Some(self.cursors.acquire(&self.name, EventSeq(0), wall_now()).map_err(told)?);
        let path = self.lanes_file();
        let read = match self.storage.open(&path, OpenMode::Read) {
            Ok(file) => read_all(&*file).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?)),
            Err(error) => Err(error),
        };
        match read {
            Ok(saved) => return Ok(saved),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            // Everything is compared again then, and nothing sent twice.
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "what the relay had saved cannot be read")
            }
        }
        let oldest = self.journal_at(journal::Start::Oldest)?.map_or(1, |(oldest, _)| oldest.0);
        Ok(Saved { cursor: EventSeq(oldest.saturating_sub(1)), lanes: Vec::new() })
    }

    fn save_now(&mut self, saved: &Saved) -> Result<(), Error> {
        let Some((holder, taken)) = &self.holder else { return Ok(()) };
        // Asked before it is written: a relay that was taken over must not overwrite what its follower saves.
        let held = self.cursors.get(&self.name).map_err(told)?.map(|cursor| cursor.epoch);
        if held != Some(taken.epoch) {
            return Err(Error::Fenced(self.name.clone()));
        }
        let text = serde_json::to_vec(saved).map_err(|error| Error::Broken(error.to_string()))?;
        let io = |error: std::io::Error| Error::Unavailable(format!("{}.lanes: {error}", self.name));
        replace(&self.storage, &self.lanes_file(), &text).map_err(io)?;
        let now = wall_now();
        if now.since(self.cursor_written) >= CURSOR_EVERY || now < self.cursor_written {
            self.cursors.advance(holder, saved.cursor, now).map_err(told)?;
            self.cursor_written = now;
        }
        Ok(())
    }
}

impl Origin for JournalOrigin {
    fn chain(&mut self) -> BoxFuture<'_, Result<Vec<Link>, Error>> {
        Box::pin(std::future::ready(self.links()))
    }

    fn end(&self) -> Result<EventSeq, Error> {
        self.mark.durable().map_err(told)
    }

    fn read<'a>(
        &'a mut self,
        from: EventSeq,
        max: usize,
        out: &'a mut Vec<Delivered>,
    ) -> BoxFuture<'a, Result<Option<Gap>, Error>> {
        Box::pin(std::future::ready(self.read_now(from, max, out)))
    }

    fn look(&mut self, seq: EventSeq) -> BoxFuture<'_, Result<Option<Look>, Error>> {
        Box::pin(std::future::ready(self.look_now(seq)))
    }

    fn beyond(&self, seen: EventSeq) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut pause = POLL_FIRST;
            loop {
                let news = self.news.notified();
                tokio::pin!(news);
                // Heard from here on, so that a commit after the look is not missed.
                news.as_mut().enable();
                if self.mark.durable().is_ok_and(|end| end > seen) {
                    return;
                }
                match &self.mark {
                    Mark::Local(_) => news.await,
                    Mark::File(_) => {
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(POLL_LONGEST);
                    }
                }
            }
        })
    }

    fn load(&mut self) -> BoxFuture<'_, Result<Saved, Error>> {
        Box::pin(std::future::ready(self.load_now()))
    }

    fn save<'a>(&'a mut self, saved: &'a Saved) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(std::future::ready(self.save_now(saved)))
    }
}

fn read_all(file: &dyn StoredFile) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(file.len()?).unwrap_or(0)];
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], done as u64)? {
            0 => break,
            n => done += n,
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

/// Replaces `path` so that a crash leaves the old file or the new one.
fn replace(storage: &SharedStorage, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("lanes-tmp");
    let file = storage.open(&temporary, OpenMode::Create)?;
    let mut done = 0;
    while done < bytes.len() {
        match file.write_at(&bytes[done..], done as u64)? {
            0 => return Err(std::io::ErrorKind::WriteZero.into()),
            n => done += n,
        }
    }
    file.sync_data()?;
    storage.rename(&temporary, path)?;
    path.parent().map_or(Ok(()), |dir| storage.sync_dir(dir))
}
