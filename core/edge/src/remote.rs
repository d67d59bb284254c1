//! The way of what other edges say into the engine, and what this edge says of where it takes theirs.

use crate::handle::{EdgeHandle, NoAnswer};
use crate::turn::Told;
use signalbox_engine::remote::{self, Update};
use std::net::SocketAddr;
use std::time::Duration;

/// Updates in one turn at most: calls wait meanwhile.
pub const UPDATES_MAX: usize = 256;

/// How long one that was not taken waits before it is offered again.
const AGAIN_AFTER: Duration = Duration::from_millis(5);

impl EdgeHandle {
    /// Tells the engine what other edges said, in order, at most [`UPDATES_MAX`] a turn; nothing at all makes it forget what
    /// has expired. Waits while the engine is busy. An edge that is told of must have a certificate for its name from then on,
    /// where TLS is spoken between edges.
    ///
    /// # Errors
    /// [`NoAnswer::Gone`] once the edge has stopped.
    pub async fn remote(&self, updates: Vec<Update>) -> Result<(), NoAnswer> {
        self.0.certificates.peers(&updates);
        let nothing: &[Update] = &[];
        let batches = updates.chunks(UPDATES_MAX).chain(updates.is_empty().then_some(nothing));
        for batch in batches {
            while !self.tell(Told::Remote(batch.to_vec())) {
                if self.why_not() == NoAnswer::Gone {
                    return Err(NoAnswer::Gone);
                }
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
        Ok(())
    }

    /// Where other edges hand requests to this one; `None` when it takes none.
    #[must_use]
    pub fn takes_at(&self) -> Option<SocketAddr> {
        let settings = self.settings();
        let (_, listener) = remote::listener(&settings)?;
        let told = listener.advertise.parse().ok();
        told.or_else(|| (!listener.address.ip().is_unspecified()).then_some(listener.address))
    }
}
