//! Which binding a backend's request is for.

use super::sip_uri;
use crate::state::{Aor, AorName, Binding, BindingKey};
use crate::tenancy::Origin;
use crate::turn::Turn;
use signalbox_sip::header::NameAddr;
use signalbox_sip::uri::equivalent;
use signalbox_sip::{HeaderName, Message, Uri};

/// Nobody is there, and what to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nobody {
    pub(crate) status: u16,
    pub(crate) reason: &'static str,
}

const NOT_FOUND: Nobody = Nobody { status: 404, reason: "Not Found" };
const UNAVAILABLE: Nobody = Nobody { status: 480, reason: "Temporarily Unavailable" };

/// The one binding for a request that does not fork: a token's own; else of `user@domain` the one with the highest q, the
/// latest among equals. Always within the origin's tenant.
pub(crate) fn locate(
    turn: &Turn<'_>,
    origin: &Origin,
    request: &Message<&[u8]>,
) -> Result<BindingKey, Nobody> {
    let uri = request.request_uri().and_then(sip_uri).ok_or(NOT_FOUND)?;
    let user = uri.decoded_user().ok_or(NOT_FOUND)?;
    let reachable = |binding: &&Binding| turn.net.is_reachable(binding.key);
    if let Some(key) = BindingKey::from_user(&user) {
        let found = turn.state.registrations().binding(key);
        let (_, binding) = found.filter(|(aor, _)| is_in(aor, origin)).ok_or(NOT_FOUND)?;
        return Some(binding).filter(reachable).map(|b| b.key).ok_or(UNAVAILABLE);
    }
    if let Some(binding) = by_path(turn, origin, request, &Uri::Sip(uri)) {
        return Some(binding).filter(reachable).map(|b| b.key).ok_or(UNAVAILABLE);
    }
    let user = std::str::from_utf8(&user).map_err(|_| NOT_FOUND)?;
    let name = AorName::new(origin.tenant.as_str(), user, &origin.domain);
    let aor = turn.state.registrations().aor(name.as_str()).ok_or(NOT_FOUND)?;
    let best =
        aor.bindings.iter().map(|b| &**b).filter(reachable).max_by_key(|b| (b.q.unwrap_or(1000), b.seq));
    best.map(|b| b.key).ok_or(UNAVAILABLE)
}

/// In path mode the Route names the edge with the token, and the Request-URI is the phone's own Contact (RFC 3327 §5.3).
fn by_path<'t>(
    turn: &'t Turn<'_>,
    origin: &Origin,
    request: &Message<&[u8]>,
    uri: &Uri<'_>,
) -> Option<&'t Binding> {
    let route = NameAddr::parse(request.values(HeaderName::Route).next()?).ok()?;
    let key = BindingKey::from_user(sip_uri(route.uri)?.user?)?;
    let (aor, named) = turn.state.registrations().binding(key).filter(|(aor, _)| is_in(aor, origin))?;
    let meant = aor
        .bindings
        .iter()
        .map(|b| &**b)
        .find(|b| Uri::parse(b.contact.as_bytes()).is_ok_and(|contact| equivalent(&contact, uri)));
    Some(meant.unwrap_or(named))
}

fn is_in(aor: &Aor, origin: &Origin) -> bool {
    aor.tenant() == origin.tenant.as_str()
}
