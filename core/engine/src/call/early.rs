//! Early dialogs: what responses 101 to 199 make of both legs before an answer (RFC 3261 §12.1).
//!
//! A caller that shall see only one (`early_dialogs = "single"`) keeps the tag that it heard first, whoever rings or answers.
//! When several may ring, their reliable responses are acknowledged here, each in its own dialog, and go on as others do: for
//! the caller they are one series, which theirs are not (RFC 3262 §3). The answer then brings the description that its fork
//! has given before.

use super::attempt::Attempt;
use super::call::{Core, owner};
use super::identity;
use super::leg::{End, Leg};
use super::message;
use super::offer;
use super::raw::Raw;
use super::relay::{self, Dialog};
use crate::turn::Turn;
use signalbox_base::Flow;
use signalbox_sip::transaction::ServerTx;
use signalbox_sip::{HeaderName, Message, Method};

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
    /// Content type and description of its last reliable response that was acknowledged here.
    pub(crate) description: Option<(Raw, Raw)>,
    /// CSeq of its INVITE.
    cseq: u32,
    /// RSeq of that response.
    rseq: Option<u32>,
}

/// Those of one call.
#[derive(Debug, Default)]
pub(crate) struct Dialogs {
    all: Vec<Early>,
    /// The caller sees one.
    single: bool,
    /// Several may ring, and the caller sees one.
    forks: bool,
    /// Which was heard last.
    latest: usize,
}

/// How a provisional response goes on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Passes {
    /// With this tag.
    AsItIs(Raw),
    /// The same, no longer reliable.
    Unreliable(Raw),
    /// It has come before, or one before it has not come yet (RFC 3262 §4).
    Not,
}

impl Dialogs {
    /// None yet. `single`: the caller sees one; `several`: more than one target may ring at once.
    pub(crate) fn new(single: bool, several: bool) -> Self {
        Self { single, forks: single && several, ..Self::default() }
    }

    /// Every one.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Early> {
        self.all.iter()
    }

    /// Whether reliability ends here.
    pub(crate) fn forks(&self) -> bool {
        self.forks
    }

    /// The dialog of a provisional response becomes known. Its tag for the caller is empty when the response has none.
    pub(crate) fn progressed(
        &mut self,
        core: &mut Core,
        turn: &mut Turn<'_>,
        attempt: &Attempt,
        response: &Message<&[u8]>,
    ) -> Passes {
        let Some(tag) = response.to_tag() else { return Passes::AsItIs(Raw::default()) };
        let at = match self.place(attempt, tag) {
            Some(at) => {
                if let Some(target) = message::contact_uri(response) {
                    self.all[at].callee.target = target;
                }
                at
            }
            None => {
                let early = self.early(core, turn, attempt, response);
                if self.all.len() == DIALOGS_MAX {
                    return Passes::AsItIs(early.caller_tag);
                }
                self.all.reserve_exact(1);
                self.all.push(early);
                self.all.len() - 1
            }
        };
        self.latest = at;
        let early = &mut self.all[at];
        let (tag, own) = (early.caller_tag.clone(), self.forks || self.single && at > 0);
        match response.reliable_rseq().filter(|_| own) {
            None => Passes::AsItIs(tag),
            Some(rseq) if early.rseq.is_none_or(|last| last.checked_add(1) == Some(rseq)) => {
                early.acknowledge(core, turn, rseq, response);
                Passes::Unreliable(tag)
            }
            Some(_) => Passes::Not,
        }
    }

    /// The dialog that a 2xx makes, early before or not.
    pub(crate) fn answered(
        &mut self,
        core: &mut Core,
        turn: &mut Turn<'_>,
        attempt: &Attempt,
        response: &Message<&[u8]>,
    ) -> Early {
        let known = response.to_tag().and_then(|tag| self.place(attempt, tag));
        let Some(at) = known else {
            return self.early(core, turn, attempt, response);
        };
        let mut early = self.all.swap_remove(at);
        let mut callee = attempt.answered_leg(response, &early.callee);
        (callee.sent, callee.seen, callee.offset) =
            (callee.sent.max(early.callee.sent), early.callee.seen, early.callee.offset);
        early.callee = callee;
        early
    }

    /// A request inside an early dialog: PRACK, UPDATE, INFO or whatever else. `invite` is the CSeq of the caller's INVITE.
    pub(crate) fn on_request(
        &mut self,
        core: &mut Core,
        turn: &mut Turn<'_>,
        (from, invite): (End, u32),
        (tx, flow): (ServerTx, Flow),
        request: &Message<&[u8]>,
    ) {
        let method = request.method();
        let (from_tag, to_tag) =
            (request.from_tag().unwrap_or_default(), request.to_tag().unwrap_or_default());
        let place = |early: &Early| match from {
            End::Caller => *early.caller_tag == *to_tag,
            End::Callee => early.callee.is_dialog(request.call_id(), from_tag, to_tag),
        };
        let Some(mut at) = self.all.iter().position(place) else {
            return relay::refuse(turn, tx, method, &flow, request, 481, None);
        };
        if self.single && from == End::Caller && self.all.len() > 1 {
            if method == Method::Update {
                // Its offer is for whoever will answer, and that is not known yet (RFC 3311 §5.2).
                let wait = relay::moment(turn);
                return relay::refuse(turn, tx, method, &flow, request, 491, Some(wait));
            }
            if self.forks {
                at = self.latest;
            }
        }
        let early = &mut self.all[at];
        let mut caller = core.caller.clone();
        let tag = std::mem::replace(&mut caller.local_tag, early.caller_tag.clone());
        let seen = std::mem::replace(&mut caller.seen, early.seen);
        let dialog = (Dialog::Early(invite, early.cseq), &mut caller, &mut early.callee);
        relay::start(core, turn, dialog, from, (tx, flow), request);
        early.seen = std::mem::replace(&mut caller.seen, seen);
        caller.local_tag = tag;
        core.caller = caller;
    }

    fn place(&self, attempt: &Attempt, tag: &[u8]) -> Option<usize> {
        let number = attempt.branch.attempt;
        self.all.iter().position(|early| early.attempt == number && *early.callee.remote_tag == *tag)
    }

    fn early(
        &self,
        core: &mut Core,
        turn: &mut Turn<'_>,
        attempt: &Attempt,
        response: &Message<&[u8]>,
    ) -> Early {
        let callee = attempt.answered_leg(response, &attempt.branch.leg);
        let caller_tag = match response.to_tag() {
            Some(_) if self.single && !core.caller.local_tag.is_empty() => core.caller.local_tag.clone(),
            Some(_) if core.hide => identity::new_identifier(turn.entropy),
            // Without a tag there is none on either leg.
            _ => callee.remote_tag.clone(),
        };
        if self.single {
            core.caller.local_tag = caller_tag.clone();
        }
        let cseq = attempt.branch.cseq;
        let (attempt, seen) = (attempt.branch.attempt, core.caller.seen);
        Early { attempt, caller_tag, seen, callee, description: None, cseq, rseq: None }
    }
}

impl Early {
    /// PRACK of our own (RFC 3262 §4).
    fn acknowledge(&mut self, core: &mut Core, turn: &mut Turn<'_>, rseq: u32, response: &Message<&[u8]>) {
        self.rseq = Some(rseq);
        if offer::session(response).is_some() {
            let kind = response.value(HeaderName::ContentType).unwrap_or_default();
            self.description = Some((Raw::from(kind), Raw::from(response.body())));
        }
        let rack = format!("{rseq} {} INVITE", self.cseq);
        let more = Some((HeaderName::RAck, rack.as_str()));
        core.send_own(turn, Method::Prack, &mut self.callee, self.seen, more, (owner::OWN, 0));
    }
}
