//! Randomness: a ChaCha generator seeded once from the operating system, so that a turn costs no system call.

use crate::error::Fault;
use nix::errno::Errno;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

/// Cryptographic randomness for branches, tags and tokens.
pub struct OsEntropy(StdRng);

impl OsEntropy {
    /// Seeds from the operating system.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn seeded() -> Result<Self, Fault> {
        StdRng::try_from_os_rng().map(Self).map_err(|_| Fault::new("getrandom", Errno::EIO))
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Fills `out`.
    pub fn fill(&mut self, out: &mut [u8]) {
        self.0.fill_bytes(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_generators_differ() {
        let (mut one, mut two) = (OsEntropy::seeded().unwrap(), OsEntropy::seeded().unwrap());
        assert_ne!((one.next_u64(), one.next_u64()), (two.next_u64(), two.next_u64()));
        let mut bytes = [0u8; 32];
        one.fill(&mut bytes);
        assert_ne!(bytes, [0u8; 32]);
    }
}
