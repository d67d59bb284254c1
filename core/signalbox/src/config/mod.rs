//! The configuration: found, read, merged, checked, explained, and turned into the engine's settings.
//!
//! `load` finds and reads the files and keeps where each value came from ([`span`]); `env` overlays the environment;
//! `check` judges meaning, `bus` that of `[bus]`; `settings` builds what the engine runs on; `explain` prints values with their origin.

mod backend;
mod bus;
mod calls;
mod check;
pub mod cluster;
mod connections;
mod dns;
mod env;
mod explain;
mod headers;
mod journal;
mod limits;
mod load;
pub mod model;
mod outbound;
mod place;
mod registrar;
mod route;
#[cfg(test)]
mod route_tests;
mod rules;
mod secret;
mod settings;
mod span;
mod template;
#[cfg(test)]
mod tests;
mod tls;
mod trunk;
pub mod value;

pub use cluster::is_for_edges;
pub use explain::{diff, explain, show};
pub use load::{Loaded, data_dir_of_broken, find, load};
pub use settings::{Effective, Keys, effective_json, sha256_hex};
pub use span::Problems;
pub use tls::streams;

/// JSON Schema (2020-12) of the configuration file, for editors and `signalbox schema config`.
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(model::File).to_value()
}
