//! Which requests under way wait for whom, by address: an ICMP error then costs what it concerns, however much waits for
//! others.

use foldhash::HashMap;
use std::net::SocketAddr;

/// Entries kept before those that are over are looked for.
const ENTRIES_MIN: usize = 1024;

/// Numbers of requests by the address that was asked. What is over is dropped in passing, at a constant cost per request.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    each: HashMap<SocketAddr, Vec<u64>>,
    entries: usize,
    sweep_at: usize,
}

impl Asked {
    /// A request goes there; `waits` says of a number whether it still waits for an address.
    pub(crate) fn add(&mut self, remote: SocketAddr, number: u64, waits: impl Fn(u64, SocketAddr) -> bool) {
        if self.entries >= self.sweep_at.max(ENTRIES_MIN) {
            self.each.retain(|remote, numbers| {
                numbers.retain(|number| waits(*number, *remote));
                !numbers.is_empty()
            });
            self.entries = self.each.values().map(Vec::len).sum();
            self.sweep_at = self.entries * 2;
        }
        self.each.entry(remote).or_default().push(number);
        self.entries += 1;
    }

    /// All that were sent there since; some may be over.
    pub(crate) fn take(&mut self, remote: SocketAddr) -> Vec<u64> {
        let numbers = self.each.remove(&remote).unwrap_or_default();
        self.entries -= numbers.len();
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_million_requests_that_end_then_memory_is_bounded_and_those_that_wait_are_found() {
        let address = |n: u64| SocketAddr::from(([192, 0, 2, (n % 200) as u8], (n % 50_000) as u16));
        let mut asked = Asked::default();
        let waits = |number: u64, _| number < 10;
        for number in 0..1_000_000 {
            asked.add(address(number), number, waits);
            assert!(asked.entries <= ENTRIES_MIN);
        }
        assert!(asked.each.len() <= ENTRIES_MIN);
        for number in 0..10 {
            assert!(asked.take(address(number)).contains(&number));
        }
        assert!(asked.take(address(3)).is_empty(), "what was taken is gone");
    }
}
