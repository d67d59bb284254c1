//! Seeds: which a story runs with, and how a failure is run again.

use std::env;

/// How much more than usual is tried: `SIGNALBOX_EFFORT`, 1 in `make test`, 10 in `make chaos`.
#[must_use]
pub fn effort() -> u64 {
    env::var("SIGNALBOX_EFFORT").ok().and_then(|text| text.parse().ok()).unwrap_or(1).max(1)
}

/// The seeds of a story: `SIGNALBOX_SEED` alone when set, else `usual` times the effort.
#[must_use]
pub fn seeds(usual: u64) -> Vec<u64> {
    match env::var("SIGNALBOX_SEED").ok().and_then(|text| text.parse().ok()) {
        Some(seed) => vec![seed],
        None => (1..=usual * effort()).collect(),
    }
}

/// Says, when a story fails while this lives, how to run it again.
pub struct Seeded {
    story: &'static str,
    seed: u64,
}

impl Seeded {
    /// A run of `story` with `seed`.
    #[must_use]
    pub fn new(story: &'static str, seed: u64) -> Self {
        Self { story, seed }
    }
}

impl Drop for Seeded {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "again: SIGNALBOX_SEED={} cargo test -p signalbox-world --test it {}",
                self.seed, self.story
            );
        }
    }
}
