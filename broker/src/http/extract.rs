//! Who calls, taken from a request: the only way in for every handler under `/v1`.
//!
//! - [`Caller`]: a live session, proven.
//! - [`Fresh`]: the same, its groups asked again where they were old. For everything that decides.
//! - [`Signed`]: the same with a JSON body whose digest stood in the proof. For everything that changes state.

use std::net::IpAddr;

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use ichor_wire::problem::Code;
use serde::de::DeserializeOwned;

use super::ClientAddress;
use super::api::Api;
use super::bodies::read;
use super::error::ApiError;
use super::router::LARGEST_BODY;
use crate::identity::Identity;
use crate::login::{Presented, Proven, SessionError};
use crate::store::SessionRow;

/// A live session, proven by this request.
#[derive(Debug)]
pub struct Caller {
    /// The session.
    pub session: SessionRow,
    /// Where the request came from.
    pub address: IpAddr,
}

/// A live session whose groups are fresh.
#[derive(Debug)]
pub struct Fresh {
    /// Who.
    pub identity: Identity,
    /// Where the request came from.
    pub address: IpAddr,
}

/// A live session whose groups are fresh, with a body that the proof vouches for.
#[derive(Debug)]
pub struct Signed<T> {
    /// Who.
    pub identity: Identity,
    /// Where the request came from.
    pub address: IpAddr,
    /// The thumbprint of the session's key, which made the proof.
    pub jkt: String,
    /// The body, unknown fields refused.
    pub body: T,
}

/// A query string whose unknown or unreadable parts are refused with a problem.
#[derive(Debug)]
pub struct StrictQuery<T>(pub T);

impl FromRequestParts<Api> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let (session, address) = authenticate(parts, api).await?;
        Ok(Self { session, address })
    }
}

impl FromRequestParts<Api> for Fresh {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let (session, address) = authenticate(parts, api).await?;
        Ok(Self { identity: api.login.fresh_identity(&session).await?, address })
    }
}

impl<T: DeserializeOwned + Send> FromRequest<Api> for Signed<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let (proven, address) = prove(&parts, api).await?;
        // read only now, and parsed after its digest was found in the proof: a stranger's body is never waited for
        let bytes = read(body, LARGEST_BODY).await?;
        let session = admit(proven, &bytes, api, address).await?;
        let body = serde_json::from_slice(&bytes).map_err(|error| unreadable(&error))?;
        Ok(Self { identity: api.login.fresh_identity(&session).await?, address, jkt: session.jkt, body })
    }
}

impl<T: DeserializeOwned + Send> FromRequestParts<Api> for StrictQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, ApiError> {
        let query = axum::extract::Query::<T>::try_from_uri(&parts.uri);
        match query {
            Ok(query) => Ok(Self(query.0)),
            Err(error) => Err(ApiError::new(Code::BadRequest, short(&error.body_text()))),
        }
    }
}

async fn authenticate(parts: &Parts, api: &Api) -> Result<(SessionRow, IpAddr), ApiError> {
    let (proven, address) = prove(parts, api).await?;
    Ok((admit(proven, &[], api, address).await?, address))
}

/// Whoever calls has a session's token and its key; they are counted as that person. The body is not needed yet.
async fn prove(parts: &Parts, api: &Api) -> Result<(Proven, IpAddr), ApiError> {
    let address = parts.extensions.get::<ClientAddress>().map(|address| address.0);
    let address = address.ok_or_else(|| ApiError::internal(&"a request without an address"))?;
    let text = |value: &'_ axum::http::HeaderValue| value.to_str().map(str::to_owned).unwrap_or_default();
    let proofs: Vec<String> = parts.headers.get_all("dpop").iter().map(text).collect();
    let proofs: Vec<&str> = proofs.iter().map(String::as_str).collect();
    let presented = Presented {
        authorization: parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()),
        proofs: &proofs,
        method: parts.method.as_str(),
        path: parts.uri.path(),
        address,
    };
    let proven = match api.login.prove(&presented).await {
        Ok(proven) => proven,
        Err(error) => return Err(refused(&error, api, address).await),
    };
    api.limits.person(proven.person()).await?;
    Ok((proven, address))
}

/// The proof holds for this body too, and was not used before.
async fn admit(proven: Proven, body: &[u8], api: &Api, address: IpAddr) -> Result<SessionRow, ApiError> {
    match api.login.admit(proven, body).await {
        Ok(session) => Ok(session),
        Err(error) => Err(refused(&error, api, address).await),
    }
}

async fn refused(error: &SessionError, api: &Api, address: IpAddr) -> ApiError {
    if let SessionError::Store(error) = error {
        return error.clone().into();
    }
    // whoever has no session is counted by address; asking again with the nonce just learnt is part of the protocol
    if error.code() != Code::UseNonce
        && let Err(too_many) = api.limits.stranger(address).await
    {
        return too_many;
    }
    ApiError::new(error.code(), error.to_string())
}

fn unreadable(error: &serde_json::Error) -> ApiError {
    let text = error.to_string();
    let code = if text.starts_with("unknown field") { Code::UnknownField } else { Code::BadRequest };
    ApiError::new(code, short(&text))
}

/// A parser's message, cut: it may quote what was sent.
fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// Adds the newest DPoP nonce to every answer under `/v1`, so that a client always has a valid one.
pub async fn add_nonce(
    axum::extract::State(api): axum::extract::State<Api>,
    request: Request,
    next: axum::middleware::Next,
) -> Response {
    let mut response = next.run(request).await.into_response();
    if let Ok(value) = axum::http::HeaderValue::from_str(&api.login.dpop_nonce()) {
        response.headers_mut().insert("dpop-nonce", value);
    }
    response
}
