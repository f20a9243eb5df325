//! The API under `/v1`, one file a resource.

pub mod audit;
pub mod break_glass;
pub mod calls;
pub mod certificates;
pub mod clusters;
pub mod drops;
pub mod elevated;
pub mod kits;
pub mod lines;
pub mod locks;
pub mod log;
pub mod proofs;
pub mod readers;
mod report_calls;
pub mod session;
pub mod stories;

use std::ops::Deref;
use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use ichor_wire::log::LogKey;
use jiff::SignedDuration;
use tokio::sync::watch;

use super::extract::add_nonce;
use super::limits::Limits;
use super::route::{Needs, Route, router};
use crate::audit::Sequencer;
use crate::break_glass::BreakGlass;
use crate::clock::SharedClock;
use crate::custody::{DataKey, KeyRotation};
use crate::domain::Clusters;
use crate::lock::{Book, Locks};
use crate::login::Login;
use crate::mint::{Issuers, Mint};
use crate::nodelog::Sources;
use crate::policy::PolicySet;
use crate::store::Store;

/// What the API's handlers work with; cheap to clone, as is done for every request.
#[derive(Clone)]
pub struct Api(Arc<ApiParts>);

/// The parts of it.
pub struct ApiParts {
    /// Sessions and proofs.
    pub login: Arc<Login>,
    /// Certificates.
    pub mint: Arc<Mint>,
    /// Break-glass requests.
    pub break_glass: Arc<BreakGlass>,
    /// Locks.
    pub locks: Locks,
    /// Where they are recorded.
    pub book: Book,
    /// Rates.
    pub limits: Arc<Limits>,
    /// Reading the audit.
    pub store: Arc<dyn Store>,
    /// Recording reads of it.
    pub sequencer: Sequencer,
    /// What verifies its checkpoints.
    pub log_key: LogKey,
    /// The changes of that key.
    pub rotations: Arc<[KeyRotation]>,
    /// The time.
    pub clock: SharedClock,
    /// The policies in force.
    pub policies: watch::Receiver<Arc<PolicySet>>,
    /// The clusters in force.
    pub clusters: watch::Receiver<Clusters>,
    /// The clusters whose CA is in custody.
    pub issuers: watch::Receiver<Issuers>,
    /// Which node is meant by an address.
    pub sources: Sources,
    /// Places of those who follow the log or take it away line by line.
    pub readers: readers::Readers,
    /// What marks rows of the database as the broker's own.
    pub data_key: Arc<DataKey>,
    /// How old an entry must be before its body can be dropped.
    pub drop_min_age: SignedDuration,
}

impl From<ApiParts> for Api {
    fn from(parts: ApiParts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for Api {
    type Target = ApiParts;

    fn deref(&self) -> &ApiParts {
        &self.0
    }
}

/// Every API route. The router is built of this table.
pub const ROUTES: &[Route<Api>] = &[
    Route::new("GET", "/v1/session", Needs::Session, || get(session::show)),
    Route::new("GET", "/v1/clusters", Needs::Session, || get(clusters::list)),
    Route::new("GET", "/v1/clusters/{cluster}", Needs::Session, || get(clusters::show)),
    Route::new("POST", "/v1/clusters/{cluster}/certificates", Needs::Session, || post(certificates::create)),
    Route::new("GET", "/v1/audit/entries", Needs::Session, || get(audit::list)),
    Route::new("GET", "/v1/audit/checkpoint", Needs::Session, || get(log::checkpoint)),
    Route::new("GET", "/v1/audit/key", Needs::Session, || get(log::key)),
    Route::new("GET", "/v1/audit/receipts/{index}", Needs::Session, || get(proofs::receipt)),
    Route::new("GET", "/v1/audit/consistency", Needs::Session, || get(proofs::consistency)),
    Route::new("GET", "/v1/audit/proofs/{id}", Needs::Session, || get(proofs::proof)),
    Route::new("GET", "/v1/audit/export", Needs::Session, || get(proofs::export)),
    Route::new("GET", "/log/tile/entries/{*path}", Needs::Session, || get(log::entries_tile)),
    Route::new("GET", "/v1/audit/lines", Needs::Session, || get(lines::list)),
    Route::new("GET", "/v1/audit/stories/{id}", Needs::Session, || get(stories::show)),
    Route::new("POST", "/v1/audit/drops", Needs::Session, || post(drops::ask)),
    Route::new("GET", "/v1/audit/drops/{id}", Needs::Session, || get(drops::show)),
    Route::new("POST", "/v1/audit/drops/{id}/approval", Needs::Session, || post(drops::approve)),
    Route::new("GET", "/v1/audit/calls", Needs::Session, || get(calls::list)),
    Route::new("GET", "/v1/locks", Needs::Session, || get(locks::list)),
    Route::new("POST", "/v1/locks", Needs::Session, || post(locks::set)),
    Route::new("POST", "/v1/locks/{id}/unlock", Needs::Session, || post(locks::unlock)),
    Route::new("POST", "/v1/kits/reports", Needs::Session, || post(kits::report)),
    Route::new("GET", "/v1/people", Needs::Session, || get(locks::people)),
    Route::new("GET", "/v1/break-glass", Needs::Session, || get(break_glass::list)),
    Route::new("POST", "/v1/break-glass", Needs::Session, || post(break_glass::ask)),
    Route::new("GET", "/v1/break-glass/{id}", Needs::Session, || get(break_glass::show)),
    Route::new("POST", "/v1/break-glass/{id}/approve", Needs::Session, || post(break_glass::approve)),
    Route::new("POST", "/v1/break-glass/{id}/deny", Needs::Session, || post(break_glass::deny)),
    Route::new("POST", "/v1/break-glass/{id}/cancel", Needs::Session, || post(break_glass::cancel)),
    Route::new("POST", "/v1/break-glass/{id}/revoke", Needs::Session, || post(break_glass::revoke)),
    Route::new("POST", "/v1/break-glass/{id}/review", Needs::Session, || post(break_glass::review)),
    Route::new("POST", "/v1/break-glass/{id}/certificates", Needs::Session, || post(elevated::create)),
    Route::new("GET", "/v1/break-glass/{id}/report", Needs::Session, || get(elevated::report)),
];

/// The API's router.
pub fn routes(api: Api) -> Router {
    router(ROUTES).route_layer(axum::middleware::from_fn_with_state(api.clone(), add_nonce)).with_state(api)
}
