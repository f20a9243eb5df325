//! `GET /v1/audit/entries`: what is recorded.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use ichor_wire::api::{AuditAnswer, AuditQuery};
use ichor_wire::log::{Content, Kind};
use ichor_wire::problem::{Code, Problem};

use super::Api;
use crate::audit::{self, QueryError};
use crate::domain::{Cluster, ClusterName, visible};
use crate::http::error::ApiError;
use crate::http::extract::{Fresh, StrictQuery};
use crate::identity::Identity;
use crate::mint::person;
use crate::policy::{self, AuditScope, PolicySet, Refusal};
use crate::store::EntryFilter;

/// So many characters of what was asked for stand in the entry of a refusal: whoever may read nothing can write them.
const ASKED: usize = 200;

/// Audit entries, newest first. Everyone may read their own; policy (`audit:read`) says who may read others'. Reading
/// others' entries is itself recorded, and so is a refusal.
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

    /// The filter, once policy lets this person read what it finds, which is recorded then, as a refusal is. One's own needs neither.
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
            let cluster = self.filter.cluster.as_deref();
            permit(api, identity, address, cluster, &self.said).await?;
            record(api, identity, address, cluster, self.said).await?;
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
    let cluster = declared(api, cluster)?;
    Ok(decided(api, &policies, identity, cluster.as_deref())?)
}

/// The same for who asks for `what`, in words. A refusal is answered once it is recorded: each is one of the requests that a person has
/// a minute, so that these write no more than refusals of certificates can.
pub(super) async fn permit(
    api: &Api,
    identity: &Identity,
    address: IpAddr,
    cluster: Option<&str>,
    what: &str,
) -> Result<(), ApiError> {
    let policies = api.policies.borrow().clone();
    let cluster = declared(api, cluster)?;
    let Err(refusal) = decided(api, &policies, identity, cluster.as_deref()) else { return Ok(()) };
    // a name that anyone may make up stands in the words alone
    let cluster = cluster.map(|cluster| cluster.name.as_str().to_owned());
    let asked = Content { cluster, ..by(Kind::Refusal, identity, address) };
    Err(refused(api, asked, what, refusal, &policies).await)
}

/// The answer to who may not read what they asked for, once an entry says so. They can read that entry themselves, so it has nothing that
/// the answer is not to tell.
pub(super) async fn refused(api: &Api, asked: Content, what: &str, refusal: Refusal, policies: &PolicySet) -> ApiError {
    let content = Content {
        code: Some(refusal.code.as_str().into()),
        message: Some(format!("{}; asked for: {}", refusal.sentence, visible(what, ASKED))),
        policies: Some(refusal.policies.clone()),
        policy_digest: Some(policies.digest().to_vec()),
        ..asked
    };
    match api.sequencer.note(content, None).await {
        Ok(_) => refusal.into(),
        Err(error) => error.into(),
    }
}

/// Returns once it is recorded that this person read that part of the audit.
pub(super) async fn record(
    api: &Api,
    identity: &Identity,
    address: IpAddr,
    cluster: Option<&str>,
    what: String,
) -> Result<(), ApiError> {
    let content =
        Content { cluster: cluster.map(Into::into), message: Some(what), ..by(Kind::AuditRead, identity, address) };
    api.sequencer.note(content, None).await?;
    Ok(())
}

/// What an entry of this kind says of who asks.
pub(super) fn by(kind: Kind, identity: &Identity, address: IpAddr) -> Content {
    Content {
        person: Some(person(identity)),
        session: identity.session().map(|id| id.0.as_bytes().to_vec()),
        address: Some(address.to_string()),
        ..Content::of(kind)
    }
}

/// The cluster of this name, where it is declared.
fn declared(api: &Api, name: Option<&str>) -> Result<Option<Arc<Cluster>>, ApiError> {
    match name.map(ClusterName::new) {
        None => Ok(None),
        Some(Ok(name)) => Ok(api.clusters.borrow().get(&name).cloned()),
        Some(Err(error)) => Err(ApiError::new(Code::UnknownCluster, error.to_string())),
    }
}

fn decided(api: &Api, policies: &PolicySet, identity: &Identity, cluster: Option<&Cluster>) -> Result<(), Refusal> {
    let scope = cluster.map_or(AuditScope::Everything, AuditScope::Cluster);
    policy::may_read_audit(policies, identity, scope, api.clock.now())
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
