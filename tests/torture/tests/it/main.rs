//! Torture: each section of RFC 4475 and RFC 5118 as a story through parser and engine, another's parser as an oracle,
//! short runs of the fuzz targets, and what parsing may cost.

mod findings;
mod fuzz;
mod oracle;
mod rfc4475_application;
mod rfc4475_invalid;
mod rfc4475_valid;
mod rfc5118;
mod sections;
mod story;

use std::io::Write;

/// A line of results. The test harness swallows what passing tests print; these are wanted.
fn say(line: &str) {
    let mut out = std::io::stderr().lock();
    // Nobody can be told that nobody can be told.
    let _ = writeln!(out, "{line}");
}
