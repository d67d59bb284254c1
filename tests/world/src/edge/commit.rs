//! The commit as it happens in time, and where a crash can hit it.

use super::life::STALLED_AFTER;
use super::{EdgeHost, Effect};
use crate::oracle::Oracle;
use signalbox_actors::Random;
use signalbox_base::Now;
use signalbox_engine::Input;
use std::time::Duration;

/// Operations of a commit that a crash may fall between: writes and syncs of a batch or two, a new segment, the mark.
pub(super) const DIE_WITHIN_OPERATIONS: u64 = 12;
/// A usual commit's shortest time.
const COMMIT_MIN: Duration = Duration::from_micros(200);
/// A usual commit's longest time.
const COMMIT_MAX_MICROS: u64 = 4_000;
/// Of 1,000 commits so many take long enough that the engine is told.
pub(super) const STALLS: u64 = 2;

/// What dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process: what it wrote stays readable.
    Process,
    /// The machine: what was not synced may be gone, whole or in part.
    Power,
}

/// Where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPoint {
    /// After this commit (counted from 1, over all lives) is durable and before anything it held back is sent.
    BetweenCommitAndSend(u64),
    /// After this commit, with the first message it held back sent and the others not.
    AmidSending(u64),
    /// In the middle of this commit: the seed decides how much of it reaches the disk.
    AmidCommit(u64),
}

impl EdgeHost {
    /// A commit may be due.
    pub(crate) fn commit_due(&mut self, now: Now, random: &mut Random, effects: &mut Vec<Effect>) {
        let Some(life) = self.life.as_mut() else { return };
        if life.committing.is_some() {
            return;
        }
        let next = life.policy.next(now.mono, &life.queue);
        if next != signalbox_journal::CommitAt::Now {
            return life.plan_commit(now, effects);
        }
        life.append_all(now.wall);
        life.queue.started(now.mono);
        life.committing = Some(now.mono);
        let takes = if random.chance(self.stalls) {
            STALLED_AFTER + Duration::from_millis(1 + random.below(400))
        } else {
            COMMIT_MIN + Duration::from_micros(random.below(COMMIT_MAX_MICROS))
        };
        effects.push(Effect::CommitEnds { at: now.mono.plus(takes) });
        if takes > STALLED_AFTER {
            effects.push(Effect::LookForStall { at: now.mono.plus(STALLED_AFTER) });
        }
    }

    /// The commit under way ends: it becomes durable, and what it held back leaves, unless the edge dies first.
    pub(crate) fn commit_ends(
        &mut self,
        now: Now,
        random: &mut Random,
        oracle: &mut Oracle,
        effects: &mut Vec<Effect>,
    ) {
        let Some(mut life) = self.life.take() else { return };
        if life.committing.take().is_none() {
            self.life = Some(life);
            return;
        }
        let number = self.commits + 1;
        if let Some(how) = self.dies(CrashPoint::AmidCommit(number)) {
            life.commit_in_part(now.wall, self, random);
            return self.die(how, effects);
        }
        life.durable = life.writer.commit(now.wall).expect("this disk does not fail by itself");
        self.commits = number;
        if let Some(how) = self.dies(CrashPoint::BetweenCommitAndSend(number)) {
            return self.die(how, effects);
        }
        if let Some(how) = self.dies(CrashPoint::AmidSending(number)) {
            life.release(now, 1, oracle, effects, self);
            return self.die(how, effects);
        }
        life.release(now, usize::MAX, oracle, effects, self);
        life.turn(now, Input::Committed(life.durable), oracle, effects, self);
        if std::mem::take(&mut life.stalled) {
            life.turn(now, Input::Stalled(false), oracle, effects, self);
        }
        life.plan_commit(now, effects);
        self.life = Some(life);
    }

    /// Tells the engine when the commit under way takes long.
    pub(crate) fn look_for_stall(&mut self, now: Now, oracle: &mut Oracle, effects: &mut Vec<Effect>) {
        let Some(mut life) = self.life.take() else { return };
        let stalls = life.committing.is_some_and(|since| now.mono.since(since) >= STALLED_AFTER);
        if stalls && !life.stalled {
            life.stalled = true;
            life.turn(now, Input::Stalled(true), oracle, effects, self);
        }
        self.life = Some(life);
    }

    fn dies(&mut self, at: CrashPoint) -> Option<Crash> {
        let (_, how) = self.crash_at.take_if(|(point, _)| *point == at)?;
        Some(how)
    }

    fn die(&mut self, how: Crash, effects: &mut Vec<Effect>) {
        self.crash(how);
        effects.push(Effect::Died);
    }
}
