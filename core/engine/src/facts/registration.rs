//! What became of bindings.

use super::Fact;
use super::uri::{public, public_text, public_values};
use crate::registration::{Pending, Registered};
use crate::state::{
    Aor, Binding, BindingKey, BindingPrivate, NOBODYS, NameParts, Private, TrueForms, WholeBinding,
};
use crate::turn::Turn;
use signalbox_base::{Flow, TenantId, Text, Wall};
use signalbox_schemas::registration::{
    RegistrationAdded, RegistrationExpired, RegistrationOutboundChanged, RegistrationRefreshed,
    RegistrationRejected, RegistrationRemoved,
};
use signalbox_schemas::values::{QValue, TransportAddress};
use signalbox_schemas::words::{OutboundState, RejectedBy, RemovalReason};
use signalbox_sip::header::NameAddr;
use signalbox_sip::{HeaderName, Message};
use std::borrow::Cow;
use std::time::Duration;

/// A binding as it is about to be stored.
pub(crate) struct Stored<'a> {
    pub(crate) pending: &'a Pending,
    pub(crate) key: BindingKey,
    pub(crate) home: Text,
    pub(crate) contact: Text,
    pub(crate) instance: Option<Text>,
    pub(crate) reg_id: Option<u32>,
    pub(crate) q: Option<u16>,
    pub(crate) path: Option<Text>,
    pub(crate) user_agent: Option<Text>,
    pub(crate) methods: Option<Cow<'a, str>>,
    pub(crate) call_id: &'a [u8],
    pub(crate) cseq: u32,
    pub(crate) granted_secs: u32,
    pub(crate) expires_at: Wall,
    pub(crate) behind_nat: bool,
}

impl Stored<'_> {
    fn reached(&self) -> BindingPrivate {
        BindingPrivate {
            key: self.key,
            flow: self.pending.flow,
            backend: self.pending.at.name.clone(),
            home: self.home.clone(),
            granted_secs: self.granted_secs,
            behind_nat: self.behind_nat,
        }
    }

    fn private(&self, contact: &Text, path: Option<&Text>) -> Private {
        let private = self.reached();
        // What an event may not show is still what the phone is called by.
        if *contact == self.contact && path == self.path.as_ref() {
            return Private::Binding(private);
        }
        let forms = TrueForms { contact: self.contact.clone(), path: self.path.clone() };
        Private::BindingWith(private, forms)
    }

    /// All of the binding as the fold has it once it has folded this refresh of `old`.
    fn whole(&self, old: &Binding) -> Private {
        let kept = |new: Option<&str>, old: &Option<Text>| match (new, old) {
            (Some(new), Some(old)) if *new == **old => Some(old.clone()),
            (Some(new), _) => Some(Text::new(new)),
            (None, old) => old.clone(),
        };
        let methods = methods(self.methods.as_deref()).join(",");
        let same_methods = each_method(self.methods.as_deref()).eq(each_method(old.methods.as_deref()));
        let methods = if same_methods || methods.is_empty() { None } else { Some(&*methods) };
        let whole = WholeBinding {
            forms: TrueForms { contact: self.contact.clone(), path: kept(self.path.as_deref(), &old.path) },
            instance: old.instance.clone(),
            reg_id: old.reg_id,
            q: self.q.or(old.q),
            call_id: Text::lossy(self.call_id),
            user_agent: kept(self.user_agent.as_deref(), &old.user_agent),
            methods: kept(methods, &old.methods),
            added_at: old.added_at,
        };
        Private::BindingWhole(self.reached(), Box::new(whole))
    }

    fn fact(&self, turn: &Turn<'_>, event: impl Into<signalbox_schemas::Event>, private: Private) -> Fact {
        Fact::new(event, self.pending.name.clone(), turn.now.wall)
            .tenant(&self.pending.tenant)
            .private(private)
    }
}

/// A binding that was not there.
pub(crate) fn added(turn: &Turn<'_>, stored: &Stored<'_>) -> Fact {
    let pending = stored.pending;
    let address = pending.address();
    let (contact, path) = (public_text(&stored.contact), stored.path.as_ref().map(public_values));
    let private = stored.private(&contact, path.as_ref());
    let event = RegistrationAdded {
        edge: turn.edge(),
        flow: Some(pending.flow.into()),
        aor: Text::new(address),
        binding: stored.key.text(),
        domain: Text::new(address.rsplit_once('@').map_or("", |(_, domain)| domain)),
        backend: pending.backend(),
        contact,
        received: Some(TransportAddress::remote(&pending.flow)),
        path,
        instance_id: stored.instance.clone(),
        reg_id: stored.reg_id,
        q: stored.q.map(QValue::from_thousandths),
        methods: methods(stored.methods.as_deref()),
        expires_at: stored.expires_at.into(),
        user_agent: stored.user_agent.clone(),
        call_id: Text::lossy(stored.call_id),
        cseq: stored.cseq,
        socket: TransportAddress::local(&pending.flow),
    };
    stored.fact(turn, event, private)
}

/// The same contact of the same binding again; only what changed is told.
pub(crate) fn refreshed(turn: &Turn<'_>, stored: &Stored<'_>, aor: &Aor, old: &Binding) -> Fact {
    let pending = stored.pending;
    let moved = old.flow != pending.flow;
    let changed = |new: &Option<Text>, old: &Option<Text>| new.clone().filter(|_| new != old);
    let q = stored.q.filter(|_| stored.q != old.q);
    let same_methods = each_method(stored.methods.as_deref()).eq(each_method(old.methods.as_deref()));
    let (contact, path) = (public_text(&stored.contact), stored.path.as_ref().map(public_values));
    let private = if is_due_whole(old, turn.now.wall) {
        stored.whole(old)
    } else {
        stored.private(&contact, path.as_ref())
    };
    let event = RegistrationRefreshed {
        edge: turn.edge(),
        flow: Some(pending.flow.into()),
        aor: Text::new(aor.address()),
        binding: stored.key.text(),
        contact,
        expires_at: stored.expires_at.into(),
        cseq: stored.cseq,
        received: moved.then(|| TransportAddress::remote(&pending.flow)),
        received_before: moved.then(|| TransportAddress::remote(&old.flow.get())),
        backend: pending.backend().filter(|name| aor.backend != *name),
        path: path.filter(|_| stored.path != old.path),
        q: q.map(QValue::from_thousandths),
        methods: if same_methods { Vec::new() } else { methods(stored.methods.as_deref()) },
        user_agent: changed(&stored.user_agent, &old.user_agent),
        call_id: (old.call_id.as_bytes() != stored.call_id).then(|| Text::lossy(stored.call_id)),
        socket: (old.flow.get().local != pending.flow.local).then(|| TransportAddress::local(&pending.flow)),
    };
    stored.fact(turn, event, private)
}

/// How often a refresh tells all of its binding, counted from when it was added. Journals keep far more than this, and it
/// is seldom enough that its 200 bytes cost nothing.
const WHOLE_EVERY: Duration = Duration::from_secs(3600);

/// Whether the binding's last full record is in an earlier one of these intervals than now.
fn is_due_whole(old: &Binding, now: Wall) -> bool {
    let interval = |age: Duration| age.as_secs() / WHOLE_EVERY.as_secs();
    let granted = Duration::from_secs(u64::from(old.granted_secs));
    let last = old.expires_at.since(old.added_at).saturating_sub(granted);
    interval(now.since(old.added_at)) > interval(last)
}

/// A binding taken out; `None` when it is not there. `by` is the REGISTER that did it.
pub(crate) fn removed(
    turn: &Turn<'_>,
    key: BindingKey,
    reason: RemovalReason,
    by: Option<&Pending>,
) -> Option<Fact> {
    let (aor, binding) = turn.state.registrations().binding(key)?;
    let event = RegistrationRemoved {
        edge: turn.edge(),
        flow: Some(by.map_or_else(|| binding.flow.get(), |p| p.flow).into()),
        aor: Text::new(aor.address()),
        binding: key.text(),
        contact: public_text(&binding.contact),
        reason,
        call_id: by.map(|p| Text::lossy(p.request.call_id())),
        cseq: by.map(|p| p.request.cseq().number),
    };
    Some(of_aor(turn, aor, event))
}

/// A binding whose time was up; `None` when it is not there.
pub(crate) fn expired(turn: &Turn<'_>, key: BindingKey, last_seen_at: Wall) -> Option<Fact> {
    let (aor, binding) = turn.state.registrations().binding(key)?;
    let event = RegistrationExpired {
        edge: turn.edge(),
        flow: Some(binding.flow.get().into()),
        aor: Text::new(aor.address()),
        binding: key.text(),
        contact: public_text(&binding.contact),
        expired_at: turn.now.wall.into(),
        last_seen_at: last_seen_at.into(),
    };
    Some(of_aor(turn, aor, event).because(binding.seq))
}

/// A refusal of a REGISTER.
pub(crate) struct Refused<'a> {
    pub(crate) flow: &'a Flow,
    pub(crate) tenant: &'a TenantId,
    /// `tenant/user@domain`.
    pub(crate) name: &'a str,
    /// Who was asked, if anybody was.
    pub(crate) backend: Option<&'a Text>,
    pub(crate) status: u16,
    pub(crate) reason: &'a str,
    pub(crate) by: RejectedBy,
}

/// A REGISTER that was refused.
pub(crate) fn rejected<B: AsRef<[u8]>>(turn: &Turn<'_>, request: &Message<B>, refused: &Refused<'_>) -> Fact {
    let contact = request.values(HeaderName::Contact).next().and_then(|v| NameAddr::parse(v).ok());
    let event = RegistrationRejected {
        edge: turn.edge(),
        flow: Some((*refused.flow).into()),
        aor: Text::new(NameParts(refused.name).address()),
        contact: contact.map(|c| public(c.uri)),
        status: refused.status,
        reason: Text::new(refused.reason),
        by: refused.by,
        backend: refused.backend.cloned(),
        user_agent: request.value(HeaderName::UserAgent).map(Text::lossy),
        call_id: Some(Text::lossy(request.call_id())),
        cseq: Some(request.cseq().number),
    };
    Fact::new(event, Text::new(refused.name), turn.now.wall).tenant(refused.tenant)
}

fn of_aor(turn: &Turn<'_>, aor: &Aor, event: impl Into<signalbox_schemas::Event>) -> Fact {
    let fact = Fact::new(event, aor.name.clone(), turn.now.wall);
    match aor.tenant().parse() {
        Ok(tenant) => fact.tenant(&tenant),
        Err(_) => fact,
    }
}

fn methods(allow: Option<&str>) -> Vec<Text> {
    each_method(allow).map(Text::new).collect()
}

fn each_method(allow: Option<&str>) -> impl Iterator<Item = &str> {
    allow.unwrap_or_default().split(',').map(str::trim).filter(|m| !m.is_empty())
}

/// What became of a registration of the edge's own.
pub(crate) struct Changed<'a> {
    pub(crate) registrar: &'a Text,
    pub(crate) aor: &'a Text,
    pub(crate) from: OutboundState,
    pub(crate) now: &'a Registered,
    pub(crate) reason: Option<Text>,
    pub(crate) flow: Option<Flow>,
}

/// A registration of the edge's own changed its state; a shared trunk's is no tenant's.
pub(crate) fn outbound_changed(turn: &Turn<'_>, tenant: Option<&TenantId>, what: Changed<'_>) -> Fact {
    let event = RegistrationOutboundChanged {
        edge: turn.edge(),
        flow: what.flow.map(Into::into),
        aor: what.aor.clone(),
        registrar: what.registrar.clone(),
        from: what.from,
        to: what.now.state,
        status: what.now.status,
        reason: what.reason,
        expires_at: what.now.until.map(Into::into),
    };
    let owner = tenant.map_or(NOBODYS, TenantId::as_str);
    let fact = Fact::new(event, Text::from(format!("{owner}/{}", what.aor)), turn.now.wall);
    match tenant {
        Some(tenant) => fact.tenant(tenant),
        None => fact,
    }
}
