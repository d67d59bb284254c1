//! Starts and stops.

use crate::facts::Fact;
use crate::state::State;
use signalbox_base::EventSeq;
use signalbox_schemas::edge::EdgeStopped;

pub(super) fn started(state: &mut State, seq: EventSeq, fact: &Fact) {
    state.edge.started_at = Some(fact.wall);
    state.edge.stopped_clean = false;
    state.edge.seq = seq;
}

pub(super) fn stopped(state: &mut State, seq: EventSeq, data: &EdgeStopped) {
    state.edge.stopped_clean = data.clean;
    state.edge.seq = seq;
}
