//! The end of a story: what everybody saw, held against the journal and the engine's state.
//!
//! Asked when the world has come to rest: calls hung up, retransmissions over, edges alive.

use super::{Fault, Oracle};
use crate::events::{self, Recorded};
use crate::world::{EdgeId, World};
use signalbox_actors::{CallSeen, OUT_OF_ORDER, Phone, Side, Violation};
use signalbox_base::{Mono, Wall};
use signalbox_engine::Engine;
use signalbox_schemas::Event;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// An answered call has not exactly one CDR.
pub const CDR: &str = "an answered call has not exactly one CDR (promise 3)";
/// A CDR of an answered call that nobody answered.
pub const PHANTOM: &str = "a CDR says answered, and nobody on the wire was (promise 3)";
/// A leg that nobody ended.
pub const LEG: &str = "a leg is left alive (promise 3)";
/// A 200 to REGISTER without its binding, or with a wrong one.
pub const BINDING: &str = "a registered phone has no such binding (promise 3)";
/// A binding of a phone that left.
pub const LEFT: &str = "a phone that unregistered has a binding";
/// Live state differs from replay.
pub const REPLAY: &str = "replay does not equal live (promise 2)";
/// An actor got what no well-behaved peer sends.
pub const MANNERS: &str = "an actor was sent what RFC 3261 forbids";
/// The journal's numbers are not as they should be.
pub const GAPS: &str = "the journal's sequences have a hole";

/// How much a phone's and an edge's idea of an expiry may differ: the way of the 200.
const EXPIRY_SLACK: Duration = Duration::from_secs(5);

impl World {
    /// Everything that went wrong, the end included.
    #[must_use]
    pub fn judge(&self) -> Vec<Fault> {
        let mut verdict = Oracle::default();
        let at = self.now().mono;
        let journals: BTreeMap<EdgeId, Vec<Recorded>> =
            self.edge_ids().map(|id| (id, self.events(id))).collect();
        self.judge_manners(at, &mut verdict);
        self.judge_legs(at, &mut verdict);
        self.judge_cdrs(at, &journals, &mut verdict);
        self.judge_bindings(at, &mut verdict);
        self.judge_replay(at, &journals, &mut verdict);
        let mut faults = self.oracle().faults().to_vec();
        for journal in journals.values() {
            faults.extend(self.oracle().judge_senders(at, journal));
        }
        faults.extend_from_slice(verdict.faults());
        faults
    }

    fn judge_manners(&self, at: Mono, verdict: &mut Oracle) {
        let phones = self.phones().map(|p| (p.aor(), p.violations()));
        let pbxs = self.pbxs().map(|p| (p.profile().agent.clone(), p.violations()));
        for (who, violations) in phones.chain(pbxs) {
            // A network that reorders makes requests overtake each other.
            let excused = |v: &&Violation| v.what == OUT_OF_ORDER && !self.keeps_order();
            for violation in violations.iter().filter(|v| !excused(v)) {
                verdict.fault(at, MANNERS, format!("{who}: {violation}"));
            }
        }
    }

    fn judge_legs(&self, at: Mono, verdict: &mut Oracle) {
        for (who, alive) in self.legs_alive() {
            if alive > 0 {
                verdict.fault(at, LEG, format!("{who}: {alive}"));
            }
        }
        for id in self.edge_ids() {
            let active = self.edge(id).engine().map_or(0, Engine::calls_active);
            if active > 0 {
                verdict.fault(at, LEG, format!("edge {}: {active} calls", id.0));
            }
        }
    }

    fn judge_cdrs(&self, at: Mono, journals: &BTreeMap<EdgeId, Vec<Recorded>>, verdict: &mut Oracle) {
        let mut ended: BTreeMap<&str, u32> = BTreeMap::new();
        let mut all: BTreeMap<&str, u32> = BTreeMap::new();
        let mut said: Vec<[&str; 2]> = Vec::new();
        let (uids, mut dismissed) = (dismissed(journals), BTreeSet::new());
        let mut late = uids.len();
        for recorded in journals.values().flatten() {
            let (cdr, answered) = match &recorded.event {
                Event::CallEnded(cdr) => (&**cdr, true),
                Event::CallFailed(failed) => (&failed.cdr, false),
                _ => continue,
            };
            let ids = [&*cdr.ingress_call_id, cdr.egress_call_id.as_deref().unwrap_or(&cdr.ingress_call_id)];
            let both: BTreeSet<&str> = ids.into_iter().collect();
            if uids.contains(&&*recorded.correlation) {
                dismissed.extend(both.iter().copied());
            }
            for id in &both {
                *all.entry(id).or_default() += 1;
                if answered {
                    *ended.entry(id).or_default() += 1;
                }
            }
            if answered {
                said.push(ids);
            }
        }
        let mut was_answered = BTreeSet::new();
        for call in self.edge_calls() {
            let id = &*call.call_id;
            let count = |map: &BTreeMap<&str, u32>| map.get(id).copied().unwrap_or(0);
            if call.answered.is_some() {
                was_answered.insert(id);
            }
            // A callee's answer may die on its way; the caller's view, or the callee's ACK, makes a call answered. An answer
            // that came too late has its ACK too (RFC 3261 §13.2.2.4), and a record that says so.
            let answered = match call.side {
                Side::Caller => call.answered.is_some(),
                Side::Callee => call.confirmed.is_some() && !dismissed.contains(id),
            };
            // Of a call that forks, a record names one callee's Call-ID: those that answered too late are only counted.
            if answered && call.side == Side::Callee && count(&all) == 0 && late > 0 {
                late -= 1;
                continue;
            }
            if answered && count(&ended) != 1 {
                verdict.fault(at, CDR, format!("{} ended records: {}", count(&ended), brief(call)));
            }
            if count(&all) > 1 {
                verdict.fault(at, CDR, format!("{} records: {}", count(&all), brief(call)));
            }
        }
        for ids in said.iter().filter(|ids| ids.iter().all(|id| !was_answered.contains(id))) {
            verdict.fault(at, PHANTOM, format!("{ids:?}"));
        }
    }

    fn judge_bindings(&self, at: Mono, verdict: &mut Oracle) {
        for (phone, tenant) in self.registered_phones() {
            let home =
                self.edge_ids().find(|id| self.edge(*id).addresses().any(|a| a == phone.profile().edge));
            let Some(engine) = home.and_then(|id| self.edge(id).engine()) else { continue };
            match phone.registered_until() {
                Some(until) if until > at.plus(EXPIRY_SLACK) => {
                    if let Err(why) = self.binding_of(phone, tenant, until, engine) {
                        verdict.fault(at, BINDING, format!("{} {}: {why}", phone.aor(), phone.contact()));
                    }
                }
                Some(_) => {}
                None if phone.has_left() => {
                    let name = format!("{tenant}/{}", phone.aor());
                    let aor = engine.state().registrations().aor(&name);
                    if aor.is_some_and(|aor| aor.bindings.iter().any(|b| *b.contact == *phone.contact())) {
                        verdict.fault(at, LEFT, name);
                    }
                }
                None => {}
            }
        }
    }

    fn binding_of(&self, phone: &Phone, tenant: &str, until: Mono, engine: &Engine) -> Result<(), String> {
        let name = format!("{tenant}/{}", phone.aor());
        let aor = engine.state().registrations().aor(&name).ok_or("no AoR")?;
        let mut own = aor.bindings.iter().filter(|b| *b.contact == *phone.contact());
        let binding = own.next().ok_or("no binding with its Contact")?;
        let (now, left) = (self.now(), until.since(self.now().mono));
        let ends: Wall = now.wall.plus(left);
        // After a restart a binding lives on for what it was last granted: a refresh may have died with the process.
        let lives = self.edge_ids().map(|id| self.edge(id).lives()).max().unwrap_or(1);
        let again = if lives > 1 { binding.granted_secs } else { 0 };
        let expires_at = binding.expires_at.plus(Duration::from_secs(u64::from(again)));
        if expires_at.plus(EXPIRY_SLACK) < ends {
            return Err(format!("ends {} instead of {ends}", binding.expires_at));
        }
        Ok(())
    }

    fn judge_replay(&self, at: Mono, journals: &BTreeMap<EdgeId, Vec<Recorded>>, verdict: &mut Oracle) {
        for (id, journal) in journals {
            let host = self.edge(*id);
            let (Some(engine), Some(writer)) = (host.engine(), host.writer()) else { continue };
            let gap = journal.iter().zip(1..).find(|(recorded, seq)| recorded.seq.0 != *seq);
            if let Some((recorded, seq)) = gap {
                verdict.fault(at, GAPS, format!("record {} in place {seq}", recorded.seq));
            }
            let (live, replayed) = (events::dump(engine.state()), events::dump(&events::fold_all(writer)));
            let same = |a: &(_, _, Vec<u8>)| replayed.contains(a);
            let differing =
                live.iter().filter(|entry| !same(entry)).map(|(key, seq, _)| format!("{key} at {seq}"));
            let differing: Vec<_> = differing.collect();
            if live.len() != replayed.len() || !differing.is_empty() {
                verdict.fault(at, REPLAY, format!("edge {}: {differing:?}", id.0));
            }
        }
    }
}

/// Calls of which an answer came too late, once for each.
fn dismissed(journals: &BTreeMap<EdgeId, Vec<Recorded>>) -> Vec<&str> {
    let late = |recorded: &&Recorded| matches!(recorded.event, Event::CallDismissed(_));
    journals.values().flatten().filter(late).map(|recorded| &*recorded.correlation).collect()
}

fn brief(call: &CallSeen) -> String {
    format!(
        "{} {:?} {} invited {} ms, answered {:?}, ended {:?}",
        call.call_id,
        call.side,
        call.target,
        call.invited.0 / 1_000_000,
        call.answered.map(|at| at.0 / 1_000_000),
        call.ended.map(|(at, by)| (at.0 / 1_000_000, by)),
    )
}
