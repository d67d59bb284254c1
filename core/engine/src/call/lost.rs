//! Attempts that went through another edge, when that is not there any more.

use super::Calls;
use super::attempt::Attempt;
use super::call::{Core, State};
use super::setup::Setup;
use crate::remote;
use crate::turn::Turn;
use signalbox_base::CallUid;
use std::net::SocketAddr;

impl Calls {
    /// An edge is lost, or has stopped: what rings through it rings for nobody, and its caller hears so.
    pub(crate) fn on_edge_lost(&mut self, turn: &mut Turn<'_>, edge: SocketAddr) {
        let through = |attempt: &Attempt| attempt.is_open() && attempt.branch.leg.flow.remote == edge;
        // Edges are lost seldom: no index is kept for it.
        let rings = self.calls.iter().filter(
            |(_, call)| matches!(&call.state, State::Inviting(setup) if setup.attempts.iter().any(through)),
        );
        let mut rings: Vec<CallUid> = rings.map(|(uid, _)| *uid).collect();
        rings.sort_unstable();
        for uid in rings {
            self.step(turn, uid, |state, core, turn| match state {
                State::Inviting(setup) => setup.on_hop_failed(core, turn, through),
                other => other,
            });
        }
    }
}

impl Setup {
    /// These attempts through another edge have failed: nobody there tells how they end. Should it be there after all, its
    /// phones are cancelled.
    pub(super) fn on_hop_failed(
        mut self: Box<Self>,
        core: &mut Core,
        turn: &mut Turn<'_>,
        which: impl Fn(&Attempt) -> bool,
    ) -> State {
        for attempt in self.attempts.iter_mut().filter(|attempt| which(attempt)) {
            attempt.cancel(core, turn, None);
        }
        self.best.offer_silence(remote::PEER_GONE);
        self.failed(core, turn, true)
    }
}
