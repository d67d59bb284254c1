//! Calls through the PBX: who is called, and two or more legs held together.

use super::{Pbx, Plan, Service};
use crate::datagram::Datagram;
use crate::line::{Invitation, Owned};
use crate::seen::{LegId, Observed};
use signalbox_base::{Mono, Now, Text};
use signalbox_sip::Method;
use signalbox_sip::uri::SipUri;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Callers' legs and what was dialled for them.
#[derive(Debug, Default)]
pub(super) struct Bridges {
    by_caller: BTreeMap<LegId, Bridge>,
    caller_of: BTreeMap<LegId, LegId>,
    /// Legs whose peers wait to hear what becomes of the transfer they asked for, by the leg that is transferred.
    transfers: BTreeMap<LegId, LegId>,
}

/// One caller's leg and those dialled for it.
#[derive(Debug, Default)]
struct Bridge {
    dialled: Vec<LegId>,
    answered: Option<LegId>,
    worst: u16,
}

impl Bridges {
    fn forget(&mut self, caller: LegId) -> Option<Bridge> {
        let bridge = self.by_caller.remove(&caller)?;
        for leg in &bridge.dialled {
            self.caller_of.remove(leg);
        }
        Some(bridge)
    }

    /// Takes an answered call apart; gives the other end.
    pub(super) fn part(&mut self, leg: LegId) -> Option<LegId> {
        let partner = self.partner(leg)?;
        let caller = self.caller_of.get(&leg).copied().unwrap_or(leg);
        self.forget(caller);
        Some(partner)
    }

    /// Puts two answered legs together.
    pub(super) fn join(&mut self, one: LegId, other: LegId) {
        let bridge = Bridge { dialled: vec![other], answered: Some(other), worst: 0 };
        self.by_caller.insert(one, bridge);
        self.caller_of.insert(other, one);
    }

    /// Whoever asked for this leg's transfer waits to hear of it.
    pub(super) fn awaits(&mut self, leg: LegId, asked_by: LegId) {
        self.transfers.insert(leg, asked_by);
    }

    /// Whether it called, and somebody else answered.
    pub(super) fn is_caller(&self, leg: LegId) -> bool {
        self.by_caller.get(&leg).is_some_and(|bridge| bridge.answered.is_some())
    }

    /// The other end of an answered call.
    fn partner(&self, leg: LegId) -> Option<LegId> {
        match self.by_caller.get(&leg) {
            Some(bridge) => bridge.answered,
            None => self.caller_of.get(&leg).copied(),
        }
    }
}

impl Pbx {
    pub(super) fn on_invited(
        &mut self,
        now: Now,
        leg: LegId,
        request: &Owned,
        source: SocketAddr,
        out: &mut Vec<Datagram>,
    ) {
        let uri = request.request_uri().unwrap_or_default();
        let from = request.from().map(|from| Text::lossy(from.uri)).unwrap_or_default();
        self.saw(now.mono, Observed::Invited { leg, target: Text::lossy(uri), from: from.clone(), source });
        if !self.trusts(source) {
            self.saw(now.mono, Observed::Distrusted { source });
            return self.line.refuse(now.mono, leg, 403, out);
        }
        let caller = self.aor_of(from.as_bytes());
        if let (true, Some(caller)) = (self.profile.challenge_calls, caller)
            && let Err((status, headers)) = self.authenticate(now, &caller, request)
        {
            return self.line.refuse_with(now.mono, leg, status, &headers, out);
        }
        let user = SipUri::parse(uri).ok().and_then(|uri| uri.decoded_user());
        let number = user.map(|user| String::from_utf8_lossy(&user).into_owned()).unwrap_or_default();
        let service = self.profile.services.iter().find(|(n, _)| *n == number).map(|(_, service)| *service);
        match service {
            Some(service) => self.serve(now.mono, leg, service, out),
            None => self.dial(now.mono, leg, uri, &from, out),
        }
    }

    fn serve(&mut self, now: Mono, leg: LegId, service: Service, out: &mut Vec<Datagram>) {
        match service {
            Service::Answer(after) => {
                self.line.ring(now, leg, 180, out);
                self.agenda.plan(now.plus(after), Plan::Answer(leg));
            }
            Service::Ring => self.line.ring(now, leg, 180, out),
            Service::Refuse(status) => {
                self.line.refuse(now, leg, status, out);
                self.saw(now, Observed::Refused { leg, status });
            }
            Service::HangUp(after) => {
                self.line.accept(now, leg, out);
                self.agenda.plan(now.plus(after), Plan::HangUp(leg));
            }
        }
    }

    /// Dials every contact of the called AoR once, all at the same time.
    pub(super) fn dial(&mut self, now: Mono, caller: LegId, uri: &[u8], from: &str, out: &mut Vec<Datagram>) {
        let aor = self.aor_of(uri).unwrap_or_default();
        let contacts = self.registrar.contacts(&aor, now);
        let known = self.profile.users.iter().any(|u| format!("{}@{}", u.user, u.domain) == *aor);
        let mut bridge = Bridge::default();
        for contact in contacts {
            let invitation = Invitation {
                uri: contact.uri.clone(),
                from: Text::from(format!("<{from}>")),
                to: Text::from(format!("<sip:{aor}>")),
                via: contact.next_hop(),
                routes: contact.path,
                headers: Vec::new(),
                session_secs: 0,
            };
            if let Some(leg) = self.line.invite(now, invitation, out) {
                bridge.dialled.push(leg);
                self.bridges.caller_of.insert(leg, caller);
            }
        }
        if bridge.dialled.is_empty() {
            return self.dialled_in_vain(now, caller, if known { 480 } else { 404 }, out);
        }
        self.bridges.by_caller.insert(caller, bridge);
    }

    /// A leg of the PBX's own.
    pub(super) fn invite(
        &mut self,
        now: Mono,
        uri: &str,
        from: &str,
        via: Option<SocketAddr>,
        out: &mut Vec<Datagram>,
    ) -> Option<LegId> {
        let invitation = Invitation {
            uri: Text::new(uri),
            from: Text::from(format!("<{from}>")),
            to: Text::from(format!("<{uri}>")),
            routes: Vec::new(),
            via,
            headers: Vec::new(),
            session_secs: 0,
        };
        self.line.invite(now, invitation, out)
    }

    pub(super) fn bridge_progress(&mut self, now: Mono, leg: LegId, status: u16, out: &mut Vec<Datagram>) {
        if let Some(caller) = self.bridges.caller_of.get(&leg).copied() {
            self.line.ring(now, caller, status, out);
        }
    }

    /// The first to answer gets the call, the others are cancelled.
    pub(super) fn bridge_answered(&mut self, now: Mono, leg: LegId, out: &mut Vec<Datagram>) {
        let Some(caller) = self.bridges.caller_of.get(&leg).copied() else { return };
        let Some(bridge) = self.bridges.by_caller.get_mut(&caller) else { return };
        if bridge.answered.is_some() {
            return self.line.hang_up(now, leg, out);
        }
        bridge.answered = Some(leg);
        let asked_by = self.bridges.transfers.remove(&caller);
        let others: Vec<_> = bridge.dialled.iter().copied().filter(|other| *other != leg).collect();
        for other in others {
            self.line.hang_up(now, other, out);
        }
        self.line.accept(now, caller, out);
        if let Some(asked_by) = asked_by {
            self.notify(now, asked_by, 200, out);
        }
    }

    /// When the last has failed, the caller gets the best answer: a 6xx, else the lowest (RFC 3261 §16.7 step 6).
    pub(super) fn bridge_failed(&mut self, now: Mono, leg: LegId, status: u16, out: &mut Vec<Datagram>) {
        let Some(caller) = self.bridges.caller_of.remove(&leg) else { return };
        let Some(bridge) = self.bridges.by_caller.get_mut(&caller) else { return };
        bridge.dialled.retain(|other| *other != leg);
        bridge.worst = match (bridge.worst, status) {
            (0, status) => status,
            (600.., _) => bridge.worst,
            (_, 600..) => status,
            (before, status) => before.min(status),
        };
        if bridge.dialled.is_empty() && bridge.answered.is_none() {
            let status = bridge.worst;
            self.bridges.forget(caller);
            self.dialled_in_vain(now, caller, status, out);
        }
    }

    /// Nobody answered: the caller hears so, or whoever asked for its transfer.
    fn dialled_in_vain(&mut self, now: Mono, caller: LegId, status: u16, out: &mut Vec<Datagram>) {
        self.line.refuse(now, caller, status, out);
        self.saw(now, Observed::Refused { leg: caller, status });
        if let Some(asked_by) = self.bridges.transfers.remove(&caller) {
            self.notify(now, asked_by, status, out);
            self.line.hang_up(now, caller, out);
        }
    }

    /// One end is over: so is the other.
    pub(super) fn bridge_over(&mut self, now: Mono, leg: LegId, out: &mut Vec<Datagram>) {
        let caller = self.bridges.caller_of.get(&leg).copied().unwrap_or(leg);
        let answered = self.bridges.by_caller.get(&caller).and_then(|bridge| bridge.answered);
        // A leg that lost the race and was hung up ends nothing else.
        if caller != leg && answered != Some(leg) {
            return;
        }
        let Some(bridge) = self.bridges.forget(caller) else { return };
        for other in bridge.dialled.into_iter().chain([caller]).filter(|other| *other != leg) {
            self.line.hang_up(now, other, out);
        }
    }

    /// What one end says within the call, the other hears: INFO and MESSAGE.
    pub(super) fn bridge_relay(
        &mut self,
        now: Mono,
        leg: LegId,
        method: Method,
        body: &[u8],
        out: &mut Vec<Datagram>,
    ) {
        if !matches!(method, Method::Info | Method::Message) {
            return;
        }
        if let Some(partner) = self.bridges.partner(leg) {
            let kind = if method == Method::Info { "application/dtmf-relay" } else { "text/plain" };
            self.line.request(now, partner, method, (kind, body), out);
        }
    }
}
