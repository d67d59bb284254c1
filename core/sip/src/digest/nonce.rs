//! Nonces that need no table: the time they were made, and a keyed hash that proves we made them.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use signalbox_base::Wall;
use subtle::ConstantTimeEq;

/// The time in microseconds, and the salt.
const STAMP_DIGITS: usize = 32;
const TIME_DIGITS: usize = 16;
const PROOF_DIGITS: usize = 32;
/// How long one key proves nonces, microseconds. Each is derived from the secret and its time, so that none has to be kept.
const KEY_PERIOD_US: i64 = 3_600_000_000;

/// Makes and judges nonces. Edges with the same key and realm accept each other's.
pub struct NonceIssuer {
    secret: [u8; 32],
    lifetime_us: i64,
}

/// What a nonce turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonceVerdict {
    /// Ours, and young enough.
    Fresh,
    /// Ours, and too old: challenge again with `stale=true`, which does not ask the person for a password.
    Stale,
    /// Not ours, or from the future.
    Foreign,
}

impl NonceIssuer {
    /// With a secret, of which the keys are made, and the seconds a nonce lives.
    #[must_use]
    pub fn new(secret: [u8; 32], lifetime_s: u32) -> Self {
        Self { secret, lifetime_us: i64::from(lifetime_s) * 1_000_000 }
    }

    /// How long a nonce lives.
    #[must_use]
    pub const fn lifetime_us(&self) -> i64 {
        self.lifetime_us
    }

    /// A nonce for this realm made at `now`: 64 hexadecimal digits. The salt tells it from others of the same moment.
    #[must_use]
    pub fn issue(&self, realm: &[u8], now: Wall, salt: u64) -> String {
        let stamp = format!("{:016x}{salt:016x}", now.0);
        let proof = self.proof(stamp.as_bytes(), now, realm);
        stamp + &proof
    }

    /// Judges a nonce that came back.
    #[must_use]
    pub fn judge(&self, nonce: &[u8], realm: &[u8], now: Wall) -> NonceVerdict {
        let Some((made, stamp, proof)) = parts(nonce) else { return NonceVerdict::Foreign };
        let wanted = self.proof(stamp, made, realm);
        if !bool::from(proof.ct_eq(wanted.as_bytes())) {
            return NonceVerdict::Foreign;
        }
        match now.0.saturating_sub(made.0) {
            age if age > self.lifetime_us => NonceVerdict::Stale,
            // Edges' clocks differ; one lifetime of lead is no lead.
            age if age >= -self.lifetime_us => NonceVerdict::Fresh,
            _ => NonceVerdict::Foreign,
        }
    }

    fn proof(&self, stamp: &[u8], made: Wall, realm: &[u8]) -> String {
        let period = made.0.div_euclid(KEY_PERIOD_US).to_be_bytes();
        let key = mac(&self.secret, &[b"nonce key", &period]);
        let proof = mac(&key, &[stamp, realm]);
        proof[..PROOF_DIGITS / 2].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// When a nonce says it was made, with its digits and its proof; `None` when it has not the form of ours.
fn parts(nonce: &[u8]) -> Option<(Wall, &[u8], &[u8])> {
    if nonce.len() != STAMP_DIGITS + PROOF_DIGITS {
        return None;
    }
    let (stamp, proof) = nonce.split_at(STAMP_DIGITS);
    let (time, _) = stamp.split_at(TIME_DIGITS);
    let made = i64::from_str_radix(std::str::from_utf8(time).ok()?, 16).ok()?;
    Some((Wall(made), stamp, proof))
}

/// When a nonce of ours was made, and 128 bits that tell it from all others.
pub(super) fn name_of(nonce: &[u8]) -> Option<(Wall, u128)> {
    let (made, _, proof) = parts(nonce)?;
    Some((made, u128::from_str_radix(std::str::from_utf8(proof).ok()?, 16).ok()?))
}

/// The key never shows itself.
impl std::fmt::Debug for NonceIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NonceIssuer").field("lifetime_us", &self.lifetime_us).finish_non_exhaustive()
    }
}

/// Which counts of one nonce were used: each once, up to 64 behind the highest, since datagrams overtake each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayWindow {
    highest: u32,
    /// Bit `n` is set when `highest - n` was used.
    used: u64,
}

impl ReplayWindow {
    /// Takes a count; false when it is 0, was used before, or lies too far behind.
    pub fn accept(&mut self, count: u32) -> bool {
        if count == 0 {
            return false;
        }
        if count > self.highest {
            self.used = self.used.checked_shl(count - self.highest).unwrap_or(0) | 1;
            self.highest = count;
            return true;
        }
        let bit = 1_u64.checked_shl(self.highest - count).unwrap_or(0);
        let new = bit != 0 && self.used & bit == 0;
        self.used |= bit;
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Wall = Wall(1_800_000_000_000_000);

    fn at(seconds: i64) -> Wall {
        Wall(NOON.0 + seconds * 1_000_000)
    }

    #[test]
    fn a_nonce_lives_its_time_then_is_stale() {
        let issuer = NonceIssuer::new([7; 32], 60);
        let nonce = issuer.issue(b"r", NOON, 7);
        assert_eq!(issuer.judge(nonce.as_bytes(), b"r", at(60)), NonceVerdict::Fresh);
        assert_eq!(issuer.judge(nonce.as_bytes(), b"r", at(61)), NonceVerdict::Stale);
        assert_eq!(issuer.judge(nonce.as_bytes(), b"r", at(-60)), NonceVerdict::Fresh);
        assert_eq!(issuer.judge(nonce.as_bytes(), b"r", at(-61)), NonceVerdict::Foreign);
    }

    #[test]
    fn a_nonce_outlives_the_key_that_it_was_made_with() {
        let issuer = NonceIssuer::new([7; 32], 60);
        let end_of_key = Wall(NOON.0.div_euclid(KEY_PERIOD_US) * KEY_PERIOD_US + KEY_PERIOD_US - 1);
        let nonce = issuer.issue(b"r", end_of_key, 7);
        let next_key = end_of_key.plus(std::time::Duration::from_secs(1));
        assert_eq!(issuer.judge(nonce.as_bytes(), b"r", next_key), NonceVerdict::Fresh);
        assert_ne!(
            issuer.proof(b"0000000000000000", end_of_key, b"r"),
            issuer.proof(b"0000000000000000", next_key, b"r")
        );
    }

    #[test]
    fn another_key_realm_or_stamp_is_foreign() {
        let issuer = NonceIssuer::new([7; 32], 60);
        let nonce = issuer.issue(b"r", NOON, 7);
        assert_eq!(NonceIssuer::new([8; 32], 60).judge(nonce.as_bytes(), b"r", NOON), NonceVerdict::Foreign);
        assert_eq!(issuer.judge(nonce.as_bytes(), b"other", NOON), NonceVerdict::Foreign);
        for i in 0..nonce.len() {
            let mut forged = nonce.clone().into_bytes();
            forged[i] = if forged[i] == b'0' { b'1' } else { b'0' };
            assert_eq!(issuer.judge(&forged, b"r", NOON), NonceVerdict::Foreign, "digit {i}");
        }
        assert_eq!(issuer.judge(b"", b"r", NOON), NonceVerdict::Foreign);
    }

    #[test]
    fn a_count_is_good_once_even_out_of_order() {
        let mut window = ReplayWindow::default();
        assert!(!window.accept(0));
        assert!(window.accept(1) && window.accept(3) && window.accept(2));
        assert!(!window.accept(1) && !window.accept(2) && !window.accept(3));
        assert!(window.accept(66) && !window.accept(2) && window.accept(4));
        assert!(window.accept(u32::MAX) && !window.accept(u32::MAX) && !window.accept(67));
    }
}
