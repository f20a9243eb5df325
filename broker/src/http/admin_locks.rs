//! Locks over the admin socket: for operators at the broker's own host, where nobody can log in, say.

use axum::Json;
use axum::Router;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::routing::{get, post};
use ichor_wire::api::{LockAnswer, LockAsk, LockList, LockSetAnswer, PeopleAnswer, PeopleQuery, UnlockAsk};
use ichor_wire::log::{Content, Kind};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::admin::Peer;
use super::api::locks::{answer, known, set_answer, target};
use super::error::ApiError;
use crate::domain::LockId;
use crate::lock::{Book, LockError, Who};

/// What a command on the host asks for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Act<T> {
    /// The host's name.
    pub host: String,
    /// What is asked.
    pub ask: T,
}

/// The socket's routes about locks.
pub fn routes(book: Book) -> Router {
    Router::new()
        .route("/v1/locks", get(list).post(set))
        .route("/v1/locks/{id}/unlock", post(unlock))
        .route("/v1/people", get(people))
        .with_state(book)
}

/// Returns once the lock is durably recorded, with the socket's peer.
async fn set(
    State(book): State<Book>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Json(act): Json<Act<LockAsk>>,
) -> Result<Json<LockSetAnswer>, ApiError> {
    let user = peer.user()?;
    Ok(Json(set_at(&book, &user, act).await?))
}

async fn list(State(book): State<Book>) -> Result<Json<LockList>, ApiError> {
    Ok(Json(list_at(&book).await?))
}

async fn people(State(book): State<Book>, Query(query): Query<PeopleQuery>) -> Result<Json<PeopleAnswer>, ApiError> {
    Ok(Json(people_at(&book, &query.name).await?))
}

/// Returns once the lock is lifted. One of everything is not, here.
async fn unlock(
    State(book): State<Book>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(id): Path<String>,
    Json(act): Json<Act<UnlockAsk>>,
) -> Result<Json<LockAnswer>, ApiError> {
    let user = peer.user()?;
    let id = Uuid::try_parse(&id).map_err(|_| LockError::Unknown)?;
    Ok(Json(unlock_at(&book, &user, LockId(id), act).await?))
}

/// Sets a lock as this operating-system user.
///
/// # Errors
/// When it cannot be.
pub async fn set_at(book: &Book, user: &str, act: Act<LockAsk>) -> Result<LockSetAnswer, ApiError> {
    let LockAsk { on, seconds, reason } = act.ask;
    let target = target(book, on).await?;
    let base = Content::of(Kind::Lock);
    let lock = book.set(Who::Host(user, &act.host), base, target, seconds, reason.trim().to_owned()).await?;
    set_answer(book, lock).await
}

/// The locks that hold.
///
/// # Errors
/// When the store cannot be read.
pub async fn list_at(book: &Book) -> Result<LockList, ApiError> {
    let now = book.now();
    let held = book.list(false).await?.into_iter().filter(|lock| lock.holds(now));
    Ok(LockList { locks: held.map(|lock| answer(lock, now)).collect() })
}

/// Whoever has logged in with this subject or value behind `user:`.
///
/// # Errors
/// When the store cannot be read.
pub async fn people_at(book: &Book, name: &str) -> Result<PeopleAnswer, ApiError> {
    Ok(known(book.people(name).await?))
}

/// Lifts a lock as this operating-system user.
///
/// # Errors
/// When it does not hold, or is one of everything.
pub async fn unlock_at(book: &Book, user: &str, id: LockId, act: Act<UnlockAsk>) -> Result<LockAnswer, ApiError> {
    let lock = book.find(id).await?;
    let who = Who::Host(user, &act.host);
    let lifted =
        book.lift(who, Content::of(Kind::Unlock), &lock, act.ask.reason.trim(), act.ask.confirm, &|_, _| false).await?;
    Ok(answer(lifted, book.now()))
}
