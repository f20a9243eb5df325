//! The authorization server's endpoints: metadata, the way of a login, tokens.

mod authorize;
mod confirm;
mod cookie;
mod device;
mod form;
mod strangers;
mod token;

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};

use super::limits::Limits;
use super::web;
use crate::login::{Login, LoginError};

/// Every route outside the API, and whether a stranger may reach it: all may, since nobody is logged in yet; revocation
/// proves the token's key.
pub const ROUTES: &[(&str, &str)] = &[
    ("GET", "/.well-known/oauth-authorization-server"),
    ("GET", "/oauth/authorize"),
    ("GET", "/oauth/callback/{alias}"),
    ("GET", "/oauth/confirm"),
    ("POST", "/oauth/confirm"),
    ("POST", "/oauth/token"),
    ("POST", "/oauth/revoke"),
    ("POST", "/oauth/device"),
    ("GET", "/oauth/paste"),
    ("GET", "/oauth/style.css"),
    ("GET", "/device"),
    ("POST", "/device"),
];

/// The routes. They need the extension [`super::ClientAddress`] on every request. What strangers do here is counted in
/// `limits`, by address.
pub fn routes(login: Arc<Login>, limits: Arc<Limits>) -> Router {
    Router::new()
        .route("/.well-known/oauth-authorization-server", get(metadata))
        .route("/oauth/authorize", get(authorize::begin))
        .route("/oauth/callback/{alias}", get(authorize::callback))
        .route("/oauth/confirm", get(confirm::show).post(confirm::decide))
        .route("/oauth/token", post(token::token))
        .route("/oauth/revoke", post(token::revoke))
        .route("/oauth/device", post(token::device))
        .route("/oauth/paste", get(paste))
        .route("/oauth/style.css", get(web::stylesheet))
        .route("/device", get(device::show).post(device::enter))
        .layer(middleware::from_fn_with_state(limits, strangers::count))
        .with_state(login)
}

async fn metadata(State(login): State<Arc<Login>>) -> Response {
    Json(login.metadata()).into_response()
}

/// The paste URI is only a name: the code stands on the page that answers the confirmation.
async fn paste() -> Response {
    refuse(&LoginError::Over)
}

/// A page that says no; or, where the client listens on loopback, the way back to it.
fn refuse(error: &LoginError) -> Response {
    tracing::debug!(cause = error.cause(), "login refused");
    match error {
        LoginError::Back { to, .. } => Redirect::to(to.as_str()).into_response(),
        error => web::message(error.status(), "This did not work", &sentence(&error.to_string())),
    }
}

/// An error's text as a sentence for a page.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}
