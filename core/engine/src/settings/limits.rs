//! Timers, probes and budgets, with the defaults an operator gets without saying anything.

use std::time::Duration;

/// OPTIONS probing of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeSettings {
    /// Between probes; `None` switches probing off.
    pub interval: Option<Duration>,
    /// Without an answer for this long, a probe has failed.
    pub timeout: Duration,
    /// Failures in a row until down.
    pub down_after: u16,
    /// Successes in a row until up again.
    pub up_after: u16,
}

impl Default for ProbeSettings {
    fn default() -> Self {
        Self {
            interval: Some(Duration::from_secs(10)),
            timeout: Duration::from_secs(3),
            down_after: 3,
            up_after: 2,
        }
    }
}

/// Protocol timers and intervals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerSettings {
    /// RFC 3261 T1.
    pub t1: Duration,
    /// RFC 3261 T2.
    pub t2: Duration,
    /// RFC 3261 T4.
    pub t4: Duration,
    /// RFC 3261 Timer C: an INVITE without a final answer.
    pub timer_c: Duration,
    /// No response within this: the next backend is tried (only before any 18x reached the caller).
    pub failover_after: Duration,
    /// Pings to phones behind NAT, to keep the binding in the NAT open.
    pub ping_interval: Duration,
    /// Bindings are pinged within this after a restart.
    pub ping_after_restart: Duration,
    /// Shortest registration granted or asked of a backend, seconds; shorter asks pass through unchanged to it.
    pub min_expires_secs: u32,
    /// Longest registration believed, seconds.
    pub max_expires_secs: u32,
    /// Recovered calls are probed on both legs within this.
    pub recovery_probe: Duration,
    /// `call.checkpointed` this often in long calls.
    pub checkpoint_interval: Duration,
    /// Both ends of an answered call are asked this often whether they are still there; `None` never.
    pub keepalive: Option<Duration>,
    /// The longest an answered call may last where its tenant does not say; `None` is unlimited.
    pub call_max: Option<Duration>,
}

impl Default for TimerSettings {
    fn default() -> Self {
        Self {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
            timer_c: Duration::from_secs(185),
            failover_after: Duration::from_secs(3),
            ping_interval: Duration::from_secs(25),
            ping_after_restart: Duration::from_secs(15),
            min_expires_secs: 60,
            max_expires_secs: 7200,
            recovery_probe: Duration::from_secs(10),
            checkpoint_interval: Duration::from_secs(900),
            keepalive: None,
            call_max: None,
        }
    }
}

/// Budget for events about unauthenticated sources (DESIGN.md §6 "Noise is bounded").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoiseBudget {
    /// One counted event per source and window.
    pub window: Duration,
    /// Sources told apart in a window; beyond it they merge into /24 or /48, then `*`.
    pub sources_max: usize,
    /// Events a window at most.
    pub events_max: usize,
}

impl Default for NoiseBudget {
    fn default() -> Self {
        Self { window: Duration::from_secs(10), sources_max: 1024, events_max: 64 }
    }
}
