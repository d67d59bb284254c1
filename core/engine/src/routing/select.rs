//! The choice itself. An endpoint's call goes to its tenant's backends, a backend's call to a binding of its own tenant.

use super::path::by_path;
use crate::state::binding::{Aor, Binding};
use crate::state::indexes::Registrations;
use crate::state::keys::{AorName, BindingKey};
use signalbox_schemas::words::RouteBasis;
use smallvec::SmallVec;

/// What a request asks for, once its tenant is known. There is no lookup without a tenant.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// The tenant of the request's source.
    pub tenant: &'a str,
    /// The canonical domain that was addressed.
    pub domain: &'a str,
    /// User part of the Request-URI, unescaped; `None` when it has none.
    pub user: Option<&'a [u8]>,
    /// The Request-URI.
    pub uri: &'a [u8],
    /// The token in the first Route: our Path, from a backend that keeps the phones' own Contacts.
    pub path: Option<BindingKey>,
    /// What kind of peer asks.
    pub source: Source,
}

/// What kind of peer asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A phone.
    Endpoint,
    /// A phone that calls a user whose registrar the edge is.
    Neighbour,
    /// A PBX of the tenant.
    Backend,
    /// A carrier.
    Trunk,
}

/// Where the request goes.
#[derive(Clone, Debug)]
pub enum Route<'s> {
    /// To the tenant's backends, in the order of the pool.
    Backends,
    /// To these bindings at once; at least one.
    Contacts {
        /// What named them.
        basis: RouteBasis,
        /// The bindings, most preferred first.
        contacts: SmallVec<[(&'s Aor, &'s Binding); 2]>,
    },
    /// To nobody.
    Nobody(Nobody),
}

/// Why a request goes to nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nobody {
    /// No such token or user in this tenant.
    NotFound,
    /// What looks like a token, and is none of this tenant's: no rule is asked about it.
    NoToken,
    /// There are bindings; none can be reached now.
    Unreachable,
}

impl Nobody {
    /// The status it is answered with.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::NotFound | Self::NoToken => 404,
            Self::Unreachable => 480,
        }
    }
}

/// Chooses. `reachable` says whether a binding's flow still leads to its phone.
///
/// A token, in the Request-URI or in our Path, names exactly one binding and forks to nobody else; `user@domain` forks to all bindings of the AoR. Either is
/// looked up within the query's tenant only. A binding that is stored counts, whatever its expiry says: it is removed when
/// its time is over, and that is later than what was granted when a restart may have lost its refresh (DESIGN.md §6).
#[must_use]
pub fn select<'s>(
    registrations: &'s Registrations,
    query: &Query<'_>,
    reachable: impl Fn(&Binding) -> bool,
) -> Route<'s> {
    if matches!(query.source, Source::Endpoint | Source::Trunk) {
        return Route::Backends;
    }
    let user = query.user.filter(|user| !user.is_empty());
    let by_name = user.filter(|_| query.source == Source::Backend);
    let named = by_name.and_then(|user| by_token(registrations, query, user)).or_else(|| {
        let found = by_path(registrations, query.tenant, query.path?, query.uri)?;
        Some(Found::from_iter([found]))
    });
    let (basis, found) = match (named, user) {
        (Some(found), _) => (RouteBasis::Token, found),
        (None, Some(user)) => (RouteBasis::Binding, by_address(registrations, query, user)),
        (None, None) => return Route::Nobody(Nobody::NotFound),
    };
    let mut contacts = found;
    if contacts.is_empty() {
        return Route::Nobody(Nobody::NotFound);
    }
    contacts.retain(|(_, binding)| reachable(binding));
    if contacts.is_empty() {
        return Route::Nobody(Nobody::Unreachable);
    }
    one_flow_each(&mut contacts);
    contacts.sort_by_key(|(_, binding)| std::cmp::Reverse(binding.q.unwrap_or(1000)));
    Route::Contacts { basis, contacts }
}

type Found<'s> = SmallVec<[(&'s Aor, &'s Binding); 2]>;

/// Of one device only the flow that it registered last is used (RFC 5626 §5.3).
fn one_flow_each(contacts: &mut Found<'_>) {
    if contacts.len() < 2 {
        return;
    }
    let flows: SmallVec<[_; 2]> = contacts.iter().map(|(_, b)| (b.instance.clone(), b.seq)).collect();
    contacts.retain(|(_, binding)| {
        let newer = |(instance, seq): &(_, _)| *instance == binding.instance && *seq > binding.seq;
        binding.instance.is_none() || !flows.iter().any(newer)
    });
}

fn by_token<'s>(registrations: &'s Registrations, query: &Query<'_>, user: &[u8]) -> Option<Found<'s>> {
    let found = registrations.binding_of(query.tenant, BindingKey::from_user(user)?)?;
    Some(Found::from_iter([found]))
}

fn by_address<'s>(registrations: &'s Registrations, query: &Query<'_>, user: &[u8]) -> Found<'s> {
    let Ok(user) = std::str::from_utf8(user) else { return Found::new() };
    let name = AorName::new(query.tenant, user, query.domain);
    let aor = registrations.aor(name.as_str());
    aor.into_iter().flat_map(|aor| aor.bindings.iter().map(move |binding| (aor, &**binding))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use signalbox_base::{EventSeq, Flow, ListenerId, Text, Wall};

    fn binding(key: u128, q: u16) -> Binding {
        let addr = "192.0.2.1:5060".parse().unwrap();
        Binding {
            key: BindingKey(key),
            contact: Text::new("sip:401@10.0.0.7"),
            flow: Flow::udp(ListenerId(0), addr, addr).into(),
            path: None,
            instance: None,
            reg_id: None,
            q: Some(q),
            call_id: Text::new("x"),
            cseq: 1,
            expires_at: Wall::from_secs(1_000),
            granted_secs: 60,
            behind_nat: true,
            user_agent: None,
            methods: None,
            added_at: Wall::from_secs(940),
            seq: EventSeq(1),
        }
    }

    fn world() -> Registrations {
        let mut all = Registrations::default();
        let backend = Text::new("pbx");
        for (aor, bindings) in [
            ("acme/401@a.example", vec![binding(1, 500), binding(2, 900)]),
            ("bolt/401@b.example", vec![binding(9, 1000)]),
        ] {
            for one in bindings {
                all.put(&Text::new(aor), &backend, &backend, one);
            }
        }
        all
    }

    fn keys(route: &Route<'_>) -> Vec<u128> {
        match route {
            Route::Contacts { contacts, .. } => contacts.iter().map(|(_, b)| b.key.0).collect(),
            _ => vec![],
        }
    }

    fn query<'a>(tenant: &'a str, domain: &'a str, user: &'a [u8]) -> Query<'a> {
        Query { tenant, domain, user: Some(user), uri: b"", path: None, source: Source::Backend }
    }

    #[test]
    fn given_an_endpoint_when_it_calls_then_its_backends_decide() {
        let ask = Query { source: Source::Endpoint, ..query("acme", "a.example", b"402") };
        assert!(matches!(select(&world(), &ask, |_| true), Route::Backends));
    }

    #[test]
    fn given_two_contacts_when_the_user_is_called_then_both_ring_the_preferred_one_first() {
        let all = world();
        assert_eq!(keys(&select(&all, &query("acme", "a.example", b"401"), |_| true)), [2, 1]);
    }

    #[test]
    fn given_a_token_when_it_is_called_then_it_alone_rings() {
        let all = world();
        let token = BindingKey(1).to_string();
        assert_eq!(keys(&select(&all, &query("acme", "a.example", token.as_bytes()), |_| true)), [1]);
    }

    #[test]
    fn given_a_path_when_the_contact_is_called_then_the_binding_it_names_rings_and_no_other_tenants() {
        let all = world();
        let uri = b"sip:401@10.0.0.7";
        let by = |path, user| {
            let ask = Query { uri, path: Some(BindingKey(path)), user, ..query("acme", "a.example", b"") };
            keys(&select(&all, &ask, |_| true))
        };
        assert_eq!(by(1, Some(b"401".as_slice())), [1]);
        assert_eq!(by(2, None), [2], "a Contact without a user");
        assert_eq!(by(9, Some(b"402".as_slice())), Vec::<u128>::new());
    }

    #[test]
    fn given_a_neighbour_when_it_calls_then_the_users_contacts_ring_and_tokens_are_nothing_to_it() {
        let all = world();
        let ask = |user| Query { source: Source::Neighbour, ..query("acme", "a.example", user) };
        assert_eq!(keys(&select(&all, &ask(b"401"), |_| true)), [2, 1]);
        let token = BindingKey(1).to_string();
        assert_eq!(keys(&select(&all, &ask(token.as_bytes()), |_| true)), Vec::<u128>::new());
    }

    #[test]
    fn given_two_flows_of_one_device_when_it_is_called_then_the_later_one_rings_rfc5626_5_3() {
        let mut all = world();
        let backend = Text::new("pbx");
        for (key, seq) in [(1, 7), (2, 9)] {
            let instance = Some(Text::new("urn:uuid:1"));
            let one = Binding { instance, reg_id: Some(key as u32), seq: EventSeq(seq), ..binding(key, 500) };
            all.put(&Text::new("acme/401@a.example"), &backend, &backend, one);
        }
        let ask = query("acme", "a.example", b"401");
        assert_eq!(keys(&select(&all, &ask, |_| true)), [2]);
        assert_eq!(keys(&select(&all, &ask, |b| b.key.0 == 1)), [1], "the other when that one is gone");
    }

    #[test]
    fn given_another_tenants_token_or_domain_when_called_then_nobody_is_there() {
        let all = world();
        let token = BindingKey(9).to_string();
        for (domain, user) in [("a.example", token.as_bytes()), ("b.example", b"401".as_slice())] {
            let route = select(&all, &query("acme", domain, user), |_| true);
            assert!(matches!(route, Route::Nobody(Nobody::NotFound)), "{route:?}");
        }
    }

    #[test]
    fn given_only_lost_flows_when_called_then_it_is_480() {
        let all = world();
        let route = select(&all, &query("acme", "a.example", b"401"), |_| false);
        assert!(matches!(route, Route::Nobody(nobody) if nobody.status() == 480));
        assert_eq!(keys(&select(&all, &query("acme", "a.example", b"401"), |b| b.key.0 == 1)), [1]);
    }
}
