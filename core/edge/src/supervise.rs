//! Waiting for the threads' end, and saying how it was.

use crate::error::Fatal;
use crate::keep::{Files, StopKeeping};
use crate::status::{Figures, Phase, Shared};
use crate::wire::Wires;
use signalbox_base::EventSeq;
use signalbox_engine::Engine;
use signalbox_journal::Writer;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use tokio::sync::watch;

/// How an edge ended.
#[derive(Clone, Debug)]
pub enum End {
    /// In order: everything it acknowledged is on disk.
    Stopped(StopReport),
    /// By an error that it must not survive. The process must exit with a failure; the next start recovers.
    Failed(Arc<Fatal>),
}

/// How an orderly stop went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopReport {
    /// Calls that were still in progress; the next start takes them over.
    pub calls_left: u32,
    /// The last record, durable.
    pub last: EventSeq,
}

/// The threads of one edge.
pub(crate) struct Threads {
    pub(crate) engine: JoinHandle<Result<Engine, Fatal>>,
    pub(crate) journal: JoinHandle<Result<Writer, Fatal>>,
    pub(crate) keeper: JoinHandle<()>,
    pub(crate) stop_keeping: StopKeeping,
    pub(crate) files: Files,
    pub(crate) wires: Arc<Wires>,
    pub(crate) streams: Option<JoinHandle<Result<(), Fatal>>>,
}

/// Supervises on a thread of its own.
///
/// # Errors
/// When no thread can be started.
pub(crate) fn spawn(
    threads: Threads,
    shared: Arc<Shared>,
    end: watch::Sender<Option<End>>,
) -> Result<(), std::io::Error> {
    let supervise = move || {
        let outcome = wait(threads);
        let phase = if outcome.is_ok() { Phase::Stopping } else { Phase::Failed };
        shared.publish(Figures { phase, ..(*shared.figures()).clone() });
        let how = match outcome {
            Ok(report) => End::Stopped(report),
            Err(fatal) => {
                tracing::error!(%fatal, "the edge stopped; restart it, it recovers from disk");
                End::Failed(Arc::new(fatal))
            }
        };
        end.send_replace(Some(how));
    };
    thread::Builder::new().name("supervisor".to_owned()).spawn(supervise).map(drop)
}

fn wait(threads: Threads) -> Result<StopReport, Fatal> {
    let Threads { engine, journal, keeper, stop_keeping, files, wires, streams } = threads;
    // A stalled journal thread is not waited for: it hangs in a system call.
    let engine = engine.join().unwrap_or(Err(Fatal::Panic("engine")))?;
    // The lock is held until the last snapshot is written.
    let writer = journal.join().unwrap_or(Err(Fatal::Panic("journal")))?;
    // The journal thread has sent the last messages.
    if let (Some(streams), Some(thread)) = (&wires.streams, streams) {
        streams.stop();
        thread.join().unwrap_or(Err(Fatal::Panic("streams")))?;
    }
    drop(stop_keeping);
    keeper.join().map_err(|_| Fatal::Panic("keeper"))?;
    if let Err(error) = files.write_last(&engine) {
        tracing::warn!(%error, "no snapshot was written; the next start folds more of the journal");
    }
    let calls_left = engine.state().calls().active();
    Ok(StopReport { calls_left, last: writer.watermark().get() })
}
