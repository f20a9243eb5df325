//! The authorization endpoint and the login page's buttons.

use axum::Form;
use axum::extract::{Path, Query, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use url::Url;

use super::state::{Asked, Code, Grant, RedirectIssuer, SignedIn, State};
use super::{Failed, Inner, page};
use crate::{lock, random};

const COOKIE: &str = "standin_sso";

/// How long a code lives, in seconds.
const CODE_LIFE: i64 = 60;

/// The parameters of an authorization request (OpenID Connect Core §3.1.2.1, RFC 7636 §4.3).
#[derive(Deserialize)]
pub(super) struct Parameters {
    client_id: Option<String>,
    redirect_uri: Option<String>,
    response_type: Option<String>,
    scope: Option<String>,
    state: Option<String>,
    nonce: Option<String>,
    code_challenge: Option<String>,
    code_challenge_method: Option<String>,
    max_age: Option<i64>,
    acr_values: Option<String>,
    prompt: Option<String>,
    login_hint: Option<String>,
}

/// What the login page sends.
#[derive(Deserialize)]
pub(super) struct Choice {
    login: Option<String>,
    abort: Option<String>,
}

pub(super) async fn authorize(
    Shared(provider): Shared<Inner>,
    headers: HeaderMap,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Failed> {
    let now = (provider.now)();
    let mut state = lock(&provider.state);
    let (client, redirect_uri) = match (&parameters.client_id, &parameters.redirect_uri) {
        (Some(id), Some(uri)) => match state.clients.get(id) {
            Some(client) if client.may_redirect_to(uri) => (client.id.clone(), uri.clone()),
            Some(_) => return Ok(page::refusal("this address is not registered for the program that sent you here")),
            None => return Ok(page::refusal("the program that sent you here is not registered")),
        },
        _ => return Ok(page::refusal("client_id and redirect_uri are needed")),
    };
    let asked = Asked {
        client,
        redirect_uri,
        state: parameters.state.clone(),
        nonce: parameters.nonce.clone(),
        scope: parameters.scope.clone().unwrap_or_default(),
        challenge: parameters.code_challenge.clone().unwrap_or_default(),
        login_hint: parameters.login_hint.clone(),
        wants_auth_time: parameters.max_age.is_some(),
        wants_acr: parameters.acr_values.is_some(),
    };
    if let Some(error) = wrong(&parameters) {
        return back_with_error(&provider, &state, &asked, error);
    }
    let signed_in = cookie(&headers).and_then(|id| state.browsers.get(&id)).cloned();
    let prompts: Vec<&str> = parameters.prompt.as_deref().unwrap_or_default().split(' ').collect();
    let too_old = |at: jiff::Timestamp| parameters.max_age.is_some_and(|age| now.as_second() - at.as_second() > age);
    let fresh = signed_in.filter(|signed_in| {
        state.active(&signed_in.login).is_some()
            && (!state.behaviour.asks_anew
                || (!too_old(signed_in.at) && !prompts.contains(&"login") && !prompts.contains(&"select_account")))
    });
    match fresh {
        Some(signed_in) => back_with_code(&provider, &mut state, &asked, &signed_in),
        None if prompts.contains(&"none") => back_with_error(&provider, &state, &asked, "login_required"),
        None => {
            let id = random::token()?;
            let page = page::login(&id, &asked, state.people.values());
            state.pending.insert(id, asked);
            Ok(page)
        }
    }
}

pub(super) async fn login(
    Shared(provider): Shared<Inner>,
    Path(id): Path<String>,
    Form(choice): Form<Choice>,
) -> Result<Response, Failed> {
    let now = (provider.now)();
    let mut state = lock(&provider.state);
    let Some(asked) = state.pending.get(&id).cloned() else {
        return Ok(page::refusal("this login was already used; go back to where you started"));
    };
    if choice.abort.is_some() {
        state.pending.remove(&id);
        return back_with_error(&provider, &state, &asked, "access_denied");
    }
    let login = choice.login.unwrap_or_default();
    if state.active(&login).is_none() {
        let mut page = page::login(&id, &asked, state.people.values());
        *page.status_mut() = StatusCode::FORBIDDEN;
        return Ok(page);
    }
    state.pending.remove(&id);
    let browser = random::token()?;
    let signed_in = SignedIn { login, at: now };
    state.browsers.insert(browser.clone(), signed_in.clone());
    let mut answer = back_with_code(&provider, &mut state, &asked, &signed_in)?;
    let cookie = format!("{COOKIE}={browser}; Path=/; HttpOnly; SameSite=Lax");
    answer.headers_mut().append(header::SET_COOKIE, cookie.parse()?);
    Ok(answer)
}

/// The error code for a request that cannot be granted whoever signs in.
fn wrong(parameters: &Parameters) -> Option<&'static str> {
    if parameters.response_type.as_deref() != Some("code") {
        return Some("unsupported_response_type");
    }
    if !parameters.scope.as_deref().unwrap_or_default().split(' ').any(|scope| scope == "openid") {
        return Some("invalid_scope");
    }
    // RFC 7636 §4.2: base64url of a SHA-256 is 43 characters.
    let challenge = parameters.code_challenge.as_deref().unwrap_or_default();
    if parameters.code_challenge_method.as_deref() != Some("S256") || challenge.len() != 43 {
        return Some("invalid_request");
    }
    None
}

fn back_with_code(
    provider: &Inner,
    state: &mut State,
    asked: &Asked,
    signed_in: &SignedIn,
) -> Result<Response, Failed> {
    let (code, grant) = (random::token()?, random::token()?);
    state.grants.insert(
        grant.clone(),
        Grant {
            client: asked.client.clone(),
            login: signed_in.login.clone(),
            scope: asked.scope.clone(),
            nonce: asked.nonce.clone(),
            auth_time: asked.wants_auth_time.then_some(signed_in.at),
            acr: asked.wants_acr,
        },
    );
    let until = (provider.now)().saturating_add(jiff::SignedDuration::from_secs(CODE_LIFE))?;
    state.codes.insert(code.clone(), Code { grant, asked: asked.clone(), until, used: false });
    back(provider, state, asked, ("code", &code))
}

fn back_with_error(provider: &Inner, state: &State, asked: &Asked, error: &str) -> Result<Response, Failed> {
    back(provider, state, asked, ("error", error))
}

fn back(provider: &Inner, state: &State, asked: &Asked, result: (&str, &str)) -> Result<Response, Failed> {
    let mut to = Url::parse(&asked.redirect_uri)?;
    {
        let mut query = to.query_pairs_mut();
        query.append_pair(result.0, result.1);
        if let Some(state) = &asked.state {
            query.append_pair("state", state);
        }
        match state.behaviour.redirect_issuer {
            RedirectIssuer::Right => {
                query.append_pair("iss", &provider.issuer);
            }
            RedirectIssuer::Wrong => {
                query.append_pair("iss", "https://another.example");
            }
            RedirectIssuer::Missing | RedirectIssuer::Unsupported => {}
        }
    }
    let headers = [(header::LOCATION, to.to_string()), (header::CACHE_CONTROL, "no-store".into())];
    Ok((StatusCode::SEE_OTHER, headers).into_response())
}

fn cookie(headers: &HeaderMap) -> Option<String> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE)
        .map(|(_, value)| value.to_owned())
}
