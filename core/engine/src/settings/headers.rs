//! What peers want done to header fields of messages that come from them and go to them.

use super::routes::MemberName;
use signalbox_base::{TenantId, Text};
use signalbox_sip::HeaderName;
use std::sync::Arc;

/// Bytes of a header field's name, at most.
const NAME_BYTES_MAX: usize = 64;
/// Bytes of a value as it is written in the configuration, at most.
const VALUE_BYTES_MAX: usize = 512;

/// One rule of a `[[template]]`; rules are applied in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderRule {
    /// What is done.
    pub action: HeaderAction,
    /// Whether it is for requests.
    pub requests: bool,
    /// Whether it is for responses.
    pub responses: bool,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderAction {
    /// Takes fields out.
    Remove(Vec<NamePattern>),
    /// The message has one field of this name, with this value.
    Set(FieldName, FieldValue),
    /// The same where it has none of this name; else nothing.
    Add(FieldName, FieldValue),
}

/// A name that rules may be about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldName {
    id: HeaderName,
    text: Text,
}

/// Names that rules may be about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamePattern {
    /// This one.
    Exact(FieldName),
    /// All that begin so, in any case, but those that the edge owns.
    Prefix(Text),
}

/// A value: fixed text, and what is put into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldValue(Vec<Part>);

/// A piece of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Text(Text),
    /// The name of the tenant.
    Tenant,
    /// The name of the backend or trunk whose rule it is.
    Peer,
}

/// Whether a header field is the edge's own business, so that no rule touches it: what routes a message, names dialogs and
/// transactions, bounds registrations, subscriptions and sessions, describes the body, agrees on extensions, proves who
/// somebody is or asks that it be hidden.
#[must_use]
pub const fn is_owned(name: HeaderName) -> bool {
    use HeaderName as H;
    matches!(
        name,
        H::Via
            | H::Route
            | H::RecordRoute
            | H::Contact
            | H::From
            | H::To
            | H::CallId
            | H::CSeq
            | H::MaxForwards
            | H::MaxBreadth
            | H::Path
            | H::ServiceRoute
            | H::RAck
            | H::RSeq
            | H::Replaces
            | H::Join
            | H::TargetDialog
            | H::ReferTo
            | H::Expires
            | H::MinExpires
            | H::FlowTimer
            | H::SessionExpires
            | H::MinSe
            | H::Event
            | H::SubscriptionState
            | H::SipETag
            | H::SipIfMatch
            | H::ContentLength
            | H::ContentType
            | H::ContentEncoding
            | H::ContentDisposition
            | H::MimeVersion
            | H::Require
            | H::ProxyRequire
            | H::Supported
            | H::Unsupported
            | H::Authorization
            | H::ProxyAuthorization
            | H::WwwAuthenticate
            | H::ProxyAuthenticate
            | H::AuthenticationInfo
            | H::Privacy
    )
}

impl FieldName {
    /// Reads a name, long or compact.
    ///
    /// # Errors
    /// What is wrong, for whoever wrote it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if !is_token(text) {
            return Err("is no name of a header field");
        }
        let id = HeaderName::from_bytes(text.as_bytes());
        if is_owned(id) {
            return Err("is the edge's own");
        }
        let text = if id == HeaderName::Other { text } else { id.as_str() };
        Ok(Self { id, text: Text::new(text) })
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn id(&self) -> HeaderName {
        self.id
    }

    /// Whether it says who somebody is, in words that whoever reads them believes.
    #[must_use]
    pub fn is_claim(&self) -> bool {
        crate::call::CLAIMS.contains(&self.id)
    }

    /// Whether another is the same name.
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.is(other.id, other.text.as_bytes())
    }

    /// Whether a field of a message bears it.
    pub(crate) fn is(&self, id: HeaderName, name: &[u8]) -> bool {
        self.id == id && (id != HeaderName::Other || name.eq_ignore_ascii_case(self.text.as_bytes()))
    }
}

impl NamePattern {
    /// Reads a name, or how names begin: `X-*`.
    ///
    /// # Errors
    /// What is wrong, for whoever wrote it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        match text.strip_suffix('*') {
            None => FieldName::parse(text).map(Self::Exact),
            Some(prefix) if prefix.is_empty() || is_token(prefix) => Ok(Self::Prefix(Text::new(prefix))),
            Some(_) => Err("is no beginning of names of header fields"),
        }
    }

    /// Whether it takes a field that bears this name.
    pub(crate) fn takes(&self, id: HeaderName, name: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => exact.is(id, name),
            Self::Prefix(prefix) => {
                let name = if id == HeaderName::Other { name } else { id.as_str().as_bytes() };
                name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
            }
        }
    }
}

impl FieldValue {
    /// Reads a value: text in which `{tenant}` and `{peer}` stand for their names.
    ///
    /// # Errors
    /// What is wrong, for whoever wrote it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.trim().is_empty() {
            return Err("is empty");
        }
        if text.chars().any(char::is_control) {
            return Err("has a line end or control character in it");
        }
        if text.len() > VALUE_BYTES_MAX {
            return Err("has more than 512 bytes");
        }
        let (mut parts, mut rest) = (Vec::new(), text.trim());
        while let Some((before, behind)) = rest.split_once('{') {
            let (part, behind) = match behind.split_once('}') {
                Some(("tenant", behind)) => (Part::Tenant, behind),
                Some(("peer", behind)) => (Part::Peer, behind),
                _ => return Err("has a { that begins neither {tenant} nor {peer}"),
            };
            parts.extend((!before.is_empty()).then(|| Part::Text(Text::new(before))));
            parts.push(part);
            rest = behind;
        }
        parts.extend((!rest.is_empty()).then(|| Part::Text(Text::new(rest))));
        Ok(Self(parts))
    }

    /// Whether the name of a backend or trunk is put into it.
    #[must_use]
    pub fn names_a_peer(&self) -> bool {
        self.0.contains(&Part::Peer)
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.0
    }
}

fn is_token(text: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(token)
}

/// The side of one peer.
#[derive(Clone, Debug)]
pub struct Border {
    /// Whose it is.
    pub of: BorderOf,
    /// Rules of what comes from it, in requests before routes look at them.
    pub from: Option<Arc<[HeaderRule]>>,
    /// Rules of what goes to it, applied last.
    pub to: Option<Arc<[HeaderRule]>>,
}

/// Who has a border.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BorderOf {
    /// A tenant's phones.
    Phones(TenantId),
    /// A backend or trunk.
    Peer(MemberName),
}

impl BorderOf {
    fn key(&self) -> (&str, &str) {
        match self {
            Self::Phones(tenant) => (tenant.as_str(), ""),
            Self::Peer(MemberName::Backend(tenant, name)) => (tenant.as_str(), name),
            Self::Peer(MemberName::Trunk(name)) => ("", name),
        }
    }
}

/// Borders that have rules, found by whose they are.
#[derive(Clone, Debug, Default)]
pub struct Borders(Vec<Border>);

impl Borders {
    /// Those of these that have rules.
    #[must_use]
    pub fn new(borders: impl IntoIterator<Item = Border>) -> Self {
        let mut found: Vec<Border> =
            borders.into_iter().filter(|border| border.from.is_some() || border.to.is_some()).collect();
        found.sort_by(|a, b| a.of.key().cmp(&b.of.key()));
        Self(found)
    }

    /// The border of a backend or trunk by its name, which no trunk shares with a backend; without one of the tenant's phones.
    #[must_use]
    pub(crate) fn of(&self, tenant: &str, peer: Option<&str>) -> Option<&Border> {
        if self.0.is_empty() {
            return None;
        }
        let find = |key: (&str, &str)| self.0.binary_search_by(|border| border.of.key().cmp(&key)).ok();
        let name = peer.unwrap_or_default();
        let at = find((tenant, name)).or_else(|| find(("", name)).filter(|_| peer.is_some()))?;
        self.0.get(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_names_then_those_that_the_edge_owns_and_what_is_no_name_are_refused_also_in_short() {
        for own in ["Via", "v", "CONTACT", "m", "Content-Type", "call-id", "Authorization", "x", "Privacy"] {
            assert_eq!(FieldName::parse(own), Err("is the edge's own"), "{own}");
        }
        for bad in ["", "X Y", "X:", "X\r\nVia", "Ünder", &"x".repeat(65)] {
            assert!(FieldName::parse(bad).is_err(), "{bad}");
        }
        let subject = FieldName::parse("s").expect("a name");
        assert_eq!(subject.as_str(), "Subject");
        assert!(subject.is(HeaderName::Subject, b"s") && !subject.is(HeaderName::Other, b"X-Subject"));
        let custom = FieldName::parse("X-Way").expect("a name");
        assert!(custom.is(HeaderName::Other, b"x-way") && !custom.is(HeaderName::Other, b"X-Ways"));
    }

    #[test]
    fn given_the_beginning_of_names_then_it_takes_them_in_any_case_and_compact_ones_by_their_long_name() {
        let takes = |pattern: &str, name: &str| {
            let pattern = NamePattern::parse(pattern).expect("a pattern");
            pattern.takes(HeaderName::from_bytes(name.as_bytes()), name.as_bytes())
        };
        assert!(takes("X-*", "x-way") && takes("*", "anything") && takes("Sub*", "s"));
        assert!(!takes("X-*", "P-Way") && !takes("X-*", "X") && !takes("s*", "X-s"));
        assert!(NamePattern::parse("a b*").is_err());
    }

    #[test]
    fn given_values_then_only_known_words_are_put_in_and_no_line_ends() {
        let good = FieldValue::parse("a {tenant}/{peer};b").expect("a value");
        let text = |text: &str| Part::Text(Text::new(text));
        assert_eq!(good.parts(), [text("a "), Part::Tenant, text("/"), Part::Peer, text(";b")]);
        assert!(good.names_a_peer());
        for bad in ["", "  ", "a\r\nVia: x", "a\tb", "{caller}", "{tenant", "{", &"x".repeat(513)] {
            assert!(FieldValue::parse(bad).is_err(), "{bad}");
        }
    }
}
