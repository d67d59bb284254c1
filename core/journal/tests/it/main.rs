//! The journal under crashes, damage, retention, readers and other processes. `SIGNALBOX_EFFORT` scales the counts.

#![expect(clippy::unwrap_used, reason = "a story that cannot go on fails by panicking, helpers too")]

mod backup;
mod crash;
mod damage;
mod faults;
mod keeping;
mod opening;
mod processes;
mod reading;
mod sinks;
mod support;
