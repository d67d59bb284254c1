//! Figures, printed as they come and written as JSON.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use anyhow::Result;
use serde::Serialize;
use std::path::Path;

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    /// `register`, `call`, `parse` …
    pub part: String,
    /// `signalbox`, `kamailio`, `reflector` …
    pub subject: String,
    /// Offered load, per second; 0 where none is offered.
    pub offered: u64,
    /// What was measured: `cpu_us`, `p99_us`, `lost` …
    pub name: String,
    /// Its value.
    pub value: f64,
}

/// All figures of a run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    figures: Vec<Figure>,
}

/// A figure's goal: the most it may be, or the least.
enum Goal {
    Most(f64),
    Least(f64),
}

/// Goals of figures by themselves: part, figure, goal.
const GOALS: [(&str, &str, Goal); 16] = [
    ("parse", "ns", Goal::Most(600.0)),
    ("parse", "allocations", Goal::Most(0.0)),
    ("forward", "ns", Goal::Most(2000.0)),
    ("register", "p99_us", Goal::Most(5000.0)),
    ("call", "p99_us", Goal::Most(5000.0)),
    ("journal/1000", "events_per_s", Goal::Least(500_000.0)),
    ("memory", "bytes_per_registration", Goal::Most(1024.0)),
    ("memory", "bytes_per_call", Goal::Most(4096.0)),
    ("bus/nats", "of_bare", Goal::Least(0.9)),
    ("bus/kafka", "of_bare", Goal::Least(0.9)),
    ("bus/nats", "p99_away_of_before", Goal::Most(1.2)),
    ("bus/kafka", "p99_away_of_before", Goal::Most(1.2)),
    // From the kill to the end of the backlog. A broker that starts takes a core of this machine for itself meanwhile, which
    // `p99_back_of_before` shows.
    ("bus/nats", "p99_outage_of_before", Goal::Most(1.2)),
    ("bus/kafka", "p99_outage_of_before", Goal::Most(1.2)),
    ("bus/nats", "drain_of_arrival", Goal::Least(10.0)),
    ("bus/kafka", "drain_of_arrival", Goal::Least(10.0)),
];
/// Goals beside Kamailio: the most of its CPU, the least of its loss-free rate.
const CPU_OF_PEER: f64 = 1.0;
const RATE_OF_PEER: f64 = 1.0;

impl Report {
    /// Adds a figure and prints it.
    pub(crate) fn add(&mut self, part: &str, subject: &str, offered: u64, name: &str, value: f64) {
        let at = if offered == 0 { String::new() } else { format!("{offered}/s") };
        println!("{part:<15} {subject:<10} {at:>9}  {name:<22} {value:>14.2}");
        self.figures.push(Figure {
            part: part.into(),
            subject: subject.into(),
            offered,
            name: name.into(),
            value,
        });
    }

    fn find(&self, part: &str, subject: &str, offered: u64, name: &str) -> Option<f64> {
        let mut hits = self
            .figures
            .iter()
            .filter(|f| f.part == part && f.subject == subject && f.offered == offered && f.name == name);
        hits.next().map(|f| f.value)
    }

    /// Writes `report.json`.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        std::fs::write(path, serde_json::to_vec_pretty(self)?)?;
        println!("\nwritten to {}", path.display());
        Ok(())
    }

    /// Says how Signalbox stands to Kamailio at each load, and which goals are met.
    pub(crate) fn judge(&self) {
        println!("\n{:<10} {:>9} {:>12} {:>12} {:>7}", "cpu", "offered", "signalbox", "kamailio", "ratio");
        let mine = || self.figures.iter().filter(|f| f.subject == "signalbox");
        for f in mine().filter(|f| f.name == "cpu_us") {
            if let Some(peer) = self.find(&f.part, "kamailio", f.offered, "cpu_us") {
                let ratio = f.value / peer;
                println!(
                    "{:<10} {:>7}/s {:>9.1} µs {:>9.1} µs {ratio:>7.2}  {}",
                    f.part,
                    f.offered,
                    f.value,
                    peer,
                    met(ratio <= CPU_OF_PEER)
                );
            }
        }
        println!();
        for f in mine().filter(|f| f.name == "loss_free_per_s") {
            if let Some(peer) = self.find(&f.part, "kamailio", f.offered, &f.name) {
                let verdict = if peer > 0.0 { met(f.value >= RATE_OF_PEER * peer) } else { "not judged" };
                println!("{:<10} loss-free {:>8}/s, kamailio {peer:>8}/s  {verdict}", f.part, f.value);
            }
        }
        for (part, name, goal) in GOALS {
            for f in mine().filter(|f| f.part == part && f.name == name) {
                let (sign, limit, good) = match goal {
                    Goal::Most(most) => ("at most", most, f.value <= most),
                    Goal::Least(least) => ("at least", least, f.value >= least),
                };
                let at = if f.offered == 0 { String::new() } else { format!(" at {}/s", f.offered) };
                println!("{part:<13} {name:<23} {:>12.1}, {sign} {limit}{at}  {}", f.value, met(good));
            }
        }
    }
}

fn met(good: bool) -> &'static str {
    if good { "met" } else { "MISSED" }
}
