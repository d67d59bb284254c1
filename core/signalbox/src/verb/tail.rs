//! `signalbox tail`: events, one line each, live or from a time on.

use super::{Out, load_config, now, runtime};
use crate::args::{Cli, TailArgs};
use crate::errors::Failure;
use crate::history::{History, Range, kinds};
use crate::render::Line;
use signalbox_bus::wire::structured;
use signalbox_bus::{Delivered, Filter, Start};
use std::collections::VecDeque;

/// Prints the wanted history, then follows.
pub fn run(cli: &Cli, args: &TailArgs) -> Result<(), Failure> {
    let out = Out::new(cli);
    let file = load_config(cli)?.file;
    let range = Range::of(&args.window, now())?;
    runtime()?.block_on(async {
        let history =
            range.from.is_some() || range.to.is_some() || args.window.last.is_some() || args.no_follow;
        let start = match range.from {
            Some(from) => Start::Time(from),
            None if history => Start::Beginning,
            None => Start::End,
        };
        let filter = Filter {
            kinds: kinds(args.pattern.as_deref())?,
            tenants: args.window.tenant.iter().cloned().collect(),
        };
        let mut source = History::open(&file, filter, start).await?;
        let printer = Printer::new(&out);
        if history {
            past(&mut source, &printer, range, args.window.last).await?;
        }
        if args.no_follow || range.to.is_some() {
            return Ok(());
        }
        loop {
            for event in source.next().await?.events {
                printer.print(&event)?;
            }
        }
    })
}

/// Prints what is recorded; with a number only the last so many.
async fn past(
    source: &mut History,
    printer: &Printer<'_>,
    range: Range,
    last: Option<usize>,
) -> Result<(), Failure> {
    let mut kept: VecDeque<Delivered> = VecDeque::new();
    source
        .all(|event| {
            if !range.contains(event.time) {
                return Ok(());
            }
            let Some(last) = last else { return printer.print(&event) };
            kept.push_back(event);
            if kept.len() > last {
                kept.pop_front();
            }
            Ok(())
        })
        .await?;
    kept.iter().try_for_each(|event| printer.print(event))
}

/// Prints events as lines, or as CloudEvents.
pub struct Printer<'a> {
    out: &'a Out,
}

impl<'a> Printer<'a> {
    /// To standard output.
    pub fn new(out: &'a Out) -> Self {
        Self { out }
    }

    /// One event.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn print(&self, event: &Delivered) -> Result<(), Failure> {
        if self.out.json {
            self.out.line(&String::from_utf8_lossy(&structured(event)))
        } else {
            self.out.line(&Line::of(event, &self.out.clock).print())
        }
    }
}
