//! Files of test cases, as TOML has them, and what they mean.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::SignedDuration;
use serde::Deserialize;
use toml::Spanned;

use crate::domain::{Cluster, ClusterName, Group, LockKind, Person, ProviderAlias, Role};

use super::explain::{Asks, Who};
use super::locking::LockAct;
use super::rule::shown;

/// The issuer of people whose case file names none.
const ISSUER: &str = "https://idp.example.com";

/// A file of cases, as TOML has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    pub(super) people: BTreeMap<String, Spanned<PersonEntry>>,
    #[serde(default)]
    pub(super) clusters: BTreeMap<String, Spanned<ClusterEntry>>,
    #[serde(default, rename = "case")]
    pub(super) cases: Vec<Spanned<Case>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PersonEntry {
    /// As policies write them: `alias/name`.
    #[serde(default)]
    pub(super) groups: Vec<String>,
    pub(super) provider: Option<String>,
    pub(super) issuer: Option<String>,
    /// The name under `people` where absent.
    pub(super) subject: Option<String>,
    pub(super) acr: Option<String>,
    pub(super) auth_age: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClusterEntry {
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) who: String,
    pub(super) cluster: String,
    #[serde(default)]
    pub(super) asks: AsksEntry,
    pub(super) expects: Expects,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AsksEntry {
    #[serde(default)]
    pub(super) roles: Vec<String>,
    pub(super) ttl: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) address: Option<IpAddr>,
    /// How many others approved.
    #[serde(default)]
    pub(super) approvals: u64,
    /// Whether nobody approves and someone outside was told.
    #[serde(default)]
    pub(super) self_service: bool,
    /// Asks for no certificate but to lock this: `user`, `session`, `grant`, `cluster` or `everything`.
    pub(super) locks: Option<String>,
    /// The same, to lift such a lock.
    pub(super) unlocks: Option<String>,
}

/// Either what is granted or permitted, or what is refused; the rest narrows it down.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expects {
    /// That a lock may be set or lifted.
    #[serde(default)]
    pub(super) permits: bool,
    /// The longest life that could be asked for.
    pub(super) grants: Option<String>,
    /// The deciding policies.
    pub(super) by: Option<Vec<String>>,
    /// A part of the refusal's sentence; empty fits any.
    pub(super) refuses: Option<String>,
    /// A part of its help.
    pub(super) help: Option<String>,
}

// === impl Case ===

impl Case {
    /// What is asked, in words.
    pub(super) fn said(&self) -> String {
        for (does, what) in [("lock", &self.asks.locks), ("unlock", &self.asks.unlocks)] {
            if let Some(what) = what {
                let article = if what == LockKind::Everything.as_str() { "" } else { "a " };
                return format!("{} wants to {does} {article}{} (cluster {})", self.who, shown(what), self.cluster);
            }
        }
        let roles = if self.asks.roles.is_empty() { "os:reader".into() } else { self.asks.roles.join(", ") };
        let reason = if self.asks.reason.is_some() { " with a reason" } else { "" };
        let ttl = self.asks.ttl.as_ref().map(|ttl| format!(" for {ttl}")).unwrap_or_default();
        let approved = match self.asks.approvals {
            _ if self.asks.self_service => " as self-service".into(),
            0 => String::new(),
            number => format!(", approved by {number} others"),
        };
        format!("{} asks for {roles} on {}{ttl}{reason}{approved}", self.who, self.cluster)
    }
}

/// The person.
pub(super) fn who(name: &str, entry: &PersonEntry) -> Result<Who, String> {
    let mut groups = BTreeSet::new();
    for text in &entry.groups {
        let (alias, group) =
            text.split_once('/').ok_or_else(|| format!("write the group `{}` as `alias/name`", shown(text)))?;
        let provider = ProviderAlias::new(alias).map_err(|error| error.to_string())?;
        groups.insert(Group { provider, name: group.into() });
    }
    let provider = match (&entry.provider, groups.first()) {
        (Some(alias), _) => ProviderAlias::new(alias).map_err(|error| error.to_string())?,
        (None, Some(group)) => group.provider.clone(),
        (None, None) => ProviderAlias::new("corp").map_err(|error| error.to_string())?,
    };
    if let Some(group) = groups.iter().find(|group| group.provider != provider) {
        return Err(format!(
            "`{}` is at `{provider}` and so cannot be in a group of `{}`",
            shown(name),
            group.provider
        ));
    }
    let issuer = entry.issuer.clone().unwrap_or_else(|| ISSUER.into());
    let subject = entry.subject.clone().unwrap_or_else(|| name.into());
    let auth_age = entry.auth_age.as_deref().map(duration).transpose()?;
    Ok(Who { person: Person { provider, issuer, subject }, groups, acr: entry.acr.clone(), auth_age })
}

/// The cluster.
pub(super) fn cluster(name: &str, entry: &ClusterEntry) -> Result<Cluster, String> {
    Ok(Cluster {
        name: ClusterName::new(name).map_err(|error| error.to_string())?,
        labels: entry.labels.clone(),
        endpoints: Vec::new(),
        nodes: Vec::new(),
        ca: String::new(),
    })
}

/// What they want locked or unlocked; nothing where they ask for a certificate.
pub(super) fn locking(entry: &AsksEntry) -> Result<Option<(LockAct, LockKind)>, String> {
    let (act, what) = match (&entry.locks, &entry.unlocks) {
        (None, None) => return Ok(None),
        (Some(what), None) => (LockAct::Lock, what),
        (None, Some(what)) => (LockAct::Unlock, what),
        (Some(_), Some(_)) => return Err("a case asks either `locks` or `unlocks`".into()),
    };
    let kind = LockKind::ALL.into_iter().find(|kind| kind.as_str() == what);
    let known = || LockKind::ALL.map(LockKind::as_str).join(", ");
    kind.map(|kind| Some((act, kind)))
        .ok_or_else(|| format!("`{}` is not locked; locks are on {}", shown(what), known()))
}

/// What they ask for.
pub(super) fn asks(entry: &AsksEntry) -> Result<Asks, String> {
    let role = |text: &String| text.parse::<Role>().map_err(|error| error.to_string());
    if entry.self_service && entry.approvals > 0 {
        return Err("nobody approves self-service; leave out `approvals`".into());
    }
    Ok(Asks {
        roles: entry.roles.iter().map(role).collect::<Result<_, _>>()?,
        ttl: entry.ttl.as_deref().map(duration).transpose()?,
        reason: entry.reason.clone(),
        address: entry.address,
        approvals: entry.approvals,
        self_service: entry.self_service,
    })
}

/// A duration, as `8h`.
pub(super) fn duration(text: &str) -> Result<SignedDuration, String> {
    text.parse().map_err(|_| format!("`{}` is not a duration; write it as `8h`, `15m` or `1h30m`", shown(text)))
}
