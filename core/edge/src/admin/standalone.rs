//! HTTP of a process without an edge: health, readiness and metrics of the roles that it has.

use super::hosts::{self, Hosts};
use super::patient::Door;
use crate::metrics::ReaderMetrics;
use crate::status::{ComponentState, ComponentsHook};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde_json::json;
use signalbox_base::Wall;
use signalbox_io::Clock;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::runtime::Handle;

/// A running health server; it ends with the process, or when this is dropped.
pub struct HealthServer {
    address: SocketAddr,
    served: Arc<Served>,
    task: tokio::task::AbortHandle,
}

struct Served {
    components: ComponentsHook,
    metrics: ReaderMetrics,
    version: String,
    clock: Clock,
    started: Wall,
    stopping: AtomicBool,
}

impl HealthServer {
    /// Opens `address` and serves `/health`, `/ready` and `/metrics` of what `components` reports. It is ready when every
    /// component that [blocks](crate::Component::blocks_ready) is up. `hosts` are names of this machine.
    ///
    /// # Errors
    /// The address cannot be opened.
    pub fn start(
        address: SocketAddr,
        components: ComponentsHook,
        version: &str,
        hosts: &[String],
        runtime: &Handle,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let clock = Clock::start();
        let started = clock.now().wall;
        let metrics = ReaderMetrics::new(Arc::clone(&components), version, started);
        let (version, stopping) = (version.to_owned(), AtomicBool::new(false));
        let served = Arc::new(Served { components, metrics, version, clock, started, stopping });
        let task = runtime.spawn(serve(listener, Arc::clone(&served), Hosts::new(hosts))).abort_handle();
        Ok(Self { address, served, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the process is not ready.
    pub fn stopping(&self) {
        self.served.stopping.store(true, Ordering::Relaxed);
    }
}

impl Drop for HealthServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, served: Arc<Served>, hosts: Arc<Hosts>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => Door::new(listener),
        Err(error) => {
            tracing::error!(%error, "HTTP is not served");
            return;
        }
    };
    let app = Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(served)
        .layer(from_fn_with_state(hosts, hosts::guard));
    if let Err(error) = axum::serve(listener, app).await {
        tracing::error!(%error, "HTTP is no longer served");
    }
}

async fn health(State(served): State<Arc<Served>>) -> Response {
    let components = (served.components)();
    let well = components.iter().all(|component| component.state == ComponentState::Up);
    let status = match (served.stopping.load(Ordering::Relaxed), well) {
        (true, _) => "draining",
        (false, true) => "ok",
        (false, false) => "degraded",
    };
    let uptime = served.clock.now().wall.since(served.started).as_secs();
    Json(json!({
        "status": status,
        "version": served.version,
        "uptime": uptime,
        "components": components,
        "metrics": {},
    }))
    .into_response()
}

async fn ready(State(served): State<Arc<Served>>) -> Response {
    let why = if served.stopping.load(Ordering::Relaxed) {
        Some("stopping".to_owned())
    } else {
        let blocks = |c: &crate::Component| c.blocks_ready && c.state != ComponentState::Up;
        let found = (served.components)().into_iter().find(blocks);
        found.map(|c| format!("{}: {}", c.name, c.detail.unwrap_or_else(|| "catching up".to_owned())))
    };
    match why {
        None => (StatusCode::OK, "ready\n").into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn metrics(State(served): State<Arc<Served>>) -> Response {
    ([(header::CONTENT_TYPE, super::http::OPENMETRICS)], served.metrics.text()).into_response()
}
