//! `GET /v1/clusters`: what may I hold, and why not.

use std::net::IpAddr;

use axum::Json;
use axum::extract::{Path, State};
use ichor_wire::api::{ClusterAnswer, ClustersAnswer, RoleAnswer};
use ichor_wire::problem::{Code, Problem};

use super::Api;
use crate::domain::{Cluster, ClusterName};
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
pub async fn list(State(api): State<Api>, caller: Fresh) -> Json<ClustersAnswer> {
    let clusters = api.clusters.borrow().clone();
    let answer = |cluster| answer(&api, &caller.identity, caller.address, cluster);
    Json(ClustersAnswer { clusters: clusters.values().map(|cluster| answer(cluster)).collect() })
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
    let cluster = find(&api, &name)?;
    Ok(Json(answer(&api, &caller.identity, caller.address, &cluster)))
}

/// The cluster of that name.
pub(super) fn find(api: &Api, name: &str) -> Result<std::sync::Arc<Cluster>, ApiError> {
    let unknown = || ApiError::new(Code::UnknownCluster, format!("there is no cluster `{}`", name.escape_debug()));
    let name = ClusterName::new(name).map_err(|_| unknown())?;
    api.clusters.borrow().get(&name).cloned().ok_or_else(unknown)
}

fn answer(api: &Api, identity: &Identity, address: IpAddr, cluster: &Cluster) -> ClusterAnswer {
    let policies = api.policies.borrow().clone();
    let in_custody = api.issuers.borrow().contains_key(&cluster.name);
    let mut roles = policy::listing(&policies, identity, cluster, Some(address), api.clock.now());
    if !in_custody {
        roles.iter_mut().for_each(without_ca);
    }
    ClusterAnswer {
        name: cluster.name.as_str().into(),
        labels: cluster.labels.clone(),
        endpoints: cluster.endpoints.clone(),
        nodes: cluster.nodes.clone(),
        unavailable: (!in_custody).then(|| NO_CA.into()),
        roles,
    }
}

/// Why nothing can be issued for a cluster.
const NO_CA: &str = "its CA is not in custody";

/// Policy's yes is none where nobody can sign: what is asked for now is refused. A no of policy stays what it is.
fn without_ca(role: &mut RoleAnswer) {
    role.by_request = false;
    if role.allowed {
        role.allowed = false;
        role.max_ttl = None;
        role.why = Some(NO_CA.into());
        role.help = vec![Code::CustodyUnavailable.next_step().into()];
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
        without_ca(&mut yes);
        without_ca(&mut no);
        assert_eq!((yes.allowed, yes.max_ttl, yes.why.as_deref()), (false, None, Some(NO_CA)));
        assert_eq!(yes.help, ["tell the broker's operator"]);
        assert_eq!(no, row(false, Some("no policy permits it")));
    }
}
