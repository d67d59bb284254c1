//! `GET /events`: the journal as server-sent events (WHATWG HTML §9.2), for subscribers without a broker.
//!
//! ```text
//! GET /events?domain=call,registration&tenant=acme&type=call.ended&from=2026-11-21T14:00:00Z
//! Last-Event-ID: 01JD8Z6Q4V5X7Y9A2C4E6G8J0M.16
//!
//! id: 01JD8Z6Q4V5X7Y9A2C4E6G8J0M.17        the position: journal and sequence
//! data: {"specversion":"1.0",…}            a CloudEvent
//! ```
//!
//! `domain`, `tenant` and `type` may come several times or with commas; `from` is a moment, `beginning`, `now` (the
//! default) or a position. `Last-Event-ID` goes before `from`. Besides events there are:
//!
//! - `event: reset` before everything from the beginning, when the position is none of this journal's;
//! - `event: gap` with `from` and `to`, sequences that retention has taken;
//! - `event: slow` with `position`, when the client did not keep up: the connection ends, connect again from there;
//! - a comment and the position reached every 15 s, also past events that the filter leaves out.
//!
//! Each client has a reader of its own on the journal and a short queue; nothing is kept for one that is away.

use crate::handle::JournalAccess;
use axum::body::Bytes;
use signalbox_base::{EdgeIdentity, EventSeq, JournalId, Wall};
use signalbox_journal::{Error, Filter, Gap, Reader, Record, Start};
use signalbox_schemas::Kind;
use signalbox_schemas::envelope::{Envelope, Source, write_structured};
use signalbox_schemas::values::EventId;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};

/// Bytes of events handed over at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks that wait for a client.
const CHUNKS_MAX: usize = 4;
/// After news this long is waited for more.
const LINGER: Duration = Duration::from_millis(10);
/// A position goes out at least this often.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A client whose queue is full for this long is slow.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    filter: Filter,
    from: From,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum From {
    Beginning,
    Now,
    Time(Wall),
    After(EventId),
}

impl Wanted {
    /// Reads a query and the header; says what is wrong with them.
    pub(super) fn read(query: &[(String, String)], last_event_id: Option<&str>) -> Result<Self, String> {
        let mut filter = Filter::default();
        let mut from = From::Now;
        let (mut domains, mut types) = (Vec::new(), Vec::new());
        for (at, (name, value)) in query.iter().enumerate() {
            // Whoever names nothing has lost a variable, and must not get everybody's events for it.
            if value.split(',').all(|part| part.trim().is_empty()) {
                return Err(format!("{name} names nothing; leave it out to mean all"));
            }
            if name == "from" && query[..at].iter().any(|(earlier, _)| earlier == "from") {
                return Err("from is there twice".to_owned());
            }
            let mut each = value.split(',').map(str::trim).filter(|part| !part.is_empty());
            match name.as_str() {
                "domain" => each.try_for_each(|domain| known_domain(domain).map(|d| domains.push(d)))?,
                "type" => each.try_for_each(|name| known_type(name).map(|t| types.push(t)))?,
                // Events have `_` where there is no tenant; the journal has nothing there.
                "tenant" => {
                    let name = |name: &str| if name == "_" { String::new() } else { name.to_owned() };
                    filter.tenants.extend(each.map(name));
                }
                "from" => from = moment(value)?,
                other => {
                    return Err(format!("{other} is not known; there are domain, tenant, type and from"));
                }
            }
        }
        filter.kinds = both(domains, types)?;
        if let Some(text) = last_event_id.map(str::trim).filter(|text| !text.is_empty()) {
            // What cannot be read is no position of ours: as one of an unknown journal.
            let nowhere = EventId { journal: JournalId(0), seq: EventSeq(0) };
            from = From::After(text.parse().unwrap_or(nowhere));
        }
        Ok(Self { filter, from })
    }
}

fn known_domain(name: &str) -> Result<String, String> {
    let known = Kind::ALL.iter().any(|kind| kind.domain() == name);
    if known {
        Ok(name.to_owned())
    } else {
        Err(format!("no domain is called {name}; /schemas lists the events"))
    }
}

fn known_type(name: &str) -> Result<String, String> {
    let name = name.strip_prefix("io.signalbox.").unwrap_or(name);
    let known = Kind::ALL.iter().any(|kind| kind.short() == name || kind.versioned() == name);
    if known { Ok(name.to_owned()) } else { Err(format!("no event is called {name}; /schemas lists them")) }
}

/// Domains and types together: events of these types that are in these domains.
fn both(domains: Vec<String>, types: Vec<String>) -> Result<Vec<String>, String> {
    if domains.is_empty() || types.is_empty() {
        return Ok(if types.is_empty() { domains } else { types });
    }
    let inside = |name: &String| domains.iter().any(|domain| name.split('.').next() == Some(domain));
    let kinds: Vec<String> = types.into_iter().filter(inside).collect();
    if kinds.is_empty() { Err("none of these types is in these domains".to_owned()) } else { Ok(kinds) }
}

fn moment(text: &str) -> Result<From, String> {
    match text {
        "beginning" => return Ok(From::Beginning),
        "now" => return Ok(From::Now),
        _ => {}
    }
    let position = || text.parse().ok().map(From::After);
    Wall::parse_rfc3339(text).map(From::Time).or_else(position).ok_or_else(|| {
        format!("from={text}: write a moment as 2026-11-21T14:03:00Z, beginning, now, or a position")
    })
}

/// Reads the journal for one client.
pub(super) struct Feed {
    reader: Reader,
    identity: EdgeIdentity,
    chunk: Chunk,
}

/// What goes out at once.
#[derive(Default)]
struct Chunk {
    text: Vec<u8>,
    /// Position of the last event in it.
    last: Option<EventId>,
    /// There is no more for now.
    at_end: bool,
    /// The journal cannot be read on.
    broken: bool,
}

impl Feed {
    /// Finds the place to begin; blocks.
    pub(super) fn open(
        journal: &JournalAccess,
        identity: EdgeIdentity,
        current: JournalId,
        wanted: Wanted,
    ) -> signalbox_journal::Result<Self> {
        let mut chunk = Chunk::default();
        chunk.text.extend_from_slice(b"retry: 1000\n\n");
        let reader = match wanted.from {
            From::Beginning => journal.reader(Start::Oldest)?,
            From::Now => journal.reader(Start::End)?,
            From::Time(moment) => journal.reader(Start::Time(moment))?,
            From::After(position) => match after(journal, position, current)? {
                Some((reader, gap)) => {
                    gap.into_iter().for_each(|gap| chunk.gap(gap));
                    reader
                }
                None => {
                    chunk.notice("reset", "{\"reason\":\"the position is none of this journal\"}");
                    journal.reader(Start::Oldest)?
                }
            },
        };
        Ok(Self { reader: reader.with_filter(wanted.filter), identity, chunk })
    }

    /// The next chunk; blocks.
    fn read(&mut self) -> Chunk {
        let mut chunk = std::mem::take(&mut self.chunk);
        while chunk.text.len() < CHUNK_BYTES {
            match self.reader.next() {
                Ok(Some(record)) => chunk.event(&self.identity, &record),
                Ok(None) => {
                    chunk.at_end = true;
                    break;
                }
                Err(Error::Gap(gap)) => chunk.gap(gap),
                Err(error) => {
                    tracing::error!(%error, "the journal cannot be read for a client of /events");
                    chunk.broken = true;
                    break;
                }
            }
        }
        chunk
    }

    /// A comment, and how far has been read whatever the filter left out.
    fn keep_alive(&self) -> Bytes {
        let through = EventSeq(self.reader.position().0 - 1);
        match self.reader.journal().filter(|_| through.0 > 0) {
            Some(journal) => Bytes::from(format!(": alive\nid: {}\n\n", EventId { journal, seq: through })),
            None => Bytes::from_static(b": alive\n\n"),
        }
    }
}

/// A reader behind a position, and what of it is gone; `None` when the position is none of this journal's.
fn after(
    journal: &JournalAccess,
    position: EventId,
    current: JournalId,
) -> signalbox_journal::Result<Option<(Reader, Option<Gap>)>> {
    let mut reader = match journal.reader(Start::Seq(position.seq)) {
        Ok(reader) => reader,
        Err(Error::BeyondEnd { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    match reader
        .next()
        .map(|record| record.is_some_and(|r| r.journal == position.journal && r.seq == position.seq))
    {
        Ok(true) => Ok(Some((reader, None))),
        Ok(false) => Ok(None),
        Err(Error::Gap(gap)) if position.journal == current => {
            let gap = Gap { from: gap.from.next(), to: gap.to };
            Ok(Some((reader, (gap.from <= gap.to).then_some(gap))))
        }
        Err(Error::Gap(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Chunk {
    fn event(&mut self, identity: &EdgeIdentity, record: &Record<'_>) {
        let journal = record.journal;
        let position = EventId { journal, seq: record.seq };
        let cause = (record.causation.0 > 0).then_some(EventId { journal, seq: record.causation });
        let envelope = Envelope {
            source: Source::Edge { cluster: &identity.cluster, edge: &identity.edge, journal },
            seq: record.seq,
            domain_seq: EventSeq(record.domain_seq),
            type_with_version: record.kind,
            tenant: record.tenant,
            subject: record.subject,
            time: record.wall,
            recorded_time: record.recorded,
            correlation: record.correlation,
            causation: cause,
            traceparent: record.traceparent,
        };
        self.text.extend_from_slice(format!("id: {position}\ndata: ").as_bytes());
        let begun = self.text.len();
        write_structured(&envelope, record.data, &mut self.text);
        // A line break can only be white space between JSON's tokens; here it would end the event.
        for byte in &mut self.text[begun..] {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        self.text.extend_from_slice(b"\n\n");
        self.last = Some(position);
    }

    fn gap(&mut self, gap: Gap) {
        self.notice("gap", &format!("{{\"from\":{},\"to\":{}}}", gap.from, gap.to));
    }

    fn notice(&mut self, name: &str, data: &str) {
        self.text.extend_from_slice(notice(name, data).as_bytes());
    }
}

fn notice(name: &str, data: &str) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

/// Fills the queue of one client until it goes away, is slow, or the journal has ended.
pub(super) fn serve(feed: Feed, journal: &JournalAccess) -> mpsc::Receiver<Bytes> {
    let (queue, chunks) = mpsc::channel(CHUNKS_MAX + 1);
    let (news, watermark) = (Arc::new(Notify::new()), journal.watermark());
    let told = Arc::clone(&news);
    let listening = watermark.subscribe(move |_| told.notify_one());
    tokio::spawn(async move {
        let ended = move || watermark.stopped();
        let _listening = listening;
        fill(feed, queue, &news, ended, PATIENCE).await;
    });
    chunks
}

async fn fill(
    mut feed: Feed,
    queue: mpsc::Sender<Bytes>,
    news: &Notify,
    ended: impl Fn() -> bool,
    patience: Duration,
) {
    // One place is kept, so that a slow client can be told so.
    let Ok(farewell) = queue.clone().reserve_owned().await else { return };
    let mut told: Option<EventId> = None;
    loop {
        let last_time = ended();
        let read = tokio::task::spawn_blocking(move || {
            let chunk = feed.read();
            (feed, chunk)
        });
        let Ok((back, chunk)) = read.await else { return };
        feed = back;
        if !chunk.text.is_empty() {
            match timeout(patience, queue.reserve()).await {
                Ok(Ok(place)) => place.send(Bytes::from(chunk.text)),
                Ok(Err(_)) => return,
                Err(_) => {
                    farewell.send(Bytes::from(slow(told)));
                    return;
                }
            }
            told = chunk.last.or(told);
        }
        if chunk.broken || (chunk.at_end && last_time) {
            return;
        }
        if chunk.at_end {
            tokio::select! {
                () = news.notified() => sleep(LINGER).await,
                () = queue.closed() => return,
                // Where there is no place, the client has enough to read.
                () = sleep(KEEP_ALIVE) => drop(queue.try_send(feed.keep_alive())),
            }
        }
    }
}

fn slow(told: Option<EventId>) -> String {
    let mut data = "{\"position\":".to_owned();
    let written = match told {
        Some(position) => write!(data, "\"{position}\"}}"),
        None => write!(data, "null}}"),
    };
    written.expect("memory takes every byte");
    notice("slow", &data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use signalbox_journal::storage::{FileStorage, SharedStorage};
    use signalbox_journal::{Config, Journal, NewRecord};

    /// A feed of a journal with so many events of ten thousand bytes.
    fn feed(dir: &std::path::Path, events: u64) -> Feed {
        let storage: SharedStorage = Arc::new(FileStorage);
        let identity = EdgeIdentity { cluster: "test".into(), edge: "edge-1".into() };
        let config = Config::new(dir);
        let layout = signalbox_journal::Layout { dir: dir.to_owned(), archive: None };
        let (mut writer, _) =
            Journal::open(Arc::clone(&storage), config, &identity, Wall(1), [7; 32]).unwrap();
        let data = format!("{{\"text\":\n\"{}\"}}", "x".repeat(10_000));
        for _ in 0..events {
            let record = NewRecord {
                expect_seq: None,
                wall: Wall(1),
                recorded: Wall(1),
                kind: "call.ended.v1",
                tenant: "acme",
                subject: "c_1",
                correlation: "",
                traceparent: "",
                causation: EventSeq(0),
                data: data.as_bytes(),
                private: b"",
            };
            writer.append(&record).unwrap();
        }
        writer.commit(Wall(1)).unwrap();
        let reader = Reader::open(storage, layout, writer.mark(), Start::Oldest).unwrap();
        Feed { reader, identity, chunk: Chunk::default() }
    }

    fn positions(text: &str) -> Vec<u64> {
        let ids = text.lines().filter_map(|line| line.strip_prefix("id: "));
        ids.map(|id| id.split_once('.').unwrap().1.parse().unwrap()).collect()
    }

    async fn drained(mut chunks: mpsc::Receiver<Bytes>) -> String {
        let mut text = String::new();
        while let Some(chunk) = chunks.recv().await {
            text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        text
    }

    #[tokio::test]
    async fn given_a_client_that_takes_nothing_then_it_is_let_go_with_its_position_and_little_is_kept() {
        let dir = tempfile::TempDir::new().unwrap();
        let (queue, chunks) = mpsc::channel(3);
        fill(feed(dir.path(), 100), queue, &Notify::new(), || false, Duration::from_millis(1)).await;
        let text = drained(chunks).await;
        let told = positions(&text);
        assert!(!told.is_empty() && told.len() < 20, "two chunks of 64 KiB: {told:?}");
        let farewell = text.split("event: slow\ndata: ").nth(1).expect("it was told");
        let last = told.last().unwrap();
        assert!(
            farewell.starts_with("{\"position\":\"") && farewell.contains(&format!(".{last}\"}}")),
            "{farewell}"
        );
    }

    #[tokio::test]
    async fn given_a_client_that_reads_then_everything_comes_in_order_a_line_each() {
        let dir = tempfile::TempDir::new().unwrap();
        let (queue, chunks) = mpsc::channel(3);
        let feed = feed(dir.path(), 100);
        let filled = tokio::spawn(async move {
            fill(feed, queue, &Notify::new(), || true, Duration::from_secs(600)).await;
        });
        let text = drained(chunks).await;
        filled.await.unwrap();
        assert_eq!(positions(&text), (1..=100).collect::<Vec<_>>());
        assert!(!text.contains("event: slow"));
        let events = text.lines().filter(|line| line.starts_with("data: {\"specversion\"")).count();
        assert_eq!(events, 100, "a line break inside the data does not end the event");
    }

    #[test]
    fn a_query_says_what_is_wanted() {
        let read = |pairs: &[(&str, &str)], last: Option<&str>| {
            let pairs: Vec<(String, String)> =
                pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            Wanted::read(&pairs, last)
        };
        let wanted = read(&[("domain", "call,edge"), ("tenant", "acme"), ("tenant", "_")], None).unwrap();
        assert_eq!(wanted.filter.kinds, ["call", "edge"]);
        assert_eq!(wanted.filter.tenants, ["acme", ""]);
        assert_eq!(wanted.from, From::Now);
        let both = read(&[("domain", "call"), ("type", "call.ended,edge.started")], None).unwrap();
        assert_eq!(both.filter.kinds, ["call.ended"]);
        let position = "01JD8Z6Q4V5X7Y9A2C4E6G8J0M.17";
        let after = From::After(position.parse().unwrap());
        assert_eq!(read(&[("from", "beginning")], Some(position)).unwrap().from, after);
        assert_eq!(read(&[("from", position)], Some("")).unwrap().from, after);
        assert!(read(&[("from", "noon")], None).is_err() && read(&[("domain", "fax")], None).is_err());
    }

    #[test]
    fn given_a_filter_that_names_nothing_then_it_is_refused_and_does_not_mean_everybody() {
        let ask = |query: &[(&str, &str)]| {
            let query: Vec<_> = query.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            Wanted::read(&query, None).is_ok()
        };
        assert!(ask(&[("tenant", "acme"), ("tenant", "globex,_"), ("from", "beginning")]));
        for nothing in ["", ",", " , "] {
            assert!(!ask(&[("tenant", nothing)]), "{nothing:?}");
            assert!(!ask(&[("domain", nothing)]), "{nothing:?}");
        }
        assert!(!ask(&[("from", "beginning"), ("from", "now")]));
    }
}
