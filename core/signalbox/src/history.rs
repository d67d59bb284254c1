//! Events out of the journal on disk, for `tail`, `why` and `cdr -f`: read beside the running edge or without it.

use crate::args::Window;
use crate::config::model;
use crate::errors::{Failure, INTERNAL, JOURNAL_DAMAGED, NOT_RUNNING, USAGE};
use crate::identity;
use signalbox_base::{EdgeIdentity, Text, Wall};
use signalbox_bus::{Bus, Delivered, Filter, Local, Request, Start, Subscription};
use signalbox_journal::storage::{FileStorage, SharedStorage};
use signalbox_journal::{Layout, Mark};
use signalbox_schemas::Kind;
use std::sync::Arc;
use std::time::Duration;

/// The journal's place in the data directory.
pub const JOURNAL_DIR: &str = "journal";
/// An empty journal says nothing at all: how long a list waits for its first word.
const QUIET: Duration = Duration::from_millis(500);

/// Events fetched at a time.
const BATCH: usize = 512;

/// A window of time, worked out from the flags.
#[derive(Clone, Copy, Debug, Default)]
pub struct Range {
    /// Not before.
    pub from: Option<Wall>,
    /// Not after.
    pub to: Option<Wall>,
}

impl Range {
    /// From `--since`, `--from` and `--to`.
    ///
    /// # Errors
    /// A time that is not RFC 3339.
    pub fn of(window: &Window, now: Wall) -> Result<Self, Failure> {
        let since = window.since.map(|s| Wall(now.0 - i64::try_from(s.0.as_micros()).unwrap_or(i64::MAX)));
        let from = moment(window.from.as_deref(), "--from")?.or(since);
        Ok(Self { from, to: moment(window.to.as_deref(), "--to")? })
    }

    /// Whether a moment lies inside.
    #[must_use]
    pub fn contains(&self, at: Wall) -> bool {
        self.from.is_none_or(|from| at >= from) && self.to.is_none_or(|to| at <= to)
    }
}

/// The rows that a window asks for, newest first; as they come where it asks for none in particular.
///
/// # Errors
/// A time that is not RFC 3339.
pub fn pick<T>(
    window: &Window,
    now: Wall,
    mut rows: Vec<T>,
    at: impl Fn(&T) -> i64,
) -> Result<Vec<T>, Failure> {
    let range = Range::of(window, now)?;
    if range.from.is_none() && range.to.is_none() && window.last.is_none() {
        return Ok(rows);
    }
    rows.retain(|row| range.contains(Wall(at(row))));
    rows.sort_by_key(|row| std::cmp::Reverse(at(row)));
    rows.truncate(window.last.unwrap_or(usize::MAX));
    Ok(rows)
}

/// Reads an RFC 3339 moment from a flag.
///
/// # Errors
/// Names the flag and shows how a moment is written.
pub fn moment(text: Option<&str>, flag: &str) -> Result<Option<Wall>, Failure> {
    let Some(text) = text else { return Ok(None) };
    match Wall::parse_rfc3339(text) {
        Some(at) => Ok(Some(at)),
        None => Err(Failure::new(USAGE, format!("{flag}: \"{text}\" is not a time"))
            .fix("write RFC 3339, for example 2026-11-21T14:03:00Z")),
    }
}

/// What a pattern names, for a bus filter: `call`, `call.*`, `call.ended`, the full type; nothing names everything.
///
/// # Errors
/// No event is called that: it would wait for ever.
pub fn kinds(pattern: Option<&str>) -> Result<Vec<String>, Failure> {
    let trimmed =
        pattern.map(|t| t.trim_start_matches("io.signalbox.").trim_end_matches('*').trim_end_matches('.'));
    let Some(wanted) = trimmed.filter(|t| !t.is_empty()) else { return Ok(Vec::new()) };
    let names = |kind: &Kind| kind.versioned() == wanted || kind.short() == wanted || kind.domain() == wanted;
    if !Kind::ALL.iter().any(names) {
        return Err(Failure::new(USAGE, format!("no event is called {wanted}"))
            .fix("`signalbox schema list` shows all; a domain such as call stands for its events"));
    }
    Ok(vec![wanted.to_owned()])
}

/// Reads the journal below a data directory, beside the running edge or without it.
pub struct History {
    subscription: Box<dyn Subscription>,
}

/// Some events, and whether these were the last there are for now.
#[derive(Debug, Default)]
pub struct Read {
    /// In order of sequence.
    pub events: Vec<Delivered>,
    /// Nothing more is recorded so far.
    pub at_end: bool,
}

/// The embedded bus of a data directory's journal.
pub fn local_bus(file: &model::File) -> Local {
    let cluster = Text::new(&file.edge.cluster);
    let identity = EdgeIdentity { cluster, edge: Text::from(identity::known_name(file)) };
    let storage: SharedStorage = Arc::new(FileStorage);
    let layout = layout(file);
    let mark = Mark::file(Arc::clone(&storage), layout.watermark());
    Local::new(identity, storage, layout, mark)
}

/// Where the journal of a configuration lies.
pub fn layout(file: &model::File) -> Layout {
    Layout { dir: file.edge.data_dir.join(JOURNAL_DIR), archive: file.journal.archive.clone() }
}

impl History {
    /// Opens it.
    ///
    /// # Errors
    /// There is no journal, or it is damaged.
    pub async fn open(file: &model::File, filter: Filter, start: Start) -> Result<Self, Failure> {
        let dir = file.edge.data_dir.join(JOURNAL_DIR);
        if !dir.is_dir() {
            let message = format!("there is no journal in {}", dir.display());
            return Err(Failure::new(NOT_RUNNING, message)
                .fix("name the edge's configuration with --config, or start it"));
        }
        let subscription = local_bus(file)
            .subscribe(Request { name: None, filter, start, linger: Duration::ZERO })
            .await
            .map_err(failure)?;
        Ok(Self { subscription })
    }

    /// The next events; waits for news where there are none yet.
    ///
    /// # Errors
    /// The journal is damaged or gone.
    pub async fn next(&mut self) -> Result<Read, Failure> {
        match self.subscription.next_batch(BATCH).await {
            Ok(batch) => {
                let at_end = batch.progress.iter().all(|p| p.through >= p.end);
                Ok(Read { events: batch.events, at_end })
            }
            Err(signalbox_bus::Error::Ended) => Ok(Read { events: Vec::new(), at_end: true }),
            Err(e) => Err(failure(e)),
        }
    }

    /// Everything up to the end of what is recorded now, oldest first, handed to `each`.
    ///
    /// # Errors
    /// As [`History::next`], and what `each` returns.
    pub async fn all(
        &mut self,
        mut each: impl FnMut(Delivered) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        loop {
            let read = match tokio::time::timeout(QUIET, self.next()).await {
                Ok(read) => read?,
                Err(_) => return Ok(()),
            };
            read.events.into_iter().try_for_each(&mut each)?;
            if read.at_end {
                return Ok(());
            }
        }
    }
}

fn failure(e: signalbox_bus::Error) -> Failure {
    let code = if matches!(e, signalbox_bus::Error::Broken(_)) { JOURNAL_DAMAGED } else { INTERNAL };
    Failure::new(code, e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_domains_and_types() {
        for (pattern, kind) in [
            ("call", "call"),
            ("call.*", "call"),
            ("call.ended", "call.ended"),
            ("io.signalbox.call.ended.v1", "call.ended.v1"),
        ] {
            assert_eq!(kinds(Some(pattern)).unwrap(), [kind]);
        }
        assert!(kinds(Some("*")).unwrap().is_empty() && kinds(None).unwrap().is_empty());
        assert!(kinds(Some("[")).is_err() && kinds(Some("calls")).is_err());
    }
}
