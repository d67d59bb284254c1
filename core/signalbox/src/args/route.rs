//! The arguments of `signalbox route`.

use clap::Args;

/// `route`
#[derive(Debug, Args)]
pub struct RouteArgs {
    /// A phone (`401@acme.example.net`), or the name of a backend or trunk.
    #[arg(long, value_name = "WHO")]
    pub from: String,
    /// What is dialled, with a domain or without.
    #[arg(long, value_name = "NUMBER")]
    pub to: String,
    /// Who calls, where a backend or trunk brings the call. Default: nobody who says so.
    #[arg(long, value_name = "NUMBER")]
    pub caller: Option<String>,
    /// A header field that the call has, as `Name: value`.
    #[arg(long, value_name = "FIELD")]
    pub header: Vec<String>,
    /// When (RFC 3339). Default: now.
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
}
