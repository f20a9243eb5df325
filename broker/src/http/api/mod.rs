//! The API under `/v1`, one file a resource.

pub mod audit;
pub mod certificates;
pub mod clusters;
pub mod session;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use tokio::sync::watch;

use super::extract::add_nonce;
use super::limits::Limits;
use crate::audit::Sequencer;
use crate::clock::SharedClock;
use crate::domain::Clusters;
use crate::login::Login;
use crate::mint::{Issuers, Mint};
use crate::policy::PolicySet;
use crate::store::Store;

/// What the API's handlers work with.
#[derive(Clone)]
pub struct Api {
    /// Sessions and proofs.
    pub login: Arc<Login>,
    /// Certificates.
    pub mint: Arc<Mint>,
    /// Rates.
    pub limits: Arc<Limits>,
    /// Reading the audit.
    pub store: Arc<dyn Store>,
    /// Recording reads of it.
    pub sequencer: Sequencer,
    /// The time.
    pub clock: SharedClock,
    /// The policies in force.
    pub policies: watch::Receiver<Arc<PolicySet>>,
    /// The clusters in force.
    pub clusters: watch::Receiver<Clusters>,
    /// The clusters whose CA is in custody.
    pub issuers: watch::Receiver<Issuers>,
}

/// Every API route: method, path, what it asks of the caller. The router is built from this list, and the test that walks
/// the routes fails for one that is not in it.
pub const ROUTES: &[(&str, &str)] = &[
    ("GET", "/v1/session"),
    ("GET", "/v1/clusters"),
    ("GET", "/v1/clusters/{cluster}"),
    ("POST", "/v1/clusters/{cluster}/certificates"),
    ("GET", "/v1/audit/entries"),
];

/// The API's router.
pub fn routes(api: Api) -> Router {
    Router::new()
        .route("/v1/session", get(session::show))
        .route("/v1/clusters", get(clusters::list))
        .route("/v1/clusters/{cluster}", get(clusters::show))
        .route("/v1/clusters/{cluster}/certificates", post(certificates::create))
        .route("/v1/audit/entries", get(audit::list))
        .route_layer(axum::middleware::from_fn_with_state(api.clone(), add_nonce))
        .with_state(api)
}
