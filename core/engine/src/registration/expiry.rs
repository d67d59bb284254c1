//! The time of bindings: when they end, when they are pinged, when they were last heard.

use super::register::{Live, Registrar};
use crate::contract::{ClassB, Release};
use crate::facts::registration as facts;
use crate::net::Timer;
use crate::state::{Binding, BindingKey};
use crate::turn::Turn;
use foldhash::HashSet;
use signalbox_base::{CompactFlow, EventSeq, Flow, Mono, Wall};
use signalbox_schemas::words::RemovalReason;
use signalbox_sip::{HeaderName, Method, RequestBuilder};
use std::hash::BuildHasher;
use std::time::Duration;

/// Pings without an answer until a flow has failed.
const SILENT_PINGS: u32 = 4;
/// What comes so soon behind a REGISTER belongs to it, and answers no ping.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Flows remembered beyond twice the number of bindings before those that lead nowhere are dropped.
const HEARD_SLACK: usize = 1024;

impl Registrar {
    /// Something came over a flow: whoever is registered over it is alive.
    pub(crate) fn seen(&mut self, turn: &mut Turn<'_>, flow: &Flow) {
        let registrations = turn.state.registrations();
        if !registrations.knows_flow(flow) {
            return;
        }
        if !turn.net.lost.is_empty() {
            // Who was silent is there again.
            registrations.over_flow(flow).for_each(|(_, binding)| {
                turn.net.lost.remove(&binding.key);
            });
        }
        let at = self.heard_by.hash_one((flow.transport, flow.remote));
        self.heard.insert(at, turn.now.wall);
        if self.heard.len() > 2 * self.live.len() + HEARD_SLACK {
            let bindings = registrations.iter().flat_map(|aor| &aor.bindings);
            let leading: HashSet<u64> = bindings.map(|b| self.heard_at(&b.flow)).collect();
            self.heard.retain(|at, _| leading.contains(at));
        }
    }

    /// When a binding was last heard: by its own REGISTER, or by anything else over its flow.
    fn last_heard(&self, turn: &Turn<'_>, key: BindingKey, own: Wall) -> Wall {
        let flow = turn.state.registrations().binding(key).map(|(_, b)| self.heard_at(&b.flow));
        flow.and_then(|flow| self.heard.get(&flow).copied()).map_or(own, |heard| heard.max(own))
    }

    fn heard_at(&self, flow: &CompactFlow) -> u64 {
        self.heard_by.hash_one((flow.transport(), flow.remote()))
    }

    /// Timers of a binding just stored or refreshed.
    pub(super) fn arm(&mut self, turn: &mut Turn<'_>, key: BindingKey) {
        let Some((_, binding)) = turn.state.registrations().binding(key) else { return };
        let (deadline, pinged) = (binding.expires_at, binding.behind_nat);
        turn.net.lost.remove(&key);
        let interval = turn.settings.timers.ping_interval;
        let seen = turn.now.wall;
        self.start(turn, key, Start { seen, deadline, first_ping: pinged.then_some(interval) });
    }

    /// After a restart: every binding is extended once by what it was last granted, so that a refresh lost with the crash
    /// loses nobody; phones over UDP are pinged soon; connections are gone.
    pub(crate) fn resume(&mut self, turn: &mut Turn<'_>) {
        self.begun = turn.now.wall;
        let all: Vec<(BindingKey, Wall, bool)> = turn
            .state
            .registrations()
            .iter()
            .flat_map(|aor| &aor.bindings)
            .map(|b| (b.key, deadline_after_restart(b), b.flow.transport().reliable()))
            .collect();
        let within =
            u64::try_from(turn.settings.timers.ping_after_restart.as_nanos()).unwrap_or(u64::MAX).max(1);
        let seen = turn.state.edge().last_wall;
        for (key, deadline, stream) in all {
            if stream {
                turn.net.lost.insert(key);
            }
            let first = Duration::from_nanos(turn.entropy.next_u64() % within);
            self.start(turn, key, Start { seen, deadline, first_ping: (!stream).then_some(first) });
        }
        self.remove_orphans(turn, EventSeq(0));
        self.outbound.configure(turn);
    }

    /// Removes what is registered in a domain that its tenant does not have any more, and says how many; whoever waits for
    /// an answer is told to come later. `because` is the record of the configuration that the domain is missing from.
    pub(crate) fn remove_orphans(&mut self, turn: &mut Turn<'_>, because: EventSeq) -> usize {
        let is_gone = |turn: &Turn<'_>, tenant: &str, domain: &str| {
            let owner = turn.directory.domain(turn.settings, domain.as_bytes());
            owner.is_none_or(|(owner, name)| owner.name.as_str() != tenant || **name != *domain)
        };
        let registrations = turn.state.registrations();
        let orphans = registrations.iter().filter(|aor| is_gone(turn, aor.tenant(), aor.domain()));
        let keys: Vec<BindingKey> = orphans.flat_map(|aor| &aor.bindings).map(|b| b.key).collect();
        let removed = keys.len();
        for key in keys {
            self.remove_binding(turn, key, RemovalReason::Admin, None, because);
        }
        let waiting = self.pending.iter().filter(|(_, p)| is_gone(turn, p.tenant.as_str(), p.domain()));
        let waiting: Vec<u64> = waiting.map(|(number, _)| *number).collect();
        for number in waiting {
            self.failed(turn, number, false);
        }
        removed
    }

    /// Forgets the timers of a binding that is gone.
    pub(super) fn forget(&mut self, turn: &mut Turn<'_>, key: BindingKey) {
        turn.net.lost.remove(&key);
        self.upstream.remove(&key);
        if let Some(live) = self.live.remove(&key) {
            turn.cancel_timer(live.expiry);
            live.ping.into_iter().for_each(|ping| turn.cancel_timer(ping));
        }
    }

    /// A connection is gone: its bindings stay, but nobody is there until they register again.
    pub(crate) fn on_flow_closed(&mut self, turn: &mut Turn<'_>, flow: &Flow) {
        turn.net.lost.extend(turn.state.registrations().over_flow(flow).map(|(_, binding)| binding.key));
    }

    pub(super) fn on_expiry(&mut self, turn: &mut Turn<'_>, key: BindingKey) {
        let Some(live) = self.live.get(&key).copied() else { return };
        if turn.now.wall < live.deadline {
            // The wall clock was slewed meanwhile.
            let at = moment(turn, live.deadline);
            let expiry = turn.start_timer(at, Timer::Expiry(key));
            if let Some(live) = self.live.get_mut(&key) {
                live.expiry = expiry;
            }
            return;
        }
        let seen = self.last_heard(turn, key, live.seen);
        if self.is_known_upstream(turn, key) {
            self.withdraw(turn, key);
        }
        if let Some(fact) = facts::expired(turn, key, seen) {
            turn.record(fact);
        }
        self.forget(turn, key);
    }

    pub(super) fn on_ping(&mut self, turn: &mut Turn<'_>, key: BindingKey) {
        if self.is_silent(turn, key) && self.on_silence(turn, key) {
            return;
        }
        let Some((aor, binding)) = turn.state.registrations().binding(key) else { return };
        // A connection that is gone does not come back; who is behind a datagram's flow may.
        if !turn.net.is_reachable(key) && binding.flow.transport().reliable() {
            return;
        }
        let (flow, contact, address, nat) =
            (binding.flow.get(), binding.request_uri(), aor.address().to_owned(), binding.behind_nat);
        if turn.settings.listener(flow.listener).is_none() {
            return;
        }
        if flow.transport.reliable() {
            turn.send_as(flow, Release::Now(ClassB::Keepalive), |out| out.extend_from_slice(b"\r\n\r\n"));
        } else {
            // It wants no transaction: the answer, whatever it says, is heard as any packet is (see `seen`).
            let (host, branch) = (turn.advertised(&flow), turn.branch(Method::Options));
            let (tag, call) = (turn.entropy.next_u64(), turn.entropy.next_u64());
            turn.send_as(flow, Release::Now(ClassB::Keepalive), |out| {
                RequestBuilder::new(out, Method::Options, &*contact)
                    .header(HeaderName::Via, format_args!("SIP/2.0/UDP {host};branch={branch};rport"))
                    .header(HeaderName::MaxForwards, 1_u32)
                    .header(HeaderName::From, format_args!("<sip:{host}>;tag={tag:016x}"))
                    .header(HeaderName::To, format_args!("<sip:{address}>"))
                    .header(HeaderName::CallId, format_args!("{call:016x}@{host}"))
                    .header(HeaderName::CSeq, "1 OPTIONS")
                    .finish();
            });
        }
        if nat {
            let jitter = turn.entropy.next_u64() % 200;
            let after = turn.settings.timers.ping_interval.mul_f64(0.8 + jitter as f64 / 1000.0);
            let timer = turn.start_timer(turn.now.mono.plus(after), Timer::Ping(key));
            if let Some(live) = self.live.get_mut(&key) {
                live.ping = Some(timer);
            }
        } else if let Some(live) = self.live.get_mut(&key) {
            live.ping = None;
        }
    }

    /// Whether a phone that answered pings since it registered has not been heard for several. Who never answers any is not
    /// judged by it.
    fn is_silent(&self, turn: &Turn<'_>, key: BindingKey) -> bool {
        let Some(live) = self.live.get(&key) else { return false };
        let heard = self.last_heard(turn, key, live.seen);
        let answered = heard.since(live.seen) > ANSWER_WITHIN;
        answered && turn.now.wall.since(heard) > turn.settings.timers.ping_interval * SILENT_PINGS
    }

    /// A flow has failed. Where the edge is the registrar, or may take the phone out at its backend, the binding ends, which
    /// is true then; else it stays, and whoever calls it hears 480 at once until the phone is heard again.
    fn on_silence(&mut self, turn: &mut Turn<'_>, key: BindingKey) -> bool {
        let Some((aor, _)) = turn.state.registrations().binding(key) else { return true };
        if !aor.backend.is_empty() && !self.withdraw(turn, key) {
            turn.net.lost.insert(key);
            return false;
        }
        self.remove_binding(turn, key, RemovalReason::FlowFailed, None, EventSeq(0));
        true
    }

    fn start(&mut self, turn: &mut Turn<'_>, key: BindingKey, live: Start) {
        let before = self.live.remove(&key);
        let mut ping = None;
        if let Some(old) = before {
            turn.cancel_timer(old.expiry);
            match (old.ping, live.first_ping) {
                // A refresh does not put off the next ping: the NAT's own clock runs on.
                (Some(running), Some(_)) => ping = Some(running),
                (Some(running), None) => turn.cancel_timer(running),
                (None, _) => {}
            }
        }
        if ping.is_none() {
            let now = turn.now.mono;
            ping = live.first_ping.map(|after| turn.start_timer(now.plus(after), Timer::Ping(key)));
        }
        let at = moment(turn, live.deadline);
        let expiry = turn.start_timer(at, Timer::Expiry(key));
        self.live.insert(key, Live { seen: live.seen, deadline: live.deadline, expiry, ping });
    }
}

/// What a binding's timers are started from.
struct Start {
    seen: Wall,
    deadline: Wall,
    first_ping: Option<Duration>,
}

fn deadline_after_restart(binding: &Binding) -> Wall {
    binding.expires_at.plus(Duration::from_secs(u64::from(binding.granted_secs)))
}

/// When the monotonic clock will show a wall time.
fn moment(turn: &Turn<'_>, wall: Wall) -> Mono {
    turn.now.mono.plus(wall.since(turn.now.wall))
}
