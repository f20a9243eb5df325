//! The pages for approvers: what waits for them, one request with all that it says, and the decision.
//!
//! A browser looks with a session of its own. It decides with one that comes of a fresh login at the provider for exactly the
//! request's contents, by a form that only its own page can have made, never by a link.

mod decide;
mod list;
mod request;
mod sign_in;
mod spell;
mod view;

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header::RETRY_AFTER};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Router, middleware};
use uuid::Uuid;

use super::api::Api;
use super::error::ApiError;
use super::limits::Limits;
use super::oauth::{cookie, sentence, strangers};
use super::route::{Needs, Route, router};
use super::web;
use crate::domain::BreakGlassId;
use crate::identity::Identity;
use crate::login::{FreshError, PageError, SessionError};
use crate::store::SessionRow;

/// Every page. The router is built of this table.
pub const ROUTES: &[Route<Api>] = &[
    Route::new("GET", "/break-glass", Needs::Page, || get(list::show)),
    Route::new("GET", "/break-glass/sign-in", Needs::Nothing, || get(sign_in::begin)),
    Route::new("POST", "/break-glass/sign-out", Needs::Page, || post(sign_in::end)),
    Route::new("GET", "/break-glass/{id}", Needs::Page, || get(request::show)),
    Route::new("GET", "/break-glass/{id}/sign-in", Needs::Page, || get(sign_in::again)),
    Route::new("POST", "/break-glass/{id}/decide", Needs::Page, || post(decide::decide)),
];

/// The pages. They need the extension [`super::ClientAddress`] on every request; what strangers do here is counted in `limits`.
pub fn routes(api: Api, limits: Arc<Limits>) -> Router {
    router(ROUTES).layer(middleware::from_fn_with_state(limits, strangers::count)).with_state(api)
}

/// A browser that is signed in, and by whom.
struct Browser {
    session: SessionRow,
    identity: Identity,
    address: IpAddr,
}

/// What no form of another page can say: what it does, to which request, over which contents.
fn deciding(id: BreakGlassId, sha256: &str) -> String {
    format!("decide {id} {sha256}")
}

/// What the form that signs out says.
const SIGN_OUT: &str = "sign out";

/// The browser of this request; else the page that says how to sign in, leading back to `to`, or what is in the way.
async fn browser(
    api: &Api,
    headers: &HeaderMap,
    address: IpAddr,
    to: Option<BreakGlassId>,
) -> Result<Browser, Response> {
    let cookie = cookie::PAGE.read(headers, api.login.settings().is_https());
    let session = match api.login.at_page(cookie.as_deref(), address).await {
        Ok(session) => session,
        Err(PageError::Session(SessionError::Store(error))) => return Err(said(&error.into())),
        Err(_) => return Err(view::signed_out(api, to)),
    };
    api.limits.person(&session.person).await.map_err(|error| said(&error))?;
    match api.login.fresh_identity(&session).await {
        Ok(identity) => Ok(Browser { session, identity, address }),
        Err(FreshError::Ended(_)) => Err(view::signed_out(api, to)),
        Err(error) => Err(said(&error.into())),
    }
}

/// The request that a path names.
fn named(text: &str) -> Option<BreakGlassId> {
    Uuid::try_parse(text).ok().map(BreakGlassId)
}

/// To whoever names none there is no such request.
fn unknown() -> Response {
    said(&crate::break_glass::BreakGlassError::Unknown.into())
}

/// An error as a page.
fn said(error: &ApiError) -> Response {
    let problem = error.problem();
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let title = match status {
        StatusCode::NOT_FOUND => "There is nothing here for you",
        StatusCode::TOO_MANY_REQUESTS => "Not now",
        StatusCode::CONFLICT => "Look again",
        status if status.is_server_error() => "This does not work at the moment",
        _ => "This cannot be done",
    };
    let text: Vec<_> = [problem.detail.as_str()].into_iter().chain(problem.help.iter().map(String::as_str)).collect();
    let text: Vec<_> = text.into_iter().map(sentence).collect();
    let mut response = web::message(status, title, &text.join(" "));
    if let Some(seconds) = problem.retry_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
