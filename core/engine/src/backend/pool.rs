//! Who is next: the backends of a tenant in the order to try them.

use super::sites::flows_to;
use crate::settings::{ContactMode, Hide};
use crate::state::{Aor, backend_key};
use crate::tenancy::PeerRef;
use crate::turn::Turn;
use signalbox_base::{Flow, TenantId, Text, fnv1a};
use signalbox_schemas::words::BackendState;
use smallvec::SmallVec;
use std::cmp::Ordering;

/// A backend that may be tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Its place in the settings.
    pub peer: PeerRef,
    /// Its name.
    pub name: Text,
    /// Its priority; lower is first.
    pub priority: u16,
    /// Its weight among equals.
    pub weight: u16,
    /// Whether it is first because the AoR is already there.
    pub sticky: bool,
    /// The flow to it: to its address, or to one of the places of its name.
    pub flow: Flow,
    /// Whether the same backend is a candidate before, by another place.
    pub again: bool,
    /// How a registration names the phone to it.
    pub contact: ContactMode,
    /// Hiding of identifiers towards it.
    pub hide: Hide,
    order: f64,
}

impl Candidate {
    /// The edge itself, where it is the registrar: no backend is asked, and none is named.
    pub(crate) fn nobody(flow: Flow) -> Self {
        Self {
            peer: PeerRef::NOBODY,
            name: Text::default(),
            priority: 0,
            weight: 0,
            sticky: false,
            flow,
            again: false,
            contact: ContactMode::default(),
            hide: Hide::default(),
            order: 0.0,
        }
    }

    /// The same backend after a reload, when places mean others; `false` when it is configured no more. Its answer may still
    /// come, but tells of nobody's health.
    pub(crate) fn find_again(&mut self, turn: &Turn<'_>, tenant: &str) -> bool {
        let found = turn.directory.find(turn.settings, tenant, &self.name);
        self.peer = found.unwrap_or(PeerRef::NOBODY);
        found.is_some()
    }
}

/// Candidates in order.
pub type Candidates = SmallVec<[Candidate; 4]>;

/// Backends for a call or request of an AoR (`tenant/user@domain`), first to try first: where it is registered, then by
/// priority, then by weight. Without an AoR, weights draw by chance. Down, draining and disabled ones are left out.
#[must_use]
pub fn candidates(turn: &mut Turn<'_>, tenant: &TenantId, aor: Option<&str>) -> Candidates {
    let seed = turn.entropy.next_u64();
    let at = aor.and_then(|name| turn.state.registrations().aor(name)).map(|a| a.backend.clone());
    let mut found = listed(turn, tenant, aor, seed);
    if let Some(name) = at {
        put_first(&mut found, |c| c.name == name);
    }
    found
}

/// Backends for a REGISTER: home first, if it is among the best that are up; then where the AoR is now; then by priority
/// and weight. Weights apply to AoRs that have no home yet: each AoR always draws the same order.
#[must_use]
pub(crate) fn registrars(turn: &Turn<'_>, tenant: &TenantId, name: &str, aor: Option<&Aor>) -> Candidates {
    let mut found = listed(turn, tenant, Some(name), 0);
    let Some(aor) = aor else { return found };
    let best = found.first().map_or(u16::MAX, |c| c.priority);
    for wanted in [&aor.backend, &aor.home] {
        put_first(&mut found, |c| c.name == *wanted && c.priority == best);
    }
    found
}

/// The backend that an AoR is at, with all its places, comes before the others.
fn put_first(found: &mut Candidates, is_wanted: impl Fn(&Candidate) -> bool) {
    let Some(place) = found.iter().position(&is_wanted) else { return };
    let places = found[place..].iter().take_while(|c| is_wanted(c)).count();
    found[..place + places].rotate_right(places);
    found[0].sticky = true;
}

fn listed(turn: &Turn<'_>, tenant: &TenantId, aor: Option<&str>, seed: u64) -> Candidates {
    let Some(place) = turn.directory.tenant_place(tenant.as_str()) else { return Candidates::new() };
    let settings = turn.settings;
    let mut found: Candidates = (0..settings.tenants[usize::from(place)].backends.len())
        .filter_map(|backend| {
            let peer = PeerRef { tenant: place, backend: u16::try_from(backend).ok()? };
            at_backend(turn, peer, aor, seed, None)
        })
        .flatten()
        .collect();
    found.sort_by(by_rank);
    found
}

fn by_rank(a: &Candidate, b: &Candidate) -> Ordering {
    a.priority.cmp(&b.priority).then(a.order.total_cmp(&b.order))
}

/// A backend once for each of its places, with its own priority and weight or those that a group gives it.
fn at_backend(
    turn: &Turn<'_>,
    peer: PeerRef,
    aor: Option<&str>,
    seed: u64,
    rank: Option<(u16, u16)>,
) -> Option<Candidates> {
    if !turn.backends.accepts(peer) || is_down_elsewhere(turn, peer) {
        return None;
    }
    let found = turn.directory.peer(turn.settings, peer)?.backend;
    let (priority, weight) = rank.unwrap_or((found.priority, found.weight));
    let order = order(draw(aor.unwrap_or(""), &found.name, seed), weight);
    let flows = flows_to(turn, peer, aor, seed).into_iter().enumerate();
    let candidates = flows.map(|(place, flow)| Candidate {
        peer,
        name: found.name.clone(),
        priority,
        weight,
        sticky: false,
        flow,
        again: place > 0,
        contact: found.contact,
        hide: found.hide,
        order,
    });
    Some(candidates.collect())
}

/// A peer that a group wants tried, and when.
pub(crate) struct Wanted {
    pub(crate) peer: PeerRef,
    pub(crate) priority: u16,
    pub(crate) weight: u16,
    /// It failed of late: all others come first.
    pub(crate) last: bool,
}

/// Members of a group that are up, first to be tried first. The same key always draws the same order; without one, chance does.
pub(crate) fn in_group(turn: &mut Turn<'_>, members: &[Wanted], key: Option<&str>) -> Candidates {
    let seed = if key.is_some() { 0 } else { turn.entropy.next_u64() };
    let each = members.iter().filter_map(|wanted| {
        let places = at_backend(turn, wanted.peer, key, seed, Some((wanted.priority, wanted.weight)))?;
        Some(places.into_iter().map(|place| (wanted.last, place)))
    });
    let mut found: SmallVec<[(bool, Candidate); 4]> = each.flatten().collect();
    found.sort_by(|(late, a), (later, b)| late.cmp(later).then(by_rank(a, b)));
    found.into_iter().map(|(_, place)| place).collect()
}

/// Weighted rendezvous: the share of firsts is proportional to the weight, and an AoR's order never depends on which others
/// are up. Weight 0 comes behind all others.
fn order(draw: f64, weight: u16) -> f64 {
    if weight == 0 { f64::INFINITY } else { -draw.ln() / f64::from(weight) }
}

/// Whether the other edges find a backend down that this one has not judged yet. Its own probes have the last word.
fn is_down_elsewhere(turn: &Turn<'_>, peer: PeerRef) -> bool {
    turn.backends.state(peer) == BackendState::Unknown
        && turn.directory.peer(turn.settings, peer).is_some_and(|found| {
            let is_probed = found.backend.probe.interval.is_some();
            is_probed && turn.remote.is_down(&backend_key(found.owner(), &found.backend.name))
        })
}

/// The flow to a backend: from its network's listener to its address, when it has one.
#[must_use]
pub(crate) fn flow_to(turn: &Turn<'_>, peer: PeerRef) -> Option<Flow> {
    flows_to(turn, peer, Some(""), 0).first().copied()
}

/// A number above 0 and up to 1, the same on every edge and in every run.
pub(super) fn draw(aor: &str, backend: &str, seed: u64) -> f64 {
    let mut hash = fnv1a(seed, aor.bytes().chain([0]).chain(backend.bytes()));
    // The finalizer of SplitMix64: FNV alone leaves the high bits of short names alike.
    hash = (hash ^ hash >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    hash = (hash ^ hash >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    hash ^= hash >> 31;
    ((hash >> 11) as f64 + 1.0) / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_weights_then_aors_share_in_proportion_and_always_draw_the_same() {
        let mut heavy = 0;
        for n in 0..10_000 {
            let aor = format!("acme/{n}@acme.test");
            let a = -draw(&aor, "pbx-1", 0).ln() / 3.0;
            let b = -draw(&aor, "pbx-2", 0).ln() / 1.0;
            heavy += usize::from(a < b);
            assert_eq!(draw(&aor, "pbx-1", 0).to_bits(), draw(&aor, "pbx-1", 0).to_bits());
        }
        assert!((7_300..7_700).contains(&heavy), "{heavy} of 10000 for three quarters of the weight");
    }
}
