//! Dialogs, from the phone's side.

use crate::message::{Message, parameter};

/// A dialog, from the phone's side.
#[derive(Clone, Debug)]
pub struct Dialog {
    /// Call-ID.
    pub call_id: String,
    pub(super) local: String,
    pub(super) remote: String,
    pub(super) target: String,
    pub(super) routes: Vec<String>,
    pub(super) cseq: u32,
}

/// A call on its way.
#[derive(Clone, Debug)]
pub struct Dialing {
    /// Call-ID.
    pub call_id: String,
    pub(super) target: String,
    pub(super) from: String,
    pub(super) request: String,
    pub(super) authorization: Option<String>,
}

impl Dialog {
    /// Tags: the phone's own, and the other's.
    #[must_use]
    pub fn tags(&self) -> [&str; 2] {
        [&self.local, &self.remote].map(|end| parameter(end, "tag").unwrap_or_default())
    }

    pub(super) fn of_caller(dialing: &Dialing, answer: &Message) -> Self {
        let mut routes: Vec<String> = answer.all("Record-Route").map(str::to_owned).collect();
        routes.reverse();
        Self {
            call_id: dialing.call_id.clone(),
            local: dialing.from.clone(),
            remote: answer.header("To").unwrap_or_default().to_owned(),
            target: answer.contact().unwrap_or_default().to_owned(),
            routes,
            cseq: answer.cseq(),
        }
    }

    pub(super) fn of_callee(invite: &Message, to: &str) -> Self {
        Self {
            call_id: invite.call_id().to_owned(),
            local: to.to_owned(),
            remote: invite.header("From").unwrap_or_default().to_owned(),
            target: invite.contact().unwrap_or_default().to_owned(),
            routes: invite.all("Record-Route").map(str::to_owned).collect(),
            cseq: 100,
        }
    }
}
