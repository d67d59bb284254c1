//! The backend's final word: what is stored, what is told, what the phone gets.

use super::admit::Place;
use super::binding::{Wanted, contacts_max, is_behind_nat, path_of};
use super::register::{Pending, Registrar, has_credentials, keys_of};
use crate::facts::registration as facts;
use crate::facts::registration::{Refused, Stored};
use crate::net::Net;
use crate::state::{BindingKey, Registrations};
use crate::trace::Traceparent;
use crate::turn::Turn;
use signalbox_base::{EventSeq, Text};
use signalbox_schemas::words::{RejectedBy, RemovalReason};
use signalbox_sip::header::NameAddr;
use signalbox_sip::{HeaderName, Message, Uri};
use std::time::Duration;

impl Registrar {
    /// Handles a final response other than 408 and 503.
    pub(super) fn answer(&mut self, turn: &mut Turn<'_>, number: u64, response: &Message<&[u8]>) {
        let status = response.status().unwrap_or(500);
        if let Some(pending) = self.pending.get(&number) {
            turn.counters.registration.note(turn.now.mono.since(pending.begun));
        }
        match status {
            200..=299 => return self.accept(turn, number, response),
            401 | 407 => self.remember_challenge(turn, number),
            _ => {}
        }
        let Some(pending) = self.answered(turn, number) else { return };
        let refused = match status {
            // The first challenge asks, a second one refuses; a stale nonce is the backend's clock, not the phone's fault.
            401 | 407 => has_credentials(&pending.request) && !is_stale(response),
            // RFC 3261 §10.2.8: the phone asks again for longer.
            423 => false,
            _ => true,
        };
        if refused {
            self.refused(turn, &pending, response);
        }
        Self::relay(turn, &pending, response, &[], None);
    }

    /// The REGISTER that a backend has answered: what is recorded now is what that led to.
    fn answered(&mut self, turn: &mut Turn<'_>, number: u64) -> Option<Pending> {
        let pending = self.pending.remove(&number)?;
        turn.traceparent = Traceparent::of(&pending.request);
        Some(pending)
    }

    fn accept(&mut self, turn: &mut Turn<'_>, number: u64, response: &Message<&[u8]>) {
        let Some(pending) = self.answered(turn, number) else { return };
        let max = turn.settings.timers.max_expires_secs;
        let mut granted = pending.wanted.granted(&pending.request, response, pending.stretched, max);
        if pending.stretched.is_some() {
            self.shared_out(turn, &pending, &mut granted);
        }
        let record = self.settle(turn, &pending, &mut granted);
        Self::relay(turn, &pending, response, &granted, record);
    }

    /// Stores and removes as was granted, per asked contact; what has no room any more is granted nothing. Gives the record
    /// that the answer must wait for.
    pub(super) fn settle(
        &mut self,
        turn: &mut Turn<'_>,
        pending: &Pending,
        granted: &mut [u32],
    ) -> Option<EventSeq> {
        let mut record = None;
        match &pending.wanted {
            Wanted::Query => {}
            Wanted::RemoveAll => {
                self.removals.remember(turn, pending, None);
                for key in keys_of(turn, &pending.name) {
                    record = self.remove_older(turn, pending, key).or(record);
                }
            }
            Wanted::Each(each) => {
                let values =
                    pending.request.values(HeaderName::Contact).filter_map(|v| NameAddr::parse(v).ok());
                for ((asked, secs), contact) in each.iter().zip(granted).zip(values) {
                    let seq = if *secs == 0 {
                        self.removals.remember(turn, pending, Some(asked.key));
                        self.remove_older(turn, pending, asked.key)
                    } else if self.removals.is_behind(turn, &pending.request, &pending.name, asked.key) {
                        None
                    } else if is_full(turn, pending, asked.key) {
                        // It was not when the request came: others came with it. What is not stored is not shown.
                        *secs = 0;
                        None
                    } else {
                        self.store(turn, pending, asked.key, &contact, *secs)
                    };
                    record = seq.or(record);
                }
            }
        }
        record
    }

    /// Removes a binding, unless a later REGISTER of the same phone stored it meanwhile.
    fn remove_older(&mut self, turn: &mut Turn<'_>, pending: &Pending, key: BindingKey) -> Option<EventSeq> {
        let (_, known) = turn.state.registrations().binding(key)?;
        if Place::of(known, &pending.request) == Place::Before {
            return None;
        }
        self.remove_binding(turn, key, RemovalReason::Client, Some(pending), EventSeq(0))
    }

    /// Stores one binding. Gives the record that the answer must wait for: none for a refresh that changed nothing.
    fn store(
        &mut self,
        turn: &mut Turn<'_>,
        pending: &Pending,
        key: BindingKey,
        contact: &NameAddr<'_>,
        secs: u32,
    ) -> Option<EventSeq> {
        let wall = turn.now.wall;
        let known = turn.state.registrations().binding(key);
        let cseq = pending.request.cseq().number;
        if let Some((_, old)) = known {
            match Place::of(old, &pending.request) {
                // It crossed a later one of the same phone, which counts.
                Place::Before => return None,
                // It came twice: what it asked for is stored, and may still be on its way to the disk.
                Place::Same => return Some(old.seq),
                Place::Behind => {}
            }
        }
        let home = home_of(turn, pending, known.map(|(aor, _)| &aor.home));
        let nat = match contact.parsed_uri() {
            Ok(Uri::Sip(uri)) => is_behind_nat(&uri, &pending.flow),
            _ => true,
        };
        // What has not changed since the last REGISTER, and what many phones say, is shared.
        let old = known.map(|(_, old)| old);
        let uri = match old {
            Some(old) if old.contact.as_bytes() == contact.uri => old.contact.clone(),
            _ => Text::lossy(contact.uri),
        };
        let stored = Stored {
            pending,
            key,
            home,
            contact: uri,
            instance: contact.sip_instance().map(Text::lossy),
            reg_id: contact.reg_id(),
            q: contact.q(),
            path: path_of(&pending.request),
            user_agent: pending
                .request
                .value(HeaderName::UserAgent)
                .map(|value| turn.state.registrations().shared(value)),
            methods: pending.request.value(HeaderName::Allow).map(String::from_utf8_lossy),
            call_id: pending.request.call_id(),
            cseq,
            granted_secs: secs,
            expires_at: wall.plus(Duration::from_secs(u64::from(secs))),
            behind_nat: nat,
        };
        match known {
            Some((_, old)) => turn.net.moved(&old.flow.get(), &pending.flow),
            None => come_back(turn.net, turn.state.registrations(), pending),
        }
        let replaced = known.is_some_and(|(_, old)| old.contact != stored.contact);
        let (fact, waits) = match known {
            Some((aor, old)) if !replaced => {
                let moved = old.flow != pending.flow || aor.backend != pending.at.name;
                (facts::refreshed(turn, &stored, aor, old), moved)
            }
            _ => (facts::added(turn, &stored), true),
        };
        let because = if replaced {
            self.remove_binding(turn, key, RemovalReason::Replaced, Some(pending), EventSeq(0))
        } else {
            None
        };
        let seq = turn.record(fact.because(because.unwrap_or_default()));
        self.arm(turn, key);
        waits.then_some(seq)
    }

    /// A real refusal by the backend, told within a budget: strangers can not fill the journal.
    fn refused(&mut self, turn: &mut Turn<'_>, pending: &Pending, response: &Message<&[u8]>) {
        let status = response.status().unwrap_or(500);
        let reason = String::from_utf8_lossy(response.reason().unwrap_or_default()).into_owned();
        if matches!(status, 401 | 403 | 407) && has_credentials(&pending.request) {
            turn.auth_failed(pending.flow.remote.ip(), pending.address(), &pending.request);
        }
        self.tell_pending_rejected(turn, pending, status, &reason, RejectedBy::Backend);
    }

    pub(super) fn rejected_by_edge(
        &mut self,
        turn: &mut Turn<'_>,
        pending: &Pending,
        status: u16,
        reason: &str,
    ) {
        self.tell_pending_rejected(turn, pending, status, reason, RejectedBy::Edge);
    }

    fn tell_pending_rejected(
        &mut self,
        turn: &mut Turn<'_>,
        pending: &Pending,
        status: u16,
        reason: &str,
        by: RejectedBy,
    ) {
        let registered = turn.state.registrations().of_aor_over_flow(&pending.name, &pending.flow).is_some();
        let backend = pending.backend();
        let refused = Refused {
            flow: &pending.flow,
            tenant: &pending.tenant,
            name: &pending.name,
            backend: backend.as_ref(),
            status,
            reason,
            by,
        };
        self.tell_rejected(turn, &pending.request, &refused, registered);
    }

    /// Tells a refusal, within the budget unless the phone is `registered`: strangers can not fill the journal.
    pub(super) fn tell_rejected<B: AsRef<[u8]>>(
        &mut self,
        turn: &mut Turn<'_>,
        request: &Message<B>,
        refused: &Refused<'_>,
        registered: bool,
    ) {
        let (opened, told) = &mut self.rejected;
        if turn.now.mono.since(*opened) >= turn.settings.noise.window {
            (*opened, *told) = (turn.now.mono, 0);
        }
        if !registered && *told >= turn.settings.noise.events_max {
            return;
        }
        *told += usize::from(!registered);
        let fact = facts::rejected(turn, request, refused);
        turn.record(fact);
    }
}

/// A phone whose connection broke may write its new port into Contact, which makes another binding; it keeps its Call-ID
/// (RFC 3261 §10.2), and its calls.
fn come_back(net: &mut Net, registrations: &Registrations, pending: &Pending) {
    let call_id = pending.request.call_id();
    let Some(aor) = registrations.aor(&pending.name) else { return };
    for old in &aor.bindings {
        if old.call_id.as_bytes() == call_id && net.lost.contains(&old.key) {
            net.moved(&old.flow.get(), &pending.flow);
        }
    }
}

/// Whether an AoR has no room for a binding that it does not have yet.
fn is_full(turn: &Turn<'_>, pending: &Pending, key: BindingKey) -> bool {
    let aor = turn.state.registrations().aor(&pending.name);
    let max = contacts_max(turn, pending.domain());
    aor.is_some_and(|aor| aor.bindings.len() >= max && aor.binding(key).is_none())
}

/// The home an AoR had, unless the one that accepted now is better or the home is no more.
fn home_of(turn: &Turn<'_>, pending: &Pending, before: Option<&Text>) -> Text {
    let tenant = turn.directory.peer(turn.settings, pending.at.peer).and_then(|p| p.tenant);
    let kept = before.filter(|home| {
        tenant
            .is_some_and(|t| t.backends.iter().any(|b| b.name == **home && b.priority <= pending.at.priority))
    });
    kept.unwrap_or(&pending.at.name).clone()
}

/// RFC 7616 §3.3: the credentials were right but for their nonce.
fn is_stale(response: &Message<&[u8]>) -> bool {
    let challenges = [HeaderName::WwwAuthenticate, HeaderName::ProxyAuthenticate];
    challenges.into_iter().flat_map(|name| response.all(name)).any(|header| {
        let value = header.value.to_ascii_lowercase();
        value
            .split(|b| matches!(b, b',' | b' '))
            .any(|part| matches!(part, b"stale=true" | b"stale=\"true\""))
    })
}
