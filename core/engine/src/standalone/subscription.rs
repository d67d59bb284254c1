//! Subscriptions (RFC 6665, RFC 3515), told by the messages that pass: nothing of them is kept but which have just ended.

use super::Pending;
use super::token::Side;
use crate::facts::subscription::{Seen, Turned};
use crate::hiding;
use crate::turn::Turn;
use foldhash::HashSet;
use signalbox_base::{ShortToken, TenantId, Text, Wall};
use signalbox_schemas::words::{RejectedBy, SubscriptionEnd};
use signalbox_sip::{HeaderName, Message, Method};
use std::collections::VecDeque;
use std::time::Duration;

/// Subscriptions remembered as ended: the NOTIFY behind an unsubscription ends it no second time.
const ENDED_MAX: usize = 4096;

/// Ids of subscriptions that have just ended, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Ended {
    ids: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Ended {
    /// Whether this is the first time.
    fn first(&mut self, id: u64) -> bool {
        if !self.ids.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > ENDED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }

    fn forget(&mut self, id: u64) {
        if self.ids.remove(&id) {
            self.order.retain(|known| *known != id);
        }
    }
}

/// Records what a request and its final answer mean for a subscription, if they are about one. `response` is the
/// receiver's; without one the edge itself answers.
pub(super) fn tell(
    turn: &mut Turn<'_>,
    ended: &mut Ended,
    pending: &Pending,
    status: u16,
    response: Option<&Message<&[u8]>>,
) {
    let request = &pending.request;
    let Some(turned) = turned(turn.now.wall, request, status, response) else { return };
    let Ok(tenant) = pending.sender.tenant.parse::<TenantId>() else { return };
    let Some((package, event_id)) = package_of(request) else { return };
    let notified = request.method() == Method::Notify;
    let tag = if notified { request.to_tag() } else { request.from_tag() };
    let call_id = request.value(HeaderName::CallId).unwrap_or_default();
    // Where the sides hide from each other, one of the two dialogs bears the names that its subscriber gave.
    let [call_id, tag] = [call_id, tag.unwrap_or_default()]
        .map(|name| hiding::given_name(&turn.settings.cluster_key, tenant.as_str(), name));
    let parts = [tenant.as_str().as_bytes(), &*call_id, &*tag, package, event_id];
    let id = turn.directory.tokens().subscription(parts);
    match turned {
        Turned::Started(_) => ended.forget(id),
        Turned::Ended(..) if !ended.first(id) => return,
        _ => {}
    }
    let uris = [request.from(), request.to()].map(|side| side.map_or(&b""[..], |address| address.uri));
    let (subscriber, notifier) = if notified { (uris[1], uris[0]) } else { (uris[0], uris[1]) };
    let sides = [&pending.sender.side, pending.way.side()];
    let backend = sides.iter().find_map(|side| match side {
        Side::Backend(name) => Some(name.clone()),
        Side::Phone(_) => None,
    });
    let aor = sides.iter().find_map(|side| match side {
        Side::Phone(Some(key)) => {
            let aor = turn.state.registrations().aor_of(*key)?;
            Some(Text::new(aor.name.rsplit_once('/').map_or(&*aor.name, |(_, address)| address)))
        }
        _ => None,
    });
    let seen = Seen {
        edge: turn.edge(),
        id: Text::from(format!("s_{}", ShortToken(id))),
        tenant: &tenant,
        flow: pending.flow,
        package: Text::lossy(package),
        subscriber,
        notifier,
        aor,
        backend,
        request,
        phrase: response.and_then(|r| r.reason()).filter(|phrase| !phrase.is_empty()).map(Text::lossy),
    };
    let fact = seen.fact(turned, turn.now.wall);
    turn.record(fact);
}

fn turned(
    now: Wall,
    request: &Message<Box<[u8]>>,
    status: u16,
    response: Option<&Message<&[u8]>>,
) -> Option<Turned> {
    let in_dialog = request.to_tag().is_some();
    let granted = response.and_then(expires).or_else(|| expires(request));
    let until = granted.map(|secs| now.plus(Duration::from_secs(secs.into())));
    match (request.method(), in_dialog, status) {
        // With 0 it was a look at the state of the moment (RFC 6665 §4.4.3).
        (Method::Subscribe, false, 200..=299) => (granted != Some(0)).then_some(Turned::Started(until)),
        (Method::Subscribe, false, 401 | 407 | 423) => None,
        (Method::Subscribe, false, 300..) => {
            let by = if response.is_some() { RejectedBy::Backend } else { RejectedBy::Edge };
            Some(Turned::Rejected(status, by))
        }
        (Method::Subscribe, true, 200..=299) if granted == Some(0) => {
            Some(Turned::Ended(SubscriptionEnd::Client, None))
        }
        (Method::Subscribe, true, 200..=299) => Some(Turned::Refreshed(until)),
        (Method::Refer, false, 200..=299) => {
            let wanted = response.and_then(|r| r.value(HeaderName::ReferSub));
            (!wanted.is_some_and(|value| value.eq_ignore_ascii_case(b"false")))
                .then_some(Turned::Started(None))
        }
        (Method::Notify, true, _) if let Some(reason) = terminated(request) => {
            Some(Turned::Ended(reason, None))
        }
        (Method::Subscribe | Method::Notify, true, _) if is_gone(status) => {
            Some(Turned::Ended(SubscriptionEnd::Gone, Some(status)))
        }
        _ => None,
    }
}

/// Answers that end a subscription (RFC 6665 §4.1.2.2, §4.2.2).
fn is_gone(status: u16) -> bool {
    matches!(status, 404 | 405 | 410 | 416 | 480..=485 | 489 | 501 | 604)
}

/// Why the notifier says that it is over; `None` while it goes on.
fn terminated(request: &Message<Box<[u8]>>) -> Option<SubscriptionEnd> {
    let mut parts = request.value(HeaderName::SubscriptionState)?.split(|byte| *byte == b';');
    if !parts.next()?.trim_ascii().eq_ignore_ascii_case(b"terminated") {
        return None;
    }
    let reason = parts.find_map(|part| parameter(part, b"reason"));
    let word = String::from_utf8_lossy(reason.unwrap_or_default()).to_ascii_lowercase();
    Some(SubscriptionEnd::read(&word))
}

/// The event package and the `id` that tells subscriptions of one dialog apart.
fn package_of(request: &Message<Box<[u8]>>) -> Option<(&[u8], &[u8])> {
    if request.method() == Method::Refer {
        return Some((b"refer", b""));
    }
    let mut parts = request.value(HeaderName::Event)?.split(|byte| *byte == b';');
    let package = parts.next()?.trim_ascii();
    // Of a REFER's subscription the first NOTIFY may bear none (RFC 3515 §2.4.6).
    let id = parts.find_map(|part| parameter(part, b"id")).filter(|_| package != b"refer");
    (!package.is_empty()).then_some((package, id.unwrap_or_default()))
}

fn parameter<'p>(part: &'p [u8], name: &[u8]) -> Option<&'p [u8]> {
    let at = part.iter().position(|byte| *byte == b'=')?;
    part[..at].trim_ascii().eq_ignore_ascii_case(name).then(|| part[at + 1..].trim_ascii())
}

fn expires<B: AsRef<[u8]>>(message: &Message<B>) -> Option<u32> {
    let value = std::str::from_utf8(message.value(HeaderName::Expires)?.trim_ascii()).ok()?;
    value.parse::<u64>().ok().map(|secs| u32::try_from(secs).unwrap_or(u32::MAX))
}
