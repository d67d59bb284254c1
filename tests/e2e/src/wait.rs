//! Waiting for what is waited for: conditions are polled until a deadline that only a hang reaches.

use std::time::{Duration, Instant};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);
/// Long enough that only something that never comes reaches it, on a machine busy with other tests too.
pub const LONG: Duration = Duration::from_secs(30);

/// A moment in the future.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// So far from now.
    #[must_use]
    pub fn within(span: Duration) -> Self {
        Self(now() + span)
    }

    /// What is left; `None` when it is over.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        self.0.checked_duration_since(now()).filter(|left| !left.is_zero())
    }
}

/// The monotonic clock, for deadlines and for the pace of a load.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "real peers live in real time; no test judges how long something took"
)]
pub fn now() -> Instant {
    Instant::now()
}

/// Microseconds since 1970, to name moments in files and requests.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the stories ask for history by wall time, as people do")]
pub fn wall_micros() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_micros())
}

/// The next look, a little later.
#[expect(clippy::disallowed_methods, reason = "the pause between two looks of a poll that has a deadline")]
pub fn pause() {
    std::thread::sleep(PAUSE);
}

/// Looks until there is something, at most [`LONG`].
///
/// # Panics
/// Nothing came; `what` says what was waited for.
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    until_within(LONG, what, look)
}

/// Looks until there is something, at most so long.
///
/// # Panics
/// Nothing came; `what` says what was waited for.
pub fn until_within<T>(span: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Deadline::within(span);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(deadline.left().is_some(), "waited {span:?} in vain for {what}");
        pause();
    }
}

/// Looks until a condition holds, at most [`LONG`].
///
/// # Panics
/// It never held; `what` says what was waited for.
pub fn until_true(what: &str, mut holds: impl FnMut() -> bool) {
    until(what, || holds().then_some(()));
}

/// Lets time pass: for a kill at a random moment, which waits for nothing.
pub fn spend(span: Duration) {
    let deadline = Deadline::within(span);
    while deadline.left().is_some() {
        pause();
    }
}
