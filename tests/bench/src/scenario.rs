//! The scenarios, offered to both subjects in the same run.

use crate::load::{Load, Outcome, Work};
use crate::report::Report;
use crate::subject::{Kind, Subject};
use crate::{Plan, cpu};
use anyhow::Result;

fn kinds(plan: &Plan) -> Vec<Kind> {
    let wanted = |kind: &Kind| plan.subject.as_deref().is_none_or(|name| name == kind.name());
    [Kind::Signalbox, Kind::Kamailio].into_iter().filter(wanted).collect()
}

/// Runs what is wanted.
pub(crate) fn run(report: &mut Report, plan: &Plan, wants: &dyn Fn(&str) -> bool) -> Result<()> {
    if wants("register") {
        for rate in plan.rates.clone().unwrap_or_else(|| vec![500, 2_000, 10_000]) {
            each(report, plan, "register", Work::Register, rate)?;
        }
    }
    if wants("call") {
        for rate in plan.rates.clone().unwrap_or_else(|| vec![200, 1_000, 3_000]) {
            each(report, plan, "call", Work::Call, rate)?;
        }
    }
    if wants("dialog") {
        for kind in kinds(plan) {
            inside(report, plan, kind)?;
        }
    }
    if wants("memory") {
        for kind in kinds(plan) {
            memory(report, kind)?;
        }
    }
    if wants("limit") {
        for kind in kinds(plan) {
            highest(report, kind, "register", Work::Register, 4_000)?;
            highest(report, kind, "call", Work::Call, 1_000)?;
        }
    }
    Ok(())
}

fn ready(kind: Kind) -> Result<(Load, Subject)> {
    let mut load = Load::new()?;
    let subject = Subject::start(kind, load.backend())?;
    load.aim(subject.address);
    load.register_callers()?;
    Ok((load, subject))
}

fn each(report: &mut Report, plan: &Plan, part: &str, work: Work, rate: u64) -> Result<()> {
    for kind in kinds(plan) {
        let (mut load, subject) = ready(kind)?;
        measured(report, part, &mut load, &subject, work, rate, plan.seconds)?;
    }
    Ok(())
}

fn measured(
    report: &mut Report,
    part: &str,
    load: &mut Load,
    subject: &Subject,
    work: Work,
    rate: u64,
    seconds: u64,
) -> Result<Outcome> {
    let before = cpu::used(subject.pid());
    let outcome = load.run(work, rate, seconds)?;
    let spent = cpu::used(subject.pid()).saturating_sub(before);
    let name = subject.kind.name();
    report.add(part, name, rate, "cpu_us", spent.as_secs_f64() * 1e6 / outcome.done.max(1) as f64);
    report.add(part, name, rate, "lost", outcome.lost() as f64);
    report.add(part, name, rate, "achieved_per_s", outcome.done as f64 / outcome.wall.as_secs_f64());
    report.add(part, name, rate, "p50_us", outcome.hop_us.value_at_quantile(0.5) as f64);
    report.add(part, name, rate, "p99_us", outcome.hop_us.value_at_quantile(0.99) as f64);
    Ok(outcome)
}

fn inside(report: &mut Report, plan: &Plan, kind: Kind) -> Result<()> {
    let (mut load, subject) = ready(kind)?;
    load.run(Work::CallAndStay, 200, 1)?;
    for rate in [500, 4_000] {
        measured(report, "dialog", &mut load, &subject, Work::Inside, rate, plan.seconds)?;
    }
    Ok(())
}

fn memory(report: &mut Report, kind: Kind) -> Result<()> {
    let (mut load, subject) = ready(kind)?;
    let empty = cpu::resident(subject.pid());
    let registered = load.run(Work::Register, 5_000, 20)?;
    let with_bindings = cpu::resident(subject.pid());
    let calls = load.run(Work::CallAndStay, 1_000, 10)?;
    let with_calls = cpu::resident(subject.pid());
    let each = |from: u64, to: u64, count: u64| to.saturating_sub(from) as f64 / count.max(1) as f64;
    report.add(
        "memory",
        kind.name(),
        0,
        "bytes_per_registration",
        each(empty, with_bindings, registered.done),
    );
    report.add("memory", kind.name(), 0, "bytes_per_call", each(with_bindings, with_calls, calls.done));
    Ok(())
}

/// Each rate is held when one of so many tries loses nothing: one try may meet whatever else the machine does.
const TRIES: u32 = 2;
/// Seconds of a try.
const TRY_SECONDS: u64 = 3;
/// Rates are tried up to so many times the first, and down to so much of it.
const AROUND_FIRST: u64 = 16;

/// Tells the highest rate that loses nothing; zero is none, and nothing is judged by it.
fn highest(report: &mut Report, kind: Kind, part: &str, work: Work, first: u64) -> Result<()> {
    let best = climb(first, |rate| {
        for _ in 0..TRIES {
            let (mut load, _subject) = ready(kind)?;
            if load.run(work, rate, TRY_SECONDS)?.lost() == 0 {
                return Ok(true);
            }
        }
        Ok(false)
    })?;
    report.add(part, kind.name(), 0, "loss_free_per_s", best.unwrap_or(0) as f64);
    Ok(())
}

/// The highest rate that holds, in steps of a half: up from the first, or down from it when that is too much.
fn climb(first: u64, mut holds: impl FnMut(u64) -> Result<bool>) -> Result<Option<u64>> {
    let step = |rate: u64, up: bool| if up { rate * 3 / 2 } else { rate * 2 / 3 };
    let up = holds(first)?;
    let (mut best, mut rate) = (up.then_some(first), step(first, up));
    while best.is_some() == up && (first / AROUND_FIRST..=first * AROUND_FIRST).contains(&rate) {
        match (holds(rate)?, up) {
            (true, _) => best = Some(rate),
            (false, true) => break,
            (false, false) => {}
        }
        rate = step(rate, up);
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::climb;

    /// Where a subject that holds up to `limit` ends, and what it was asked.
    fn climbed(limit: u64) -> (Option<u64>, Vec<u64>) {
        let mut asked = Vec::new();
        let best = climb(1000, |rate| {
            asked.push(rate);
            Ok(rate <= limit)
        });
        (best.unwrap(), asked)
    }

    #[test]
    fn given_a_limit_above_or_below_the_first_rate_then_the_last_step_under_it_is_found() {
        assert_eq!(climbed(2500), (Some(2250), vec![1000, 1500, 2250, 3375]));
        assert_eq!(climbed(500), (Some(444), vec![1000, 666, 444]));
    }

    #[test]
    fn given_no_limit_or_no_rate_that_holds_then_it_ends() {
        assert_eq!(climbed(0).0, None);
        assert!(climbed(u64::MAX).0.is_some_and(|best| (8_000..=16_000).contains(&best)));
    }
}
