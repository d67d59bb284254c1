//! `signalbox run`: the edge and its projections, until a signal or `signalbox stop`.

use super::{load_config, runtime};
use crate::args::{Cli, RunArgs};
use crate::config::Loaded;
use crate::errors::Failure;
use crate::roles::{self, Running};
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
    let running = roles::start(loaded, Some(level), runtime.handle())?;
    for line in banner.lines(&running.edge) {
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
            end = running.edge.wait_end() => {
                running.finish().await;
                return ended(&end);
            }
            _ = terminate.recv() => "signal TERM",
            _ = interrupt.recv() => "signal INT",
            _ = hangup.recv() => {
                reload(&running.edge).await;
                continue;
            }
        };
        eprintln!(
            "draining: new calls and registrations are refused; calls in progress have {}",
            render::duration(drain)
        );
        let stopped = running.stop(drain, actor);
        tokio::pin!(stopped);
        return tokio::select! {
            end = &mut stopped => ended(&end?),
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

async fn reload(edge: &EdgeHandle) {
    match edge.reload(Text::new("signal HUP")).await {
        Ok(reply) => tracing::info!(?reply, "reload"),
        Err(error) => tracing::warn!(%error, "reload"),
    }
}

/// What is printed once it serves.
pub struct Banner {
    store: String,
    bus: &'static str,
    dir: String,
}

impl Banner {
    /// Of a configuration.
    pub fn new(loaded: &Loaded) -> Self {
        Self {
            store: loaded.file.store.url.clone(),
            bus: "journal (embedded)",
            dir: loaded.file.edge.data_dir.display().to_string(),
        }
    }

    /// The lines.
    pub fn lines(&self, edge: &EdgeHandle) -> Vec<String> {
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
        let http = edge
            .admin_address()
            .map_or_else(|| "no HTTP".to_owned(), |a| format!("http://{a}  /health /ready /metrics"));
        lines.push(format!("  admin    {http}      socket {}/admin.sock", self.dir));
        lines.push(format!("  bus      {}      store  {}", self.bus, self.store));
        for tenant in &settings.tenants {
            let domains: Vec<&str> = tenant.domains.iter().map(|d| &*d.name).collect();
            let backends: Vec<String> = tenant
                .backends
                .iter()
                .map(|b| format!("{} {}:{}", b.name, b.address.host, b.address.port))
                .collect();
            lines.push(format!(
                "  {:<8} {}  → {}",
                tenant.name.as_str(),
                domains.join(" "),
                backends.join(", ")
            ));
        }
        lines
    }
}
