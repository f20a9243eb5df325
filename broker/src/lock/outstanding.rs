//! What a lock does not end: certificates that were issued before.

use std::collections::{BTreeMap, BTreeSet};

use ichor_wire::log::{Content, Kind};
use jiff::Timestamp;

use crate::audit::as_recorded;
use crate::domain::{GrantId, LockTarget};
use crate::policy::HARD_MAX_TTL;
use crate::store::{EntryFilter, Store, StoreError};

/// So many entries are read at a time, and so many in all.
const PAGE: u32 = 500;
const LOOKED_AT: usize = 50_000;

/// Certificates that are good still.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outstanding {
    /// How many.
    pub certificates: u64,
    /// Whether there may be more than were looked at.
    pub more: bool,
    /// When the last of them expires.
    pub until: Option<Timestamp>,
    /// The clusters that they are good for.
    pub clusters: BTreeSet<String>,
    /// By cluster the `crt` of the entry in `machine.acceptedCAs` by which nodes accept the dedicated CA that issues now, where that is
    /// known here.
    pub accepted: BTreeMap<String, String>,
}

/// The certificates that the log says were issued for what the lock is on, and that are good at `now`. None lasts longer than
/// [`HARD_MAX_TTL`], so no older entry is looked at.
///
/// # Errors
/// When the store cannot be read.
pub async fn outstanding(store: &dyn Store, target: &LockTarget, now: Timestamp) -> Result<Outstanding, StoreError> {
    let (cluster, grant) = match target {
        LockTarget::Cluster(name) => (Some(name.as_str().to_owned()), None),
        LockTarget::Grant { grant, .. } => (None, Some(*grant)),
        LockTarget::User { .. } | LockTarget::Session(_) | LockTarget::Everything => (None, None),
    };
    let since = now.checked_sub(HARD_MAX_TTL).ok();
    let filter = EntryFilter { kind: Some(Kind::Issued), cluster, grant, since, ..EntryFilter::default() };
    let (mut found, mut before, mut looked_at) = (Outstanding::default(), None, 0);
    loop {
        let page = store.entries(&filter, before, PAGE).await?;
        for stored in &page {
            // a body as young as that is not dropped: what this one says is not known
            let Ok(Some(entry)) = as_recorded(stored, filter.kind) else {
                found.more = true;
                continue;
            };
            let content = entry.content;
            if !is_on(target, &content) {
                continue;
            }
            let end = content.not_after.and_then(|end| Timestamp::from_second(end).ok());
            let Some(end) = end.filter(|end| now < *end) else { continue };
            found.certificates = found.certificates.saturating_add(1);
            found.until = found.until.max(Some(end));
            found.clusters.extend(content.cluster);
        }
        looked_at += page.len();
        before = page.last().map(|last| last.index);
        if page.len() < PAGE as usize {
            return Ok(found);
        }
        if looked_at >= LOOKED_AT {
            found.more = true;
            return Ok(found);
        }
    }
}

/// Whether the certificate is of what the lock is on.
fn is_on(target: &LockTarget, content: &Content) -> bool {
    match target {
        LockTarget::User { issuer, subject } => {
            content.person.as_ref().is_some_and(|person| person.issuer == *issuer && person.subject == *subject)
        }
        LockTarget::Session(session) => content.session.as_deref() == Some(session.0.as_bytes().as_slice()),
        LockTarget::Grant { grant: GrantId(grant), .. } => {
            content.grant.as_deref() == Some(grant.as_bytes().as_slice())
        }
        LockTarget::Cluster(name) => content.cluster.as_deref() == Some(name.as_str()),
        LockTarget::Everything => true,
    }
}

/// What the lock leaves as it is and what ends that, a line each, as whoever sets it is told.
#[must_use]
pub fn beyond(target: &LockTarget, outstanding: &Outstanding) -> Vec<String> {
    let mut lines = vec![match (outstanding.certificates, outstanding.until) {
        (0, _) | (_, None) if outstanding.more => format!(
            "not all that was issued could be looked at: certificates issued before may be good still, for as long as a certificate \
             lasts, {} hours at most: Talos has no revocation",
            HARD_MAX_TTL.as_hours()
        ),
        (0, _) | (_, None) => "no certificate is outstanding that the log knows of".to_owned(),
        (1, Some(until)) if !outstanding.more => {
            format!("1 certificate issued before stays good until it expires, at {until:.0}: Talos has no revocation")
        }
        (number, Some(until)) => {
            let more = if outstanding.more { " or more" } else { "" };
            format!(
                "{number}{more} certificates issued before stay good until they expire, the last at {until:.0}: Talos has no revocation"
            )
        }
    }];
    if outstanding.certificates > 0 || outstanding.more {
        lines.push("an open connection, and new calls on it, go on even after that".into());
        for cluster in &outstanding.clusters {
            lines.push(format!(
                "to end those of `{cluster}` at once, take its dedicated CA out of every node; for each node: \
                 talosctl -n NODE get machineconfig v1alpha1 -o jsonpath='{{.spec}}' > node.yaml && ichor-broker ca removal-patch {cluster} --machine-config node.yaml"
            ));
            if let Some(crt) = outstanding.accepted.get(cluster) {
                lines.push(format!(
                    "what goes out of a node of `{cluster}` is this entry of machine.acceptedCAs, and all others stay: - crt: {crt}"
                ));
            }
        }
        if outstanding.more {
            lines.push(
                "certificates of other clusters may be among those that were not looked at; for each: `ichor-broker ca removal-patch CLUSTER`"
                    .into(),
            );
        }
        lines.push(
            "whoever held os:admin may hold the cluster: then, and where the CA is the cluster's own, only `talosctl rotate-ca` ends it"
                .into(),
        );
    }
    if matches!(target, LockTarget::Everything) {
        lines.push(
            "nobody lifts it alone: one person asks with `ichor unlock everything`, and within the hour another, with an account of the \
             same provider, agrees with `ichor unlock everything --confirm`; policies must let both (`unlock`)"
                .into(),
        );
    }
    if !matches!(target, LockTarget::User { .. } | LockTarget::Session(_)) {
        lines.push(
            "sessions stay, and get nothing of what is locked; `ichor lock user` or `ichor lock session` ends them"
                .into(),
        );
    }
    if matches!(target, LockTarget::Cluster(_) | LockTarget::Everything) {
        lines.push("a break-glass kit opens all the same: it needs nothing of the broker's".into());
    }
    lines
}
