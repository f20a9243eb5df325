//! `GET /v1/audit/receipts/{index}|consistency|proofs/{id}|export`: what proves that the log has an entry.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use ichor_wire::api::{ConsistencyAnswer, ConsistencyQuery, EntryProof, ExportQuery, ProofFile, Receipt};
use ichor_wire::log::proof::printed;
use ichor_wire::log::{Checkpoint, Kind, export, leaf_hash};
use ichor_wire::problem::{Code, Problem};
use uuid::Uuid;

use super::Api;
use super::audit::{by, permit, record, refused};
use crate::audit;
use crate::domain::{ClusterName, GrantId};
use crate::http::error::ApiError;
use crate::http::extract::{Caller, Fresh, StrictQuery};
use crate::http::tlog::newest;
use crate::policy::{self, AuditScope, Refusal};
use crate::store::{EntryFilter, Grown, StoredEntry};

/// So many entries an answer of an export has at most; a page is read and packed at once.
const LARGEST_EXPORT: u64 = 2_000;

/// The receipt of an entry: completes one that was pending. Everyone may have those of their own entries; of others' policy
/// decides (`audit:read`), and the reading is recorded, or the refusal.
#[utoipa::path(get, path = "/v1/audit/receipts/{index}", tag = "audit",
    params(("index" = u64, Path, description = "the entry's index")),
    responses(
        (status = 200, description = "the receipt", body = Receipt),
        (status = 401, description = "no valid session or proof", body = Problem),
        (status = 403, description = "policy refuses", body = Problem),
        (status = 404, description = "no such entry, or not signed yet", body = Problem),
    ))]
pub async fn receipt(
    State(api): State<Api>,
    caller: Fresh,
    Path(index): Path<String>,
) -> Result<Json<Receipt>, ApiError> {
    let index: u64 = index.parse().map_err(|_| no_entry())?;
    let signed = newest(&api.sequencer.standing())?;
    let is_signed = index < signed.checkpoint.size();
    let found = if is_signed { api.store.entry_range(index..index.saturating_add(1)).await?.pop() } else { None };
    let stored = found.ok_or_else(no_entry)?;
    let what = format!("the receipt of entry {index}");
    admit(&api, &caller, &stored, &what, &what).await?;
    let path = audit::inclusion(&*api.store, &signed.tree, index).await?;
    let receipt = Receipt::pending(index, &leaf_hash(&stored.leaf));
    Ok(Json(match &stored.body {
        Some(body) => receipt.with_proof(body, &path, signed.note.to_string()),
        None => receipt,
    }))
}

/// That the log of one checkpoint is the beginning of another's. It tells nothing but hashes.
#[utoipa::path(get, path = "/v1/audit/consistency", tag = "audit", params(ConsistencyQuery), responses(
    (status = 200, description = "the proof", body = ConsistencyAnswer),
    (status = 400, description = "the log has no two trees of these sizes", body = Problem),
    (status = 401, description = "no valid session or proof", body = Problem),
))]
pub async fn consistency(
    State(api): State<Api>,
    _caller: Caller,
    StrictQuery(query): StrictQuery<ConsistencyQuery>,
) -> Result<Json<ConsistencyAnswer>, ApiError> {
    let size = newest(&api.sequencer.standing())?.checkpoint.size();
    if query.to > size || query.from > query.to {
        return Err(ApiError::new(Code::BadRequest, format!("write two sizes in order, at most {size}")));
    }
    let tree = Grown { edge: api.store.edge(query.to).await?, tiles: Vec::new() };
    let proof = audit::consistency(&*api.store, &tree, query.from).await?;
    Ok(Json(ConsistencyAnswer { proof: printed(&proof) }))
}

/// A proof that a third party checks with the log's key alone: of the entry with this index or id, or of the newest entry of the
/// grant with this id, which is what became of the grant.
#[utoipa::path(get, path = "/v1/audit/proofs/{id}", tag = "audit",
    params(("id" = String, Path, description = "an entry's index or id, or a grant's id")),
    responses(
        (status = 200, description = "the proof file", body = ProofFile),
        (status = 401, description = "no valid session or proof", body = Problem),
        (status = 403, description = "policy refuses", body = Problem),
        (status = 404, description = "no such entry, or not signed yet", body = Problem),
    ))]
pub async fn proof(State(api): State<Api>, caller: Fresh, Path(id): Path<String>) -> Result<Json<ProofFile>, ApiError> {
    let signed = newest(&api.sequencer.standing())?;
    let size = signed.checkpoint.size();
    let stored = match (id.parse::<u64>(), id.parse::<Uuid>()) {
        (Ok(index), _) if index < size => api.store.entry_range(index..index.saturating_add(1)).await?.pop(),
        (Err(_), Ok(id)) => find(&api, id, size).await?,
        _ => None,
    };
    let stored = stored.ok_or_else(no_entry)?;
    // which entry is the newest of a grant is not told to whom it is refused
    admit(&api, &caller, &stored, &format!("the proof of entry {}", stored.index), &format!("the proof of {id}"))
        .await?;
    let path = audit::inclusion(&*api.store, &signed.tree, stored.index).await?;
    let note = signed.note.to_string();
    let entry = match &stored.body {
        Some(body) => EntryProof::of_entry(stored.index, body, &path, note),
        None => EntryProof::of_dropped(stored.index, &stored.leaf, &path, note),
    };
    Ok(Json(ProofFile::new(&api.log_key, entry, rotations(&api).await?)))
}

/// The log from an entry on, as a CBOR sequence with the newest checkpoint at its end: what a verifier reads
/// offline. Needs `audit:read` on everything; the reading is recorded, or the refusal. It ends at what is signed, or earlier.
#[utoipa::path(get, path = "/v1/audit/export", tag = "audit", params(ExportQuery), responses(
    (status = 200, description = "the export", body = String, content_type = "application/cbor-seq"),
    (status = 401, description = "no valid session or proof", body = Problem),
    (status = 403, description = "policy refuses", body = Problem),
))]
pub async fn export(
    State(api): State<Api>,
    caller: Fresh,
    StrictQuery(query): StrictQuery<ExportQuery>,
) -> Result<Response, ApiError> {
    let from = query.from.unwrap_or(0);
    let what = format!("an export of the entries from {from} on");
    permit(&api, &caller.identity, caller.address, None, &what).await?;
    let signed = newest(&api.sequencer.standing())?;
    let first = from.min(signed.checkpoint.size());
    let count = query.limit.unwrap_or(LARGEST_EXPORT).min(LARGEST_EXPORT);
    let end = first.saturating_add(count).min(signed.checkpoint.size());
    let what = format!("an export of the entries {first} to {end}");
    record(&api, &caller.identity, caller.address, None, what).await?;
    let mut out = Vec::new();
    export::write_begin(&mut out, first);
    export::write_checkpoint(&mut out, &signed.note);
    for stored in api.store.entry_range(first..end).await? {
        let hash = leaf_hash(&stored.leaf);
        match &stored.body {
            Some(body) => export::write_entry(&mut out, &hash, body),
            None => export::write_dropped(&mut out, &hash, &stored.leaf),
        }
    }
    Ok(([(CONTENT_TYPE, export::MEDIA_TYPE), (CACHE_CONTROL, "no-store")], out).into_response())
}

/// The changes of the log's key with what the key before each signed of it, oldest first.
pub(super) async fn rotations(api: &Api) -> Result<Vec<EntryProof>, ApiError> {
    let mut proofs = Vec::new();
    for rotation in api.rotations.iter() {
        let unreadable = |error| ApiError::internal(&error);
        let size = Checkpoint::parse_unverified(&rotation.checkpoint).map_err(unreadable)?.size();
        let tree = Grown { edge: api.store.edge(size).await?, tiles: Vec::new() };
        let path = audit::inclusion(&*api.store, &tree, rotation.index).await?;
        let stored = api.store.entry_range(rotation.index..rotation.index.saturating_add(1)).await?.pop();
        if let Some(body) = stored.and_then(|stored| stored.body) {
            proofs.push(EntryProof::of_entry(rotation.index, &body, &path, rotation.checkpoint.clone()));
        }
    }
    Ok(proofs)
}

/// The entry with this id among the signed ones, or the newest of the grant with it.
async fn find(api: &Api, id: Uuid, size: u64) -> Result<Option<StoredEntry>, ApiError> {
    if let Some(stored) = audit::entry_of(&*api.store, id).await?.filter(|stored| stored.index < size) {
        return Ok(Some(stored));
    }
    let filter = EntryFilter { grant: Some(GrantId(id)), ..EntryFilter::default() };
    Ok(api.store.entries(&filter, Some(size), 1).await?.pop())
}

/// Lets in whoever the entry is about; of others policy decides, and the reading is recorded as of `what`, or the refusal as of what was
/// `asked`.
async fn admit(api: &Api, caller: &Fresh, stored: &StoredEntry, what: &str, asked: &str) -> Result<(), ApiError> {
    let identity = &caller.identity;
    let content = audit::as_recorded(stored, None).ok().flatten().map(|entry| entry.content);
    let own = identity.person();
    let is_own = content.as_ref().and_then(|content| content.person.as_ref()).is_some_and(|person| {
        person.provider == own.provider.as_str() && person.issuer == own.issuer && person.subject == own.subject
    });
    if is_own {
        return Ok(());
    }
    let cluster = content.and_then(|content| content.cluster);
    let known = cluster.as_deref().and_then(|name| ClusterName::new(name).ok());
    let known = known.and_then(|name| api.clusters.borrow().get(&name).cloned());
    // an entry of no cluster, or of one that is no longer declared, is part of everything
    let scope = known.as_ref().map_or(AuditScope::Everything, |cluster| AuditScope::Cluster(cluster));
    let policies = api.policies.borrow().clone();
    let Err(refusal) = policy::may_read_audit(&policies, identity, scope, api.clock.now()) else {
        return record(api, identity, caller.address, cluster.as_deref(), what.into()).await;
    };
    // whose cluster the entry is of is part of what is not told
    let sentence = "no policy permits reading this entry, which is not about you".to_owned();
    let help = vec!["ask whoever keeps the broker's policies for `audit:read`".to_owned()];
    let refusal = Refusal { sentence, help, policies: Vec::new(), ..refusal };
    Err(refused(api, by(Kind::Refusal, identity, caller.address), asked, refusal, &policies).await)
}

fn no_entry() -> ApiError {
    ApiError::new(Code::NotFound, "the log has no such entry, or has not signed it yet")
        .help("`ichor audit log` lists entries; name one by its index or whole id, or a grant by its id")
}
