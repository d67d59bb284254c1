//! The contract that users build on: the types of every event, their envelope and their schemas.
//!
//! - one module per domain with the events' `data` structs, [`values`] and [`words`] inside them;
//! - [`Kind`] and [`Event`] over all of them, [`Event::read`] upcasts what older releases wrote;
//! - [`envelope`]: the CloudEvents 1.0.2 envelope, written around `data` without parsing it;
//! - [`schema`]: JSON Schemas and the AsyncAPI document, generated from the types;
//! - [`page`]: the same for people.
//!
//! Nothing here does I/O, reads a clock or draws randomness.

pub mod admin;
mod asyncapi;
pub mod backend;
pub mod call;
mod catalogue;
pub mod config;
pub mod edge;
pub mod envelope;
mod event;
pub mod journal;
mod json;
pub mod page;
pub mod projection;
pub mod registration;
pub mod schema;
pub mod security;
pub mod subscription;
mod upcast;
pub mod values;
pub mod words;
mod yaml;

pub use catalogue::{Aggregate, Event, Kind};
pub use event::{EventData, ReadError, TYPE_PREFIX};
