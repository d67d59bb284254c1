//! What a turn may use besides its input: randomness and what is being watched.

use signalbox_base::{CallUid, Text};
use std::net::IpAddr;

/// A source of random bits: the operating system's in the edge, seeded in tests.
pub trait Entropy {
    /// 64 random bits.
    fn next_u64(&mut self) -> u64;

    /// Fills `out` with random bytes.
    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let bits = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&bits[..chunk.len()]);
        }
    }
}

/// Whose steps are noted at debug level (`signalbox log level debug --aor …`); empty by default and then free.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// Everything.
    pub all: bool,
    /// These AoRs (`user@domain`).
    pub aors: Vec<Text>,
    /// These sources.
    pub sources: Vec<IpAddr>,
    /// These calls.
    pub calls: Vec<CallUid>,
}

impl Watch {
    /// Whether nothing is watched: the caller then builds no note.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.all && self.aors.is_empty() && self.sources.is_empty() && self.calls.is_empty()
    }
}

/// Given to each turn.
pub struct Context<'a> {
    /// Randomness.
    pub entropy: &'a mut dyn Entropy,
    /// Who is watched.
    pub watch: &'a Watch,
}
