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
use std::process::ExitCode;

/// What to measure and how long.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    only: Vec<String>,
    /// Offered loads instead of the usual ones.
    rates: Option<Vec<u64>>,
    /// Only this subject.
    subject: Option<String>,
    seconds: u64,
    /// How long the bus's broker is away.
    #[cfg_attr(not(feature = "bus"), allow(dead_code, reason = "only the bus has a broker"))]
    away: u64,
    out: PathBuf,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            only: Vec::new(),
            rates: None,
            subject: None,
            seconds: 6,
            away: 30,
            out: PathBuf::from("target/bench/report.json"),
        }
    }
}

/// What `--only` may name.
const PARTS: [&str; 13] = [
    "micro",
    "engine",
    "engine-register",
    "engine-call",
    "engine-memory",
    "journal",
    "reflector",
    "register",
    "call",
    "dialog",
    "memory",
    "limit",
    "bus",
];

const USAGE: &str = "signalbox-bench [options]

  --only PART,…       only these parts:
                      micro, engine, engine-register, engine-call, engine-memory, journal, reflector,
                      register, call, dialog, memory, limit, bus
  --rates N,…         offered a second, instead of the usual loads of register and call
  --subject NAME      only signalbox, or only kamailio
  --seconds N         how long each load is offered (6)
  --away SECONDS      how long the bus's broker is away (30; 120 for figures that are published)
  --out FILE          where the report is written (target/bench/report.json)";

/// What the words ask for; nothing when they ask for help. The error is one line.
fn plan(mut words: impl Iterator<Item = String>) -> Result<Option<Plan>, String> {
    fn number(text: &str) -> Result<u64, String> {
        text.parse().map_err(|_| format!("\"{text}\" is no number"))
    }
    let mut plan = Plan::default();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "-h" | "--help" => return Ok(None),
            "--only" => plan.only = value()?.split(',').map(str::to_owned).collect(),
            "--rates" => plan.rates = Some(value()?.split(',').map(number).collect::<Result<_, _>>()?),
            "--subject" => plan.subject = Some(value()?),
            "--seconds" => plan.seconds = number(&value()?)?,
            "--away" => plan.away = number(&value()?)?,
            "--out" => plan.out = value()?.into(),
            _ => return Err(format!("there is no option {word}")),
        }
    }
    if let Some(part) = plan.only.iter().find(|part| !PARTS.contains(&part.as_str())) {
        return Err(format!("there is no part {part}"));
    }
    let is_known = |name: &str| ["signalbox", "kamailio"].contains(&name);
    match plan.subject.as_deref().filter(|name| !is_known(name)) {
        Some(name) => Err(format!("there is no subject {name}")),
        None => Ok(Some(plan)),
    }
}

#[expect(clippy::print_stdout, reason = "help goes where what was asked for goes")]
fn main() -> ExitCode {
    let plan = match plan(std::env::args().skip(1)) {
        Ok(Some(plan)) => plan,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(wrong) => {
            eprintln!("signalbox-bench: {wrong}; --help lists what there is");
            return ExitCode::from(2);
        }
    };
    match measure(&plan) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("signalbox-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(plan: &Plan) -> Result<()> {
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
    scenario::run(&mut report, plan, &wants)?;
    #[cfg(feature = "bus")]
    if wants("bus") {
        bus::run(&mut report, plan)?;
    }
    report.write(&plan.out)?;
    report.judge();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{PARTS, Plan, USAGE, plan};

    fn read(line: &str) -> Result<Option<Plan>, String> {
        plan(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn given_words_then_they_are_the_plan() {
        let plan = read("--only bus,limit --away 120 --rates 5,10").unwrap().unwrap();
        assert_eq!((plan.away, plan.rates), (120, Some(vec![5, 10])));
        assert_eq!(plan.only, ["bus", "limit"]);
        assert_eq!(read("").unwrap().unwrap().away, 30);
        assert!(read("--only bus --help").unwrap().is_none());
        assert!(PARTS.iter().all(|part| USAGE.contains(part)));
    }

    #[test]
    fn given_a_wrong_word_then_one_line_names_it() {
        for (line, named) in [
            ("--onyl bus", "--onyl"),
            ("--only buss", "buss"),
            ("--seconds soon", "soon"),
            ("--away", "--away"),
            ("--subject asterisk", "asterisk"),
        ] {
            let wrong = read(line).unwrap_err();
            assert!(wrong.contains(named) && !wrong.contains('\n'), "{wrong}");
        }
    }
}
