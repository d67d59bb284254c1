//! One binding and one address of record as the fold knows them.

use crate::state::keys::{BindingKey, NameParts};
use serde::{Deserialize, Serialize};
use signalbox_base::{CompactFlow, EventSeq, Text, Wall};
use signalbox_sip::uri::without_headers;
use smallvec::SmallVec;

/// One contact of an AoR, reached over one flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// Its key, and its token towards backends.
    pub key: BindingKey,
    /// The Contact URI as the phone wrote it.
    pub contact: Text,
    /// Where the phone is reached: the flow its last REGISTER came over.
    pub flow: CompactFlow,
    /// Path values of the phone's side, joined with commas (RFC 3327); none for most.
    pub path: Option<Text>,
    /// `+sip.instance` without quotes and brackets.
    pub instance: Option<Text>,
    /// `reg-id`.
    pub reg_id: Option<u32>,
    /// Preference, 0 to 1000.
    pub q: Option<u16>,
    /// Call-ID of the last REGISTER.
    pub call_id: Text,
    /// CSeq number of the last REGISTER.
    pub cseq: u32,
    /// When it ends unless refreshed.
    pub expires_at: Wall,
    /// What was granted last, seconds.
    pub granted_secs: u32,
    /// The phone's address as seen differs from the one in its Contact.
    pub behind_nat: bool,
    /// User-Agent of the last REGISTER.
    pub user_agent: Option<Text>,
    /// Methods allowed, joined with commas.
    pub methods: Option<Text>,
    /// When it was stored first.
    pub added_at: Wall,
    /// The last record about it.
    pub seq: EventSeq,
}

impl Binding {
    /// The Contact as a Request-URI: without headers, which would be for whoever follows it as a link (RFC 3261 §19.1.1).
    #[must_use]
    pub fn request_uri(&self) -> Text {
        match without_headers(self.contact.as_bytes()).len() {
            all if all == self.contact.len() => self.contact.clone(),
            bare => Text::new(&self.contact[..bare]),
        }
    }
}

/// An address of record with its bindings; exists while it has any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aor {
    /// `tenant/user@domain`: the subject of its events.
    pub name: Text,
    /// The backend its traffic goes to: the one that accepted its last REGISTER.
    pub backend: Text,
    /// The backend it was given first; it goes back there at a refresh once that one is up again.
    pub home: Text,
    /// Its bindings, oldest first.
    pub bindings: SmallVec<[Box<Binding>; 1]>,
    /// The last record about it.
    pub seq: EventSeq,
}

impl Aor {
    /// The tenant.
    #[must_use]
    pub fn tenant(&self) -> &str {
        NameParts(&self.name).tenant()
    }

    /// `user@domain`.
    #[must_use]
    pub fn address(&self) -> &str {
        NameParts(&self.name).address()
    }

    /// The domain.
    #[must_use]
    pub fn domain(&self) -> &str {
        NameParts(&self.name).domain()
    }

    /// The user.
    #[must_use]
    pub fn user(&self) -> &str {
        NameParts(&self.name).user()
    }

    /// The binding of this key.
    #[must_use]
    pub fn binding(&self, key: BindingKey) -> Option<&Binding> {
        self.bindings.iter().find(|b| b.key == key).map(|b| &**b)
    }
}
