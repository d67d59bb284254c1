//! `signalbox doctor`: verifies the journal, locates damage, dumps records, cuts a torn tail when told to.

use super::{Out, load_config};
use crate::args::{Cli, DoctorArgs};
use crate::errors::{Failure, JOURNAL_DAMAGED, NOT_RUNNING};
use crate::history::{JOURNAL_DIR, layout};
use crate::render::{Align, Table};
use serde_json::json;
use signalbox_base::EventSeq;
use signalbox_journal::doctor::{self, Report};
use signalbox_journal::storage::{FileStorage, SharedStorage};
use signalbox_journal::{Cut, Filter, Layout, Record};
use std::sync::Arc;

/// Does what was asked; exit code 1 when the journal is not sound.
pub fn run(cli: &Cli, args: &DoctorArgs) -> Result<(), Failure> {
    let out = Out::new(cli);
    let layout = match &args.data_dir {
        Some(dir) => Layout::new(dir.join(JOURNAL_DIR)),
        None => layout(&load_config(cli)?.file),
    };
    if !layout.dir.is_dir() {
        let message = format!("there is no journal in {}", layout.dir.display());
        return Err(Failure::new(NOT_RUNNING, message)
            .fix("name its directory with --data-dir, or its configuration with --config"));
    }
    let storage: SharedStorage = Arc::new(FileStorage);
    if let Some(from) = args.dump {
        return dump(&out, &storage, &layout, EventSeq(from), args.last);
    }
    if args.repair {
        match doctor::repair(&storage, &layout)? {
            Some(cut) => out.line(&format!("cut a torn tail: {}", told(&cut)))?,
            None => out.line("there is no torn tail to cut")?,
        }
    }
    let report = doctor::verify(&storage, &layout)?;
    if out.json {
        out.object(&report)?
    } else {
        print(&out, &report)?
    }
    if report.is_sound() {
        return Ok(());
    }
    let first =
        report.damage.first().map(|d| format!("{} byte {}: {}", d.file.display(), d.offset, d.reason));
    Err(Failure::new(JOURNAL_DAMAGED, first.unwrap_or_else(|| "the journal is not sound".into())))
}

fn print(out: &Out, report: &Report) -> Result<(), Failure> {
    let columns = [
        ("SEGMENT", Align::Left),
        ("EDGE", Align::Left),
        ("FIRST", Align::Right),
        ("LAST", Align::Right),
        ("BATCHES", Align::Right),
        ("BYTES", Align::Right),
        ("SHA-256", Align::Left),
    ];
    let mut table = Table::new(&columns);
    for s in &report.segments {
        let name = s.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let short = s.sha256.get(..12).unwrap_or_default().to_owned();
        table.row(vec![
            name,
            s.edge.clone(),
            s.first.to_string(),
            s.last.to_string(),
            s.batches.to_string(),
            s.bytes.to_string(),
            short,
        ]);
    }
    out.table(&table)?;
    if let (Some((first, last)), Some(segment)) = (report.range, report.segments.last()) {
        out.line(&format!("\njournal {}, events {first} to {last}", segment.journal))?;
    }
    for cursor in &report.cursors {
        out.line(&format!("cursor {:<24} at {}", cursor.sink, cursor.seq))?;
    }
    if let Some(cut) = &report.torn_tail {
        out.line(&format!(
            "torn tail: {} (a start cuts it by itself; nothing in it was ever acted on)",
            told(cut)
        ))?;
    }
    for damage in &report.damage {
        out.line(&format!("DAMAGE {} byte {}: {}", damage.file.display(), damage.offset, damage.reason))?;
    }
    out.line(if report.is_sound() { "sound" } else { "NOT sound" })
}

fn told(cut: &Cut) -> String {
    format!("{} bytes at byte {} of {}", cut.bytes, cut.offset, cut.file.display())
}

fn dump(
    out: &Out,
    storage: &SharedStorage,
    layout: &Layout,
    from: EventSeq,
    last: usize,
) -> Result<(), Failure> {
    let mut lines = Vec::new();
    // The callback cannot stop the walk early without an error of the journal's own; a full list is simply not added to.
    doctor::dump(storage, layout, from, &Filter::default(), |record| {
        if lines.len() < last {
            lines.push(line(out.json, record));
        }
        Ok(())
    })?;
    lines.iter().try_for_each(|line| out.line(line))
}

fn line(as_json: bool, r: &Record<'_>) -> String {
    let data: serde_json::Value = serde_json::from_slice(r.data).unwrap_or(serde_json::Value::Null);
    if as_json {
        let object = json!({
            "sequence": r.seq.0, "domainsequence": r.domain_seq, "time": r.wall.to_string(), "type": r.kind, "tenant": r.tenant,
            "subject": r.subject, "correlation": r.correlation, "causation": r.causation.0, "data": data, "private_bytes": r.private.len(),
        });
        return object.to_string();
    }
    format!("{:>10}  {}  {:<28}  {:<10}  {}  {data}", r.seq.0, r.wall, r.kind, r.tenant, r.subject)
}
