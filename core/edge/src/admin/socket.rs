//! Serving the admin socket.

use super::http::health_report;
use super::protocol::{Answer, LINE_MAX, Request, Wish};
use crate::handle::{EdgeHandle, NoAnswer};
use crate::look::{Page, Which};
use nix::unistd::{Uid, User};
use serde_json::{Value, json};
use signalbox_base::{CallUid, Text};
use signalbox_engine::contract::BackendWish;
use signalbox_engine::{Command, CommandReply, Watch};
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

/// Connections at a time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// A watch names at most this many AoRs, sources and calls each.
const WATCHED_MAX: usize = 64;

/// Binds with mode 0600 from the first moment. The journal's lock is held, so a file that is there is a dead process's.
pub(super) fn bind(path: &Path) -> io::Result<UnixListener> {
    let new = path.with_extension("sock.new");
    for left_over in [path, &new] {
        match std::fs::remove_file(left_over) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, Permissions::from_mode(0o600))?;
    std::fs::rename(&new, path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves until the edge has ended; removes the file then.
pub(super) async fn serve(listener: UnixListener, path: PathBuf, edge: EdgeHandle) {
    let listener = match tokio::net::UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the admin socket is not served");
            return;
        }
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let ended = edge.wait_end();
    tokio::pin!(ended);
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = &mut ended => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let edge = edge.clone();
                tokio::spawn(async move {
                    let _place = place;
                    // A peer that goes away in the middle is its own business.
                    let _ = converse(stream, &edge).await;
                });
            }
            Err(error) => tracing::warn!(%error, "an admin connection could not be accepted"),
        }
    }
    // Another instance can not have replaced it: the lock was held until now.
    let _ = std::fs::remove_file(path);
}

async fn converse(stream: UnixStream, edge: &EdgeHandle) -> io::Result<()> {
    let actor = actor(&stream);
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut reader).take(LINE_MAX as u64).read_until(b'\n', &mut line).await?;
        if read == 0 {
            return Ok(());
        }
        let whole = line.ends_with(b"\n") || read < LINE_MAX;
        // Held until the answer is written: a process that ends waits for that.
        let _answering = edge.answering().await;
        let answer = if whole {
            match serde_json::from_slice::<Request>(&line) {
                Ok(request) => answer(request, edge, &actor).await,
                Err(error) => Answer::Error(format!("not a request: {error}")),
            }
        } else {
            Answer::Error(format!("a request has at most {LINE_MAX} bytes"))
        };
        let mut text = serde_json::to_vec(&answer)?;
        text.push(b'\n');
        writer.write_all(&text).await?;
        if !whole {
            return Ok(());
        }
    }
}

/// The peer's user, by the operating system's word.
fn actor(stream: &UnixStream) -> Text {
    let Ok(credentials) = stream.peer_cred() else { return Text::new("unknown") };
    let user = User::from_uid(Uid::from_raw(credentials.uid())).ok().flatten();
    user.map_or_else(|| Text::from(format!("uid {}", credentials.uid())), |user| Text::from(user.name))
}

async fn answer(request: Request, edge: &EdgeHandle, actor: &Text) -> Answer {
    let actor = actor.clone();
    let outcome = match request {
        Request::Status {} => return Answer::Ok(status(edge)),
        Request::Health {} => return Answer::Ok(health_report(edge)),
        Request::Metrics {} => return Answer::Ok(json!({ "text": edge.metrics() })),
        Request::Locations { aor, tenant, from } => {
            let which = Which { tenant: tenant.map(Text::from), aor: aor.map(Text::from), from };
            return page(edge.locations(which).await);
        }
        Request::Calls { tenant, from } => {
            return page(edge.calls(Which { tenant: tenant.map(Text::from), aor: None, from }).await);
        }
        Request::Backends {} => {
            let rows = edge.backends().await;
            return rows.map_or_else(refused, |rows| Answer::Ok(json!({ "rows": rows })));
        }
        Request::Backend { name, wish } => {
            let wish = match wish {
                Wish::Enable => BackendWish::Enable,
                Wish::Drain => BackendWish::Drain,
                Wish::Disable => BackendWish::Disable,
            };
            edge.command(Command::Backend { name: Text::from(name), wish, actor }).await
        }
        Request::Reload {} => edge.reload(actor).await,
        Request::Stop { deadline_ms } => return stop(edge, deadline_ms, actor).await,
        Request::LogLevel { level } => edge.log_level(&level, actor).await,
        Request::Watch { all, aors, sources, calls } => match watch(all, aors, sources, &calls) {
            Ok(watch) => edge.watch(watch, actor).await,
            Err(why) => return Answer::Error(why),
        },
        Request::RemoveBinding { aor, tenant } => {
            let (aor, tenant) = (Text::from(aor), tenant.map(Text::from));
            edge.command(Command::RemoveBinding { aor, tenant, actor }).await
        }
    };
    match outcome {
        Ok(CommandReply::Done(message)) => Answer::Ok(json!({ "message": message })),
        Ok(CommandReply::Refused(why)) => Answer::Error(why.to_string()),
        Err(error) => refused(error),
    }
}

fn refused(error: NoAnswer) -> Answer {
    Answer::Error(error.to_string())
}

fn page(page: Result<Page, NoAnswer>) -> Answer {
    page.map_or_else(refused, |page| Answer::Ok(json!(page)))
}

fn watch(
    all: bool,
    aors: Vec<String>,
    sources: Vec<std::net::IpAddr>,
    calls: &[String],
) -> Result<Watch, String> {
    if aors.len().max(sources.len()).max(calls.len()) > WATCHED_MAX {
        return Err(format!("at most {WATCHED_MAX} of a kind can be watched"));
    }
    let read = |call: &String| call.parse::<CallUid>().map_err(|error| format!("{call}: {error}"));
    Ok(Watch {
        all,
        aors: aors.into_iter().map(Text::from).collect(),
        sources: sources.into_iter().map(signalbox_base::canonical_ip).collect(),
        calls: calls.iter().map(read).collect::<Result<_, _>>()?,
    })
}

async fn stop(edge: &EdgeHandle, deadline_ms: u64, actor: Text) -> Answer {
    match edge.stop(Duration::from_millis(deadline_ms), actor).await {
        Ok(report) => Answer::Ok(json!({ "calls_left": report.calls_left, "last_sequence": report.last })),
        Err(fatal) => Answer::Error(fatal.to_string()),
    }
}

fn status(edge: &EdgeHandle) -> Value {
    let (figures, settings) = (edge.status(), edge.settings());
    let listeners: Vec<String> =
        settings.listeners.iter().map(|l| format!("{}:{}", l.transport, l.address)).collect();
    json!({
        "edge": settings.identity.to_string(),
        "journal": settings.journal,
        "version": figures.version,
        "phase": figures.phase,
        "started_at": figures.started.to_string(),
        "uptime_seconds": figures.uptime.0 / 1_000_000_000,
        "config_revision": figures.config_revision,
        "listeners": listeners,
        "admin": edge.admin_address().map(|a| a.to_string()),
        "calls": figures.calls(),
        "registrations": figures.registrations(),
        "calls_attempted": figures.counters.calls_attempted,
        "calls_answered": figures.counters.calls_answered,
        "calls_failed": figures.counters.calls_failed,
        "traffic": figures.traffic,
        "sequence": edge.durable(),
        "stalled": figures.stalled,
        "pressure": format!("{:?}", figures.pressure).to_lowercase(),
        "backends": figures.backends,
        "components": edge.components(),
    })
}
