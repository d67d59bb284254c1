//! Who may have a request passed on, and where to.

use super::{Admitted, Between, End, Refused, Sender, Way};
use crate::remote::ticket::{self, Hand, Ticket};
use crate::remote::{call_of, flow_to, is_peer, ticket_of};
use crate::sips;
use crate::state::Binding;
use crate::turn::Turn;
use foldhash::HashSet;
use signalbox_base::{Flow, Text, Wall};
use signalbox_schemas::words::RequestRule;
use signalbox_sip::{Message, Method};
use std::collections::VecDeque;

/// Tickets remembered as used at most: a thousand calls a second for as long as they are good.
const USED_MAX: usize = 65_536;

const GONE: Refused = Refused { status: 480, reason: "Temporarily Unavailable", rule: None };
const LOOP: Refused = Refused { status: 482, reason: "Loop Detected", rule: None };
const HOPS: Refused = Refused { status: 483, reason: "Too Many Hops", rule: None };
/// A ticket that is not good: forged, old, used, or for somebody else.
const BAD: Refused = Refused { status: 403, reason: "Forbidden", rule: Some(RequestRule::Acl) };
/// A ticket in foreign hands.
const STRANGER: Refused = Refused { status: 403, reason: "Forbidden", rule: Some(RequestRule::UnknownPeer) };

/// Tickets that were used and would still be good.
#[derive(Debug, Default)]
pub(super) struct Used {
    ids: HashSet<u64>,
    order: VecDeque<(Wall, u64)>,
}

impl Used {
    /// Takes a ticket; `false` when it was taken before.
    fn take(&mut self, id: u64, until: Wall, now: Wall) -> bool {
        while let Some((old, first)) = self.order.front().copied()
            && (old < now || self.order.len() >= USED_MAX)
        {
            self.order.pop_front();
            self.ids.remove(&first);
        }
        if !self.ids.insert(id) {
            return false;
        }
        self.order.push_back((until, id));
        true
    }
}

/// Judges a request that bears a ticket.
///
/// # Errors
/// Why it may not pass; `None` when the ticket is nobody's and the request comes from no edge: then it is like any other.
pub(super) fn admit(
    used: &mut Used,
    turn: &Turn<'_>,
    sender: &Sender<'_>,
    request: &Message<&[u8]>,
) -> Result<Admitted, Option<Refused>> {
    let ticket = ticket_of(request).and_then(|user| ticket::open(&turn.settings.cluster_key, user));
    let Some(ticket) = ticket else {
        return Err(is_peer(turn.settings, &sender.flow).then_some(BAD));
    };
    if matches!(request.max_forwards(), Some(Ok(0))) {
        return Err(Some(HOPS));
    }
    match ticket {
        Ticket::Hand(hand) => handed(used, turn, sender, request, &hand),
        Ticket::Way(way) => inside(turn, sender, request, way),
    }
    .map_err(Some)
}

/// Out of a dialog, from another edge to a binding of this one. It goes there or nowhere.
fn handed(
    used: &mut Used,
    turn: &Turn<'_>,
    sender: &Sender<'_>,
    request: &Message<&[u8]>,
    hand: &Hand,
) -> Result<Admitted, Refused> {
    if !is_edge(turn, sender) || !sender.may_be(&hand.from) {
        return Err(STRANGER);
    }
    let (now, own) = (turn.now.wall, &turn.settings.identity.edge);
    if hand.from == *own {
        return Err(LOOP);
    }
    let outside = request.to_tag().is_none() && !matches!(request.method(), Method::Register | Method::Ack);
    if hand.to != *own || hand.until < now || !outside || !used.take(hand.id, hand.until, now) {
        return Err(BAD);
    }
    let (_, binding) = turn.state.registrations().binding_of(&hand.tenant, hand.key).ok_or(GONE)?;
    if !turn.net.is_reachable(hand.key) {
        return Err(GONE);
    }
    let between = Between {
        tenant: hand.tenant.clone(),
        key: hand.key,
        call: call_of(request.call_id()),
        phone: binding.flow.get(),
        edge: sender.home,
    };
    Ok(Admitted {
        flow: between.phone,
        between,
        to: End::Phone,
        // Between edges it is `sip:` alone.
        uri: Text::lossy(&sips::plain(binding.request_uri().as_bytes())),
        routes: binding.path.iter().cloned().collect(),
    })
}

/// Inside a dialog that passes this edge.
fn inside(
    turn: &Turn<'_>,
    sender: &Sender<'_>,
    request: &Message<&[u8]>,
    way: Way,
) -> Result<Admitted, Refused> {
    let flow = &sender.flow;
    if way.call != call_of(request.call_id()) {
        return Err(BAD);
    }
    let phone = binding(turn, &way).map_or(way.phone, |binding| binding.flow.get());
    let out = match way.end {
        End::Phone => {
            if !is_edge(turn, sender) || sender.home.ip() != way.edge.ip() {
                return Err(STRANGER);
            }
            phone
        }
        End::Edge => {
            if !is_phone(turn, flow, &way) {
                return Err(STRANGER);
            }
            flow_to(turn.settings, way.edge).ok_or(GONE)?
        }
    };
    if turn.settings.listener(out.listener).is_none() {
        return Err(GONE);
    }
    // The phone is where it speaks from now: its next requests come from there.
    let seen = if way.end == End::Edge { *flow } else { phone };
    let edge = if way.end == End::Phone { sender.home } else { way.edge };
    let between = Between { tenant: way.tenant, key: way.key, call: way.call, phone: seen, edge };
    Ok(Admitted { between, to: way.end, flow: out, uri: way.uri, routes: way.routes })
}

/// Whether another edge sends. Over a connection only who has shown a certificate is one.
fn is_edge(turn: &Turn<'_>, sender: &Sender<'_>) -> bool {
    is_peer(turn.settings, &sender.flow) && (!sender.flow.transport.reliable() || !sender.names.is_empty())
}

fn binding<'t>(turn: &'t Turn<'_>, way: &Way) -> Option<&'t Binding> {
    let (_, binding) = turn.state.registrations().binding_of(&way.tenant, way.key)?;
    turn.net.is_reachable(binding.key).then_some(binding)
}

/// Whether a flow is the phone's: it is registered over it; or nobody is, and it is no peer's (who bears the ticket may have
/// moved to an address that nobody is registered from yet).
fn is_phone(turn: &Turn<'_>, flow: &Flow, way: &Way) -> bool {
    let Some(listener) = turn.settings.listener(flow.listener).filter(|l| l.serves.endpoints) else {
        return false;
    };
    let mut over = turn.state.registrations().over_flow(flow).peekable();
    if over.peek().is_some() {
        return over.any(|(aor, binding)| binding.key == way.key && aor.tenant() == &*way.tenant);
    }
    !turn.directory.is_peer(listener, flow.remote) && !is_peer(turn.settings, flow)
}

impl Between {
    /// The Contact that stands for one end, towards the other.
    pub(super) fn way(&self, end: End, uri: Text, routes: Vec<Text>) -> Ticket {
        Ticket::Way(Way {
            tenant: self.tenant.clone(),
            key: self.key,
            call: self.call,
            end,
            uri,
            routes,
            phone: self.phone,
            edge: self.edge,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_ticket_when_it_comes_again_while_it_is_good_then_it_is_not_taken_and_memory_is_bounded() {
        let mut used = Used::default();
        let at = Wall::from_secs;
        assert!(used.take(1, at(60), at(0)));
        assert!(!used.take(1, at(60), at(60)), "to its last moment");
        assert!(used.take(2, at(100), at(61)));
        assert_eq!(used.ids.len(), 1, "what is no longer good is refused by its time");
        for id in 10..200_000 {
            assert!(used.take(id, at(100), at(61)));
        }
        assert!(used.ids.len() <= USED_MAX && used.ids.len() == used.order.len());
    }
}
