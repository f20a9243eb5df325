//! `GET /v1/audit/entries`: what is recorded.

use std::net::IpAddr;

use axum::Json;
use axum::extract::State;
use ichor_wire::api::{AuditAnswer, AuditQuery};
use ichor_wire::log::{Content, Kind};
use ichor_wire::problem::{Code, Problem};

use super::Api;
use crate::audit::{self, QueryError};
use crate::domain::ClusterName;
use crate::http::error::ApiError;
use crate::http::extract::{Fresh, StrictQuery};
use crate::identity::Identity;
use crate::mint::person;
use crate::policy::{self, AuditScope};
use crate::store::EntryFilter;

/// Audit entries, newest first. Everyone may read their own; policy (`audit:read`) says who may read others'. Reading
/// others' entries is itself recorded.
#[utoipa::path(get, path = "/v1/audit/entries", tag = "audit", params(AuditQuery), responses(
    (status = 200, description = "a page of entries", body = AuditAnswer),
    (status = 400, description = "a filter or the cursor cannot be read", body = Problem),
    (status = 401, description = "no valid session or proof", body = Problem),
    (status = 403, description = "policy refuses", body = Problem),
))]
pub async fn list(
    State(api): State<Api>,
    StrictQuery(query): StrictQuery<AuditQuery>,
    caller: Fresh,
) -> Result<Json<AuditAnswer>, ApiError> {
    // all that can be wrong with the question, before an entry says that it was answered
    let limit = query.limit.unwrap_or(100);
    if !(1..=500).contains(&limit) {
        return Err(ApiError::new(Code::BadRequest, "`limit` is between 1 and 500"));
    }
    if query.cursor.as_deref().is_some_and(|cursor| audit::check_cursor(cursor).is_err()) {
        return Err(ApiError::new(Code::BadRequest, "the cursor is not one of ours"));
    }
    let asked = Asked::of(&query)?;
    let filter = asked.admit(&api, &caller.identity, caller.address).await?;
    match audit::entries(&*api.store, &filter, query.cursor.as_deref(), limit).await {
        Ok(answer) => Ok(Json(answer)),
        Err(QueryError::Cursor) => Err(ApiError::new(Code::BadRequest, "the cursor is not one of ours")),
        Err(QueryError::Store(error)) => Err(error.into()),
    }
}

/// Which entries are asked for.
#[derive(Debug)]
pub(super) struct Asked {
    filter: EntryFilter,
    /// In words, for the record.
    said: String,
}

impl Asked {
    /// What the query's filters mean.
    pub(super) fn of(query: &AuditQuery) -> Result<Self, ApiError> {
        let filter = EntryFilter {
            person: query.person.clone(),
            own: None,
            cluster: query.cluster.clone(),
            kind: query.kind.as_deref().map(kind).transpose()?,
            grant: query.grant.map(crate::domain::GrantId),
            since: query.since,
            until: query.until,
        };
        Ok(Self { filter, said: describe(query) })
    }

    /// The filter, once policy lets this person read what it finds, which is recorded then. One's own needs neither.
    pub(super) async fn admit(
        mut self,
        api: &Api,
        identity: &Identity,
        address: IpAddr,
    ) -> Result<EntryFilter, ApiError> {
        if self.filter.person.as_deref().is_some_and(|who| is_own(who, identity)) {
            self.filter.person = None;
            self.filter.own = Some(identity.person().clone());
        } else {
            may_read(api, identity, self.filter.cluster.as_deref())?;
            record(api, identity, address, self.filter.cluster.as_deref(), self.said).await?;
        }
        Ok(self.filter)
    }
}

/// Whether someone asks for themselves.
pub(super) fn is_own(who: &str, identity: &Identity) -> bool {
    who == "me" || who == identity.user()
}

/// Returns if policy lets this person read the audit of the cluster, or of everything. What is about a cluster that is no longer
/// declared is part of everything.
pub(super) fn may_read(api: &Api, identity: &Identity, cluster: Option<&str>) -> Result<(), ApiError> {
    let policies = api.policies.borrow().clone();
    let cluster = match cluster.map(ClusterName::new) {
        None => None,
        Some(Ok(name)) => api.clusters.borrow().get(&name).cloned(),
        Some(Err(error)) => return Err(ApiError::new(Code::UnknownCluster, error.to_string())),
    };
    let scope = cluster.as_deref().map_or(AuditScope::Everything, AuditScope::Cluster);
    Ok(policy::may_read_audit(&policies, identity, scope, api.clock.now())?)
}

/// Returns once it is recorded that this person read that part of the audit.
pub(super) async fn record(
    api: &Api,
    identity: &Identity,
    address: IpAddr,
    cluster: Option<&str>,
    what: String,
) -> Result<(), ApiError> {
    let content = Content {
        person: Some(person(identity)),
        session: identity.session().map(|id| id.0.as_bytes().to_vec()),
        cluster: cluster.map(Into::into),
        address: Some(address.to_string()),
        message: Some(what),
        ..Content::of(Kind::AuditRead)
    };
    api.sequencer.note(content, None).await?;
    Ok(())
}

fn kind(text: &str) -> Result<Kind, ApiError> {
    text.parse().map_err(|_| {
        let known: Vec<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        ApiError::new(
            Code::BadRequest,
            format!("unknown kind `{}`; kinds are {}", text.escape_debug(), known.join(", ")),
        )
    })
}

fn describe(query: &AuditQuery) -> String {
    let parts = [
        query.person.as_ref().map(|person| format!("person {person}")),
        query.cluster.as_ref().map(|cluster| format!("cluster {cluster}")),
        query.kind.as_ref().map(|kind| format!("kind {kind}")),
        query.grant.map(|grant| format!("grant {grant}")),
        query.since.map(|since| format!("since {since}")),
        query.until.map(|until| format!("until {until}")),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "everything".into() } else { parts.join(", ").chars().take(500).collect() }
}
