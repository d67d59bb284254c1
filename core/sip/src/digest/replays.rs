//! Which counts of which nonces were used, in bounded memory (RFC 7616 §3.4, `nc`).

use super::nonce::{ReplayWindow, name_of};
use foldhash::HashMap;
use signalbox_base::Wall;

/// Nonces of one generation at most; two are held.
const NONCES_MAX: usize = 65_536;

/// The counts used of each nonce that somebody proved to know a password with: strangers add nothing. What is forgotten for
/// want of room or with a restart is not taken for new: a nonce of before then is refused, which costs its owner one more
/// challenge.
#[derive(Debug)]
pub struct Replays {
    newer: HashMap<u128, ReplayWindow>,
    older: HashMap<u128, ReplayWindow>,
    /// When `newer` was begun.
    begun: Wall,
    /// Nonces made until then are good only where they are remembered.
    forgotten: Wall,
    lifetime_us: i64,
}

impl Replays {
    /// Nothing is remembered of what was before `now`; nonces live for so long.
    #[must_use]
    pub fn new(now: Wall, lifetime_us: i64) -> Self {
        let (newer, older) = (HashMap::default(), HashMap::default());
        Self { newer, older, begun: now, forgotten: Wall(now.0 - 1), lifetime_us }
    }

    /// Takes a count of a nonce that was found fresh. False when it was used, or may have been.
    pub fn accept(&mut self, nonce: &[u8], count: u32, now: Wall) -> bool {
        let Some((made, name)) = name_of(nonce) else { return false };
        let known = self.newer.get(&name).or_else(|| self.older.get(&name)).copied();
        if known.is_none() && made <= self.forgotten {
            return false;
        }
        let mut window = known.unwrap_or_default();
        if !window.accept(count) {
            return false;
        }
        // A generation that is as old as a nonce gets holds nothing that would still be fresh in the one before.
        if self.newer.len() >= NONCES_MAX || now.0 - self.begun.0 > self.lifetime_us {
            self.forgotten = self.begun;
            self.begun = now;
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(name, window);
        true
    }

    /// Nonces remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.newer.len() + self.older.len()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{NonceIssuer, NonceVerdict};

    const LIFETIME_S: u32 = 300;

    fn at(us: i64) -> Wall {
        Wall(1_800_000_000_000_000 + us)
    }

    #[test]
    fn a_count_is_good_once_and_whatever_was_before_a_restart_not_at_all() {
        let issuer = NonceIssuer::new([7; 32], LIFETIME_S);
        let mut replays = Replays::new(at(0), issuer.lifetime_us());
        let (before, now) = (issuer.issue(b"r", at(-1), 7), issuer.issue(b"r", at(0), 7));
        assert!(!replays.accept(before.as_bytes(), 1, at(5)));
        assert!(replays.accept(now.as_bytes(), 1, at(5)));
        assert!(!replays.accept(now.as_bytes(), 1, at(6)));
        assert!(replays.accept(now.as_bytes(), 2, at(7)));
        assert!(!replays.accept(b"no nonce", 1, at(8)));
    }

    #[test]
    fn given_more_nonces_than_there_is_room_for_then_memory_is_bounded_and_no_count_is_good_twice() {
        let issuer = NonceIssuer::new([7; 32], LIFETIME_S);
        let mut replays = Replays::new(at(0), issuer.lifetime_us());
        let first = issuer.issue(b"r", at(1), 7);
        assert!(replays.accept(first.as_bytes(), 1, at(1)));
        for n in 2..200_000 {
            let nonce = format!("{:016x}{:016x}{n:032x}", at(n).0, 7);
            assert!(replays.accept(nonce.as_bytes(), 1, at(n)), "{n}");
            assert!(replays.len() <= 2 * NONCES_MAX);
        }
        assert_eq!(issuer.judge(first.as_bytes(), b"r", at(200_000)), NonceVerdict::Fresh);
        assert!(!replays.accept(first.as_bytes(), 1, at(200_000)), "it is forgotten, and not new");
        let later = at(200_000 + 2 * issuer.lifetime_us());
        let fresh = issuer.issue(b"r", later, 7);
        assert!(replays.accept(fresh.as_bytes(), 1, later));
        assert!(!replays.accept(fresh.as_bytes(), 1, later));
    }
}
