//! The configuration in force.

use crate::state::{ConfigState, State};
use signalbox_base::EventSeq;
use signalbox_schemas::config::ConfigApplied;

pub(super) fn applied(state: &mut State, seq: EventSeq, data: &ConfigApplied) {
    state.config = ConfigState { revision: data.revision, sha256: data.sha256.clone(), seq };
}
