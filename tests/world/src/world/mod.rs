//! The world: actors, edges and the network between them, moved by virtual time.

mod moves;
mod pipes;

use crate::edge::{Crash, EdgeHost, Effect, Life};
use crate::events::{Recorded, read_events};
use crate::nat::Nat;
use crate::network::Weather;
use crate::oracle::{MARK, Oracle};
use moves::Event;
use pipes::Pipes;
use signalbox_actors::{
    Attacker, AttackerProfile, CallSeen, Datagram, Device, Pbx, PbxProfile, Phone, PhoneProfile, Random,
};
use signalbox_base::{Mono, Now, Wall};
use signalbox_engine::remote::Update;
use signalbox_engine::{Command, CommandReply, Input, Settings};
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Node {
    Phone(usize),
    Pbx(usize),
    Attacker(usize),
    Edge(usize),
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
    /// Draws devices; apart, so that which they are moves nothing else.
    devices: Random,
    weather: Weather,
    phones: Vec<Cast<Phone>>,
    pbxs: Vec<Cast<Pbx>>,
    attackers: Vec<Cast<Attacker>>,
    edges: Vec<EdgeHost>,
    nats: Vec<Nat>,
    /// Who lives where: the NAT box (if any) and the address behind it.
    places: BTreeMap<(Option<usize>, SocketAddr), Node>,
    pipes: Pipes,
    queue: BTreeMap<(Mono, u64), Event>,
    wakes: BTreeSet<(Mono, Node)>,
    wake_of: BTreeMap<Node, Mono>,
    events: u64,
    oracle: Oracle,
    /// How long a dead edge stays dead.
    restart_after: Duration,
    delivered: u64,
    traces: bool,
    always_fine: bool,
}

impl World {
    /// An empty world.
    #[must_use]
    pub fn new(seed: u64, weather: Weather) -> Self {
        let mono = Mono(Duration::from_secs(1).as_nanos() as u64);
        Self {
            now: Now { mono, wall: Wall::from_secs(1_800_000_000) },
            random: Random::new(seed),
            devices: Random::new(!seed),
            weather,
            phones: Vec::new(),
            pbxs: Vec::new(),
            attackers: Vec::new(),
            edges: Vec::new(),
            nats: Vec::new(),
            places: BTreeMap::new(),
            pipes: Pipes::default(),
            queue: BTreeMap::new(),
            wakes: BTreeSet::new(),
            wake_of: BTreeMap::new(),
            events: 0,
            oracle: Oracle::default(),
            restart_after: Duration::from_millis(500),
            delivered: 0,
            traces: std::env::var_os("SIGNALBOX_TRACE").is_some(),
            always_fine: weather.loss == 0 && weather.delay_min == weather.delay_max,
        }
    }

    /// Adds an edge and starts it.
    pub fn add_edge(&mut self, settings: Settings) -> EdgeId {
        let id = self.edges.len();
        for listener in &settings.listeners {
            self.place(None, listener.address, Node::Edge(id));
            if listener.transport.reliable() {
                self.pipes.listen(listener.address);
            }
        }
        let seed = self.random.bits();
        self.edges.push(EdgeHost::new(settings, seed));
        self.start_edge(id);
        EdgeId(id)
    }

    /// Adds a phone of a tenant, behind a NAT box or not. Unless its profile names a device, the seed does.
    pub fn add_phone(
        &mut self,
        tenant: &'static str,
        mut profile: PhoneProfile,
        nat: Option<NatId>,
    ) -> PhoneId {
        profile.agent = format!("phone{MARK}{tenant}");
        let drawn = self.devices.pick(Device::PHONES);
        profile.device.get_or_insert(drawn);
        let (id, nat) = (self.phones.len(), nat.map(|nat| nat.0));
        self.place(nat, profile.local, Node::Phone(id));
        let actor = Phone::new(profile, self.random.bits());
        self.phones.push(Cast { actor, tenant: Some(tenant), nat });
        PhoneId(id)
    }

    /// Adds a PBX of a tenant. Unless its profile names a device, the seed does.
    pub fn add_pbx(&mut self, tenant: &'static str, mut profile: PbxProfile) -> PbxId {
        profile.agent = format!("pbx{MARK}{tenant}");
        let drawn = self.devices.pick(Device::PBXS);
        profile.device.get_or_insert(drawn);
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
        self.always_fine = false;
    }

    /// Whether datagrams have kept their order from the start.
    #[must_use]
    pub fn keeps_order(&self) -> bool {
        self.always_fine
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

    /// An edge that lives learns what others said.
    pub fn tell(&mut self, id: EdgeId, updates: &[Update]) {
        let (now, mut effects) = (self.now, Vec::new());
        let host = &mut self.edges[id.0];
        let Some(mut life) = host.life.take() else { return };
        life.turn(now, Input::Remote(updates), &mut self.oracle, &mut effects, host);
        host.life = Some(life);
        self.perform(id.0, effects);
        self.wake(Node::Edge(id.0));
    }

    /// An edge dies now, and starts again after a while.
    pub fn crash(&mut self, id: EdgeId, how: Crash) {
        if self.edges[id.0].is_alive() {
            self.edges[id.0].crash(how);
            self.perform(id.0, vec![Effect::Died]);
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

    /// Lets time pass until everything that the edge has decided is durable.
    ///
    /// # Panics
    /// When it never is.
    pub fn run_until_durable(&mut self, id: EdgeId) {
        let settled = |world: &Self| world.edges[id.0].life.as_ref().is_some_and(Life::is_settled);
        assert!(self.run_until(Duration::from_secs(60), settled), "records wait for the disk for ever");
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
