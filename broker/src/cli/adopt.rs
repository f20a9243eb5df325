//! `cluster add --adopt`: a talosconfig's certificate and key become the cluster's standing credential.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::cluster::write_file;
use super::desk::{Deed, Desk};
use super::reload::print_checks;
use super::{block_on, vault_key};
use crate::app;
use crate::clock::{Clock, SharedClock, SystemClock};
use crate::config::{Loaded, render_cluster};
use crate::custody::{Place, Record, Sealer, StandingCredential, ca};
use crate::domain::{Cluster, ClusterName};
use crate::issuer::TalosApi;
use crate::issuer::talos_api::Credential;
use crate::readiness::Check;

/// What is adopted for which cluster.
pub(super) struct Adopt {
    pub(super) cluster: Arc<Cluster>,
    /// The cluster is not declared yet.
    pub(super) is_new: bool,
    pub(super) replace: bool,
    pub(super) offline: bool,
    pub(super) reason: String,
}

impl Adopt {
    /// Tries the credential, records the act, declares the cluster if need be, seals the credential, lets a running broker
    /// open it. Whatever fails leaves things as they were.
    pub(super) fn run(
        self,
        loaded: &Loaded,
        file: &Path,
        text: &str,
        context: Option<&str>,
        out: &mut dyn Write,
    ) -> anyhow::Result<()> {
        let adopt = || {
            let credential = ca::adopt(text, context)?;
            credential.check_time(SystemClock.now())?;
            anyhow::Ok(credential)
        };
        let credential = adopt().with_context(|| format!("`{}` cannot be adopted", file.display()))?;
        let name = &self.cluster.name;
        let sealer = vault_key::sealer(&loaded.settings)?;
        let record = Record::read(sealer.dir(), name)?;
        if let Some(rotation) = record.as_ref().and_then(|record| record.rotation.as_ref()) {
            bail!(
                "a rotation of cluster `{name}` is under way, and nodes may accept its new CA ({}): `ichor-broker ca rotate {name} --abandon \
                 --reason …` drops it, then adopt",
                rotation.next.said()
            );
        }
        match record.as_ref().map(|record| &record.active) {
            None | Some(Place::TalosApi) => {}
            Some(Place::Retired) if self.replace => {}
            Some(Place::Retired) => {
                bail!("what made the certificates of cluster `{name}` was retired; `--replace` adopts a new credential")
            }
            Some(place) => bail!(
                "cluster `{name}` has a CA in custody ({}), which signs for it: there is nothing to adopt a credential for",
                place.said()
            ),
        }
        let known = block_on(async { Ok(app::known_cas(&loaded.settings).await?) })?;
        if known.is_retired(name, &credential.fingerprint()) {
            bail!(
                "that credential (certificate sha256 {}) was retired by an entry of the audit log; make another, after `talosctl \
                 rotate-ca` where it is compromised:\n{}",
                credential.fingerprint(),
                anew(name, "compromised")
            );
        }
        let has_one = sealer.list()?.secrets.iter().any(|secret| *secret == format!("talos-{name}"));
        // a command was ended between the two: it lies there and no record says so
        let is_unfinished = has_one
            && record.is_none()
            && vault_key::vault(&loaded.settings)?.open_talos_credential(name)?.fingerprint()
                == credential.fingerprint();
        if has_one && !self.replace && !is_unfinished {
            bail!("cluster `{name}` has a standing credential already; `--replace` replaces it");
        }
        if !self.offline {
            self.try_out(adopt()?, out)?;
        }
        let checks = block_on(self.keep(loaded, &sealer, &credential, self.replace || is_unfinished))?;
        if self.is_new {
            writeln!(out, "declared cluster `{name}`")?;
        }
        write!(out, "{}", self.said(&credential))?;
        print_checks(out, &checks)
    }

    /// Asks the cluster whether it makes certificates with the credential. One endpoint that does is enough.
    fn try_out(&self, credential: StandingCredential, out: &mut dyn Write) -> anyhow::Result<()> {
        let clock: SharedClock = Arc::new(SystemClock);
        let issuer = TalosApi::new(Arc::clone(&self.cluster), Credential::Standing(credential), clock)?;
        let answers = block_on(async { Ok(issuer.probe().await) })?;
        for (endpoint, answer) in &answers {
            match answer {
                Ok(version) if version.rbac => writeln!(out, "`{endpoint}` runs {} and takes it", version.tag)?,
                Ok(version) => writeln!(
                    out,
                    "warning: `{endpoint}` runs {} and does not check roles (RBAC is off): every certificate is os:admin there",
                    version.tag
                )?,
                Err(error) => writeln!(out, "warning: `{endpoint}`: {error}")?,
            }
        }
        if answers.iter().all(|(_, answer)| answer.is_err()) {
            let why: Vec<_> =
                answers.iter().filter_map(|(at, answer)| Some(format!("`{at}`: {}", answer.as_ref().err()?))).collect();
            bail!(
                "no endpoint makes certificates with it, so nothing was adopted (`--offline` does not try): {}",
                why.join("; ")
            );
        }
        Ok(())
    }

    async fn keep(
        &self,
        loaded: &Loaded,
        sealer: &Sealer,
        credential: &StandingCredential,
        replace: bool,
    ) -> anyhow::Result<Vec<Check>> {
        let name = &self.cluster.name;
        let text = render_cluster(&self.cluster);
        let mut digests = BTreeMap::from([("certificate".to_owned(), credential.fingerprint())]);
        if self.is_new {
            let digest = HEXLOWER.encode(&Sha256::digest(text.as_bytes()));
            digests.insert(format!("clusters/{name}.toml"), digest);
        }
        let tried = if self.offline { ", not tried" } else { "" };
        let deed = Deed {
            ca: true,
            cluster: Some(name.to_string()),
            message: format!("standing credential adopted for cluster `{name}`{tried}"),
            reason: self.reason.clone(),
            digests,
        };
        let desk = Desk::open(loaded).await?;
        let path = loaded.settings.clusters.join(format!("{name}.toml"));
        let done = desk.act(deed, "nothing was adopted", async || {
            let done = if self.is_new { write_file(&path, &text) } else { Ok(()) };
            let done = done.and_then(|()| Ok(sealer.seal_talos_credential(name, credential, replace)?));
            // the record comes last: with it the cluster's certificates are made so
            let done = done.and_then(|()| match Record::read(sealer.dir(), name)? {
                None => Ok(Record::first(Place::TalosApi).write(sealer.dir(), name, false)?),
                Some(retired) if retired.active == Place::Retired => {
                    let now = SystemClock.now();
                    Ok(retired.succeeded_by(Place::TalosApi, now, None).replace(sealer.dir(), name, &retired)?)
                }
                Some(_) => Ok(()),
            });
            if done.is_err() && self.is_new {
                // a cluster that was not there before is not left behind
                let _ = std::fs::remove_file(&path);
            }
            done
        });
        done.await?;
        let checks = desk.reload().await;
        desk.close().await;
        checks
    }

    /// What is so now, and how to end the copies that lie around.
    fn said(&self, credential: &StandingCredential) -> String {
        let name = &self.cluster.name;
        format!(
            "the credential lies sealed in the vault: {}, certificate sha256 {}, valid until {}\n\
             whoever takes it from the vault has the cluster until then: it can make any role for any time\n\
             \n\
             Copies of it go on to work wherever they lie. Nothing revokes a Talos certificate, and `machine.acceptedCAs` does\n\
             not help: this one comes of the cluster's own CA, which nodes always accept. To end the copies:\n\
             \u{20} 1. delete them: talosconfigs in homes, CI secrets, password stores, backups\n\
             \u{20} 2. `talosctl rotate-ca --talos --kubernetes=false` ends every certificate that the old CA ever signed, this one\n\
             \u{20}    too; adopt a new one right after it, and put the new CA into clusters/{name}.toml:\n\
             {}\
             Until you do, whoever has a copy has the cluster without Ichor, and without an entry in its log.\n",
            credential.roles().join(", "),
            credential.fingerprint(),
            credential.not_after(),
            anew(name, "CA rotated"),
        )
    }
}

/// The commands that adopt a new credential, a line each.
pub(super) fn anew(cluster: &ClusterName, reason: &str) -> String {
    format!(
        "\u{20}    talosctl config new --roles os:admin --crt-ttl 8760h ichor.talosconfig\n\
         \u{20}    ichor-broker cluster add {cluster} --adopt ichor.talosconfig --replace --reason \"{reason}\"\n"
    )
}
