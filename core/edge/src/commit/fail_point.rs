//! A point where the process kills itself, for tests: between a commit and its send, or between the send and everybody
//! hearing of it. Inert unless the environment arms it at the start.
//!
//! `SIGNALBOX_FAIL_POINT=<seam>:<n>[:<type>]`, for example `after-commit:3:call.answered`. Seams:
//!
//! - `after-commit`: the records are durable, nothing that waited for them has been sent.
//! - `after-send`: it has been sent, and the engine does not know yet.
//!
//! The process ends by SIGKILL, as in a crash, when the seam is reached for the `n`-th time by a commit that holds a
//! message back; with a type, by one that holds a message back behind a record of this type or domain.

use super::Batch;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signalbox_engine::Release;

const VARIABLE: &str = "SIGNALBOX_FAIL_POINT";

/// Where it may die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seam {
    /// After the fsync, before the first send.
    AfterCommit,
    /// After the last send, before the engine hears of it.
    AfterSend,
}

/// An armed fail point.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FailPoint {
    seam: Seam,
    /// Times the seam is still passed, the fatal one included.
    left: u32,
    /// Domain or type that a message must wait for; empty for any.
    kind: String,
}

impl FailPoint {
    /// What the environment arms. That it does is in the log, and so is what cannot be read, which arms nothing: an edge
    /// that serves is worth more than a test that waits.
    pub(super) fn from_environment() -> Option<Self> {
        let text = std::env::var_os(VARIABLE)?.to_string_lossy().into_owned();
        let armed = Self::parse(&text);
        match &armed {
            Some(point) => tracing::warn!(
                ?point,
                "{VARIABLE} is set: this process will kill itself; it is meant for tests"
            ),
            None => tracing::error!(
                text,
                "{VARIABLE} is not <after-commit|after-send>:<n>[:<type>]; it is ignored"
            ),
        }
        armed
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ':');
        let seam = match parts.next()? {
            "after-commit" => Seam::AfterCommit,
            "after-send" => Seam::AfterSend,
            _ => return None,
        };
        let left = parts.next()?.parse().ok().filter(|n| *n > 0)?;
        Some(Self { seam, left, kind: parts.next().unwrap_or_default().to_owned() })
    }

    /// The batches of one commit pass `seam`: whether the process has to die here.
    pub(super) fn is_fatal(&mut self, seam: Seam, batches: &[Batch]) -> bool {
        if seam != self.seam || !batches.iter().any(|batch| self.holds_back(batch)) {
            return false;
        }
        self.left -= 1;
        self.left == 0
    }

    /// Whether a message of the batch waits for a record of the kind, or for one that came after it.
    fn holds_back(&self, batch: &Batch) -> bool {
        let last_held = batch.outbox.transmits.iter().filter_map(|transmit| match transmit.release {
            Release::After(seq) => Some(seq),
            Release::Now(_) => None,
        });
        let Some(last_held) = last_held.max() else { return false };
        self.kind.is_empty() || batch.outbox.records.iter().any(|r| r.seq <= last_held && self.covers(r.kind))
    }

    fn covers(&self, kind: &str) -> bool {
        kind.strip_prefix(self.kind.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

/// kill -9 of this process; no line of ours runs after it.
pub(super) fn die() -> ! {
    // It cannot fail: a process may always kill itself.
    let _ = kill(Pid::this(), Signal::SIGKILL);
    loop {
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use signalbox_base::{EventSeq, Flow, ListenerId, Text, Wall};
    use signalbox_engine::{ClassB, RecordOut, Transmit};

    fn point(text: &str) -> FailPoint {
        FailPoint::parse(text).unwrap()
    }

    fn record(seq: u64, kind: &'static str) -> RecordOut {
        RecordOut {
            seq: EventSeq(seq),
            wall: Wall(0),
            kind,
            tenant: Text::default(),
            subject: Text::default(),
            correlation: Text::default(),
            traceparent: 0..0,
            causation: EventSeq(0),
            data: 0..0,
            private: 0..0,
            urgent: true,
        }
    }

    fn batch(records: Vec<RecordOut>, release: Release) -> Batch {
        let mut batch = Batch::default();
        batch.outbox.records = records;
        let address = "192.0.2.1:5060".parse().unwrap();
        let flow = Flow::udp(ListenerId(0), address, address);
        batch.outbox.transmits.push(Transmit { release, flow, bytes: 0..0, ticket: None });
        batch
    }

    #[test]
    fn given_text_that_arms_nothing_then_it_is_refused() {
        for text in
            ["", "after-commit", "after-commit:", "after-commit:0", "after-commit:-1", "before-commit:1"]
        {
            assert_eq!(FailPoint::parse(text), None, "{text}");
        }
        assert_eq!(point("after-send:12").left, 12);
    }

    #[test]
    fn given_a_count_when_commits_hold_messages_back_then_only_that_one_is_fatal() {
        let mut armed = point("after-commit:2");
        let held = [batch(vec![record(1, "call.answered.v1")], Release::After(EventSeq(1)))];
        let free = [batch(vec![record(2, "call.progressed.v1")], Release::Now(ClassB::Provisional))];
        let fatal = [&held, &free, &held].map(|batches| armed.is_fatal(Seam::AfterCommit, batches));
        assert_eq!(fatal, [false, false, true]);
        assert!(!point("after-commit:1").is_fatal(Seam::AfterSend, &held));
    }

    #[test]
    fn given_a_type_when_messages_wait_for_other_records_then_the_commit_does_not_count() {
        let mut armed = point("after-send:1:call.answered");
        let other = [batch(vec![record(1, "call.answered_twice.v1")], Release::After(EventSeq(1)))];
        let later = [batch(
            vec![record(1, "call.routed.v1"), record(2, "call.answered.v1")],
            Release::After(EventSeq(1)),
        )];
        let this = [batch(
            vec![record(1, "call.answered.v1"), record(2, "call.routed.v1")],
            Release::After(EventSeq(2)),
        )];
        let fatal = [&other, &later, &this].map(|batches| armed.is_fatal(Seam::AfterSend, batches));
        assert_eq!(fatal, [false, false, true]);
    }
}
