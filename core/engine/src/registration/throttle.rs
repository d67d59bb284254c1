//! Refreshes that no backend need hear of: the phone refreshes each minute to keep its NAT open, the backend hears each hour.

use super::admit::Place;
use super::binding::{Asked, Wanted, path_of};
use super::register::{Pending, Registrar};
use crate::backend::Candidate;
use crate::state::{Binding, BindingKey};
use crate::turn::Turn;
use signalbox_base::{Flow, Text, Wall};
use signalbox_sip::header::NameAddr;
use signalbox_sip::{HeaderName, Message};
use smallvec::SmallVec;
use std::time::Duration;

/// A backend's registration outlasts the phone's next refresh by this, so that that one can still be passed on and answered
/// (64·T1).
const MARGIN: Duration = Duration::from_secs(32);

/// What a backend granted for a binding.
#[derive(Clone, Debug)]
pub(super) struct Upstream {
    /// Until when.
    until: Wall,
    /// Who.
    backend: Text,
    /// How often that one had come back from an outage: it may have forgotten its registrations at the next.
    restarts: u32,
}

/// Seconds to ask a backend for in place of what the phone asks; `None` where it hears what the phone said.
pub(super) fn stretched(turn: &Turn<'_>, domain: &str, wanted: &Wanted) -> Option<u32> {
    let Wanted::Each(each) = wanted else { return None };
    let span = turn.directory.policy(turn.settings, domain)?.refresh_upstream?;
    let span = u32::try_from(span.as_secs()).unwrap_or(u32::MAX);
    let longest = each.iter().map(|asked| asked.expires).max()?;
    each.iter().all(|asked| asked.expires > 0).then_some(span.max(longest))
}

impl Registrar {
    /// What a REGISTER is granted here, per contact, without asking the backend: each is a refresh of a binding that stays as
    /// it is, over its flow, from the same phone, and the backend's own registration outlasts the next one.
    pub(super) fn covered(
        &self,
        turn: &Turn<'_>,
        flow: &Flow,
        request: &Message<&[u8]>,
        wanted: &Wanted,
        at: &Candidate,
    ) -> Option<SmallVec<[u32; 1]>> {
        let Wanted::Each(each) = wanted else { return None };
        let restarts = turn.backends.restarts(at.peer);
        let max = turn.settings.timers.max_expires_secs;
        let one = |(asked, value): (&Asked, &[u8])| {
            let (aor, binding) = turn.state.registrations().binding(asked.key)?;
            let upstream = self.upstream.get(&asked.key)?;
            let same = aor.backend == at.name && upstream.backend == at.name && upstream.restarts == restarts;
            let granted = asked.expires.min(max);
            let outlasts = turn.now.wall.plus(Duration::from_secs(u64::from(granted)) + MARGIN);
            let good = same
                && outlasts <= upstream.until
                && turn.net.is_reachable(asked.key)
                && is_refresh(binding, flow, request, value);
            good.then_some(granted)
        };
        each.iter().zip(request.values(HeaderName::Contact)).map(one).collect()
    }

    /// Remembers what the backend granted, and grants the phone what it asked for within that.
    pub(super) fn shared_out(&mut self, turn: &Turn<'_>, pending: &Pending, granted: &mut [u32]) {
        let Wanted::Each(each) = &pending.wanted else { return };
        let max = turn.settings.timers.max_expires_secs;
        for (asked, secs) in each.iter().zip(granted) {
            let upstream = Upstream {
                until: turn.now.wall.plus(Duration::from_secs(u64::from(*secs))),
                backend: pending.at.name.clone(),
                restarts: turn.backends.restarts(pending.at.peer),
            };
            if *secs > 0 {
                self.upstream.insert(asked.key, upstream);
            }
            *secs = (*secs).min(asked.expires).min(max);
        }
    }

    /// Whether a backend still has a registration of a binding that ends here.
    pub(super) fn is_known_upstream(&self, turn: &Turn<'_>, key: BindingKey) -> bool {
        self.upstream.get(&key).is_some_and(|upstream| turn.now.wall < upstream.until)
    }
}

/// Whether a REGISTER says nothing new of a binding. What it is refused for besides (CSeq, RFC 3261 §10.3) is judged before.
fn is_refresh(binding: &Binding, flow: &Flow, request: &Message<&[u8]>, value: &[u8]) -> bool {
    let Ok(contact) = NameAddr::parse(value) else { return false };
    let same_phone = binding.call_id.as_bytes() == request.call_id();
    same_phone
        && Place::of(binding, request) == Place::Behind
        && binding.flow == *flow
        && binding.contact.as_bytes() == contact.uri
        && binding.q == contact.q()
        && binding.path == path_of(request)
}
