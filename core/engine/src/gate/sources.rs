//! The amplification rule: a UDP source that has not proven its address gets at most three times its own bytes.

use foldhash::HashMap;
use signalbox_base::Mono;
use std::net::SocketAddr;
use std::time::Duration;

/// Sources told apart in a window; the rest share one budget.
const SOURCES_MAX: usize = 65_536;
/// Bytes given for one byte received.
const FACTOR: u64 = 3;

/// Bytes from and to unproven UDP sources in the running window.
#[derive(Debug, Default)]
pub struct Sources {
    opened: Mono,
    each: HashMap<SocketAddr, Budget>,
    rest: Budget,
    crowded: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Budget {
    received: u64,
    sent: u64,
    /// It outlives its window until then.
    kept_until: Mono,
}

impl Budget {
    fn take(&mut self, bytes: u64) -> bool {
        let fits = self.sent.saturating_add(bytes) <= self.received.saturating_mul(FACTOR);
        if fits {
            self.sent += bytes;
        }
        fits
    }
}

impl Sources {
    /// Bytes came from a source that has proven nothing.
    pub fn received(&mut self, now: Mono, window: Duration, source: SocketAddr, bytes: usize) {
        if now.since(self.opened) >= window {
            self.opened = now;
            self.each.retain(|_, budget| budget.kept_until > now);
            self.rest = Budget::default();
            self.crowded = false;
        }
        let bytes = bytes as u64;
        if let Some(budget) = self.each.get_mut(&source) {
            budget.received += bytes;
        } else if self.each.len() < SOURCES_MAX {
            self.each.insert(source, Budget { received: bytes, ..Budget::default() });
        } else {
            self.crowded = true;
            self.rest.received += bytes;
        }
    }

    /// Answers to this source may be repeated until then: what it is given counts as long, whatever windows pass.
    pub fn keep(&mut self, source: SocketAddr, until: Mono) {
        if let Some(budget) = self.each.get_mut(&source) {
            budget.kept_until = until;
        }
    }

    /// Whether so many bytes may be sent there, and takes them from its budget. Sources never counted are free: what is
    /// sent to them was asked for by nobody of that name.
    pub fn may_send(&mut self, to: SocketAddr, bytes: usize) -> bool {
        if self.each.is_empty() {
            return true;
        }
        match self.each.get_mut(&to) {
            Some(budget) => budget.take(bytes as u64),
            None => true,
        }
    }

    /// Sources that have a budget of their own.
    #[must_use]
    pub fn held(&self) -> usize {
        self.each.len()
    }

    /// So many bytes go there whatever the budget says; what may follow is less by them.
    pub fn earned(&mut self, to: SocketAddr, bytes: usize) {
        if let Some(budget) = self.each.get_mut(&to) {
            budget.sent = budget.sent.saturating_add(bytes as u64);
        }
    }

    /// Whether a budget is kept for this source.
    #[must_use]
    pub fn counts(&self, source: SocketAddr) -> bool {
        !self.each.is_empty() && self.each.contains_key(&source)
    }

    /// Whether the source is counted among those that share one budget: it then gets no reply at all.
    #[must_use]
    pub fn is_crowded_out(&self, source: SocketAddr) -> bool {
        self.crowded && !self.each.contains_key(&source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    fn addr(n: u32) -> SocketAddr {
        SocketAddr::new(std::net::IpAddr::V4(n.into()), 5060)
    }

    #[test]
    fn given_an_unproven_source_then_it_gets_three_times_its_bytes_and_no_more() {
        let mut sources = Sources::default();
        sources.received(Mono(1), WINDOW, addr(1), 100);
        assert!(sources.may_send(addr(1), 300));
        assert!(!sources.may_send(addr(1), 1));
        sources.received(Mono(2), WINDOW, addr(1), 10);
        assert!(sources.may_send(addr(1), 30));
        assert!(sources.may_send(addr(2), 9_999), "whom nobody claimed to be is free");
    }

    #[test]
    fn given_a_new_window_then_the_count_starts_anew() {
        let mut sources = Sources::default();
        sources.received(Mono(1), WINDOW, addr(1), 1);
        assert!(!sources.may_send(addr(1), 100));
        sources.received(Mono(1).plus(WINDOW), WINDOW, addr(2), 1);
        assert!(!sources.may_send(addr(2), 4));
    }

    #[test]
    fn given_a_source_whose_answer_may_be_repeated_then_no_window_frees_it() {
        let mut sources = Sources::default();
        sources.received(Mono(1), WINDOW, addr(1), 100);
        sources.keep(addr(1), Mono(1).plus(WINDOW * 3));
        assert!(sources.may_send(addr(1), 300));
        for window in 1..3 {
            sources.received(Mono(1).plus(WINDOW * window), WINDOW, addr(2), 1);
            assert!(!sources.may_send(addr(1), 1), "window {window}");
        }
        sources.received(Mono(1).plus(WINDOW * 3), WINDOW, addr(2), 1);
        assert!(!sources.counts(addr(1)), "it is forgotten in the end");
    }

    #[test]
    fn given_more_sources_than_are_told_apart_then_memory_is_bounded_and_the_rest_get_nothing() {
        let mut sources = Sources::default();
        for n in 0..100_000 {
            sources.received(Mono(1), WINDOW, addr(n), 100);
        }
        assert_eq!(sources.each.len(), SOURCES_MAX);
        assert!(sources.is_crowded_out(addr(99_999)));
        assert!(!sources.is_crowded_out(addr(1)));
    }
}
