//! The log as any C2SP tlog-tiles tool reads it: checkpoint and hash tiles under `/log`, by a static token or a client certificate.
//!
//! Hashes tell nothing of what was recorded. The leaf records are another matter: they are the API's
//! ([`super::api::log::entries_tile`]).

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::HeaderValue;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum_server::tls::TlsInfo;
use ichor_wire::log::tiles::TilePath;
use ichor_wire::log::tree::{Hash, TILE_HEIGHT, TILE_WIDTH, Tile};
use ichor_wire::problem::{Code, Problem};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::watch;

use super::ClientAddress;
use super::error::ApiError;
use super::limits::Limits;
use super::route::{Needs, Route, router};
use crate::audit::Standing;
use crate::store::{Store, StoreError};

/// The token by which tools read the log. Kept as its SHA-256, so that comparing takes the same time whatever differs.
#[derive(Clone)]
pub struct TileToken([u8; 32]);

/// What the handlers work with.
#[derive(Clone)]
pub struct Tlog {
    /// The tiles.
    pub store: Arc<dyn Store>,
    /// The newest checkpoint.
    pub standing: watch::Receiver<Standing>,
    /// By which token one may read.
    pub token: Option<TileToken>,
    /// Whether a certificate of the CA for tools lets one read.
    pub by_certificate: bool,
    /// Rates of strangers.
    pub limits: Arc<Limits>,
}

/// Every route below `/log` that a token or a certificate opens.
pub const ROUTES: &[Route<Tlog>] = &[
    Route::new("GET", "/log/checkpoint", Needs::Token, || get(checkpoint)),
    Route::new("GET", "/log/tile/{*path}", Needs::Token, || get(tile)),
];

/// The routes. They need the extension [`ClientAddress`] on every request.
pub fn routes(tlog: Tlog) -> Router {
    router(ROUTES).route_layer(from_fn_with_state(tlog.clone(), admit)).with_state(tlog)
}

/// Lets in whoever has the token or a certificate; others are counted by address.
async fn admit(State(tlog): State<Tlog>, request: Request, next: Next) -> Response {
    if tlog.token.is_none() && !tlog.by_certificate {
        let text = "the log's tiles are not served here; set `audit.tile_token_file` or `audit.tile_client_ca_file`";
        return ApiError::new(Code::NotFound, text).into_response();
    }
    let shown = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let shown = shown.and_then(|value| value.strip_prefix("Bearer "));
    let has_token = tlog.token.as_ref().zip(shown).is_some_and(|(token, shown)| token.is(shown));
    // one that was shown has been verified: else there is no connection
    let tls = request.extensions().get::<Arc<TlsInfo>>();
    let has_certificate = tls.is_some_and(|tls| !tls.peer_certificates.is_empty());
    if has_token || tlog.by_certificate && has_certificate {
        return next.run(request).await;
    }
    let address = request.extensions().get::<ClientAddress>().map(|address| address.0);
    if let Some(address) = address
        && let Err(too_many) = tlog.limits.stranger(address).await
    {
        return too_many.into_response();
    }
    let mut refused =
        ApiError::new(Code::NotLoggedIn, "the log's tiles need their token or a client certificate").into_response();
    refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    refused
}

/// The newest checkpoint, for tools of C2SP tlog-tiles: with the bearer token of `audit.tile_token_file`, or a client certificate.
#[utoipa::path(get, path = "/log/checkpoint", tag = "audit", security(()), responses(
    (status = 200, description = "the signed note", body = String, content_type = "text/plain"),
    (status = 401, description = "no token or client certificate", body = Problem),
    (status = 404, description = "tiles are not served here", body = Problem),
    (status = 503, description = "the log has no signed checkpoint yet", body = Problem),
))]
pub(super) async fn checkpoint(State(tlog): State<Tlog>) -> Result<Response, ApiError> {
    let note = newest(&tlog.standing)?.note.to_string();
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, "no-store")], note).into_response())
}

/// The hashes of a tile, as C2SP tlog-tiles has them; likewise.
#[utoipa::path(get, path = "/log/tile/{path}", tag = "audit", security(()),
    params(("path" = String, Path, description = "level and number, as `0/x001/234` or `0/x001/234.p/17`")),
    responses(
        (status = 200, description = "the hashes", body = String, content_type = "application/octet-stream"),
        (status = 401, description = "no token or client certificate", body = Problem),
        (status = 404, description = "no such tile, or tiles are not served here", body = Problem),
        (status = 503, description = "the log has no signed checkpoint yet", body = Problem),
    ))]
pub(super) async fn tile(State(tlog): State<Tlog>, Path(path): Path<String>) -> Result<Response, ApiError> {
    let size = newest(&tlog.standing)?.checkpoint.size();
    let Ok(TilePath::Hashes(tile)) = format!("tile/{path}").parse::<TilePath>() else { return Err(no_tile()) };
    let hashes = hashes(&*tlog.store, tile, size).await?.ok_or_else(no_tile)?;
    let headers = [(CONTENT_TYPE, "application/octet-stream"), (CACHE_CONTROL, "private, max-age=604800, immutable")];
    Ok((headers, hashes.concat()).into_response())
}

/// The hashes of a tile of the tree of `size` entries; `None` where that tree has no such tile, or not so wide a one.
async fn hashes(store: &dyn Store, tile: Tile, size: u64) -> Result<Option<Vec<Hash>>, StoreError> {
    let Some(known) = Tile::of(tile.level, tile.index, size).filter(|known| known.width >= tile.width) else {
        return Ok(None);
    };
    let mut hashes = match known.is_complete() {
        true => store.tile(tile.level, tile.index).await?.map(|full| full.hashes).unwrap_or_default(),
        false => {
            // the tree that ends where this tile does
            let first = tile.index.saturating_mul(TILE_WIDTH as u64);
            let at = first.saturating_add(u64::from(tile.width)) << (u32::from(tile.level) * u32::from(TILE_HEIGHT));
            store.edge(at).await?.unfinished(tile.level).to_vec()
        }
    };
    hashes.truncate(usize::from(tile.width));
    if hashes.len() < usize::from(tile.width) {
        return Err(StoreError::Damaged(format!("tile {} of level {} is missing", tile.index, tile.level)));
    }
    Ok(Some(hashes))
}

/// The newest checkpoint.
///
/// # Errors
/// When there is none yet.
pub(super) fn newest(standing: &watch::Receiver<Standing>) -> Result<Arc<crate::audit::Signed>, ApiError> {
    let newest = standing.borrow().newest.clone();
    newest.ok_or_else(|| ApiError::new(Code::AuditUnavailable, "the log has no signed checkpoint yet").retry_after(10))
}

pub(super) fn no_tile() -> ApiError {
    ApiError::new(Code::NotFound, "the log has no such tile, or not yet")
}

// === impl TileToken ===

impl TileToken {
    /// The token that this file's text is; `None` for a text without one, or one that can be guessed.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let token = text.trim();
        (token.len() >= 16 && token.bytes().all(|byte| byte.is_ascii_graphic()))
            .then(|| Self(Sha256::digest(token).into()))
    }

    fn is(&self, shown: &str) -> bool {
        self.0.ct_eq(&<[u8; 32]>::from(Sha256::digest(shown))).into()
    }
}

impl std::fmt::Debug for TileToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TileToken(..)")
    }
}

impl std::fmt::Debug for Tlog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tlog").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use ichor_wire::log::Kind;
    use ichor_wire::log::tree::Edge;

    use super::*;
    use crate::store::conformance::{noon, note};
    use crate::store::sqlite::{Options, SqliteStore};

    #[test]
    fn a_token_is_compared_whole_and_a_short_one_is_none() {
        let token = TileToken::of("0123456789abcdef\n").unwrap();
        assert!(token.is("0123456789abcdef"));
        for wrong in ["", "0123456789abcde", "0123456789abcdef ", "0123456789ABCDEF"] {
            assert!(!token.is(wrong), "{wrong}");
        }
        for bad in ["", "short", "0123456789 abcdef", "0123456789abcdé"] {
            assert!(TileToken::of(bad).is_none(), "{bad}");
        }
    }

    #[tokio::test]
    async fn tiles_are_as_wide_as_asked_and_no_wider_than_what_is_signed() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path().join("ichor.db"), Options::default()).unwrap();
        store.append((0..700).map(|_| note(Kind::Start, noon())).collect(), None).await.unwrap();
        let mut edge = Edge::default();
        let leaves: Vec<Hash> = store
            .entry_range(0..700)
            .await
            .unwrap()
            .iter()
            .map(|entry| ichor_wire::log::leaf_hash(&entry.leaf))
            .collect();
        let roots: Vec<Hash> = leaves.iter().flat_map(|leaf| edge.push(*leaf)).map(|tile| tile.root).collect();
        let ask = async |level, index, width, size| hashes(&store, Tile { level, index, width }, size).await.unwrap();
        assert_eq!(ask(0, 1, 256, 700).await.unwrap(), leaves[256..512]);
        assert_eq!(ask(0, 1, 10, 700).await.unwrap(), leaves[256..266], "a complete one serves for a narrower");
        assert_eq!(ask(0, 2, 188, 700).await.unwrap(), leaves[512..700]);
        assert_eq!(ask(0, 2, 3, 700).await.unwrap(), leaves[512..515]);
        assert_eq!(ask(1, 0, 2, 700).await.unwrap(), roots);
        assert_eq!(ask(1, 0, 1, 700).await.unwrap(), roots[..1]);
        for (level, index, width, size) in
            [(0, 2, 189, 700), (0, 3, 1, 700), (1, 0, 3, 700), (2, 0, 1, 700), (0, 1, 256, 300)]
        {
            assert_eq!(ask(level, index, width, size).await, None, "{level} {index} {width} {size}");
        }
    }
}
