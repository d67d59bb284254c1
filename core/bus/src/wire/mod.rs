//! Events as brokers carry them: names, keys, headers and bodies of the public contract (EVENTS.md), both ways; pure.

use crate::event::Delivered;

/// What an event says, for comparing a broker's copy with ours: time, type, subject, tenant and data.
#[must_use]
pub fn digest(event: &Delivered) -> u64 {
    use std::hash::BuildHasher;
    foldhash::fast::FixedState::with_seed(0).hash_one((
        event.time.0,
        &*event.kind,
        &*event.tenant,
        &*event.subject,
        &event.data[..],
    ))
}
