//! The fold, one file a domain. Exhaustive: a new event without a place here does not compile.

mod backend;
pub(crate) mod call;
mod config;
mod edge;
mod registration;

use super::{Private, State};
use crate::facts::Fact;
use signalbox_base::EventSeq;
use signalbox_schemas::Event;
use signalbox_schemas::values::EventId;

pub(crate) fn apply(state: &mut State, seq: EventSeq, fact: Fact) {
    match &fact.event {
        Event::RegistrationAdded(data) => registration::added(state, seq, &fact, data),
        Event::RegistrationRefreshed(data) => registration::refreshed(state, seq, &fact, data),
        Event::RegistrationRemoved(data) => registration::gone(state, seq, &data.binding),
        Event::RegistrationExpired(data) => registration::gone(state, seq, &data.binding),
        // A refusal changes nothing: what was registered stays.
        Event::RegistrationRejected(_) | Event::RegistrationOutboundChanged(_) => {}
        // Of subscriptions the edge keeps nothing.
        Event::SubscriptionStarted(_)
        | Event::SubscriptionRefreshed(_)
        | Event::SubscriptionEnded(_)
        | Event::SubscriptionRejected(_) => {}

        Event::CallAttempted(_)
        | Event::CallRouted(_)
        | Event::CallProgressed(_)
        | Event::CallAnswered(_)
        | Event::CallModified(_)
        | Event::CallReinvited(_)
        | Event::CallDismissed(_)
        | Event::CallTransferred(_)
        | Event::CallCheckpointed(_)
        | Event::CallRecovered(_)
        | Event::CallEnded(_)
        | Event::CallFailed(_) => apply_call(state, seq, fact),

        Event::BackendStateChanged(data) => backend::state_changed(state, seq, &fact, data),
        // A sum over backends, told for people.
        Event::BackendPoolDegraded(_) => {}

        Event::EdgeStarted(_) => edge::started(state, seq, &fact),
        Event::EdgeStopped(data) => edge::stopped(state, seq, data),
        Event::EdgeDraining(_)
        | Event::EdgeLost(_)
        | Event::EdgeReturned(_)
        | Event::EdgeClockStepped(_)
        | Event::EdgeOverloaded(_)
        | Event::EdgeCertificateExpiring(_) => {}
        // The journal's own book-keeping lives in its files.
        Event::JournalSealed(_) | Event::JournalOverrun(_) => {}

        Event::ConfigApplied(data) => config::applied(state, seq, data),
        Event::ConfigRejected(_) => {}
        // What a command changed has an event of its own.
        Event::AdminActed(_) => {}
        // The store tells these of itself.
        Event::ProjectionRebuilt(_) | Event::ProjectionParked(_) | Event::ProjectionResumed(_) => {}
        // Counted noise changes nothing.
        Event::SecurityAuthFailed(_) | Event::SecurityRequestRejected(_) | Event::SecurityTlsFailed(_) => {}
    }
}

fn apply_call(state: &mut State, seq: EventSeq, fact: Fact) {
    let Some(uid) = fact.correlation else { return };
    let private = match fact.private {
        Private::Call(private) => Some(private),
        Private::None | Private::Binding(_) | Private::BindingWith(..) | Private::BindingWhole(..) => None,
    };
    let tenant = fact.tenant.as_ref().map(|tenant| tenant.text().clone()).unwrap_or_default();
    let at = call::At { id: EventId { journal: state.journal, seq }, wall: fact.wall, uid };
    call::apply(&mut state.calls, at, tenant, fact.event, private);
}
