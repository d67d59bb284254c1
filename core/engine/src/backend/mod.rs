//! Backends: are they there, and which one is next.

mod asked;
mod health;
mod pool;
mod probe;
mod sites;

pub(crate) use asked::Asked;
pub use health::{Backends, Change};
pub use pool::{Candidate, Candidates, candidates};
pub(crate) use pool::{Wanted, flow_to, in_group, registrars};
pub use probe::on_traffic;
pub(crate) use probe::{on_command, on_ended, on_resolved, on_response, on_timer, reload, resume};
pub(crate) use sites::flows_to;
