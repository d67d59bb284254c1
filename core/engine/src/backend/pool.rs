//! Who is next: the backends of a tenant in the order to try them.

use super::Backends;
use crate::settings::{ContactMode, Hide};
use crate::state::{Aor, backend_key};
use crate::tenancy::{Directory, PeerRef};
use crate::turn::Turn;
use signalbox_base::{Flow, TenantId, Text, fnv1a};
use signalbox_schemas::words::BackendState;
use smallvec::SmallVec;

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
    /// The flow to it.
    pub flow: Flow,
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
    if let Some(place) = at.and_then(|name| found.iter().position(|c| c.name == name)) {
        found[..=place].rotate_right(1);
        found[0].sticky = true;
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
        let place = found.iter().position(|c| c.name == *wanted && c.priority == best);
        if let Some(place) = place {
            found[..=place].rotate_right(1);
            found[0].sticky = true;
        }
    }
    found
}

fn listed(turn: &Turn<'_>, tenant: &TenantId, aor: Option<&str>, seed: u64) -> Candidates {
    let Some(place) = turn.directory.tenant_place(tenant.as_str()) else { return Candidates::new() };
    let settings = turn.settings;
    let mut found: Candidates = (0..settings.tenants[usize::from(place)].backends.len())
        .filter_map(|backend| {
            let peer = PeerRef { tenant: place, backend: u16::try_from(backend).ok()? };
            candidate(turn, turn.directory, turn.backends, peer, aor, seed)
        })
        .collect();
    found.sort_by(|a, b| a.priority.cmp(&b.priority).then(a.order.total_cmp(&b.order)));
    found
}

fn candidate(
    turn: &Turn<'_>,
    directory: &Directory,
    backends: &Backends,
    peer: PeerRef,
    aor: Option<&str>,
    seed: u64,
) -> Option<Candidate> {
    if !backends.accepts(peer) || is_down_elsewhere(turn, peer) {
        return None;
    }
    let found = directory.peer(turn.settings, peer)?.backend;
    let flow = flow_to(turn, peer)?;
    let draw = draw(aor.unwrap_or(""), &found.name, seed);
    // Weighted rendezvous: the share of firsts is proportional to the weight, and an AoR's order never depends on
    // which others are up. Weight 0 comes behind all others.
    let order = if found.weight == 0 { f64::INFINITY } else { -draw.ln() / f64::from(found.weight) };
    Some(Candidate {
        peer,
        name: found.name.clone(),
        priority: found.priority,
        weight: found.weight,
        sticky: false,
        flow,
        contact: found.contact,
        hide: found.hide,
        order,
    })
}

/// Whether the other edges find a backend down that this one has not judged yet. Its own probes have the last word.
fn is_down_elsewhere(turn: &Turn<'_>, peer: PeerRef) -> bool {
    turn.backends.state(peer) == BackendState::Unknown
        && turn.directory.peer(turn.settings, peer).is_some_and(|found| {
            let is_probed = found.backend.probe.interval.is_some();
            is_probed && turn.remote.is_down(&backend_key(found.tenant.name.as_str(), &found.backend.name))
        })
}

/// The flow to a backend: from its network's listener to its address, when it has one.
#[must_use]
pub(crate) fn flow_to(turn: &Turn<'_>, peer: PeerRef) -> Option<Flow> {
    let found = turn.directory.peer(turn.settings, peer)?.backend;
    let remote = turn.directory.address(turn.settings, peer)?;
    let (listener, socket) = turn.listener(found.network, found.address.transport)?;
    Some(Flow { listener, transport: found.address.transport, local: socket.address, remote, conn: None })
}

/// A number above 0 and up to 1, the same on every edge and in every run.
fn draw(aor: &str, backend: &str, seed: u64) -> f64 {
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
