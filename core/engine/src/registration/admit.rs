//! Whose a REGISTER is, and whether it may be granted at all.

use super::binding::Wanted;
use super::removed::Removals;
use crate::state::{AorName, Binding};
use crate::tenancy::Origin;
use crate::turn::{About, Turn};
use signalbox_sip::header::NameAddr;
use signalbox_sip::{HeaderName, Message, Uri};
use std::cmp::Ordering;

/// Bytes of an AoR's user: tables and the journal's subjects have room for it.
const USER_BYTES_MAX: usize = 255;

/// Why a REGISTER goes no further.
pub(super) enum Stop {
    /// Answered with this.
    Reject(u16, &'static str),
    /// 423: the least that is granted, seconds.
    TooBrief(u32),
    /// 503 with Retry-After, and why.
    Later(u32, &'static str),
    /// Above a limit of the tenant.
    Limit,
    /// `sips:` was asked for, and no backend is reached by it.
    Insecure,
}

pub(super) const TOO_MANY: Stop = Stop::Reject(403, "Too Many Contacts");

/// The AoR that To names. Its domain is the tenant's, by name or alias; the edge's own address stands for the domain that
/// the request is in.
pub(super) fn aor_of(
    turn: &mut Turn<'_>,
    origin: &Origin,
    request: &Message<&[u8]>,
) -> Result<AorName, (u16, &'static str)> {
    let to = request.to().map_err(|_| (400, "Bad To"))?;
    let Ok(Uri::Sip(uri)) = to.parsed_uri() else { return Err((400, "To Is No SIP URI")) };
    let user = uri.decoded_user().ok_or((404, "Not Found"))?;
    let user = std::str::from_utf8(&user).ok().filter(|u| !u.is_empty());
    let user = user.ok_or((400, "Bad User In To"))?;
    if user.len() > USER_BYTES_MAX {
        return Err((400, "User In To Too Long"));
    }
    let domain = match turn.directory.domain(turn.settings, uri.host) {
        Some((tenant, domain)) if tenant.name == origin.tenant => domain,
        None if turn.directory.is_own_host(uri.host) => &origin.domain,
        _ => return Err((404, "Not Found")),
    };
    let name = AorName::new(origin.tenant.as_str(), user, domain);
    let about = Some(name.parts().address());
    let cseq = request.cseq().number;
    turn.note(About { aor: about, source: Some(origin.flow.remote), call: None }, || {
        format!("REGISTER, CSeq {cseq}")
    });
    Ok(name)
}

/// With the Call-ID of a binding, CSeq must rise (RFC 3261 §10.3 step 7); else the whole request fails. The request that made
/// the binding may come again: its answer was lost with a crash.
pub(super) fn in_order(
    turn: &Turn<'_>,
    removals: &Removals,
    aor: &str,
    wanted: &Wanted,
    request: &Message<&[u8]>,
) -> Result<(), Stop> {
    let Wanted::Each(each) = wanted else { return Ok(()) };
    let stale = each.iter().zip(request.values(HeaderName::Contact)).any(|(asked, value)| {
        if asked.expires > 0 && removals.is_behind(turn, request, aor, asked.key) {
            return true;
        }
        let known = turn.state.registrations().binding(asked.key);
        known.is_some_and(|(_, binding)| match Place::of(binding, request) {
            Place::Behind => false,
            Place::Same => {
                let uri = NameAddr::parse(value).map(|contact| contact.uri).unwrap_or_default();
                asked.expires == 0 || binding.contact.as_bytes() != uri
            }
            Place::Before => true,
        })
    });
    if stale { Err(Stop::Reject(500, "CSeq Out Of Order")) } else { Ok(()) }
}

/// Where a REGISTER stands to the one that a binding is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It is an older one.
    Before,
    /// It is that one.
    Same,
    /// It is a newer one, or of another Call-ID.
    Behind,
}

impl Place {
    pub(super) fn of<B: AsRef<[u8]>>(binding: &Binding, request: &Message<B>) -> Self {
        if binding.call_id.as_bytes() != request.call_id() {
            return Self::Behind;
        }
        match request.cseq().number.cmp(&binding.cseq) {
            Ordering::Less => Self::Before,
            Ordering::Equal => Self::Same,
            Ordering::Greater => Self::Behind,
        }
    }
}

pub(super) fn within_limit(turn: &Turn<'_>, origin: &Origin, wanted: &Wanted) -> Result<(), Stop> {
    let Wanted::Each(each) = wanted else { return Ok(()) };
    let limit = turn
        .directory
        .tenant_place(origin.tenant.as_str())
        .and_then(|at| turn.settings.tenants[usize::from(at)].limits.registrations);
    let Some(limit) = limit else { return Ok(()) };
    let registrations = turn.state.registrations();
    let new = each.iter().filter(|a| a.expires > 0 && registrations.binding(a.key).is_none()).count();
    let total = u64::from(registrations.of_tenant(origin.tenant.as_str())) + new as u64;
    if new > 0 && total > u64::from(limit) { Err(Stop::Limit) } else { Ok(()) }
}
