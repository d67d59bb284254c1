//! The actors on real sockets: one thread that waits for whichever comes first, a datagram or a due moment.

use super::{EXTENSIONS, GUEST, Passwords, reachable};
use crate::args::DemoArgs;
use crate::errors::Failure;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use signalbox_actors::{
    Answer, Attack, Attacker, AttackerProfile, CallPlan, Datagram, Pbx, PbxProfile, Phone, PhoneProfile,
    Random,
};
use signalbox_base::{Mono, Now};
use signalbox_io::{Clock, OsEntropy};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Longest wait, so that the thread sees soon that it should end.
const WAIT_MAX: Duration = Duration::from_millis(200);
/// Datagrams handled of one socket before the others are looked at.
const DATAGRAMS_MAX: usize = 64;
/// Calls a PBX or phone remembers.
const REMEMBERED_MAX: usize = 64;

/// How lively the demo is.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    /// Between two calls of a tenant.
    pub call_every: Duration,
    /// Between two packets of the attacker.
    pub attack_every: Duration,
}

impl Default for Script {
    fn default() -> Self {
        Self { call_every: Duration::from_millis(2500), attack_every: Duration::from_secs(4) }
    }
}

enum Actor {
    Phone(Box<Phone>),
    Pbx(Box<Pbx>),
    Attacker(Box<Attacker>),
}

struct Player {
    socket: UdpSocket,
    actor: Actor,
}

/// Everybody around the edge.
pub struct Cast {
    players: Vec<Player>,
    script: Script,
    random: Random,
    next_call: Mono,
    clock: Clock,
}

fn socket(address: (Ipv4Addr, u16)) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A port for a PBX: the preferred one, or any when that is taken.
fn pbx_socket(port: u16) -> std::io::Result<UdpSocket> {
    socket((Ipv4Addr::LOCALHOST, port)).or_else(|_| socket((Ipv4Addr::LOCALHOST, 0)))
}

/// The PBXs' sockets, opened before the configuration names them.
pub fn pbx_sockets() -> Result<[UdpSocket; 2], Failure> {
    Ok([pbx_socket(5081)?, pbx_socket(5082)?])
}

impl Cast {
    /// Opens the phones' sockets and dresses everybody.
    ///
    /// # Errors
    /// No sockets are left.
    pub fn new(
        args: &DemoArgs,
        pbxs: [UdpSocket; 2],
        passwords: &Passwords,
        entropy: &mut OsEntropy,
        script: Script,
    ) -> Result<Self, Failure> {
        let clock = Clock::start();
        let now = clock.now();
        let edge = SocketAddr::new(reachable(args.listen), args.port);
        let mut players = Vec::new();
        for (pbx, (tenant, domain)) in
            pbxs.into_iter().zip([("acme", "acme.test"), ("globex", "globex.test")])
        {
            let mut profile = PbxProfile::new(pbx.local_addr()?, domain, edge.ip());
            for user in EXTENSIONS.iter().chain([&GUEST]) {
                profile = profile.user(user, &passwords.of(tenant, user));
            }
            let mut actor = Pbx::new(profile, now.mono, entropy.next_u64());
            actor.remember_calls(REMEMBERED_MAX);
            players.push(Player { socket: pbx, actor: Actor::Pbx(Box::new(actor)) });
            for user in EXTENSIONS {
                let socket = socket((Ipv4Addr::LOCALHOST, 0))?;
                let mut profile =
                    PhoneProfile::new(socket.local_addr()?, edge, user, domain, &passwords.of(tenant, user));
                profile.answer = answer(user);
                profile.expires_secs = if user == "405" { 60 } else { 600 };
                let phone = Phone::new(profile, entropy.next_u64());
                players.push(Player { socket, actor: Actor::Phone(Box::new(phone)) });
            }
        }
        let socket = socket((Ipv4Addr::LOCALHOST, 0))?;
        let profile = AttackerProfile {
            local: socket.local_addr()?,
            target: edge,
            spoofs: Vec::new(),
            domain: "acme.test".to_owned(),
            attacks: Attack::ALL.to_vec(),
            interval: script.attack_every,
        };
        let attacker = Attacker::new(profile, now.mono, entropy.next_u64());
        players.push(Player { socket, actor: Actor::Attacker(Box::new(attacker)) });
        let random = Random::new(entropy.next_u64());
        Ok(Self { players, script, random, next_call: now.mono.plus(script.call_every), clock })
    }

    /// Plays until told to stop; phones keep calling each other.
    pub fn play(mut self, stop: &Arc<AtomicBool>) {
        self.register();
        while !stop.load(Ordering::Relaxed) {
            let now = self.clock.now();
            self.due(now);
            self.wait(now);
            self.receive();
        }
    }

    fn register(&mut self) {
        let (now, mut out) = (self.clock.now(), Vec::new());
        for index in 0..self.players.len() {
            if let Actor::Phone(phone) = &mut self.players[index].actor {
                phone.register(now.mono, &mut out);
            }
            self.send(index, &mut out);
        }
    }

    fn due(&mut self, now: Now) {
        let mut out = Vec::new();
        for index in 0..self.players.len() {
            self.players[index].actor.due(now, &mut out);
            self.send(index, &mut out);
        }
        if now.mono >= self.next_call {
            self.next_call = now.mono.plus(self.script.call_every);
            let callers: Vec<usize> = self
                .players
                .iter()
                .enumerate()
                .filter_map(|(i, p)| p.actor.can_call().then_some(i))
                .collect();
            if !callers.is_empty() {
                let caller = *self.random.pick(&callers);
                let plan = self.plan();
                if let Actor::Phone(phone) = &mut self.players[caller].actor {
                    phone.call(now.mono, plan, &mut out);
                }
                self.send(caller, &mut out);
            }
        }
    }

    /// A call as people make them: most to colleagues, some to services, a few that fail.
    fn plan(&mut self) -> CallPlan {
        let talk = Duration::from_secs(2 + self.random.below(12));
        let target = match self.random.below(10) {
            0 => "600",
            1 => "601",
            2 => "602",
            3 => "498",
            _ => *self.random.pick(&EXTENSIONS),
        };
        let mut plan = CallPlan::talking(target, talk);
        plan.give_up_after = Some(Duration::from_secs(6));
        if self.random.chance(250) {
            plan.hold = Some((Duration::from_secs(1), Duration::from_secs(1)));
        }
        plan
    }

    fn wait(&self, now: Now) {
        let dues = self.players.iter().filter_map(|p| p.actor.next_due()).chain([self.next_call]);
        let next = dues.min().unwrap_or(self.next_call).since(now.mono).min(WAIT_MAX);
        let millis = u16::try_from(next.as_millis() + 1).unwrap_or(u16::MAX);
        let mut fds: Vec<PollFd<'_>> =
            self.players.iter().map(|p| PollFd::new(p.socket.as_fd(), PollFlags::POLLIN)).collect();
        // An interrupted wait is a short one.
        let _ = poll(&mut fds, PollTimeout::from(millis));
    }

    fn receive(&mut self) {
        let mut buffer = [0u8; 65_535];
        let mut out = Vec::new();
        for index in 0..self.players.len() {
            for _ in 0..DATAGRAMS_MAX {
                let Ok((len, from)) = self.players[index].socket.recv_from(&mut buffer) else { break };
                let now = self.clock.now();
                self.players[index].actor.handle(now, &buffer[..len], from, &mut out);
                self.send(index, &mut out);
            }
        }
    }

    fn send(&self, index: usize, out: &mut Vec<Datagram>) {
        for datagram in out.drain(..) {
            // A peer that is not there yet is found by the retransmission.
            let _ = self.players[index].socket.send_to(&datagram.bytes, datagram.to);
        }
    }
}

/// Each extension has its habits, the same at both tenants.
fn answer(user: &str) -> Answer {
    let after = |ring_ms| Answer::After { ring: Duration::from_millis(ring_ms), talk: None };
    match user {
        "403" => Answer::Status(486),
        "404" => Answer::Ring,
        "405" => after(3000),
        "406" => Answer::After { ring: Duration::from_millis(700), talk: Some(Duration::from_secs(4)) },
        _ => after(900),
    }
}

impl Actor {
    fn handle(&mut self, now: Now, bytes: &[u8], from: SocketAddr, out: &mut Vec<Datagram>) {
        match self {
            Self::Phone(phone) => {
                phone.handle(now.mono, bytes, from, out);
                phone.take_seen();
            }
            Self::Pbx(pbx) => {
                pbx.handle(now, bytes, from, out);
                pbx.take_seen();
            }
            Self::Attacker(attacker) => attacker.handle(now.mono, bytes, from, out),
        }
    }

    fn due(&mut self, now: Now, out: &mut Vec<Datagram>) {
        match self {
            Self::Phone(phone) => phone.due(now.mono, out),
            Self::Pbx(pbx) => pbx.due(now, out),
            Self::Attacker(attacker) => attacker.due(now.mono, out),
        }
    }

    fn next_due(&self) -> Option<Mono> {
        match self {
            Self::Phone(phone) => phone.next_due(),
            Self::Pbx(pbx) => pbx.next_due(),
            Self::Attacker(attacker) => attacker.next_due(),
        }
    }

    fn can_call(&self) -> bool {
        matches!(self, Self::Phone(phone) if phone.registered_until().is_some() && phone.legs_alive() == 0)
    }
}
