//! `signalbox run`: the roles of this process, until a signal or `signalbox stop`.

use super::{load_config, runtime};
use crate::args::{Cli, RunArgs};
use crate::config::Loaded;
use crate::errors::Failure;
use crate::roles::{self, Roles, Running};
use crate::{logging, render};
use signalbox_base::Text;
use signalbox_edge::{EdgeHandle, End};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Runs in the foreground.
pub fn run(cli: &Cli, args: &RunArgs) -> Result<(), Failure> {
    let loaded = load_config(cli)?;
    let level = logging::start(&loaded.file.log);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = runtime()?;
    let banner = Banner::new(&loaded);
    let roles = Roles::new(&args.roles, &loaded.file)?;
    let running = roles::start(loaded, roles, Some(level), runtime.handle())?;
    for line in banner.lines(&running) {
        eprintln!("{line}");
    }
    let drain = args.drain.0;
    runtime.block_on(until_the_end(running, drain))
}

/// Waits for a signal or the end, and says how it was.
pub async fn until_the_end(running: Running, drain: Duration) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        let actor = tokio::select! {
            end = edge_end(running.edge.as_ref()) => {
                running.finish().await;
                return ended(&end);
            }
            _ = terminate.recv() => "signal TERM",
            _ = interrupt.recv() => "signal INT",
            _ = hangup.recv() => {
                reload(running.edge.as_ref()).await;
                continue;
            }
        };
        if running.edge.is_some() {
            eprintln!(
                "draining: new calls and registrations are refused; calls in progress have {}",
                render::duration(drain)
            );
        }
        let stopped = running.stop(drain, actor);
        tokio::pin!(stopped);
        return tokio::select! {
            end = &mut stopped => match end? {
                Some(end) => ended(&end),
                None => {
                    eprintln!("stopped: the next process goes on from here");
                    Ok(())
                }
            },
            _ = interrupt.recv() => {
                eprintln!("interrupted again: ending at once; what was recorded is safe, calls in progress are recovered by the next start");
                std::process::exit(1)
            }
        };
    }
}

/// Says how it ended.
pub fn ended(end: &End) -> Result<(), Failure> {
    match end {
        End::Stopped(report) if report.calls_left == 0 => {
            eprintln!(
                "stopped: every call had ended; events up to {} are on disk, nothing was lost",
                report.last
            );
            Ok(())
        }
        End::Stopped(report) => {
            eprintln!(
                "stopped at the deadline: {} call(s) go on without the edge and are recovered by the next start; events up to {} are on disk, nothing was lost",
                report.calls_left, report.last
            );
            Ok(())
        }
        End::Failed(fatal) => Err(roles::fatal_failure(fatal)),
    }
}

/// Without an edge only signals end the process.
async fn edge_end(edge: Option<&EdgeHandle>) -> End {
    match edge {
        Some(edge) => edge.wait_end().await,
        None => std::future::pending().await,
    }
}

async fn reload(edge: Option<&EdgeHandle>) {
    let Some(edge) = edge else {
        tracing::warn!("a process without an edge takes a new configuration with a restart only");
        return;
    };
    match edge.reload(Text::new("signal HUP")).await {
        Ok(reply) => tracing::info!(?reply, "reload"),
        Err(error) => tracing::warn!(%error, "reload"),
    }
}

/// What is printed once it serves.
pub struct Banner {
    store: String,
    bus: String,
    dir: String,
}

impl Banner {
    /// Of a configuration.
    pub fn new(loaded: &Loaded) -> Self {
        Self {
            store: loaded.file.store.url.clone(),
            bus: loaded.file.bus.describe(),
            dir: loaded.file.edge.data_dir.display().to_string(),
        }
    }

    /// The lines.
    pub fn lines(&self, running: &Running) -> Vec<String> {
        let http = running
            .admin_address()
            .map_or_else(|| "no HTTP".to_owned(), |a| format!("http://{a}  /health /ready /metrics"));
        let bus = format!("  bus      {}      store  {}", self.bus, self.store);
        let Some(edge) = &running.edge else {
            let version = env!("CARGO_PKG_VERSION");
            let head = format!("Signalbox {version} · {} · {}", running.identity, running.roles);
            return vec![head, format!("  admin    {http}"), bus];
        };
        let mut lines = self.edge(edge);
        lines.push(format!("  admin    {http}      socket {}/admin.sock", self.dir));
        lines.push(bus);
        if !running.roles.projections {
            lines.push(format!("  roles    {}", running.roles));
        }
        tenants(edge, &mut lines);
        lines
    }

    fn edge(&self, edge: &EdgeHandle) -> Vec<String> {
        let settings = edge.settings();
        let mut lines = vec![format!(
            "Signalbox {} · {} · journal {} in {}/journal",
            settings.version, settings.identity, settings.journal, self.dir
        )];
        for (listener, bound) in settings.listeners.iter().zip(edge.listeners()) {
            let network = &settings.networks[usize::from(listener.network)];
            lines.push(format!(
                "  sip      {}:{bound}  {network}, told to peers as {}",
                listener.transport, listener.advertise
            ));
        }
        lines
    }
}

fn tenants(edge: &EdgeHandle, lines: &mut Vec<String>) {
    let settings = edge.settings();
    for tenant in &settings.tenants {
        let domains: Vec<&str> = tenant.domains.iter().map(|d| &*d.name).collect();
        let backends: Vec<String> =
            tenant.backends.iter().map(|b| format!("{} {}", b.name, b.address)).collect();
        lines.push(format!("  {:<8} {}  → {}", tenant.name.as_str(), domains.join(" "), backends.join(", ")));
    }
}
