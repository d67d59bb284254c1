//! How devices of the market write their messages and what they do unasked, told as data.
//!
//! A [`Device`] shapes what the same phone or PBX sends: names, orders and forms of headers, identifiers, Contacts, session
//! descriptions, session timers, keep-alives. Each says where its maker, or somebody's trace, published that. What is not
//! published of it is as in [`Device::PLAIN`].

mod dress;
mod pbxs;
mod phones;

pub(crate) use dress::dress;

use crate::random::Random;
use signalbox_sip::HeaderName;
use signalbox_sip::header::Refresher;
use std::net::SocketAddr;
use std::time::Duration;

/// A device's ways.
#[derive(Debug)]
pub struct Device {
    /// What people call it.
    pub name: &'static str,
    /// Where its ways are published.
    pub source: &'static str,
    /// User-Agent and Server; the actor's own name where empty.
    pub(crate) agent: &'static str,
    pub(crate) form: Form,
    pub(crate) names: Names,
    pub(crate) contact: Contact,
    /// Allow.
    pub(crate) allow: &'static str,
    /// Supported of INVITE, its answers and UPDATE.
    pub(crate) supported: &'static str,
    /// Headers of each REGISTER.
    pub(crate) registering: &'static [(&'static str, &'static str)],
    /// Headers of each INVITE.
    pub(crate) inviting: &'static [(&'static str, &'static str)],
    /// How it tells who calls, where it does so beside From.
    pub(crate) identity: Option<Identity>,
    pub(crate) session: Option<SessionTimer>,
    pub(crate) hold: Hold,
    pub(crate) description: Description,
    /// Rings with 183 and its description.
    pub(crate) early_media: bool,
    /// What it sends to its registrar meanwhile, and how often.
    pub(crate) keepalive: Option<(KeepAlive, Duration)>,
    /// Removes its registration by `Contact: *` (RFC 3261 §10.2.2).
    pub(crate) leaves_all: bool,
    /// Tells a caller, once connected, with whom: UPDATE, or re-INVITE to who does not allow that.
    pub(crate) connected_line: bool,
    /// OPTIONS to registered contacts, unless its profile says otherwise.
    pub(crate) qualify: Option<Duration>,
}

/// How its messages look.
#[derive(Debug)]
pub(crate) struct Form {
    pub(crate) rport: Rport,
    /// These come first, in this order.
    pub(crate) order: &'static [HeaderName],
    /// Short names (RFC 3261 §7.3.3).
    pub(crate) compact: bool,
    pub(crate) length: Length,
    /// To without angle brackets.
    pub(crate) bare_to: bool,
}

impl Form {
    /// To of a request that begins a dialog, or none.
    pub(crate) fn to(&self, uri: &str) -> String {
        // Parameters of a bare URI would be the header's.
        if self.bare_to && !uri.contains([';', '?']) { uri.to_owned() } else { format!("<{uri}>") }
    }
}

/// Where the top Via asks for the port (RFC 3581).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rport {
    BehindBranch,
    BeforeBranch,
    Never,
}

/// How Content-Length is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    Plain,
    /// With blanks before it, so that it always has its place.
    Padded,
    /// Only where there is a body.
    IfAny,
}

/// Patterns of identifiers, see [`fill`].
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) call_id: &'static str,
    pub(crate) tag: &'static str,
    /// The first CSeq, and how far it may lie above that.
    pub(crate) cseq: (u32, u32),
}

/// Its Contact.
#[derive(Debug)]
pub(crate) struct Contact {
    /// Before and behind the user in Contact; a PBX without user has these alone.
    pub(crate) user: (&'static str, &'static str),
    /// Parameters of its own URI, and of those it writes into Request-URI, From and To.
    pub(crate) uri_params: (&'static str, &'static str),
    /// Parameters behind it in REGISTER, a pattern.
    pub(crate) params: &'static str,
    /// `expires` in Contact, without an Expires header.
    pub(crate) expires_inside: bool,
}

/// Which header tells who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// P-Asserted-Identity (RFC 3325).
    Asserted,
    /// Remote-Party-ID.
    RemoteParty,
}

/// Its session timer (RFC 4028).
#[derive(Debug)]
pub(crate) struct SessionTimer {
    /// Asked for in INVITEs of its own, in seconds; 0: only answered.
    pub(crate) offers: u32,
    /// The shortest it takes.
    pub(crate) least: u32,
    /// Whom its INVITE names as refresher, if anybody.
    pub(crate) names: Option<Refresher>,
    /// Who refreshes when an INVITE names nobody.
    pub(crate) prefers: Refresher,
    /// Refreshes by re-INVITE also where UPDATE is allowed.
    pub(crate) by_invite: bool,
    /// Says it in provisional responses too.
    pub(crate) in_provisional: bool,
}

/// How it puts its peer on hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    SendOnly,
    Inactive,
    /// The address 0.0.0.0 (RFC 2543).
    ZeroAddress,
}

/// Its session description.
#[derive(Debug)]
pub(crate) struct Description {
    /// `o=` up to the network type, and `s=`: `{id}` is the session, `{version}` rises, `{sum}` is both together.
    pub(crate) origin: &'static str,
    pub(crate) name: &'static str,
    /// Formats of the audio stream and the lines below it.
    pub(crate) formats: &'static str,
    pub(crate) lines: &'static str,
    /// Says nothing of the direction when it is both ways.
    pub(crate) implies_both_ways: bool,
    /// Further streams that it offers, a whole `m=` line each.
    pub(crate) streams: &'static [&'static str],
}

/// What keeps its NAT binding open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeepAlive {
    /// These bytes.
    Bytes(&'static [u8]),
    /// A request of its own.
    Options,
}

/// What actors say they take, where nothing else is published.
const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, MESSAGE, NOTIFY, REFER";

impl Device {
    /// None in particular: as the RFCs would have it.
    pub const PLAIN: Self = Self {
        name: "plain",
        source: "RFC 3261",
        agent: "",
        form: Form {
            rport: Rport::BehindBranch,
            order: &[],
            compact: false,
            length: Length::Plain,
            bare_to: false,
        },
        names: Names { call_id: "{x}{x}{x}", tag: "{x}{x}", cseq: (1, 0) },
        contact: Contact { user: ("", ""), uri_params: ("", ""), params: "", expires_inside: false },
        allow: ALLOW,
        supported: "",
        registering: &[("Supported", "path, outbound")],
        inviting: &[],
        identity: None,
        session: Some(SessionTimer::ANSWERED),
        hold: Hold::SendOnly,
        description: Description {
            origin: "- {id} {version}",
            name: "-",
            formats: "8 101",
            lines: "a=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n",
            implies_both_ways: false,
            streams: &[],
        },
        early_media: false,
        keepalive: None,
        leaves_all: false,
        connected_line: false,
        qualify: None,
    };

    /// Whether it takes UPDATE (RFC 3311).
    pub(crate) fn updates(&self) -> bool {
        self.allow.contains("UPDATE")
    }
}

impl SessionTimer {
    /// Asks for none, and agrees to what is asked.
    pub(crate) const ANSWERED: Self = Self {
        offers: 0,
        least: 0,
        names: None,
        prefers: Refresher::Uac,
        by_invite: false,
        in_provisional: false,
    };
}

/// Writes an identifier by its pattern: `{x}` eight hexadecimal digits, `{mac}` six in capitals, `{n}` a decimal number below
/// 2³², `{w}` ten letters and digits, `{ip}` and `{port}` where it is written.
pub(crate) fn fill(pattern: &str, local: SocketAddr, random: &mut Random) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut filled = String::with_capacity(40);
    for part in pattern.split_inclusive('}') {
        let (text, mark) = part.split_once('{').unwrap_or((part, ""));
        filled += text;
        match mark {
            "x}" => filled += &format!("{:08x}", random.bits() as u32),
            "mac}" => filled += &format!("{:06X}", random.below(1 << 24)),
            "n}" => filled += &format!("{}", random.bits() as u32),
            "w}" => filled.extend((0..10).map(|_| char::from(*random.pick(LETTERS)))),
            "ip}" => filled += &local.ip().to_string(),
            "port}" => filled += &local.port().to_string(),
            other => filled += other,
        }
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_filled_with_what_they_name() {
        let local = "192.0.2.7:5062".parse().unwrap();
        let mut random = Random::new(3);
        assert_eq!(fill("as-{ip}:{port}..", local, &mut random), "as-192.0.2.7:5062..");
        let filled = fill("{n}-{x}-{w}", local, &mut random);
        let lengths: Vec<_> = filled.splitn(3, '-').map(str::len).collect();
        assert_eq!((lengths[1], lengths[2]), (8, 10), "{filled}");
        assert!(filled.split('-').next().unwrap().parse::<u32>().is_ok());
    }

    #[test]
    fn each_device_has_a_name_of_its_own_and_a_source() {
        let all: Vec<_> = Device::PHONES.iter().chain(Device::PBXS).chain(Device::TRUNKS).collect();
        let names: std::collections::BTreeSet<_> = all.iter().map(|device| device.name).collect();
        assert!(names.len() >= 12 && all.iter().all(|device| device.source.contains("//")), "{names:?}");
    }
}
