//! Why an edge does not start, and why one stops by itself.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Why an edge did not start. Each says what, where and what to do; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener could not be opened.
    #[error(transparent)]
    Bind(#[from] signalbox_io::BindError),
    /// A certificate, key or file of authorities cannot be used.
    #[error(transparent)]
    Tls(#[from] signalbox_io::TlsError),
    /// The HTTP port of `[admin] listen` could not be opened.
    #[error("admin.listen {address}: {cause}; stop the program that has the port, or choose another")]
    AdminListen {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        cause: std::io::Error,
    },
    /// The admin socket could not be made.
    #[error("{}: {cause}; data_dir must be writable by the user that runs Signalbox", path.display())]
    AdminSocket {
        /// Its path.
        path: PathBuf,
        /// What the operating system said.
        cause: std::io::Error,
    },
    /// The journal could not be opened or read back.
    #[error(transparent)]
    Journal(#[from] signalbox_journal::Error),
    /// The journal's history could not be folded into the engine's state.
    #[error("the journal cannot be folded at sequence {seq}: {reason}; run `signalbox doctor`")]
    Fold {
        /// The record.
        seq: u64,
        /// Why.
        reason: String,
    },
    /// The operating system refused something else.
    #[error(transparent)]
    System(#[from] signalbox_io::Fault),
    /// A thread could not be started.
    #[error("no thread could be started: {0}; raise the limit of processes (systemd: TasksMax)")]
    Thread(std::io::Error),
}

impl From<signalbox_io::stream::OpenError> for StartError {
    fn from(error: signalbox_io::stream::OpenError) -> Self {
        match error {
            signalbox_io::stream::OpenError::Bind(bind) => Self::Bind(bind),
            signalbox_io::stream::OpenError::System(fault) => Self::System(fault),
        }
    }
}

/// Why a running edge stopped at once. The process must exit; the next start recovers from disk.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// A write or fsync of the journal failed. It is never tried again: what is on disk is known only to recovery.
    #[error("the journal failed, so the edge stopped: {0}")]
    Journal(#[source] signalbox_journal::Error),
    /// An fsync did not return.
    #[error("a commit has been running for {} s, so the edge stopped: the disk does not answer", .0.as_secs())]
    Stalled(Duration),
    /// The operating system failed a call that no peer can make fail.
    #[error("the edge stopped: {0}")]
    System(#[source] signalbox_io::Fault),
    /// A thread of the edge ended by a panic: an invariant of ours is broken.
    #[error("the {0} thread ended by a panic, so the edge stopped; the log has the place")]
    Panic(&'static str),
}
