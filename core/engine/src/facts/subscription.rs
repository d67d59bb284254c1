//! What became of subscriptions.

use super::Fact;
use super::uri::public;
use signalbox_base::{Flow, TenantId, Text, Wall};
use signalbox_schemas::Event;
use signalbox_schemas::subscription::{
    SubscriptionEnded, SubscriptionRefreshed, SubscriptionRejected, SubscriptionStarted,
};
use signalbox_schemas::words::{RejectedBy, SubscriptionEnd};
use signalbox_sip::{HeaderName, Message};

/// What a message of a subscription, and its answer, mean for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turned {
    /// Granted until then, where that was said.
    Started(Option<Wall>),
    /// Extended until then, where that was said.
    Refreshed(Option<Wall>),
    /// Over, by this status where one ended it.
    Ended(SubscriptionEnd, Option<u16>),
    /// Refused with this status.
    Rejected(u16, RejectedBy),
}

/// A subscription as the message shows it.
#[derive(Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) edge: Text,
    pub(crate) id: Text,
    pub(crate) tenant: &'a TenantId,
    pub(crate) flow: Flow,
    pub(crate) package: Text,
    /// URIs of the two sides.
    pub(crate) subscriber: &'a [u8],
    pub(crate) notifier: &'a [u8],
    pub(crate) aor: Option<Text>,
    pub(crate) backend: Option<Text>,
    pub(crate) request: &'a Message<Box<[u8]>>,
    /// Of the answer.
    pub(crate) phrase: Option<Text>,
}

impl Seen<'_> {
    /// The event.
    pub(crate) fn fact(self, turned: Turned, now: Wall) -> Fact {
        let (subject, tenant) = (self.id.clone(), self.tenant.clone());
        Fact::new(self.event(turned), subject, now).tenant(&tenant)
    }

    fn event(self, turned: Turned) -> Event {
        let Self { edge, id: subscription, package, aor, backend, request, phrase, .. } = self;
        let flow = Some(self.flow.into());
        let (subscriber, notifier) = (public(self.subscriber), public(self.notifier));
        let call_id = || Text::lossy(request.value(HeaderName::CallId).unwrap_or_default());
        match turned {
            Turned::Started(expires_at) => SubscriptionStarted {
                edge,
                flow,
                subscription,
                package,
                subscriber,
                notifier,
                aor,
                backend,
                expires_at: expires_at.map(Into::into),
                user_agent: request.value(HeaderName::UserAgent).map(Text::lossy),
                call_id: call_id(),
            }
            .into(),
            Turned::Refreshed(expires_at) => SubscriptionRefreshed {
                edge,
                flow,
                subscription,
                package,
                subscriber,
                notifier,
                expires_at: expires_at.map(Into::into),
            }
            .into(),
            Turned::Ended(reason, status) => {
                SubscriptionEnded { edge, flow, subscription, package, subscriber, notifier, reason, status }
                    .into()
            }
            Turned::Rejected(status, by) => SubscriptionRejected {
                edge,
                flow,
                subscription,
                package,
                subscriber,
                notifier,
                backend,
                status,
                reason: phrase,
                by,
                call_id: call_id(),
            }
            .into(),
        }
    }
}
