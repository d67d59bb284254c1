//! OPTIONS to every backend, host names resolved again and again, and what operators wish.

use super::health::{Backends, Change};
use super::sites::flows_to;
use crate::call::via;
use crate::classes::Sent;
use crate::contract::{Ask, BackendWish, CommandReply, QueryId, ResolvedTarget};
use crate::facts::{admin, backend as facts};
use crate::net::{Timer, User};
use crate::settings::{ProbeSettings, Settings};
use crate::state::Wish;
use crate::tenancy::{Directory, Peer, PeerRef};
use crate::turn::{Outgoing, Turn};
use signalbox_base::{Flow, Mono, Text};
use signalbox_schemas::words::{BackendCause, BackendState};
use signalbox_sip::transaction::ClientTx;
use signalbox_sip::{HeaderName, Message, Method, RequestBuilder};
use smallvec::SmallVec;
use std::net::SocketAddr;
use std::time::Duration;

/// A question that nothing answers is asked again after this.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// Where nothing is probed, it is looked this often whether that changed.
const IDLE_INTERVAL: Duration = Duration::from_secs(60);
/// The first probes after a start or reload are spread over this.
const FIRST_PROBES_WITHIN: Duration = Duration::from_millis(500);

/// One OPTIONS to each place of a backend. It is there when one of them says so.
#[derive(Debug)]
pub(super) struct Round {
    number: u32,
    waiting: SmallVec<[InFlight; 1]>,
    is_answered: bool,
    is_good: bool,
}

/// A probe that waits for its answer.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    tx: ClientTx,
    remote: SocketAddr,
    sent_at: Mono,
}

impl Round {
    fn take(&mut self, tx: ClientTx) -> Option<InFlight> {
        let at = self.waiting.iter().position(|probe| probe.tx == tx)?;
        Some(self.waiting.swap_remove(at))
    }
}

/// Starts probing and resolving; at start and after a reload.
pub(crate) fn resume(turn: &mut Turn<'_>) {
    let peers: Vec<PeerRef> = Directory::peers(turn.settings).map(|(peer, _)| peer).collect();
    for peer in peers {
        resolve(turn, peer);
        let within = u64::try_from(FIRST_PROBES_WITHIN.as_nanos()).unwrap_or(u64::MAX);
        let after = Duration::from_nanos(turn.entropy.next_u64() % within.max(1));
        arm(turn, peer, after);
    }
}

/// New settings: health goes with the names, timers and questions start anew.
pub(crate) fn reload(turn: &mut Turn<'_>, old: &Settings) {
    let timers: Vec<_> =
        turn.backends.all_mut().flat_map(|h| [h.timer.take(), h.resolve_timer.take()]).flatten().collect();
    for timer in timers {
        turn.cancel_timer(timer);
    }
    let fresh = Backends::new(turn.settings, turn.state.backends());
    let before = std::mem::replace(turn.backends, fresh);
    turn.backends.carry_over(before, old, turn.settings);
    resume(turn);
}

/// A timer of ours.
pub(crate) fn on_timer(turn: &mut Turn<'_>, timer: Timer) {
    match timer {
        Timer::Probe(peer) => send(turn, peer),
        Timer::ProbeTimeout(peer, number) => on_timeout(turn, peer, number),
        Timer::Resolve(peer) => resolve(turn, peer),
        _ => {}
    }
}

/// An answer to a probe: any final one but 408 and 503 says that somebody is there.
pub(crate) fn on_response(turn: &mut Turn<'_>, peer: PeerRef, tx: ClientTx, response: &Message<&[u8]>) {
    let status = response.status().unwrap_or(0);
    if status < 200 {
        return;
    }
    let now = turn.now.mono;
    let is_good = !matches!(status, 408 | 503);
    let Some(health) = turn.backends.get_mut(peer) else { return };
    let Some(round) = &mut health.round else { return };
    let Some(probe) = round.take(tx) else { return };
    if is_good && !round.is_good || !round.is_answered {
        health.last_status = Some(status);
        health.rtt_ms = Some(u64::try_from(now.since(probe.sent_at).as_millis()).unwrap_or(u64::MAX));
    }
    round.is_answered = true;
    round.is_good |= is_good;
    turn.directory.judged(peer, probe.remote, !is_good);
    end_round(turn, peer);
}

/// A probe's transaction ended without an answer.
pub(crate) fn on_ended(turn: &mut Turn<'_>, peer: PeerRef, tx: ClientTx) {
    let Some(round) = turn.backends.get_mut(peer).and_then(|health| health.round.as_mut()) else { return };
    if let Some(probe) = round.take(tx) {
        turn.directory.judged(peer, probe.remote, true);
        end_round(turn, peer);
    }
}

/// Once all places have answered, or will not.
fn end_round(turn: &mut Turn<'_>, peer: PeerRef) {
    let Some(health) = turn.backends.get_mut(peer) else { return };
    match health.round.take_if(|round| round.waiting.is_empty()) {
        Some(round) if round.is_answered => judge(turn, peer, round.is_good, BackendCause::Probe),
        Some(_) => no_answer(turn, peer),
        None => {}
    }
}

/// What real traffic said of a backend: it answered from this place, or it did not (no response in time, transport error,
/// 408, 503).
pub fn on_traffic(turn: &mut Turn<'_>, peer: PeerRef, remote: SocketAddr, answered: bool) {
    turn.directory.judged(peer, remote, !answered);
    judge(turn, peer, answered, BackendCause::Traffic);
}

/// An answer to a question of ours; an empty one leaves what was known.
pub(crate) fn on_resolved(
    turn: &mut Turn<'_>,
    query: QueryId,
    targets: &[ResolvedTarget],
    again_after: Duration,
) {
    let Some(peer) = turn.backends.queries.remove(&query) else { return };
    resolve_after(turn, peer, again_after);
    let settings = turn.settings;
    // A name that leads to the edge itself would have it call itself.
    let is_ours = |target: &&ResolvedTarget| {
        settings.listeners.iter().any(|listener| listener.address == target.address)
    };
    let others: Vec<ResolvedTarget> = targets.iter().filter(|target| !is_ours(target)).cloned().collect();
    if !others.is_empty() {
        turn.directory.set_resolved(settings, peer, &others);
    }
}

/// An operator's wish for a backend named `tenant/name`, or by its name alone where that is unique.
pub(crate) fn on_command(turn: &mut Turn<'_>, name: &Text, wish: BackendWish, actor: &Text) -> CommandReply {
    let action = match wish {
        BackendWish::Enable => "backends.enable",
        BackendWish::Drain => "backends.drain",
        BackendWish::Disable => "backends.disable",
    };
    let peer = match find(turn, name) {
        Ok(peer) => peer,
        Err(why) => {
            let fact = admin::acted(turn, actor, action, name, Err(&why));
            turn.record(fact);
            return CommandReply::Refused(Text::from(why));
        }
    };
    let wish = match wish {
        BackendWish::Enable => Wish::Serve,
        BackendWish::Drain => Wish::Drain,
        BackendWish::Disable => Wish::Disable,
    };
    let from = turn.backends.state(peer);
    if let Some(health) = turn.backends.get_mut(peer) {
        health.wish = wish;
    }
    let to = turn.backends.state(peer);
    let fact = admin::acted(turn, actor, action, name, Ok(()));
    let seq = turn.record(fact);
    if from != to {
        let change = Change { from, to, consecutive: 0 };
        if let Some(fact) = facts::state_changed(turn, peer, change, BackendCause::Operator, Some(actor)) {
            turn.record(fact.because(seq));
        }
        pool_degraded(turn, peer, to);
    }
    if let Some(last) = turn.out.records.last_mut() {
        last.urgent = true;
    }
    CommandReply::Done(Text::from(format!("{name}: {from} → {to}")))
}

fn find(turn: &Turn<'_>, name: &str) -> Result<PeerRef, String> {
    if let Some((tenant, backend)) = name.split_once('/') {
        return turn
            .directory
            .find(turn.settings, tenant, backend)
            .ok_or_else(|| format!("no backend or trunk {backend} of tenant {tenant}"));
    }
    let mut named = Directory::peers(turn.settings).filter(|(_, p)| *p.backend.name == *name);
    match (named.next(), named.next()) {
        (Some((peer, _)), None) => Ok(peer),
        (Some((_, a)), Some((_, b))) => Err(format!(
            "several backends are named {name}: write {}/{name} or {}/{name}",
            a.owner(),
            b.owner()
        )),
        (None, _) => Err(format!("no backend or trunk is named {name}")),
    }
}

fn send(turn: &mut Turn<'_>, peer: PeerRef) {
    let Some(settings) = probe_settings(turn, peer) else { return };
    if let Some(health) = turn.backends.get_mut(peer) {
        health.timer = None;
        if health.wish == Wish::Disable || settings.interval.is_none() {
            // Enabling it again, or a reload, must find a running timer.
            arm(turn, peer, settings.interval.unwrap_or(IDLE_INTERVAL));
            return;
        }
    }
    let waiting: SmallVec<[InFlight; 1]> =
        flows_to(turn, peer, None, 0).into_iter().filter_map(|flow| probe(turn, peer, flow)).collect();
    if waiting.is_empty() {
        return no_answer(turn, peer);
    }
    let number = u32::try_from(turn.backends.number() & u64::from(u32::MAX)).unwrap_or_default();
    let at = turn.now.mono.plus(settings.timeout);
    let timer = turn.start_timer(at, Timer::ProbeTimeout(peer, number));
    if let Some(health) = turn.backends.get_mut(peer) {
        health.round = Some(Round { number, waiting, is_answered: false, is_good: false });
        health.timer = Some(timer);
    }
}

/// One OPTIONS.
fn probe(turn: &mut Turn<'_>, peer: PeerRef, flow: Flow) -> Option<InFlight> {
    let branch = turn.branch(Method::Options);
    let (host, version) = (turn.advertised(&flow), turn.settings.version.clone());
    let via = via(turn.settings, &flow, branch, None);
    let (tag, call) = (turn.entropy.next_u64(), turn.entropy.next_u64());
    let new = Outgoing {
        method: Method::Options,
        sent: Sent::Request,
        flow,
        branch,
        user: User::Probe(peer),
        record: None,
    };
    let started = turn.request(new, |out| {
        RequestBuilder::new(out, Method::Options, ("sip:", flow.remote))
            .header(HeaderName::Via, &*via)
            .header(HeaderName::MaxForwards, 70_u32)
            .header(HeaderName::From, format_args!("<sip:{host}>;tag={tag:016x}"))
            .header(HeaderName::To, format_args!("<sip:{}>", flow.remote))
            .header(HeaderName::CallId, format_args!("{call:016x}@{host}"))
            .header(HeaderName::CSeq, "1 OPTIONS")
            .header(HeaderName::Contact, format_args!("<sip:{host}>"))
            .header(HeaderName::UserAgent, format_args!("Signalbox/{version}"))
            .finish();
    });
    Some(InFlight { tx: started.ok()?, remote: flow.remote, sent_at: turn.now.mono })
}

fn on_timeout(turn: &mut Turn<'_>, peer: PeerRef, number: u32) {
    let Some(health) = turn.backends.get_mut(peer) else { return };
    let Some(round) = health.round.as_mut().filter(|round| round.number == number) else { return };
    for probe in std::mem::take(&mut round.waiting) {
        turn.net.table.withdraw(probe.tx, &mut turn.net.outputs);
        turn.directory.judged(peer, probe.remote, true);
    }
    end_round(turn, peer);
}

fn no_answer(turn: &mut Turn<'_>, peer: PeerRef) {
    if let Some(health) = turn.backends.get_mut(peer) {
        health.last_status = None;
        health.rtt_ms = None;
    }
    judge(turn, peer, false, BackendCause::Probe);
}

/// Counts a success or failure, records what changed, and after a probe arms the next.
fn judge(turn: &mut Turn<'_>, peer: PeerRef, good: bool, cause: BackendCause) {
    let Some(probe) = probe_settings(turn, peer) else { return };
    let by_probe = cause == BackendCause::Probe;
    let Some(health) = turn.backends.get_mut(peer) else { return };
    let change = if good { health.succeeded(&probe, by_probe) } else { health.failed(&probe) };
    if by_probe {
        let timer = health.timer.take();
        timer.into_iter().for_each(|timer| turn.cancel_timer(timer));
        let interval = probe.interval.unwrap_or(IDLE_INTERVAL);
        let jitter = turn.entropy.next_u64() % 200;
        // 90 % to 110 %: edges that started together must not probe together for ever.
        let after = interval.mul_f64(0.9 + jitter as f64 / 1000.0);
        arm(turn, peer, after);
    }
    let Some(change) = change else { return };
    if let Some(fact) = facts::state_changed(turn, peer, change, cause, None) {
        turn.record(fact);
    }
    pool_degraded(turn, peer, change.to);
}

/// Told each time that one more backend of a tenant takes no calls.
fn pool_degraded(turn: &mut Turn<'_>, peer: PeerRef, to: BackendState) {
    if !matches!(to, BackendState::Down | BackendState::Draining | BackendState::Disabled) {
        return;
    }
    let Some(found) = turn.directory.peer(turn.settings, peer) else { return };
    let of_tenant =
        |backend: usize| PeerRef { tenant: peer.tenant, backend: u16::try_from(backend).unwrap_or(u16::MAX) };
    let Some(tenant) = found.tenant.filter(|_| !peer.is_trunk()) else { return };
    let total = tenant.backends.len();
    let healthy = (0..total).filter(|at| turn.backends.accepts(of_tenant(*at))).count();
    let fact = facts::pool_degraded(turn, &tenant.name, healthy, total);
    turn.record(fact);
}

fn resolve(turn: &mut Turn<'_>, peer: PeerRef) {
    let Some(Peer { backend, .. }) = turn.directory.peer(turn.settings, peer) else { return };
    let Some(question) = turn.settings.question(backend.network, &backend.address) else { return };
    let query = QueryId(turn.backends.number());
    turn.backends.queries.retain(|_, asked| *asked != peer);
    turn.backends.queries.insert(query, peer);
    turn.out.asks.push(Ask::Resolve { query, question });
    resolve_after(turn, peer, ASK_AGAIN);
}

fn resolve_after(turn: &mut Turn<'_>, peer: PeerRef, after: Duration) {
    let timer = turn.start_timer(turn.now.mono.plus(after), Timer::Resolve(peer));
    let before = turn.backends.get_mut(peer).and_then(|health| health.resolve_timer.replace(timer));
    before.into_iter().for_each(|timer| turn.cancel_timer(timer));
}

fn arm(turn: &mut Turn<'_>, peer: PeerRef, after: Duration) {
    let at = turn.now.mono.plus(after);
    let timer = turn.start_timer(at, Timer::Probe(peer));
    if let Some(health) = turn.backends.get_mut(peer) {
        health.timer = Some(timer);
    }
}

fn probe_settings(turn: &Turn<'_>, peer: PeerRef) -> Option<ProbeSettings> {
    turn.directory.peer(turn.settings, peer).map(|found| found.backend.probe)
}
