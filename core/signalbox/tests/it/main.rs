//! The binary as a person at a terminal meets it, where no running edge is needed.

mod commands;
mod journal;
