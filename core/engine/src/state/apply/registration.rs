//! Bindings as the journal tells them.

use crate::facts::Fact;
use crate::state::{Aor, Binding, BindingKey, BindingPrivate, Private, State, WholeBinding};
use signalbox_base::{EventSeq, Flow, ListenerId, Text};
use signalbox_schemas::registration::{RegistrationAdded, RegistrationRefreshed};
use signalbox_schemas::values::TransportAddress;

pub(super) fn added(state: &mut State, seq: EventSeq, fact: &Fact, data: &RegistrationAdded) {
    let Ok(key) = data.binding.parse::<BindingKey>() else { return };
    let private = private_of(fact, key, data);
    let (contact, path) = match fact.private.forms() {
        Some(forms) => (forms.contact.clone(), forms.path.clone()),
        None => (data.contact.clone(), data.path.clone()),
    };
    let binding = Binding {
        key,
        contact,
        flow: private.flow.into(),
        path,
        instance: data.instance_id.clone(),
        reg_id: data.reg_id,
        q: data.q.map(|q| q.thousandths()),
        call_id: data.call_id.clone(),
        cseq: data.cseq,
        expires_at: data.expires_at.0,
        granted_secs: private.granted_secs,
        behind_nat: private.behind_nat,
        user_agent: data.user_agent.clone(),
        methods: joined(&data.methods),
        added_at: fact.wall,
        seq,
    };
    state.registrations.put(&fact.subject, &private.backend, &private.home, binding);
}

pub(super) fn refreshed(state: &mut State, seq: EventSeq, fact: &Fact, data: &RegistrationRefreshed) {
    let Ok(key) = data.binding.parse::<BindingKey>() else { return };
    let change = |binding: &mut Binding| change(binding, seq, fact, data);
    if state.registrations.extend(key, |aor, binding| stays(aor, binding, fact, data), change) {
        return;
    }
    let Some((aor, old)) = state.registrations.binding(key) else {
        return reappeared(state, seq, fact, data, key);
    };
    let (aor_name, aor_backend, aor_home) = (aor.name.clone(), aor.backend.clone(), aor.home.clone());
    let mut binding = old.clone();
    change(&mut binding);
    let (mut backend, mut home) = (aor_backend, aor_home);
    if let Some(private) = fact.private.binding() {
        backend = private.backend.clone();
        home = private.home.clone();
    }
    state.registrations.put(&aor_name, &backend, &home, binding);
}

/// A refresh of a binding whose beginning is gone from the journal: retired, or lost in a gap. Where the refresh is not a
/// whole one the phone can still be called, and the next whole one ([`Private::BindingWhole`]) brings the rest.
fn reappeared(state: &mut State, seq: EventSeq, fact: &Fact, data: &RegistrationRefreshed, key: BindingKey) {
    let Some(private) = fact.private.binding() else { return };
    let mut binding = Binding {
        key,
        contact: data.contact.clone(),
        flow: private.flow.into(),
        path: None,
        instance: None,
        reg_id: None,
        q: None,
        call_id: Text::default(),
        cseq: data.cseq,
        expires_at: data.expires_at.0,
        granted_secs: private.granted_secs,
        behind_nat: private.behind_nat,
        user_agent: None,
        methods: None,
        added_at: fact.wall,
        seq,
    };
    change(&mut binding, seq, fact, data);
    state.registrations.put(&fact.subject, &private.backend, &private.home, binding);
}

/// Whether a refresh leaves all as it was that a binding is found by, or shares with others: nearly every one does.
fn stays(aor: &Aor, binding: &Binding, fact: &Fact, data: &RegistrationRefreshed) -> bool {
    let same = fact.private.binding().is_none_or(|private| {
        binding.flow == private.flow && aor.backend == private.backend && aor.home == private.home
    });
    same && data.user_agent.is_none() && data.methods.is_empty()
}

fn change(binding: &mut Binding, seq: EventSeq, fact: &Fact, data: &RegistrationRefreshed) {
    if binding.contact != data.contact {
        binding.contact = data.contact.clone();
    }
    binding.expires_at = data.expires_at.0;
    binding.cseq = data.cseq;
    binding.seq = seq;
    let keep = |new: Option<Text>, old: &mut Option<Text>| *old = new.or_else(|| old.take());
    keep(data.path.clone(), &mut binding.path);
    keep(data.user_agent.clone(), &mut binding.user_agent);
    keep(joined(&data.methods), &mut binding.methods);
    binding.q = data.q.map(|q| q.thousandths()).or(binding.q);
    if let Some(call_id) = &data.call_id {
        binding.call_id = call_id.clone();
    }
    if let Some(forms) = fact.private.forms() {
        binding.contact = forms.contact.clone();
        keep(forms.path.clone(), &mut binding.path);
    }
    if let Some(private) = fact.private.binding() {
        if binding.flow != private.flow {
            binding.flow = private.flow.into();
        }
        binding.granted_secs = private.granted_secs;
        binding.behind_nat = private.behind_nat;
    }
    if let Private::BindingWhole(_, whole) = &fact.private {
        whole_of(binding, whole);
    }
}

/// What the binding is besides; nothing new to a fold that knew it all along.
fn whole_of(binding: &mut Binding, whole: &WholeBinding) {
    let WholeBinding { forms, instance, reg_id, q, call_id, user_agent, methods, added_at } = whole;
    let set = |value: &mut Option<Text>, told: &Option<Text>| {
        if value != told {
            value.clone_from(told);
        }
    };
    set(&mut binding.path, &forms.path);
    set(&mut binding.instance, instance);
    set(&mut binding.user_agent, user_agent);
    set(&mut binding.methods, methods);
    if binding.call_id != *call_id {
        binding.call_id = call_id.clone();
    }
    (binding.reg_id, binding.q, binding.added_at) = (*reg_id, *q, *added_at);
}

pub(super) fn gone(state: &mut State, seq: EventSeq, binding: &str) {
    let Ok(key) = binding.parse::<BindingKey>() else { return };
    state.registrations.remove(key, seq);
}

/// Without a private part (an imported history) the public part says enough to reach the phone.
fn private_of(fact: &Fact, key: BindingKey, data: &RegistrationAdded) -> BindingPrivate {
    if let Some(private) = fact.private.binding() {
        return private.clone();
    }
    let backend = data.backend.clone().unwrap_or_default();
    let remote = data.received.unwrap_or_default();
    BindingPrivate {
        key,
        flow: Flow::udp(ListenerId(0), socket(data.socket), socket(remote)),
        home: backend.clone(),
        backend,
        granted_secs: u32::try_from(data.expires_at.0.since(fact.wall).as_secs()).unwrap_or(u32::MAX),
        behind_nat: true,
    }
}

fn socket(address: TransportAddress) -> std::net::SocketAddr {
    address.address.get()
}

fn joined(methods: &[Text]) -> Option<Text> {
    (!methods.is_empty()).then(|| Text::from(methods.join(",")))
}
