//! Signing in at the pages, anew for a decision, and out.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::{SIGN_OUT, browser, named, said, unknown};
use crate::break_glass::ByPage;
use crate::domain::BreakGlassState;
use crate::http::api::Api;
use crate::http::error::ApiError;
use crate::http::oauth::authorize::started;
use crate::http::oauth::cookie;
use crate::http::oauth::form::Params;
use crate::http::oauth::refuse;
use crate::http::{ClientAddress, web};
use crate::login::{Deciding, LoginError};
use ichor_wire::problem::Code;

/// Begins a sign-in that leads to the request, or the list, that `to` names.
pub(super) async fn begin(
    State(api): State<Api>,
    Extension(ClientAddress(address)): Extension<ClientAddress>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let Ok(params) = Params::parse(query.unwrap_or_default().as_bytes()) else {
        return refuse(&LoginError::Request("a parameter is given more than once".into()));
    };
    // nothing but our own pages: no link leads elsewhere by way of a sign-in
    let to = match params.text("to") {
        Some("list") => "/break-glass".to_owned(),
        Some(text) => match named(text) {
            Some(id) => format!("/break-glass/{id}"),
            None => return unknown(),
        },
        None => return refuse(&LoginError::Request("it does not say where it leads".into())),
    };
    let place = params.text("to").unwrap_or_default().to_owned();
    // signing in anew ends the session that this browser has
    let cookie = cookie::PAGE.read(&headers, api.login.settings().is_https());
    let before = match &cookie {
        Some(cookie) => api.login.at_page(Some(cookie), address).await.ok(),
        None => None,
    };
    match api.login.sign_in(to, None, before.as_ref(), params.text("provider"), address).await {
        Ok(start) => started(&api.login, start, |alias| format!("/break-glass/sign-in?to={place}&provider={alias}")),
        Err(error) => refuse(&error),
    }
}

/// Begins a fresh login for a decision on the contents that the page showed.
pub(super) async fn again(
    State(api): State<Api>,
    Extension(ClientAddress(address)): Extension<ClientAddress>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let Some(id) = named(&id) else { return unknown() };
    let browser = match browser(&api, &headers, address, Some(id)).await {
        Ok(browser) => browser,
        Err(page) => return page,
    };
    let seen = match api.break_glass.show(&browser.identity, id).await {
        Ok(seen) => seen,
        Err(error) => return said(&error.into()),
    };
    if seen.state != BreakGlassState::Pending {
        let text = format!("the request is {}, so there is nothing to decide", seen.state);
        return said(&ApiError::new(Code::WrongState, text));
    }
    let acr = match api.break_glass.by_page(&browser.identity, &seen) {
        ByPage::SignIn { acr, .. } => acr,
        ByPage::Decide { .. } => browser.identity.acr().map(Into::into),
        ByPage::Nothing(refusal) => return said(&refusal.into()),
    };
    let deciding = Deciding { request: id.0, hash: seen.contents.hash, acr };
    let (to, alias) = (format!("/break-glass/{id}"), browser.session.person.provider.clone());
    let begun = api.login.sign_in(to, Some(deciding), Some(&browser.session), Some(alias.as_str()), address).await;
    match begun {
        Ok(start) => started(&api.login, start, |_| format!("/break-glass/{id}")),
        Err(error) => refuse(&error),
    }
}

/// Signs the browser out.
pub(super) async fn end(
    State(api): State<Api>,
    Extension(ClientAddress(address)): Extension<ClientAddress>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let https = api.login.settings().is_https();
    let cookie = cookie::PAGE.read(&headers, https);
    let Ok(session) = api.login.at_page(cookie.as_deref(), address).await else {
        return web::message(StatusCode::FORBIDDEN, "You are signed out", "There was nothing left to sign out of.");
    };
    let mark = Params::parse(&body).ok().and_then(|params| params.owned("csrf"));
    if let Err(error) = api.login.check_form(&session, SIGN_OUT, mark.as_deref(), address) {
        return super::decide::not_ours(&error);
    }
    if let Err(error) = api.login.sign_out(&session, address).await {
        tracing::warn!(%error, "a browser could not be signed out");
        return said(&ApiError::new(Code::StoreUnavailable, "you are not signed out, since it cannot be recorded"));
    }
    let mut response = web::message(StatusCode::OK, "You are signed out", "You can close this page.");
    cookie::PAGE.clear(&mut response, https);
    response
}
