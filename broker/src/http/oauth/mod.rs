//! The authorization server's endpoints: metadata, the way of a login, tokens.

pub(super) mod authorize;
mod confirm;
pub(super) mod cookie;
mod device;
pub(super) mod form;
pub(super) mod strangers;
mod token;

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};

use super::limits::Limits;
use super::route::{Needs, Route, router};
use super::web;
use crate::login::{Login, LoginError};

/// Every route outside the API. The router is built of this table.
pub const ROUTES: &[Route<Arc<Login>>] = &[
    Route::new("GET", "/.well-known/oauth-authorization-server", Needs::Nothing, || get(metadata)),
    Route::new("GET", "/oauth/authorize", Needs::Nothing, || get(authorize::begin)),
    Route::new("GET", "/oauth/callback/{alias}", Needs::Cookie, || get(authorize::callback)),
    Route::new("GET", "/oauth/confirm", Needs::Cookie, || get(confirm::show)),
    Route::new("POST", "/oauth/confirm", Needs::Cookie, || post(confirm::decide)),
    Route::new("POST", "/oauth/token", Needs::Proof, || post(token::token)),
    Route::new("POST", "/oauth/revoke", Needs::Proof, || post(token::revoke)),
    Route::new("POST", "/oauth/device", Needs::Nothing, || post(token::device)),
    Route::new("GET", "/oauth/paste", Needs::Nothing, || get(paste)),
    Route::new("GET", "/oauth/style.css", Needs::Nothing, || get(web::stylesheet)),
    Route::new("GET", "/device", Needs::Nothing, || get(device::show)),
    Route::new("POST", "/device", Needs::Nothing, || post(device::enter)),
];

/// The routes. They need the extension [`super::ClientAddress`] on every request. What strangers do here is counted in
/// `limits`, by address.
pub fn routes(login: Arc<Login>, limits: Arc<Limits>) -> Router {
    router(ROUTES).layer(middleware::from_fn_with_state(limits, strangers::count)).with_state(login)
}

async fn metadata(State(login): State<Arc<Login>>) -> Response {
    Json(login.metadata()).into_response()
}

/// The paste URI is only a name: the code stands on the page that answers the confirmation.
async fn paste() -> Response {
    refuse(&LoginError::Over)
}

/// A page that says no; or, where the client listens on loopback, the way back to it.
pub(super) fn refuse(error: &LoginError) -> Response {
    tracing::debug!(cause = error.cause(), "login refused");
    match error {
        LoginError::Back { to, .. } => Redirect::to(to.as_str()).into_response(),
        error => web::message(error.status(), "This did not work", &sentence(&error.to_string())),
    }
}

/// An error's text as a sentence for a page.
pub(super) fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}
