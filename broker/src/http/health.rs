//! `/healthz`, `/readyz` and `/metrics`, on a listener of their own.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;

use crate::http::layers::{unknown_method, unknown_path};
use crate::readiness::{Check, Readiness};

/// What `/readyz` answers: 200 when nothing that everyone needs is out, else 503.
#[derive(Debug, Serialize)]
struct Ready {
    ready: bool,
    checks: Vec<Check>,
}

#[derive(Clone)]
struct Health {
    readiness: Arc<Readiness>,
    metrics: PrometheusHandle,
}

/// The router of the health listener.
pub fn routes(readiness: Arc<Readiness>, metrics: PrometheusHandle) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(scrape))
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .with_state(Health { readiness, metrics })
}

async fn ready(State(health): State<Health>) -> impl IntoResponse {
    let checks = health.readiness.checks().await;
    let ready = checks.iter().all(|check| check.ok || !check.required);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Ready { ready, checks }))
}

async fn scrape(State(health): State<Health>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], health.metrics.render())
}
