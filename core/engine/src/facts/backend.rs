//! What became of backends.

use super::Fact;
use crate::backend::Change;
use crate::state::backend_key;
use crate::tenancy::PeerRef;
use crate::turn::Turn;
use signalbox_base::{TenantId, Text};
use signalbox_schemas::backend::{BackendPoolDegraded, BackendStateChanged};
use signalbox_schemas::values::TransportAddress;
use signalbox_schemas::words::{BackendCause, BackendState};

/// A backend changed its state; `None` for one that is not configured any more.
#[must_use]
pub fn state_changed(
    turn: &Turn<'_>,
    peer: PeerRef,
    change: Change,
    cause: BackendCause,
    actor: Option<&Text>,
) -> Option<Fact> {
    let found = turn.directory.peer(turn.settings, peer)?;
    let backend = found.backend;
    let record = turn.state.backends().get(&*backend_key(found.owner(), &backend.name));
    let up = |state| matches!(state, BackendState::Up | BackendState::Degraded);
    let last_up_at = record.and_then(|r| r.last_up_at);
    let came_back = change.to == BackendState::Up && !up(change.from) && change.from != BackendState::Unknown;
    let (probe_status, rtt_ms) = turn.backends.last_probe(peer);
    let event = BackendStateChanged {
        edge: turn.edge(),
        flow: None,
        backend: backend.name.clone(),
        address: turn
            .directory
            .address(turn.settings, peer)
            .map(|(transport, address)| TransportAddress::new(transport, address)),
        from: change.from,
        to: change.to,
        cause,
        actor: actor.cloned(),
        probe_status,
        rtt_ms,
        consecutive: change.consecutive,
        last_up_at: last_up_at.map(Into::into),
        down_ms: came_back
            .then_some(last_up_at)
            .flatten()
            .map(|at| u64::try_from(turn.now.wall.since(at).as_millis()).unwrap_or(u64::MAX)),
    };
    let fact = Fact::new(event, backend.name.clone(), turn.now.wall);
    Some(match found.tenant {
        Some(tenant) => fact.tenant(&tenant.name),
        None => fact,
    })
}

/// A tenant has fewer backends than it should.
#[must_use]
pub fn pool_degraded(turn: &Turn<'_>, tenant: &TenantId, healthy: usize, total: usize) -> Fact {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let event = BackendPoolDegraded { edge: turn.edge(), healthy: count(healthy), total: count(total) };
    Fact::new(event, Text::new(tenant.as_str()), turn.now.wall).tenant(tenant)
}
