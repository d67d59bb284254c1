//! Events out of the journal on disk, for `tail`, `why` and `cdr -f`: read beside the running edge or without it.

use crate::args::Window;
use crate::errors::{Failure, INTERNAL, JOURNAL_DAMAGED, NOT_RUNNING, USAGE};
use signalbox_base::Wall;
use signalbox_bus::{Bus, Delivered, Filter, Local, Request, Start, Subscription};
use std::path::Path;
use std::time::Duration;

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
#[must_use]
pub fn kinds(pattern: Option<&str>) -> Vec<String> {
    let trimmed = pattern.map(|t| t.trim_start_matches("io.signalbox.").trim_end_matches('*').trim_end_matches('.'));
    trimmed.filter(|t| !t.is_empty()).map(str::to_owned).into_iter().collect()
}

/// A reader of the journal below a data directory.
pub struct History {
    subscription: Box<dyn Subscription>,
}

impl History {
    /// Opens it.
    ///
    /// # Errors
    /// There is no journal, or it is damaged.
    pub async fn open(data_dir: &Path, tenant: Option<&str>, start: Start) -> Result<Self, Failure> {
        let dir = data_dir.join("journal");
        if !dir.is_dir() {
            let message = format!("there is no journal in {}", dir.display());
            return Err(Failure::new(NOT_RUNNING, message).fix("name the edge's configuration with --config, or start it"));
        }
        let bus = Local::open_dir(&dir).map_err(failure)?;
        let mut filter = Filter::default();
        if let Some(tenant) = tenant {
            filter.tenants.push(tenant.into());
        }
        let subscription = bus.subscribe(Request { name: None, filter, start }).await.map_err(failure)?;
        Ok(Self { subscription })
    }

    /// The next events; `None` when nothing came within `patience`.
    ///
    /// # Errors
    /// The journal is damaged or gone.
    pub async fn next(&mut self, patience: Duration) -> Result<Option<Vec<Delivered>>, Failure> {
        match tokio::time::timeout(patience, self.subscription.next_batch(BATCH)).await {
            Ok(Ok(batch)) => Ok(Some(batch.events)),
            Ok(Err(signalbox_bus::Error::Ended)) | Err(_) => Ok(None),
            Ok(Err(e)) => Err(failure(e)),
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
        for (pattern, kind) in [("call", "call"), ("call.*", "call"), ("call.ended", "call.ended"), ("io.signalbox.call.ended.v1", "call.ended.v1")] {
            assert_eq!(kinds(Some(pattern)), [kind]);
        }
        assert!(kinds(Some("*")).is_empty() && kinds(None).is_empty());
    }
}
