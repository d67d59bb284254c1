//! The world: actors, edges and the network between them, moved by virtual time.

use crate::edge::{Crash, EdgeHost, Effect};
use crate::events::{Recorded, read_events};
use crate::nat::Nat;
use crate::network::Weather;
use crate::oracle::{MARK, Oracle};
use signalbox_actors::{
    Attacker, AttackerProfile, CallSeen, Datagram, Pbx, PbxProfile, PbxState, Phone, PhoneProfile, Random,
};
use signalbox_base::{Mono, Now, Wall};
use signalbox_engine::{Command, CommandReply, Settings};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

/// A phone of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PhoneId(pub usize);
/// A PBX of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PbxId(pub usize);
/// An attacker of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttackerId(pub usize);
/// An edge of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EdgeId(pub usize);
/// A NAT box of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NatId(pub usize);

/// A wake-up is never sooner than this after the last: timers may be early, and time must move.
const TICK: Duration = Duration::from_micros(100);
/// Steps of one `run` at most: a story that needs more never ends.
const STEPS_MAX: u64 = 20_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Node {
    Phone(usize),
    Pbx(usize),
    Attacker(usize),
    Edge(usize),
}

#[derive(Debug)]
enum Event {
    Packet { from: SocketAddr, to: SocketAddr, bytes: Vec<u8> },
    Unreachable { edge: usize, remote: SocketAddr },
    CommitDue { edge: usize },
    CommitEnds { edge: usize, life: u32 },
    LookForStall { edge: usize, life: u32 },
    Start { edge: usize },
}

struct Cast<A> {
    actor: A,
    tenant: Option<&'static str>,
    nat: Option<usize>,
}

/// See the crate's documentation.
pub struct World {
    now: Now,
    random: Random,
    weather: Weather,
    phones: Vec<Cast<Phone>>,
    pbxs: Vec<Cast<Pbx>>,
    attackers: Vec<Cast<Attacker>>,
    edges: Vec<EdgeHost>,
    nats: Vec<Nat>,
    /// Who lives where: the NAT box (if any) and the address behind it.
    places: BTreeMap<(Option<usize>, SocketAddr), Node>,
    queue: BTreeMap<(Mono, u64), Event>,
    wakes: BTreeSet<(Mono, Node)>,
    wake_of: BTreeMap<Node, Mono>,
    events: u64,
    oracle: Oracle,
    /// How long a dead edge stays dead.
    restart_after: Duration,
    delivered: u64,
}

impl World {
    /// An empty world.
    #[must_use]
    pub fn new(seed: u64, weather: Weather) -> Self {
        let mono = Mono(Duration::from_secs(1).as_nanos() as u64);
        Self {
            now: Now { mono, wall: Wall::from_secs(1_800_000_000) },
            random: Random::new(seed),
            weather,
            phones: Vec::new(),
            pbxs: Vec::new(),
            attackers: Vec::new(),
            edges: Vec::new(),
            nats: Vec::new(),
            places: BTreeMap::new(),
            queue: BTreeMap::new(),
            wakes: BTreeSet::new(),
            wake_of: BTreeMap::new(),
            events: 0,
            oracle: Oracle::default(),
            restart_after: Duration::from_millis(500),
            delivered: 0,
        }
    }

    /// Adds an edge and starts it.
    pub fn add_edge(&mut self, settings: Settings) -> EdgeId {
        let id = self.edges.len();
        for address in settings.listeners.iter().map(|l| l.address) {
            self.place(None, address, Node::Edge(id));
        }
        let seed = self.random.bits();
        self.edges.push(EdgeHost::new(settings, seed));
        self.start_edge(id);
        EdgeId(id)
    }

    /// Adds a phone of a tenant, behind a NAT box or not.
    pub fn add_phone(
        &mut self,
        tenant: &'static str,
        mut profile: PhoneProfile,
        nat: Option<NatId>,
    ) -> PhoneId {
        profile.agent = format!("phone{MARK}{tenant}");
        let (id, nat) = (self.phones.len(), nat.map(|nat| nat.0));
        self.place(nat, profile.local, Node::Phone(id));
        let actor = Phone::new(profile, self.random.bits());
        self.phones.push(Cast { actor, tenant: Some(tenant), nat });
        PhoneId(id)
    }

    /// Adds a PBX of a tenant.
    pub fn add_pbx(&mut self, tenant: &'static str, mut profile: PbxProfile) -> PbxId {
        profile.agent = format!("pbx{MARK}{tenant}");
        let id = self.pbxs.len();
        self.place(None, profile.local, Node::Pbx(id));
        let actor = Pbx::new(profile, self.now.mono, self.random.bits());
        self.pbxs.push(Cast { actor, tenant: Some(tenant), nat: None });
        self.wake(Node::Pbx(id));
        PbxId(id)
    }

    /// Adds an attacker, who begins at once.
    pub fn add_attacker(&mut self, profile: AttackerProfile) -> AttackerId {
        let id = self.attackers.len();
        self.place(None, profile.local, Node::Attacker(id));
        let actor = Attacker::new(profile, self.now.mono, self.random.bits());
        self.attackers.push(Cast { actor, tenant: None, nat: None });
        self.wake(Node::Attacker(id));
        AttackerId(id)
    }

    /// Adds a NAT box.
    pub fn add_nat(&mut self, nat: Nat) -> NatId {
        self.nats.push(nat);
        NatId(self.nats.len() - 1)
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Now {
        self.now
    }

    /// The story's dice.
    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// What was seen on the wire.
    #[must_use]
    pub fn oracle(&self) -> &Oracle {
        &self.oracle
    }

    /// Datagrams delivered.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Changes the weather.
    pub fn set_weather(&mut self, weather: Weather) {
        self.weather = weather;
    }

    /// Sets how long a dead edge stays dead.
    pub fn set_restart_after(&mut self, after: Duration) {
        self.restart_after = after;
    }

    /// Lets a phone do something.
    pub fn phone<R>(
        &mut self,
        id: PhoneId,
        act: impl FnOnce(&mut Phone, Mono, &mut Vec<Datagram>) -> R,
    ) -> R {
        let mut out = Vec::new();
        let result = act(&mut self.phones[id.0].actor, self.now.mono, &mut out);
        self.post(self.phones[id.0].nat, out);
        self.wake(Node::Phone(id.0));
        result
    }

    /// Lets a PBX do something.
    pub fn pbx<R>(&mut self, id: PbxId, act: impl FnOnce(&mut Pbx, Now, &mut Vec<Datagram>) -> R) -> R {
        let mut out = Vec::new();
        let result = act(&mut self.pbxs[id.0].actor, self.now, &mut out);
        self.post(None, out);
        self.wake(Node::Pbx(id.0));
        result
    }

    /// Lets an attacker do something.
    pub fn attacker<R>(
        &mut self,
        id: AttackerId,
        act: impl FnOnce(&mut Attacker, &mut Vec<Datagram>) -> R,
    ) -> R {
        let mut out = Vec::new();
        let result = act(&mut self.attackers[id.0].actor, &mut out);
        self.post(None, out);
        self.wake(Node::Attacker(id.0));
        result
    }

    /// A phone, to look at.
    #[must_use]
    pub fn see_phone(&self, id: PhoneId) -> &Phone {
        &self.phones[id.0].actor
    }

    /// A PBX, to look at.
    #[must_use]
    pub fn see_pbx(&self, id: PbxId) -> &Pbx {
        &self.pbxs[id.0].actor
    }

    /// A NAT box.
    pub fn nat(&mut self, id: NatId) -> &mut Nat {
        &mut self.nats[id.0]
    }

    /// An edge, to look at.
    #[must_use]
    pub fn edge(&self, id: EdgeId) -> &EdgeHost {
        &self.edges[id.0]
    }

    /// An edge, to prepare its end.
    pub fn edge_mut(&mut self, id: EdgeId) -> &mut EdgeHost {
        &mut self.edges[id.0]
    }

    /// The edges.
    pub fn edge_ids(&self) -> impl Iterator<Item = EdgeId> + use<> {
        (0..self.edges.len()).map(EdgeId)
    }

    /// The durable events of an edge that lives.
    #[must_use]
    pub fn events(&self, id: EdgeId) -> Vec<Recorded> {
        self.edges[id.0].writer().map(read_events).unwrap_or_default()
    }

    /// Sends a datagram as anybody.
    pub fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        self.post(None, vec![Datagram { from, to, bytes }]);
    }

    /// An operator's command to an edge that lives.
    pub fn command(&mut self, id: EdgeId, command: Command) -> Option<CommandReply> {
        let (now, mut effects) = (self.now, Vec::new());
        let host = &mut self.edges[id.0];
        let mut life = host.life.take()?;
        let reply = life.command(now, command, &mut self.oracle, &mut effects, host);
        host.life = Some(life);
        self.perform(id.0, effects);
        self.wake(Node::Edge(id.0));
        reply
    }

    /// An edge dies now, and starts again after a while.
    pub fn crash(&mut self, id: EdgeId, how: Crash) {
        if self.edges[id.0].is_alive() {
            self.edges[id.0].crash(how);
            self.perform(id.0, vec![Effect::Died]);
        }
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        let end = self.now.mono.plus(time);
        self.run_while(end, |_| true);
        self.move_to(end);
    }

    /// Lets time pass until something holds, or `at_most` has passed. Says whether it held.
    pub fn run_until(&mut self, at_most: Duration, holds: impl Fn(&Self) -> bool) -> bool {
        let end = self.now.mono.plus(at_most);
        self.run_while(end, |world| !holds(world));
        holds(self)
    }

    fn run_while(&mut self, end: Mono, goes_on: impl Fn(&Self) -> bool) {
        let mut steps = 0;
        while goes_on(self) {
            let Some(at) = self.next_moment().filter(|at| *at <= end) else { return };
            self.move_to(at);
            self.step();
            steps += 1;
            assert!(steps < STEPS_MAX, "the story never ends");
        }
    }

    fn next_moment(&self) -> Option<Mono> {
        let event = self.queue.first_key_value().map(|((at, _), _)| *at);
        [event, self.wakes.first().map(|(at, _)| *at)].into_iter().flatten().min()
    }

    fn move_to(&mut self, at: Mono) {
        self.now = self.now.plus(at.since(self.now.mono));
    }

    fn step(&mut self) {
        let now = self.now.mono;
        if let Some(first) = self.queue.first_entry().filter(|entry| entry.key().0 <= now) {
            let event = first.remove();
            self.happen(event);
        } else if let Some((_, node)) = self.wakes.pop_first() {
            self.wake_of.remove(&node);
            self.due(node);
        }
    }

    fn happen(&mut self, event: Event) {
        let (now, mut effects) = (self.now, Vec::new());
        match event {
            Event::Packet { from, to, bytes } => self.arrive(from, to, &bytes),
            Event::Start { edge } => self.start_edge(edge),
            Event::Unreachable { edge, remote } => {
                let host = &mut self.edges[edge];
                if let Some(mut life) = host.life.take() {
                    life.refused(now, remote, &mut self.oracle, &mut effects, host);
                    host.life = Some(life);
                }
                self.perform(edge, effects);
                self.wake(Node::Edge(edge));
            }
            Event::CommitDue { edge } => {
                self.edges[edge].commit_due(now, &mut self.random, &mut effects);
                self.perform(edge, effects);
            }
            Event::CommitEnds { edge, life } if self.edges[edge].lives() == life => {
                self.edges[edge].commit_ends(now, &mut self.random, &mut self.oracle, &mut effects);
                self.perform(edge, effects);
                self.wake(Node::Edge(edge));
            }
            Event::LookForStall { edge, life } if self.edges[edge].lives() == life => {
                self.edges[edge].look_for_stall(now, &mut self.oracle, &mut effects);
                self.perform(edge, effects);
                self.wake(Node::Edge(edge));
            }
            // Of a life that is over.
            Event::CommitEnds { .. } | Event::LookForStall { .. } => {}
        }
    }

    fn arrive(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let now = self.now;
        let behind = self.nats.iter().position(|nat| nat.public() == to.ip());
        let (nat, inside) = match behind {
            None => (None, to),
            Some(nat) => match self.nats[nat].inbound(now.mono, to.port(), from) {
                Some(inside) => (Some(nat), inside),
                None => return,
            },
        };
        let Some(node) = self.places.get(&(nat, inside)).copied() else { return self.unreachable(from, to) };
        self.delivered += 1;
        let mut out = Vec::new();
        let tenant = match node {
            Node::Phone(i) => self.phones[i].tenant,
            Node::Pbx(i) => self.pbxs[i].tenant,
            Node::Attacker(_) | Node::Edge(_) => None,
        };
        let from_edge = matches!(self.places.get(&(None, from)), Some(Node::Edge(_)));
        if from_edge && !matches!(node, Node::Edge(_)) {
            self.oracle.actor_gets(now.mono, tenant, to, bytes);
        }
        match node {
            Node::Phone(i) => self.phones[i].actor.handle(now.mono, bytes, from, &mut out),
            Node::Pbx(i) if self.pbxs[i].actor.state() == PbxState::Killed => self.unreachable(from, to),
            Node::Pbx(i) => self.pbxs[i].actor.handle(now, bytes, from, &mut out),
            Node::Attacker(i) => self.attackers[i].actor.handle(now.mono, bytes, from, &mut out),
            Node::Edge(i) => return self.arrive_at_edge(i, to, from, bytes),
        }
        self.post(nat, out);
        self.wake(node);
    }

    fn arrive_at_edge(&mut self, edge: usize, to: SocketAddr, from: SocketAddr, bytes: &[u8]) {
        let (now, mut effects) = (self.now, Vec::new());
        let host = &mut self.edges[edge];
        let Some(mut life) = host.life.take() else { return };
        self.oracle.edge_gets(bytes);
        life.receive(now, (to, from, bytes), &mut self.oracle, &mut effects, host);
        host.life = Some(life);
        self.perform(edge, effects);
        self.wake(Node::Edge(edge));
    }

    /// Nobody listens there: the sender's machine learns it, and an edge is told.
    fn unreachable(&mut self, from: SocketAddr, to: SocketAddr) {
        if let Some(Node::Edge(edge)) = self.places.get(&(None, from)).copied() {
            self.plan(self.now.mono.plus(self.weather.delay_min), Event::Unreachable { edge, remote: to });
        }
    }

    fn due(&mut self, node: Node) {
        let (now, mut out) = (self.now, Vec::new());
        let nat = match node {
            Node::Phone(i) => {
                self.phones[i].actor.due(now.mono, &mut out);
                self.phones[i].nat
            }
            Node::Pbx(i) => {
                self.pbxs[i].actor.due(now, &mut out);
                None
            }
            Node::Attacker(i) => {
                self.attackers[i].actor.due(now.mono, &mut out);
                None
            }
            Node::Edge(i) => {
                let (host, mut effects) = (&mut self.edges[i], Vec::new());
                if let Some(mut life) = host.life.take() {
                    life.due(now, &mut self.oracle, &mut effects, host);
                    host.life = Some(life);
                }
                self.perform(i, effects);
                None
            }
        };
        self.post(nat, out);
        self.wake(node);
    }

    fn start_edge(&mut self, edge: usize) {
        let (now, mut effects) = (self.now, Vec::new());
        self.oracle.edge_restarts();
        self.edges[edge].start(now, &mut self.oracle, &mut effects);
        self.perform(edge, effects);
        self.wake(Node::Edge(edge));
    }

    fn perform(&mut self, edge: usize, effects: Vec<Effect>) {
        let life = self.edges[edge].lives();
        for effect in effects {
            match effect {
                Effect::Send { from, to, bytes } => self.post(None, vec![Datagram { from, to, bytes }]),
                Effect::CommitDue { at } => self.plan(at, Event::CommitDue { edge }),
                Effect::CommitEnds { at } => self.plan(at, Event::CommitEnds { edge, life }),
                Effect::LookForStall { at } => self.plan(at, Event::LookForStall { edge, life }),
                Effect::Died => self.plan(self.now.mono.plus(self.restart_after), Event::Start { edge }),
            }
        }
    }

    /// Puts datagrams on the wire, through the sender's NAT box.
    fn post(&mut self, nat: Option<usize>, out: Vec<Datagram>) {
        for Datagram { from, to, bytes } in out {
            let from = nat.map_or(from, |nat| self.nats[nat].outbound(self.now.mono, from, to));
            for delay in self.weather.arrivals(&mut self.random) {
                let event = Event::Packet { from, to, bytes: bytes.clone() };
                self.plan(self.now.mono.plus(delay), event);
            }
        }
    }

    fn plan(&mut self, at: Mono, event: Event) {
        self.events += 1;
        self.queue.insert((at, self.events), event);
    }

    fn wake(&mut self, node: Node) {
        let next = match node {
            Node::Phone(i) => self.phones[i].actor.next_due(),
            Node::Pbx(i) => self.pbxs[i].actor.next_due(),
            Node::Attacker(i) => self.attackers[i].actor.next_due(),
            Node::Edge(i) => self.edges[i].life.as_ref().and_then(|life| life.next_due()),
        };
        let next = next.map(|at| at.max(self.now.mono.plus(TICK)));
        let old = match next {
            Some(at) => self.wake_of.insert(node, at),
            None => self.wake_of.remove(&node),
        };
        if let Some(old) = old {
            self.wakes.remove(&(old, node));
        }
        if let Some(at) = next {
            self.wakes.insert((at, node));
        }
    }

    fn place(&mut self, nat: Option<usize>, address: SocketAddr, node: Node) {
        let before = self.places.insert((nat, address), node);
        assert!(before.is_none(), "two at {address}");
    }

    /// The phones.
    pub fn phones(&self) -> impl Iterator<Item = &Phone> {
        self.phones.iter().map(|cast| &cast.actor)
    }

    /// The PBXs.
    pub fn pbxs(&self) -> impl Iterator<Item = &Pbx> {
        self.pbxs.iter().map(|cast| &cast.actor)
    }

    /// Phones with their tenants.
    pub(crate) fn registered_phones(&self) -> impl Iterator<Item = (&Phone, &'static str)> {
        self.phones.iter().filter_map(|cast| Some((&cast.actor, cast.tenant?)))
    }

    /// Every leg that any actor had.
    pub(crate) fn edge_calls(&self) -> impl Iterator<Item = &CallSeen> {
        self.phones().flat_map(Phone::calls).chain(self.pbxs().flat_map(Pbx::calls))
    }

    /// Legs alive, by actor.
    pub(crate) fn legs_alive(&self) -> impl Iterator<Item = (String, usize)> {
        let phones = self.phones().map(|p| (p.aor(), p.legs_alive()));
        phones.chain(self.pbxs().map(|p| (p.profile().agent.clone(), p.legs_alive())))
    }

    /// Whether nobody has a call and no edge waits for its disk.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let settled = |host: &EdgeHost| {
            host.life.as_ref().is_some_and(|l| l.is_settled() && l.engine.calls_active() == 0)
        };
        self.legs_alive().all(|(_, legs)| legs == 0) && self.edges.iter().all(settled)
    }
}
