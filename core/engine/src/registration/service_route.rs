//! Service-Route (RFC 3608): the way that a backend wants a phone's requests to take. The phone gets it sealed into one of our
//! own, which it puts into Route; what the backend wrote is put back there, and nobody outside sees it.

use super::register::Pending;
use crate::standalone::{sip_uri, token};
use crate::tenancy::Origin;
use crate::turn::Turn;
use serde::{Deserialize, Serialize};
use signalbox_base::Text;
use signalbox_sip::header::NameAddr;
use signalbox_sip::{HeaderName, Message};

const SERVICE: token::Kind =
    token::Kind { prefix: "s_", key: b"service route", nonce: b"service route nonce" };
/// Values that are kept of one answer.
const ROUTES_MAX: usize = 4;

#[derive(Serialize, Deserialize)]
struct Service {
    tenant: Text,
    backend: Text,
    routes: Vec<Text>,
}

/// What the phone is told; none where the backend said nothing.
pub(super) fn sealed(turn: &Turn<'_>, pending: &Pending, response: &Message<&[u8]>) -> Option<String> {
    let routes: Vec<Text> =
        response.values(HeaderName::ServiceRoute).take(ROUTES_MAX).map(Text::lossy).collect();
    if routes.is_empty() {
        return None;
    }
    let tenant = pending.tenant.text().clone();
    let service = Service { tenant, backend: pending.at.name.clone(), routes };
    let token = SERVICE.seal(&turn.settings.cluster_key, &service);
    Some(format!("<sip:{token}@{};lr>", turn.advertised(&pending.flow)))
}

/// The Routes of a phone's request to a backend, first to be met first: those that it once told this phone's tenant.
pub(crate) fn service_routes(
    turn: &Turn<'_>,
    origin: &Origin,
    request: &Message<&[u8]>,
    backend: &Text,
) -> Vec<Text> {
    let users = request.values(HeaderName::Route).filter_map(|value| NameAddr::parse(value).ok());
    let users = users.filter_map(|route| sip_uri(route.uri)?.user).filter(|user| SERVICE.is(user));
    let opened = users.filter_map(|user| SERVICE.open::<Service>(&turn.settings.cluster_key, user));
    let mut ours = opened.filter(|told| *told.tenant == *origin.tenant.as_str() && told.backend == *backend);
    ours.next().map(|told| told.routes).unwrap_or_default()
}
