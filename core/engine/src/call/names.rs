//! Who calls and who is called, written as templates say.

use super::attempt::Target;
use super::leg::Leg;
use super::raw::Raw;
use crate::hiding::Hiding;
use crate::settings::{Numbering, Rewrite, Template};
use signalbox_base::Text;
use signalbox_sip::header::{HeaderName, NameAddr};
use signalbox_sip::{Forward, Message, Uri};
use std::borrow::Cow;

/// What an INVITE says anew.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// The user of the Request-URI.
    called: Text,
    /// The user of From.
    caller: Text,
    /// The user of To.
    to: Text,
    /// Who calls, whatever From says.
    pub(super) known: Text,
    /// P-Asserted-Identity, where there is one.
    pub(super) asserted: Vec<Raw>,
}

impl Names {
    /// By templates, one after the other.
    pub(super) fn written(
        templates: &[&Template],
        numbering: Option<&Numbering>,
        known: &str,
        request: &Message<&[u8]>,
    ) -> Self {
        let by = |number: &str, which: fn(&Template) -> &Rewrite| {
            let apply = |number: Text, template: &&Template| which(template).apply(&number, numbering);
            templates.iter().fold(Text::new(number), apply)
        };
        let dialled = request.request_uri().map(crate::facts::call::user_or_whole).unwrap_or_default();
        let called = by(&dialled, |template| &template.called);
        let caller = |number: &str| by(number, |template| &template.caller);
        let user = |address: Option<NameAddr<'_>>| {
            address.map(|address| crate::facts::call::user_or_whole(address.uri)).unwrap_or_default()
        };
        let (from, to) = (user(request.from().ok()), user(request.to().ok()));
        Self {
            caller: caller(&from),
            known: caller(known),
            to: if to == dialled { called.clone() } else { to },
            called,
            asserted: request
                .values(HeaderName::PAssertedIdentity)
                .map(|value| with_user(value, caller).unwrap_or_else(|| Raw::from(value)))
                .collect(),
        }
    }

    /// A request outside calls is called so; its Request-URI is its target's. `asserted` says whether it may bear
    /// P-Asserted-Identity.
    pub(crate) fn edit<B: AsRef<[u8]>>(
        &self,
        forward: &mut Forward<'_>,
        request: &Message<B>,
        asserted: bool,
        hiding: Option<&Hiding<'_>>,
    ) {
        for (address, user) in [(request.from(), &self.caller), (request.to(), &self.to)] {
            if let Some(old) = address.ok().and_then(|address| user_in(address.uri)) {
                let mut written = Vec::with_capacity(old.len() + user.len());
                signalbox_sip::uri::write_escaped_user(user.as_bytes(), &mut written);
                forward.replace_part(old, &*written);
            }
        }
        let values = request.values(HeaderName::PAssertedIdentity).zip(&self.asserted);
        for (old, new) in values.filter(|_| asserted) {
            let new = hiding.map_or(Cow::Borrowed(&**new), |hiding| hiding.renamed(new));
            forward.replace_part(old, &*new);
        }
    }

    /// Whether there is anybody to be called.
    pub(super) fn calls_somebody(&self) -> bool {
        !self.called.is_empty()
    }

    /// A new leg is called so.
    pub(super) fn put(&self, leg: &mut Leg) {
        for (address, user) in [(&mut leg.local, &self.caller), (&mut leg.remote, &self.to)] {
            if let Some(written) = with_user(address, |_| user.clone()) {
                *address = written;
            }
        }
    }
}

impl Target {
    /// It is called by these names.
    pub(super) fn renamed(&mut self, names: Names) {
        if let Some(uri) = replaced(&self.uri, |_| names.called.clone()) {
            self.uri = uri;
        }
        self.names = Some(Box::new(names));
    }
}

/// An address with another user; none where it stays as it is.
fn with_user(value: &[u8], user: impl Fn(&str) -> Text) -> Option<Raw> {
    let uri = NameAddr::parse(value).ok()?.uri;
    let new = replaced(uri, user)?;
    let start = uri.as_ptr() as usize - value.as_ptr() as usize;
    Some(Raw::from([&value[..start], &new, &value[start + uri.len()..]].concat()))
}

/// The user or number in a URI.
fn user_in(uri: &[u8]) -> Option<&[u8]> {
    match Uri::parse(uri).ok()? {
        Uri::Sip(sip) => sip.user,
        Uri::Tel(tel) => Some(tel.number),
        Uri::Other { .. } => None,
    }
}

fn replaced(uri: &[u8], user: impl Fn(&str) -> Text) -> Option<Raw> {
    let old = user_in(uri)?;
    let new = user(std::str::from_utf8(&signalbox_sip::uri::decode(old)).ok()?);
    let mut written = Vec::with_capacity(uri.len() + new.len());
    let start = old.as_ptr() as usize - uri.as_ptr() as usize;
    written.extend_from_slice(&uri[..start]);
    signalbox_sip::uri::write_escaped_user(new.as_bytes(), &mut written);
    written.extend_from_slice(&uri[start + old.len()..]);
    (written != uri).then(|| Raw::from(written))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_an_address_when_its_user_is_written_anew_then_all_else_stays_byte_for_byte() {
        let anew = |value: &str| {
            let raw = with_user(value.as_bytes(), |user| Text::from(format!("+{user}")));
            raw.map(|raw| String::from_utf8_lossy(&raw).into_owned())
        };
        let written = anew("\"A <sip:9@x>\" <sip:44:word@a.test;user=phone>;x=1");
        assert_eq!(written.as_deref(), Some("\"A <sip:9@x>\" <sip:+44:word@a.test;user=phone>;x=1"));
        assert_eq!(anew("<tel:44;phone-context=x>").as_deref(), Some("<tel:+44;phone-context=x>"));
        assert_eq!(anew("<sip:a.test>"), None, "there is nobody to be named");
    }
}
