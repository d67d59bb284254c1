//! A replay as NDJSON: one CloudEvent a line.

use super::place::Place;
use crate::errors::Failure;
use signalbox_bus::Delivered;
use signalbox_bus::wire::NatsEncoder;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Seek, SeekFrom, Stdout, Write};
use std::path::Path;

/// The file, or standard output.
pub(super) struct FileTarget {
    encoder: NatsEncoder,
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
            let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(out)?;
            file.set_len(place.bytes)?;
            file.seek(SeekFrom::End(0))?;
            Sink::File(BufWriter::new(file))
        } else {
            Sink::Stdout(BufWriter::new(std::io::stdout()))
        };
        Ok(Self { encoder: NatsEncoder::replay(&place.id), sink })
    }

    pub(super) fn take(&mut self, event: &Delivered) -> Result<(), Failure> {
        let line = self.encoder.structured(event);
        let sink: &mut dyn Write = match &mut self.sink {
            Sink::File(file) => file,
            Sink::Stdout(out) => out,
        };
        quietly(sink.write_all(line).and_then(|()| sink.write_all(b"\n")))
    }

    /// Makes it durable and says how long it is.
    pub(super) fn settle(&mut self) -> Result<u64, Failure> {
        match &mut self.sink {
            Sink::File(file) => {
                file.flush()?;
                file.get_ref().sync_data()?;
                Ok(file.stream_position()?)
            }
            Sink::Stdout(out) => {
                quietly(out.flush())?;
                Ok(0)
            }
        }
    }
}

/// A reader that went away (`| head`) ends the program quietly.
fn quietly(result: std::io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => Ok(other?),
    }
}
