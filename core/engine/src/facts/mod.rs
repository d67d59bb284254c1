//! Builders of facts: a decision says what happened, these say it as an event. No decision fills an event's fields itself.

pub mod admin;
pub mod backend;
pub mod call;
pub mod config;
pub mod edge;
pub mod registration;
pub mod security;
pub(crate) mod subscription;
mod uri;

use crate::state::Private;
use signalbox_base::{CallUid, EventSeq, TenantId, Text, Wall};
use signalbox_schemas::Event;

/// What is recorded: the public event, the private part, and what the record's header says of both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The typed public event.
    pub event: Event,
    /// The tenant, if it belongs to one.
    pub tenant: Option<TenantId>,
    /// The aggregate (EVENTS.md `subject`).
    pub subject: Text,
    /// The call it belongs to.
    pub correlation: Option<CallUid>,
    /// The record that led to it; 0 for none.
    pub causation: EventSeq,
    /// What only this edge reads.
    pub private: Private,
    /// When it happened.
    pub wall: Wall,
}

impl Fact {
    /// A fact of nobody in particular: no tenant, no call, nothing private.
    #[must_use]
    pub fn new(event: impl Into<Event>, subject: Text, wall: Wall) -> Self {
        Self {
            event: event.into(),
            tenant: None,
            subject,
            correlation: None,
            causation: EventSeq(0),
            private: Private::None,
            wall,
        }
    }

    /// Of a tenant.
    #[must_use]
    pub fn tenant(mut self, tenant: &TenantId) -> Self {
        self.tenant = Some(tenant.clone());
        self
    }

    /// Of a call.
    #[must_use]
    pub fn call(mut self, call: CallUid) -> Self {
        self.correlation = Some(call);
        self
    }

    /// Because of another record.
    #[must_use]
    pub fn because(mut self, seq: EventSeq) -> Self {
        self.causation = seq;
        self
    }

    /// With a private part.
    #[must_use]
    pub fn private(mut self, private: Private) -> Self {
        self.private = private;
        self
    }
}
