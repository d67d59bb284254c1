//! HTTP: health, readiness, metrics, schemas. It changes nothing.

use crate::handle::EdgeHandle;
use crate::status::{ComponentState, Phase};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone)]
struct Served {
    edge: EdgeHandle,
    /// Every published schema by its path, generated once.
    schemas: Arc<BTreeMap<String, String>>,
}

/// Serves until the edge has ended.
pub(super) async fn serve(listener: TcpListener, edge: EdgeHandle) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "HTTP is not served");
            return;
        }
    };
    let schemas = Arc::new(signalbox_schemas::schema::files().into_iter().collect());
    let app = Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/schemas", get(schema_list))
        .route("/schemas/{*path}", get(schema))
        .with_state(Served { edge: edge.clone(), schemas });
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
        "uptime_seconds": figures.uptime.0 / 1_000_000_000,
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
