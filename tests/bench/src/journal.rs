//! The journal alone: events a second in batches, commits a second, and how long a commit takes.

use crate::report::Report;
use anyhow::Result;
use hdrhistogram::Histogram;
use signalbox_base::{EdgeIdentity, EventSeq, Text, Wall};
use signalbox_journal::storage::FileStorage;
use signalbox_journal::{Config, Journal, NewRecord};
use std::sync::Arc;
use std::time::{Duration, Instant};

const FOR: Duration = Duration::from_secs(2);

/// Measures commits of one, of sixteen and of a thousand events of 500 bytes.
pub(crate) fn run(report: &mut Report) -> Result<()> {
    for batch in [1usize, 16, 1000] {
        one(report, batch)?;
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn one(report: &mut Report, batch: usize) -> Result<()> {
    let dir = tempfile::tempdir_in(std::env::current_dir()?)?;
    let identity = EdgeIdentity { cluster: Text::new("bench"), edge: Text::new("edge-1") };
    let config = Config::new(dir.path().join("journal"));
    let (mut writer, _) = Journal::open(Arc::new(FileStorage), config, &identity, Wall(1), [7; 32])?;
    let data = vec![b'x'; 500];
    let mut latency = Histogram::<u64>::new(3)?;
    let (begun, mut events, mut commits) = (Instant::now(), 0u64, 0u64);
    while begun.elapsed() < FOR {
        for n in 0..batch {
            let wall = Wall(i64::try_from(n)?);
            writer.append(&NewRecord {
                expect_seq: None,
                wall,
                recorded: wall,
                kind: "registration.added.v1",
                tenant: "acme",
                subject: "acme/401@acme.test",
                correlation: "",
                traceparent: "",
                causation: EventSeq(0),
                data: &data,
                private: &[],
            })?;
        }
        let at = Instant::now();
        writer.commit(Wall(1))?;
        latency.record(u64::try_from(at.elapsed().as_nanos())?)?;
        events += batch as u64;
        commits += 1;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let part = format!("journal/{batch}");
    report.add(&part, "signalbox", 0, "events_per_s", events as f64 / seconds);
    report.add(&part, "signalbox", 0, "commits_per_s", commits as f64 / seconds);
    report.add(&part, "signalbox", 0, "commit_p50_us", latency.value_at_quantile(0.5) as f64 / 1e3);
    report.add(&part, "signalbox", 0, "commit_p99_us", latency.value_at_quantile(0.99) as f64 / 1e3);
    Ok(())
}
