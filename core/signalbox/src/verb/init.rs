//! `signalbox init`: a first configuration, checked, with the systemd unit and firewall lines beside it.

mod cluster;

use super::Out;
use crate::args::{Cli, InitArgs};
use crate::config;
use crate::errors::{FILE_EXISTS, Failure, USAGE};
use cluster::Cluster;
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Asks for what is missing, writes the file, checks it, prints what to do next.
pub fn run(cli: &Cli, args: &InitArgs) -> Result<(), Failure> {
    let out = Out::new(cli);
    if args.out.exists() && !args.force {
        return Err(Failure::new(FILE_EXISTS, format!("{} exists", args.out.display())));
    }
    let domain = answer(
        args.domain.as_deref(),
        "--domain",
        "SIP domain of your phones (for example acme.example.net)",
    )?;
    let pbx =
        answer(args.pbx.as_deref(), "--pbx", "address of your PBX, host[:port] (for example 10.0.0.11)")?;
    let public = answer(
        args.public.as_deref(),
        "--public",
        "public address of this machine (for example 203.0.113.5)",
    )?;
    let bus = Bus::ask(args)?;
    let cluster = Cluster::ask(args, !matches!(bus, Bus::Journal))?;
    let text = render(&Answers {
        tenant: &args.tenant,
        domain: &domain,
        pbx: &pbx,
        public: &public,
        data_dir: &args.data_dir,
        bus: &bus,
        cluster: cluster.as_ref(),
    });
    let made = cluster.as_ref().map(Cluster::make_key).transpose()?.unwrap_or(false);
    if let Err(failure) = write_checked(&args.out, &text) {
        if let Some(cluster) = cluster.filter(|_| made) {
            std::fs::remove_file(cluster.key())?;
        }
        return Err(failure);
    }
    out.line(&format!("{} written and checked.\n", args.out.display()))?;
    out.line(&next_steps(&args.out, &args.data_dir))?;
    cluster.map_or(Ok(()), |cluster| out.line(&cluster.next_steps()))
}

fn answer(given: Option<&str>, flag: &str, question: &str) -> Result<String, Failure> {
    if let Some(text) = given {
        return Ok(text.to_owned());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(USAGE, format!("{flag} is missing and there is no terminal to ask"))
            .fix(format!("add {flag} …: {question}")));
    }
    ask(question)?.ok_or_else(|| {
        Failure::new(USAGE, format!("no answer to: {question}")).fix(format!("answer it, or add {flag}"))
    })
}

/// What may be left out: where there is no terminal, or no answer, it is.
fn optional(given: Option<&str>, question: &str) -> Result<Option<String>, Failure> {
    match given {
        Some(text) => Ok(Some(text.to_owned())),
        None if std::io::stdin().is_terminal() => ask(question),
        None => Ok(None),
    }
}

fn ask(question: &str) -> Result<Option<String>, Failure> {
    print_prompt(question)?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(Some(line.trim()).filter(|line| !line.is_empty()).map(str::to_owned))
}

fn print_prompt(question: &str) -> Result<(), Failure> {
    let mut out = std::io::stderr().lock();
    write!(out, "{question}: ")?;
    Ok(out.flush()?)
}

/// Writes beside the target, checks that, then renames it into place: a refused file never replaces a good one.
fn write_checked(path: &Path, text: &str) -> Result<(), Failure> {
    let draft = path.with_extension("toml.new");
    std::fs::write(&draft, text)
        .map_err(|e| Failure::new(crate::errors::NO_RIGHT, format!("{}: {e}", draft.display())))?;
    let checked = config::load(&draft, std::iter::empty());
    if let Err(problems) = checked {
        std::fs::remove_file(&draft)?;
        return Err(problems.into());
    }
    Ok(std::fs::rename(&draft, path)?)
}

/// Where events go besides the journal.
enum Bus {
    Journal,
    Broker { kind: String, url: String, login: Login },
}

enum Login {
    None,
    Credentials(String),
    User(String, String),
}

impl Bus {
    fn ask(args: &InitArgs) -> Result<Self, Failure> {
        let kind = optional(
            args.bus.as_deref(),
            "bus that events go to besides the journal: nats, kafka, or nothing for none",
        )?;
        let url = args.bus_url.as_deref();
        let kind = match kind.as_deref() {
            None | Some("journal") if url.is_some() => {
                let message = "--bus-url is given, and no bus that it is the address of";
                return Err(Failure::new(USAGE, message).fix("add --bus nats or --bus kafka"));
            }
            None | Some("journal") => return Ok(Self::Journal),
            Some(kind @ ("nats" | "kafka")) => kind,
            Some(other) => {
                return Err(
                    Failure::new(USAGE, format!("{other} is no bus")).fix("write nats, kafka or journal")
                );
            }
        };
        let question = match kind {
            "nats" => "address of the NATS server (for example tls://nats.example.net:4222)",
            _ => "addresses of Kafka brokers, by comma (for example broker-1:9092,broker-2:9092)",
        };
        let url = answer(url, "--bus-url", question)?;
        let text = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let user = args.bus_user.clone().zip(text(&args.bus_password_file));
        let login = match (kind, user) {
            (_, Some((user, file))) => Login::User(user, file),
            ("nats", None) => {
                let question = "credentials file of the user on the bus, or nothing for none";
                let file = optional(text(&args.bus_credentials).as_deref(), question)?;
                file.map_or(Login::None, Login::Credentials)
            }
            (_, None) if args.bus_credentials.is_some() => {
                let message = "--bus-credentials is for NATS";
                return Err(Failure::new(USAGE, message).fix("write --bus-user and --bus-password-file"));
            }
            (_, None) => match optional(None, "user on the bus, or nothing for none")? {
                Some(user) => {
                    Login::User(user, answer(None, "--bus-password-file", "file that holds its password")?)
                }
                None => Login::None,
            },
        };
        Ok(Self::Broker { kind: kind.to_owned(), url, login })
    }

    fn render(&self) -> String {
        let Self::Broker { kind, url, login } = self else {
            return r#"[bus]
kind = "journal"                 # or "nats" or "kafka", with url: `signalbox schema config` describes the keys"#
                .to_owned();
        };
        let login = match login {
            Login::None => String::new(),
            Login::Credentials(file) => format!("credentials_file = {}\n", quoted(file)),
            Login::User(user, file) => format!("user = {}\npassword_file = {}\n", quoted(user), quoted(file)),
        };
        // With a password in hand, TLS is what people mean; a broker without it is told by `check --live`.
        let tls = match (&**kind, login.is_empty()) {
            ("kafka", true) => {
                "# tls = \"on\"                   # to the brokers; ca_file names who signs their certificates\n"
            }
            ("kafka", false) => {
                "tls  = \"on\"                     # ca_file names who signs the brokers' certificates\n"
            }
            _ => "",
        };
        format!(
            "[bus]\nkind = {}                    # calls never wait for it; `signalbox check --live` asks it\nurl  = {}\n{tls}\n\
             [bus.{kind}]\n{login}replicas = 1                     # copies of each event; 3 in a cluster",
            quoted(kind),
            quoted(url)
        )
    }
}

struct Answers<'a> {
    tenant: &'a str,
    domain: &'a str,
    pbx: &'a str,
    public: &'a str,
    data_dir: &'a Path,
    bus: &'a Bus,
    cluster: Option<&'a Cluster>,
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn render(a: &Answers<'_>) -> String {
    let (tenant, domain) = (quoted(a.tenant), quoted(a.domain));
    let pbx = quoted(&if a.pbx.starts_with("udp:") { a.pbx.to_owned() } else { format!("udp:{}", a.pbx) });
    let public = quoted(a.public);
    let data_dir = quoted(&a.data_dir.display().to_string());
    let bus = a.bus.render();
    let key = a.cluster.map_or_else(String::new, Cluster::in_edge);
    let cluster = a.cluster.map_or_else(String::new, Cluster::render);
    // With a network for edges each listener says whom it serves.
    let (network, serves) = match a.cluster {
        Some(_) => ("network   = \"outside\"\n", "serves    = [\"endpoints\", \"backends\"]\n"),
        None => ("", ""),
    };
    format!(
        r#"# Signalbox. `signalbox check` judges this file, `signalbox check --explain` prints every value and its origin,
# `signalbox schema config` describes every key. A change takes effect with `signalbox reload`.

[edge]
cluster  = "main"                # with the edge's name: the identity in every event
data_dir = {data_dir}            # journal, embedded database, admin.sock
{key}
[[listener]]
{network}address   = "udp:0.0.0.0:5060"
advertise = {public}             # what phones and PBXs are told
{serves}{cluster}
[[tenant]]
name       = {tenant}
domains    = [{domain}]
calls_from = "registered"        # nobody unregistered reaches the PBX
backends   = [
  {{ name = "pbx-1", address = {pbx} }},
]
# limits   = {{ registrations = 5000, calls = 500, calls_per_second = 20 }}

[journal]
retain   = "30d"                 # history to replay
max_size = "60%"                 # of the file system

{bus}

[store]
url = "sqlite:signalbox.db"      # in data_dir; or "postgres://signalbox@db/signalbox?sslmode=verify-full"

[admin]
listen = "127.0.0.1:8060"        # read-only: /health /ready /metrics

[log]
level = "info"
"#
    )
}

fn next_steps(config: &Path, data_dir: &Path) -> String {
    let absolute = std::path::absolute(config).unwrap_or_else(|_| config.to_owned());
    let of_somebody = ["/home", "/root"].iter().any(|home| absolute.starts_with(home));
    let hidden = if of_somebody { " (which sees no home directories: move the file first)" } else { "" };
    format!(
        r"Run it:
  signalbox run --config {config}

As a service{hidden}, /etc/systemd/system/signalbox.service:
  [Unit]
  Description=Signalbox SBC
  After=network-online.target
  Wants=network-online.target
  [Service]
  ExecStart=/usr/local/bin/signalbox run --config {absolute}
  ExecReload=/usr/local/bin/signalbox reload --config {absolute}
  Restart=always
  DynamicUser=yes
  StateDirectory=signalbox
  AmbientCapabilities=CAP_NET_BIND_SERVICE
  NoNewPrivileges=yes
  ProtectSystem=strict
  ProtectHome=yes
  ReadWritePaths={data_dir}
  LimitNOFILE=65536
  [Install]
  WantedBy=multi-user.target

Firewall (nftables): phones come from everywhere, your PBX should accept SIP from this machine only.
  nft add rule inet filter input udp dport 5060 accept
",
        config = config.display(),
        absolute = absolute.display(),
        data_dir = data_dir.display(),
    )
}
