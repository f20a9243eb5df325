//! What the tests of this room share: people, clusters, requests.

use std::net::{IpAddr, Ipv4Addr};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::domain::{
    Cluster, ClusterName, GrantId, Group, HumanClaim, Person, ProviderAlias, Request, Role, SessionId,
};
use crate::identity::Identity;
pub(super) use crate::identity::fixture::who;
use crate::store::SessionRow;

use super::{Elevation, Grant, Limits, LoadError, PolicySet, Refusal, Source, decide};

pub(super) fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

pub(super) fn load(text: &str) -> Result<PolicySet, LoadError> {
    load_with(text, Limits::default())
}

pub(super) fn load_with(text: &str, limits: Limits) -> Result<PolicySet, LoadError> {
    PolicySet::load(&[Source { name: "test.cedar".into(), text: text.into() }], limits)
}

/// A session's row of `alice`, who logged in ten minutes ago with the context `pwd`.
pub(super) fn row(groups: &[&str]) -> SessionRow {
    let provider = ProviderAlias::new("corp").unwrap();
    let ago = |minutes| now() - SignedDuration::from_mins(minutes);
    SessionRow {
        id: SessionId(Uuid::from_u128(1)),
        token_hash: [0; 32],
        jkt: String::new(),
        person: Person {
            provider: provider.clone(),
            issuer: "https://idp.example.com".into(),
            subject: "alice".into(),
        },
        name: "Alice".into(),
        user: "alice@example.com".into(),
        groups: groups.iter().map(|name| Group { provider: provider.clone(), name: (*name).into() }).collect(),
        groups_at: ago(1),
        acr: Some("pwd".into()),
        auth_time: Some(ago(10)),
        refresh_sealed: None,
        version: 1,
        created_at: ago(10),
        expires_at: now() + SignedDuration::from_hours(12),
        used_at: now(),
        ended_at: None,
        tag: [0; 32],
        human: HumanClaim::NotAsked,
        page: None,
    }
}

pub(super) fn alice(groups: &[&str]) -> Identity {
    who(&row(groups))
}

pub(super) fn cluster(name: &str, labels: &[(&str, &str)]) -> Cluster {
    Cluster {
        name: ClusterName::new(name).unwrap(),
        labels: labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
        endpoints: Vec::new(),
        nodes: Vec::new(),
        ca: String::new(),
    }
}

pub(super) fn prod() -> Cluster {
    cluster("prod", &[("env", "prod"), ("region", "eu")])
}

pub(super) fn asks(roles: &[Role]) -> Request {
    Request {
        cluster: ClusterName::new("prod").unwrap(),
        roles: roles.to_vec(),
        ttl: None,
        reason: None,
        public_key: vec![1, 2, 3],
        csr: Vec::new(),
        address: IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)),
    }
}

/// Elevated access to `prod`, for as long as it lasts by default.
pub(super) fn elevated(roles: &[Role]) -> Elevation<'_> {
    Elevation {
        roles,
        ttl: None,
        reason: "INC-42",
        ticket: None,
        address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
        self_service: false,
    }
}

pub(super) fn decided(policies: &PolicySet, identity: &Identity, request: &Request) -> Result<Grant, Refusal> {
    decide(policies, identity, &prod(), request, None, GrantId(Uuid::from_u128(7)), now())
}

/// The life of the grant, or the refusal.
pub(super) fn life(policies: &PolicySet, identity: &Identity, request: &Request) -> Result<SignedDuration, Refusal> {
    decided(policies, identity, request).map(|grant| grant.not_after().duration_since(now()))
}
