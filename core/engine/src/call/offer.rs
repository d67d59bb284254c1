//! Offers and answers, as far as a call's events tell of them: codecs, hold and resume, media addresses (RFC 3264).
//!
//! Bodies pass as they are; what cannot be read as SDP is simply not told of.

use super::leg::End;
use serde::{Deserialize, Serialize};
use signalbox_base::Text;
use signalbox_schemas::call::{MediaSummary, SdpSummary};
use signalbox_schemas::words::{MediaDirection, MediaKind, ModificationKind};
use signalbox_sip::Message;
use signalbox_sip::header::HeaderName;
use signalbox_sip::sdp::{Direction, Session, Summary};
use std::net::IpAddr;
use std::sync::LazyLock;

/// One description in a few words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Description {
    codecs: Vec<Text>,
    holds: bool,
    sends: bool,
    media: Option<(IpAddr, u16)>,
}

/// What both sides last agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Agreement {
    /// Whether each end holds the other, caller first.
    pub(crate) holding: [bool; 2],
    /// Codecs of the last answer.
    pub(crate) codecs: Vec<Text>,
    pub(crate) media: [Option<(IpAddr, u16)>; 2],
}

impl Description {
    /// Of a message's body; `None` when it has no SDP, or none that reads.
    pub(crate) fn of<B: AsRef<[u8]>>(message: &Message<B>) -> Option<Self> {
        session(message).as_ref().map(Self::new)
    }

    /// Of what was read.
    pub(crate) fn new(session: &Session<'_>) -> Self {
        let first = session.media.iter().find(|media| media.port != 0);
        let media = first.and_then(|media| Some((session.connection_of(media)?.ip()?, media.port)));
        let codecs = Summary::codec_names(session).map(name_of).collect();
        Self { codecs, holds: session.is_hold(), sends: Summary::sends(session), media }
    }

    /// Codecs that it names.
    pub(crate) fn codecs(&self) -> &[Text] {
        &self.codecs
    }
}

impl Agreement {
    /// The first agreement of a call.
    pub(crate) fn start(&mut self, offerer: End, offer: Option<&Description>, answer: Option<&Description>) {
        if let (Some(offer), Some(answer)) = (offer, answer) {
            self.agree(offerer, offer, answer);
        } else if let Some(only) = answer.or(offer) {
            self.codecs.clone_from(&only.codecs);
        }
    }

    /// An offer in a call was answered: what that changed, and who changed it.
    pub(crate) fn agree(
        &mut self,
        offerer: End,
        offer: &Description,
        answer: &Description,
    ) -> Vec<(End, ModificationKind)> {
        let mut changes = Vec::new();
        self.note_hold(offerer, offer.holds, &mut changes);
        // To an offer that sends nothing, "I take nothing" is the only possible answer: it says nothing new.
        if offer.sends {
            self.note_hold(offerer.other(), answer.holds, &mut changes);
        }
        if self.codecs != answer.codecs && !answer.codecs.is_empty() {
            if !self.codecs.is_empty() {
                changes.push((offerer, ModificationKind::Codec));
            }
            self.codecs.clone_from(&answer.codecs);
        }
        let mut moved = false;
        for (end, now) in [(offerer, offer.media), (offerer.other(), answer.media)] {
            let was = &mut self.media[index(end)];
            // Hold by 0.0.0.0 is no move.
            let real = now.filter(|(ip, _)| !ip.is_unspecified());
            moved |= was.is_some() && real.is_some() && *was != real;
            *was = real.or(*was);
        }
        if moved && changes.is_empty() {
            changes.push((offerer, ModificationKind::Target));
        }
        changes
    }

    fn note_hold(&mut self, end: End, holds: bool, changes: &mut Vec<(End, ModificationKind)>) {
        if std::mem::replace(&mut self.holding[index(end)], holds) != holds {
            changes.push((end, if holds { ModificationKind::Hold } else { ModificationKind::Resume }));
        }
    }
}

fn index(end: End) -> usize {
    usize::from(end == End::Callee)
}

/// What `call.attempted` says of the INVITE's description.
pub(crate) fn summary(session: &Session<'_>) -> SdpSummary {
    let address = session.connection.or_else(|| session.media.first()?.connection).and_then(|c| c.ip());
    let media = session.media.iter().map(|media| MediaSummary {
        kind: MediaKind::read(&String::from_utf8_lossy(media.kind).to_ascii_lowercase()),
        direction: match session.direction_of(media) {
            Direction::SendRecv => MediaDirection::Sendrecv,
            Direction::SendOnly => MediaDirection::Sendonly,
            Direction::RecvOnly => MediaDirection::Recvonly,
            Direction::Inactive => MediaDirection::Inactive,
        },
        encrypted: media.protocol.windows(5).any(|part| part.eq_ignore_ascii_case(b"SAVPF"))
            || media.protocol.to_ascii_uppercase().ends_with(b"SAVP"),
        codecs: media.codecs().take(Summary::CODECS_MAX).map(|codec| name_of(codec.name)).collect(),
    });
    SdpSummary {
        media: media.collect(),
        private_address: address.is_some_and(crate::media::fixup::is_private),
        ice: session.media.iter().any(|media| media.attribute(b"candidate").next().is_some()),
    }
}

/// Names of codecs that calls use every day (RFC 3551 §6 and the registry of RTP payload formats): held once for all calls.
static NAMES: LazyLock<[Text; 16]> = LazyLock::new(|| {
    [
        "PCMU",
        "PCMA",
        "telephone-event",
        "opus",
        "G722",
        "G729",
        "CN",
        "GSM",
        "iLBC",
        "AMR",
        "AMR-WB",
        "G723",
        "speex",
        "H264",
        "VP8",
        "t38",
    ]
    .map(Text::new)
});

fn name_of(bytes: &[u8]) -> Text {
    NAMES.iter().find(|name| name.as_bytes() == bytes).cloned().unwrap_or_else(|| Text::lossy(bytes))
}

/// The description in a message, where it has one that reads.
pub(crate) fn session<B: AsRef<[u8]>>(message: &Message<B>) -> Option<Session<'_>> {
    let kind = message.value(HeaderName::ContentType).filter(|kind| reads_session(kind));
    Session::parse(kind.map(|_| message.body())?).ok()
}

/// Whether a body of this type is a session description.
pub(crate) fn reads_session(content_type: &[u8]) -> bool {
    let kind = content_type.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    kind.eq_ignore_ascii_case(b"application/sdp")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(direction: &str, address: &str, codecs: &[&str]) -> Description {
        let ip: IpAddr = address.parse().unwrap();
        Description {
            codecs: codecs.iter().map(|name| Text::new(name)).collect(),
            holds: matches!(direction, "sendonly" | "inactive") || ip.is_unspecified(),
            sends: matches!(direction, "sendrecv" | "sendonly"),
            media: Some((ip, 4000)),
        }
    }

    fn established() -> Agreement {
        let mut now = Agreement::default();
        let offer = description("sendrecv", "192.0.2.1", &["PCMA"]);
        now.start(End::Caller, Some(&offer), Some(&description("sendrecv", "192.0.2.2", &["PCMA"])));
        now
    }

    #[test]
    fn given_a_call_when_the_callee_holds_and_resumes_then_both_are_told_once() {
        let mut now = established();
        let (hold, held) = (
            description("sendonly", "192.0.2.2", &["PCMA"]),
            description("recvonly", "192.0.2.1", &["PCMA"]),
        );
        assert_eq!(now.agree(End::Callee, &hold, &held), [(End::Callee, ModificationKind::Hold)]);
        assert_eq!(now.agree(End::Callee, &hold, &held), []);
        let (back, yes) = (
            description("sendrecv", "192.0.2.2", &["PCMA"]),
            description("sendrecv", "192.0.2.1", &["PCMA"]),
        );
        assert_eq!(now.agree(End::Callee, &back, &yes), [(End::Callee, ModificationKind::Resume)]);
    }

    #[test]
    fn given_a_hold_by_the_zero_address_when_offered_then_it_is_hold_and_no_move() {
        let mut now = established();
        let hold = description("sendrecv", "0.0.0.0", &["PCMA"]);
        let answer = description("sendrecv", "192.0.2.2", &["PCMA"]);
        assert_eq!(now.agree(End::Caller, &hold, &answer), [(End::Caller, ModificationKind::Hold)]);
    }

    #[test]
    fn given_other_codecs_or_addresses_when_agreed_then_they_are_told() {
        let mut now = established();
        let wide = description("sendrecv", "192.0.2.1", &["opus"]);
        let answer = description("sendrecv", "192.0.2.2", &["opus"]);
        assert_eq!(now.agree(End::Caller, &wide, &answer), [(End::Caller, ModificationKind::Codec)]);
        let moved = description("sendrecv", "192.0.2.77", &["opus"]);
        assert_eq!(now.agree(End::Caller, &moved, &answer), [(End::Caller, ModificationKind::Target)]);
        assert_eq!(now.agree(End::Caller, &moved, &answer), []);
    }
}
