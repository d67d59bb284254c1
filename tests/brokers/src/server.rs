//! What a story does to a broker's process and to what it stored, whichever broker it is.

use crate::place::{Copied, Place};
use nix::sys::signal::Signal;
use signalbox_e2e::Process;
use std::path::Path;

/// A broker that can be killed, frozen, copied and rolled back. Everything goes when it is dropped.
pub trait Server {
    /// Its process and its directory.
    fn hull(&self) -> &Hull;

    /// The same.
    fn hull_mut(&mut self) -> &mut Hull;

    /// Starts it on the same ports and directory; it is ready.
    fn start_again(&mut self);

    /// kill -9; returns when it is gone. The ports stay its own.
    fn kill9(&mut self) {
        self.hull_mut().process = None;
    }

    /// Ends it as a service manager does.
    fn stop(&mut self) {
        if let Some(mut process) = self.hull_mut().process.take() {
            process.signal(Signal::SIGTERM);
            process.wait("the broker to stop");
        }
    }

    /// Where it lives, for what belongs to it.
    #[must_use]
    fn dir(&self) -> &Path {
        self.hull().place.dir()
    }

    /// Freezes it (SIGSTOP), connections and all.
    fn freeze(&self) {
        self.hull().signal(Signal::SIGSTOP);
    }

    /// Lets it go on (SIGCONT).
    fn thaw(&self) {
        self.hull().signal(Signal::SIGCONT);
    }

    /// Stops it, copies what it stored, and starts it.
    fn copy(&mut self) -> Copied {
        self.stop();
        let copied = self.hull().place.copy();
        self.start_again();
        copied
    }

    /// kill -9, then what it stored is replaced by the copy, and it starts: as after a restored backup.
    fn roll_back(&mut self, to: &Copied) {
        self.kill9();
        self.hull().place.put_back(to);
        self.start_again();
    }

    /// What it logged.
    #[must_use]
    fn log(&self) -> String {
        let process = self.hull().process.as_ref();
        process.map(|process| process.stdout() + &process.stderr()).unwrap_or_default()
    }
}

/// A broker's process and directory.
#[derive(Debug)]
pub struct Hull {
    /// `None` while it is dead.
    pub(crate) process: Option<Process>,
    pub(crate) place: Place,
}

impl Hull {
    pub(crate) fn new(place: Place) -> Self {
        Self { process: None, place }
    }

    fn signal(&self, signal: Signal) {
        self.process.as_ref().expect("it runs").signal(signal);
    }
}
