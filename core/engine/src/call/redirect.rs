//! A 3xx of whoever was called (RFC 3261 §8.1.3.4). Users that it names, and that are registered here in the same tenant, are
//! called in its place; anything else is for the caller to decide. So nobody reaches by a redirection what it could not call.

use super::attempt::Target;
use super::call::Core;
use super::leg::Peer;
use super::plan::to_contact;
use super::secure::fits;
use super::setup::Setup;
use crate::routing::{Query, Route, Source, select};
use crate::settings::Redirects;
use crate::turn::Turn;
use signalbox_schemas::words::RouteBasis;
use signalbox_sip::header::NameAddr;
use signalbox_sip::uri::{SipUri, without_headers};
use signalbox_sip::{HeaderName, Limits, Message};

/// Redirections that are followed in one call, at most.
const FOLLOWED_MAX: u8 = 8;

impl Setup {
    /// Calls whom the 3xx of the attempt at this place names. `request` is its INVITE. `false` when it names nobody whom the
    /// edge may call.
    pub(super) fn follow(
        &mut self,
        core: &mut Core,
        turn: &mut Turn<'_>,
        (at, request): (usize, &[u8]),
        response: &Message<&[u8]>,
    ) -> bool {
        if self.followed == FOLLOWED_MAX || !follows(core, turn, &self.attempts[at].branch.leg.peer) {
            return false;
        }
        let Ok(request) = Message::parse(request, &Limits::DATAGRAM) else { return false };
        let asked = request.request_uri().unwrap_or_default();
        let targets = self.named(core, turn, at, (asked, response));
        if targets.is_empty() {
            return false;
        }
        self.followed += 1;
        self.ensure_recorded(core, turn);
        let count = targets.len();
        targets.into_iter().rev().for_each(|target| self.rest.push_front(target));
        (0..count).fold(false, |sent, _| self.launch(core, turn, &request, None) | sent)
    }

    /// Bindings of the users that it names, which were not called yet, by the scheme that was asked for.
    fn named(
        &self,
        core: &Core,
        turn: &Turn<'_>,
        at: usize,
        (asked, response): (&[u8], &Message<&[u8]>),
    ) -> Vec<Target> {
        let by = &self.attempts[at].branch.leg.peer;
        let mut targets: Vec<Target> = Vec::new();
        for contact in response.values(HeaderName::Contact).filter_map(|value| NameAddr::parse(value).ok()) {
            let uri = without_headers(contact.uri);
            let Some(sip) = SipUri::parse(uri).ok() else { continue };
            let own = by.name().split_once('@').filter(|_| turn.directory.is_own_host(sip.host));
            let domain = match turn.directory.domain(turn.settings, sip.host) {
                Some((tenant, domain)) if tenant.name == core.tenant => domain.as_str(),
                Some(_) => continue,
                None => match own {
                    Some((_, domain)) => domain,
                    None => continue,
                },
            };
            let user = sip.decoded_user();
            let query = Query {
                tenant: core.tenant.as_str(),
                domain,
                user: user.as_deref(),
                uri,
                path: None,
                source: Source::Backend,
            };
            let route = select(turn.state.registrations(), &query, |binding| turn.is_here(binding));
            let Route::Contacts { contacts, .. } = route else { continue };
            for (aor, binding) in contacts {
                let mut target = to_contact(aor.address(), binding, RouteBasis::Binding);
                if !fits(&mut target, asked) {
                    continue;
                }
                let known = |uri: &[u8]| *uri == *target.uri;
                if self.attempts.iter().any(|attempt| known(&attempt.branch.uri))
                    || targets.iter().any(|other| known(&other.uri))
                {
                    continue;
                }
                target.why.failover_from = Some(by.name().clone());
                target.why.failover_status = response.status();
                targets.push(target);
            }
        }
        targets
    }
}

/// Whether redirections in calls with this called peer are followed: as the backend says that called or was called.
fn follows(core: &Core, turn: &Turn<'_>, called: &Peer) -> bool {
    let mut backends = [&core.caller.peer, called].into_iter().filter(|peer| !peer.is_endpoint());
    backends.all(|peer| {
        let found = peer.place(turn, core.tenant.as_str());
        let backend = found.and_then(|peer| turn.directory.peer(turn.settings, peer));
        backend.is_some_and(|found| found.backend.redirects == Redirects::Follow)
    })
}
