//! REGISTER from its arrival to its answer.

use super::admit::{Stop, TOO_MANY, aor_of, in_order, within_limit};
use super::binding::{BadContacts, Wanted, contacts_max, names_the_edge};
use super::outbound::Outbound;
use super::own::Arrived;
use super::removed::Removals;
use super::throttle::{Upstream, stretched};
use crate::backend::{self, Asked, Candidate};
use crate::contract::{CommandReply, Pressure};
use crate::dispatch::{open, reject, reject_after, reject_with};
use crate::facts::admin;
use crate::facts::registration::{self as facts, Refused};
use crate::net::{Timer, User};
use crate::sips;
use crate::state::{AorName, BindingKey, NameParts};
use crate::tenancy::{Origin, PeerRef};
use crate::tidy::{is_sparse, shrink};
use crate::turn::Turn;
use foldhash::HashMap;
use foldhash::quality::RandomState;
use signalbox_base::{EventSeq, Flow, Mono, TenantId, Text, Wall};
use signalbox_schemas::words::{RejectedBy, RemovalReason, RequestRule};
use signalbox_sip::digest::Replays;
use signalbox_sip::transaction::{ClientTx, End, RequestFields, ServerKey, ServerTx, TimerId};
use signalbox_sip::{HeaderName, Message, Method};
use smallvec::SmallVec;
use std::net::SocketAddr;
use std::time::Duration;

/// REGISTERs under way at most; more get 503.
const PENDING_MAX: usize = 100_000;
/// A challenge and the request that answers it go to the same backend within this time.
const CHALLENGE_WITHIN: Duration = Duration::from_secs(60);
/// Challenges remembered at most.
const CHALLENGES_MAX: usize = 65_536;
/// Seconds of Retry-After when no backend can be asked.
pub(super) const RETRY_SECS: u32 = 10;

/// REGISTERs under way, and what is volatile about bindings.
#[derive(Debug, Default)]
pub struct Registrar {
    pub(super) pending: HashMap<u64, Pending>,
    pub(super) asked: Asked,
    last_number: u64,
    /// Which backend challenged a Call-ID, and until when that counts.
    challenged: HashMap<ServerKey, (PeerRef, Mono)>,
    sweeping: bool,
    pub(super) removals: Removals,
    /// What backends granted for longer than phones asked, where refreshes are answered here.
    pub(super) upstream: HashMap<BindingKey, Upstream>,
    pub(super) live: HashMap<BindingKey, Live>,
    /// When a flow with bindings was last heard: one entry a flow, whatever number of phones is behind it. Flows are known by
    /// a hash of transport and address: two that shared one would be heard together: `last_seen_at` would be wrong, and one that
    /// died be thought alive.
    pub(super) heard: HashMap<u64, Wall>,
    pub(super) heard_by: RandomState,
    /// Rejections recorded in the running window, and when it began.
    pub(super) rejected: (Mono, usize),
    /// Counts of nonces that were used, once any was.
    pub(super) replays: Option<Replays>,
    /// What the edge itself registers elsewhere.
    pub(crate) outbound: Outbound,
    /// When this process began: it knows of no count that was used before.
    pub(super) begun: Wall,
}

/// What is volatile about one binding.
#[derive(Clone, Copy, Debug)]
pub(super) struct Live {
    pub(super) seen: Wall,
    pub(super) deadline: Wall,
    pub(super) expiry: TimerId,
    pub(super) ping: Option<TimerId>,
}

/// A REGISTER under way.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) request: Message<Box<[u8]>>,
    pub(crate) flow: Flow,
    pub(super) tx: ServerTx,
    pub(crate) tenant: TenantId,
    /// `tenant/user@domain`.
    pub(crate) name: Text,
    pub(super) wanted: Wanted,
    /// Seconds that the backend is asked for, where that is not what the phone asks.
    pub(super) stretched: Option<u32>,
    pub(crate) at: Candidate,
    pub(super) tried: SmallVec<[(PeerRef, SocketAddr); 4]>,
    pub(super) client: Option<ClientTx>,
    pub(super) attempt: u16,
    pub(super) timer: Option<TimerId>,
    pub(super) begun: Mono,
}

impl Pending {
    /// `user@domain`.
    pub(crate) fn address(&self) -> &str {
        NameParts(&self.name).address()
    }

    /// The backend that is asked; none where the edge is the registrar.
    pub(crate) fn backend(&self) -> Option<Text> {
        Some(&self.at.name).filter(|name| !name.is_empty()).cloned()
    }

    pub(super) fn waits_for(&self, remote: SocketAddr) -> bool {
        self.client.is_some() && self.at.flow.remote == remote
    }

    /// The domain of its AoR.
    pub(super) fn domain(&self) -> &str {
        NameParts(&self.name).domain()
    }
}

impl Registrar {
    /// A new REGISTER from an endpoint.
    pub(crate) fn on_register(
        &mut self,
        turn: &mut Turn<'_>,
        origin: Origin,
        flow: Flow,
        key: ServerKey,
        request: &Message<&[u8]>,
    ) {
        let name = match aor_of(turn, &origin, request) {
            Ok(name) => name,
            Err((status, reason)) => return reject(turn, flow, request, status, reason),
        };
        let policy = turn.directory.policy(turn.settings, name.parts().domain());
        if let Some((own, users)) = policy.and_then(|p| p.registrar.zip(p.users.as_deref())) {
            let arrived = Arrived { origin, key, request, name };
            return self.on_own(turn, &arrived, own, users);
        }
        let prepared = self.prepare(turn, &origin, &name, request).and_then(|(aor, wanted)| {
            let at = self.choose(turn, &origin, &name, request)?;
            Ok((aor, wanted, at.ok_or(Stop::Later(RETRY_SECS, "No Backend Is Up"))?))
        });
        let (aor, wanted, at) = match prepared {
            Ok(prepared) => prepared,
            Err(stop) => return self.stop(turn, &origin, &name, request, stop),
        };
        let stretched = stretched(turn, name.parts().domain(), &wanted);
        let covered = stretched.and_then(|_| self.covered(turn, &flow, request, &wanted, &at));
        self.last_number += 1;
        let number = self.last_number;
        let user = if covered.is_some() { User::Nobody } else { User::Register(number) };
        let Some(tx) = open(turn, flow, key, Method::Register, user) else {
            return reject_after(turn, flow, request, 503, "Service Unavailable", Some(RETRY_SECS));
        };
        let pending = Pending {
            request: request.to_owned(),
            flow,
            tx,
            tenant: origin.tenant,
            name: aor,
            wanted,
            stretched,
            at,
            tried: SmallVec::new(),
            client: None,
            attempt: 0,
            timer: None,
            begun: turn.now.mono,
        };
        match covered {
            Some(granted) => self.grant(turn, &pending, granted),
            None => {
                self.pending.insert(number, pending);
                self.forward(turn, number);
            }
        }
    }

    /// Answers a REGISTER that goes no further.
    pub(super) fn stop(
        &mut self,
        turn: &mut Turn<'_>,
        origin: &Origin,
        name: &AorName,
        request: &Message<&[u8]>,
        stop: Stop,
    ) {
        let flow = origin.flow;
        match stop {
            Stop::Reject(status, reason) => {
                self.tell_refused(turn, origin, name, request, status, reason);
                reject(turn, flow, request, status, reason);
            }
            // RFC 3261 §10.2.8: the phone asks again for longer.
            Stop::TooBrief(min) => {
                let min = min.to_string();
                let header = (HeaderName::MinExpires, min.as_bytes());
                reject_with(turn, flow, request, (423, "Interval Too Brief"), &[header]);
            }
            Stop::Later(secs, reason) => {
                turn.net.shed += 1;
                self.tell_refused(turn, origin, name, request, 503, reason);
                reject_after(turn, flow, request, 503, "Service Unavailable", Some(secs));
            }
            Stop::Insecure => {
                self.tell_refused(turn, origin, name, request, sips::STATUS, "SIPS Not Allowed");
                sips::refuse(turn, flow, request);
            }
            Stop::Limit => {
                const REASON: &str = "Registration Limit Reached";
                turn.reject_request(flow.remote.ip(), RequestRule::Limit, None, request);
                self.tell_refused(turn, origin, name, request, 403, REASON);
                reject(turn, flow, request, 403, REASON);
            }
        }
    }

    /// Tells of a REGISTER that no backend was asked about. The budget is for all: what makes the edge refuse one phone makes
    /// it refuse thousands. A full disk has no room for it.
    pub(super) fn tell_refused(
        &mut self,
        turn: &mut Turn<'_>,
        origin: &Origin,
        name: &AorName,
        request: &Message<&[u8]>,
        status: u16,
        reason: &str,
    ) {
        if turn.net.pressure == Pressure::Full {
            return;
        }
        let refused = Refused {
            flow: &origin.flow,
            tenant: &origin.tenant,
            name: name.as_str(),
            backend: None,
            status,
            reason,
            by: RejectedBy::Edge,
        };
        self.tell_rejected(turn, request, &refused, false);
    }

    /// What is asked for, when it may be granted. The AoR's name is the one that its bindings share.
    pub(super) fn prepare(
        &self,
        turn: &Turn<'_>,
        origin: &Origin,
        name: &AorName,
        request: &Message<&[u8]>,
    ) -> Result<(Text, Wanted), Stop> {
        if let Some(secs) = turn.closed_for_new() {
            let draining = turn.net.draining;
            return Err(Stop::Later(secs, if draining { "Draining" } else { "Overloaded" }));
        }
        if self.pending.len() >= PENDING_MAX {
            return Err(Stop::Later(RETRY_SECS, "Overloaded"));
        }
        let aor = turn.state.registrations().aor(name.as_str());
        let wanted =
            Wanted::read(request, turn.directory.tokens(), name.as_str(), aor, origin.flow.remote.ip())
                .map_err(|bad| match bad {
                    BadContacts::Unreadable(why) => Stop::Reject(400, why),
                    BadContacts::TooMany => TOO_MANY,
                })?;
        if names_the_edge(turn.directory, origin.network, request, &wanted) {
            return Err(Stop::Reject(403, "Contact Is This Edge"));
        }
        if wanted.is_too_many(aor, contacts_max(turn, name.parts().domain())) {
            return Err(TOO_MANY);
        }
        in_order(turn, &self.removals, name.as_str(), &wanted, request)?;
        within_limit(turn, origin, &wanted)?;
        let name = aor.map_or_else(|| Text::new(name.as_str()), |aor| aor.name.clone());
        Ok((name, wanted))
    }

    /// The backend that challenged this Call-ID, else the pool's first.
    fn choose(
        &mut self,
        turn: &Turn<'_>,
        origin: &Origin,
        name: &AorName,
        request: &Message<&[u8]>,
    ) -> Result<Option<Candidate>, Stop> {
        let aor = turn.state.registrations().aor(name.as_str());
        let mut candidates = backend::registrars(turn, &origin.tenant, name.as_str(), aor);
        if sips::keep_secure(request, &mut candidates) {
            return Err(Stop::Insecure);
        }
        if !self.challenged.is_empty() {
            let challenger = self.challenged.remove(&challenge_key(turn, request, name.as_str()));
            if let Some((peer, until)) = challenger
                && turn.now.mono < until
                && let Some(at) = candidates.iter().position(|c| c.peer == peer)
            {
                return Ok(Some(candidates.swap_remove(at)));
            }
        }
        Ok(candidates.into_iter().next())
    }

    /// Remembers who challenged, so that the answer goes there.
    pub(super) fn remember_challenge(&mut self, turn: &mut Turn<'_>, number: u64) {
        let Some(pending) = self.pending.get(&number) else { return };
        if self.challenged.len() >= CHALLENGES_MAX {
            return;
        }
        let key = challenge_key(turn, &pending.request, &pending.name);
        self.challenged.insert(key, (pending.at.peer, turn.now.mono.plus(CHALLENGE_WITHIN)));
        if !std::mem::replace(&mut self.sweeping, true) {
            let at = turn.now.mono.plus(CHALLENGE_WITHIN);
            turn.start_timer(at, Timer::Sweep);
        }
    }

    /// Whether much more memory is held than is needed.
    pub(crate) fn is_sparse(&self) -> bool {
        let maps = [
            (self.live.len(), self.live.capacity()),
            (self.upstream.len(), self.upstream.capacity()),
            (self.heard.len(), self.heard.capacity()),
            (self.pending.len(), self.pending.capacity()),
            (self.challenged.len(), self.challenged.capacity()),
        ];
        maps.into_iter().any(is_sparse)
    }

    /// Entries that there is room for.
    pub(crate) fn capacity(&self) -> usize {
        let under_way = self.pending.capacity() + self.challenged.capacity();
        self.live.capacity() + self.upstream.capacity() + self.heard.capacity() + under_way
    }

    /// Gives back some of it. `false` when there is nothing to give.
    pub(crate) fn give_back(&mut self) -> bool {
        shrink(&mut self.live)
            || shrink(&mut self.upstream)
            || shrink(&mut self.heard)
            || shrink(&mut self.pending)
            || shrink(&mut self.challenged)
    }

    /// A timer of this room.
    pub(crate) fn on_timer(&mut self, turn: &mut Turn<'_>, timer: Timer) {
        match timer {
            Timer::Expiry(key) => self.on_expiry(turn, key),
            Timer::Ping(key) => self.on_ping(turn, key),
            Timer::RegisterFailover(number, attempt)
                if self.pending.get(&number).is_some_and(|p| p.attempt == attempt && p.client.is_some()) =>
            {
                self.failed(turn, number, true);
            }
            Timer::Sweep => {
                let now = turn.now.mono;
                self.challenged.retain(|_, (_, until)| now < *until);
                self.sweeping = !self.challenged.is_empty();
                if self.sweeping {
                    turn.start_timer(now.plus(CHALLENGE_WITHIN), Timer::Sweep);
                }
            }
            _ => {}
        }
    }

    /// The transaction towards a backend ended; only a current attempt without an answer is news.
    pub(crate) fn on_ended(&mut self, turn: &mut Turn<'_>, number: u64, tx: ClientTx, why: End) {
        let current = self.pending.get(&number).is_some_and(|p| p.client == Some(tx));
        if current && matches!(why, End::Timeout | End::Transport) {
            self.failed(turn, number, true);
        }
    }

    /// The transaction with the phone is over; whatever still comes is for nobody.
    pub(crate) fn on_abandoned(&mut self, number: u64) {
        self.pending.remove(&number);
    }

    /// A peer cannot be reached: what waits for it goes elsewhere.
    pub(crate) fn on_unreachable(&mut self, turn: &mut Turn<'_>, remote: SocketAddr) {
        for number in self.asked.take(remote) {
            if !self.pending.get(&number).is_some_and(|p| p.waits_for(remote)) {
                continue;
            }
            self.failed(turn, number, true);
        }
    }

    /// Places of backends mean others now: what was remembered by place is forgotten, or found again by its name.
    pub(crate) fn on_reload(&mut self, turn: &Turn<'_>) {
        self.challenged.clear();
        for pending in self.pending.values_mut() {
            pending.at.find_again(turn, pending.tenant.as_str());
            // Who was tried before may be tried again: better than to leave out somebody else in its place.
            pending.tried.clear();
            pending.tried.push((pending.at.peer, pending.at.flow.remote));
        }
    }

    /// Removes the bindings of an AoR by an operator's command.
    pub(crate) fn remove(
        &mut self,
        turn: &mut Turn<'_>,
        aor: &Text,
        tenant: Option<&Text>,
        actor: &Text,
    ) -> CommandReply {
        let names: Vec<Text> = turn
            .state
            .registrations()
            .iter()
            .filter(|a| a.address() == &**aor && tenant.is_none_or(|t| **t == *a.tenant()))
            .map(|a| a.name.clone())
            .collect();
        let refused = match &*names {
            [] => Some(format!("{aor} is not registered here")),
            [_] => None,
            _ => Some(format!("{aor} is registered at {} tenants: name one", names.len())),
        };
        if let Some(why) = refused {
            let fact = admin::acted(turn, actor, "locations.remove", aor, Err(&why));
            turn.record(fact);
            return CommandReply::Refused(Text::from(why));
        }
        let fact = admin::acted(turn, actor, "locations.remove", aor, Ok(()));
        let because = turn.record(fact);
        let keys = keys_of(turn, &names[0]);
        for key in &keys {
            self.remove_binding(turn, *key, RemovalReason::Admin, None, because);
        }
        if let Some(last) = turn.out.records.last_mut() {
            last.urgent = true;
        }
        CommandReply::Done(Text::from(format!("{aor}: {} bindings removed", keys.len())))
    }

    /// Records a removal and forgets what is volatile about it.
    pub(super) fn remove_binding(
        &mut self,
        turn: &mut Turn<'_>,
        key: BindingKey,
        reason: RemovalReason,
        by: Option<&Pending>,
        because: EventSeq,
    ) -> Option<EventSeq> {
        let fact = facts::removed(turn, key, reason, by)?;
        let seq = turn.record(fact.because(because));
        self.forget(turn, key);
        Some(seq)
    }
}

/// Keys of an AoR's bindings.
pub(super) fn keys_of(turn: &Turn<'_>, name: &str) -> SmallVec<[BindingKey; 4]> {
    turn.state
        .registrations()
        .aor(name)
        .map(|aor| aor.bindings.iter().map(|b| b.key).collect())
        .unwrap_or_default()
}

fn challenge_key<B: AsRef<[u8]>>(turn: &Turn<'_>, request: &Message<B>, name: &str) -> ServerKey {
    turn.net.hasher.key(&RequestFields {
        method: b"challenge",
        call_id: request.call_id(),
        via: name.as_bytes(),
        ..RequestFields::default()
    })
}

/// Whether a request carries credentials: a challenge was answered.
pub(super) fn has_credentials<B: AsRef<[u8]>>(request: &Message<B>) -> bool {
    request.value(HeaderName::Authorization).is_some()
        || request.value(HeaderName::ProxyAuthorization).is_some()
}
