//! `GET /v1/audit/checkpoint|key` and `/log/tile/entries/…`: what the log's proofs are checked with.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use ichor_wire::api::AuditKeyAnswer;
use ichor_wire::log::tiles::{TilePath, bundle};
use ichor_wire::log::tree::{TILE_WIDTH, Tile};
use ichor_wire::problem::Problem;

use super::Api;
use super::audit::{permit, record};
use super::proofs::rotations;
use crate::http::error::ApiError;
use crate::http::extract::{Caller, Fresh};
use crate::http::tlog::{newest, no_tile};

const TEXT: [(axum::http::HeaderName, &str); 2] =
    [(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, "no-store")];

/// The log's newest checkpoint: a signed note (C2SP tlog-checkpoint) with its size and root, and the lines of witnesses.
#[utoipa::path(get, path = "/v1/audit/checkpoint", tag = "audit", responses(
    (status = 200, description = "the signed note", body = String, content_type = "text/plain"),
    (status = 401, description = "no valid session or proof", body = Problem),
    (status = 503, description = "the log has no signed checkpoint yet", body = Problem),
))]
pub async fn checkpoint(State(api): State<Api>, _caller: Caller) -> Result<Response, ApiError> {
    Ok((TEXT, newest(&api.sequencer.standing())?.note.to_string()).into_response())
}

/// The key that verifies the log's checkpoints, as signed notes name it, and how it came to be that one. Keep it where the
/// broker cannot change it: whoever takes it from the broker each time verifies nothing.
#[utoipa::path(get, path = "/v1/audit/key", tag = "audit", responses(
    (status = 200, description = "the verifier key", body = AuditKeyAnswer),
    (status = 401, description = "no valid session or proof", body = Problem),
))]
pub async fn key(State(api): State<Api>, _caller: Caller) -> Result<Json<AuditKeyAnswer>, ApiError> {
    let (origin, key) = (api.log_key.name().to_owned(), api.log_key.to_string());
    Ok(Json(AuditKeyAnswer { origin, key, rotations: rotations(&api).await? }))
}

/// The leaf records behind one tile, packed as C2SP tlog-tiles has it. Needs `audit:read` on everything; the reading is
/// recorded, or the refusal.
#[utoipa::path(get, path = "/log/tile/entries/{path}", tag = "audit",
    params(("path" = String, Path, description = "the tile's number, as `x001/234` or `x001/234.p/17`")),
    responses(
        (status = 200, description = "the bundle", body = String, content_type = "application/octet-stream"),
        (status = 401, description = "no valid session or proof", body = Problem),
        (status = 403, description = "policy refuses", body = Problem),
        (status = 404, description = "no such tile", body = Problem),
    ))]
pub async fn entries_tile(
    State(api): State<Api>,
    Path(path): Path<String>,
    caller: Fresh,
) -> Result<Response, ApiError> {
    permit(&api, &caller.identity, caller.address, None, "leaf records of the log").await?;
    let size = newest(&api.sequencer.standing())?.checkpoint.size();
    let Ok(TilePath::Entries(tile)) = format!("tile/entries/{path}").parse::<TilePath>() else { return Err(no_tile()) };
    Tile::of(0, tile.index, size).filter(|known| known.width >= tile.width).ok_or_else(no_tile)?;
    let first = tile.index.saturating_mul(TILE_WIDTH as u64);
    let range = first..first.saturating_add(u64::from(tile.width));
    let what = format!("leaf records {} to {}", range.start, range.end.saturating_sub(1));
    record(&api, &caller.identity, caller.address, None, what).await?;
    let stored = api.store.entry_range(range).await?;
    let packed =
        bundle(stored.iter().map(|entry| entry.leaf.as_slice())).map_err(|error| ApiError::internal(&error))?;
    Ok(([(CONTENT_TYPE, "application/octet-stream"), (CACHE_CONTROL, "no-store")], packed).into_response())
}
