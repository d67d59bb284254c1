//! Stories of the built binary among real peers: Kamailio, Asterisk, SIPp, PostgreSQL, a real NAT.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod authority;
mod bad_input;
mod brokered;
mod buses;
mod carriers;
mod clients;
mod commands;
mod compose;
mod crowds;
mod edges;
mod edges_tls;
mod examples;
mod failover;
mod full_disk;
mod given;
mod hiding;
mod kills;
mod names;
mod nat;
mod one_contact;
mod operations;
mod peers;
mod providers;
mod readme;
mod registrar;
mod registrations;
mod replays;
mod rollback;
mod standby;
mod starting;
mod streams;
mod tables;
mod tables_on_buses;
mod tenancy_on_buses;
mod tenants;
mod watching;
