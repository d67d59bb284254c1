//! Who a request's credentials say it is from (RFC 7616 for SIP by RFC 8760), where the edge itself knows the users.

use super::register::Registrar;
use super::token::TokenKey;
use crate::dispatch::reject_with;
use crate::settings::{Asking, Users};
use crate::state::{AorName, NameParts};
use crate::tenancy::Origin;
use crate::turn::{About, Turn};
use signalbox_base::{Flow, Text, Wall};
use signalbox_sip::digest::{Credentials, NonceIssuer, NonceVerdict, Replays, verify, write_challenge};
use signalbox_sip::uri::SipUri;
use signalbox_sip::{Forward, HeaderName, Message, Uri};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::fmt;

/// Seconds that a nonce is good for: a phone that refreshes each few minutes is not asked each time.
const NONCE_LIFE_SECS: u32 = 600;
/// Bytes that are told of the user and the host of a From that proved nothing.
const FROM_BYTES_MAX: usize = 128;

/// What nonces are made with; of the cluster's key.
pub(crate) struct Nonces(NonceIssuer);

impl Nonces {
    pub(crate) fn new(cluster: &TokenKey) -> Self {
        Self(NonceIssuer::new(cluster.derived(b"nonces"), NONCE_LIFE_SECS))
    }

    /// What counts of nonces were used; nothing is known of before `now`.
    fn replays(&self, now: Wall) -> Replays {
        Replays::new(now, self.0.lifetime_us())
    }
}

impl Default for Nonces {
    fn default() -> Self {
        Self::new(&TokenKey::default())
    }
}

impl fmt::Debug for Nonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonces(…)")
    }
}

/// What credentials are worth.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict<'m> {
    /// It is this user, by the name in the users' file. `place` is that of the header among the request's.
    Proven { user: Cow<'m, [u8]>, place: usize },
    /// There are none for us, or they are right and only their nonce is not (`stale`): ask for them.
    Ask { stale: bool },
    /// They are wrong.
    Wrong,
}

/// What becomes of a phone's request that is not a REGISTER.
pub(crate) enum Access {
    /// Nobody asks for credentials.
    Open,
    /// They were right. The request goes on without them: they are nobody else's business.
    Proven {
        /// The request.
        bytes: Vec<u8>,
        /// Whose they are: an address of record without its tenant.
        aor: Text,
    },
    /// It was answered.
    Answered,
}

impl Registrar {
    /// Asks a phone's request outside of any dialog for credentials, where the caller's domain or the addressed one says so.
    pub(crate) fn ask(&mut self, turn: &mut Turn<'_>, origin: &Origin, request: &Message<&[u8]>) -> Access {
        if !origin.is_endpoint() || !turn.directory.challenges() {
            return Access::Open;
        }
        let Some(users) = users_asked(turn, origin, request) else { return Access::Open };
        let flow = origin.flow;
        match self.judge(turn, users, Asking::Proxy, request) {
            Verdict::Proven { user, place } if is_from(turn, origin, users, &user, request) => {
                let mut without = Forward::new(request);
                without.remove_nth(place);
                let mut bytes = Vec::new();
                without.write_into(&mut bytes);
                return Access::Proven { bytes, aor: address_of(&user, users.realm(), origin) };
            }
            Verdict::Proven { .. } => {
                turn.auth_failed(flow.remote.ip(), &from_of(request), request);
                reject_with(turn, flow, request, (403, "From Is Somebody Else"), &[]);
            }
            Verdict::Wrong => {
                turn.auth_failed(flow.remote.ip(), &from_of(request), request);
                challenge(turn, (users, None), Asking::Proxy, flow, request, false);
            }
            Verdict::Ask { stale } => challenge(turn, (users, None), Asking::Proxy, flow, request, stale),
        }
        Access::Answered
    }

    /// Judges a request's credentials for a realm of ours.
    pub(super) fn judge<'m>(
        &mut self,
        turn: &Turn<'_>,
        users: &Users,
        asking: Asking,
        request: &'m Message<&[u8]>,
    ) -> Verdict<'m> {
        let realm = users.realm();
        let ours = request.all(asking.credentials()).find_map(|header| {
            let credentials = Credentials::parse(header.value).ok()?;
            (*credentials.realm == *realm.as_bytes()).then_some((header.place, credentials))
        });
        let Some((place, credentials)) = ours else { return Verdict::Ask { stale: false } };
        let (secret, known) = users.secret(&credentials.username, credentials.algorithm);
        let method = request.method();
        let right =
            secret.is_some_and(|ha1| verify(&credentials, ha1, method.as_bytes(), request.body())) && known;
        if !right || !is_for(turn, request, &credentials.uri) {
            return Verdict::Wrong;
        }
        let (nonces, now) = (turn.directory.nonces(), turn.now.wall);
        let fresh = nonces.0.judge(&credentials.nonce, &space(turn, realm), now) == NonceVerdict::Fresh;
        let replays = self.replays.get_or_insert_with(|| nonces.replays(self.begun));
        // Without qop nothing counts the uses of a nonce: then it has one.
        if fresh && replays.accept(&credentials.nonce, credentials.nonce_count.max(1), now) {
            Verdict::Proven { user: credentials.username, place }
        } else {
            Verdict::Ask { stale: true }
        }
    }
}

/// Answers with a challenge for each hash that the user may have, the strongest first (RFC 8760 §2.4). Nothing is kept of it.
pub(super) fn challenge(
    turn: &mut Turn<'_>,
    (users, user): (&Users, Option<&str>),
    asking: Asking,
    flow: Flow,
    request: &Message<&[u8]>,
    stale: bool,
) {
    let realm = users.realm();
    let salt = turn.entropy.next_u64();
    let nonce = turn.directory.nonces().0.issue(&space(turn, realm), turn.now.wall, salt);
    let from;
    let user = match user {
        Some(user) => user,
        None => {
            from = from_of(request);
            from.split('@').next().unwrap_or_default()
        }
    };
    let each: SmallVec<[Vec<u8>; 2]> =
        users.offered(user).map(|hash| write_challenge(realm.as_bytes(), &nonce, hash, stale)).collect();
    let headers: SmallVec<[(HeaderName, &[u8]); 2]> =
        each.iter().map(|value| (asking.challenge(), &**value)).collect();
    let reason = match asking {
        Asking::Registrar => "Unauthorized",
        Asking::Proxy => "Proxy Authentication Required",
    };
    let stale = if stale { ", stale" } else { "" };
    turn.note(About { source: Some(flow.remote), ..About::default() }, || {
        format!("{} is asked for credentials of {realm}{stale}", request.method())
    });
    reject_with(turn, flow, request, (asking.status(), reason), &headers);
}

/// Whether a user of the realm is this AoR's: by its name alone, or with the domain.
pub(super) fn is_user_of(user: &[u8], realm: &str, tenant: &str, aor: &str) -> bool {
    aor_of(user, realm, tenant).is_some_and(|name| name.as_str() == aor)
}

fn aor_of(user: &[u8], realm: &str, tenant: &str) -> Option<AorName> {
    let user = std::str::from_utf8(user).ok()?;
    let user = user.strip_suffix(realm).and_then(|user| user.strip_suffix('@')).unwrap_or(user);
    Some(AorName::new(tenant, user, realm))
}

/// A user's address of record, without its tenant.
fn address_of(user: &[u8], realm: &str, origin: &Origin) -> Text {
    let name = aor_of(user, realm, origin.tenant.as_str());
    name.map(|name| Text::new(NameParts(name.as_str()).address())).unwrap_or_default()
}

/// What a nonce is good for: a realm at one edge. Edges of a cluster do not know which counts the others have seen.
fn space(turn: &Turn<'_>, realm: &str) -> Vec<u8> {
    [realm.as_bytes(), b" ", turn.settings.identity.edge.as_bytes()].concat()
}

/// The users of whose realm a request must bear credentials: the caller's domain, else the one that it is addressed to.
fn users_asked<'s>(turn: &Turn<'s>, origin: &Origin, request: &Message<&[u8]>) -> Option<&'s Users> {
    let settings = turn.settings;
    let from = sip_from(request).and_then(|uri| {
        let (tenant, domain) = turn.directory.domain(settings, uri.host)?;
        (tenant.name == origin.tenant).then_some(domain)
    });
    let policies = [from, Some(&origin.domain)];
    let policies = || policies.into_iter().flatten().filter_map(|name| turn.directory.policy(settings, name));
    let method = request.method();
    if !policies().any(|policy| policy.challenged.contains(method.as_str())) {
        return None;
    }
    policies().find_map(|policy| policy.users.as_deref())
}

/// Whether From is the user that was proven, or nobody's (RFC 3323 §4.1.1.3).
fn is_from(turn: &Turn<'_>, origin: &Origin, users: &Users, user: &[u8], request: &Message<&[u8]>) -> bool {
    let Some(from) = sip_from(request) else { return false };
    if from.host_is(b"anonymous.invalid") {
        return true;
    }
    let domain = turn.directory.domain(turn.settings, from.host).map(|(_, domain)| &**domain);
    let named = from.decoded_user().unwrap_or_default();
    let domain = domain.or(turn.directory.is_own_host(from.host).then_some(users.realm()));
    let Some((domain, named)) = domain.zip(std::str::from_utf8(&named).ok()) else { return false };
    let tenant = origin.tenant.as_str();
    is_user_of(user, users.realm(), tenant, AorName::new(tenant, named, domain).as_str())
}

/// Whether the URI that credentials were made for is where the request goes (RFC 7616 §3.4.6), as far as phones agree on what
/// to write there: the Request-URI, or the edge's own address or the domain in place of its host, with its user or without.
fn is_for(turn: &Turn<'_>, request: &Message<&[u8]>, uri: &[u8]) -> bool {
    let Some(ruri) = request.request_uri() else { return false };
    if ruri == uri {
        return true;
    }
    let (Ok(Uri::Sip(meant)), Ok(Uri::Sip(asked))) = (Uri::parse(uri), Uri::parse(ruri)) else {
        return false;
    };
    let domain = |uri: &SipUri<'_>| turn.directory.domain(turn.settings, uri.host).map(|(_, domain)| domain);
    let here = turn.directory.is_own_host(meant.host) || meant.host.eq_ignore_ascii_case(asked.host);
    (here || domain(&meant).is_some() && domain(&meant) == domain(&asked))
        && (meant.user.is_none() || meant.decoded_user() == asked.decoded_user())
}

fn sip_from<'m>(request: &'m Message<&[u8]>) -> Option<SipUri<'m>> {
    match Uri::parse(request.from().ok()?.uri).ok()? {
        Uri::Sip(uri) => Some(uri),
        _ => None,
    }
}

/// `user@domain` of From as it was written, within bounds: it is a stranger's.
fn from_of(request: &Message<&[u8]>) -> String {
    let Some(uri) = sip_from(request) else { return String::new() };
    let user = uri.decoded_user().unwrap_or_default();
    let text = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(FROM_BYTES_MAX)]).into_owned();
    format!("{}@{}", text(&user), text(uri.host))
}
