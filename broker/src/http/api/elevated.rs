//! What was approved, and what came of it: `POST /v1/break-glass/{id}/certificates` and `GET /v1/break-glass/{id}/report`.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;
use ichor_wire::api::{BreakGlassReport, BreakGlassUse, CertificateAnswer};
use ichor_wire::log::{Content, Kind};
use ichor_wire::problem::{Code, Problem};
use ichor_wire::profile;

use super::Api;
use super::break_glass::{answer, named};
use super::calls::show as call;
use super::certificates::minted;
use crate::audit;
use crate::domain::Request;
use crate::http::error::ApiError;
use crate::http::extract::{Fresh, Signed};
use crate::mint::person;
use crate::store::{CallFilter, EntryFilter};

/// The most calls in a report.
const CALLS: u32 = 500;

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
    let (mut entries, mut calls) = (Vec::new(), Vec::new());
    for used in &seen.file.uses {
        let filter = EntryFilter { grant: Some(used.grant), ..EntryFilter::default() };
        let found = audit::entries(&*api.store, &filter, None, 100).await;
        let mut found = found.map_err(|error| ApiError::internal(&error))?.entries;
        found.reverse();
        entries.append(&mut found);
        let filter = CallFilter { grant: Some(used.grant), ..CallFilter::default() };
        calls.extend(api.store.calls(&filter, None, CALLS).await?.into_iter().map(call));
    }
    calls.truncate(usize::try_from(CALLS).unwrap_or(usize::MAX));
    let named = &seen.contents.said.nodes;
    let touched: BTreeSet<_> = calls.iter().map(|call| call.node.clone()).collect();
    let is_other = |node: &String| !named.is_empty() && !named.contains(node);
    let other_nodes = touched.into_iter().filter(is_other).collect();
    Ok(Json(BreakGlassReport { request: answer(seen), entries, calls, other_nodes }))
}
