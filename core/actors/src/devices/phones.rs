//! Phones, adapters and softphones, and a PBX that registers as one.

use super::{Contact, Description, Device, Form, Hold, KeepAlive, Length, Names, Rport, SessionTimer};
use signalbox_sip::HeaderName as Name;
use signalbox_sip::header::Refresher;
use std::time::Duration;

impl Device {
    /// All phones, for a story to draw from.
    pub const PHONES: &[Self] = &[
        Self::PLAIN_PHONE,
        Self::GRANDSTREAM,
        Self::GRANDSTREAM_TIMER,
        Self::GRANDSTREAM_RELIABLE,
        Self::YEALINK,
        Self::YEALINK_RFC2543,
        Self::ZOIPER,
        Self::LINPHONE,
        Self::FREESWITCH_GATEWAY,
    ];

    /// As the RFCs would have it.
    const PLAIN_PHONE: Self = Self { source: "https://www.rfc-editor.org/rfc/rfc3261", ..Self::PLAIN };

    /// Grandstream adapter: the instance is a MAC address behind zeros, CSeq begins in the thousands, `Contact: *` with
    /// Expires 0 takes back its registration, OPTIONS each 30 s ask for its registrar.
    pub const GRANDSTREAM: Self = Self {
        name: "Grandstream",
        source: "HT812/HT814 Administration Guide (https://www.easymanua.ls/grandstream-networks/ht812/manual/673542?p=42); \
                 traces of an HT-502 (https://github.com/kamailio/kamailio/issues/3181) and an HT801 \
                 (https://github.com/tcz/rotary-gpt/issues/2)",
        agent: "Grandstream HT801 1.0.49.2",
        form: Form {
            order: &[
                Name::Via,
                Name::From,
                Name::To,
                Name::CallId,
                Name::CSeq,
                Name::Contact,
                Name::Authorization,
                Name::MaxForwards,
                Name::UserAgent,
                Name::Supported,
                Name::Expires,
                Name::Allow,
            ],
            ..Self::PLAIN.form
        },
        names: Names { call_id: "{n}-{port}-1@{ip}", tag: "{n}", cseq: (2000, 999) },
        contact: Contact {
            params: ";reg-id=1;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000B82{mac}>\"",
            ..Self::PLAIN.contact
        },
        allow: "INVITE, ACK, OPTIONS, CANCEL, BYE, SUBSCRIBE, NOTIFY, INFO, REFER, UPDATE",
        registering: &[("Supported", "path")],
        keepalive: Some((KeepAlive::Options, Duration::from_secs(30))),
        leaves_all: true,
        ..Self::PLAIN
    };

    /// The same with *Caller Request Timer*, and *UAC Specify Refresher* at UAS: 180 s, at least 90 s, and whoever answers
    /// refreshes; *Force INVITE* has it refresh by re-INVITE.
    pub const GRANDSTREAM_TIMER: Self = Self {
        name: "Grandstream with a session timer",
        source: "GXP21xx User Manual (https://azmanual.top/manuals/770277/grandstream-gxp21xx-series-user-manual.html?page=55)",
        supported: "timer",
        session: Some(SessionTimer {
            offers: 180,
            least: 90,
            names: Some(Refresher::Uas),
            by_invite: true,
            ..SessionTimer::ANSWERED
        }),
        ..Self::GRANDSTREAM
    };

    /// The same with *Enable 100rel*.
    pub const GRANDSTREAM_RELIABLE: Self = Self {
        name: "Grandstream with 100rel",
        source: "GXV3240D Administration Guide (https://manualshive.com/en/manual/grandstream-networks/gxv3240d/2256093?page=41)",
        supported: "100rel",
        ..Self::GRANDSTREAM
    };

    /// Yealink desk phone: Via without `rport`, numbers for tags and Call-IDs, Allow before Max-Forwards, hold by `inactive`.
    pub const YEALINK: Self = Self {
        name: "Yealink",
        source: "trace of a T22P (https://github.com/fusionpbx/fusionpbx/issues/1067); Administrator's Guide of the T2, T4 \
                 and T5 series (https://www.easymanua.ls/yealink/sip-t4u-series/manual?p=428)",
        agent: "Yealink SIP-T46G 28.82.0.20",
        form: Form {
            rport: Rport::Never,
            order: &[
                Name::Via,
                Name::From,
                Name::To,
                Name::CallId,
                Name::CSeq,
                Name::Contact,
                Name::Authorization,
                Name::Allow,
                Name::MaxForwards,
                Name::UserAgent,
            ],
            ..Self::PLAIN.form
        },
        names: Names { call_id: "4_{n}@{ip}", tag: "{n}", cseq: (1, 0) },
        allow: "INVITE, INFO, PRACK, ACK, BYE, CANCEL, OPTIONS, NOTIFY, REGISTER, SUBSCRIBE, REFER, PUBLISH, UPDATE, MESSAGE",
        registering: &[],
        hold: Hold::Inactive,
        ..Self::PLAIN
    };

    /// The same with a session timer of 90 s that it refreshes by UPDATE, and *RFC 2543 Hold*: the address 0.0.0.0.
    pub const YEALINK_RFC2543: Self = Self {
        name: "Yealink with RFC 2543 hold",
        source: "Administrator's Guide of the CP860, Call hold (https://mcgrp.ru/files/viewer/192007/143), and of the T2 and T4 \
                 series, Session timer (https://www.easymanua.ls/yealink/sip-t48g/manual/567906?p=316)",
        supported: "timer",
        session: Some(SessionTimer {
            offers: 90,
            least: 90,
            names: Some(Refresher::Uac),
            ..SessionTimer::ANSWERED
        }),
        hold: Hold::ZeroAddress,
        ..Self::YEALINK
    };

    /// Zoiper: `transport=UDP` in every URI, Contact before To and From, no UPDATE and no session timer, static payload types
    /// without `rtpmap`, three clock rates of telephone-event.
    pub const ZOIPER: Self = Self {
        name: "Zoiper",
        source: "trace of 5.2.10 (https://github.com/kamailio/kamailio/issues/2007)",
        agent: "Z 5.2.10 rv2.8.75",
        form: Form {
            order: &[
                Name::Via,
                Name::MaxForwards,
                Name::Contact,
                Name::To,
                Name::From,
                Name::CallId,
                Name::CSeq,
                Name::Expires,
                Name::Allow,
                Name::ContentType,
                Name::UserAgent,
                Name::AllowEvents,
            ],
            ..Self::PLAIN.form
        },
        names: Names { call_id: "{w}_{w}..", tag: "{x}", cseq: (1, 0) },
        contact: Contact { uri_params: (";transport=UDP", ";transport=UDP"), ..Self::PLAIN.contact },
        allow: "INVITE, ACK, CANCEL, BYE, NOTIFY, REFER, MESSAGE, OPTIONS, INFO, SUBSCRIBE",
        registering: &[("Allow-Events", "presence, kpml, talk")],
        inviting: &[("Allow-Events", "presence, kpml, talk")],
        session: None,
        description: Description {
            origin: "Z 0 {version}",
            name: "Z",
            formats: "106 9 3 0 8 98 101 100",
            lines: "a=rtpmap:106 opus/48000/2\r\na=rtpmap:98 telephone-event/48000\r\na=fmtp:98 0-16\r\n\
                    a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=rtpmap:100 telephone-event/16000\r\n",
            ..Self::PLAIN.description
        },
        ..Self::PLAIN
    };

    /// Linphone: CSeq begins at 20, ten letters for a Call-ID, To without brackets, Accept once for each type, no
    /// Content-Length where there is no body, video beside audio, line ends each 30 s.
    pub const LINPHONE: Self = Self {
        name: "Linphone",
        source: "traces (https://github.com/BelledonneCommunications/liblinphone/issues/245, \
                 https://github.com/BelledonneCommunications/linphone-android/issues/1677, \
                 https://github.com/BelledonneCommunications/linphone-android/issues/493) and keepalive_period \
                 (https://github.com/BelledonneCommunications/linphone-android/issues/2057)",
        agent: "Linphone Desktop/4.2.3 LinphoneCore/4.4.2",
        form: Form {
            order: &[
                Name::Via,
                Name::From,
                Name::To,
                Name::CSeq,
                Name::CallId,
                Name::MaxForwards,
                Name::Supported,
                Name::Accept,
                Name::Contact,
                Name::Expires,
                Name::UserAgent,
            ],
            length: Length::IfAny,
            bare_to: true,
            ..Self::PLAIN.form
        },
        names: Names { call_id: "{w}", tag: "{w}", cseq: (20, 0) },
        contact: Contact {
            uri_params: (";transport=udp", ""),
            params: ";+sip.instance=\"<urn:uuid:080bb681-2949-0033-a8e0-000000{mac}>\"",
            ..Self::PLAIN.contact
        },
        supported: "replaces, outbound, gruu",
        registering: &[
            ("Supported", "replaces, outbound, gruu"),
            ("Accept", "application/sdp"),
            ("Accept", "text/plain"),
            ("Accept", "application/vnd.gsma.rcs-ft-http+xml"),
        ],
        description: Description {
            origin: "1003 {id} {version}",
            name: "Talk",
            streams: &["m=video 9078 RTP/AVP 96"],
            ..Self::PLAIN.description
        },
        keepalive: Some((KeepAlive::Bytes(b"\r\n\r\n"), Duration::from_secs(30))),
        ..Self::PLAIN
    };

    /// FreeSWITCH as a gateway that registers: the user in its Contact is not the one of its AoR, `expires` is in Contact.
    pub const FREESWITCH_GATEWAY: Self = Self {
        name: "FreeSWITCH gateway",
        source: "https://github.com/signalwire/freeswitch/issues/2803; Sofia's REGISTER in \
                 https://github.com/RestComm/Restcomm-Connect/issues/1058",
        contact: Contact {
            user: ("gw+", ""),
            uri_params: (";transport=udp;gw=carrier", ""),
            params: "",
            expires_inside: true,
        },
        names: Names { cseq: (91_113_530, 1_000_000), ..Self::FREESWITCH.names },
        registering: &[("Supported", "timer, path, replaces")],
        qualify: None,
        ..Self::FREESWITCH
    };
}
