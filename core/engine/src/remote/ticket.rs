//! Tickets between edges, sealed with the cluster's key: what makes an edge take a request for a phone from another edge.
//!
//! A [`Hand`] is a Route for one request out of a dialog: good once, for a minute, from one edge to another, for one binding
//! of one tenant. A [`Way`] is a Contact for the requests inside the dialog that came of it: good in that dialog, for its
//! two ends, as long as it lasts, also after a restart. Whoever has read one on its way can use neither elsewhere.

use crate::standalone::token::Kind;
use crate::state::BindingKey;
use serde::{Deserialize, Serialize};
use signalbox_base::{Flow, Secret, Text, Wall};
use std::net::SocketAddr;
use std::time::Duration;

const KIND: Kind = Kind { prefix: "h_", key: b"hop ticket", nonce: b"hop nonce" };

/// How long a [`Hand`] is good: what differs between the edges' clocks, and a busy moment.
pub(super) const HAND_GOOD: Duration = Duration::from_secs(60);

/// What a ticket says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Ticket {
    /// A request out of a dialog.
    Hand(Hand),
    /// Inside one.
    Way(Way),
}

/// The sending edge hands one request to the edge that owns a binding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hand {
    /// Random: it is good once.
    pub(super) id: u64,
    /// The tenant that the request is of; the binding must be too.
    pub(super) tenant: Text,
    /// The binding.
    pub(super) key: BindingKey,
    /// The edge that sends.
    pub(super) from: Text,
    /// The edge that may take it.
    pub(super) to: Text,
    /// Nobody takes it beyond this.
    pub(super) until: Wall,
}

/// One end of a dialog, as the other end's requests reach it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Way {
    /// The tenant.
    pub(super) tenant: Text,
    /// The phone's binding: who it is, and where it is now.
    pub(super) key: BindingKey,
    /// [`crate::remote::call_of`] the dialog's Call-ID: it is good in no other.
    pub(super) call: u64,
    /// Which end.
    pub(super) end: End,
    /// The end's remote target.
    pub(super) uri: Text,
    /// Its route set, in the order of Route headers.
    pub(super) routes: Vec<Text>,
    /// Where the phone was seen.
    pub(super) phone: Flow,
    /// The other edge's listener.
    pub(super) edge: SocketAddr,
}

/// The ends of a dialog through this edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum End {
    /// The phone; its requests come over its own flow.
    Phone,
    /// The other edge; its requests come from its listener.
    Edge,
}

/// Whether a user part looks like a ticket.
pub(super) fn is_ticket(user: &[u8]) -> bool {
    KIND.is(user)
}

/// The user part of a ticket.
pub(super) fn seal(secret: &Secret, ticket: &Ticket) -> String {
    KIND.seal(secret, ticket)
}

/// Reads one; `None` when it is not of this cluster.
pub(super) fn open(secret: &Secret, user: &[u8]) -> Option<Ticket> {
    KIND.open(secret, user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_ticket_when_any_of_it_or_the_key_differs_then_it_does_not_open() {
        let hand = Hand {
            id: 7,
            tenant: Text::new("acme"),
            key: BindingKey(9),
            from: Text::new("edge-b"),
            to: Text::new("edge-a"),
            until: Wall::from_secs(60),
        };
        let (ours, theirs) = (Secret::new(b"one".to_vec()), Secret::new(b"two".to_vec()));
        let user = seal(&ours, &Ticket::Hand(hand.clone()));
        assert!(is_ticket(user.as_bytes()));
        assert_eq!(open(&ours, user.as_bytes()), Some(Ticket::Hand(hand)));
        assert_eq!(open(&theirs, user.as_bytes()), None);
        for at in 2..user.len() - 1 {
            let mut other = user.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(open(&ours, &other), None, "changed at {at}");
        }
        let dialog_token = user.replacen("h_", "d_", 1);
        assert_eq!(crate::standalone::token::open(&ours, dialog_token.as_bytes()), None, "another kind");
    }
}
