//! What was approved, and what came of it: `POST /v1/break-glass/{id}/certificates` and `GET /v1/break-glass/{id}/report`.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;
use ichor_wire::api::{AuditEntry, BreakGlassReport, BreakGlassUse, CertificateAnswer};
use ichor_wire::log::{Content, Kind};
use ichor_wire::problem::{Code, Problem};
use ichor_wire::profile;

use super::break_glass::{answer, named};
use super::calls::show as call;
use super::certificates::minted;
use super::{Api, report_calls};
use crate::audit;
use crate::domain::{GrantId, Request};
use crate::http::error::ApiError;
use crate::http::extract::{Fresh, Signed};
use crate::mint::person;
use crate::store::EntryFilter;

/// The certificate that others approved, for the caller's key. Everything that a certificate needs is checked again; it uses one
/// of the request's uses, which is given back where no certificate comes of it, to the same session's key.
#[utoipa::path(post, path = "/v1/break-glass/{id}/certificates", tag = "break-glass",
    params(("id" = String, Path, description = "the request's id")), request_body = BreakGlassUse, responses(
    (status = 200, description = "the certificate", body = CertificateAnswer),
    (status = 400, description = "the CSR is not usable", body = Problem),
    (status = 401, description = "no valid session or proof", body = Problem),
    (status = 403, description = "policy refuses; the help says what would", body = Problem),
    (status = 404, description = "no such request of the caller's", body = Problem),
    (status = 409, description = "it is not approved, used up, over, or bound to another key", body = Problem),
    (status = 502, description = "the CA made another certificate than was granted", body = Problem),
    (status = 503, description = "provider, store or custody is out", body = Problem),
))]
pub async fn create(
    State(api): State<Api>,
    Path(id): Path<String>,
    signed: Signed<BreakGlassUse>,
) -> Result<Response, ApiError> {
    let id = named(&id)?;
    let key = profile::read_csr(&signed.body.csr).map_err(|error| ApiError::new(Code::BadCsr, error.to_string()))?;
    let approved = api.break_glass.approved(&signed.identity, id, &signed.jkt).await?;
    let request = Request {
        cluster: approved.contents.cluster.clone(),
        roles: approved.quorum.roles.clone(),
        ttl: Some(approved.left),
        reason: Some(approved.contents.said.reason.clone()),
        public_key: key.spki,
        csr: key.der,
        address: signed.address,
    };
    minted(&api, signed.identity, request, Some(approved.quorum)).await
}

/// What was done under a request: grants, certificates, and the calls that nodes' own logs tell of. Reading someone else's is
/// recorded.
#[utoipa::path(get, path = "/v1/break-glass/{id}/report", tag = "break-glass",
    params(("id" = String, Path, description = "the request's id")), responses(
    (status = 200, description = "what was done", body = BreakGlassReport),
    (status = 401, description = "no valid session or proof", body = Problem),
    (status = 404, description = "no such request, or none that the caller may see", body = Problem),
))]
pub async fn report(
    State(api): State<Api>,
    Path(id): Path<String>,
    caller: Fresh,
) -> Result<Json<BreakGlassReport>, ApiError> {
    let seen = api.break_glass.show(&caller.identity, named(&id)?).await?;
    if seen.contents.person != *caller.identity.person() {
        let content = Content {
            person: Some(person(&caller.identity)),
            session: caller.identity.session().map(|id| id.0.as_bytes().to_vec()),
            cluster: Some(seen.contents.said.cluster.clone()),
            address: Some(caller.address.to_string()),
            break_glass: Some(seen.contents.said.id.into_bytes().to_vec()),
            message: Some("what was done under a break-glass request".into()),
            ..Content::of(Kind::AuditRead)
        };
        api.sequencer.note(content, None).await?;
    }
    let mut entries = Vec::new();
    for used in &seen.file.uses {
        let filter = EntryFilter { grant: Some(used.grant), ..EntryFilter::default() };
        let found = audit::entries(&*api.store, &filter, None, 100).await;
        let mut found = found.map_err(|error| ApiError::internal(&error))?.entries;
        found.reverse();
        entries.append(&mut found);
    }
    let place = |grant: GrantId| {
        let of = |entry: &&AuditEntry| entry.kind == Kind::Grant.as_str() && entry.grant_id == Some(grant.0);
        (grant, entries.iter().find(of).map(|entry| entry.index))
    };
    let grants: Vec<_> = seen.file.uses.iter().map(|used| place(used.grant)).collect();
    let made = report_calls::of(&*api.store, &grants, |node| is_named(&api, &seen.contents.said.nodes, node)).await?;
    let names_no_grant = api.mint.names_grants(&seen.contents.cluster) == Some(false);
    let report_calls::Made { calls, more, sums, other_nodes } = made;
    let calls = calls.into_iter().map(call).collect();
    Ok(Json(BreakGlassReport { request: answer(seen), entries, calls, more, sums, other_nodes, names_no_grant }))
}

/// Whether the request names this node, by its name or its address; one that names none names all.
fn is_named(api: &Api, named: &[String], node: &str) -> bool {
    let means = |name: &String| name == node || api.sources.meant(name).iter().any(|meant| meant.node == node);
    named.is_empty() || named.iter().any(means)
}
