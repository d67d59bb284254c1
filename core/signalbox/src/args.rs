//! The command line: one verb each, with an example in its help.

mod route;

pub use route::RouteArgs;

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// An event-sourced Session Border Controller.
#[derive(Debug, Parser)]
#[command(name = "signalbox", version, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    /// Configuration file [default: $SIGNALBOX_CONFIG, ./signalbox.toml, /etc/signalbox/signalbox.toml].
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// One JSON object a line instead of a table.
    #[arg(long, global = true)]
    pub json: bool,
    /// Times in UTC instead of local time.
    #[arg(long, global = true)]
    pub utc: bool,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the edge and its projections.
    #[command(
        after_help = "Example: signalbox run --config /etc/signalbox/signalbox.toml\n\nIn several processes on one host, each with its own [admin] listen:\n  signalbox run --roles edge\n  signalbox run --roles relay\n  signalbox run --roles projections"
    )]
    Run(RunArgs),
    /// Show everything with two small PBXs and a dozen phones built in.
    #[command(after_help = "Example: signalbox demo --listen 0.0.0.0")]
    Demo(DemoArgs),
    /// Write a commented configuration, check it, and print the systemd unit and firewall lines.
    #[command(
        after_help = "Example: signalbox init --domain acme.example.net --pbx 10.0.0.11 --public 203.0.113.5"
    )]
    Init(InitArgs),
    /// Check the configuration without touching anything.
    #[command(after_help = "Example: signalbox check --explain")]
    Check(CheckArgs),
    /// Apply the configuration file to the running edge.
    #[command(after_help = "Example: signalbox reload")]
    Reload,
    /// Stop the running edge: new calls are refused, calls in progress finish until the deadline.
    #[command(after_help = "Example: signalbox stop --within 5m")]
    Stop(StopArgs),
    /// One screen: listeners, backends, calls, rates, journal and projection lag.
    #[command(after_help = "Example: signalbox status")]
    Status,
    /// Events, one line each, live or from a time on.
    #[command(after_help = "Example: signalbox tail call --from 2026-11-21T14:00:00Z")]
    Tail(TailArgs),
    /// Send history to a broker, a web service or a file, marked so that nobody takes it for news.
    #[command(after_help = "Example: signalbox replay --to nats --from 2026-11-21T14:00:00Z --domain call")]
    Replay(ReplayArgs),
    /// The tables: how far they are; make one anew from history.
    #[command(after_help = "Example: signalbox projections rebuild cdr")]
    Projections(ProjectionsArgs),
    /// Events that a table could not take, put aside with those that follow them; apply them again or let them go.
    #[command(after_help = "Example: signalbox parked retry cdr c_0aB3dE5fG7h")]
    Parked(ParkedArgs),
    /// Who is registered, and from where.
    #[command(after_help = "Example: signalbox locations 401@acme.test --at 2026-11-21T14:03:00Z")]
    Locations(LocationsArgs),
    /// Calls in progress.
    #[command(after_help = "Example: signalbox calls --tenant acme")]
    Calls(CallsArgs),
    /// Call records, newest first.
    #[command(after_help = "Example: signalbox cdr --last 10")]
    Cdr(ListArgs),
    /// Backends and their health; drain, disable or enable one.
    #[command(after_help = "Example: signalbox backends drain pbx-1")]
    Backends(BackendsArgs),
    /// What would happen to a call, and which rule says so.
    #[command(after_help = "Example: signalbox route --from pbx-1 --to +442079460001")]
    Route(RouteArgs),
    /// The story of a call, a phone, an address or a backend.
    #[command(after_help = "Example: signalbox why c_0aB3dE5fG7h")]
    Why(WhyArgs),
    /// Write journal, configuration and embedded database into one verified archive.
    #[command(after_help = "Example: signalbox backup /var/backups/signalbox.tar.zst")]
    Backup(BackupArgs),
    /// Put a backup into an empty data directory, after verifying all of it.
    #[command(
        after_help = "Example: signalbox restore /var/backups/signalbox.tar.zst --to /var/lib/signalbox"
    )]
    Restore(RestoreArgs),
    /// Verify the journal, locate damage, dump records.
    #[command(after_help = "Example: signalbox doctor --repair")]
    Doctor(DoctorArgs),
    /// More about an error code.
    #[command(after_help = "Example: signalbox explain SB0201")]
    Explain(ExplainArgs),
    /// The contract: event schemas, AsyncAPI, the configuration's schema.
    #[command(after_help = "Example: signalbox schema show call.ended")]
    Schema(SchemaArgs),
    /// Log level of the running edge, as a whole or for one phone, source or call.
    #[command(after_help = "Example: signalbox log level debug --aor 401@acme.test")]
    Log(LogArgs),
    /// Completion for a shell.
    #[command(after_help = "Example: signalbox completions bash > /etc/bash_completion.d/signalbox")]
    Completions {
        /// bash, zsh, fish, elvish or powershell.
        shell: clap_complete::Shell,
    },
}

/// `run`
#[derive(Debug, Args)]
pub struct RunArgs {
    /// What this process does; default: all that the configuration needs. `consumers` does nothing yet.
    #[arg(long, value_name = "ROLE", value_enum, value_delimiter = ',')]
    pub roles: Vec<crate::roles::Role>,
    /// How long calls in progress may finish after SIGTERM or Ctrl-C.
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    pub drain: crate::config::value::Span,
}

/// `demo`
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Address to listen on; 0.0.0.0 lets a real phone join.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub listen: std::net::IpAddr,
    /// SIP port of the edge.
    #[arg(long, value_name = "PORT", default_value_t = 5060)]
    pub port: u16,
    /// Port of the admin HTTP server.
    #[arg(long, value_name = "PORT", default_value_t = 8060)]
    pub admin_port: u16,
    /// Where the demo keeps its state.
    #[arg(long, value_name = "DIR", default_value = "target/demo")]
    pub dir: PathBuf,
    /// Stop by itself after this.
    #[arg(long, value_name = "DURATION")]
    pub stop_after: Option<crate::config::value::Span>,
}

/// `init`
#[derive(Debug, Args)]
pub struct InitArgs {
    /// SIP domain of the phones; asked for when missing.
    #[arg(long)]
    pub domain: Option<String>,
    /// Address of the PBX, `host[:port]`; asked for when missing.
    #[arg(long)]
    pub pbx: Option<String>,
    /// Public address of this machine; asked for when missing.
    #[arg(long)]
    pub public: Option<String>,
    /// Name of the tenant.
    #[arg(long, default_value = "main")]
    pub tenant: String,
    /// Where events go besides the journal; asked for when missing, on a terminal.
    #[arg(long, value_name = "KIND", value_parser = ["journal", "nats", "kafka"])]
    pub bus: Option<String>,
    /// Address of the bus: `nats://host:port`, `tls://host:port`, or Kafka's `host:port`; asked for when missing.
    #[arg(long, value_name = "URL")]
    pub bus_url: Option<String>,
    /// NATS: the `.creds` file to log in with; asked for when missing, on a terminal.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["bus_user", "bus_password_file"])]
    pub bus_credentials: Option<PathBuf>,
    /// User on the bus; on Kafka asked for when missing, on a terminal.
    #[arg(long, value_name = "USER", requires = "bus_password_file")]
    pub bus_user: Option<String>,
    /// File that holds that user's password.
    #[arg(long, value_name = "FILE", requires = "bus_user")]
    pub bus_password_file: Option<PathBuf>,
    /// Where the other edges of a cluster are, an address or prefix; asked for when missing, on a terminal, where there is a
    /// bus.
    #[arg(long, value_name = "PREFIX")]
    pub edges: Option<String>,
    /// Address of this machine among them; asked for when missing.
    #[arg(long, value_name = "ADDRESS")]
    pub edges_listen: Option<String>,
    /// File with the key that all edges of the cluster have; made when missing.
    #[arg(long, value_name = "FILE", default_value = "cluster.key")]
    pub cluster_key: PathBuf,
    /// Data directory.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/signalbox")]
    pub data_dir: PathBuf,
    /// File to write.
    #[arg(long, value_name = "FILE", default_value = "signalbox.toml")]
    pub out: PathBuf,
    /// Replace the file if it exists.
    #[arg(long)]
    pub force: bool,
}

/// `check`
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Print each effective value and where it came from.
    #[arg(long)]
    pub explain: bool,
    /// Also resolve names, probe backends, open the store and ask the bus.
    #[arg(long)]
    pub live: bool,
}

/// `stop`
#[derive(Debug, Args)]
pub struct StopArgs {
    /// Deadline for calls in progress.
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    pub within: crate::config::value::Span,
}

/// A window of time and a number, for lists.
#[derive(Debug, Args, Clone, Default)]
pub struct Window {
    /// At most this many, newest first.
    #[arg(long, value_name = "N")]
    pub last: Option<usize>,
    /// Not older than this: `30s`, `1h`, `7d`.
    #[arg(long, value_name = "DURATION", conflicts_with = "from")]
    pub since: Option<crate::config::value::Span>,
    /// From this moment on, RFC 3339.
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Up to this moment, RFC 3339.
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    /// Only this tenant.
    #[arg(long)]
    pub tenant: Option<String>,
}

/// `tail`
#[derive(Debug, Args)]
pub struct TailArgs {
    /// `call`, `registration.added`, `'call.*'`; everything when missing.
    pub pattern: Option<String>,
    /// Which part of history, before following.
    #[command(flatten)]
    pub window: Window,
    /// Stop at the end instead of following.
    #[arg(long)]
    pub no_follow: bool,
    /// Follow, as it does anyway.
    #[arg(short, long, conflicts_with = "no_follow")]
    pub follow: bool,
}

/// `replay`
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// `location`, `calls`, `cdr` or `backend`: its tables are filled anew, as by `projections rebuild`.
    #[arg(conflicts_with_all = ["to", "from", "domain", "tenant", "kind", "url", "token_file", "out", "resume"])]
    pub projection: Option<String>,
    /// Where to: nats, kafka, webhook or file. Given again as a time (RFC 3339): up to when.
    #[arg(long, value_name = "TARGET|TIME", required_unless_present_any = ["resume", "projection"])]
    pub to: Vec<String>,
    /// From this moment on, RFC 3339; from the oldest event when missing.
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Only these domains: `call`.
    #[arg(long, value_name = "DOMAIN", value_delimiter = ',')]
    pub domain: Vec<String>,
    /// Only these tenants.
    #[arg(long, value_name = "TENANT", value_delimiter = ',')]
    pub tenant: Vec<String>,
    /// Only these types: `call.ended`.
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
    pub kind: Vec<String>,
    /// Webhook: its address. nats, kafka: another one than bus.url.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Webhook: file that holds a bearer token.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// File: its name, - for standard output; one CloudEvent a line.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Go on with an interrupted replay.
    #[arg(long, value_name = "ID", conflicts_with_all = ["to", "from", "domain", "tenant", "kind", "url", "token_file", "out"])]
    pub resume: Option<String>,
}

/// `locations`
#[derive(Debug, Args)]
pub struct LocationsArgs {
    /// `401`, `401@acme.test`; everybody when missing.
    pub aor: Option<String>,
    /// Which ones, by when they registered last.
    #[command(flatten)]
    pub window: Window,
    /// As of then, RFC 3339.
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
}

/// `calls`
#[derive(Debug, Args)]
pub struct CallsArgs {
    /// Which ones, by when they began.
    #[command(flatten)]
    pub window: Window,
    /// As of then, RFC 3339.
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
}

/// `cdr`
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Which ones, by when they ended.
    #[command(flatten)]
    pub window: Window,
    /// As of then, RFC 3339: those that had ended.
    #[arg(long, value_name = "TIME", conflicts_with_all = ["to", "follow"])]
    pub at: Option<String>,
    /// Go on as calls end.
    #[arg(short, long)]
    pub follow: bool,
}

/// `backends`
#[derive(Debug, Args)]
pub struct BackendsArgs {
    /// What to do; shows them when missing.
    #[command(subcommand)]
    pub action: Option<BackendAction>,
    /// Only this tenant.
    #[arg(long)]
    pub tenant: Option<String>,
    /// As of then, RFC 3339.
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
}

/// What to do to a backend.
#[derive(Debug, Subcommand)]
pub enum BackendAction {
    /// No new traffic; calls in progress go on.
    Drain {
        /// `pbx-1` or `acme/pbx-1`.
        name: String,
    },
    /// No traffic and no probes.
    Disable {
        /// `pbx-1` or `acme/pbx-1`.
        name: String,
    },
    /// Traffic again, by its probes.
    Enable {
        /// `pbx-1` or `acme/pbx-1`.
        name: String,
    },
}

/// `projections`
#[derive(Debug, Args)]
pub struct ProjectionsArgs {
    /// What to do; lists them when missing.
    #[command(subcommand)]
    pub action: Option<ProjectionAction>,
}

/// What to do with projections.
#[derive(Debug, Subcommand)]
pub enum ProjectionAction {
    /// Each projection, how far its tables are, and its last rebuild.
    List,
    /// Fill new tables from all history there is, then let them take the place of the old ones.
    Rebuild {
        /// `location`, `calls`, `cdr`, `backend`.
        names: Vec<String>,
        /// All of them.
        #[arg(long)]
        all: bool,
    },
}

/// `parked`
#[derive(Debug, Args)]
pub struct ParkedArgs {
    /// What to do; lists them when missing.
    #[command(subcommand)]
    pub action: Option<ParkedAction>,
}

/// What to do with parked events.
#[derive(Debug, Subcommand)]
pub enum ParkedAction {
    /// What is parked, and why.
    List,
    /// Apply the events of a call, phone or backend again, in order.
    Retry {
        /// Whose.
        #[command(flatten)]
        which: ParkedWhich,
    },
    /// Let them go: their rows are never written.
    Skip {
        /// Whose.
        #[command(flatten)]
        which: ParkedWhich,
    },
}

/// Events that are parked together.
#[derive(Debug, Args)]
pub struct ParkedWhich {
    /// `location`, `calls`, `cdr`, `backend`.
    pub projection: String,
    /// As the list shows it: a call's id, `acme/401@acme.test`, a backend.
    pub subject: String,
    /// Whose, where several tenants have it.
    #[arg(long)]
    pub tenant: Option<String>,
}

/// `why`
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// A call's id, an AoR, an address or a backend; its kind is detected.
    pub what: String,
    /// Which part of history.
    #[command(flatten)]
    pub window: Window,
}

/// `backup`
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The archive to write.
    pub file: PathBuf,
}

/// `restore`
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The archive.
    pub file: PathBuf,
    /// Empty or missing directory to restore into.
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
}

/// `doctor`
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Data directory, when there is no configuration at hand.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Cut a torn tail; nothing else is ever changed.
    #[arg(long)]
    pub repair: bool,
    /// Print records from this sequence on.
    #[arg(long, value_name = "SEQUENCE")]
    pub dump: Option<u64>,
    /// With --dump: at most this many.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub last: usize,
}

/// `explain`
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// `SB0201`; all codes when missing.
    pub code: Option<String>,
}

/// `schema`
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Which part.
    #[command(subcommand)]
    pub part: SchemaPart,
}

/// Parts of the contract.
#[derive(Debug, Subcommand)]
pub enum SchemaPart {
    /// Every event type with a line about it.
    List,
    /// One event's JSON Schema.
    Show {
        /// `call.ended` or the full type.
        kind: String,
    },
    /// The AsyncAPI document.
    Asyncapi,
    /// The configuration's JSON Schema.
    Config,
}

/// `log`
#[derive(Debug, Args)]
pub struct LogArgs {
    /// What to change.
    #[command(subcommand)]
    pub action: LogAction,
}

/// `log level`
#[derive(Debug, Subcommand)]
pub enum LogAction {
    /// Set the level, for everything or for one AoR, source or call.
    Level {
        /// error, warn, info, debug, trace; for one thing `debug`, or `info` to stop.
        level: String,
        /// Only this AoR.
        #[arg(long)]
        aor: Option<String>,
        /// Only this source address.
        #[arg(long)]
        source: Option<std::net::IpAddr>,
        /// Only this call.
        #[arg(long)]
        call: Option<String>,
    },
}
