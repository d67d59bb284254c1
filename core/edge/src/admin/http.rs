//! HTTP: health, readiness, metrics, schemas, events. It changes nothing.

use super::events::{Feed, Wanted, serve as serve_events};
use super::hosts::{self, Hosts};
use super::patient::Door;
use crate::handle::EdgeHandle;
use crate::status::{ComponentState, Phase};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Semaphore;

pub(super) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Clients of `/events` at a time; more get 503.
const CLIENTS_MAX: usize = 32;

#[derive(Clone)]
struct Served {
    edge: EdgeHandle,
    /// Every published schema by its path, generated once.
    schemas: Arc<BTreeMap<String, String>>,
    clients: Arc<Semaphore>,
    guard: Guard,
}

/// Who may read events: they name people.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    /// Holds the token; read at each request, so that it can be changed.
    pub(super) token_file: Option<PathBuf>,
    /// Only this machine reaches the port.
    pub(super) loopback: bool,
}

/// Serves until the edge has ended.
pub(super) async fn serve(listener: TcpListener, edge: EdgeHandle, guard: Guard, hosts: Arc<Hosts>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => Door::new(listener),
        Err(error) => {
            tracing::error!(%error, "HTTP is not served");
            return;
        }
    };
    let schemas = Arc::new(signalbox_schemas::schema::files().into_iter().collect());
    let clients = Arc::new(Semaphore::new(CLIENTS_MAX));
    let app = Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/schemas", get(schema_list))
        .route("/schemas/{*path}", get(schema))
        .route("/catalogue", get(catalogue))
        .route("/events", get(events))
        .with_state(Served { edge: edge.clone(), schemas, clients, guard })
        .layer(from_fn_with_state(hosts, hosts::guard));
    let ended = async move {
        edge.wait_end().await;
    };
    if let Err(error) = axum::serve(listener, app).with_graceful_shutdown(ended).await {
        tracing::error!(%error, "HTTP is no longer served");
    }
}

async fn health(State(served): State<Served>) -> Response {
    let report = health_report(&served.edge);
    let failed = report["status"] == "failed";
    let code = if failed { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (code, Json(report)).into_response()
}

/// What `/health` and the admin socket's `health` answer.
pub(super) fn health_report(edge: &EdgeHandle) -> Value {
    let figures = edge.status();
    let components = edge.components();
    let worst = components.iter().any(|c| c.state != ComponentState::Up);
    let status = match figures.phase {
        Phase::Failed => "failed",
        Phase::Draining | Phase::Stopping => "draining",
        Phase::Starting => "starting",
        Phase::Serving if worst => "degraded",
        Phase::Serving => "ok",
    };
    json!({
        "status": status,
        "version": figures.version,
        "uptime": figures.uptime.0 / 1_000_000_000,
        "components": components,
        "metrics": { "calls_active": figures.calls(), "registrations": figures.registrations() },
    })
}

async fn ready(State(served): State<Served>) -> Response {
    match served.edge.not_ready() {
        None => (StatusCode::OK, "ready\n").into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn metrics(State(served): State<Served>) -> Response {
    ([(header::CONTENT_TYPE, OPENMETRICS)], served.edge.metrics()).into_response()
}

async fn schema_list(State(served): State<Served>) -> Json<Vec<String>> {
    Json(served.schemas.keys().cloned().collect())
}

async fn schema(State(served): State<Served>, Path(path): Path<String>) -> Response {
    let Some(text) = served.schemas.get(&path) else {
        return (StatusCode::NOT_FOUND, "no such schema; /schemas lists them\n").into_response();
    };
    let kind = if path.ends_with(".json") { "application/schema+json" } else { "application/yaml" };
    ([(header::CONTENT_TYPE, kind)], text.clone()).into_response()
}

async fn catalogue() -> Response {
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], signalbox_schemas::page::html()).into_response()
}

/// See [`super::events`].
async fn events(
    State(served): State<Served>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Response {
    if let Err((status, why)) = served.guard.check(&headers).await {
        return (status, format!("{why}\n")).into_response();
    }
    // Bytes that are no text are no position of ours either.
    let last_event_id = headers.get("last-event-id").map(|value| String::from_utf8_lossy(value.as_bytes()));
    let wanted = match Wanted::read(&query, last_event_id.as_deref()) {
        Ok(wanted) => wanted,
        Err(why) => return (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response(),
    };
    let Ok(place) = Arc::clone(&served.clients).try_acquire_owned() else {
        let why = format!("{CLIENTS_MAX} clients read events already; a broker serves more\n");
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "10")], why).into_response();
    };
    let (journal, settings) = (served.edge.journal().clone(), served.edge.settings());
    let reading = journal.clone();
    let open = move || Feed::open(&reading, settings.identity.clone(), settings.journal, wanted);
    let feed = match tokio::task::spawn_blocking(open).await {
        Ok(Ok(feed)) => feed,
        Ok(Err(error)) => {
            tracing::error!(%error, "the journal cannot be read for a client of /events");
            return (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response();
        }
        Err(_) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    };
    let chunks = serve_events(feed, &journal);
    let body = futures_util::stream::unfold((chunks, place), |(mut chunks, place)| async move {
        let chunk = chunks.recv().await?;
        Some((Ok::<Bytes, Infallible>(chunk), (chunks, place)))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // Proxies that buffer would hold an event back until the next ones.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::from_stream(body)).into_response()
}

impl Guard {
    async fn check(&self, headers: &HeaderMap) -> Result<(), (StatusCode, &'static str)> {
        let Some(file) = &self.token_file else {
            let why = "events name people: without [admin] events_token_file they are told on loopback only";
            return if self.loopback { Ok(()) } else { Err((StatusCode::FORBIDDEN, why)) };
        };
        let Ok(token) = tokio::fs::read(file).await else {
            tracing::error!(file = %file.display(), "the token of /events cannot be read");
            return Err((StatusCode::SERVICE_UNAVAILABLE, "the token's file cannot be read"));
        };
        let given = headers.get(header::AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
        let given = given.strip_prefix(b"Bearer ").unwrap_or_default();
        if same(given, token.trim_ascii()) {
            return Ok(());
        }
        Err((StatusCode::UNAUTHORIZED, "send the token: Authorization: Bearer …"))
    }
}

/// Compares in a time that does not tell how much is right; an empty token lets nobody in.
fn same(given: &[u8], token: &[u8]) -> bool {
    let differs = given.iter().zip(token).fold(0, |differs, (a, b)| differs | (a ^ b));
    !token.is_empty() && given.len() == token.len() && differs == 0
}
