//! `GET /v1/audit/entries`: what is recorded.

use axum::Json;
use axum::extract::State;
use ichor_wire::api::{AuditAnswer, AuditQuery};
use ichor_wire::log::{Content, Kind};
use ichor_wire::problem::{Code, Problem};

use super::Api;
use super::clusters::find;
use crate::audit::{self, QueryError};
use crate::http::error::ApiError;
use crate::http::extract::{Fresh, StrictQuery};
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
    let mut filter = EntryFilter {
        person: query.person.clone(),
        own: None,
        cluster: query.cluster.clone(),
        kind: query.kind.as_deref().map(kind).transpose()?,
        grant: query.grant.map(crate::domain::GrantId),
        since: query.since,
        until: query.until,
    };
    let identity = &caller.identity;
    let own = query.person.as_deref().is_some_and(|who| who == "me" || who == identity.user());
    if own {
        filter.person = None;
        filter.own = Some(identity.person().clone());
    } else {
        let policies = api.policies.borrow().clone();
        let now = api.clock.now();
        let cluster = query.cluster.as_deref().map(|name| find(&api, name)).transpose()?;
        let scope = match &cluster {
            Some(cluster) => AuditScope::Cluster(cluster),
            None => AuditScope::Everything,
        };
        policy::may_read_audit(&policies, identity, scope, now)?;
        let content = Content {
            person: Some(person(identity)),
            session: identity.session().map(|id| id.0.as_bytes().to_vec()),
            cluster: query.cluster.clone(),
            address: Some(caller.address.to_string()),
            message: Some(describe(&query)),
            ..Content::of(Kind::AuditRead)
        };
        api.sequencer.note(content, None).await?;
    }
    match audit::entries(&*api.store, &filter, query.cursor.as_deref(), limit).await {
        Ok(answer) => Ok(Json(answer)),
        Err(QueryError::Cursor) => Err(ApiError::new(Code::BadRequest, "the cursor is not one of ours")),
        Err(QueryError::Store(error)) => Err(error.into()),
    }
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
