//! `POST /v1/clusters/{cluster}/certificates`: the main job.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use ichor_wire::api::{CertificateAnswer, CertificateRequest};
use ichor_wire::problem::{Code, Problem};
use ichor_wire::profile;
use ichor_wire::role::Role;
use jiff::SignedDuration;
use tracing::Instrument;
use zeroize::Zeroizing;

use super::Api;
use super::clusters::find;
use crate::domain::{Request, check_reason};
use crate::http::error::ApiError;
use crate::http::extract::Signed;
use crate::identity::Identity;
use crate::mint::Step;
use crate::policy::{HARD_MAX_TTL, Quorum};

/// Room for every answer with a private key at once, in bytes, so that growing leaves no copy behind.
const LARGEST_ANSWER: usize = 64 * 1024;

/// Room for most answers without one, in bytes.
const USUAL_ANSWER: usize = 4 * 1024;

/// A certificate for the caller's key: decided by policy, recorded, issued, recorded, answered. Where the
/// cluster itself makes the certificates it makes their keys too: then the answer has one, and the request's is not used.
#[utoipa::path(post, path = "/v1/clusters/{cluster}/certificates", tag = "certificates",
    params(("cluster" = String, Path, description = "the cluster's name")), request_body = CertificateRequest,
    responses(
        (status = 200, description = "the certificate", body = CertificateAnswer),
        (status = 400, description = "the request or its CSR is not usable", body = Problem),
        (status = 401, description = "no valid session or proof", body = Problem),
        (status = 403, description = "policy refuses; the help says what would", body = Problem),
        (status = 404, description = "no such cluster", body = Problem),
        (status = 429, description = "too many requests", body = Problem),
        (status = 502, description = "the CA made another certificate than was granted", body = Problem),
        (status = 503, description = "provider, store or custody is out", body = Problem),
    ))]
pub async fn create(
    State(api): State<Api>,
    Path(name): Path<String>,
    signed: Signed<CertificateRequest>,
) -> Result<Response, ApiError> {
    let cluster = find(&api, &name)?;
    let asked = signed.body;
    let key = profile::read_csr(&asked.csr).map_err(|error| ApiError::new(Code::BadCsr, error.to_string()))?;
    let request = Request {
        cluster: cluster.name.clone(),
        roles: roles(&asked.roles)?,
        ttl: asked.ttl.map(lifetime).transpose()?,
        reason: asked.reason.map(reason).transpose()?.flatten(),
        public_key: key.spki,
        csr: key.der,
        address: signed.address,
    };
    minted(&api, signed.identity, request, None).await
}

/// The certificate for what is asked, with what others approved where they did.
pub(super) async fn minted(
    api: &Api,
    identity: Identity,
    request: Request,
    quorum: Option<Quorum>,
) -> Result<Response, ApiError> {
    let mint = std::sync::Arc::clone(&api.mint);
    // A task of its own: once a grant is recorded its outcome is too, even when the caller hangs up.
    let minting = async move { mint.certificate(&identity, request, quorum.as_ref()).await };
    let minted = tokio::spawn(minting.in_current_span()).await;
    let minted = minted.map_err(|error| ApiError::internal(&error))??;
    let (grant, issued) = (minted.issued.value().grant(), &minted.issued);
    Step::Answer.begins(grant.id());
    answer(&CertificateAnswer {
        cluster: minted.cluster.name.as_str().into(),
        grant_id: grant.id().0,
        certificate: issued.certificate_pem(),
        private_key: issued.private_key_pem(),
        issuing_ca: Some(issued.value().ca_pem().to_owned()),
        ca: minted.cluster.ca.clone(),
        endpoints: minted.cluster.endpoints.clone(),
        nodes: minted.cluster.nodes.clone(),
        roles: grant.roles().to_vec(),
        not_before: issued.value().not_before(),
        not_after: issued.value().not_after(),
        user: grant.user().into(),
        receipt: issued.receipt(),
    })
}

/// The answer as JSON. Where it holds a private key, in memory that is wiped once it is sent; what the HTTP and TLS libraries
/// buffer is theirs.
fn answer(answer: &CertificateAnswer) -> Result<Response, ApiError> {
    let json = |room: usize| {
        let mut json = Zeroizing::new(Vec::with_capacity(room));
        serde_json::to_writer(&mut *json, answer).map(|()| json).map_err(|error| ApiError::internal(&error))
    };
    let body = match answer.private_key {
        Some(_) => Bytes::from_owner(json(LARGEST_ANSWER)?),
        None => Bytes::from(std::mem::take(&mut *json(USUAL_ANSWER)?)),
    };
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from(body)).into_response())
}

pub(super) fn roles(texts: &[String]) -> Result<Vec<Role>, ApiError> {
    let unknown = |error: ichor_wire::role::UnknownRole| ApiError::new(Code::UnknownRole, error.to_string());
    let mut roles = texts.iter().map(|text| text.parse::<Role>()).collect::<Result<Vec<_>, _>>().map_err(unknown)?;
    roles.sort_unstable();
    roles.dedup();
    Ok(roles)
}

pub(super) fn lifetime(seconds: u64) -> Result<SignedDuration, ApiError> {
    let most = HARD_MAX_TTL.as_secs().unsigned_abs();
    match i64::try_from(seconds.min(most)) {
        Ok(seconds) if seconds >= 60 => Ok(SignedDuration::from_secs(seconds)),
        _ => Err(ApiError::new(Code::BadRequest, "a lifetime (`ttl`) is at least 60 seconds")),
    }
}

/// A blank reason is none; any other must be one.
fn reason(text: String) -> Result<Option<String>, ApiError> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    check_reason(text).map_err(|error| ApiError::new(Code::BadRequest, error.to_string()))?;
    Ok(Some(text.to_owned()))
}
