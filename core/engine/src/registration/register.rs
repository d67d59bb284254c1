//! REGISTER from its arrival to its answer.

use super::binding::{BadContacts, Wanted, names_the_edge};
use super::removed::Removals;
use crate::backend::{self, Asked, Candidate};
use crate::contract::{CommandReply, Pressure};
use crate::dispatch::{open, reject, reject_after};
use crate::facts::admin;
use crate::facts::registration::{self as facts, Refused};
use crate::net::{Timer, User};
use crate::state::{AorName, Binding, BindingKey};
use crate::tenancy::{Origin, PeerRef};
use crate::tidy::{is_sparse, shrink};
use crate::turn::{About, Turn};
use foldhash::HashMap;
use foldhash::quality::RandomState;
use signalbox_base::{EventSeq, Flow, Mono, TenantId, Text, Wall};
use signalbox_schemas::words::{RejectedBy, RemovalReason, RequestRule};
use signalbox_sip::header::NameAddr;
use signalbox_sip::transaction::{ClientTx, End, RequestFields, ServerKey, ServerTx, TimerId};
use signalbox_sip::{HeaderName, Message, Method, Uri};
use smallvec::SmallVec;
use std::cmp::Ordering;
use std::net::SocketAddr;
use std::time::Duration;

/// REGISTERs under way at most; more get 503.
const PENDING_MAX: usize = 100_000;
/// Bytes of an AoR's user: tables and the journal's subjects have room for it.
const USER_BYTES_MAX: usize = 255;
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
    pub(super) live: HashMap<BindingKey, Live>,
    /// When a flow with bindings was last heard: one entry a flow, whatever number of phones is behind it. Flows are known by
    /// a hash of transport and address: two that shared one would be heard together, and nothing but `last_seen_at` be wrong.
    pub(super) heard: HashMap<u64, Wall>,
    pub(super) heard_by: RandomState,
    /// Rejections recorded in the running window, and when it began.
    pub(super) rejected: (Mono, usize),
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
    pub(crate) at: Candidate,
    pub(super) tried: SmallVec<[PeerRef; 4]>,
    pub(super) client: Option<ClientTx>,
    pub(super) attempt: u16,
    pub(super) timer: Option<TimerId>,
    pub(super) begun: Mono,
}

impl Pending {
    /// `user@domain`.
    pub(crate) fn address(&self) -> &str {
        self.name.split_once('/').map_or(&self.name, |(_, address)| address)
    }

    pub(super) fn waits_for(&self, remote: SocketAddr) -> bool {
        self.client.is_some() && self.at.flow.remote == remote
    }

    /// The domain of its AoR.
    pub(super) fn domain(&self) -> &str {
        self.name.rsplit_once('@').map_or("", |(_, domain)| domain)
    }
}

/// Why a REGISTER goes no further.
enum Stop {
    /// Answered with this.
    Reject(u16, &'static str),
    /// 503 with Retry-After, and why.
    Later(u32, &'static str),
    /// Above a limit of the tenant.
    Limit,
}

const TOO_MANY: Stop = Stop::Reject(403, "Too Many Contacts");

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
        match self.prepare(turn, &origin, &name, request) {
            Ok((name, wanted, at)) => {
                self.last_number += 1;
                let number = self.last_number;
                let Some(tx) = open(turn, flow, key, Method::Register, User::Register(number)) else {
                    return reject_after(turn, flow, request, 503, "Service Unavailable", Some(RETRY_SECS));
                };
                let pending = Pending {
                    request: request.to_owned(),
                    flow,
                    tx,
                    tenant: origin.tenant,
                    name,
                    wanted,
                    at,
                    tried: SmallVec::new(),
                    client: None,
                    attempt: 0,
                    timer: None,
                    begun: turn.now.mono,
                };
                self.pending.insert(number, pending);
                self.forward(turn, number);
            }
            Err(Stop::Reject(status, reason)) => {
                self.tell_refused(turn, &origin, &name, request, status, reason);
                reject(turn, flow, request, status, reason);
            }
            Err(Stop::Later(secs, reason)) => {
                turn.net.shed += 1;
                self.tell_refused(turn, &origin, &name, request, 503, reason);
                reject_after(turn, flow, request, 503, "Service Unavailable", Some(secs));
            }
            Err(Stop::Limit) => {
                const REASON: &str = "Registration Limit Reached";
                turn.reject_request(flow.remote.ip(), RequestRule::Limit, None, request);
                self.tell_refused(turn, &origin, &name, request, 403, REASON);
                reject(turn, flow, request, 403, REASON);
            }
        }
    }

    /// Tells of a REGISTER that no backend was asked about. The budget is for all: what makes the edge refuse one phone makes
    /// it refuse thousands. A full disk has no room for it.
    fn tell_refused(
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

    fn prepare(
        &mut self,
        turn: &mut Turn<'_>,
        origin: &Origin,
        name: &AorName,
        request: &Message<&[u8]>,
    ) -> Result<(Text, Wanted, Candidate), Stop> {
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
        if wanted.is_too_many(aor) {
            return Err(TOO_MANY);
        }
        in_order(turn, &self.removals, name.as_str(), &wanted, request)?;
        within_limit(turn, origin, &wanted)?;
        let at =
            self.choose(turn, origin, name, request).ok_or(Stop::Later(RETRY_SECS, "No Backend Is Up"))?;
        let name = aor.map_or_else(|| Text::new(name.as_str()), |aor| aor.name.clone());
        Ok((name, wanted, at))
    }

    /// The backend that challenged this Call-ID, else the pool's first.
    fn choose(
        &mut self,
        turn: &Turn<'_>,
        origin: &Origin,
        name: &AorName,
        request: &Message<&[u8]>,
    ) -> Option<Candidate> {
        let aor = turn.state.registrations().aor(name.as_str());
        let mut candidates = backend::registrars(turn, &origin.tenant, name.as_str(), aor);
        if !self.challenged.is_empty() {
            let challenger = self.challenged.remove(&challenge_key(turn, request, name.as_str()));
            if let Some((peer, until)) = challenger
                && turn.now.mono < until
                && let Some(at) = candidates.iter().position(|c| c.peer == peer)
            {
                return Some(candidates.swap_remove(at));
            }
        }
        candidates.into_iter().next()
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
            (self.heard.len(), self.heard.capacity()),
            (self.pending.len(), self.pending.capacity()),
            (self.challenged.len(), self.challenged.capacity()),
        ];
        maps.into_iter().any(is_sparse)
    }

    /// Entries that there is room for.
    pub(crate) fn capacity(&self) -> usize {
        self.live.capacity() + self.heard.capacity() + self.pending.capacity() + self.challenged.capacity()
    }

    /// Gives back some of it. `false` when there is nothing to give.
    pub(crate) fn give_back(&mut self) -> bool {
        shrink(&mut self.live)
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
            pending.tried.push(pending.at.peer);
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

/// The AoR that To names. Its domain is the tenant's, by name or alias; the edge's own address stands for the domain that
/// the request is in.
fn aor_of(
    turn: &mut Turn<'_>,
    origin: &Origin,
    request: &Message<&[u8]>,
) -> Result<AorName, (u16, &'static str)> {
    let to = request.to().map_err(|_| (400, "Bad To"))?;
    let Ok(Uri::Sip(uri)) = to.parsed_uri() else { return Err((400, "To Is No SIP URI")) };
    let user = uri.decoded_user().ok_or((404, "Not Found"))?;
    let user = std::str::from_utf8(&user).ok().filter(|u| !u.is_empty());
    let user = user.ok_or((400, "Bad User In To"))?;
    if user.len() > USER_BYTES_MAX {
        return Err((400, "User In To Too Long"));
    }
    let domain = match turn.directory.domain(turn.settings, uri.host) {
        Some((tenant, domain)) if tenant.name == origin.tenant => domain,
        None if turn.directory.is_own_host(uri.host) => &origin.domain,
        _ => return Err((404, "Not Found")),
    };
    let name = AorName::new(origin.tenant.as_str(), user, domain);
    let about = name.as_str().split_once('/').map(|(_, address)| address);
    let cseq = request.cseq().number;
    turn.note(About { aor: about, source: Some(origin.flow.remote), call: None }, || {
        format!("REGISTER, CSeq {cseq}")
    });
    Ok(name)
}

/// With the Call-ID of a binding, CSeq must rise (RFC 3261 §10.3 step 7); else the whole request fails. The request that made
/// the binding may come again: its answer was lost with a crash.
fn in_order(
    turn: &Turn<'_>,
    removals: &Removals,
    aor: &str,
    wanted: &Wanted,
    request: &Message<&[u8]>,
) -> Result<(), Stop> {
    let Wanted::Each(each) = wanted else { return Ok(()) };
    let stale = each.iter().zip(request.values(HeaderName::Contact)).any(|(asked, value)| {
        if asked.expires > 0 && removals.is_behind(turn, request, aor, asked.key) {
            return true;
        }
        let known = turn.state.registrations().binding(asked.key);
        known.is_some_and(|(_, binding)| match Place::of(binding, request) {
            Place::Behind => false,
            Place::Same => {
                let uri = NameAddr::parse(value).map(|contact| contact.uri).unwrap_or_default();
                asked.expires == 0 || binding.contact.as_bytes() != uri
            }
            Place::Before => true,
        })
    });
    if stale { Err(Stop::Reject(500, "CSeq Out Of Order")) } else { Ok(()) }
}

/// Where a REGISTER stands to the one that a binding is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It is an older one.
    Before,
    /// It is that one.
    Same,
    /// It is a newer one, or of another Call-ID.
    Behind,
}

impl Place {
    pub(super) fn of<B: AsRef<[u8]>>(binding: &Binding, request: &Message<B>) -> Self {
        if binding.call_id.as_bytes() != request.call_id() {
            return Self::Behind;
        }
        match request.cseq().number.cmp(&binding.cseq) {
            Ordering::Less => Self::Before,
            Ordering::Equal => Self::Same,
            Ordering::Greater => Self::Behind,
        }
    }
}

fn within_limit(turn: &Turn<'_>, origin: &Origin, wanted: &Wanted) -> Result<(), Stop> {
    let Wanted::Each(each) = wanted else { return Ok(()) };
    let limit = turn
        .directory
        .tenant_place(origin.tenant.as_str())
        .and_then(|at| turn.settings.tenants[usize::from(at)].limits.registrations);
    let Some(limit) = limit else { return Ok(()) };
    let registrations = turn.state.registrations();
    let new = each.iter().filter(|a| a.expires > 0 && registrations.binding(a.key).is_none()).count();
    let total = u64::from(registrations.of_tenant(origin.tenant.as_str())) + new as u64;
    if new > 0 && total > u64::from(limit) { Err(Stop::Limit) } else { Ok(()) }
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
