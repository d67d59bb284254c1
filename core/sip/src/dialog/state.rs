//! The state of one dialog (RFC 3261 §12), for either side of it.

use super::create::Response;
use super::id::DialogId;
use super::route_set::{RequestTarget, RouteSet};
use serde::{Deserialize, Serialize};
use signalbox_base::Text;
use std::fmt;

/// The largest sequence number (RFC 3261 §8.1.1.5: less than 2³¹).
pub const CSEQ_MAX: u32 = i32::MAX as u32;

/// Which side of the request that made the dialog we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// We sent it.
    Uac,
    /// We received it.
    Uas,
}

/// How far it has come (RFC 3261 §12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Made by a provisional response.
    Early,
    /// Made, or confirmed, by a 2xx.
    Confirmed,
    /// Over; nothing may be sent in it.
    Terminated,
}

/// What a request from the peer is, by its number (RFC 3261 §12.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteOrder {
    /// To be handled.
    InOrder,
    /// Lower than one before: to be answered 500.
    Stale,
}

/// All 2³¹ numbers are used: the dialog cannot carry another request and has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeqExhausted;

impl fmt::Display for CSeqExhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the dialog's sequence numbers are used up")
    }
}

impl std::error::Error for CSeqExhausted {}

/// One dialog.
///
/// ```text
///   101–199 with tag ─► Early ── 2xx ─► Confirmed ── BYE, 481, 408 ─► Terminated
///   2xx ────────────────────────────────────▲             ▲
///                       Early ── 300–699, BYE ────────────┘
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dialog {
    pub(super) id: DialogId,
    pub(super) role: Role,
    pub(super) phase: Phase,
    pub(super) local_uri: Text,
    pub(super) remote_uri: Text,
    pub(super) remote_target: Text,
    pub(super) route_set: RouteSet,
    pub(super) local_cseq: Option<u32>,
    pub(super) remote_cseq: Option<u32>,
    pub(super) secure: bool,
}

impl Dialog {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> &DialogId {
        &self.id
    }

    /// Our side.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// How far it has come.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// From of our requests, without tag.
    #[must_use]
    pub fn local_uri(&self) -> &Text {
        &self.local_uri
    }

    /// To of our requests, without tag.
    #[must_use]
    pub fn remote_uri(&self) -> &Text {
        &self.remote_uri
    }

    /// The peer's Contact.
    #[must_use]
    pub fn remote_target(&self) -> &Text {
        &self.remote_target
    }

    /// The hops to it.
    #[must_use]
    pub fn route_set(&self) -> &RouteSet {
        &self.route_set
    }

    /// The number of our last request.
    #[must_use]
    pub fn local_cseq(&self) -> Option<u32> {
        self.local_cseq
    }

    /// The number of the peer's last request.
    #[must_use]
    pub fn remote_cseq(&self) -> Option<u32> {
        self.remote_cseq
    }

    /// Whether it may only be carried over TLS.
    #[must_use]
    pub fn secure(&self) -> bool {
        self.secure
    }

    /// What a request of ours is addressed to (RFC 3261 §12.2.1.1).
    #[must_use]
    pub fn request_target(&self) -> RequestTarget {
        self.route_set.address(&self.remote_target)
    }

    /// The number for our next request; ACK and CANCEL bear their INVITE's instead (RFC 3261 §12.2.1.1).
    ///
    /// # Errors
    /// After [`CSEQ_MAX`].
    pub fn next_cseq(&mut self) -> Result<u32, CSeqExhausted> {
        self.jump_cseq(1)
    }

    /// The same, but `by` further: what a restart that may have forgotten requests uses. An empty number counts as zero.
    ///
    /// # Errors
    /// Beyond [`CSEQ_MAX`].
    pub fn jump_cseq(&mut self, by: u32) -> Result<u32, CSeqExhausted> {
        let next = self.local_cseq.unwrap_or(0).checked_add(by);
        let next = next.filter(|next| *next <= CSEQ_MAX).ok_or(CSeqExhausted)?;
        self.local_cseq = Some(next);
        Ok(next)
    }

    /// A request of ours was sent with this number, chosen elsewhere (mapped from the other leg's).
    pub fn sent_cseq(&mut self, cseq: u32) {
        self.local_cseq = self.local_cseq.max(Some(cseq));
    }

    /// A request of the peer came, not a retransmission (RFC 3261 §12.2.2). ACK and CANCEL bear the number of an INVITE
    /// and are always in order. An equal number is in order too: the RFC rejects lower ones only.
    #[must_use]
    pub fn on_request(&mut self, cseq: u32, method: &[u8]) -> RemoteOrder {
        if matches!(method, b"ACK" | b"CANCEL") {
            return RemoteOrder::InOrder;
        }
        if self.remote_cseq.is_some_and(|last| cseq < last) {
            return RemoteOrder::Stale;
        }
        self.remote_cseq = Some(cseq);
        RemoteOrder::InOrder
    }

    /// The peer moved: its target refresh request came, or the 2xx to ours (RFC 3261 §12.2.1.2, §12.2.2). The route set
    /// stays. See [`refreshes_target`].
    pub fn refresh_target(&mut self, contact: &str) {
        if !contact.is_empty() && self.remote_target != contact {
            self.remote_target = contact.into();
        }
    }

    /// A 2xx to our dialog-making INVITE: an early dialog takes its route set from it (RFC 3261 §13.2.2.4), a confirmed
    /// one only the target.
    pub fn confirmed_by(&mut self, response: &Response<'_>) {
        if self.phase == Phase::Early {
            self.phase = Phase::Confirmed;
            self.route_set = RouteSet::of_response(response.record_route.iter().copied());
        }
        if let Some(contact) = response.contact {
            self.refresh_target(contact);
        }
    }

    /// We sent a 2xx to the dialog-making INVITE.
    pub fn confirm(&mut self) {
        if self.phase == Phase::Early {
            self.phase = Phase::Confirmed;
        }
    }

    /// A final failure: of the dialog-making request, which ends an early dialog (RFC 3261 §12.3), or of a request within
    /// a confirmed one, which 481 and 408 end (§12.2.1.2). `true` when this ended it.
    pub fn on_failure(&mut self, status: u16) -> bool {
        let ends = match self.phase {
            Phase::Early => status >= 300,
            Phase::Confirmed => matches!(status, 408 | 481),
            Phase::Terminated => false,
        };
        if ends {
            self.phase = Phase::Terminated;
        }
        ends
    }

    /// BYE was sent or received, or the user gave up.
    pub fn terminate(&mut self) {
        self.phase = Phase::Terminated;
    }
}

/// Whether a request with this method may change the peer's target (RFC 3261 §12.2, RFC 3311 §5.1, RFC 3515, RFC 6665).
#[must_use]
pub fn refreshes_target(method: &[u8]) -> bool {
    matches!(method, b"INVITE" | b"UPDATE" | b"SUBSCRIBE" | b"NOTIFY" | b"REFER")
}

#[cfg(test)]
mod tests {
    use super::super::{Incoming, Outgoing};
    use super::*;
    use proptest::prelude::*;

    const RINGING: Response<'static> = Response {
        status: 180,
        to_tag: "bob",
        contact: Some("sip:bob@192.0.2.4"),
        record_route: &["<sip:p2;lr>", "<sip:p1;lr>"],
    };

    fn outgoing() -> Outgoing {
        Outgoing {
            call_id: "id".into(),
            local_tag: "alice".into(),
            local_uri: "<sip:alice@example.com>".into(),
            remote_uri: "<sip:bob@example.com>".into(),
            cseq: 10,
            request_uri: "sip:bob@example.com".into(),
            secure: false,
        }
    }

    fn incoming() -> Dialog {
        let request = Incoming {
            call_id: "id",
            local_tag: "bob",
            from_tag: "alice",
            local_uri: "<sip:bob@example.com>",
            remote_uri: "<sip:alice@example.com>",
            cseq: 10,
            contact: "sip:alice@192.0.2.1",
            record_route: &["<sip:p2;lr>,<sip:p1;lr>"],
            secure: true,
        };
        request.dialog(180).expect("a provisional makes an early dialog")
    }

    #[test]
    fn a_response_makes_the_callers_dialog_rfc3261_12_1_2() {
        let dialog = outgoing().dialog(&RINGING).unwrap();
        assert_eq!((dialog.role(), dialog.phase()), (Role::Uac, Phase::Early));
        assert_eq!(dialog.id(), &DialogId::of_received_response("id", "alice", "bob"));
        assert_eq!((dialog.local_cseq(), dialog.remote_cseq()), (Some(10), None));
        let to = dialog.request_target();
        assert_eq!(to.uri, "sip:bob@192.0.2.4");
        assert_eq!(to.routes, [Text::new("<sip:p1;lr>"), Text::new("<sip:p2;lr>")]);
    }

    #[test]
    fn a_request_makes_the_callees_dialog_rfc3261_12_1_1() {
        let dialog = incoming();
        assert_eq!((dialog.role(), dialog.phase(), dialog.secure()), (Role::Uas, Phase::Early, true));
        assert_eq!(dialog.id(), &DialogId::of_received_request("id", "alice", "bob"));
        assert_eq!((dialog.local_cseq(), dialog.remote_cseq()), (None, Some(10)));
        assert_eq!(dialog.request_target().next_hop, "sip:p2;lr");
    }

    #[test]
    fn what_makes_no_dialog_rfc3261_12_1() {
        for (status, to_tag) in [(100, "bob"), (180, ""), (302, "bob"), (486, "bob")] {
            assert_eq!(outgoing().dialog(&Response { status, to_tag, ..RINGING }), None, "{status} {to_tag}");
        }
        let old_peer =
            outgoing().dialog(&Response { status: 200, to_tag: "", contact: None, ..RINGING }).unwrap();
        assert_eq!(old_peer.remote_target(), &Text::new("sip:bob@example.com"));
    }

    #[test]
    fn each_fork_has_its_own_dialog_rfc3261_13_2_2_4() {
        let (first, second) =
            (outgoing().dialog(&RINGING), outgoing().dialog(&Response { to_tag: "carol", ..RINGING }));
        assert_ne!(first.unwrap().id(), second.unwrap().id());
    }

    #[test]
    fn the_2xx_recomputes_the_route_set_of_an_early_dialog_only_rfc3261_13_2_2_4() {
        let mut dialog = outgoing().dialog(&RINGING).unwrap();
        let answer = Response {
            status: 200,
            contact: Some("sip:bob@192.0.2.5"),
            record_route: &["<sip:p9;lr>"],
            ..RINGING
        };
        dialog.confirmed_by(&answer);
        assert_eq!(dialog.phase(), Phase::Confirmed);
        assert_eq!(dialog.request_target().routes, [Text::new("<sip:p9;lr>")]);
        dialog.confirmed_by(&Response { contact: Some("sip:bob@192.0.2.6"), record_route: &[], ..answer });
        assert_eq!(dialog.route_set().as_slice().len(), 1);
        assert_eq!(dialog.remote_target(), &Text::new("sip:bob@192.0.2.6"));
    }

    #[test]
    fn a_lower_number_is_stale_but_not_for_ack_and_cancel_rfc3261_12_2_2() {
        let mut dialog = incoming();
        assert_eq!(dialog.on_request(20, b"INFO"), RemoteOrder::InOrder);
        assert_eq!(dialog.on_request(19, b"INFO"), RemoteOrder::Stale);
        assert_eq!(dialog.on_request(10, b"ACK"), RemoteOrder::InOrder);
        assert_eq!(dialog.on_request(10, b"CANCEL"), RemoteOrder::InOrder);
        assert_eq!(dialog.remote_cseq(), Some(20));
        assert_eq!(dialog.on_request(4_000_000, b"BYE"), RemoteOrder::InOrder, "gaps are legal");
    }

    #[test]
    fn our_numbers_rise_and_end_below_2_31_rfc3261_8_1_1_5() {
        let mut dialog = outgoing().dialog(&RINGING).unwrap();
        assert_eq!(dialog.next_cseq(), Ok(11));
        dialog.sent_cseq(40);
        dialog.sent_cseq(30);
        assert_eq!(dialog.next_cseq(), Ok(41));
        assert_eq!(dialog.jump_cseq(10_000), Ok(10_041));
        dialog.sent_cseq(CSEQ_MAX);
        assert_eq!(dialog.next_cseq(), Err(CSeqExhausted));
        assert_eq!(dialog.local_cseq(), Some(CSEQ_MAX), "a refused number is not used");
        assert_eq!(incoming().next_cseq(), Ok(1));
    }

    #[test]
    fn what_ends_a_dialog_rfc3261_12_3_and_12_2_1_2() {
        let mut early = outgoing().dialog(&RINGING).unwrap();
        assert!(early.on_failure(486));
        assert_eq!(early.phase(), Phase::Terminated);
        assert!(!early.on_failure(486), "once");
        let mut confirmed = incoming();
        confirmed.confirm();
        assert!(!confirmed.on_failure(486) && !confirmed.on_failure(500));
        assert!(confirmed.on_failure(481));
        confirmed.confirm();
        assert_eq!(confirmed.phase(), Phase::Terminated, "nothing revives it");
    }

    #[test]
    fn a_target_refresh_moves_the_target_and_keeps_the_routes_rfc3261_12_2_2() {
        let mut dialog = incoming();
        dialog.refresh_target("sip:alice@192.0.2.77");
        dialog.refresh_target("");
        assert_eq!(dialog.request_target().uri, "sip:alice@192.0.2.77");
        assert_eq!(dialog.route_set().as_slice().len(), 2);
        assert!(refreshes_target(b"UPDATE") && refreshes_target(b"INVITE"));
        assert!(!refreshes_target(b"BYE") && !refreshes_target(b"PRACK") && !refreshes_target(b"INFO"));
    }

    #[test]
    fn a_dialog_outlives_its_process() {
        let dialog = incoming();
        let json = serde_json::to_string(&dialog).unwrap();
        assert_eq!(serde_json::from_str::<Dialog>(&json).unwrap(), dialog);
    }

    proptest! {
        #[test]
        fn the_peers_number_never_falls(numbers in prop::collection::vec(0u32..50, 0..30)) {
            let mut dialog = incoming();
            for cseq in numbers {
                let before = dialog.remote_cseq();
                let order = dialog.on_request(cseq, b"INFO");
                prop_assert_eq!(order == RemoteOrder::Stale, Some(cseq) < before);
                prop_assert!(dialog.remote_cseq() >= before);
            }
        }
    }
}
