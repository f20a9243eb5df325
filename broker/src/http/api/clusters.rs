//! `GET /v1/clusters`: what may I hold, and why not.

use std::net::IpAddr;

use axum::Json;
use axum::extract::{Path, State};
use ichor_wire::api::{ClusterAnswer, ClustersAnswer, RoleAnswer};
use ichor_wire::problem::{Code, Problem};

use super::Api;
use crate::domain::{Cluster, ClusterName, LockTarget};
use crate::http::error::ApiError;
use crate::http::extract::Fresh;
use crate::identity::Identity;
use crate::policy;

/// Every cluster, and for each role whether the caller may hold it now.
#[utoipa::path(get, path = "/v1/clusters", tag = "clusters", responses(
    (status = 200, description = "the clusters by name", body = ClustersAnswer),
    (status = 401, description = "no valid session or proof", body = Problem),
    (status = 503, description = "the provider or the store is out of reach", body = Problem),
))]
pub async fn list(State(api): State<Api>, caller: Fresh) -> Result<Json<ClustersAnswer>, ApiError> {
    let locked = locked(&api).await?;
    let clusters = api.clusters.borrow().clone();
    let answer = |cluster| answer(&api, &locked, &caller.identity, caller.address, cluster);
    Ok(Json(ClustersAnswer { clusters: clusters.values().map(|cluster| answer(cluster)).collect() }))
}

/// One cluster, likewise.
#[utoipa::path(get, path = "/v1/clusters/{cluster}", tag = "clusters", params(("cluster" = String, Path, description = "its name")), responses(
    (status = 200, description = "the cluster", body = ClusterAnswer),
    (status = 401, description = "no valid session or proof", body = Problem),
    (status = 404, description = "no such cluster", body = Problem),
))]
pub async fn show(
    State(api): State<Api>,
    Path(name): Path<String>,
    caller: Fresh,
) -> Result<Json<ClusterAnswer>, ApiError> {
    let (cluster, locked) = (find(&api, &name)?, locked(&api).await?);
    Ok(Json(answer(&api, &locked, &caller.identity, caller.address, &cluster)))
}

/// The cluster of that name.
pub(super) fn find(api: &Api, name: &str) -> Result<std::sync::Arc<Cluster>, ApiError> {
    let unknown = || ApiError::new(Code::UnknownCluster, format!("there is no cluster `{}`", name.escape_debug()));
    let name = ClusterName::new(name).map_err(|_| unknown())?;
    api.clusters.borrow().get(&name).cloned().ok_or_else(unknown)
}

/// The locks on clusters and on everything that hold now.
async fn locked(api: &Api) -> Result<Vec<LockTarget>, ApiError> {
    let (locks, now) = (api.book.list(false).await?, api.clock.now());
    Ok(locks.into_iter().filter(|lock| lock.holds(now)).map(|lock| lock.target).collect())
}

fn answer(api: &Api, locked: &[LockTarget], identity: &Identity, address: IpAddr, cluster: &Cluster) -> ClusterAnswer {
    let policies = api.policies.borrow().clone();
    let is_locked = locked.iter().any(|target| match target {
        LockTarget::Everything => true,
        LockTarget::Cluster(name) => *name == cluster.name,
        _ => false,
    });
    let stops = match (is_locked, api.issuers.borrow().contains_key(&cluster.name)) {
        (true, _) => Some((LOCKED, Code::Locked)),
        (false, false) => Some((NO_CA, Code::CustodyUnavailable)),
        (false, true) => None,
    };
    let mut roles = policy::listing(&policies, identity, cluster, Some(address), api.clock.now());
    if let Some((why, code)) = stops {
        roles.iter_mut().for_each(|role| stopped(role, why, code));
    }
    ClusterAnswer {
        name: cluster.name.as_str().into(),
        labels: cluster.labels.clone(),
        endpoints: cluster.endpoints.clone(),
        nodes: cluster.nodes.clone(),
        unavailable: stops.map(|(why, _)| why.into()),
        roles,
    }
}

/// Why nothing can be issued for a cluster.
const NO_CA: &str = "its CA cannot be used now";
/// Why nothing is issued for a cluster.
const LOCKED: &str = "a lock stops it";

/// Policy's yes is none where nobody can sign, or a lock stops it: what is asked for now is refused. A no of policy stays what it is.
fn stopped(role: &mut RoleAnswer, why: &str, code: Code) {
    role.by_request = false;
    if role.allowed {
        role.allowed = false;
        role.max_ttl = None;
        role.why = Some(why.into());
        role.help = vec![code.next_step().into()];
    }
}

#[cfg(test)]
mod tests {
    use ichor_wire::role::Role;

    use super::*;

    #[test]
    fn without_a_ca_nothing_reads_as_yes() {
        let row = |allowed: bool, why: Option<&str>| RoleAnswer {
            role: Role::Reader,
            allowed,
            by_request: false,
            max_ttl: allowed.then_some(3600),
            why: why.map(Into::into),
            help: Vec::new(),
            policies: vec!["read".into()],
        };
        let (mut yes, mut no) = (row(true, None), row(false, Some("no policy permits it")));
        no.by_request = true;
        stopped(&mut yes, NO_CA, Code::CustodyUnavailable);
        stopped(&mut no, NO_CA, Code::CustodyUnavailable);
        assert_eq!((yes.allowed, yes.max_ttl, yes.why.as_deref()), (false, None, Some(NO_CA)));
        assert_eq!(yes.help, ["tell the broker's operator"]);
        assert_eq!(no, row(false, Some("no policy permits it")));
    }
}
