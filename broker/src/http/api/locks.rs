//! `/v1/locks`: nothing is issued for what a lock is on.

use axum::Json;
use axum::extract::{Path, State};
use ichor_wire::api::{
    LockAnswer, LockAsk, LockList, LockOn, LockSetAnswer, LocksQuery, Outstanding, PeopleAnswer, PeopleQuery,
    PersonAnswer, UnlockAsk,
};
use ichor_wire::problem::{Code, Problem};
use jiff::Timestamp;
use uuid::Uuid;

use super::Api;
use crate::domain::{ClusterName, GrantId, LockId, LockTarget, SessionId};
use crate::http::error::ApiError;
use crate::http::extract::{Fresh, Signed, StrictQuery};
use crate::lock::{self, Book, Lifting, LockError};
use crate::store::{KnownPerson, LockRow};

/// Sets a lock. Returned once it is recorded: nothing that it stops is recorded behind it, at no broker, and the sessions that it is
/// on are over. Needs policy (`lock`). The answer says what it does not end.
#[utoipa::path(post, path = "/v1/locks", tag = "locks", request_body = LockAsk, responses(
    (status = 200, description = "the lock, and what it leaves as it is", body = LockSetAnswer),
    (status = 400, description = "what is to be locked cannot be", body = Problem),
    (status = 401, description = "no valid session or proof", body = Problem),
    (status = 403, description = "policy refuses", body = Problem),
    (status = 429, description = "too many locks are set", body = Problem),
))]
pub async fn set(State(api): State<Api>, signed: Signed<LockAsk>) -> Result<Json<LockSetAnswer>, ApiError> {
    let LockAsk { on, seconds, reason } = signed.body;
    let target = target(&api.book, on).await?;
    if let LockTarget::Cluster(name) = &target
        && !api.clusters.borrow().contains_key(name)
    {
        return Err(ApiError::new(Code::UnknownCluster, format!("there is no cluster `{name}`")));
    }
    let reason = reason.trim().to_owned();
    let lock = api.locks.set(&signed.identity, target, seconds, reason, signed.address).await?;
    Ok(Json(set_answer(&api.book, lock).await?))
}

/// The locks that the caller may set or lift; all of them for whoever may read the whole audit.
#[utoipa::path(get, path = "/v1/locks", tag = "locks", params(LocksQuery), responses(
    (status = 200, description = "locks, newest first", body = LockList),
    (status = 400, description = "a filter cannot be read", body = Problem),
    (status = 401, description = "no valid session or proof", body = Problem),
))]
pub async fn list(
    State(api): State<Api>,
    caller: Fresh,
    StrictQuery(query): StrictQuery<LocksQuery>,
) -> Result<Json<LockList>, ApiError> {
    let locks = api.locks.list(&caller.identity, query.ended).await?;
    let now = api.clock.now();
    let locks = locks.into_iter().filter(|lock| query.ended || lock.holds(now));
    Ok(Json(LockList { locks: locks.map(|lock| answer(lock, now)).collect() }))
}

/// Lifts a lock. One of everything is lifted by two people of one provider: the first asks, and another confirms within the hour. Needs
/// policy (`unlock`).
#[utoipa::path(post, path = "/v1/locks/{id}/unlock", tag = "locks",
    params(("id" = String, Path, description = "the lock's id")), request_body = UnlockAsk, responses(
    (status = 200, description = "the lock as it now stands", body = LockAnswer),
    (status = 400, description = "it holds no longer, or another has asked already", body = Problem),
    (status = 401, description = "no valid session or proof", body = Problem),
    (status = 403, description = "policy refuses, or another person must confirm", body = Problem),
    (status = 404, description = "no such lock, or none that the caller may see", body = Problem),
))]
pub async fn unlock(
    State(api): State<Api>,
    Path(id): Path<String>,
    signed: Signed<UnlockAsk>,
) -> Result<Json<LockAnswer>, ApiError> {
    let id = Uuid::try_parse(&id).map_err(|_| LockError::Unknown)?;
    let UnlockAsk { reason, confirm } = signed.body;
    let lifting = Lifting { reason: reason.trim().to_owned(), confirms: confirm, address: signed.address };
    let lock = api.locks.lift(&signed.identity, LockId(id), lifting).await?;
    Ok(Json(answer(lock, api.clock.now())))
}

/// Whoever has logged in with exactly this subject or value behind `user:`, so that a lock can name their issuer and subject. Needs
/// policy (`lock` on Ichor itself, of users).
#[utoipa::path(get, path = "/v1/people", tag = "locks", params(PeopleQuery), responses(
    (status = 200, description = "who", body = PeopleAnswer),
    (status = 401, description = "no valid session or proof", body = Problem),
    (status = 403, description = "policy refuses", body = Problem),
))]
pub async fn people(
    State(api): State<Api>,
    caller: Fresh,
    StrictQuery(query): StrictQuery<PeopleQuery>,
) -> Result<Json<PeopleAnswer>, ApiError> {
    Ok(Json(known(api.locks.people(&caller.identity, &query.name).await?)))
}

/// People as the API answers them.
pub(in crate::http) fn known(found: Vec<KnownPerson>) -> PeopleAnswer {
    let mut people: Vec<_> = found
        .into_iter()
        .map(|known| PersonAnswer {
            issuer: known.person.issuer,
            subject: known.person.subject,
            name: known.name,
            user: known.user,
        })
        .collect();
    // two aliases of one issuer are one person
    people.dedup_by(|one, other| one.issuer == other.issuer && one.subject == other.subject);
    PeopleAnswer { people }
}

/// What a request wants locked.
pub(in crate::http) async fn target(book: &Book, on: LockOn) -> Result<LockTarget, ApiError> {
    Ok(match on {
        LockOn::User { issuer, subject } => LockTarget::User { issuer, subject },
        LockOn::Session { id } => LockTarget::Session(SessionId(id)),
        LockOn::Grant { id } => book.grant(GrantId(id)).await?,
        LockOn::Cluster { name } => LockTarget::Cluster(
            ClusterName::new(&name).map_err(|error| ApiError::new(Code::BadRequest, error.to_string()))?,
        ),
        LockOn::Everything => LockTarget::Everything,
    })
}

/// A lock that was just set, with what it leaves as it is.
pub(in crate::http) async fn set_answer(book: &Book, lock: LockRow) -> Result<LockSetAnswer, ApiError> {
    let found = book.outstanding(&lock.target).await?;
    let beyond = lock::beyond(&lock.target, &found);
    let lock::Outstanding { certificates, more, until, clusters, accepted: _ } = found;
    let outstanding = Outstanding { certificates, more, until, clusters: clusters.into_iter().collect() };
    Ok(LockSetAnswer { lock: answer(lock, book.now()), outstanding, beyond })
}

/// A lock as the API answers it.
pub(in crate::http) fn answer(lock: LockRow, now: Timestamp) -> LockAnswer {
    let holds = lock.holds(now);
    let asked = lock.asked.filter(|ask| holds && now < ask.until);
    let (ended_by, ended_at) = lock.ended.unzip();
    LockAnswer {
        id: lock.id.0,
        on: match lock.target {
            LockTarget::User { issuer, subject } => LockOn::User { issuer, subject },
            LockTarget::Session(id) => LockOn::Session { id: id.0 },
            LockTarget::Grant { grant, .. } => LockOn::Grant { id: grant.0 },
            LockTarget::Cluster(name) => LockOn::Cluster { name: name.as_str().into() },
            LockTarget::Everything => LockOn::Everything,
        },
        by: lock.by,
        reason: lock.reason,
        at: lock.at,
        until: lock.until,
        holds,
        asked_by: asked.as_ref().map(|ask| ask.user.clone()),
        asked_until: asked.map(|ask| ask.until),
        ended_by,
        ended_at,
    }
}
