//! How the world moves: events in order of time, datagrams through boxes, actors and edges woken when something is due.

use super::pipes::Heard;
use super::{Node, World};
use crate::edge::Effect;
use signalbox_actors::{Datagram, PbxState};
use signalbox_base::Mono;
use std::net::SocketAddr;
use std::time::Duration;

/// A wake-up is never sooner than this after the last: timers may be early, and time must move.
const TICK: Duration = Duration::from_micros(100);
/// Steps of one `run` at most: a story that needs more never ends.
const STEPS_MAX: u64 = 20_000_000;

#[derive(Debug)]
pub(super) enum Event {
    Packet { from: SocketAddr, to: SocketAddr, bytes: Vec<u8> },
    Piece { from: SocketAddr, to: SocketAddr, bytes: Vec<u8> },
    Unreachable { edge: usize, remote: SocketAddr },
    CommitDue { edge: usize },
    CommitEnds { edge: usize, life: u32 },
    LookForStall { edge: usize, life: u32 },
    Start { edge: usize },
}

impl World {
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
            Event::Piece { from, to, bytes } => {
                for heard in self.pipes.read(from, to, &bytes) {
                    match heard {
                        Heard::Message(bytes) => self.arrive(from, to, &bytes),
                        Heard::Ping => {
                            self.post(None, vec![Datagram { from: to, to: from, bytes: b"\r\n".to_vec() }]);
                        }
                    }
                }
            }
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
        if self.traces {
            trace(now.mono, from, to, bytes);
        }
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

    pub(super) fn start_edge(&mut self, edge: usize) {
        let (now, mut effects) = (self.now, Vec::new());
        self.oracle.edge_restarts();
        if self.traces {
            eprintln!("{:>9.3} edge {edge} starts", now.mono.0 as f64 / 1e9);
        }
        self.edges[edge].start(now, &mut self.oracle, &mut effects);
        self.perform(edge, effects);
        self.wake(Node::Edge(edge));
    }

    pub(super) fn perform(&mut self, edge: usize, effects: Vec<Effect>) {
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
    pub(super) fn post(&mut self, nat: Option<usize>, out: Vec<Datagram>) {
        for Datagram { from, to, bytes } in out {
            if self.pipes.carry(from, to) {
                let (now, way) = (self.now.mono, (from, to));
                for (at, bytes) in self.pipes.write(now, way, &bytes, self.weather, &mut self.random) {
                    self.plan(at, Event::Piece { from, to, bytes });
                }
                continue;
            }
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

    pub(super) fn wake(&mut self, node: Node) {
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
}

/// One line for a datagram that arrives, and what a reader looks at next.
fn trace(at: Mono, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let header = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    let start = text.lines().next().unwrap_or_default();
    eprintln!(
        "{:>9.3} {from:>22} -> {to:<22} {start:60.60} {} {}",
        at.0 as f64 / 1e9,
        header("CSeq"),
        header("Call-ID")
    );
}
