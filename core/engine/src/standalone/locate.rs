//! Which binding a backend's request is for.

use super::sip_uri;
use crate::routing::{by_path, path_of};
use crate::state::{AorName, Binding, BindingKey};
use crate::tenancy::Origin;
use crate::turn::Turn;
use signalbox_sip::Message;

/// Nobody is there: the status that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nobody(pub(crate) u16);

pub(super) const NOT_FOUND: Nobody = Nobody(404);
pub(crate) const UNAVAILABLE: Nobody = Nobody(480);

/// The one binding for a request that does not fork: a token's own; else of `user@domain` the one with the highest q, the
/// latest among equals. Always within the origin's tenant.
pub(crate) fn locate(
    turn: &Turn<'_>,
    origin: &Origin,
    request: &Message<&[u8]>,
) -> Result<BindingKey, Nobody> {
    let uri = request.request_uri().and_then(sip_uri).ok_or(NOT_FOUND)?;
    let user = uri.decoded_user();
    let reachable = |binding: &&Binding| turn.is_here(binding);
    if let Some(key) = user.as_deref().and_then(BindingKey::from_user) {
        let found = turn.state.registrations().binding_of(origin.tenant.as_str(), key);
        let (_, binding) = found.ok_or(NOT_FOUND)?;
        return Some(binding).filter(reachable).map(|b| b.key).ok_or(UNAVAILABLE);
    }
    let path = path_of(request).and_then(|path| {
        let uri = request.request_uri().unwrap_or_default();
        by_path(turn.state.registrations(), origin.tenant.as_str(), path, uri)
    });
    if let Some((_, binding)) = path {
        return Some(binding).filter(reachable).map(|b| b.key).ok_or(UNAVAILABLE);
    }
    let user = user.ok_or(NOT_FOUND)?;
    let user = std::str::from_utf8(&user).map_err(|_| NOT_FOUND)?;
    let name = AorName::new(origin.tenant.as_str(), user, &origin.domain);
    let aor = turn.state.registrations().aor(name.as_str()).ok_or(NOT_FOUND)?;
    let best =
        aor.bindings.iter().map(|b| &**b).filter(reachable).max_by_key(|b| (b.q.unwrap_or(1000), b.seq));
    best.map(|b| b.key).ok_or(UNAVAILABLE)
}
