//! The verbs, one file each, and what they share: output and the configuration.

mod check;
mod explain;
mod init;
mod live;
mod schema;

use crate::args::{Cli, Verb};
use crate::config::{self, Loaded};
use crate::errors::Failure;
use crate::render::{Clock, Screen, Table};
use clap::CommandFactory;
use serde::Serialize;
use std::io::Write;

/// Does what the command line says.
pub fn dispatch(cli: &Cli) -> Result<(), Failure> {
    match &cli.verb {
        Verb::Check(args) => check::run(cli, args),
        Verb::Init(args) => init::run(cli, args),
        Verb::Explain(args) => explain::run(cli, args),
        Verb::Schema(args) => schema::run(cli, args),
        Verb::Completions { shell } => {
            clap_complete::generate(*shell, &mut crate::args::Cli::command(), "signalbox", &mut std::io::stdout());
            Ok(())
        }
    }
}

/// Finds and loads the configuration that the command line and the environment name.
pub fn load_config(cli: &Cli) -> Result<Loaded, Failure> {
    let path = config::find(cli.config.as_deref())?;
    Ok(config::load(&path, std::env::vars())?)
}

/// Standard output as the command line wants it.
#[derive(Debug)]
pub struct Out {
    /// One object a line.
    pub json: bool,
    /// The terminal.
    pub screen: Screen,
    /// The zone of times.
    pub clock: Clock,
}

impl Out {
    /// From the global flags.
    pub fn new(cli: &Cli) -> Self {
        Self { json: cli.json, screen: Screen::stdout(), clock: Clock::new(cli.utc) }
    }

    /// A line of text. A reader that went away (`| head`) ends the program quietly.
    pub fn line(&self, text: &str) -> Result<(), Failure> {
        quiet_pipe(writeln!(std::io::stdout().lock(), "{text}"))
    }

    /// One JSON object on one line.
    pub fn object(&self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).expect("rows have text keys only");
        self.line(&text)
    }

    /// A table.
    pub fn table(&self, table: &Table) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        quiet_pipe(out.write_all(table.render(&self.screen).as_bytes()).and_then(|()| out.flush()))
    }
}

fn quiet_pipe(result: std::io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => Ok(other?),
    }
}
