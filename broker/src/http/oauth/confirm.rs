//! `GET` and `POST /oauth/confirm`: the page before every code, and the decision on it.

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};

use super::form::Params;
use super::{cookie, refuse};
use crate::http::{ClientAddress, web};
use crate::login::{Confirmed, Login, LoginError};

/// The page.
pub(super) async fn show(State(login): State<Arc<Login>>, headers: HeaderMap) -> Response {
    let cookie = cookie::LOGIN.read(&headers, login.settings().is_https());
    match login.confirmation(cookie.as_deref()).await {
        Ok(confirmation) => web::confirm(&confirmation),
        Err(error) => refuse(&error),
    }
}

/// The decision.
pub(super) async fn decide(
    State(login): State<Arc<Login>>,
    Extension(ClientAddress(address)): Extension<ClientAddress>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let https = login.settings().is_https();
    let Ok(params) = Params::parse(&body) else {
        return refuse(&LoginError::Request("a parameter is given more than once".into()));
    };
    let go_on = match params.text("decision") {
        Some("continue") => true,
        Some("cancel") => false,
        _ => return refuse(&LoginError::Request("it has no decision".into())),
    };
    let cookie = cookie::LOGIN.read(&headers, https);
    let confirmed = match login.confirm(cookie.as_deref(), params.text("csrf"), go_on, address).await {
        Ok(confirmed) => confirmed,
        Err(error) => return refuse(&error),
    };
    let mut response = match confirmed {
        Confirmed::Redirect(to) => Redirect::to(to.as_str()).into_response(),
        Confirmed::Code(code) => web::code(&code),
        Confirmed::Device => web::message(
            StatusCode::OK,
            "You are logged in",
            "Your terminal goes on by itself. You can close this page.",
        ),
        Confirmed::Cancelled => {
            web::message(StatusCode::OK, "Cancelled", "Nobody was logged in. You can close this page.")
        }
    };
    cookie::LOGIN.clear(&mut response, https);
    response
}
