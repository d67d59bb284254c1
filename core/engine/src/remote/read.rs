//! From an event of another edge to what it means here.

use super::cache::{Bound, Registered, Update, Version, call_of};
use crate::state::{BindingKey, NOBODYS, backend_key};
use signalbox_base::{Text, Wall};
use signalbox_schemas::values::{QValue, Timestamp};
use signalbox_schemas::{Event, ReadError};

/// Domains whose events [`read`] makes something of.
pub const DOMAINS: [&str; 3] = ["registration", "backend", "edge"];

/// What an event of `edge` (short type with version, tenant, aggregate, data) means for whoever keeps a [`super::Cache`]; `None`
/// when it means nothing.
///
/// # Errors
/// The data does not read, or is of a later release: it is passed over, and the binding expires here in its time.
pub fn read(
    edge: &Text,
    version: Version,
    (kind, tenant, subject): (&str, &str, &Text),
    data: &[u8],
) -> Result<Option<Update>, ReadError> {
    let event = match Event::read(kind, data) {
        Err(ReadError::UnknownType(_)) => return Ok(None),
        other => other?,
    };
    let unbound = |binding: &Text| {
        let edge = edge.clone();
        key(binding).map(|key| Update::Unbound { edge, version, key })
    };
    Ok(match &event {
        Event::RegistrationAdded(e) => {
            bound(edge, version, subject, (&e.binding, e.expires_at, e.q), Some(&e.call_id), e.cseq)
        }
        Event::RegistrationRefreshed(e) => {
            bound(edge, version, subject, (&e.binding, e.expires_at, e.q), e.call_id.as_ref(), e.cseq)
        }
        Event::RegistrationRemoved(e) => unbound(&e.binding),
        Event::RegistrationExpired(e) => unbound(&e.binding),
        Event::EdgeStarted(e) => {
            Some(Update::Started { edge: edge.clone(), version, continues: e.continues })
        }
        Event::BackendStateChanged(e) => Some(Update::Backend {
            edge: edge.clone(),
            version,
            backend: backend_key(if tenant.is_empty() { NOBODYS } else { tenant }, subject),
            state: Text::new(e.to.as_str()),
        }),
        _ => None,
    })
}

fn key(binding: &Text) -> Option<BindingKey> {
    BindingKey::from_user(binding.as_bytes())
}

fn bound(
    edge: &Text,
    version: Version,
    name: &Text,
    (binding, expires_at, q): (&Text, Timestamp, Option<QValue>),
    call_id: Option<&Text>,
    cseq: u32,
) -> Option<Update> {
    let call = call_id.map(|call_id| call_of(call_id.as_bytes()));
    Some(Update::Bound(Bound {
        edge: edge.clone(),
        version,
        name: name.clone(),
        key: key(binding)?,
        expires_at: Wall::from(expires_at),
        q: q.map(QValue::thousandths),
        registered: Registered { call, cseq, at: version.at },
    }))
}
