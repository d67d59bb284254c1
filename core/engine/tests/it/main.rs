//! Stories of the engine: given a configuration, when messages come, then what is sent and recorded.

mod streams;
mod support;

mod backends;
mod call_basic;
mod call_cancel;
mod call_chaos;
mod call_crash;
mod call_dialog;
mod call_failover;
mod call_fork;
mod call_isolation;
mod call_peers;
mod call_reinvite;
mod call_support;
mod edges;
mod edges_cache;
mod fold;
mod gate;
mod growing;
mod hostile;
mod privacy;
mod registration;
mod registration_path;
mod registration_rules;
mod standalone;
mod tenancy;
mod tidy;
mod registrar;
mod registration_flows;
