//! The userinfo endpoint.

use axum::Json;
use axum::extract::State as Shared;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;

use super::Inner;
use super::id_token::{Told, about};
use super::state::Fault;
use crate::lock;

/// OpenID Connect Core §5.3. A token that is unknown, expired, or of a disabled person is answered 401.
pub(super) async fn userinfo(Shared(provider): Shared<Inner>, headers: HeaderMap) -> Response {
    let state = lock(&provider.state);
    let now = (provider.now)();
    let told = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .and_then(|token| state.access.get(token))
        .filter(|access| now < access.until)
        .and_then(|access| state.grants.get(&access.grant))
        .and_then(|grant| {
            let person = state.active(&grant.login)?;
            Some(about(&provider.issuer, person, grant, &state.behaviour.groups_in, Told::Userinfo))
        });
    match told {
        Some(mut claims) => {
            if state.behaviour.fault == Some(Fault::WrongSubject) {
                claims.insert("sub".into(), "sub-someone-else".into());
            }
            Json(Value::Object(claims)).into_response()
        }
        None => {
            let challenge = [(header::WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"")];
            (StatusCode::UNAUTHORIZED, challenge).into_response()
        }
    }
}
