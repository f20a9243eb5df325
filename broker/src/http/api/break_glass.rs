//! `/v1/break-glass`: access that others approve. What was approved is issued by [`super::elevated`].

use axum::Json;
use axum::extract::{Path, State};
use ichor_wire::api::{
    BreakGlassAnswer, BreakGlassApproval, BreakGlassAsk, BreakGlassClosing, BreakGlassEnd, BreakGlassLabel,
    BreakGlassList, BreakGlassQuery, BreakGlassReview, BreakGlassVote,
};
use ichor_wire::problem::{Code, Problem};
use uuid::Uuid;

use super::Api;
use super::certificates::{lifetime, roles};
use super::clusters::find;
use crate::break_glass::{Ask, Label, Seen};
use crate::domain::{BreakGlassId, BreakGlassState};
use crate::http::error::ApiError;
use crate::http::extract::{Fresh, Signed, StrictQuery};
use crate::identity::Identity;
use crate::store::BreakGlassFilter;

/// The most listed at once.
const LARGEST_PAGE: u32 = 500;

/// Asks for elevated access. Answered with the request, which waits for approvals; or, as `self_service` where policy allows that,
/// until someone outside has accepted the notification of it.
#[utoipa::path(post, path = "/v1/break-glass", tag = "break-glass", request_body = BreakGlassAsk, responses(
    (status = 200, description = "the request, pending", body = BreakGlassAnswer),
    (status = 400, description = "what is asked cannot be read", body = Problem),
    (status = 401, description = "no valid session or proof", body = Problem),
    (status = 403, description = "policy refuses, or nobody needs to approve it; the help says what would", body = Problem),
    (status = 404, description = "no such cluster", body = Problem),
    (status = 429, description = "too many requests are pending", body = Problem),
))]
pub async fn ask(State(api): State<Api>, signed: Signed<BreakGlassAsk>) -> Result<Json<BreakGlassAnswer>, ApiError> {
    let asked = signed.body;
    let ask = Ask {
        cluster: find(&api, &asked.cluster)?.name.clone(),
        roles: roles(&asked.roles)?,
        ttl: asked.ttl.map(lifetime).transpose()?,
        reason: asked.reason.trim().into(),
        nodes: asked.nodes,
        ticket: asked.ticket,
        address: signed.address,
        self_service: asked.self_service,
    };
    let id = api.break_glass.ask(&signed.identity, ask).await?;
    seen(&api, &signed.identity, id).await
}

/// Requests, newest first: one's own, those that one may approve, those of clusters whose audit one may read.
#[utoipa::path(get, path = "/v1/break-glass", tag = "break-glass", params(BreakGlassQuery), responses(
    (status = 200, description = "a page of requests", body = BreakGlassList),
    (status = 400, description = "a filter cannot be read", body = Problem),
    (status = 401, description = "no valid session or proof", body = Problem),
))]
pub async fn list(
    State(api): State<Api>,
    StrictQuery(query): StrictQuery<BreakGlassQuery>,
    caller: Fresh,
) -> Result<Json<BreakGlassList>, ApiError> {
    let limit = query.limit.unwrap_or(100);
    if !(1..=LARGEST_PAGE).contains(&limit) {
        return Err(ApiError::new(Code::BadRequest, "`limit` is between 1 and 500"));
    }
    let filter = BreakGlassFilter {
        person: query.mine.then(|| caller.identity.person().clone()),
        cluster: query.cluster,
        states: query.state.as_deref().map(states).transpose()?.unwrap_or_default(),
    };
    let before = query.cursor.map(BreakGlassId);
    let (seen, next) = api.break_glass.list(&caller.identity, &filter, before, limit).await?;
    Ok(Json(BreakGlassList { requests: seen.into_iter().map(answer).collect(), next: next.map(|id| id.0) }))
}

/// One request.
#[utoipa::path(get, path = "/v1/break-glass/{id}", tag = "break-glass",
    params(("id" = String, Path, description = "the request's id")), responses(
    (status = 200, description = "the request", body = BreakGlassAnswer),
    (status = 401, description = "no valid session or proof", body = Problem),
    (status = 404, description = "no such request, or none that the caller may see", body = Problem),
))]
pub async fn show(
    State(api): State<Api>,
    Path(id): Path<String>,
    caller: Fresh,
) -> Result<Json<BreakGlassAnswer>, ApiError> {
    seen(&api, &caller.identity, named(&id)?).await
}

/// Approves exactly the contents whose SHA-256 the body names. The proof binds the body to the session's key.
#[utoipa::path(post, path = "/v1/break-glass/{id}/approve", tag = "break-glass",
    params(("id" = String, Path, description = "the request's id")), request_body = BreakGlassVote, responses(
    (status = 200, description = "the request as it now stands", body = BreakGlassAnswer),
    (status = 401, description = "no valid session or proof", body = Problem),
    (status = 403, description = "policy refuses, or it is the caller's own", body = Problem),
    (status = 404, description = "no such request", body = Problem),
    (status = 409, description = "it says something else, or waits for no approval", body = Problem),
))]
pub async fn approve(
    State(api): State<Api>,
    Path(id): Path<String>,
    signed: Signed<BreakGlassVote>,
) -> Result<Json<BreakGlassAnswer>, ApiError> {
    let (id, looked_at) = (named(&id)?, digest(&signed.body.sha256)?);
    api.break_glass.approve(&signed.identity, id, looked_at, signed.body.comment, signed.address).await?;
    seen(&api, &signed.identity, id).await
}

/// Denies it: one denial is enough.
#[utoipa::path(post, path = "/v1/break-glass/{id}/deny", tag = "break-glass",
    params(("id" = String, Path, description = "the request's id")), request_body = BreakGlassVote, responses(
    (status = 200, description = "the request as it now stands", body = BreakGlassAnswer),
    (status = 401, description = "no valid session or proof", body = Problem),
    (status = 403, description = "policy refuses, or it is the caller's own", body = Problem),
    (status = 404, description = "no such request", body = Problem),
    (status = 409, description = "it says something else, or waits for no decision", body = Problem),
))]
pub async fn deny(
    State(api): State<Api>,
    Path(id): Path<String>,
    signed: Signed<BreakGlassVote>,
) -> Result<Json<BreakGlassAnswer>, ApiError> {
    let (id, looked_at) = (named(&id)?, digest(&signed.body.sha256)?);
    api.break_glass.deny(&signed.identity, id, looked_at, signed.body.comment, signed.address).await?;
    seen(&api, &signed.identity, id).await
}

/// Takes one's own pending request back.
#[utoipa::path(post, path = "/v1/break-glass/{id}/cancel", tag = "break-glass",
    params(("id" = String, Path, description = "the request's id")), request_body = BreakGlassEnd, responses(
    (status = 200, description = "the request as it now stands", body = BreakGlassAnswer),
    (status = 401, description = "no valid session or proof", body = Problem),
    (status = 403, description = "it is someone else's", body = Problem),
    (status = 404, description = "no such request", body = Problem),
    (status = 409, description = "it is not pending", body = Problem),
))]
pub async fn cancel(
    State(api): State<Api>,
    Path(id): Path<String>,
    signed: Signed<BreakGlassEnd>,
) -> Result<Json<BreakGlassAnswer>, ApiError> {
    let id = named(&id)?;
    api.break_glass.cancel(&signed.identity, id, signed.body.comment, signed.address).await?;
    seen(&api, &signed.identity, id).await
}

/// Takes away what an approved request still allows, also where its last use is on its way to a certificate. One that was or is still made
/// of it is good until it expires.
#[utoipa::path(post, path = "/v1/break-glass/{id}/revoke", tag = "break-glass",
    params(("id" = String, Path, description = "the request's id")), request_body = BreakGlassEnd, responses(
    (status = 200, description = "the request as it now stands", body = BreakGlassAnswer),
    (status = 401, description = "no valid session or proof", body = Problem),
    (status = 403, description = "policy refuses", body = Problem),
    (status = 404, description = "no such request", body = Problem),
    (status = 409, description = "nothing is left to take away", body = Problem),
))]
pub async fn revoke(
    State(api): State<Api>,
    Path(id): Path<String>,
    signed: Signed<BreakGlassEnd>,
) -> Result<Json<BreakGlassAnswer>, ApiError> {
    let id = named(&id)?;
    api.break_glass.revoke(&signed.identity, id, signed.body.comment, signed.address).await?;
    seen(&api, &signed.identity, id).await
}

/// Labels the use of someone else's request.
#[utoipa::path(post, path = "/v1/break-glass/{id}/review", tag = "break-glass",
    params(("id" = String, Path, description = "the request's id")), request_body = BreakGlassLabel, responses(
    (status = 200, description = "the request as it now stands", body = BreakGlassAnswer),
    (status = 400, description = "the label or the note is none", body = Problem),
    (status = 401, description = "no valid session or proof", body = Problem),
    (status = 403, description = "policy refuses, or it is the caller's own", body = Problem),
    (status = 404, description = "no such request", body = Problem),
    (status = 409, description = "there is no use to review", body = Problem),
))]
pub async fn review(
    State(api): State<Api>,
    Path(id): Path<String>,
    signed: Signed<BreakGlassLabel>,
) -> Result<Json<BreakGlassAnswer>, ApiError> {
    let id = named(&id)?;
    let label = Label::named(&signed.body.label)
        .ok_or_else(|| ApiError::new(Code::BadRequest, "a use is labelled `emergency`, `drill` or `misuse`"))?;
    api.break_glass.review(&signed.identity, id, label, signed.body.note.trim(), signed.address).await?;
    seen(&api, &signed.identity, id).await
}

async fn seen(api: &Api, identity: &Identity, id: BreakGlassId) -> Result<Json<BreakGlassAnswer>, ApiError> {
    Ok(Json(answer(api.break_glass.show(identity, id).await?)))
}

/// The id in a path. To whoever names none there is no such request.
pub(super) fn named(text: &str) -> Result<BreakGlassId, ApiError> {
    let id = Uuid::try_parse(text).map(BreakGlassId);
    id.map_err(|_| ApiError::new(Code::UnknownRequest, "there is no such break-glass request"))
}

pub(super) fn answer(seen: Seen) -> BreakGlassAnswer {
    let Seen { file, contents, state, suspect, may } = seen;
    let request = file.request;
    BreakGlassAnswer {
        id: request.id.0,
        state: state.as_str().into(),
        suspect,
        sha256: data_encoding::HEXLOWER.encode(&contents.hash),
        contents: contents.text,
        approvals: file
            .approvals
            .into_iter()
            .map(|row| BreakGlassApproval { user: row.user, name: row.name, at: row.at, comment: row.comment })
            .collect(),
        told: file.told.map(|told| told.sink),
        used: request.used,
        good_until: request.good_until,
        closing: request.closing.map(|closing| BreakGlassClosing {
            user: closing.by,
            at: closing.at,
            comment: closing.comment,
        }),
        review: request.review.map(|review| BreakGlassReview {
            label: review.label,
            user: review.by,
            at: review.at,
            note: review.note,
        }),
        grants: file.uses.iter().filter(|row| !row.was_returned).map(|row| row.grant.0).collect(),
        may: may.into_iter().map(Into::into).collect(),
    }
}

fn states(text: &str) -> Result<Vec<BreakGlassState>, ApiError> {
    let state = |name: &str| {
        BreakGlassState::named(name).ok_or_else(|| {
            let known: Vec<_> = BreakGlassState::ALL.iter().map(|state| state.as_str()).collect();
            let name: String = name.escape_debug().take(64).collect();
            ApiError::new(Code::BadRequest, format!("unknown state `{name}`; states are {}", known.join(", ")))
        })
    };
    text.split(',').map(state).collect()
}

fn digest(text: &str) -> Result<[u8; 32], ApiError> {
    let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| ApiError::new(Code::BadRequest, "`sha256` is not a SHA-256 in lower-case hex"))
}
