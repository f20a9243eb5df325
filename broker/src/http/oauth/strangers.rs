//! The limit by address outside the API, where nobody is logged in yet.
//!
//! What a stranger can begin is counted before it is done; everything else only where it fails. So a person whose address
//! others have used up cannot begin a login, but one that was begun goes on: provider, confirmation, token.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::http::limits::Limits;
use crate::http::{ClientAddress, web};

/// Marks an error answer that belongs to the protocol: a nonce to be learnt, a confirmation to be waited for. Both come only
/// after a proof was checked, and are answers to clients that do as they should.
#[derive(Clone, Copy, Debug)]
pub(super) struct PartOfProtocol;

/// Counts what strangers do, and turns them away once the minute's worth of their address is used up.
pub(in crate::http) async fn count(
    State(limits): State<Arc<Limits>>,
    Extension(ClientAddress(address)): Extension<ClientAddress>,
    request: Request,
    next: Next,
) -> Response {
    let begins = matches!(
        (request.method(), request.uri().path()),
        (&Method::GET | &Method::HEAD, "/oauth/authorize" | "/break-glass/sign-in")
            | (&Method::POST, "/oauth/device" | "/device")
    );
    let for_people = !matches!(request.uri().path(), "/oauth/token" | "/oauth/revoke" | "/oauth/device");
    if begins {
        return match limits.stranger(address).await {
            Ok(()) => next.run(request).await,
            Err(error) => refuse(for_people, error.seconds()),
        };
    }
    let response = next.run(request).await;
    let failed = response.status().is_client_error() && response.extensions().get::<PartOfProtocol>().is_none();
    if !failed {
        return response;
    }
    match limits.stranger(address).await {
        Err(error) => refuse(for_people, error.seconds()),
        Ok(()) => response,
    }
}

fn refuse(for_people: bool, seconds: u64) -> Response {
    let status = StatusCode::TOO_MANY_REQUESTS;
    let text = format!("too many logins or wrong codes came from your address; try again in {seconds} s");
    let mut response = if for_people {
        web::message(status, "Not now", &super::sentence(&text))
    } else {
        // RFC 6749 §5.2 has no code for it; this is the one that its §4.1.2.1 gives to a server that cannot now
        let body = json!({ "error": "temporarily_unavailable", "error_description": text });
        (status, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
    };
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}
