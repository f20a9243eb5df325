//! `check`: a line for each thing that must work.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use clap::Args;
use ichor_wire::role::Role;

use super::{FolderArg, block_on, reload::print_checks, vault_key};
use crate::app::{self, AdoptedError};
use crate::clock::{Clock, SharedClock, SystemClock};
use crate::config::{self, Loaded, Provider, Recheck};
use crate::custody;
use crate::custody::{Custody, CustodyError, KnownCas, VaultError};
use crate::domain::{Cluster, Clusters, LockTarget, ProviderAlias};
use crate::lock::LISTED;
use crate::openbao;
use crate::readiness::Check;
use crate::store::{LockRow, Store, StoreError};

/// Check config, policies, vault, database, provider and clusters. Works beside a running broker and changes nothing.
#[derive(Debug, Args)]
pub(super) struct CheckCommand {
    #[command(flatten)]
    folder: FolderArg,
}

impl CheckCommand {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = match self.folder.folder().load() {
            Ok(loaded) => loaded,
            Err(error) => return print_checks(out, &[failed("config", &error)]),
        };
        let open = config::too_open(&loaded);
        let mut checks = vec![fine("config", (!open.is_empty()).then(|| open.join("; ")))];
        checks.push(policies(&loaded));
        checks.extend(labels(&loaded));
        checks.extend(block_on(async { Ok(vault_and_clusters(&loaded).await) })?);
        checks.push(tls(&loaded));
        checks.extend(block_on(async { Ok(database(&loaded).await) })?);
        checks.extend(block_on(async { Ok(providers(&loaded).await) })?);
        print_checks(out, &checks)
    }
}

fn fine(name: impl Into<String>, detail: Option<String>) -> Check {
    Check { name: name.into(), ok: true, required: true, detail }
}

fn failed(name: impl Into<String>, error: &dyn std::fmt::Display) -> Check {
    Check { name: name.into(), ok: false, required: true, detail: Some(error.to_string()) }
}

fn policies(loaded: &Loaded) -> Check {
    match app::check_policies(&loaded.settings) {
        Ok(set) => {
            let aliases: Vec<_> = loaded.file.provider.iter().map(|section| section.alias.as_str()).collect();
            let mut warnings = set.warnings().to_vec();
            warnings.extend(set.unknown_providers(&aliases));
            fine("policies", (!warnings.is_empty()).then(|| warnings.join("; ")))
        }
        Err(error) => failed("policies", &error),
    }
}

/// A line for each cluster without a label that policies look at: it would lose their protection without a word.
fn labels(loaded: &Loaded) -> Vec<Check> {
    let (Ok(set), Ok(clusters)) =
        (app::check_policies(&loaded.settings), config::load_clusters(&loaded.settings.clusters))
    else {
        return Vec::new(); // lines of their own say so
    };
    let lacks = |cluster: &Cluster| {
        let missing = set.missing_labels(cluster);
        (!missing.is_empty()).then(|| fine(format!("labels {}", cluster.name), Some(missing.join("; "))))
    };
    clusters.values().filter_map(|cluster| lacks(cluster)).collect()
}

async fn vault_and_clusters(loaded: &Loaded) -> Vec<Check> {
    let settings = &loaded.settings;
    let clusters = match config::load_clusters(&settings.clusters) {
        Ok(clusters) => clusters,
        Err(error) => return vec![failed("clusters", &error)],
    };
    let none = clusters.is_empty().then(|| "none yet: run `ichor-broker cluster add`".to_owned());
    let mut checks = vec![fine("clusters", none)];
    checks.extend(endpoints(&clusters).await);
    let vault = match vault_key::vault(settings) {
        Ok(vault) => vault,
        Err(error) => {
            checks.push(failed("vault", &format!("{error:#}")));
            return checks;
        }
    };
    let warnings = vault.warnings();
    checks.push(fine(format!("vault, {}", vault.told()), (!warnings.is_empty()).then(|| warnings.join("; "))));
    let warnings = custody::harden_process().warnings();
    checks.push(fine("memory", (!warnings.is_empty()).then(|| warnings.join("; "))));
    if !loaded.file.forward.is_empty() {
        let forwards = config::forwards(&loaded.folder, &loaded.file);
        checks.push(forwards.map_or_else(|error| failed("forward", &error), |_| fine("forward", None)));
    }
    if !loaded.file.notify.is_empty() {
        let sinks = config::sinks(&loaded.folder, &loaded.file);
        checks.push(sinks.map_or_else(|error| failed("notify", &error), |_| fine("notify", None)));
    }
    // policies that are wrong have a line of their own
    let granted = app::check_policies(settings).map(|set| set.grantable()).unwrap_or_default();
    match app::custody(loaded, vault) {
        Ok(custody) => {
            match app::known_cas(settings).await {
                Ok(known) => {
                    checks.extend(cas(&custody, &clusters, &known, &granted).await);
                    checks.extend(left_at_servers(&custody, &known).await);
                }
                // a line of its own says what is wrong with it
                Err(error) => checks.push(failed("ca keys, held against the audit log", &error)),
            }
            match custody.leftovers() {
                Ok(left) if left.is_empty() => {}
                Ok(left) => {
                    let said: Vec<_> = left.iter().map(|file| super::ca::leftover(file)).collect();
                    checks.push(fine("copies of CA keys", Some(said.join("; "))));
                }
                Err(error) => checks.push(failed("copies of CA keys", &error)),
            }
            match custody.idle_credentials() {
                Ok(idle) if idle.is_empty() => {}
                Ok(idle) => {
                    let said: Vec<_> = idle.iter().map(super::ca::idle).collect();
                    checks.push(fine("adopted credentials", Some(said.join("; "))));
                }
                Err(error) => checks.push(failed("adopted credentials", &error)),
            }
            checks.push(match custody.data_key().await {
                Ok(_) => fine("data key", None),
                Err(error) => failed("data key", &error),
            });
            checks.push(match custody.audit_key().await {
                Ok(key) => fine("audit key", key.warning().map(str::to_owned)),
                Err(error) => failed("audit key", &error),
            });
        }
        Err(error) => checks.push(failed("openbao", &error)),
    }
    checks
}

/// A line where keys of CAs were left at servers.
async fn left_at_servers(custody: &Custody, known: &KnownCas) -> Option<Check> {
    const NAME: &str = "CA keys left at servers";
    match custody.left_at_servers(None, known).await {
        Ok(left) if left.is_empty() => None,
        Ok(left) => {
            let said: Vec<_> = left.iter().map(super::ca::left).collect();
            Some(fine(NAME, Some(said.join("; "))))
        }
        Err(error) => Some(failed(NAME, &error)),
    }
}

/// A line for each server and each cluster's CA, opened as the broker would.
async fn cas(custody: &Custody, clusters: &Clusters, known: &KnownCas, granted: &[Role]) -> Vec<Check> {
    let mut checks = Vec::new();
    let opened =
        futures_util::future::join_all(clusters.values().map(async |it| (it, custody.open(&it.name, known).await)))
            .await;
    for (name, server) in custody.servers() {
        // unless a CA was opened there, nothing has been asked yet; this is in the policy `default` and in deploy/openbao/token.hcl
        let asked = server.call(http::Method::GET, "auth/token/lookup-self", None, openbao::Retry::Safe).await;
        let name = format!("openbao {name}");
        checks.push(asked.map_or_else(|error| failed(name.clone(), &error), |_| fine(name.clone(), None)));
    }
    for (cluster, opened) in opened {
        let line = format!("ca {}", cluster.name);
        checks.push(match opened {
            Ok(mut opened) => {
                opened.warn_of_roles(granted).await;
                let end = app::End::of_ca(&opened.certificate, SystemClock.now());
                let newer = app::newer(known, &cluster.name, &opened.certificate, opened.is_rotating);
                let newer = newer.filter(|_| !opened.is_unnamed);
                let rotating = opened.is_rotating.then(|| {
                    format!(
                        "a rotation is under way: `ichor-broker ca rotate {0} --continue --reason …` goes on with it, `--abandon` drops it",
                        cluster.name
                    )
                });
                let warnings: Vec<_> = end.said.into_iter().chain(newer).chain(rotating).chain(opened.warnings).collect();
                let said = (!warnings.is_empty()).then(|| warnings.join("; "));
                Check { ok: !end.is_over, ..fine(line, said) }
            }
            Err(error) if error.may_be_adopted() => adopted(custody, cluster, known, &error).await,
            Err(error) => failed(line, &error),
        });
    }
    checks
}

/// A line for each cluster with an endpoint that shows another cluster's CA. One that cannot be reached from here says nothing.
async fn endpoints(clusters: &Clusters) -> Vec<Check> {
    let clock: SharedClock = Arc::new(SystemClock);
    let looks = clusters.values().map(async |it| (it, app::foreign_endpoints(it, &clock).await));
    let found = futures_util::future::join_all(looks).await;
    found.into_iter().filter_map(|(it, said)| Some(failed(format!("endpoints {}", it.name), &said?))).collect()
}

/// The line of a cluster whose CA is not in custody: its own API may make the certificates.
async fn adopted(custody: &Custody, cluster: &Arc<Cluster>, known: &KnownCas, missing: &CustodyError) -> Check {
    let name = format!("ca {}", cluster.name);
    let clock: SharedClock = Arc::new(SystemClock);
    let app::Adopted { issuer, end, .. } = match app::adopted(custody, cluster, known, &clock).await {
        Ok(adopted) => adopted,
        Err(AdoptedError::Vault(VaultError::Missing(_))) => return failed(name, missing),
        Err(error) => return failed(name, &error),
    };
    let answers = issuer.probe().await;
    let bad = answers.iter().filter_map(|(at, answer)| Some(format!("`{at}`: {}", answer.as_ref().err()?)));
    let bad: Vec<String> = bad.collect();
    if bad.len() == answers.len() {
        return failed(name, &format!("no endpoint makes certificates: {}", bad.join("; ")));
    }
    let said: Vec<String> = end.said.into_iter().chain(bad).collect();
    fine(name, (!said.is_empty()).then(|| said.join("; ")))
}

fn tls(loaded: &Loaded) -> Check {
    match &loaded.settings.tls {
        None => fine("tls", Some("plain http, on loopback or behind a proxy".into())),
        Some((chain, key)) => match app::check_tls(chain, key, loaded.settings.audit.tile_clients.as_deref()) {
            Ok(()) => fine("tls", None),
            Err(error) => failed("tls", &error),
        },
    }
}

async fn database(loaded: &Loaded) -> Vec<Check> {
    let settings = &loaded.settings;
    if settings.postgres.is_none() && !settings.database.exists() {
        return vec![match app::check_database_is_there(settings) {
            Ok(()) => fine("database", Some("none yet: made at the first start".into())),
            Err(error) => failed("database", &error),
        }];
    }
    let (store, warning) =
        match async { Ok((app::read_store(settings).await?, app::store_warning(settings).await?)) }.await {
            Ok(opened) => opened,
            Err::<_, StoreError>(error) => return vec![failed("database", &error)],
        };
    let log = match super::audit::check(loaded, &*store).await {
        Ok(super::audit::Checked { restored: Some(restored), .. }) => failed("audit log", &restored),
        Ok(super::audit::Checked { unknown: Some(unknown), .. }) => fine("audit log", Some(unknown)),
        Ok(checked) if loaded.settings.audit.is_anchored() => {
            fine(format!("audit log, {}", checked.lines.join("; ")), None)
        }
        Ok(checked) => fine("audit log", Some(checked.lines.join("; "))),
        Err(error) => failed("audit log", &format!("{error:#}")),
    };
    let mut checks = vec![fine("database", warning), log];
    if let Err(error) = app::check_clock(settings, &*store, SystemClock.now()).await {
        checks.push(failed("clock", &error));
    }
    checks.extend(locks(&*store).await);
    checks
}

/// A line where something is locked for everybody: nothing else is wrong then, and still nothing is issued.
async fn locks(store: &dyn Store) -> Option<Check> {
    let now = SystemClock.now();
    let set = match store.locks(false, LISTED).await {
        Ok(set) => set,
        Err(error) => return Some(failed("locks", &error)),
    };
    let is_for_all = |lock: &&LockRow| matches!(lock.target, LockTarget::Everything | LockTarget::Cluster(_));
    let said: Vec<_> = set.iter().filter(|lock| lock.holds(now)).filter(is_for_all).map(said).collect();
    (!said.is_empty()).then(|| fine("locks", Some(format!("{}; `ichor-broker locks` tells more", said.join("; ")))))
}

fn said(lock: &LockRow) -> String {
    let until = lock.until.map_or_else(|| "until it is lifted".into(), |until| format!("until {until:.0}"));
    format!("{} is locked by {} since {:.0}, {until}: {}", lock.target, lock.by, lock.at, lock.reason)
}

/// Asks each provider for its discovery document, over a store in a temporary folder: nothing of the broker's own is touched. Its
/// alias must belong to it.
async fn providers(loaded: &Loaded) -> Vec<Check> {
    if loaded.file.provider.is_empty() {
        return vec![failed("provider", &"none: name one in config.toml under [[provider]]")];
    }
    let mut checks = Vec::new();
    // a database that cannot be read has a line of its own
    let foreign = foreign_issuers(loaded).await.unwrap_or_default();
    for (alias, state) in match app::probe_providers(loaded).await {
        Ok(states) => states,
        Err(error) => return vec![failed("provider", &error)],
    } {
        let section = loaded.file.provider.iter().find(|section| section.alias == alias);
        let name = format!("provider {alias}, recheck {}", recheck(section.map(|section| section.recheck)));
        checks.push(match (foreign.get(&alias), state) {
            (Some(why), _) => failed(name, why),
            (None, Ok(())) => fine(name, None),
            (None, Err(error)) => failed(name, &error),
        });
        checks.extend(section.and_then(|section| logins(loaded, section)));
    }
    checks
}

/// By alias, what is wrong with providers whose alias belongs to another issuer, as far as there is a database that knows.
async fn foreign_issuers(loaded: &Loaded) -> Result<BTreeMap<String, String>, StoreError> {
    let settings = &loaded.settings;
    if settings.postgres.is_none() && !settings.database.exists() {
        return Ok(BTreeMap::new());
    }
    app::foreign_issuers(loaded, &*app::read_store(settings).await?).await
}

/// What policies look at and nobody asks the provider for.
fn logins(loaded: &Loaded, section: &Provider) -> Option<Check> {
    let set = app::check_policies(&loaded.settings).ok()?; // a line of its own says so
    let alias = ProviderAlias::new(&section.alias).ok()?;
    let missing = set.missing_at_login(&alias, !section.acr_values.is_empty(), section.max_age.is_some());
    let detail = format!("{}; set what is missing under its [[provider]] in config.toml", missing.join("; "));
    (!missing.is_empty()).then(|| fine(format!("logins {alias}"), Some(detail)))
}

/// How the provider's groups are asked again, as the configuration spells it.
fn recheck(mode: Option<Recheck>) -> &'static str {
    match mode.unwrap_or_default() {
        Recheck::Refresh => "by refresh token",
        Recheck::Userinfo => "at userinfo",
        Recheck::LoginOnly => "never (login-only: sessions last at most an hour)",
    }
}
