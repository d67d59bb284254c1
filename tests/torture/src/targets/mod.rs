//! What is fuzzed. Each target takes any bytes and panics when a promise is broken; it says whether the bytes were good
//! enough to get behind the first check, so that a run can tell whether its mutations aim well.

mod digest;
mod edit;
mod engine;
mod parse;
mod sdp;
mod stream;
mod uri;

pub use digest::digest;
pub use edit::edit;
pub use engine::engine;
pub use parse::parse;
pub use sdp::sdp;
pub use stream::stream;
pub use uri::uri;

use crate::seeds;

/// One target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, also of its binary in `fuzz/`.
    pub name: &'static str,
    /// Runs it once.
    pub run: fn(&[u8]) -> bool,
    /// What to begin from.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Executions in `make test`, before effort.
    pub rounds: u64,
}

/// All of them.
pub const ALL: [Target; 7] = [
    Target { name: "parse", run: parse, seeds: seeds::messages, rounds: 60_000 },
    Target { name: "edit", run: edit, seeds: seeds::messages, rounds: 30_000 },
    Target { name: "stream", run: stream, seeds: seeds::streams, rounds: 20_000 },
    Target { name: "sdp", run: sdp, seeds: seeds::sessions, rounds: 40_000 },
    Target { name: "uri", run: uri, seeds: seeds::uris, rounds: 60_000 },
    Target { name: "digest", run: digest, seeds: seeds::digests, rounds: 30_000 },
    Target { name: "engine", run: engine, seeds: seeds::scripts, rounds: 6_000 },
];
