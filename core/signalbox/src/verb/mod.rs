//! The verbs, one file each, and what they share: output, the configuration, the store.

mod backends;
mod backup;
mod calls;
mod cdr;
mod check;
mod demo;
mod doctor;
mod explain;
mod init;
mod live;
mod locations;
mod log;
mod parked;
mod projections;
mod reload;
mod replay;
mod route;
mod run;
mod schema;
mod status;
mod stop;
mod tail;
mod why;

use crate::args::{Cli, Verb};
use crate::client::{self, Settled};
use crate::config::{self, Effective, Loaded};
use crate::errors::{Failure, INTERNAL, STORE_FAILED};
use crate::render::{Clock, Screen, Table};
use clap::CommandFactory;
use serde::Serialize;
use signalbox_base::Wall;
use signalbox_io::OsEntropy;
use signalbox_store::Store;
use std::io::Write;

/// Does what the command line says.
pub fn dispatch(cli: &Cli) -> Result<(), Failure> {
    match &cli.verb {
        Verb::Run(args) => run::run(cli, args),
        Verb::Demo(args) => demo::run(cli, args),
        Verb::Init(args) => init::run(cli, args),
        Verb::Check(args) => check::run(cli, args),
        Verb::Reload => reload::run(cli),
        Verb::Stop(args) => stop::run(cli, args),
        Verb::Status => status::run(cli),
        Verb::Tail(args) => tail::run(cli, args),
        Verb::Replay(args) => match &args.projection {
            Some(name) => projections::rebuild(cli, std::slice::from_ref(name), false),
            None => replay::run(cli, args),
        },
        Verb::Projections(args) => projections::run(cli, args),
        Verb::Parked(args) => parked::run(cli, args),
        Verb::Locations(args) => locations::run(cli, args),
        Verb::Calls(args) => calls::run(cli, args),
        Verb::Cdr(args) => cdr::run(cli, args),
        Verb::Backends(args) => backends::run(cli, args),
        Verb::Route(args) => route::run(cli, args),
        Verb::Why(args) => why::run(cli, args),
        Verb::Backup(args) => backup::run(cli, args),
        Verb::Restore(args) => backup::restore(cli, args),
        Verb::Doctor(args) => doctor::run(cli, args),
        Verb::Explain(args) => explain::run(cli, args),
        Verb::Schema(args) => schema::run(cli, args),
        Verb::Log(args) => log::run(cli, args),
        Verb::Completions { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "signalbox", &mut std::io::stdout());
            Ok(())
        }
    }
}

/// Finds and loads the configuration that the command line and the environment name.
pub fn load_config(cli: &Cli) -> Result<Loaded, Failure> {
    let path = config::find(cli.config.as_deref())?;
    Ok(config::load(&path, std::env::vars())?)
}

/// A runtime for one command.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// The wall clock, for a command's arguments and its output.
pub fn now() -> Wall {
    signalbox_io::Clock::start().now().wall
}

/// 32 bytes from the operating system.
pub fn random() -> Result<[u8; 32], Failure> {
    let mut bytes = [0; 32];
    OsEntropy::seeded().map_err(|e| Failure::new(INTERNAL, e.to_string()))?.fill(&mut bytes);
    Ok(bytes)
}

/// Opens the store that a configuration names; its tables may not be there yet.
pub async fn open_store(loaded: &Loaded) -> Result<Store, Failure> {
    let file = &Effective::new(&loaded.file).file;
    let config = signalbox_store::Config::parse(
        &file.store.url,
        file.store.password_file.as_deref(),
        &file.edge.data_dir,
    )?;
    Ok(Store::open(&config).await?)
}

/// What a list is read from: the store, brought up to date by a running edge.
pub struct Reader {
    /// The tables.
    pub store: Store,
    source: String,
}

impl Reader {
    /// Says where the rows are from; to standard error, so that pipes see rows only.
    pub fn footnote(&self, out: &Out) -> Result<(), Failure> {
        if !out.json && out.screen.width != usize::MAX {
            writeln!(std::io::stderr(), "{}", out.screen.paint(2, &format!("({})", self.source)))?;
        }
        Ok(())
    }
}

/// Opens the store for reading; a running edge is first waited for until its tables hold what it has recorded by now.
pub fn reading(cli: &Cli, read: impl AsyncFnOnce(&Reader) -> Result<(), Failure>) -> Result<(), Failure> {
    let loaded = load_config(cli)?;
    runtime()?.block_on(async {
        let file = &loaded.file;
        let embedded = file.store.url.strip_prefix("sqlite:").map(|name| file.edge.data_dir.join(name));
        if let Some(path) = embedded.filter(|path| !path.is_file()) {
            let message = format!("there is no store yet: {} does not exist", path.display());
            return Err(Failure::new(STORE_FAILED, message)
                .fix("the first start of the projections makes it: `signalbox run`, or `signalbox run --roles projections`"));
        }
        let store = open_store(&loaded).await?;
        let source = match client::settled(&loaded.file).await {
            Some(Settled::Unknown(why)) => format!("store {}; {why}", loaded.file.store.url),
            Some(Settled::Behind(lag)) => format!(
                "store {}; its tables are {lag} events behind the running edge",
                loaded.file.store.url
            ),
            Some(Settled::Level) => format!("store {}, up to date with the running edge", loaded.file.store.url),
            None => format!("store {}; no edge is running here", loaded.file.store.url),
        };
        store.migrate().await?;
        read(&Reader { store, source }).await
    })
}

/// Standard output as the command line wants it.
#[derive(Debug)]
pub struct Out {
    /// One object a line.
    pub json: bool,
    /// The terminal.
    pub screen: Screen,
    /// The zone of times.
    pub clock: Clock,
}

impl Out {
    /// From the global flags.
    pub fn new(cli: &Cli) -> Self {
        Self { json: cli.json, screen: Screen::stdout(), clock: Clock::new(cli.utc) }
    }

    /// A line of text. A reader that went away (`| head`) ends the program quietly.
    pub fn line(&self, text: &str) -> Result<(), Failure> {
        quiet_pipe(writeln!(std::io::stdout().lock(), "{text}"))
    }

    /// One JSON object on one line.
    pub fn object(&self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).expect("rows have text keys only");
        self.line(&text)
    }

    /// A table.
    pub fn table(&self, table: &Table) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        quiet_pipe(out.write_all(table.render(&self.screen).as_bytes()).and_then(|()| out.flush()))
    }
}

fn quiet_pipe(result: std::io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => Ok(other?),
    }
}
