//! `/v1/audit/drops`: bodies of old entries go, asked for by one person and approved by another.

use std::net::IpAddr;

use axum::Json;
use axum::extract::{Path, State};
use ichor_wire::api::{DropAnswer, DropAsk, DroppedAnswer, Nothing, Receipt};
use ichor_wire::log::{Content, Kind};
use ichor_wire::problem::{Code, Problem};
use jiff::SignedDuration;
use uuid::Uuid;

use super::Api;
use super::audit::{may_read, record};
use crate::audit::{self, RecordError};
use crate::domain::{Human, check_reason};
use crate::http::error::ApiError;
use crate::http::extract::{Fresh, Signed};
use crate::identity::Identity;
use crate::mint::person;
use crate::policy::{self, NO_HUMAN, NO_HUMAN_HELP, Refusal};
use crate::store::{Change, Condition, DropRequest, LockKeys};

/// How long a request can be approved.
const OPEN: SignedDuration = SignedDuration::from_hours(7 * 24);

/// So many entries, each for up to a thousand bodies, one approval writes; then it says that there is more.
const AT_ONCE: usize = 20;

/// So many bodies are counted for whoever decides.
const COUNTED: u64 = 10_000;

/// So many entries are looked at for that: what lies behind is counted as bodies go.
const LOOKED_AT: usize = 100_000;

/// Asks for bodies to be dropped: of one person's entries, or of everyone's up to a time. Nothing goes until someone else
/// approves. Needs policy (`audit:drop` on Ichor itself); it is recorded, without saying whose entries they are.
#[utoipa::path(post, path = "/v1/audit/drops", tag = "audit", request_body = DropAsk, responses(
    (status = 200, description = "the request, for someone else to approve", body = DropAnswer),
    (status = 400, description = "the request cannot be", body = Problem),
    (status = 401, description = "no valid session or proof", body = Problem),
    (status = 403, description = "policy refuses, or a lock stops it", body = Problem),
))]
pub async fn ask(State(api): State<Api>, signed: Signed<DropAsk>) -> Result<Json<DropAnswer>, ApiError> {
    may_drop(&api, &signed.identity)?;
    let bad = |why: String| ApiError::new(Code::BadRequest, why);
    let asked = signed.body;
    check_reason(&asked.reason).map_err(|error| bad(error.to_string()))?;
    if asked.person.is_none() && asked.before.is_none() {
        return Err(bad("say whose bodies (`person`), or up to when (`before`)".into()));
    }
    let is_unfit = |text: &str| text.is_empty() || text.len() > 512 || text.contains(char::is_control);
    if asked.person.as_deref().is_some_and(is_unfit) {
        return Err(bad("a person is 1 to 512 bytes, without control characters".into()));
    }
    let now = api.clock.now();
    let end = now.checked_add(OPEN).map_err(|error| ApiError::internal(&error))?;
    let asker = human(&signed.identity)?;
    let request = DropRequest {
        id: Uuid::nil(),
        asked_by: asker.person,
        person: asked.person,
        before: asked.before.map_or(now, |before| before.min(now)),
        next: 0,
        expires_at: end,
        approved_at: None,
        done_at: None,
        asker_told: asker.told,
        session: signed.identity.session(),
    };
    let request = DropRequest { id: audit::drop_id(&api.data_key, &request, now), ..request };
    let whose = if request.person.is_some() { "one person's entries" } else { "entries" };
    let content = Content {
        drop_request: Some(request.id.as_bytes().to_vec()),
        reason: Some(asked.reason.trim().to_owned()),
        message: Some(format!("asks to drop the bodies of {whose} before {}", request.before)),
        ..by(&signed.identity, signed.address)
    };
    let keys = Box::new(LockKeys::of(signed.identity.person(), signed.identity.session(), None));
    note(&api, content, Change::DropAsk { request: Box::new(request.clone()), keys, now }).await?;
    Ok(Json(answer(&api, &signed.identity, signed.address, &request).await?))
}

/// A request, and, for whoever may read the whole audit (`audit:read`), how many bodies would go now: that is read and recorded as any
/// other part of the audit. Needs policy (`audit:drop`).
#[utoipa::path(get, path = "/v1/audit/drops/{id}", tag = "audit",
    params(("id" = Uuid, Path, description = "the request's id")),
    responses(
        (status = 200, description = "the request", body = DropAnswer),
        (status = 401, description = "no valid session or proof", body = Problem),
        (status = 403, description = "policy refuses", body = Problem),
        (status = 404, description = "no such request", body = Problem),
    ))]
pub async fn show(State(api): State<Api>, Path(id): Path<String>, caller: Fresh) -> Result<Json<DropAnswer>, ApiError> {
    may_drop(&api, &caller.identity)?;
    let request = find(&api, &id).await?;
    Ok(Json(answer(&api, &caller.identity, caller.address, &request).await?))
}

/// Approves a request of someone else and drops its bodies, up to 20,000 at once; where there are more, approve again. Needs
/// policy (`audit:drop`). Bodies younger than the configured age stay, and so do those of entries that say how the broker itself
/// was run. An entry names every place whose body went; the leaves stay, and with them every proof.
#[utoipa::path(post, path = "/v1/audit/drops/{id}/approval", tag = "audit",
    params(("id" = Uuid, Path, description = "the request's id")), request_body = Nothing,
    responses(
        (status = 200, description = "what went", body = DroppedAnswer),
        (status = 401, description = "no valid session or proof", body = Problem),
        (status = 403, description = "policy refuses, or a lock stops it: also one of whoever asked", body = Problem),
        (status = 404, description = "no such request", body = Problem),
        (status = 409, description = "who asked cannot approve, or the request is over", body = Problem),
    ))]
pub async fn approve(
    State(api): State<Api>,
    Path(id): Path<String>,
    signed: Signed<Nothing>,
) -> Result<Json<DroppedAnswer>, ApiError> {
    may_drop(&api, &signed.identity)?;
    let approver = human(&signed.identity)?;
    let mut dropped = DroppedAnswer { bodies: 0, more: true, receipts: Vec::new() };
    while dropped.more && dropped.receipts.len() < AT_ONCE {
        let request = find(&api, &id).await?;
        let now = api.clock.now();
        let bodies = audit::next_bodies(&*api.store, &request, api.drop_min_age, now).await?;
        if bodies.held && bodies.places.count() == 0 {
            break;
        }
        let base = by(&signed.identity, signed.address);
        let session = signed.identity.session();
        let (content, change) = audit::drop_bodies(base, &request, &approver, session, &bodies, api.drop_min_age, now);
        dropped.receipts.push(note(&api, content, change).await?);
        dropped.bodies = dropped.bodies.saturating_add(bodies.places.count());
        dropped.more = !bodies.done;
    }
    if dropped.receipts.is_empty() {
        let why = "what is left is not signed yet, for the audit key is out; approve this again once it signs";
        return Err(ApiError::new(Code::Conflict, why));
    }
    Ok(Json(dropped))
}

/// Returns once the change is made, with its entry. What a lock stops is an entry too.
async fn note(api: &Api, content: Content, change: Change) -> Result<Receipt, ApiError> {
    let about = Content { dropped: None, count: None, ..content.clone() };
    let noted = api.sequencer.note(content, Some(change)).await;
    if matches!(noted, Err(RecordError::Refused(Condition::Locked))) {
        let refusal = Content {
            kind: Kind::Refusal,
            code: Some(Code::Locked.as_str().into()),
            message: Some(Condition::Locked.to_string()),
            ..about
        };
        api.sequencer.note(refusal, None).await?;
    }
    Ok(noted?)
}

fn may_drop(api: &Api, identity: &Identity) -> Result<(), ApiError> {
    let policies = api.policies.borrow().clone();
    Ok(policy::may_drop_audit(&policies, identity, api.clock.now())?)
}

/// The human, who must be told from others: bodies are dropped by two.
fn human(identity: &Identity) -> Result<Human, ApiError> {
    let refused = || Refusal::plain(NO_HUMAN, NO_HUMAN_HELP);
    identity.human().ok_or_else(|| refused().into())
}

async fn find(api: &Api, id: &str) -> Result<DropRequest, ApiError> {
    let unknown = || ApiError::new(Code::NotFound, "there is no request of this id to drop bodies");
    let id = Uuid::try_parse(id).map_err(|_| unknown())?;
    let request = api.store.drop_request(id).await?.ok_or_else(unknown)?;
    // whose they were is forgotten once it is done, and nothing more can be done with it
    if request.done_at.is_none() && !audit::is_as_asked(&api.data_key, &request) {
        tracing::error!(request = %id, "a request to drop bodies is not as it was asked: someone wrote the database");
        return Err(ApiError::new(Code::Conflict, "this request to drop bodies is not as it was asked for"));
    }
    Ok(request)
}

async fn answer(
    api: &Api,
    identity: &Identity,
    address: IpAddr,
    request: &DropRequest,
) -> Result<DropAnswer, ApiError> {
    // how many entries someone has is in the audit, and told to those alone who may read it
    let tells = request.done_at.is_none() && may_read(api, identity, None).is_ok();
    let (bodies, bodies_or_more) = match tells {
        true => {
            // whose they are is not in the log
            record(api, identity, address, None, format!("how many bodies request {} would drop", request.id)).await?;
            let (bodies, or_more) = count(api, request).await?;
            (Some(bodies), or_more)
        }
        false => (None, false),
    };
    Ok(DropAnswer {
        request_id: request.id,
        asked_by: request.asked_by.subject.clone(),
        person: request.person.clone(),
        before: request.before,
        expires_at: request.expires_at,
        bodies,
        bodies_or_more,
        done: request.done_at.is_some(),
    })
}

/// How many bodies would go now, up to about [`COUNTED`], and of about the first [`LOOKED_AT`] entries; and whether there may be more.
async fn count(api: &Api, request: &DropRequest) -> Result<(u64, bool), ApiError> {
    let mut rest = request.clone();
    let (mut bodies, mut looked_at) = (0_u64, 0_usize);
    while bodies < COUNTED && looked_at < LOOKED_AT {
        let next = audit::next_bodies(&*api.store, &rest, api.drop_min_age, api.clock.now()).await?;
        bodies = bodies.saturating_add(next.places.count());
        looked_at = looked_at.saturating_add(next.looked_at);
        rest.next = next.next;
        if next.done || next.held {
            return Ok((bodies, next.held));
        }
    }
    Ok((bodies, true))
}

fn by(identity: &Identity, address: IpAddr) -> Content {
    Content {
        person: Some(person(identity)),
        session: identity.session().map(|id| id.0.as_bytes().to_vec()),
        address: Some(address.to_string()),
        ..Content::of(Kind::BodyDropped)
    }
}
