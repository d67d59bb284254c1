//! Hostile and tortuous bytes: the messages of RFC 4475 and RFC 5118 in our own words, fuzz targets, and an edge to
//! throw them at.
//!
//! ```text
//!  rfc4475, rfc5118 ─┬─ tests/it: one story a section, through parser and engine
//!                    └─ seeds ─► targets ◄─ mutate (seeded, `make test`)
//!                                  ▲
//!                                  └─ fuzz/ (libFuzzer with coverage, `make fuzz`)
//! ```
//!
//! A [`targets`] function is defined once: bytes in, panic when a promise is broken. The short run in `make test` and the
//! long one in `make fuzz` call the same.

pub mod edge;
pub mod mutate;
pub mod rfc4475;
pub mod rfc5118;
pub mod seeds;
pub mod targets;
pub mod text;
