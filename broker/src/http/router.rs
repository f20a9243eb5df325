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
use super::pages;
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
        .merge(pages::routes(api.clone(), Arc::clone(&limits)))
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

#[cfg(test)]
mod tests {
    use axum::body::{Body, Bytes};
    use axum::http::StatusCode;
    use axum::routing::{get, post};
    use ichor_wire::problem::Problem;
    use jiff::Timestamp;

    use super::*;
    use crate::clock::FrozenClock;

    const TIME: Duration = Duration::from_secs(30);

    /// Routes that misbehave, and so many places.
    fn front(concurrent: usize) -> Arc<Front> {
        let panics = get(async || -> &'static str { panic!("a handler's bug") });
        let routes = Router::new()
            .route("/fine", get("fine"))
            .route("/panics", panics)
            .route("/waits", get(std::future::pending::<()>))
            .route("/takes", post(async |body: Bytes| body.len().to_string()));
        let clock = FrozenClock::at(Timestamp::UNIX_EPOCH);
        let edge = Edge { trusted_proxies: [].into(), https: false, minimum_client: None, clock };
        let places = Semaphore::new(concurrent);
        Arc::new(Front { edge, forms: Forms::new(concurrent), places, request_time: TIME, routes })
    }

    /// The status and, of a problem, its code. Nothing is waited for longer than an hour.
    async fn asked(front: &Front, request: Request) -> (StatusCode, Option<Code>) {
        let answer = tokio::time::timeout(Duration::from_secs(3600), front.answer(request)).await.unwrap();
        (answer.status(), answer.extensions().get::<Problem>().map(|problem| problem.code))
    }

    fn at(path: &str) -> Request {
        Request::get(path).body(Body::empty()).unwrap()
    }

    const FINE: (StatusCode, Option<Code>) = (StatusCode::OK, None);

    #[tokio::test]
    async fn a_handler_that_panics_is_answered_and_gives_its_place_back() {
        let front = front(1);
        for _ in 0..2 {
            assert_eq!(asked(&front, at("/panics")).await.1, Some(Code::Internal));
        }
        assert_eq!(asked(&front, at("/fine")).await, FINE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_has_its_time_and_gives_its_place_back() {
        let front = front(1);
        let begun = tokio::time::Instant::now();
        assert_eq!(asked(&front, at("/waits")).await.1, Some(Code::Timeout));
        assert_eq!(begun.elapsed(), TIME);
        assert_eq!(asked(&front, at("/fine")).await, FINE);
    }

    #[tokio::test]
    async fn so_many_are_worked_on_and_no_more_wait() {
        let front = front(2);
        let mut waiting: Vec<_> = (0..2).map(|_| Box::pin(front.answer(at("/waits")))).collect();
        assert!(waiting.iter_mut().all(|request| request.now_or_never().is_none()));
        assert_eq!(asked(&front, at("/fine")).await.1, Some(Code::Unavailable));
        // whoever hangs up gives the place back
        drop(waiting);
        assert_eq!(asked(&front, at("/fine")).await, FINE);
    }

    #[tokio::test]
    async fn a_body_is_no_larger_than_the_bound() {
        let front = front(1);
        let of = |size: usize| Request::post("/takes").body(Body::from(vec![0; size])).unwrap();
        assert_eq!(asked(&front, of(LARGEST_BODY)).await, FINE);
        assert_eq!(asked(&front, of(LARGEST_BODY + 1)).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    }
}
