//! `signalbox`: an event-sourced Session Border Controller.

#![expect(
    unreachable_pub,
    reason = "the modules of a binary are private to it; pub marks what a module offers the others"
)]

mod args;
mod client;
mod config;
mod demo;
mod errors;
mod history;
mod identity;
mod logging;
mod outbox;
mod render;
mod roles;
mod verb;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    match verb::dispatch(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if cli.json {
                eprintln!("{}", failure.object())
            } else {
                eprintln!("{failure}")
            }
            ExitCode::from(failure.exit)
        }
    }
}
