//! Session timers (RFC 4028), and what else a line does by itself as time passes.

use super::outgoing::{Extra, InDialog};
use super::{LegId, Line, Use};
use crate::datagram::Datagram;
use crate::devices::{Device, Identity};
use signalbox_base::Mono;
use signalbox_sip::header::{Refresher, SessionExpires, delta_seconds};
use signalbox_sip::{HeaderName, Message, Method};
use std::time::Duration;

/// After a re-INVITE that crossed another (RFC 3261 §14.1 leaves 2.1 to 4 seconds).
const AFTER_GLARE: Duration = Duration::from_secs(3);

/// What a line means to do later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chore {
    /// Refresh the session.
    Refresh(LegId),
    /// Say the reliable response again, and after so long once more.
    RingAgain(LegId, Duration),
}

/// The session timer that an INVITE asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) secs: u32,
    /// Who shall refresh, if that is said.
    pub(super) by: Option<Refresher>,
}

impl Asked {
    /// What the owner wants, else the device.
    pub(super) fn of(device: &Device, wanted_secs: u32) -> Option<Self> {
        if wanted_secs > 0 {
            return Some(Self { secs: wanted_secs, by: Some(Refresher::Uac) });
        }
        let timer = device.session.as_ref().filter(|timer| timer.offers > 0)?;
        Some(Self { secs: timer.offers, by: timer.names })
    }

    /// As Session-Expires says it.
    pub(super) fn value(self) -> String {
        format!("{}{}", self.secs, self.by.map(param).unwrap_or_default())
    }
}

/// A session timer that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interval {
    pub(super) secs: u32,
    /// We refresh.
    pub(super) mine: bool,
}

impl Interval {
    /// What a 2xx to a request of ours says.
    fn of_response<B: AsRef<[u8]>>(response: &Message<B>) -> Option<Self> {
        let said = SessionExpires::parse(response.value(HeaderName::SessionExpires)?).ok()?;
        Some(Self { secs: said.seconds, mine: said.refresher() != Some(Refresher::Uas) })
    }

    /// What our 2xx to a request says, when both know of session timers: who refreshes stays as it was, unless the request
    /// says it (RFC 4028 §9).
    pub(super) fn of_request<B: AsRef<[u8]>>(
        device: &Device,
        request: &Message<B>,
        before: Option<Self>,
    ) -> Option<Self> {
        let timer = device.session.as_ref()?;
        let said = SessionExpires::parse(request.value(HeaderName::SessionExpires)?).ok()?;
        let usual = before.map_or(timer.prefers == Refresher::Uas, |before| before.mine);
        let mine = said.refresher().map_or(usual, |by| by == Refresher::Uas);
        Some(Self { secs: said.seconds, mine })
    }

    /// As Session-Expires of our response says it.
    pub(super) fn answered(self) -> String {
        format!("{}{}", self.secs, param(if self.mine { Refresher::Uas } else { Refresher::Uac }))
    }

    /// As Session-Expires of our request says it.
    pub(super) fn requested(self) -> String {
        format!("{}{}", self.secs, param(if self.mine { Refresher::Uac } else { Refresher::Uas }))
    }
}

/// The interval that an INVITE asks for, where it is shorter than the device takes.
pub(super) fn too_short<B: AsRef<[u8]>>(device: &Device, invite: &Message<B>) -> Option<u32> {
    let least = device.session.as_ref()?.least;
    let asked = SessionExpires::parse(invite.value(HeaderName::SessionExpires)?).ok()?;
    (asked.seconds < least).then_some(least)
}

/// What a 422 wants at least.
pub(super) fn wanted_by<B: AsRef<[u8]>>(refusal: &Message<B>) -> Option<u32> {
    delta_seconds(refusal.value(HeaderName::MinSe)?).ok()
}

fn param(by: Refresher) -> &'static str {
    match by {
        Refresher::Uac => ";refresher=uac",
        Refresher::Uas => ";refresher=uas",
    }
}

impl Line {
    /// Works off what is due.
    pub(super) fn do_chores(&mut self, now: Mono, out: &mut Vec<Datagram>) {
        while let Some(chore) = self.chores.pop_due(now) {
            match chore {
                Chore::Refresh(leg) => self.refresh(now, leg, out),
                Chore::RingAgain(leg, interval) => {
                    if self.ring_again(now, leg, out) {
                        let next = interval.saturating_mul(2);
                        self.chores.plan(now.plus(next), Chore::RingAgain(leg, next));
                    }
                }
            }
        }
    }

    /// Both sides agreed to this session timer, or to none.
    pub(super) fn agree(&mut self, now: Mono, id: LegId, interval: Option<Interval>) {
        self.chores.forget(|chore| *chore == Chore::Refresh(id));
        let Some(leg) = self.legs.get_mut(&id) else { return };
        leg.session = interval;
        if let Some(Interval { secs, mine: true }) = interval {
            self.plan_refresh(now, id, Duration::from_secs(u64::from(secs / 2)));
        }
    }

    /// A request of ours that may refresh the session was answered.
    pub(super) fn on_refreshed(
        &mut self,
        now: Mono,
        id: LegId,
        status: u16,
        response: Option<&Message<&[u8]>>,
    ) {
        match response {
            Some(response) if status < 300 => self.agree(now, id, Interval::of_response(response)),
            Some(_) if status == 491 => self.plan_refresh(now, id, AFTER_GLARE),
            _ => {}
        }
    }

    fn plan_refresh(&mut self, now: Mono, id: LegId, after: Duration) {
        self.chores.forget(|chore| *chore == Chore::Refresh(id));
        self.chores.plan(now.plus(after), Chore::Refresh(id));
    }

    /// Refreshes the session: by UPDATE without a body where the peer allows that, else by the same offer again
    /// (RFC 4028 §7.4).
    fn refresh(&mut self, now: Mono, id: LegId, out: &mut Vec<Datagram>) {
        let Some(leg) = self.legs.get(&id).filter(|leg| leg.is_up()) else { return };
        let Some(Interval { secs, mine: true }) = leg.session else { return };
        if leg.modifying {
            return self.plan_refresh(now, id, AFTER_GLARE);
        }
        let by_invite = self.ua.device.session.as_ref().is_some_and(|timer| timer.by_invite);
        let sdp = leg.media.again();
        if leg.peer_updates && !by_invite {
            self.request(now, id, Method::Update, ("", b""), out);
        } else {
            self.reinvite(now, id, &sdp, &[], out);
        }
        self.plan_refresh(now, id, Duration::from_secs(u64::from(secs / 2)));
    }

    /// Tells the peer of a leg who it is connected with.
    pub(crate) fn connect_line(&mut self, now: Mono, id: LegId, out: &mut Vec<Datagram>) {
        let Some(leg) = self.legs.get(&id).filter(|leg| leg.is_up() && !leg.modifying) else { return };
        let Some(dialog) = leg.dialog.as_ref() else { return };
        let headers: Vec<_> = self.identify(dialog.local_uri()).into_iter().collect();
        if leg.peer_updates {
            let extra = Extra { content: ("", b""), headers: &headers };
            self.request_with(now, id, Method::Update, extra, out);
        } else {
            let sdp = leg.media.again();
            self.reinvite(now, id, &sdp, &headers, out);
        }
    }

    /// The header by which the device tells who it is.
    pub(super) fn identify(&self, address: &str) -> Option<(HeaderName, String)> {
        Some(match self.ua.device.identity? {
            Identity::Asserted => (HeaderName::PAssertedIdentity, address.to_owned()),
            Identity::RemoteParty => {
                (HeaderName::RemotePartyId, format!("{address};party=calling;privacy=off;screen=no"))
            }
        })
    }

    /// Sends a re-INVITE with this description.
    pub(super) fn reinvite(
        &mut self,
        now: Mono,
        id: LegId,
        sdp: &[u8],
        headers: &[(HeaderName, String)],
        out: &mut Vec<Datagram>,
    ) -> bool {
        let Some(leg) = self.legs.get_mut(&id).filter(|leg| leg.is_up() && !leg.modifying) else {
            return false;
        };
        leg.modifying = true;
        let content_type = "application/sdp";
        let invite = InDialog { method: Method::Invite, cseq: None, body: sdp, content_type, headers };
        self.send_in_dialog(now, id, &invite, Use::Modify(id), out)
    }
}
