//! `POST /oauth/token`, `/oauth/revoke` and `/oauth/device`: what a client calls without a browser.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::json;

use super::form::{Params, is_form};
use super::strangers::PartOfProtocol;
use crate::http::ClientAddress;
use crate::login::{Login, OauthError, TokenGrant, TokenRequest};

/// The header of a proof (RFC 9449 §4.1).
const DPOP: HeaderName = HeaderName::from_static("dpop");

/// The header of the next nonce (RFC 9449 §8).
const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// A code for a session.
pub(super) async fn token(
    State(login): State<Arc<Login>>,
    Extension(ClientAddress(address)): Extension<ClientAddress>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let result = async {
        let params = params(&headers, &body)?;
        let grant = match params.text("grant_type") {
            Some("authorization_code") => TokenGrant::Code {
                code: required(&params, "code")?,
                verifier: required(&params, "code_verifier")?,
                redirect_uri: required(&params, "redirect_uri")?,
            },
            Some("urn:ietf:params:oauth:grant-type:device_code") => {
                TokenGrant::Device { device_code: required(&params, "device_code")? }
            }
            _ => return Err(error("unsupported_grant_type", "the `grant_type` is not one that the metadata lists")),
        };
        let proofs = proofs(&headers);
        let client_id = params.text("client_id");
        login.token(&TokenRequest { client_id, grant, proofs: &proofs, body: &body, address }).await
    };
    answer(&login, result.await.map(|token| Json(token).into_response()))
}

/// Ends a session.
pub(super) async fn revoke(
    State(login): State<Arc<Login>>,
    Extension(ClientAddress(address)): Extension<ClientAddress>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let result = async {
        let params = params(&headers, &body)?;
        let token = required(&params, "token")?;
        login.revoke(params.text("client_id"), token, &proofs(&headers), &body, address).await
    };
    answer(&login, result.await.map(IntoResponse::into_response))
}

/// Begins a device login.
pub(super) async fn device(
    State(login): State<Arc<Login>>,
    Extension(ClientAddress(address)): Extension<ClientAddress>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let result = async {
        let params = params(&headers, &body)?;
        let (client_id, jkt) = (params.text("client_id"), params.text("dpop_jkt"));
        login.begin_device(client_id, jkt, params.text("client_host"), address).await
    };
    answer(&login, result.await.map(|start| Json(start).into_response()))
}

fn params(headers: &HeaderMap, body: &Bytes) -> Result<Params, OauthError> {
    if !is_form(headers) {
        return Err(error("invalid_request", "the body is not `application/x-www-form-urlencoded`"));
    }
    Params::parse(body).map_err(|repeated| error("invalid_request", &repeated.to_string()))
}

fn required<'a>(params: &'a Params, name: &str) -> Result<&'a str, OauthError> {
    params.text(name).ok_or_else(|| error("invalid_request", &format!("the parameter `{name}` is missing")))
}

/// The `DPoP` headers; one that is not text counts as one that cannot be a proof.
fn proofs(headers: &HeaderMap) -> Vec<&str> {
    headers.get_all(DPOP).iter().map(|value| value.to_str().unwrap_or_default()).collect()
}

fn error(code: &'static str, description: &str) -> OauthError {
    OauthError { status: StatusCode::BAD_REQUEST, code, description: description.into() }
}

/// The answer, or the error as RFC 6749 §5.2 writes it; the nonce in any case.
fn answer(login: &Login, result: Result<Response, OauthError>) -> Response {
    let mut response = result.unwrap_or_else(|error| {
        let body = json!({ "error": error.code, "error_description": error.description });
        let mut response = (error.status, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response();
        if matches!(error.code, "use_dpop_nonce" | "authorization_pending") {
            response.extensions_mut().insert(PartOfProtocol);
        }
        response
    });
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(nonce) = HeaderValue::from_str(&login.dpop_nonce()) {
        headers.insert(DPOP_NONCE, nonce);
    }
    response
}
