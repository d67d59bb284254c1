//! Waking a thread that waits in a [`crate::Poller`], at no cost while it is awake.
//!
//! The sleeper arms the waker, looks at its queues once more, and only then waits. Whoever queues something wakes
//! afterwards; a sleeper that is not armed is awake and will look by itself, so no system call is made.

use crate::error::Fault;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Wakes one sleeper; shared by cloning.
#[derive(Clone, Debug)]
pub struct Waker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    fd: EventFd,
    armed: AtomicBool,
}

impl Waker {
    /// A new waker, not armed.
    ///
    /// # Errors
    /// When the process is out of file descriptors.
    pub fn new() -> Result<Self, Fault> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let fd = EventFd::from_flags(flags).map_err(|e| Fault::new("eventfd", e))?;
        Ok(Self(Arc::new(Inner { fd, armed: AtomicBool::new(false) })))
    }

    /// Wakes the sleeper when it is armed. Call it after what it shall see was queued.
    pub fn wake(&self) {
        if self.0.armed.swap(false, Ordering::SeqCst) {
            // The counter cannot overflow: it is written once per arming. A failure leaves nothing to do here, and the
            // sleeper's own timeout bounds the delay.
            let _ = self.0.fd.write(1);
        }
    }

    /// The sleeper is about to wait; it must look at its queues once more after this.
    pub fn arm(&self) {
        self.0.armed.store(true, Ordering::SeqCst);
    }

    /// The sleeper is awake.
    pub fn disarm(&self) {
        self.0.armed.store(false, Ordering::SeqCst);
    }

    /// Takes back the wake-ups so far, so that the next wait waits.
    pub(crate) fn drain(&self) {
        let _ = self.0.fd.read();
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }
}
