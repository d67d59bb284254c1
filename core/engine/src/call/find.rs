//! Which call, and which leg of it, a message is for.

use super::Calls;
use super::call::{Call, State, may_speak};
use super::identity::{self, loop_cookie};
use super::leg::{End, Leg, token_of_user};
use crate::settings::Settings;
use crate::tenancy::Origin;
use crate::turn::Turn;
use signalbox_base::{CallUid, Flow};
use signalbox_sip::{Limits, Message, Uri};

/// A leg of a call that a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LegRef {
    pub(super) uid: CallUid,
    pub(super) end: End,
    /// The attempt, for the called end.
    pub(super) attempt: u32,
    /// Whether the message bears the leg's token.
    pub(super) named: bool,
}

impl Calls {
    /// The leg that a request is for.
    pub(super) fn find(&self, turn: &Turn<'_>, flow: &Flow, request: &Message<&[u8]>) -> Option<LegRef> {
        self.by_token(request).or_else(|| {
            let mut found = self
                .with_call_id(request.call_id())
                .flat_map(|(uid, call)| call.dialogs(uid))
                .filter(|at| self.is_dialog(*at, request) && self.admits(turn, *at, flow));
            // The fallback must be unique (DESIGN.md §5): a spiral has the same identifiers twice.
            found.next().filter(|_| found.next().is_none())
        })
    }

    pub(super) fn by_token(&self, request: &Message<&[u8]>) -> Option<LegRef> {
        let Ok(Uri::Sip(uri)) = Uri::parse(request.request_uri()?) else { return None };
        let (uid, attempt) = *self.tokens.get(&token_of_user(uri.user?)?)?;
        let end = if attempt == 0 { End::Caller } else { End::Callee };
        Some(LegRef { uid, end, attempt, named: true })
    }

    /// The call whose final failure of before a restart this ACK acknowledges: it bears the INVITE's Request-URI, and our tag.
    pub(super) fn find_refused(
        &self,
        turn: &Turn<'_>,
        flow: &Flow,
        request: &Message<&[u8]>,
    ) -> Option<LegRef> {
        let from = request.from_tag().unwrap_or_default();
        self.with_call_id(request.call_id())
            .filter(|(_, call)| matches!(&call.state, State::Ending(ending) if ending.resend.is_some()))
            .filter(|(_, call)| *call.core.caller.remote_tag == *from)
            .map(|(uid, _)| LegRef { uid, end: End::Caller, attempt: 0, named: false })
            .find(|at| self.admits(turn, *at, flow))
    }

    pub(super) fn with_call_id<'c>(
        &'c self,
        call_id: &[u8],
    ) -> impl Iterator<Item = (CallUid, &'c Call)> + use<'c> {
        let uids = self.call_ids.get(call_id).into_iter().flatten();
        uids.filter_map(|uid| self.calls.get(uid).map(|call| (*uid, &**call)))
    }

    pub(super) fn is_dialog(&self, at: LegRef, request: &Message<&[u8]>) -> bool {
        let (from, to) = (request.from_tag().unwrap_or_default(), request.to_tag().unwrap_or_default());
        self.calls
            .get(&at.uid)
            .is_some_and(|call| call.is_dialog(at.end, at.attempt, request.call_id(), from, to))
    }

    pub(super) fn admits(&self, turn: &Turn<'_>, at: LegRef, flow: &Flow) -> bool {
        let Some(call) = self.calls.get(&at.uid) else { return false };
        call.leg(at.end, at.attempt)
            .is_some_and(|leg: &Leg| may_speak(turn, &call.core.tenant, leg, flow, at.named))
    }

    /// The call that waits for this caller's credentials.
    pub(super) fn challenged(
        &self,
        settings: &Settings,
        origin: &Origin,
        request: &Message<&[u8]>,
    ) -> Option<CallUid> {
        let (from, cseq) = (request.from_tag().unwrap_or_default(), request.cseq().number);
        let is_for_the_same = |call: &Call| matches!(&call.state, State::Challenged(waits) if waits.called == identity::called(settings, request));
        self.with_call_id(request.call_id())
            .find(|(_, call)| {
                let caller = &call.core.caller;
                matches!(call.state, State::Challenged(_))
                    && call.core.tenant == origin.tenant
                    && *caller.call_id == *request.call_id()
                    && *caller.remote_tag == *from
                    && caller.flow.remote == origin.flow.remote
                    && cseq > caller.seen
                    && is_for_the_same(call)
            })
            .map(|(uid, _)| uid)
    }

    /// Whether this INVITE has come already by another way, and its answer is under way (RFC 3261 §8.2.2.2). From another
    /// side, or with another Request-URI, it is a spiral or a branch of a fork, and may ring elsewhere.
    pub(super) fn is_merged(&self, settings: &Settings, origin: &Origin, request: &Message<&[u8]>) -> bool {
        let open = |call: &Call| {
            call.core.caller_tx.is_some() && matches!(call.state, State::Inviting(_) | State::Answered(_))
        };
        let mut known = self.with_call_id(request.call_id()).filter(|(_, call)| open(call)).peekable();
        // The cookie costs a hash; most Call-IDs are new.
        known.peek().is_some() && {
            let own = loop_cookie(settings, origin, request);
            known.any(|(_, call)| call.core.cookie == own)
        }
    }

    /// The call of before a restart whose INVITE this is once more: its transaction died with the process, its answer is
    /// being said again.
    pub(super) fn repeated(&self, origin: &Origin, request: &Message<&[u8]>) -> Option<CallUid> {
        let branch = request.top_via().ok()?.branch()?;
        self.with_call_id(request.call_id())
            .find(|(_, call)| {
                let caller = &call.core.caller;
                let same = caller.flow.remote.ip() == origin.flow.remote.ip()
                    && *caller.remote_tag == *request.from_tag().unwrap_or_default();
                let answer = call.state.resend().map(|resend| resend.bytes.clone()).filter(|_| same);
                answer.and_then(|bytes| Message::parse(bytes, &Limits::DATAGRAM).ok()).is_some_and(|answer| {
                    answer.cseq().number == request.cseq().number
                        && answer.top_via().is_ok_and(|via| via.branch() == Some(branch))
                })
            })
            .map(|(uid, _)| uid)
    }
}
