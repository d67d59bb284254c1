//! `[journal]`: what the journal itself would refuse at the start, or could not live with.

use super::check::Check;
use super::model::File;
use super::value::Size;
use signalbox_journal::{Config, Error};

/// Sizes that cannot work.
pub(super) fn check(check: &mut Check<'_>, file: &File) {
    let mut config = Config::new(&file.edge.data_dir);
    let Size::Bytes(segment_size) = file.journal.segment_size else {
        let fix = "write bytes, for example \"64MiB\"";
        return check.wrong("journal.segment_size", "a segment is no share of a disk", fix);
    };
    config.segment_size = segment_size;
    if let Err(Error::BadConfig { key, reason }) = config.check() {
        let fix = "write for example \"64MiB\"";
        return check.wrong(&format!("journal.{key}"), reason, fix);
    }
    let least = config.size_least();
    if matches!(file.journal.max_size, Size::Bytes(bytes) if bytes < least) {
        let what = "it is full before it holds anything: a journal begins with a segment and its reserve";
        let fix = format!("write at least \"{}\", or make journal.segment_size smaller", Size::Bytes(least));
        check.wrong("journal.max_size", what, fix);
    }
}
