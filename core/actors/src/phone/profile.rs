//! What a phone is told to be and to do.

use crate::devices::Device;
use signalbox_base::Transport;
use std::net::SocketAddr;
use std::time::Duration;

/// One phone.
#[derive(Clone, Debug)]
pub struct PhoneProfile {
    /// Its own address; behind a NAT a private one.
    pub local: SocketAddr,
    /// Where it sends everything: its outbound proxy.
    pub edge: SocketAddr,
    /// How; UDP, or TCP over one connection that its driver frames.
    pub transport: Transport,
    /// User of its AoR and of its credentials.
    pub user: String,
    /// Domain of its AoR.
    pub domain: String,
    /// Password.
    pub password: String,
    /// Registration asked for, in seconds.
    pub expires_secs: u32,
    /// Whether it refreshes by itself.
    pub refresh: bool,
    /// `+sip.instance` (RFC 5626 §4.1), without the URN's angle brackets; else as the device has it.
    pub instance: Option<String>,
    /// Its name; User-Agent too, unless it is a device of the market.
    pub agent: String,
    /// Which device it is; `None`: none in particular.
    pub device: Option<&'static Device>,
    /// How it answers calls.
    pub answer: Answer,
}

impl PhoneProfile {
    /// A phone that registers for an hour, refreshes, and answers after a second of ringing.
    #[must_use]
    pub fn new(local: SocketAddr, edge: SocketAddr, user: &str, domain: &str, password: &str) -> Self {
        Self {
            local,
            edge,
            transport: Transport::Udp,
            user: user.to_owned(),
            domain: domain.to_owned(),
            password: password.to_owned(),
            expires_secs: 3600,
            refresh: true,
            instance: None,
            agent: "Signalbox-Phone/1".to_owned(),
            device: None,
            answer: Answer::After { ring: Duration::from_secs(1), talk: None },
        }
    }
}

/// How a phone answers a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 180, then 200.
    After {
        /// Between them.
        ring: Duration,
        /// Hangs up by itself this long after the ACK.
        talk: Option<Duration>,
    },
    /// 180, and nobody lifts.
    Ring,
    /// At once with this status: 486 busy, 603 decline …
    Status(u16),
}

/// A call to make.
#[derive(Clone, Debug, Default)]
pub struct CallPlan {
    /// A user of the phone's domain, or a whole `sip:` URI.
    pub to: String,
    /// Hangs up this long after the answer; `None`: the peer or the driver does.
    pub talk: Option<Duration>,
    /// Cancels when there is no answer within this.
    pub give_up_after: Option<Duration>,
    /// Holds the peer this long after the answer, for so long.
    pub hold: Option<(Duration, Duration)>,
    /// Sends INFO this long after the answer.
    pub info_after: Option<Duration>,
    /// Asks for a session timer of so many seconds, and refreshes the session itself (RFC 4028).
    pub session_secs: Option<u32>,
    /// Further headers of the INVITE.
    pub headers: Vec<(String, String)>,
}

impl CallPlan {
    /// A call that lasts until somebody hangs up.
    #[must_use]
    pub fn to(target: &str) -> Self {
        Self { to: target.to_owned(), ..Self::default() }
    }

    /// A call that the caller ends after `talk`.
    #[must_use]
    pub fn talking(target: &str, talk: Duration) -> Self {
        Self { talk: Some(talk), ..Self::to(target) }
    }
}
