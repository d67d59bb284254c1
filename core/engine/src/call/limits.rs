//! Limits of new calls: how many at a time, by the fold, and how many a second, by what this process saw.

use super::leg::Peer;
use crate::settings::{MemberName, Numbering, PeerLimits, Template, TenantSettings};
use crate::state::calls::Counted;
use crate::tenancy::Origin;
use crate::turn::Turn;
use signalbox_base::{Mono, Text};
use signalbox_sip::{Message, Uri};
use std::collections::BTreeMap;
use std::time::Duration;

/// Seconds that a caller is asked to wait when a limit is reached.
pub(crate) const RETRY_AFTER_SECS: u32 = 5;

/// New calls a second: a token bucket of one second's depth.
#[derive(Clone, Copy, Debug)]
struct Rate {
    credit_ns: u64,
    at: Mono,
}

impl Rate {
    const SECOND_NS: u64 = 1_000_000_000;

    fn full(now: Mono) -> Self {
        Self { credit_ns: Self::SECOND_NS, at: now }
    }

    /// Takes one call's worth, if there is that much.
    fn take(&mut self, per_second: u32, now: Mono) -> bool {
        let elapsed = u64::try_from(now.since(self.at).as_nanos()).unwrap_or(u64::MAX);
        self.credit_ns = self.credit_ns.saturating_add(elapsed).min(Self::SECOND_NS);
        self.at = now;
        let Some(cost) = Self::SECOND_NS.checked_div(u64::from(per_second)) else { return false };
        let fits = self.credit_ns >= cost;
        self.credit_ns -= if fits { cost } else { 0 };
        fits
    }
}

/// What is remembered to spread calls: of what the configuration names only, so that it is bounded.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    rates: BTreeMap<Text, Rate>,
    cooling: BTreeMap<Counted, Mono>,
}

impl Pace {
    /// Whether one more call fits into a rate; it is counted then. `name` is `tenant`, or `kind/name` of what the rate is of:
    /// made only where there is one.
    pub(crate) fn take(&mut self, per_second: Option<u32>, name: impl FnOnce() -> Text, now: Mono) -> bool {
        let Some(per_second) = per_second else { return true };
        self.rates.entry(name()).or_insert_with(|| Rate::full(now)).take(per_second, now)
    }

    /// A peer failed: for a while others come first.
    pub(crate) fn cool(&mut self, peer: Counted, cool_down: Duration, now: Mono) {
        if !cool_down.is_zero() {
            self.cooling.insert(peer, now.plus(cool_down));
        }
    }

    /// Whether others come first.
    pub(crate) fn is_cooling(&self, peer: &Counted, now: Mono) -> bool {
        self.cooling.get(peer).is_some_and(|until| *until > now)
    }
}

/// Why a call may not begin, and what its caller is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<u32>,
    /// The limit as the configuration names it, and the tenant or trunk that has it.
    pub(crate) limit: Text,
}

impl Refused {
    /// Another try may be better.
    fn later(limit: &str, whose: &str) -> Self {
        Self { retry_after: Some(RETRY_AFTER_SECS), ..Self::now(503, limit, whose) }
    }

    fn now(status: u16, limit: &str, whose: &str) -> Self {
        Self { status, retry_after: None, limit: Text::from(format!("{limit} of {whose}")) }
    }
}

/// A tenant, trunk or user has as many calls as it may.
pub(crate) fn refused(turn: &mut Turn<'_>, origin: &Origin, request: &Message<&[u8]>) -> Option<Refused> {
    let settings = turn.settings;
    let whose = origin.tenant.as_str();
    let Some(tenant) = settings.tenant(&origin.tenant) else { return Some(Refused::later("calls", whose)) };
    let limits = tenant.limits;
    let calls = turn.state.calls();
    if limits.calls.is_some_and(|max| calls.active_of(&origin.tenant) >= max) {
        return Some(Refused::later("calls", whose));
    }
    if let Some(peer) = origin.peer().and_then(|at| turn.directory.peer(settings, at))
        && let Some(trunk) = peer.trunk
    {
        let who = Counted::Trunk(trunk.peer.name.clone());
        if is_full(turn, trunk.limits.calls, &who) {
            return Some(Refused::later("calls", &trunk.peer.name));
        }
    }
    if let Some(refused) = refused_by_person(turn, tenant, origin, request) {
        return Some(refused);
    }
    too_fast(turn, origin)
}

/// The trunk that it comes from, or its tenant, has as many as it takes this second; else it is counted.
pub(super) fn too_fast(turn: &mut Turn<'_>, origin: &Origin) -> Option<Refused> {
    const LIMIT: &str = "calls_per_second";
    let (settings, now) = (turn.settings, turn.now.mono);
    if let Some(trunk) = origin.peer().and_then(|at| turn.directory.peer(settings, at)?.trunk) {
        let name = || Text::from(format!("trunk/{}", trunk.peer.name));
        if !turn.net.pace.take(trunk.limits.calls_per_second, name, now) {
            return Some(Refused::later(LIMIT, &trunk.peer.name));
        }
    }
    let per_second = settings.tenant(&origin.tenant).and_then(|tenant| tenant.limits.calls_per_second);
    let fits = turn.net.pace.take(per_second, || origin.tenant.text().clone(), now);
    (!fits).then(|| Refused::later(LIMIT, origin.tenant.as_str()))
}

/// The caller has as many calls as a user may (403: another try would be no better), or the number that it calls has (486).
fn refused_by_person(
    turn: &Turn<'_>,
    tenant: &TenantSettings,
    origin: &Origin,
    request: &Message<&[u8]>,
) -> Option<Refused> {
    let limits = tenant.limits;
    let name = tenant.name.text();
    if limits.calls_per_user.is_some()
        && let Some(aor) = crate::facts::call::user_at(turn, origin)
        && is_full(turn, limits.calls_per_user, &Counted::User(name.clone(), aor))
    {
        return Some(Refused::now(403, "calls_per_user", name));
    }
    limits.calls_per_number?;
    let dialled = crate::facts::call::user_or_whole(request.request_uri()?);
    // As it is counted: a number is one, however it is written.
    let number = crate::routing::e164_of(&dialled, Some(&tenant.numbering)).unwrap_or(dialled);
    is_full(turn, limits.calls_per_number, &Counted::Number(name.clone(), number))
        .then(|| Refused::now(486, "calls_per_number", name))
}

pub(crate) fn is_full(turn: &Turn<'_>, max: Option<u32>, who: &Counted) -> bool {
    max.is_some_and(|max| turn.state.calls().active_at(who) >= max)
}

/// Whether one more call may go to some peers together: those of a group, or one of them.
pub(crate) fn admits<'a>(
    turn: &mut Turn<'_>,
    name: impl FnOnce() -> Text,
    limits: PeerLimits,
    members: impl Iterator<Item = &'a MemberName>,
) -> bool {
    let now = turn.now.mono;
    let full = limits.calls.is_some_and(|max| {
        let active = |member| turn.state.calls().active_at(&counted(member));
        members.map(active).sum::<u32>() >= max
    });
    !full && turn.net.pace.take(limits.calls_per_second, name, now)
}

/// What a group's member counts as.
pub(crate) fn counted(member: &MemberName) -> Counted {
    match member {
        MemberName::Backend(tenant, name) => Counted::Backend(tenant.text().clone(), name.clone()),
        MemberName::Trunk(name) => Counted::Trunk(name.clone()),
    }
}

/// What a leg's peer counts as.
pub(crate) fn counted_peer(tenant: &Text, peer: &Peer) -> Counted {
    match peer {
        Peer::Endpoint { name } => Counted::User(tenant.clone(), name.clone()),
        Peer::Backend { name } => Counted::Backend(tenant.clone(), name.clone()),
        Peer::Trunk { name } => Counted::Trunk(name.clone()),
    }
}

/// Whether a call is for help: it passes all limits (`urn:service:sos`, RFC 5031, and the tenant's numbers).
pub(crate) fn is_emergency(numbering: Option<&Numbering>, request: &Message<&[u8]>) -> bool {
    let Some(uri) = request.request_uri() else { return false };
    let numbers = numbering.map_or(&[][..], |numbering| &numbering.emergency);
    let number = || crate::facts::call::user_or_whole(uri);
    Uri::parse(uri).is_ok_and(|uri| uri.is_emergency()) || !numbers.is_empty() && numbers.contains(&number())
}

/// Whether the tenant refuses calls of whoever calls, as the trunk writes it or as its template says.
pub(crate) fn is_blocked(
    numbering: &Numbering,
    template: Option<&Template>,
    request: &Message<&[u8]>,
) -> bool {
    if numbering.blocked_callers.is_empty() {
        return false;
    }
    let Ok(from) = request.from() else { return false };
    let caller = crate::facts::call::user_or_whole(from.uri);
    let anonymous = Uri::parse(from.uri).is_ok_and(|uri| match uri {
        Uri::Sip(uri) => uri.user.is_none() || uri.host_is(b"anonymous.invalid"),
        _ => false,
    });
    if anonymous {
        return numbering.blocks("anonymous");
    }
    let by_template = template.map(|template| template.caller.apply(&caller, Some(numbering)));
    numbering.blocks(&caller) || by_template.is_some_and(|caller| numbering.blocks(&caller))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_ten_calls_a_second_when_more_come_at_once_then_the_eleventh_waits_for_its_turn() {
        let now = Mono(0);
        let mut rate = Rate::full(now);
        assert_eq!((0..20).filter(|_| rate.take(10, now)).count(), 10);
        assert!(!rate.take(10, now.plus(Duration::from_millis(99))));
        assert!(rate.take(10, now.plus(Duration::from_millis(101))));
        assert!(!Rate::full(now).take(0, now));
    }

    #[test]
    fn given_a_peer_that_failed_when_time_passes_then_it_is_as_good_as_others_again() {
        let (mut pace, peer) = (Pace::default(), Counted::Trunk(Text::new("carrier")));
        pace.cool(peer.clone(), Duration::from_secs(30), Mono(0));
        assert!(pace.is_cooling(&peer, Mono(0)));
        assert!(!pace.is_cooling(&peer, Mono(0).plus(Duration::from_secs(30))));
    }
}
