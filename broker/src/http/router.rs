//! The public router: what is served, and the layers around it.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use ichor_wire::problem::Code;
use tokio::sync::Semaphore;
use tower::{ServiceExt, service_fn};

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

/// What stands around the routes. One function that calls the next, and not a layer for each: layers of a router are cloned and
/// boxed one inside the other for every request.
struct Front {
    edge: Edge,
    forms: Forms,
    /// As many permits as requests may be worked on at once, over all routes.
    places: Semaphore,
    request_time: Duration,
    routes: Router,
}

/// The public router.
pub fn public(api: Api, login: Arc<Login>, tlog: Tlog, edge: Edge, bounds: Bounds) -> Router {
    let limits = Arc::clone(&api.limits);
    let routes = Router::new()
        .merge(api::routes(api))
        .merge(oauth::routes(login, limits))
        .merge(tlog::routes(tlog))
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method);
    let front = Arc::new(Front {
        edge,
        forms: Forms::new(bounds.concurrent),
        places: Semaphore::new(bounds.concurrent.min(Semaphore::MAX_PERMITS)),
        request_time: bounds.request_time,
        routes,
    });
    Router::new().fallback_service(service_fn(move |request: Request| {
        let front = Arc::clone(&front);
        async move { Ok::<_, Infallible>(front.answer(request).await) }
    }))
}

// === impl Front ===

impl Front {
    /// From outside in: the edge, a stranger's form, a panic's end, a place, a time.
    async fn answer(&self, request: Request) -> Response {
        edge(&self.edge, request, |request| forms(&self.forms, request, |request| self.unharmed(request))).await
    }

    /// A handler that panics is a bug: it is answered like one, and the listener goes on.
    async fn unharmed(&self, request: Request) -> Response {
        let answered = AssertUnwindSafe(self.bounded(request)).catch_unwind().await;
        answered.unwrap_or_else(|_| ApiError::internal(&"a handler panicked").into_response())
    }

    async fn bounded(&self, mut request: Request) -> Response {
        let Ok(_place) = self.places.try_acquire() else {
            return ApiError::new(Code::Unavailable, "the broker is busy").retry_after(1).into_response();
        };
        DefaultBodyLimit::max(LARGEST_BODY).apply(&mut request);
        match tokio::time::timeout(self.request_time, self.routes.clone().oneshot(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(_) => ApiError::new(Code::Timeout, "the request took too long").into_response(),
        }
    }
}
