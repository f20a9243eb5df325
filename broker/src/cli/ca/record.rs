//! `ca record`.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::bail;
use clap::Args;

use super::keep::{digests, taken_up};
use crate::app;
use crate::cli::desk::{Deed, Desk};
use crate::cli::{FolderArg, block_on, vault_key};
use crate::custody::ca::CaFacts;
use crate::custody::{CERTIFICATE, Custody, KnownCas, Place, Record};
use crate::domain::ClusterName;

/// `ca record`.
#[derive(Debug, Args)]
pub(in crate::cli) struct RecordCa {
    #[command(flatten)]
    folder: FolderArg,
    /// The cluster.
    cluster: String,
    /// The CA's fingerprint (SHA-256 of its certificate, hex), from a source that you trust, as a node's machine config. Needed unless
    /// the newest entry of the log about this cluster names it, and, where its record is lost, no other does name another.
    #[arg(long, value_name = "SHA256")]
    certificate: Option<String>,
    /// Why; it goes into the audit.
    #[arg(long, value_parser = crate::cli::desk::reason)]
    reason: String,
}

/// What lies in custody.
struct Found {
    fingerprint: String,
    /// A CA's key (SubjectPublicKeyInfo, DER); empty for a credential.
    key: Vec<u8>,
    digests: BTreeMap<String, String>,
    /// What it is, in words.
    what: &'static str,
    said: String,
}

impl RecordCa {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let cluster = super::declared(&loaded, &self.cluster)?;
        let custody = app::custody(&loaded, vault_key::vault(&loaded.settings)?)?;
        let dir = custody.vault().sealer().dir();
        let written = Record::written(dir, &cluster)?;
        block_on(async {
            let known = app::known_cas(&loaded.settings).await?;
            let (record, found) = match &written {
                Some(record) => (record.clone(), Found::at(&custody, &cluster, &record.active).await?),
                None => self.unrecorded(&custody, &cluster).await?,
            };
            let familiar = known.check_fingerprint(&cluster, found.fingerprint.clone());
            let newest = known.newest(&cluster);
            let is_meant = match &self.certificate {
                Some(said) => found.is(said),
                None => {
                    let is_newest = newest.is_none_or(|newest| newest == found.fingerprint);
                    // the newest may be the one to come of a rotation
                    let is_only = written.is_some() || known.in_use(&cluster).nth(1).is_none();
                    // a copied record leads to another cluster's CA
                    let is_own = known.others_with_key(&cluster, &found.key).next().is_none();
                    is_newest && is_only && is_own && familiar.is_ok()
                }
            };
            if !is_meant {
                let named = newest.unwrap_or("none");
                bail!(
                    "what lies in custody for cluster `{cluster}` is {} with the certificate sha256 {}; the newest entry of the log \
                     names {named}{}{}. Compare it with what nodes accept, and where it is the one, name it with `--certificate {1}`",
                    found.what,
                    found.fingerprint,
                    if written.is_none() && known.in_use(&cluster).nth(1).is_some() {
                        ", others name other CAs"
                    } else {
                        ""
                    },
                    if self.certificate.is_some() { ", and you another" } else { "" }
                );
            }
            if written.is_some() && familiar.is_ok() && newest == Some(&*found.fingerprint) {
                bail!("the CA of cluster `{cluster}` has its record, and the log knows it: there is nothing to do");
            }
            let desk = Desk::open(&loaded).await?;
            let deed = Deed {
                ca: true,
                cluster: Some(cluster.to_string()),
                message: format!(
                    "cluster `{cluster}`: {} that lies in custody is the one that is meant: {}",
                    found.what,
                    record.active.said()
                ),
                reason: self.reason.clone(),
                digests: found.digests,
            };
            let done = async || match written {
                Some(_) => Ok(()),
                None => Ok(record.write(dir, &cluster, false)?),
            };
            desk.act(deed, "nothing was changed", done).await?;
            let taken = taken_up(&cluster, desk.reload().await?);
            desk.close().await;
            writeln!(out, "recorded: {}", found.said)?;
            writeln!(out, "certificate sha256 {}", found.fingerprint)?;
            writeln!(out, "lives in {}", record.active.said())?;
            taken.err().map_or(Ok(()), |why| writeln!(out, "{why}"))?;
            Ok(())
        })
    }
}

impl RecordCa {
    /// What lies in custody while no record says so, with the record that it is to have. Of several CAs the operator says which: the
    /// log's newest may be one that nodes do not accept yet.
    async fn unrecorded(&self, custody: &Custody, cluster: &ClusterName) -> anyhow::Result<(Record, Found)> {
        let places = places(custody, cluster)?;
        let taken = places.iter().map(Place::number).max().unwrap_or_default().max(1);
        let record = |place: &Place| Record::first(place.clone()).numbered(taken);
        if let [only] = places.as_slice() {
            return Ok((record(only), Found::at(custody, cluster, only).await?));
        }
        let mut lines = Vec::new();
        for place in &places {
            match Found::at(custody, cluster, place).await {
                Ok(found) if self.certificate.as_ref().is_some_and(|said| found.is(said)) => {
                    return Ok((record(place), found));
                }
                Ok(found) => lines.push(format!("{} with the certificate sha256 {}", place.said(), found.fingerprint)),
                Err(error) => lines.push(format!("{}, which cannot be opened: {error:#}", place.said())),
            }
        }
        bail!(
            "no record says which of the CAs in custody for cluster `{cluster}` is in force: {}; compare them with what nodes accept, and \
             name the one with `--certificate`",
            lines.join("; ")
        )
    }
}

impl Found {
    /// Whether it has this fingerprint, as an operator writes it.
    fn is(&self, said: &str) -> bool {
        said.trim().eq_ignore_ascii_case(&self.fingerprint)
    }

    /// What a cluster's certificates are made with: opened whatever the log says, for the operator says what it is to be.
    async fn at(custody: &Custody, cluster: &ClusterName, place: &Place) -> anyhow::Result<Self> {
        if matches!(place, Place::TalosApi) {
            let credential = custody.vault().open_talos_credential(cluster)?;
            let fingerprint = credential.fingerprint();
            let said =
                format!("a credential of {}, valid until {}", credential.roles().join(", "), credential.not_after());
            let digests = BTreeMap::from([(CERTIFICATE.to_owned(), fingerprint.clone())]);
            return Ok(Self { fingerprint, key: Vec::new(), digests, what: "the standing credential", said });
        }
        let opened = custody.open_place(cluster, place, &KnownCas::default()).await?;
        let facts = CaFacts::of(&opened.certificate);
        let said = format!("{} ({}), valid until {}", facts.subject, facts.algorithm, facts.not_after);
        let key = opened.certificate.public_key().to_vec();
        Ok(Self { digests: digests(&facts, Some(place)), fingerprint: facts.fingerprint, key, what: "the CA", said })
    }
}

/// Where it may lie when no record says so: in files of the vault, as a CA, or as a credential that was adopted.
fn places(custody: &Custody, cluster: &ClusterName) -> anyhow::Result<Vec<Place>> {
    let sealer = custody.vault().sealer();
    let mut places: Vec<_> = sealer.ca_files(cluster)?.into_iter().map(|file| Place::Age { file }).collect();
    if sealer.list()?.secrets.iter().any(|secret| *secret == format!("talos-{cluster}")) {
        places.push(Place::TalosApi);
    }
    if places.is_empty() {
        places.push(Place::Age { file: format!("{cluster}.age") });
    }
    Ok(places)
}
