//! Accepting connections.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State as Shared};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::gate::{Endpoint, Outage};
use super::{Inner, authorize, metadata, token, userinfo};

pub(super) fn router(provider: Inner) -> Router {
    Router::new()
        .route("/.well-known/openid-configuration", get(metadata::discovery))
        .route("/jwks", get(metadata::jwks))
        .route("/authorize", get(authorize::authorize))
        .route("/login/{id}", post(authorize::login))
        .route("/token", post(token::token))
        .route("/userinfo", get(userinfo::userinfo).post(userinfo::userinfo))
        .route("/revoke", post(token::revoke))
        .layer(middleware::from_fn_with_state(provider.clone(), gate))
        .with_state(provider)
}

/// Serves until the task is aborted.
pub(super) async fn serve(listener: TcpListener, provider: Inner) {
    let router = router(provider.clone());
    // Owned by this task, so that stopping the provider ends open connections too.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        // A failed accept is that connection's trouble, not the listener's.
        let Ok((stream, _)) = listener.accept().await else { continue };
        if provider.gate.outage() == Outage::Refusing {
            continue;
        }
        let (router, provider) = (router.clone(), Arc::clone(&provider));
        connections.spawn(async move {
            let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let (router, refusing) = (router.clone(), provider.gate.outage() == Outage::Refusing);
                async move {
                    if refusing {
                        // An error from the service makes hyper close the connection without an answer.
                        return Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
                    }
                    let answer: Result<_, Infallible> =
                        hyper::service::Service::call(&TowerToHyperService::new(router), request).await;
                    Ok(answer.unwrap_or_else(|never| match never {}))
                }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn gate(Shared(provider): Shared<Inner>, request: Request, next: Next) -> Response {
    let endpoint = match request.uri().path() {
        "/.well-known/openid-configuration" => Some(Endpoint::Discovery),
        "/jwks" => Some(Endpoint::Jwks),
        "/authorize" => Some(Endpoint::Authorize),
        "/token" => Some(Endpoint::Token),
        "/userinfo" => Some(Endpoint::Userinfo),
        "/revoke" => Some(Endpoint::Revoke),
        path if path.starts_with("/login/") => Some(Endpoint::Login),
        _ => None,
    };
    if let Some(endpoint) = endpoint {
        provider.gate.pass(endpoint).await;
    }
    if provider.gate.outage() == Outage::Unavailable {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    next.run(request).await
}
