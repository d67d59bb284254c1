//! Stories of the engine: given a configuration, when messages come, then what is sent and recorded.

mod streams;
mod support;

mod backends;
mod call_basic;
mod call_cancel;
mod call_chaos;
mod call_crash;
mod call_dialog;
mod call_early;
mod call_failover;
mod call_fork;
mod call_identity;
mod call_isolation;
mod call_peers;
mod call_redirect;
mod call_reinvite;
mod call_support;
mod call_transfer;
mod call_watch;
mod edges;
mod edges_cache;
mod fold;
mod gate;
mod growing;
mod hostile;
mod pressure;
mod privacy;
mod registrar;
mod registration;
mod registration_flows;
mod registration_path;
mod registration_rules;
mod standalone;
mod tenancy;
mod tidy;
