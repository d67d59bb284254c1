//! What the network does to a datagram: delay, loss, doubling; differing delays reorder.

use signalbox_actors::Random;
use std::time::Duration;

/// The state of the network.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Shortest delay.
    pub delay_min: Duration,
    /// Longest delay.
    pub delay_max: Duration,
    /// Datagrams lost of 1,000.
    pub loss: u64,
    /// Datagrams that arrive twice, of 1,000.
    pub doubled: u64,
}

impl Weather {
    /// 1 ms each, nothing lost.
    pub const FINE: Self = Self {
        delay_min: Duration::from_millis(1),
        delay_max: Duration::from_millis(1),
        loss: 0,
        doubled: 0,
    };

    /// 1 to 40 ms, 3 % lost, 2 % doubled; neighbours overtake each other.
    pub const ROUGH: Self = Self {
        delay_min: Duration::from_millis(1),
        delay_max: Duration::from_millis(40),
        loss: 30,
        doubled: 20,
    };

    /// When copies of a datagram arrive, from now.
    pub(crate) fn arrivals(&self, random: &mut Random) -> Vec<Duration> {
        let copies = match () {
            () if random.chance(self.loss) => 0,
            () if random.chance(self.doubled) => 2,
            () => 1,
        };
        let span = self.delay_max.saturating_sub(self.delay_min).as_micros() as u64;
        (0..copies).map(|_| self.delay_min + Duration::from_micros(random.below(span + 1))).collect()
    }
}
