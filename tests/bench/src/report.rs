//! Figures, printed as they come and written as JSON.

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

/// What issue and README promise: part, figure, offered load from, and the most it may be.
const GOALS: [(&str, &str, u64, f64); 4] = [
    ("parse", "ns", 0, 600.0),
    ("parse", "allocations", 0, 0.0),
    ("forward", "ns", 0, 2000.0),
    ("call", "p99_us", 0, 5000.0),
];

impl Report {
    /// Adds a figure and prints it.
    pub(crate) fn add(&mut self, part: &str, subject: &str, offered: u64, name: &str, value: f64) {
        let at = if offered == 0 { String::new() } else { format!("{offered}/s") };
        println!("{part:<10} {subject:<10} {at:>9}  {name:<22} {value:>14.2}");
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

    /// Says where a goal is missed, and how Signalbox stands to Kamailio at each load.
    pub(crate) fn judge(&self) {
        println!("\n{:<10} {:>9} {:>12} {:>12} {:>7}", "cpu", "offered", "signalbox", "kamailio", "ratio");
        for f in self.figures.iter().filter(|f| f.subject == "signalbox" && f.name == "cpu_us") {
            if let Some(peer) = self.find(&f.part, "kamailio", f.offered, "cpu_us") {
                println!(
                    "{:<10} {:>7}/s {:>9.1} µs {:>9.1} µs {:>7.2}",
                    f.part,
                    f.offered,
                    f.value,
                    peer,
                    f.value / peer
                );
            }
        }
        for (part, name, from, most) in GOALS {
            let mine = self
                .figures
                .iter()
                .filter(|f| f.part == part && f.name == name && f.offered >= from && f.subject != "kamailio");
            for f in mine.filter(|f| f.value > most) {
                println!("goal missed: {part} {name} {:.1} > {most} at {}/s", f.value, f.offered);
            }
        }
    }
}
