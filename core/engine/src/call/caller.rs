//! How what attempts say looks for the caller.

use super::attempt::branch_id;
use super::call::Core;
use super::message::Answering;
use super::raw::Raw;
use super::setup::Setup;
use crate::turn::Turn;
use signalbox_sip::Message;

impl Setup {
    /// A response is of the attempt whose Via it bears, or the edge's own.
    pub(super) fn answering<'a, B: AsRef<[u8]>>(
        &'a self,
        core: &'a Core,
        tag: &'a [u8],
        response: &Message<B>,
    ) -> Answering<'a> {
        let via = response.top_via().ok().and_then(|via| branch_id(via.raw));
        let mut branches = self.attempts.iter().map(|attempt| &attempt.branch);
        let by = branches.find(|branch| via.is_some() && branch_id(&branch.via) == via);
        Answering::new(&core.tenant, &self.invite, tag, by.map_or(&core.caller, |branch| &branch.leg))
    }

    /// Our tag in a final failure: the one that the caller knows, else the message's.
    pub(super) fn failure_tag(core: &mut Core, turn: &mut Turn<'_>, message: Option<&Message<Raw>>) -> Raw {
        match message.and_then(Message::to_tag) {
            Some(tag) if !core.hide && core.caller.local_tag.is_empty() => Raw::from(tag),
            _ => core.own_tag(turn),
        }
    }
}
