//! Counterparts without I/O: a phone, a small PBX and an attacker, for the demo, the simulated world and load tests.
//!
//! Each is a value that is driven: hand it datagrams with `handle`, wake it with `due` when `next_due` has come, and
//! send what it puts into the outbox. Time and seeds are arguments, so a run is the same each time.
//!
//! ```text
//!  Phone ─┐                     ┌─ what it saw: `Observed`, `CallSeen`
//!         ├─ line: INVITE dialogs ┤
//!  Pbx  ──┘   └─ ua: transactions └─ what was wrong with it: `Violation`
//! ```
//!
//! Each writes and behaves as a [`Device`] of the market, when its profile names one.
//!
//! They are strict readers: what they receive is held against RFC 3261, and whatever no well-behaved edge would send is
//! kept as a [`Violation`] for the test to find.

mod agenda;
mod attacker;
mod check;
mod datagram;
mod devices;
mod line;
mod login;
mod offer;
mod pbx;
mod phone;
mod random;
mod seen;
mod ua;

pub use attacker::{Attack, Attacker, AttackerProfile, mutate};
pub use check::{OUT_OF_ORDER, Violation};
pub use datagram::Datagram;
pub use devices::Device;
pub use pbx::{Pbx, PbxContact, PbxProfile, PbxState, PbxUser, Service, Verdict};
pub use phone::{Answer, CallPlan, Phone, PhoneProfile};
pub use random::Random;
pub use seen::{CallSeen, EndedBy, LegId, Observed, Seen, Side};
pub use ua::ACTOR;

#[cfg(test)]
mod tests;
