//! What can be loaded anew while the broker runs: policies, clusters, CA keys, TLS certificates. Each is published as a whole
//! new value; a bad one is refused, the old one stays, and readiness says so until a good one comes.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum_server::tls_rustls::RustlsConfig;
use ichor_wire::log::{Content, Kind};
use ichor_wire::profile::CaCertificate;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::tls;
use crate::audit::Sequencer;
use crate::clock::SharedClock;
use crate::config::{self, Settings};
use crate::custody::Vault;
use crate::domain::{ClusterName, Clusters};
use crate::issuer::{Issuer, LocalCa};
use crate::mint::Issuers;
use crate::policy::{self, PolicySet};
use crate::readiness::{Check, Readiness};

use super::StartError;

/// A CA whose end is nearer than this is warned of.
const NEAR_END: SignedDuration = SignedDuration::from_hours(60 * 24);

/// The values in force and how to renew them.
pub struct Live {
    settings: Settings,
    vault: Vault,
    clock: SharedClock,
    policies: watch::Sender<Arc<PolicySet>>,
    clusters: watch::Sender<Clusters>,
    issuers: watch::Sender<Issuers>,
    tls: Option<RustlsConfig>,
    digests: BTreeMap<&'static str, BTreeMap<String, String>>,
}

/// Loads and validates the policies of a folder.
///
/// # Errors
/// When a file cannot be read or the set is refused.
pub fn check_policies(settings: &Settings) -> Result<PolicySet, StartError> {
    let limits = policy::Limits { default_ttl: settings.default_ttl, max_ttl: settings.max_ttl };
    Ok(PolicySet::load(&config::load_policies(&settings.policies)?, limits)?)
}

impl Live {
    /// Loads everything for the first time; here a bad value ends the start. A CA that cannot be opened does not: only its
    /// cluster is out, and readiness says so.
    ///
    /// # Errors
    /// When policies, clusters or the TLS certificate cannot be loaded.
    pub fn load(
        settings: &Settings,
        vault: Vault,
        clock: SharedClock,
        readiness: &Readiness,
    ) -> Result<Self, StartError> {
        let policies = check_policies(settings)?;
        let clusters = config::load_clusters(&settings.clusters)?;
        let tls = match &settings.tls {
            Some((chain, key)) => {
                Some(RustlsConfig::from_config(tls::server_config(chain, key).map_err(StartError::Tls)?))
            }
            None => None,
        };
        report_policies(readiness, &policies);
        let (issuers, checks) = open_issuers(settings, &vault, &clusters, clock.now());
        checks.into_iter().for_each(|check| readiness.report(check));
        let live = Self {
            policies: watch::Sender::new(Arc::new(policies)),
            clusters: watch::Sender::new(clusters),
            issuers: watch::Sender::new(issuers),
            tls,
            vault,
            clock,
            digests: digests(settings),
            settings: settings.clone(),
        };
        Ok(live)
    }

    /// The policies in force.
    #[must_use]
    pub fn policies(&self) -> watch::Receiver<Arc<PolicySet>> {
        self.policies.subscribe()
    }

    /// The clusters in force.
    #[must_use]
    pub fn clusters(&self) -> watch::Receiver<Clusters> {
        self.clusters.subscribe()
    }

    /// The issuers in force.
    #[must_use]
    pub fn issuers(&self) -> watch::Receiver<Issuers> {
        self.issuers.subscribe()
    }

    /// The TLS configuration in force, which `axum-server` reads at each handshake.
    #[must_use]
    pub fn tls(&self) -> Option<RustlsConfig> {
        self.tls.clone()
    }

    /// The digests of what is loaded, by `kind/file`.
    #[must_use]
    pub fn loaded(&self) -> BTreeMap<String, String> {
        let flat = |(kind, files): (&&str, &BTreeMap<String, String>)| {
            files.iter().map(|(name, digest)| (format!("{kind}/{name}"), digest.clone())).collect::<Vec<_>>()
        };
        self.digests.iter().flat_map(flat).collect()
    }

    /// Whether a file of policies, clusters, vault or TLS differs from what was last looked at.
    #[must_use]
    pub fn changed(&self) -> bool {
        digests(&self.settings) != self.digests
    }

    /// Loads everything anew. What is good replaces the old value once that is recorded; what is bad is recorded too, and the
    /// old value stays.
    pub async fn reload(&mut self, sequencer: &Sequencer, readiness: &Readiness) -> Vec<Check> {
        let now = digests(&self.settings);
        let mut checks = Vec::new();

        match check_policies(&self.settings) {
            Ok(set) => {
                let same = set.digest() == self.policies.borrow().digest();
                if same || note(sequencer, "policies loaded", now.get("policies")).await {
                    report_policies(readiness, &set);
                    self.policies.send_replace(Arc::new(set));
                    checks.push(good("policies"));
                }
            }
            Err(error) => checks.push(refused(sequencer, "policies", &error.to_string()).await),
        }

        match config::load_clusters(&self.settings.clusters) {
            Ok(clusters) => {
                let same = *clusters == **self.clusters.borrow();
                if same || note(sequencer, "clusters loaded", now.get("clusters")).await {
                    self.clusters.send_replace(clusters);
                    checks.push(good("clusters"));
                }
            }
            Err(error) => checks.push(refused(sequencer, "clusters", &error.to_string()).await),
        }

        if let (Some((chain, key)), Some(live)) = (&self.settings.tls, &self.tls) {
            match tls::server_config(chain, key) {
                Ok(config) => {
                    let same = now.get("tls") == self.digests.get("tls");
                    if same || note(sequencer, "TLS certificate loaded", now.get("tls")).await {
                        live.reload_from_config(config);
                        checks.push(good("tls"));
                    }
                }
                Err(error) => checks.push(refused(sequencer, "tls", &error).await),
            }
        }

        let clusters = self.clusters.borrow().clone();
        let (issuers, opened) = open_issuers(&self.settings, &self.vault, &clusters, self.clock.now());
        let same = now.get("vault") == self.digests.get("vault");
        if same || note(sequencer, "CA keys opened", now.get("vault")).await {
            self.issuers.send_replace(issuers);
            checks.extend(opened);
        }

        self.digests = now;
        for check in &checks {
            readiness.report(check.clone());
        }
        checks
    }
}

/// The issuers of all clusters whose CA is in custody, and a line for each cluster.
fn open_issuers(settings: &Settings, vault: &Vault, clusters: &Clusters, now: Timestamp) -> (Issuers, Vec<Check>) {
    let mut issuers: BTreeMap<ClusterName, Arc<dyn Issuer>> = BTreeMap::new();
    let mut checks = Vec::new();
    for name in clusters.keys() {
        let (ok, detail) = match vault.open_ca(name) {
            Ok(material) => {
                let warning = ca_warning(material.certificate(), now);
                let (certificate, signer) = material.into_parts();
                issuers.insert(name.clone(), Arc::new(LocalCa::new(Arc::new(signer), certificate, settings.backdate)));
                (true, warning)
            }
            Err(error) => (false, Some(error.to_string())),
        };
        checks.push(Check { name: format!("ca {name}"), ok, required: false, detail });
    }
    (Arc::new(issuers), checks)
}

/// What an operator should know of a CA: that its end is near, or past.
#[must_use]
pub fn ca_warning(certificate: &CaCertificate, now: Timestamp) -> Option<String> {
    let end = certificate.not_after();
    let left = end.duration_since(now);
    if left.is_negative() {
        return Some(format!(
            "it expired at {end}; nothing can be issued: make a new one with `ichor-broker ca create`"
        ));
    }
    (left < NEAR_END).then(|| format!("it expires at {end}; make a new one with `ichor-broker ca create` before that"))
}

fn report_policies(readiness: &Readiness, set: &PolicySet) {
    let warnings = set.warnings();
    let detail = (!warnings.is_empty()).then(|| warnings.join("; "));
    readiness.report(Check { name: "policies".into(), ok: true, required: true, detail });
}

fn good(name: &str) -> Check {
    Check { name: name.into(), ok: true, required: true, detail: None }
}

/// Records that a new value is about to take effect. Not recorded, it does not.
async fn note(sequencer: &Sequencer, what: &str, digests: Option<&BTreeMap<String, String>>) -> bool {
    let content = Content { message: Some(what.into()), digests: digests.cloned(), ..Content::of(Kind::Reload) };
    match sequencer.note(content, None).await {
        Ok(_) => {
            tracing::info!(what, "new value in force");
            true
        }
        Err(error) => {
            tracing::error!(what, %error, "a new value could not be recorded; the old one stays");
            false
        }
    }
}

/// Says everywhere that a new value was refused.
async fn refused(sequencer: &Sequencer, name: &str, why: &str) -> Check {
    tracing::error!(name, why, "a new value is refused; the old one stays");
    metrics::counter!("ichor_reload_refused_total", "what" => name.to_owned()).increment(1);
    let message = format!("{name} refused, the old value stays: {why}").chars().take(2_000).collect();
    let content = Content { message: Some(message), ..Content::of(Kind::Reload) };
    if let Err(error) = sequencer.note(content, None).await {
        tracing::error!(%error, "the refusal of a new value could not be recorded");
    }
    // the old value still serves: the broker is ready, and the check says what is wrong
    Check { name: name.into(), ok: false, required: false, detail: Some(format!("{why}; the old value stays")) }
}

/// SHA-256 digests of everything that can be loaded anew. What cannot be read counts as absent: loading says why.
fn digests(settings: &Settings) -> BTreeMap<&'static str, BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    all.insert("policies", config::digests(&settings.policies, "cedar").unwrap_or_default());
    all.insert("clusters", config::digests(&settings.clusters, "toml").unwrap_or_default());
    all.insert("vault", config::digests(&settings.vault.join("ca"), "age").unwrap_or_default());
    let chain = settings.tls.as_ref().and_then(|(chain, _)| std::fs::read(chain).ok());
    let chain = chain.map(|bytes| ("certificate".to_owned(), data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))));
    all.insert("tls", chain.into_iter().collect());
    all
}
