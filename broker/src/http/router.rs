//! The public router: what is served, and the layers around it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::response::{IntoResponse, Response};
use axum::{BoxError, Router, middleware};
use ichor_wire::problem::Code;
use tower::ServiceBuilder;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower_http::catch_panic::CatchPanicLayer;

use super::api::{self, Api};
use super::bodies::{Forms, forms};
use super::error::ApiError;
use super::layers::{Edge, edge, unknown_method, unknown_path};
use super::oauth;
use super::tlog::{self, Tlog};
use crate::login::Login;

/// The largest body, in bytes. A CSR with an RSA-4096 key takes 2 KiB.
pub const LARGEST_BODY: usize = 64 * 1024;

/// Bounds of the router.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Requests worked on at once.
    pub concurrent: usize,
    /// The longest that one request may take.
    pub request_time: Duration,
}

/// The public router.
pub fn public(api: Api, login: Arc<Login>, tlog: Tlog, edge_state: Edge, bounds: Bounds) -> Router {
    let limits = Arc::clone(&api.limits);
    Router::new()
        .merge(api::routes(api))
        .merge(oauth::routes(login, limits))
        .merge(tlog::routes(tlog))
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(
            ServiceBuilder::new()
                .layer(axum::error_handling::HandleErrorLayer::new(overloaded))
                .load_shed()
                // one count for all routes: the plain limit would be one for each, since axum wraps them one by one
                .layer(GlobalConcurrencyLimitLayer::new(bounds.concurrent))
                .timeout(bounds.request_time),
        )
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(Forms::new(bounds.concurrent), forms))
        .layer(middleware::from_fn_with_state(edge_state, edge))
}

/// The answer when a limit of the stack above is hit.
async fn overloaded(error: BoxError) -> Response {
    if error.is::<tower::timeout::error::Elapsed>() {
        return ApiError::new(Code::Timeout, "the request took too long").into_response();
    }
    if error.is::<tower::load_shed::error::Overloaded>() {
        return ApiError::new(Code::Unavailable, "the broker is busy").retry_after(1).into_response();
    }
    ApiError::internal(&error).into_response()
}

/// The answer when a handler panicked: a bug, answered like one, and the listener goes on.
fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    ApiError::internal(&"a handler panicked").into_response()
}
