//! What would become of a call, without one: for `signalbox route`.

use super::choose::{Choice, Chosen, choose, tenant_of};
use super::select::Source;
use super::{Ask, Asked};
use crate::facts::call::user_or_whole;
use crate::settings::{DomainPolicy, MemberName, Settings, Template, TenantSettings};
use crate::tenancy::Directory;
use signalbox_base::{Text, Wall};

/// A call that might be.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// A phone (`401@acme.test`), or the name of a backend (`pbx-1`, `acme/pbx-1`) or trunk.
    pub from: &'a str,
    /// What is dialled, with a domain or without.
    pub to: &'a str,
    /// Who calls, where `from` is no phone.
    pub caller: &'a str,
    /// Header fields that it has.
    pub headers: &'a [(Text, Text)],
    /// When.
    pub wall: Wall,
}

/// What would become of it.
#[derive(Clone, Debug)]
pub struct Answer<'s> {
    /// Whose call it is.
    pub tenant: &'s TenantSettings,
    /// What kind of peer calls.
    pub source: Source,
    /// The domain that it is in.
    pub domain: Text,
    /// What is dialled.
    pub number: Text,
    /// The caller is blocked; else where it goes.
    pub choice: Option<Choice<'s>>,
}

/// Explains. `registered` says whether somebody is registered as `user@domain` of a tenant.
///
/// # Errors
/// There is nobody of that name, or nobody's call it is: in words.
pub fn explain<'s>(
    settings: &'s Settings,
    directory: &Directory,
    question: &Question<'_>,
    registered: impl Fn(&str, &str) -> bool,
) -> Result<Answer<'s>, String> {
    let (number, named) = match question.to.split_once('@') {
        Some((number, domain)) => (number, Some(domain)),
        None => (question.to, None),
    };
    // As a call to it is read: escapes, separators and parameters mean nothing.
    let number = user_or_whole(format!("sip:{number}@x").as_bytes());
    let from = Origin::of(settings, directory, question, &number)?;
    let Origin { source, peer, caller, tenant, domain, template } = from;
    let named = named.and_then(|name| directory.domain(settings, name.as_bytes()));
    let domain = match named.filter(|(owner, _)| owner.name == tenant.name) {
        Some((_, domain)) => domain.clone(),
        None => domain.or(tenant.domains.first().map(|domain| domain.name.clone())).unwrap_or_default(),
    };
    let policy = directory.policy(settings, &domain);
    let source =
        if source == Source::Endpoint { phone(policy, tenant, Some(number.as_bytes())) } else { source };
    let written = template.map(|template| template.caller.apply(&caller, Some(&tenant.numbering)));
    if source == Source::Trunk
        && (tenant.numbering.blocks(&caller)
            || written.is_some_and(|caller| tenant.numbering.blocks(&caller)))
    {
        return Ok(Answer { tenant, source, domain, number, choice: None });
    }
    let mut asked = Asked::by_numbers(Some(tenant), template, number.clone(), Text::new(&caller));
    asked.headers = question.headers.to_vec();
    let bound = registered(tenant.name.as_str(), &format!("{number}@{domain}"))
        || is_user(policy, Some(number.as_bytes()));
    let number = asked.number.clone();
    let ask = Ask { domain: &domain, bound, ..asked.ask(source, &peer, question.wall) };
    let choice = choose(&settings.rules, &ask);
    Ok(Answer { tenant, source, domain: domain.clone(), number, choice: Some(choice) })
}

struct Origin<'s> {
    source: Source,
    peer: Text,
    caller: String,
    tenant: &'s TenantSettings,
    domain: Option<Text>,
    template: Option<&'s Template>,
}

impl<'s> Origin<'s> {
    fn of(
        settings: &'s Settings,
        directory: &Directory,
        question: &Question<'_>,
        number: &Text,
    ) -> Result<Self, String> {
        if let Some((user, domain)) = question.from.split_once('@') {
            let found = directory.domain(settings, domain.as_bytes());
            let found = found.and_then(|(owner, name)| Some((settings.tenant(&owner.name)?, name.clone())));
            let (tenant, domain) = found.ok_or_else(|| format!("no tenant has the domain {domain}"))?;
            let domain = Some(domain);
            let peer = Text::default();
            let caller = user.to_owned();
            return Ok(Self { source: Source::Endpoint, peer, caller, tenant, domain, template: None });
        }
        let name = question.from.rsplit_once('/').map_or(question.from, |(_, name)| name);
        let owner = question.from.rsplit_once('/').map(|(owner, _)| owner);
        let mut all = Directory::peers(settings).filter(|(_, found)| {
            *found.backend.name == *name && owner.is_none_or(|owner| found.owner() == owner)
        });
        let (Some((place, found)), None) = (all.next(), all.next()) else {
            return Err(format!("not one backend or trunk is named {}", question.from));
        };
        let source = if place.is_trunk() { Source::Trunk } else { Source::Backend };
        let caller = question.caller.to_owned();
        let template = found.trunk.and_then(|trunk| trunk.template_in.as_deref());
        let dialled = Asked::by_numbers(None, template, number.clone(), Text::default()).number;
        let nobodys = || format!("{number} is nobody's number, and no route takes it: 404");
        let tenant = match found.tenant.or_else(|| directory.owner_of(settings, &dialled)) {
            Some(tenant) => tenant,
            None => {
                let mut asked = Asked::by_numbers(None, template, number.clone(), Text::new(&caller));
                asked.headers = question.headers.to_vec();
                let ask = asked.ask(source, name, question.wall);
                let owner = tenant_of(&settings.rules, &ask).ok_or_else(nobodys)?;
                settings.tenant(owner).ok_or_else(nobodys)?
            }
        };
        if found.trunk.is_some_and(|trunk| !trunk.direction.is_in()) {
            return Err(format!("trunk {name} does not call: its direction is out"));
        }
        let domain = found.backend.domain.clone();
        Ok(Self { source, peer: Text::new(name), caller, tenant, domain, template })
    }
}

/// Who asks, where it is a phone: one that calls a user of a domain of our own is heard here. Whatever else it dials is for
/// the tenant's backends, where there are any.
pub(crate) fn phone(policy: Option<&DomainPolicy>, tenant: &TenantSettings, user: Option<&[u8]>) -> Source {
    let own = policy.is_some_and(|policy| policy.registrar.is_some() && policy.users.is_some());
    if own && (tenant.backends.is_empty() || is_user(policy, user)) {
        Source::Neighbour
    } else {
        Source::Endpoint
    }
}

/// Whether somebody is a user of a domain, registered or not, where the edge is its registrar.
pub(crate) fn is_user(policy: Option<&DomainPolicy>, user: Option<&[u8]>) -> bool {
    let users = policy.and_then(|policy| policy.registrar.as_ref().and(policy.users.as_deref()));
    users.zip(user).is_some_and(|(users, user)| users.knows(user))
}

impl Answer<'_> {
    /// What a member of the group would see dialled, by the templates of rule and trunk.
    #[must_use]
    pub fn dialled(&self, settings: &Settings, member: &MemberName) -> Text {
        let rule = self.choice.as_ref().and_then(|choice| choice.rule?.template.as_deref());
        let trunk = match member {
            MemberName::Trunk(name) => settings.trunks.iter().find(|trunk| trunk.peer.name == *name),
            MemberName::Backend(..) => None,
        };
        let out = trunk.and_then(|trunk| trunk.template_out.as_deref());
        let apply =
            |number: Text, template: &Template| template.called.apply(&number, Some(&self.tenant.numbering));
        rule.into_iter().chain(out).fold(self.number.clone(), apply)
    }

    /// For people: what happens and which rule says so.
    #[must_use]
    pub fn describe(&self) -> String {
        self.choice
            .as_ref()
            .map_or_else(|| "refused with 603, the caller is blocked".to_owned(), Choice::describe)
    }

    /// Where it goes, in a word for programs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.choice.as_ref().map(|choice| choice.to) {
            None => "blocked",
            Some(Chosen::Contacts) => "contacts",
            Some(Chosen::Backends) => "backends",
            Some(Chosen::Nobody) => "nobody",
            Some(Chosen::Rule(to)) => to.kind(),
        }
    }
}
