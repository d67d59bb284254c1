//! `make bench`: what Signalbox costs, beside Kamailio on the same scenarios, machine and minute.
//!
//! Figures on a shared machine are noisy: read the ratios within one run. Written to `target/bench/report.json`.

#[cfg(feature = "bus")]
mod bus;
mod cpu;
mod engine;
mod journal;
mod load;
mod messages;
mod micro;
mod reflector;
mod report;
mod scenario;
mod subject;

use anyhow::Result;
use report::Report;
use std::path::PathBuf;

/// What to measure and how long.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    only: Vec<String>,
    /// Offered loads instead of the usual ones.
    rates: Option<Vec<u64>>,
    /// Only this subject.
    subject: Option<String>,
    seconds: u64,
    out: PathBuf,
}

const HELP: &str = "signalbox-bench [--only micro,engine,engine-register,engine-call,engine-memory,journal,reflector,register,call,dialog,memory,limit,bus] [--rates N,N] [--subject signalbox|kamailio] [--seconds N] [--out FILE]";

fn plan() -> Result<Plan> {
    let mut plan = Plan {
        only: Vec::new(),
        rates: None,
        subject: None,
        seconds: 6,
        out: PathBuf::from("target/bench/report.json"),
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| anyhow::anyhow!("{arg} needs a value; {HELP}"));
        match arg.as_str() {
            "--only" => plan.only = value()?.split(',').map(str::to_owned).collect(),
            "--rates" => plan.rates = Some(value()?.split(',').map(str::parse).collect::<Result<_, _>>()?),
            "--subject" => plan.subject = Some(value()?),
            "--seconds" => plan.seconds = value()?.parse()?,
            "--out" => plan.out = value()?.into(),
            _ => anyhow::bail!("{HELP}"),
        }
    }
    Ok(plan)
}

fn main() -> Result<()> {
    let plan = plan()?;
    let wants = |part: &str| plan.only.is_empty() || plan.only.iter().any(|p| p == part);
    let mut report = Report::default();
    if wants("micro") {
        micro::run(&mut report);
    }
    if wants("engine") || wants("engine-register") {
        engine::registers(&mut report, plan.seconds)?;
    }
    if wants("engine") || wants("engine-call") {
        engine::calls(&mut report, plan.seconds)?;
    }
    if wants("engine") || wants("engine-memory") {
        engine::memory(&mut report)?;
    }
    if wants("journal") {
        journal::run(&mut report)?;
    }
    if wants("reflector") {
        reflector::run(&mut report, plan.seconds)?;
    }
    scenario::run(&mut report, &plan, &wants)?;
    #[cfg(feature = "bus")]
    if wants("bus") {
        bus::run(&mut report, &plan)?;
    }
    report.write(&plan.out)?;
    report.judge();
    Ok(())
}
