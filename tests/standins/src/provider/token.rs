//! The token and revocation endpoints.

use axum::extract::State as Shared;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Form, Json};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::id_token::id_token;
use super::state::{Access, Refresh, State};
use super::{Failed, Inner};
use crate::{lock, random};

/// How long an access token lives, in seconds.
const ACCESS_LIFE: i64 = 300;

/// The parameters of a token request (RFC 6749 §4.1.3, §6; RFC 7636 §4.5).
#[derive(Deserialize)]
pub(super) struct Parameters {
    grant_type: Option<String>,
    code: Option<String>,
    redirect_uri: Option<String>,
    code_verifier: Option<String>,
    refresh_token: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
}

/// The parameters of a revocation (RFC 7009 §2.1).
#[derive(Deserialize)]
pub(super) struct Revocation {
    token: String,
    client_id: Option<String>,
    client_secret: Option<String>,
}

/// An OAuth error answer (RFC 6749 §5.2).
struct Refused(StatusCode, &'static str);

const INVALID_GRANT: Refused = Refused(StatusCode::BAD_REQUEST, "invalid_grant");

pub(super) async fn token(
    Shared(provider): Shared<Inner>,
    headers: HeaderMap,
    Form(parameters): Form<Parameters>,
) -> Result<Response, Failed> {
    let mut state = lock(&provider.state);
    if parameters.grant_type.as_deref() == Some("refresh_token") {
        state.refreshes += 1;
    }
    let secret = parameters.client_secret.clone();
    let client = match authenticate(&state, &headers, parameters.client_id.clone(), secret) {
        Ok(client) => client,
        Err(refused) => return Ok(refused.into_response()),
    };
    let granted = match parameters.grant_type.as_deref() {
        Some("authorization_code") => redeem_code(&provider, &mut state, &client, &parameters),
        Some("refresh_token") => redeem_refresh(&mut state, &client, &parameters),
        _ => Err(Refused(StatusCode::BAD_REQUEST, "unsupported_grant_type")),
    };
    match granted {
        Ok((grant, refreshing)) => answer(&provider, &mut state, &grant, refreshing),
        Err(refused) => Ok(refused.into_response()),
    }
}

pub(super) async fn revoke(
    Shared(provider): Shared<Inner>,
    headers: HeaderMap,
    Form(revocation): Form<Revocation>,
) -> Response {
    let mut state = lock(&provider.state);
    let client = match authenticate(&state, &headers, revocation.client_id, revocation.client_secret) {
        Ok(client) => client,
        Err(refused) => return refused.into_response(),
    };
    // one that was rotated away is no token any more: whoever gives that back alone leaves the new one alive
    let grant = state
        .refresh
        .get(&revocation.token)
        .filter(|refresh| !refresh.used)
        .map(|refresh| refresh.grant.clone())
        .or_else(|| state.access.get(&revocation.token).map(|access| access.grant.clone()))
        .filter(|id| state.grants.get(id).is_some_and(|grant| grant.client == client));
    if let Some(grant) = grant {
        state.end_grant(&grant);
        state.revocations.send_modify(|count| *count += 1);
    }
    // RFC 7009 §2.2: an unknown token is answered alike.
    StatusCode::OK.into_response()
}

/// The id of the client that speaks, by `client_secret_basic`, `client_secret_post` or, for a public one, its name alone.
fn authenticate(
    state: &State,
    headers: &HeaderMap,
    id: Option<String>,
    secret: Option<String>,
) -> Result<String, Refused> {
    let refused = || Refused(StatusCode::UNAUTHORIZED, "invalid_client");
    let basic = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (id, secret) = match basic.and_then(|value| value.strip_prefix("Basic ")) {
        Some(encoded) => {
            let pair = BASE64_STANDARD.decode(encoded).ok().and_then(|octets| String::from_utf8(octets).ok());
            let (basic_id, basic_secret) = pair.as_deref().and_then(|pair| pair.split_once(':')).ok_or_else(refused)?;
            // RFC 6749 §2.3.1: both parts are form-encoded first.
            let (basic_id, basic_secret) = (form_decoded(basic_id), form_decoded(basic_secret));
            if id.is_some_and(|id| id != basic_id) {
                return Err(refused());
            }
            (basic_id, Some(basic_secret))
        }
        None => (id.ok_or_else(refused)?, secret),
    };
    let client = state.clients.get(&id).ok_or_else(refused)?;
    if client.secret != secret {
        return Err(refused());
    }
    Ok(id)
}

fn form_decoded(text: &str) -> String {
    url::form_urlencoded::parse(format!("v={text}").as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

fn redeem_code(
    provider: &Inner,
    state: &mut State,
    client: &str,
    parameters: &Parameters,
) -> Result<(String, bool), Refused> {
    let now = (provider.now)();
    let code = state.codes.get_mut(parameters.code.as_deref().unwrap_or_default()).ok_or(INVALID_GRANT)?;
    let grant = code.grant.clone();
    if code.used {
        // RFC 6749 §4.1.2: a code used twice ends what was given for it.
        state.end_grant(&grant);
        return Err(INVALID_GRANT);
    }
    let verifier = parameters.code_verifier.as_deref().unwrap_or_default();
    let challenge = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
    let fits = code.asked.client == client
        && parameters.redirect_uri.as_deref() == Some(code.asked.redirect_uri.as_str())
        && (43..=128).contains(&verifier.len())
        && challenge == code.asked.challenge
        && now < code.until;
    code.used = true;
    if fits { Ok((grant, false)) } else { Err(INVALID_GRANT) }
}

fn redeem_refresh(state: &mut State, client: &str, parameters: &Parameters) -> Result<(String, bool), Refused> {
    let rotates = state.behaviour.rotate_refresh;
    let refresh =
        state.refresh.get_mut(parameters.refresh_token.as_deref().unwrap_or_default()).ok_or(INVALID_GRANT)?;
    let grant = refresh.grant.clone();
    if refresh.used {
        // RFC 9700 §4.14.2: a rotated token that comes back was stolen, from one side or the other.
        state.end_grant(&grant);
        return Err(INVALID_GRANT);
    }
    let owner = state.grants.get(&grant).filter(|grant| grant.client == client).ok_or(INVALID_GRANT)?.login.clone();
    if state.active(&owner).is_none() {
        state.end_grant(&grant);
        return Err(INVALID_GRANT);
    }
    if let Some(refresh) = state.refresh.get_mut(parameters.refresh_token.as_deref().unwrap_or_default()) {
        refresh.used = rotates;
    }
    Ok((grant, true))
}

fn answer(provider: &Inner, state: &mut State, id: &str, refreshing: bool) -> Result<Response, Failed> {
    let now = (provider.now)();
    let Some(mut grant) = state.grants.get(id).cloned() else { return Ok(INVALID_GRANT.into_response()) };
    let Some(person) = state.active(&grant.login).cloned() else { return Ok(INVALID_GRANT.into_response()) };
    if refreshing {
        // OpenID Connect Core §12.2: no nonce is told again.
        grant.nonce = None;
    }
    let access = random::token()?;
    let until = now.saturating_add(jiff::SignedDuration::from_secs(ACCESS_LIFE))?;
    let mut body = json!({
        "access_token": access,
        "token_type": "Bearer",
        "expires_in": ACCESS_LIFE,
        "scope": grant.scope,
    });
    let id_token = if refreshing && !state.behaviour.id_token_on_refresh {
        None
    } else {
        id_token(&provider.issuer, state, &grant, &person, now)?
    };
    let gives_refresh = grant.has_scope("offline_access")
        && state.behaviour.refresh_tokens
        && (!refreshing || state.behaviour.rotate_refresh);
    if let Some(fields) = body.as_object_mut() {
        if let Some(id_token) = id_token {
            fields.insert("id_token".into(), id_token.into());
        }
        if gives_refresh {
            let refresh = random::token()?;
            fields.insert("refresh_token".into(), refresh.clone().into());
            state.refresh.insert(refresh, Refresh { grant: id.to_owned(), used: false });
        }
    }
    state.access.insert(access, Access { grant: id.to_owned(), until });
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response())
}

impl Refused {
    fn into_response(self) -> Response {
        (self.0, [(header::CACHE_CONTROL, "no-store")], Json(json!({ "error": self.1 }))).into_response()
    }
}
