//! Backends that keep the phone's own Contact (RFC 3327 §5.3): the Route that they learned as a Path names the edge with the
//! binding's token, and the Request-URI is the Contact.

use crate::state::binding::{Aor, Binding};
use crate::state::indexes::Registrations;
use crate::state::keys::BindingKey;
use signalbox_sip::header::NameAddr;
use signalbox_sip::uri::equivalent;
use signalbox_sip::{HeaderName, Message, Uri};

/// The token in a request's first Route; `None` when that is none of our Paths.
#[must_use]
pub fn path_of<B: AsRef<[u8]>>(request: &Message<B>) -> Option<BindingKey> {
    let route = NameAddr::parse(request.values(HeaderName::Route).next()?).ok()?;
    match route.parsed_uri() {
        Ok(Uri::Sip(uri)) => BindingKey::from_user(uri.user?),
        _ => None,
    }
}

/// The binding that a Path and a Request-URI mean: of the AoR that the Path names, the one with this Contact, else the named
/// one itself. `None` when the Path names nobody of this tenant.
#[must_use]
pub fn by_path<'s>(
    registrations: &'s Registrations,
    tenant: &str,
    path: BindingKey,
    uri: &[u8],
) -> Option<(&'s Aor, &'s Binding)> {
    let (aor, named) = registrations.binding_of(tenant, path)?;
    let Ok(uri) = Uri::parse(uri) else { return Some((aor, named)) };
    let is_meant = |binding: &&Binding| {
        Uri::parse(binding.contact.as_bytes()).is_ok_and(|contact| equivalent(&contact, &uri))
    };
    let mut others = aor.bindings.iter().map(|binding| &**binding);
    let meant = Some(named).filter(is_meant).or_else(|| others.find(is_meant));
    Some((aor, meant.unwrap_or(named)))
}
