//! The edge as the registrar of a domain (RFC 3261 §10.3): it knows the users, and no backend is asked.

use super::admit::Stop;
use super::auth::{Verdict, challenge, is_user_of};
use super::binding::{Wanted, WithExpires};
use super::register::{Pending, RETRY_SECS, Registrar};
use crate::backend::Candidate;
use crate::dispatch::{open, reject_after};
use crate::net::User;
use crate::routing::{Source, phone};
use crate::settings::{Asking, RegistrarSettings, Users};
use crate::state::{AorName, Binding};
use crate::tenancy::{Origin, OriginKind};
use crate::turn::Turn;
use signalbox_base::{EventSeq, Text};
use signalbox_sip::header::NameAddr;
use signalbox_sip::transaction::ServerKey;
use signalbox_sip::{HeaderName, Message, Method, Put, ResponseBuilder, ResponseHead};
use smallvec::SmallVec;

/// A REGISTER for a domain of our own.
pub(super) struct Arrived<'r, 'm> {
    pub(super) origin: Origin,
    pub(super) key: ServerKey,
    pub(super) request: &'r Message<&'m [u8]>,
    pub(super) name: AorName,
}

impl Registrar {
    /// Answers a REGISTER: who is it, may it, and what is granted. A challenge is answered without a transaction, and costs
    /// no memory.
    pub(super) fn on_own(
        &mut self,
        turn: &mut Turn<'_>,
        arrived: &Arrived<'_, '_>,
        own: RegistrarSettings,
        users: &Users,
    ) {
        let Arrived { origin, request, name, .. } = arrived;
        let (flow, tenant) = (origin.flow, origin.tenant.as_str());
        let (address, user) = (name.parts().address(), name.parts().user());
        let asking = Asking::Registrar;
        match self.judge(turn, users, asking, request) {
            Verdict::Proven { user, .. } if is_user_of(&user, users.realm(), tenant, name.as_str()) => {
                match self.prepare_own(turn, arrived, own) {
                    Ok(prepared) => self.take_in(turn, arrived, prepared, own),
                    Err(stop) => self.stop(turn, origin, name, request, stop),
                }
            }
            Verdict::Proven { .. } => {
                turn.auth_failed(flow.remote.ip(), address, request);
                self.stop(turn, origin, name, request, Stop::Reject(403, "AoR Is Somebody Else's"));
            }
            Verdict::Wrong => {
                turn.auth_failed(flow.remote.ip(), address, request);
                self.tell_refused(turn, origin, name, request, asking.status(), "Wrong Credentials");
                challenge(turn, (users, Some(user)), asking, flow, request, false);
            }
            Verdict::Ask { stale } => challenge(turn, (users, Some(user)), asking, flow, request, stale),
        }
    }

    fn prepare_own(
        &self,
        turn: &Turn<'_>,
        arrived: &Arrived<'_, '_>,
        own: RegistrarSettings,
    ) -> Result<(Text, Wanted), Stop> {
        let (name, wanted) = self.prepare(turn, &arrived.origin, &arrived.name, arrived.request)?;
        if let Wanted::Each(each) = &wanted
            && each.iter().any(|asked| (1..own.min_expires_secs).contains(&asked.expires))
        {
            return Err(Stop::TooBrief(own.min_expires_secs));
        }
        Ok((name, wanted))
    }

    fn take_in(
        &mut self,
        turn: &mut Turn<'_>,
        arrived: &Arrived<'_, '_>,
        (name, wanted): (Text, Wanted),
        own: RegistrarSettings,
    ) {
        let (flow, request) = (arrived.origin.flow, arrived.request);
        let Some(tx) = open(turn, flow, arrived.key, Method::Register, User::Nobody) else {
            return reject_after(turn, flow, request, 503, "Service Unavailable", Some(RETRY_SECS));
        };
        let granted = match &wanted {
            Wanted::Each(each) => each.iter().map(|a| a.expires.min(own.max_expires_secs)).collect(),
            Wanted::Query | Wanted::RemoveAll => SmallVec::new(),
        };
        let pending = Pending {
            request: request.to_owned(),
            flow,
            tx,
            tenant: arrived.origin.tenant.clone(),
            name,
            wanted,
            stretched: None,
            at: Candidate::nobody(flow),
            tried: SmallVec::new(),
            client: None,
            attempt: 0,
            timer: None,
            begun: turn.now.mono,
        };
        self.grant(turn, &pending, granted);
    }

    /// Stores and removes what no backend is asked about, and says so.
    pub(super) fn grant(&mut self, turn: &mut Turn<'_>, pending: &Pending, mut granted: SmallVec<[u32; 1]>) {
        let record = self.settle(turn, pending, &mut granted);
        turn.counters.registration.note(turn.now.mono.since(pending.begun));
        answer(turn, pending, &granted, record);
    }
}

/// Who asks, as routing knows it.
pub(crate) fn source(turn: &Turn<'_>, origin: &Origin, user: Option<&[u8]>) -> Source {
    match origin.kind {
        OriginKind::Backend { .. } => return Source::Backend,
        OriginKind::Trunk { .. } => return Source::Trunk,
        OriginKind::Endpoint { .. } => {}
    }
    let policy = turn.directory.policy(turn.settings, &origin.domain);
    let tenant = turn.settings.tenant(&origin.tenant);
    tenant.map_or(Source::Endpoint, |tenant| phone(policy, tenant, user))
}

/// The 200: every Contact of the AoR (§10.3 step 8), the Path that was taken (RFC 3327 §5.3), and that flows are kept apart
/// where the phone asks for it (RFC 5626 §6).
fn answer(turn: &mut Turn<'_>, pending: &Pending, granted: &[u32], record: Option<EventSeq>) {
    let request = &pending.request;
    let values = request.values(HeaderName::Contact).filter_map(|v| NameAddr::parse(v).ok());
    let own: SmallVec<[NameAddr<'_>; 2]> = values.collect();
    let asked: &[_] = if let Wanted::Each(each) = &pending.wanted { each } else { &[] };
    let (aor, wall) = (turn.state.registrations().aor(&pending.name), turn.now.wall);
    let mut contacts: SmallVec<[Vec<u8>; 2]> = SmallVec::new();
    for binding in aor.into_iter().flat_map(|aor| &aor.bindings) {
        let mut value = Vec::with_capacity(128);
        match asked.iter().position(|asked| asked.key == binding.key).filter(|at| granted[*at] > 0) {
            Some(at) => WithExpires { contact: &own[at], expires: granted[at] }.put(&mut value),
            None => write_other(binding, binding.expires_at.since(wall).as_secs(), &mut value),
        }
        contacts.push(value);
    }
    let flows = pending.backend().is_none()
        && own.iter().any(|c| c.reg_id().is_some() && c.sip_instance().is_some())
        && request.lists(HeaderName::Supported, b"outbound");
    let tag = format!("{:016x}", turn.entropy.next_u64());
    let sent = turn.respond(pending.tx, Method::Register, 200, record, |out| {
        let (to_tag, source) = (Some(tag.as_bytes()), Some(pending.flow.remote));
        let head = ResponseHead { status: 200, reason: "OK", to_tag, source };
        let mut response = ResponseBuilder::new(out, request, &head);
        for contact in &contacts {
            response = response.header(HeaderName::Contact, &**contact);
        }
        response = response.copy(request, HeaderName::Path);
        if flows {
            response = response.header(HeaderName::Require, "outbound");
        }
        response.header(HeaderName::Supported, "path, outbound").finish();
    });
    // The transaction was opened in this turn: nothing can have answered it.
    debug_assert!(sent.is_ok());
}

/// A Contact of another phone of the AoR.
fn write_other(binding: &Binding, secs: u64, out: &mut Vec<u8>) {
    ("<", (&*binding.contact, ">")).put(out);
    if let Some(instance) = &binding.instance {
        (";+sip.instance=\"<", (&**instance, ">\"")).put(out);
    }
    if let Some(reg_id) = binding.reg_id {
        (";reg-id=", reg_id).put(out);
    }
    (";expires=", u32::try_from(secs).unwrap_or(u32::MAX)).put(out);
}
