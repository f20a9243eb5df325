//! Discovery and the key set.

use axum::Json;
use axum::extract::State as Shared;
use serde_json::{Value, json};

use super::Inner;
use super::state::RedirectIssuer;
use crate::lock;

/// OpenID Connect Discovery 1.0 §3.
pub(super) async fn discovery(Shared(provider): Shared<Inner>) -> Json<Value> {
    let issuer = &provider.issuer;
    let state = lock(&provider.state);
    let mut document = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "userinfo_endpoint": format!("{issuer}/userinfo"),
        "revocation_endpoint": format!("{issuer}/revoke"),
        "jwks_uri": format!("{issuer}/jwks"),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [state.behaviour.algorithm.name()],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        "code_challenge_methods_supported": ["S256"],
        "scopes_supported": ["openid", "profile", "email", "groups", "offline_access"],
        "claims_supported": ["sub", "name", "email", "preferred_username", "groups", "acr", "auth_time"],
        "authorization_response_iss_parameter_supported": true,
    });
    if state.behaviour.redirect_issuer == RedirectIssuer::Unsupported
        && let Some(fields) = document.as_object_mut()
    {
        fields.remove("authorization_response_iss_parameter_supported");
    }
    if !state.behaviour.revocation
        && let Some(fields) = document.as_object_mut()
    {
        fields.remove("revocation_endpoint");
    }
    Json(document)
}

/// RFC 7517 §5.
pub(super) async fn jwks(Shared(provider): Shared<Inner>) -> Json<Value> {
    let keys: Vec<Value> = lock(&provider.state).keys.iter().map(|key| key.jwk()).collect();
    Json(json!({ "keys": keys }))
}
