//! What a process has cost so far: CPU of all its threads and children, kernel included, and its memory.

use std::fs;
use std::time::Duration;

/// A process and its children, as of when it was looked at.
fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut at = 0;
    while at < all.len() {
        let children =
            fs::read_to_string(format!("/proc/{0}/task/{0}/children", all[at])).unwrap_or_default();
        all.extend(children.split_whitespace().filter_map(|p| p.parse::<u32>().ok()));
        at += 1;
    }
    all
}

/// CPU time by the scheduler's own nanoseconds.
pub(crate) fn used(pid: u32) -> Duration {
    let threads = family(pid).into_iter().flat_map(|p| {
        let tasks = fs::read_dir(format!("/proc/{p}/task")).into_iter().flatten();
        tasks.filter_map(|t| fs::read_to_string(t.ok()?.path().join("schedstat")).ok())
    });
    let nanos = threads.filter_map(|s| s.split_whitespace().next()?.parse::<u64>().ok()).sum();
    Duration::from_nanos(nanos)
}

/// Resident memory in bytes, shared pages counted once per process (Kamailio's shared memory: its proportional share).
pub(crate) fn resident(pid: u32) -> u64 {
    let pss = |p: u32| {
        let rollup = fs::read_to_string(format!("/proc/{p}/smaps_rollup")).unwrap_or_default();
        let line = rollup.lines().find(|l| l.starts_with("Pss:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    family(pid).into_iter().filter_map(pss).sum::<u64>() * 1024
}
