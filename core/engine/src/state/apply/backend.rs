//! Backends as the journal tells them.

use crate::facts::Fact;
use crate::state::{BackendRecord, NOBODYS, State, Wish, backend_key};
use signalbox_base::EventSeq;
use signalbox_schemas::backend::BackendStateChanged;
use signalbox_schemas::words::{BackendCause, BackendState};

pub(super) fn state_changed(state: &mut State, seq: EventSeq, fact: &Fact, data: &BackendStateChanged) {
    let owner = fact.tenant.as_ref().map_or(NOBODYS, |tenant| tenant.as_str());
    let key = backend_key(owner, &data.backend);
    let before = state.backends.get(&key);
    let wish = match data.to {
        BackendState::Draining => Wish::Drain,
        BackendState::Disabled => Wish::Disable,
        _ if data.cause == BackendCause::Operator => Wish::Serve,
        _ => before.map_or(Wish::Serve, |b| b.wish),
    };
    let was_up = matches!(data.from, BackendState::Up | BackendState::Degraded);
    let last_up_at = if matches!(data.to, BackendState::Up) || was_up {
        Some(fact.wall)
    } else {
        data.last_up_at.map(|at| at.0).or(before.and_then(|b| b.last_up_at))
    };
    let record = BackendRecord { state: data.to, wish, last_up_at, changed_at: fact.wall, seq };
    state.backends.insert(key, record);
}
