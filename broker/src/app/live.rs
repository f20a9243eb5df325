//! What can be loaded anew while the broker runs: policies, clusters, CA keys, TLS certificates, notification sinks. Each is
//! published as a whole new value, once that is recorded. A bad one is refused, the old one stays, and readiness says so until a
//! good one comes. A CA that is no longer in custody ends: taking it out is how an operator does that; so does one whose key may
//! have left its server, whose engine's roles bound nothing any more, or that an entry of the log retired, at whichever broker.

mod groups;
mod meanwhile;
pub(super) mod on_change;
mod reload;
mod sinks;
mod uncompared;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum_server::tls_rustls::RustlsConfig;
use tokio::sync::watch;

use super::delegating::Delegating;
use super::digests::{Digests, Files};
use super::issuers::{self, Before, Marks};
use super::telling::Sinks;
use super::{LOOK, StartError, naming, tls};
use crate::audit::{self, Sequencer};
use crate::clock::SharedClock;
use crate::config::{self, Folder, Loaded, Settings};
use crate::custody::{Custody, KnownCas};
use crate::domain::{ClusterName, Clusters};
use crate::identity::LocalGroups;
use crate::mint::{Issuers, Press};
use crate::policy::{self, PolicySet};
use crate::readiness::{Check, Readiness};
use crate::store::Store;
use meanwhile::Meanwhile;
use reload::{Reload, STAYS};
use sinks::hearing;

/// The values in force and how to renew them.
pub struct Live {
    settings: Settings,
    folder: Folder,
    custody: Arc<Custody>,
    clock: SharedClock,
    sinks: watch::Sender<Sinks>,
    /// The names of those among them that are told of break-glass requests.
    hearing: watch::Sender<Vec<String>>,
    /// The files that the sinks are made of.
    sink_files: Vec<PathBuf>,
    /// The providers' files of groups, and, in the same order, where what they say is in force.
    group_files: Vec<PathBuf>,
    groups: Vec<LocalGroups>,
    policies: watch::Sender<Arc<PolicySet>>,
    clusters: watch::Sender<Clusters>,
    issuers: watch::Sender<Issuers>,
    tls: Option<RustlsConfig>,
    /// What tells the CAs in force, and those that were last, from others.
    marks: Marks,
    store: Arc<dyn Store>,
    known: KnownCas,
    delegating: Delegating,
    /// The files of what is in force.
    in_force: Digests,
    /// The files as they were when they were last tried.
    tried: Digests,
    /// The files as they were at the last look.
    seen: Digests,
    /// Whether something of the last try could not be recorded.
    is_unrecorded: bool,
    /// Whether a CA could not be opened because its server was out.
    is_waiting: bool,
    /// What was refused when custody was last looked at, so that one refusal is recorded once.
    refused: Vec<String>,
    /// What was recorded of the ends that are near, or past.
    ending: BTreeMap<ClusterName, String>,
    /// Looks since custody was last asked.
    looks: u32,
    /// How often looks are made.
    pace: Duration,
}

/// At every so many looks custody is asked although no file changed: with [`LOOK`] that is every half minute.
const CUSTODY_LOOKS: u32 = 15;

/// Where no server holds CAs, custody is asked after so many looks, which is once a day, whether a CA's end has come near.
const DAILY_LOOKS: u32 = 43_200;

/// Loads and validates the policies of a folder.
///
/// # Errors
/// When a file cannot be read or the set is refused.
pub fn check_policies(settings: &Settings) -> Result<PolicySet, StartError> {
    let limits = policy::Limits { default_ttl: settings.default_ttl, max_ttl: settings.max_ttl };
    Ok(PolicySet::load(&config::load_policies(&settings.policies)?, limits)?)
}

// === impl Live ===

impl Live {
    /// Loads everything for the first time; here a bad value ends the start. A CA that cannot be opened does not: only its
    /// cluster is out, and readiness says so.
    ///
    /// # Errors
    /// When policies, clusters or the TLS certificate cannot be loaded.
    pub async fn load(
        loaded: &Loaded,
        custody: Arc<Custody>,
        clock: SharedClock,
        readiness: &Readiness,
        press: Arc<Press>,
        (store, sequencer): (Arc<dyn Store>, &Sequencer),
    ) -> Result<Self, StartError> {
        let settings = &loaded.settings;
        let sinks: Sinks = Arc::new(config::sinks(&loaded.folder, &loaded.file)?);
        let sink_files = config::sink_files(&loaded.folder, &loaded.file);
        let files = Digests::of(settings, &sink_files, &[]);
        let policies = check_policies(settings)?;
        let clusters = config::load_clusters(&settings.clusters)?;
        let tls = match &settings.tls {
            Some((chain, key)) => {
                let clients = settings.audit.tile_clients.as_deref();
                let config = tls::server_config(chain, key, clients).map_err(StartError::Tls)?;
                Some(RustlsConfig::from_config(config))
            }
            None => None,
        };
        readiness.report(policies_check(&policies));
        let mut known = KnownCas::default();
        audit::learn_cas(&*store, &mut known).await?;
        let (issuers, marks, vault) = (Issuers::default(), Marks::new(), Files::new());
        let before = Before { known: &known, issuers: &issuers, marks: &marks, files: &vault };
        let policies = watch::Sender::new(Arc::new(policies));
        let delegating = Delegating { press, policies: policies.subscribe() };
        let opened =
            issuers::open(settings.backdate, &custody, &clusters, before, &files.vault, &clock, &delegating).await;
        naming::name(sequencer, &opened.unnamed).await?;
        opened.checks.into_iter().for_each(|check| readiness.report(check));
        Ok(Self {
            policies,
            delegating,
            store,
            known,
            clusters: watch::Sender::new(clusters),
            issuers: watch::Sender::new(opened.issuers),
            tls,
            custody,
            marks: opened.marks,
            clock,
            in_force: Digests { vault: opened.in_force, ..files.clone() },
            tried: files.clone(),
            seen: files,
            is_unrecorded: false,
            is_waiting: opened.is_waiting,
            refused: Vec::new(),
            ending: BTreeMap::new(),
            // at the first look what is near its end, or was refused, is recorded
            looks: DAILY_LOOKS,
            pace: LOOK,
            hearing: watch::Sender::new(hearing(&sinks)),
            sinks: watch::Sender::new(sinks),
            sink_files,
            group_files: Vec::new(),
            groups: Vec::new(),
            folder: loaded.folder.clone(),
            settings: settings.clone(),
        })
    }

    /// The same for looks that are made at this pace.
    #[must_use]
    pub fn paced(self, pace: Duration) -> Self {
        Self { pace, ..self }
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

    /// The notification sinks in force.
    #[must_use]
    pub fn sinks(&self) -> watch::Receiver<Sinks> {
        self.sinks.subscribe()
    }

    /// The names of the sinks in force that are told of break-glass requests.
    #[must_use]
    pub fn hearing(&self) -> watch::Receiver<Vec<String>> {
        self.hearing.subscribe()
    }

    /// The TLS configuration in force, which `axum-server` reads at each handshake.
    #[must_use]
    pub fn tls(&self) -> Option<RustlsConfig> {
        self.tls.clone()
    }

    /// The digests of what is loaded, by `kind/file`.
    #[must_use]
    pub fn loaded(&self) -> BTreeMap<String, String> {
        self.in_force.shown()
    }

    /// Looks at the files: whether they are to be loaded. So it is when they differ from those that were last tried and have
    /// stayed the same since the look before, as half-written ones do not; and when the last try could not be recorded.
    pub fn look(&mut self) -> bool {
        let now = Digests::of(&self.settings, &self.sink_files, &self.group_files);
        let is_settled = now == self.seen;
        self.seen = now;
        is_settled && (self.is_unrecorded || self.seen != self.tried)
    }

    /// Whether custody is to be asked although no file changed: a CA at a server may be another there, or was out. What is out
    /// is asked at every look, and so is a server that failed a call since, so that readiness names the clusters that need it;
    /// what serves is asked at every [`CUSTODY_LOOKS`]th.
    pub fn is_custody_due(&mut self) -> bool {
        self.looks += 1;
        let servers = self.custody.servers();
        let is_out = servers.values().any(|server| !server.state().borrow().ok);
        let looks = if servers.is_empty() { DAILY_LOOKS } else { CUSTODY_LOOKS };
        self.is_waiting || is_out || self.looks >= looks
    }

    /// Whether the log says more of CAs than it did at the last look, so that custody is to be asked: where several brokers work on
    /// one log, a command at another one may have retired a CA that issues here. Also where that cannot be told.
    pub async fn hears_of_cas(&mut self) -> bool {
        let before = self.known.next;
        audit::learn_cas(&*self.store, &mut self.known).await.is_err() || self.known.next != before
    }

    /// Asks custody alone, as [`Self::reload`] does for everything. While servers take their time, what `is_asked` tells of goes before, and so
    /// does a file that changed: then custody is asked at the next look again.
    pub async fn reload_custody(
        &mut self,
        sequencer: &Sequencer,
        readiness: &Readiness,
        is_asked: impl Fn() -> bool + Send,
    ) {
        let now = Digests { vault: self.in_force.vault.clone(), ..self.seen.clone() };
        let mut reload = Reload { sequencer, by: None, checks: Vec::new(), is_unrecorded: false };
        let (settings, sinks, groups) = (self.settings.clone(), self.sink_files.clone(), self.group_files.clone());
        let tried = self.tried.clone();
        let is_wanted = move || is_asked() || Digests::of(&settings, &sinks, &groups) != tried;
        self.reload_issuers(&mut reload, &now, is_wanted).await;
        self.is_unrecorded |= reload.is_unrecorded;
        reload.checks.into_iter().for_each(|check| readiness.report(check));
    }

    /// Loads everything anew. What is good replaces the old value once that is recorded; what is bad is recorded too, and the
    /// old value stays. What could not be recorded did not happen: a check says so, and the next look tries it again.
    pub async fn reload(&mut self, sequencer: &Sequencer, readiness: &Readiness, by: Option<&str>) -> Vec<Check> {
        let now = Digests::of(&self.settings, &self.sink_files, &self.group_files);
        let mut reload = Reload { sequencer, by, checks: Vec::new(), is_unrecorded: false };
        self.reload_policies(&mut reload, &now).await;
        self.reload_clusters(&mut reload, &now).await;
        self.reload_tls(&mut reload, &now).await;
        self.reload_groups(&mut reload, &now).await;
        let now = self.reload_sinks(&mut reload, now).await;
        let known: Vec<_> = self.issuers.borrow().keys().map(issuers::check_name).collect();
        self.custody.look_anew();
        self.reload_issuers(&mut reload, &now, || false).await;
        self.tried = now.clone();
        self.seen = now;
        self.is_unrecorded = reload.is_unrecorded;
        let clusters = self.clusters.borrow().clone();
        let is_gone = |name: &String| !clusters.keys().any(|cluster| issuers::check_name(cluster) == *name);
        known.iter().filter(|name| is_gone(name)).for_each(|name| readiness.forget(name));
        for check in &reload.checks {
            readiness.report(check.clone());
        }
        reload.checks
    }

    async fn reload_policies(&mut self, reload: &mut Reload<'_>, now: &Digests) {
        let set = match check_policies(&self.settings) {
            Ok(set) => set,
            Err(error) => return reload.refuse("policies", &error.to_string()).await,
        };
        let is_same = set.digest() == self.policies.borrow().digest() && now.policies == self.in_force.policies;
        if is_same || reload.note("policies", "policies loaded", &now.policies).await {
            reload.checks.push(policies_check(&set));
            // who reads the audit line by line is sent away by a change alone
            self.policies.send_if_modified(|held| {
                let is_other = held.digest() != set.digest();
                *held = Arc::new(set);
                is_other
            });
            self.in_force.policies.clone_from(&now.policies);
        }
    }

    async fn reload_clusters(&mut self, reload: &mut Reload<'_>, now: &Digests) {
        let clusters = match config::load_clusters(&self.settings.clusters) {
            Ok(clusters) => clusters,
            Err(error) => return reload.refuse("clusters", &error.to_string()).await,
        };
        let is_same = *clusters == **self.clusters.borrow() && now.clusters == self.in_force.clusters;
        if is_same || reload.note("clusters", "clusters loaded", &now.clusters).await {
            reload.checks.push(good("clusters"));
            self.clusters.send_replace(clusters);
            self.in_force.clusters.clone_from(&now.clusters);
        }
    }

    async fn reload_tls(&mut self, reload: &mut Reload<'_>, now: &Digests) {
        let (Some((chain, key)), Some(live)) = (&self.settings.tls, &self.tls) else { return };
        let clients = self.settings.audit.tile_clients.as_deref();
        let config = match tls::server_config(chain, key, clients) {
            Ok(config) => config,
            Err(error) => return reload.refuse("tls", &error).await,
        };
        let is_same = now.tls == self.in_force.tls;
        if is_same || reload.note("tls", "TLS certificate loaded", &now.tls).await {
            reload.checks.push(good("tls"));
            live.reload_from_config(config);
            self.in_force.tls.clone_from(&now.tls);
        }
    }

    async fn reload_issuers(&mut self, reload: &mut Reload<'_>, now: &Digests, is_wanted: impl Fn() -> bool + Send) {
        if let Err(error) = audit::learn_cas(&*self.store, &mut self.known).await {
            return self.not_compared(reload, &error).await;
        }
        let (clusters, before) = (self.clusters.borrow().clone(), self.issuers.borrow().clone());
        let files = &self.in_force.vault;
        let before = Before { known: &self.known, issuers: &before, marks: &self.marks, files };
        let (backdate, clock) = (self.settings.backdate, &self.clock);
        let looks = issuers::open(backdate, &self.custody, &clusters, before, &now.vault, clock, &self.delegating);
        let (store, marks) = (&*self.store, &self.marks);
        let meanwhile = Meanwhile { store, known: &self.known, marks, issuers: &self.issuers, pace: self.pace };
        let Some((mut opened, heard)) = meanwhile.looks(looks, is_wanted).await else {
            self.is_waiting = true;
            return;
        };
        // what was heard meanwhile is looked at next, as anything that is heard; what it says was retired is not used until then
        if let Some(left) = issuers::without_retired(&opened.issuers, &opened.marks, &heard) {
            opened.issuers = left;
        }
        self.is_waiting = opened.is_waiting;
        self.looks = 0;
        let refused = [opened.refused.as_slice(), &opened.ended].concat();
        if refused != self.refused || now.vault != self.in_force.vault {
            for (whats, so) in
                [(&opened.refused, STAYS), (&opened.ended, "the CA opened before is not used any longer")]
            {
                if !whats.is_empty() {
                    reload.note_refusal("ca keys", so, &whats.join("; ")).await;
                }
            }
        }
        self.refused = refused;
        for (cluster, warning) in &opened.ending {
            // that it is past is another thing than that it was near
            if self.ending.get(cluster) != Some(warning) && reload.note_end(cluster, warning).await {
                self.ending.insert(cluster.clone(), warning.clone());
            }
        }
        self.ending.retain(|cluster, _| opened.ending.contains_key(cluster));
        if let Err(error) = naming::name(reload.sequencer, &opened.unnamed).await {
            return reload.not_recorded("ca keys", &error);
        }
        if !opened.changed || reload.note("ca keys", "CA keys opened", &now.vault).await {
            self.issuers.send_replace(opened.issuers);
            self.marks = opened.marks;
            self.in_force.vault = opened.in_force;
            reload.checks.extend(opened.checks);
            reload.checks.push(good("ca keys"));
        }
    }
}

fn policies_check(set: &PolicySet) -> Check {
    let warnings = set.warnings();
    let detail = (!warnings.is_empty()).then(|| warnings.join("; "));
    Check { name: "policies".into(), ok: true, required: true, detail }
}

fn good(name: &str) -> Check {
    Check { name: name.into(), ok: true, required: true, detail: None }
}
