//! PBXs and trunks.

use super::{Contact, Description, Device, Form, Identity, Length, Names, Rport, SessionTimer};
use signalbox_sip::HeaderName as Name;
use signalbox_sip::header::Refresher;
use std::time::Duration;

impl Device {
    /// All PBXs, for a story to draw from.
    pub const PBXS: &[Self] =
        &[Self::PLAIN_PBX, Self::CHAN_SIP, Self::CHAN_SIP_COMPACT, Self::PJSIP, Self::FREESWITCH];
    /// Who else is at the other end of a trunk.
    pub const TRUNKS: &[Self] = &[Self::TWILIO, Self::PJSIP, Self::FREESWITCH];

    /// As the RFCs would have it.
    const PLAIN_PBX: Self = Self { source: "https://www.rfc-editor.org/rfc/rfc3261", ..Self::PLAIN };

    /// Asterisk's chan_sip: CSeq begins at 102, tags begin with `as`, OPTIONS to each contact each 60 s; it refreshes
    /// sessions itself, by re-INVITE, and tells the session timer in provisional responses too.
    pub const CHAN_SIP: Self = Self {
        name: "Asterisk chan_sip",
        source: "trace (https://github.com/mnutt/rotary/issues/1); Session-Expires in 1xx \
                 (https://github.com/asterisk/asterisk/issues/2104); sip.conf.sample \
                 (https://github.com/asterisk/asterisk/blob/20/configs/samples/sip.conf.sample)",
        agent: "Asterisk PBX 20.7.0",
        form: Form {
            order: &[
                Name::Via,
                Name::MaxForwards,
                Name::From,
                Name::To,
                Name::Contact,
                Name::CallId,
                Name::CSeq,
                Name::UserAgent,
                Name::Allow,
                Name::Supported,
            ],
            ..Self::PLAIN.form
        },
        names: Names { call_id: "{x}{x}{x}{x}@{ip}:{port}", tag: "as{x}", cseq: (102, 0) },
        contact: Contact { user: ("asterisk", ""), ..Self::PLAIN.contact },
        allow: "INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, SUBSCRIBE, NOTIFY, INFO, PUBLISH, MESSAGE",
        supported: "replaces, timer",
        identity: Some(Identity::RemoteParty),
        session: Some(SessionTimer {
            least: 90,
            prefers: Refresher::Uas,
            by_invite: true,
            in_provisional: true,
            ..SessionTimer::ANSWERED
        }),
        description: Description {
            origin: "root {id} {sum}",
            name: "Asterisk PBX 20.7.0",
            formats: "8 0 101",
            lines: "a=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\n\
                    a=fmtp:101 0-16\r\na=ptime:20\r\na=maxptime:140\r\n",
            ..Self::PLAIN.description
        },
        qualify: Some(Duration::from_secs(60)),
        ..Self::PLAIN
    };

    /// The same with `compactheaders=yes`.
    pub const CHAN_SIP_COMPACT: Self = Self {
        name: "Asterisk chan_sip, compact headers",
        form: Form { compact: true, ..Self::CHAN_SIP.form },
        ..Self::CHAN_SIP
    };

    /// Asterisk's PJSIP channel: `rport` before the branch, 100rel and a session timer without a refresher in each INVITE,
    /// P-Asserted-Identity, blanks before Content-Length, UPDATE without a body tells who is connected.
    pub const PJSIP: Self = Self {
        name: "Asterisk PJSIP",
        source: "trace (https://github.com/tayler6000/pyVoIP/issues/270); refresher \
                 (https://github.com/asterisk/asterisk/pull/2144); UPDATE only to who allows it \
                 (https://github.com/pjsip/pjproject/issues/1097); connected line (https://github.com/tomek-o/tSIP/issues/49)",
        agent: "Asterisk PBX 18.24.2",
        form: Form {
            rport: Rport::BeforeBranch,
            order: &[
                Name::Via,
                Name::From,
                Name::To,
                Name::Contact,
                Name::CallId,
                Name::CSeq,
                Name::Allow,
                Name::Supported,
                Name::SessionExpires,
                Name::MinSe,
                Name::PAssertedIdentity,
                Name::MaxForwards,
                Name::UserAgent,
            ],
            length: Length::Padded,
            ..Self::PLAIN.form
        },
        names: Names { call_id: "{x}-{x}-{x}", tag: "{x}-{x}", cseq: (1, 32_000) },
        contact: Contact { user: ("asterisk", ""), ..Self::PLAIN.contact },
        allow: "OPTIONS, REGISTER, SUBSCRIBE, NOTIFY, PUBLISH, INVITE, ACK, BYE, CANCEL, UPDATE, PRACK, MESSAGE, INFO, REFER",
        supported: "100rel, timer, replaces, norefersub, histinfo",
        identity: Some(Identity::Asserted),
        session: Some(SessionTimer { offers: 1800, least: 90, ..SessionTimer::ANSWERED }),
        description: Description {
            origin: "- {id} {sum}",
            name: "Asterisk",
            formats: "0 8 107 9 3 101",
            lines: "a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:107 opus/48000/2\r\na=rtpmap:9 G722/8000\r\n\
                    a=rtpmap:3 GSM/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=maxptime:60\r\n",
            ..Self::PLAIN.description
        },
        connected_line: true,
        ..Self::PLAIN
    };

    /// FreeSWITCH: CSeq of eight digits, early media by 183, no direction where media flow both ways, sessions of at least
    /// 120 s, UPDATE for the display.
    pub const FREESWITCH: Self = Self {
        name: "FreeSWITCH",
        source: "traces (https://github.com/signalwire/freeswitch/issues/1144, \
                 https://github.com/signalwire/freeswitch/issues/323); display updates \
                 (https://github.com/signalwire/freeswitch/issues/307); pre_answer \
                 (https://developer.signalwire.com/freeswitch/FreeSWITCH-Explained/Modules/mod-dptools/6586998)",
        agent: "FreeSWITCH-mod_sofia/1.10.10-release",
        form: Form {
            rport: Rport::BeforeBranch,
            order: &[
                Name::Via,
                Name::MaxForwards,
                Name::From,
                Name::To,
                Name::CallId,
                Name::CSeq,
                Name::Contact,
                Name::UserAgent,
                Name::Allow,
                Name::Supported,
                Name::AllowEvents,
            ],
            ..Self::PLAIN.form
        },
        names: Names { call_id: "{x}-{x}-{x}.b2bua", tag: "{w}", cseq: (34_134_853, 80_000_000) },
        contact: Contact { user: ("mod_sofia", ""), ..Self::PLAIN.contact },
        allow: "INVITE, ACK, BYE, CANCEL, OPTIONS, MESSAGE, INFO, UPDATE, REGISTER, REFER, NOTIFY, PUBLISH, SUBSCRIBE",
        supported: "timer, path, replaces",
        inviting: &[("Allow-Events", "talk, hold, conference, refer"), ("Content-Disposition", "session")],
        identity: Some(Identity::Asserted),
        session: Some(SessionTimer { least: 120, ..SessionTimer::ANSWERED }),
        description: Description {
            origin: "FreeSWITCH {id} {sum}",
            name: "FreeSWITCH",
            formats: "8 101",
            lines: "a=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\n",
            implies_both_ways: true,
            ..Self::PLAIN.description
        },
        early_media: true,
        connected_line: true,
        ..Self::PLAIN
    };

    /// A Twilio trunk: numbers in E.164, Diversion and P-Asserted-Identity, headers that name account and call.
    pub const TWILIO: Self = Self {
        name: "Twilio trunk",
        source: "SIP INVITEs (https://www.twilio.com/docs/glossary/sip-invites); TwiML Voice: Sip \
                 (https://twilio.com/docs/api/twiml/sip)",
        agent: "Twilio Gateway",
        form: Form {
            rport: Rport::Never,
            order: &[
                Name::Via,
                Name::MaxForwards,
                Name::To,
                Name::From,
                Name::CallId,
                Name::CSeq,
                Name::Contact,
            ],
            ..Self::PLAIN.form
        },
        names: Names { call_id: "{x}{x}{x}{x}@0.0.0.0", tag: "{n}", cseq: (1, 0) },
        inviting: &[
            ("Diversion", "<sip:+14155550000@example.pstn.twilio.com>;reason=unconditional"),
            ("X-Twilio-ApiVersion", "2010-04-01"),
            ("X-Twilio-AccountSid", "AC00000000000000000000000000000000"),
            ("X-Twilio-CallSid", "CA00000000000000000000000000000000"),
        ],
        identity: Some(Identity::Asserted),
        ..Self::PLAIN
    };
}
