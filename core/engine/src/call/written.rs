//! Messages (RFC 3428) by the routes of calls: from carriers, and to them.

use super::attempt::Target;
use super::leg::Peer;
use super::limits;
use super::plan::{Final, Plan, plan};
use super::words::Words;
use crate::tenancy::{Origin, OriginKind};
use crate::turn::Turn;
use signalbox_sip::Message;
use std::collections::VecDeque;

/// Where a MESSAGE may go, first to be tried first: where a call to the same would. Of carriers, and to them, it counts as a
/// call of its second.
///
/// # Errors
/// What its sender is told: nobody is there, a rule refuses it, or a limit is reached.
pub(crate) fn ways(
    turn: &mut Turn<'_>,
    origin: &Origin,
    request: &Message<&[u8]>,
) -> Result<VecDeque<Target>, Words> {
    let Plan { targets, end, .. } = plan(turn, origin, request, None);
    match end {
        Some(Final::Said(words)) => return Err(words),
        Some(Final::Nobody(nobody)) => return Err(Words::plain(nobody.status())),
        None => {}
    }
    let first = targets.front().ok_or_else(|| Words::plain(503))?;
    let by_carrier =
        matches!(origin.kind, OriginKind::Trunk { .. }) || matches!(first.peer, Peer::Trunk { .. });
    let numbering = turn.settings.tenant(&origin.tenant).map(|tenant| &tenant.numbering);
    if by_carrier
        && !limits::is_emergency(numbering, request)
        && let Some(refused) = limits::too_fast(turn, origin)
    {
        turn.reject_beyond(origin.flow.remote.ip(), refused.limit, request);
        return Err(Words::full());
    }
    Ok(targets)
}
