//! One leg: a dialog with its INVITE transaction.

use super::session::{Asked, Interval};
use crate::offer::Media;
use signalbox_base::Text;
use signalbox_sip::dialog::{Dialog, Outgoing};
use signalbox_sip::header::NameAddr;
use signalbox_sip::transaction::{ClientTx, ServerTx};
use signalbox_sip::{HeaderName, Message, Uri};
use std::net::SocketAddr;

/// How far a leg is.
///
/// ```text
///  Calling ── 2xx ─► Up ── BYE either way ─► Leaving
///  Ringing ── our 2xx ─► Up ─┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Our INVITE is out.
    Calling,
    /// Their INVITE waits for our answer.
    Ringing,
    /// A 2xx was sent or received.
    Up,
    /// Over; our BYE may wait for its answer.
    Leaving,
}

/// A leg.
pub(crate) struct Leg {
    pub(crate) state: State,
    pub(crate) call_id: Text,
    pub(crate) local_tag: Text,
    pub(crate) dialog: Option<Dialog>,
    /// Where its requests go when the dialog's URIs do not say.
    pub(crate) peer: SocketAddr,
    /// Caller: what the INVITE said.
    pub(crate) invitation: Option<super::Invitation>,
    pub(crate) from: Text,
    pub(crate) cseq: u32,
    pub(crate) invite_tx: Option<ClientTx>,
    pub(crate) server_tx: Option<ServerTx>,
    /// CSeq number of that INVITE.
    pub(crate) invited: u32,
    /// Callee: the INVITE, to answer it.
    pub(crate) request: Option<super::Owned>,
    /// The ACK to the last 2xx, for its repetitions.
    pub(crate) ack: Option<(SocketAddr, Vec<u8>)>,
    pub(crate) cancel_wanted: bool,
    /// Challenges answered.
    pub(crate) answers: u8,
    pub(crate) modifying: bool,
    /// Our session descriptions.
    pub(crate) media: Media,
    /// Callee: the answer to the INVITE's offer, once it was said.
    pub(crate) answer: Option<Vec<u8>>,
    /// Caller: the session timer that the INVITE asks for.
    pub(super) asked: Option<Asked>,
    /// The session timer that both agreed to.
    pub(super) session: Option<Interval>,
    /// The peer allows UPDATE.
    pub(super) peer_updates: bool,
    /// Callee: the reliable response that it rings with.
    pub(super) reliable: Option<super::reliable::Reliable>,
    /// Caller: RSeq of the last reliable response, and how many were acknowledged.
    pub(super) progress: Option<(u32, u32)>,
}

impl Leg {
    /// What its INVITE fixed.
    pub(crate) fn outgoing(&self) -> Outgoing {
        let invitation = self.invitation.as_ref();
        Outgoing {
            call_id: self.call_id.clone(),
            local_tag: self.local_tag.clone(),
            local_uri: self.from.clone(),
            remote_uri: invitation.map(|i| i.to.clone()).unwrap_or_default(),
            cseq: self.cseq,
            request_uri: invitation.map(|i| i.uri.clone()).unwrap_or_default(),
            secure: false,
        }
    }

    /// A leg with nothing but its names and its peer. `session` is the id of its descriptions.
    pub(crate) fn new(state: State, call_id: Text, local_tag: Text, peer: SocketAddr, session: u64) -> Self {
        Self {
            state,
            call_id,
            local_tag,
            peer,
            media: Media::new(session),
            dialog: None,
            invitation: None,
            from: Text::default(),
            cseq: 1,
            invite_tx: None,
            server_tx: None,
            invited: 0,
            request: None,
            ack: None,
            cancel_wanted: false,
            answers: 0,
            modifying: false,
            answer: None,
            asked: None,
            session: None,
            peer_updates: false,
            reliable: None,
            progress: None,
        }
    }

    /// Whether a dialog of these tags is this one; before the dialog exists, our tag is enough.
    pub(crate) fn is(&self, local_tag: &[u8], remote_tag: &[u8]) -> bool {
        let remote = self.dialog.as_ref().map(|d| d.id().remote_tag.as_bytes());
        self.local_tag.as_bytes() == local_tag && remote.is_none_or(|remote| remote == remote_tag)
    }

    pub(crate) fn is_up(&self) -> bool {
        self.state == State::Up
    }
}

/// URI of the first Contact.
pub(crate) fn contact_uri<B: AsRef<[u8]>>(message: &Message<B>) -> Option<&str> {
    let value = message.values(HeaderName::Contact).next()?;
    std::str::from_utf8(NameAddr::parse(value).ok()?.uri).ok()
}

/// Values of Record-Route as written.
pub(crate) fn record_route<B: AsRef<[u8]>>(message: &Message<B>) -> Vec<&str> {
    message.all(HeaderName::RecordRoute).filter_map(|h| std::str::from_utf8(h.value).ok()).collect()
}

/// From or To as written, without its tag.
pub(crate) fn without_tag(address: &NameAddr<'_>) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let display = address.display.map(|d| text(d) + " ").unwrap_or_default();
    let mut value = format!("{display}<{}>", text(address.uri));
    for param in address.params.into_iter().filter(|p| !p.name.eq_ignore_ascii_case(b"tag")) {
        value += ";";
        value += &text(param.raw);
    }
    value
}

/// Where a URI with a literal address sends to.
pub(crate) fn address_of(uri: &str) -> Option<SocketAddr> {
    let uri = Uri::parse(uri.as_bytes()).ok()?;
    let sip = uri.as_sip()?;
    Some(SocketAddr::new(sip.address()?, sip.port.unwrap_or(5060)))
}
