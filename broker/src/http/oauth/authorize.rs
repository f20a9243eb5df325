//! `GET /oauth/authorize` and `GET /oauth/callback/{alias}`: to the provider and back.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Redirect, Response};

use super::form::Params;
use super::{cookie, refuse};
use crate::http::{ClientAddress, web};
use crate::login::{Answer, Arrived, Ask, Login, LoginError, Start};

/// Begins a login.
pub(super) async fn begin(
    State(login): State<Arc<Login>>,
    Extension(ClientAddress(address)): Extension<ClientAddress>,
    RawQuery(query): RawQuery,
) -> Response {
    let query = query.unwrap_or_default();
    let Ok(params) = Params::parse(query.as_bytes()) else {
        return refuse(&LoginError::Request("a parameter is given more than once".into()));
    };
    let ask = Ask {
        client_id: params.owned("client_id"),
        response_type: params.owned("response_type"),
        redirect_uri: params.owned("redirect_uri"),
        state: params.owned("state"),
        code_challenge: params.owned("code_challenge"),
        code_challenge_method: params.owned("code_challenge_method"),
        dpop_jkt: params.owned("dpop_jkt"),
        client_host: params.owned("client_host"),
        provider: params.owned("provider"),
        acr_values: params.owned("acr_values"),
        max_age: params.owned("max_age"),
    };
    match login.authorize(&ask, address).await {
        Ok(start) => started(&login, start, |alias| format!("/oauth/authorize?{query}&provider={alias}")),
        Err(error) => refuse(&error),
    }
}

/// To the provider, with the cookie; or the choice of providers, with `link` for each.
pub(in crate::http) fn started(login: &Login, start: Start, link: impl Fn(&str) -> String) -> Response {
    match start {
        Start::Go(begun) => {
            let mut response = Redirect::to(begun.url.as_str()).into_response();
            cookie::LOGIN.set(&mut response, &begun.cookie, login.settings().is_https());
            response
        }
        Start::Choose(aliases) => {
            let links = aliases.into_iter().map(|alias| (link(&alias), alias)).collect();
            web::choose(links)
        }
    }
}

/// Takes the provider's answer.
pub(super) async fn callback(
    State(login): State<Arc<Login>>,
    Extension(ClientAddress(address)): Extension<ClientAddress>,
    Path(alias): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let Ok(params) = Params::parse(query.unwrap_or_default().as_bytes()) else {
        return refuse(&LoginError::Request("a parameter is given more than once".into()));
    };
    let answer = Answer {
        code: params.owned("code"),
        state: params.owned("state"),
        iss: params.owned("iss"),
        error: params.owned("error"),
        error_description: params.owned("error_description"),
    };
    let https = login.settings().is_https();
    let cookie = cookie::LOGIN.read(&headers, https);
    match login.callback(alias, cookie, answer, address).await {
        Ok(Arrived::ToConfirm) => Redirect::to("/oauth/confirm").into_response(),
        Ok(Arrived::AtPages(opened)) => {
            let mut response = Redirect::to(&opened.to).into_response();
            cookie::LOGIN.clear(&mut response, https);
            cookie::PAGE.set(&mut response, &opened.cookie, https);
            response
        }
        Err(error) => refuse(&error),
    }
}
