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

/// Doubles the rate until something is lost.
fn highest(report: &mut Report, kind: Kind, part: &str, work: Work, first: u64) -> Result<()> {
    let (mut rate, mut best) = (first, 0);
    while rate <= first * 16 {
        let (mut load, _subject) = ready(kind)?;
        if load.run(work, rate, 3)?.lost() > 0 {
            break;
        }
        best = rate;
        rate = rate * 3 / 2;
    }
    report.add(part, kind.name(), 0, "loss_free_per_s", best as f64);
    Ok(())
}
