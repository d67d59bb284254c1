//! What a PBX is told to be.

use crate::devices::Device;
use signalbox_sip::digest::Algorithm;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// One PBX.
#[derive(Clone, Debug)]
pub struct PbxProfile {
    /// Its address.
    pub local: SocketAddr,
    /// Its domains, at least one; requests for another host are read as for the first.
    pub domains: Vec<String>,
    /// Its users.
    pub users: Vec<PbxUser>,
    /// Whose INVITEs need no credentials: the edge's address. Others get 403.
    pub trusts: Vec<IpAddr>,
    /// Hash of its challenges.
    pub algorithm: Algorithm,
    /// Longest registration granted, in seconds.
    pub expires_max_secs: u32,
    /// Whether INVITEs of known users are challenged although they come from a trusted address.
    pub challenge_calls: bool,
    /// Interval of OPTIONS to registered contacts; else as the device has it.
    pub qualify: Option<Duration>,
    /// Numbers that it answers itself.
    pub services: Vec<(String, Service)>,
    /// Its name; User-Agent too, unless it is a device of the market.
    pub agent: String,
    /// Which device it is; `None`: none in particular.
    pub device: Option<&'static Device>,
}

impl PbxProfile {
    /// A PBX of one domain with the usual services: 600 echo, 601 busy, 602 rings for ever, 603 declines, 604 answers
    /// after 2 s.
    #[must_use]
    pub fn new(local: SocketAddr, domain: &str, trusts: IpAddr) -> Self {
        let services = [
            ("600", Service::Answer(Duration::ZERO)),
            ("601", Service::Refuse(486)),
            ("602", Service::Ring),
            ("603", Service::Refuse(603)),
            ("604", Service::Answer(Duration::from_secs(2))),
        ];
        Self {
            local,
            domains: vec![domain.to_owned()],
            users: Vec::new(),
            trusts: vec![trusts],
            algorithm: Algorithm::Md5,
            expires_max_secs: 3600,
            challenge_calls: false,
            qualify: None,
            services: services.map(|(number, service)| (number.to_owned(), service)).to_vec(),
            agent: "Signalbox-PBX/1".to_owned(),
            device: None,
        }
    }

    /// Adds a user of the first domain.
    #[must_use]
    pub fn user(self, user: &str, password: &str) -> Self {
        let domain = self.domains[0].clone();
        self.user_at(user, &domain, password, Verdict::Accept)
    }

    /// Adds a user of any of its domains.
    #[must_use]
    pub fn user_at(mut self, user: &str, domain: &str, password: &str, verdict: Verdict) -> Self {
        let (user, domain, password) = (user.to_owned(), domain.to_owned(), password.to_owned());
        self.users.push(PbxUser { user, domain, password, verdict });
        self
    }
}

/// A user of a PBX.
#[derive(Clone, Debug)]
pub struct PbxUser {
    /// Name.
    pub user: String,
    /// Domain.
    pub domain: String,
    /// Password.
    pub password: String,
    /// What becomes of its registrations.
    pub verdict: Verdict,
}

/// What a PBX makes of a registration with good credentials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// 200.
    #[default]
    Accept,
    /// 403.
    Forbid,
}

/// What happens at a service number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// 180 and, after this time, 200.
    Answer(Duration),
    /// Rings until the caller gives up.
    Ring,
    /// This status at once.
    Refuse(u16),
    /// 200 at once, and BYE after this time.
    HangUp(Duration),
}

/// Whether a PBX runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PbxState {
    /// It does.
    Running,
    /// It hears and says nothing, and forgets nothing.
    Stalled,
    /// It is gone, with its calls.
    Killed,
}
