//! A replay as NDJSON: one CloudEvent a line.

use super::place::Place;
use crate::errors::Failure;
use signalbox_bus::Delivered;
use signalbox_bus::wire::NatsEncoder;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Stdout, Write};
use std::path::Path;

/// The file, or standard output.
pub(super) struct FileTarget {
    encoder: NatsEncoder,
    name: String,
    sink: Sink,
}

enum Sink {
    File(BufWriter<File>),
    Stdout(BufWriter<Stdout>),
}

impl FileTarget {
    /// Opens it; what was written after the last kept place, a torn line perhaps, is cut off and written again.
    pub(super) fn open(place: &Place) -> Result<Self, Failure> {
        let out = place.out.as_deref().unwrap_or_else(|| Path::new("-"));
        let sink = if place.kept() {
            Sink::File(BufWriter::new(reopened(out, place.bytes).map_err(Failure::of(out.display()))?))
        } else {
            Sink::Stdout(BufWriter::new(io::stdout()))
        };
        Ok(Self { encoder: NatsEncoder::replay(&place.id), name: out.display().to_string(), sink })
    }

    pub(super) fn take(&mut self, event: &Delivered) -> Result<(), Failure> {
        let line = self.encoder.structured(event);
        let sink: &mut dyn Write = match &mut self.sink {
            Sink::File(file) => file,
            Sink::Stdout(out) => out,
        };
        quietly(sink.write_all(line).and_then(|()| sink.write_all(b"\n"))).map_err(Failure::of(&self.name))
    }

    /// Makes it durable and says how long it is.
    pub(super) fn settle(&mut self) -> Result<u64, Failure> {
        let settled = match &mut self.sink {
            Sink::File(file) => settled(file),
            Sink::Stdout(out) => quietly(out.flush()).map(|()| 0),
        };
        settled.map_err(Failure::of(&self.name))
    }
}

fn reopened(out: &Path, bytes: u64) -> io::Result<File> {
    let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(out)?;
    file.set_len(bytes)?;
    file.seek(SeekFrom::End(0))?;
    Ok(file)
}

fn settled(file: &mut BufWriter<File>) -> io::Result<u64> {
    file.flush()?;
    file.get_ref().sync_data()?;
    file.stream_position()
}

/// A reader that went away (`| head`) ends the program quietly.
fn quietly(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other,
    }
}
