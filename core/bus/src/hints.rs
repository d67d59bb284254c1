//! Where named subscriptions on brokers resume, kept outside the broker.
//!
//! Brokers' own cursors (durable consumers, committed offsets) may be ahead of the data after a power loss or a restored
//! copy. A hint says where reading probably goes on and which event lies there; whoever resumes reads that event and
//! compares its identity before relying on the place. Rows and their positions stay the truth: a hint may be old.

use crate::subscription::Error;
use signalbox_base::Text;

/// Where a bus may be read on from; only the provider that wrote it reads it. At most 4 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint(pub Text);

/// Raised by each holder of a name; a lower one can no longer save.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// Keeps hints durably, one holder a name.
pub trait Hints: Send + Sync {
    /// Takes the name, fencing whoever held it, and returns what was saved last.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it cannot be read or written.
    fn acquire(&self, name: &str) -> Result<(Epoch, Option<Hint>), Error>;

    /// Saves durably.
    ///
    /// # Errors
    /// [`Error::Fenced`] when a later holder has the name; [`Error::Unavailable`] when it cannot be written.
    fn save(&self, name: &str, epoch: Epoch, hint: &Hint) -> Result<(), Error>;
}
