//! The operating system's randomness, as the engine takes it.

use signalbox_engine::Entropy;
use signalbox_io::OsEntropy;

/// Lent to each turn.
pub(crate) struct Randomness(pub(crate) OsEntropy);

impl Entropy for Randomness {
    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill(&mut self, out: &mut [u8]) {
        self.0.fill(out);
    }
}
