//! An attacker: scans, sweeps, malformed packets, spoofed sources, attempts to relay.

use crate::agenda::Agenda;
use crate::datagram::Datagram;
use crate::random::Random;
use signalbox_base::Mono;
use signalbox_sip::transaction::Branch;
use signalbox_sip::{HeaderName, Limits, Message, Method, RequestBuilder};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// A kind of attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attack {
    /// OPTIONS with the User-Agent of a well-known scanner.
    Scan,
    /// REGISTER of one extension after the other, as svwar does.
    SweepRegister,
    /// INVITE of one extension after the other.
    SweepInvite,
    /// INVITE to a number outside, in the hope that the PBX trusts the edge.
    Relay,
    /// A message with some of its bytes changed.
    Malformed,
    /// Bytes of no meaning.
    Noise,
}

impl Attack {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Scan, Self::SweepRegister, Self::SweepInvite, Self::Relay, Self::Malformed, Self::Noise];
}

/// One attacker.
#[derive(Clone, Debug)]
pub struct AttackerProfile {
    /// Its own address.
    pub local: SocketAddr,
    /// Whom it attacks.
    pub target: SocketAddr,
    /// Addresses it writes as the source beside its own.
    pub spoofs: Vec<SocketAddr>,
    /// The domain it has heard of.
    pub domain: String,
    /// What it does, in turn.
    pub attacks: Vec<Attack>,
    /// Between two packets.
    pub interval: Duration,
}

/// An attacker.
pub struct Attacker {
    profile: AttackerProfile,
    random: Random,
    agenda: Agenda<()>,
    sent: u64,
    answers: BTreeMap<u16, u64>,
}

impl Attacker {
    /// An attacker that begins at `now`.
    #[must_use]
    pub fn new(profile: AttackerProfile, now: Mono, seed: u64) -> Self {
        let mut agenda = Agenda::new();
        if !profile.attacks.is_empty() {
            agenda.plan(now, ());
        }
        Self { profile, random: Random::new(seed), agenda, sent: 0, answers: BTreeMap::new() }
    }

    /// Counts an answer.
    pub fn handle(&mut self, _now: Mono, bytes: &[u8], _from: SocketAddr, _out: &mut Vec<Datagram>) {
        let status = Message::parse(bytes, &Limits::DATAGRAM).ok().and_then(|message| message.status());
        *self.answers.entry(status.unwrap_or(0)).or_default() += 1;
    }

    /// Sends what is due.
    pub fn due(&mut self, now: Mono, out: &mut Vec<Datagram>) {
        while self.agenda.pop_due(now).is_some() {
            let kinds = &self.profile.attacks;
            let attack = kinds[self.sent as usize % kinds.len()];
            self.attack(attack, out);
            self.agenda.plan(now.plus(self.profile.interval), ());
        }
    }

    /// When [`Attacker::due`] wants to be called.
    #[must_use]
    pub fn next_due(&self) -> Option<Mono> {
        self.agenda.next_due()
    }

    /// Stops.
    pub fn stop(&mut self) {
        self.agenda = Agenda::new();
    }

    /// Its address.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.profile.local
    }

    /// Packets sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Answers by status; 0 for what was no response.
    #[must_use]
    pub fn answers(&self) -> &BTreeMap<u16, u64> {
        &self.answers
    }

    /// Sends one packet of this kind now.
    pub fn attack(&mut self, attack: Attack, out: &mut Vec<Datagram>) {
        self.sent += 1;
        let spoofed = !self.profile.spoofs.is_empty() && self.random.chance(500);
        let from = if spoofed { *self.random.pick(&self.profile.spoofs) } else { self.profile.local };
        let extension = 100 + self.sent % 900;
        let domain = self.profile.domain.clone();
        let bytes = match attack {
            Attack::Scan => self.request(Method::Options, &format!("sip:100@{}", self.profile.target), from),
            Attack::SweepRegister => {
                self.request(Method::Register, &format!("sip:{extension}@{domain}"), from)
            }
            Attack::SweepInvite => self.request(Method::Invite, &format!("sip:{extension}@{domain}"), from),
            Attack::Relay => self.request(Method::Invite, &format!("sip:00442079460000@{domain}"), from),
            Attack::Malformed => {
                let good = self.request(Method::Invite, &format!("sip:{extension}@{domain}"), from);
                mutate(&good, &mut self.random)
            }
            Attack::Noise => (0..self.random.below(600)).map(|_| self.random.bits() as u8).collect(),
        };
        out.push(Datagram { from, to: self.profile.target, bytes });
    }

    fn request(&mut self, method: Method, uri: &str, from: SocketAddr) -> Vec<u8> {
        let (branch, tag) = (Branch(self.random.bits()), self.random.bits());
        let mut bytes = Vec::with_capacity(512);
        RequestBuilder::new(&mut bytes, method, uri)
            .header(HeaderName::Via, format_args!("SIP/2.0/UDP {from};branch={branch};rport"))
            .header(HeaderName::MaxForwards, 70_u32)
            .header(
                HeaderName::From,
                format_args!("\"sipvicious\" <sip:100@{}>;tag={tag:x}", self.profile.domain),
            )
            .header(HeaderName::To, format_args!("<{uri}>"))
            .header(HeaderName::CallId, format_args!("{:x}", self.random.bits()))
            .header(HeaderName::CSeq, format_args!("1 {method}"))
            .header(HeaderName::Contact, format_args!("<sip:100@{from}>"))
            .header(HeaderName::UserAgent, "friendly-scanner")
            .finish();
        bytes
    }
}

/// The message with a few random changes: bytes flipped, cut, doubled, lines swapped, numbers blown up.
#[must_use]
pub fn mutate(message: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = message.to_vec();
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            return bytes;
        }
        let at = random.below(bytes.len() as u64) as usize;
        let end = (at + 1 + random.below(40) as usize).min(bytes.len());
        match random.below(7) {
            0 => bytes[at] = random.bits() as u8,
            1 => bytes[at] ^= 1 << random.below(8),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            4 => bytes.truncate(at),
            5 => {
                let special: &[&[u8]] = &[
                    b"\r\n",
                    b"\0",
                    b"99999999999",
                    b"%00",
                    b";;",
                    b"<",
                    b"\"",
                    b",",
                    b"sip:",
                    b"@",
                    b"\r\n\r\n",
                ];
                let part = random.pick(special).to_vec();
                bytes.splice(at..at, part);
            }
            _ => {
                let long = vec![b'A'; random.below(3000) as usize];
                bytes.splice(at..at, long);
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attacker(attacks: &[Attack]) -> Attacker {
        let profile = AttackerProfile {
            local: "198.51.100.66:5060".parse().unwrap(),
            target: "192.0.2.1:5060".parse().unwrap(),
            spoofs: vec!["10.0.0.11:5060".parse().unwrap()],
            domain: "acme.test".to_owned(),
            attacks: attacks.to_vec(),
            interval: Duration::from_millis(10),
        };
        Attacker::new(profile, Mono(0), 3)
    }

    #[test]
    fn it_does_each_kind_in_turn_and_writes_foreign_sources() {
        let (mut attacker, mut out) = (attacker(&Attack::ALL), Vec::new());
        for ms in 0..600 {
            attacker.due(Mono(ms * 1_000_000), &mut out);
        }
        assert_eq!((attacker.sent(), out.len()), (60, 60));
        assert!(out.iter().any(|d| d.from != attacker.local()));
        let parsed = |d: &Datagram| Message::parse(d.bytes.as_slice(), &Limits::DATAGRAM).is_ok();
        assert!(out.iter().filter(|d| parsed(d)).count() >= 40, "scans and sweeps are good SIP");
    }

    #[test]
    fn mutations_are_repeatable_and_change_something() {
        let one = mutate(b"OPTIONS sip:a SIP/2.0\r\n\r\n", &mut Random::new(9));
        assert_eq!(one, mutate(b"OPTIONS sip:a SIP/2.0\r\n\r\n", &mut Random::new(9)));
        assert_ne!(one, b"OPTIONS sip:a SIP/2.0\r\n\r\n");
    }
}
