//! Stories of the simulated world, and the rules that the code's shape keeps.
//!
//! A story that proves a promise of DESIGN.md §11 bears its number. One that fails prints how to run it again.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod architecture;
mod calls;
mod carriers;
mod devices;
mod early;
mod edges;
mod failover;
mod nat;
mod promise_1;
mod promise_2;
mod promise_3;
mod promise_6;
mod promise_8;
mod races;
mod registrar;
mod registrations;
mod reinvites;
mod sessions;
mod tenants;
mod tidy;
mod town;
mod transfers;
