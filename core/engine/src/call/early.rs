//! Early dialogs: what responses 101 to 199 make of both legs before an answer (RFC 3261 §12.1).

use super::attempt::Attempt;
use super::call::Core;
use super::identity;
use super::leg::{End, Leg};
use super::message;
use super::raw::Raw;
use super::relay::{self, Dialog};
use crate::turn::Turn;
use signalbox_base::Flow;
use signalbox_sip::Message;
use signalbox_sip::transaction::ServerTx;

/// Early dialogs of one call, at most: what a hostile fork below could make.
const DIALOGS_MAX: usize = 32;

/// An early dialog: what its tag on the caller's leg stands for.
#[derive(Clone, Debug)]
pub(crate) struct Early {
    pub(crate) attempt: u32,
    pub(crate) caller_tag: Raw,
    /// Highest CSeq that the caller has sent in it: forks count for themselves (RFC 3261 §12.1.2).
    pub(crate) seen: u32,
    pub(crate) callee: Leg,
}

/// Those of one call.
#[derive(Debug, Default)]
pub(crate) struct Dialogs(Vec<Early>);

impl Dialogs {
    /// Every one.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Early> {
        self.0.iter()
    }

    /// The caller's tag for the dialog of a provisional response, which becomes known. Empty when the response has no tag.
    pub(crate) fn progressed(
        &mut self,
        core: &Core,
        turn: &mut Turn<'_>,
        attempt: &Attempt,
        response: &Message<&[u8]>,
    ) -> Raw {
        let Some(tag) = response.to_tag() else { return Raw::default() };
        if let Some(at) = self.place(attempt, tag) {
            let known = &mut self.0[at];
            if let Some(target) = message::contact_uri(response) {
                known.callee.target = target;
            }
            return known.caller_tag.clone();
        }
        let early = Early::new(core, turn, attempt, response);
        let tag = early.caller_tag.clone();
        if self.0.len() < DIALOGS_MAX {
            self.0.reserve_exact(1);
            self.0.push(early);
        }
        tag
    }

    /// The dialog that a 2xx makes, early before or not.
    pub(crate) fn answered(
        &mut self,
        core: &Core,
        turn: &mut Turn<'_>,
        attempt: &Attempt,
        response: &Message<&[u8]>,
    ) -> Early {
        let known = response.to_tag().and_then(|tag| self.place(attempt, tag));
        let Some(at) = known else {
            return Early::new(core, turn, attempt, response);
        };
        let mut early = self.0.swap_remove(at);
        let mut callee = attempt.answered_leg(response, &early.callee);
        (callee.sent, callee.seen, callee.offset) =
            (callee.sent.max(early.callee.sent), early.callee.seen, early.callee.offset);
        early.callee = callee;
        early
    }

    /// A request inside an early dialog: PRACK, UPDATE, INFO or whatever else.
    pub(crate) fn on_request(
        &mut self,
        core: &mut Core,
        turn: &mut Turn<'_>,
        from: End,
        (tx, flow): (ServerTx, Flow),
        request: &Message<&[u8]>,
    ) {
        let (from_tag, to_tag) =
            (request.from_tag().unwrap_or_default(), request.to_tag().unwrap_or_default());
        let dialog = self.0.iter_mut().find(|early| match from {
            End::Caller => *early.caller_tag == *to_tag,
            End::Callee => early.callee.is_dialog(request.call_id(), from_tag, to_tag),
        });
        let Some(early) = dialog else {
            return relay::refuse(turn, tx, request.method(), &flow, request, 481, None);
        };
        let mut caller = core.caller.clone();
        let tag = std::mem::replace(&mut caller.local_tag, early.caller_tag.clone());
        let seen = std::mem::replace(&mut caller.seen, early.seen);
        let dialog = (Dialog::Early, &mut caller, &mut early.callee);
        relay::start(core, turn, dialog, from, (tx, flow), request);
        early.seen = std::mem::replace(&mut caller.seen, seen);
        caller.local_tag = tag;
        core.caller = caller;
    }

    fn place(&self, attempt: &Attempt, tag: &[u8]) -> Option<usize> {
        let number = attempt.branch.attempt;
        self.0.iter().position(|early| early.attempt == number && *early.callee.remote_tag == *tag)
    }
}

impl Early {
    fn new(core: &Core, turn: &mut Turn<'_>, attempt: &Attempt, response: &Message<&[u8]>) -> Self {
        let callee = attempt.answered_leg(response, &attempt.branch.leg);
        let caller_tag = match response.to_tag() {
            Some(_) if core.hide => identity::new_identifier(turn.entropy),
            // Without a tag there is none on either leg.
            _ => callee.remote_tag.clone(),
        };
        Self { attempt: attempt.branch.attempt, caller_tag, seen: core.caller.seen, callee }
    }
}
