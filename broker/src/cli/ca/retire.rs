//! `ca retire`.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::bail;
use clap::Args;
use ichor_wire::profile::CaCertificate;

use crate::app;
use crate::cli::desk::{Deed, Desk};
use crate::cli::{FolderArg, block_on, unlock};
use crate::clock::{Clock, SystemClock};
use crate::custody::ca::CaFacts;
use crate::custody::{Aside, Custody, KnownCas, Place, RETIRED, Record};
use crate::domain::ClusterName;

/// `ca retire`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Retire {
    #[command(flatten)]
    folder: FolderArg,
    /// The cluster.
    cluster: String,
    /// The CA in force may be in strangers' hands: it issues no more from now on. The new CA of a rotation takes its place
    /// at once; without one, nothing is issued for the cluster until there is.
    #[arg(long)]
    compromised: bool,
    /// Why; it goes into the audit.
    #[arg(long, value_parser = crate::cli::desk::reason)]
    reason: String,
}

impl Retire {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let cluster = super::declared(&loaded, &self.cluster)?;
        let custody = app::custody(&loaded, unlock::vault(&loaded.settings)?)?;
        let (dir, now) = (custody.vault().sealer().dir(), SystemClock.now());
        let record = custody.record(&cluster)?;
        block_on(async {
            let desk = Desk::open(&loaded).await?;
            let known = app::known_cas(&loaded.settings).await?;
            let deed = |message: String| Deed {
                ca: true,
                cluster: Some(cluster.to_string()),
                message: format!("cluster `{cluster}`: {message}"),
                reason: self.reason.clone(),
                ..Deed::default()
            };
            if self.compromised {
                let next = record.rotation.as_ref().map_or(Place::Retired, |rotation| rotation.next.clone());
                // the certificate is wanted for the removal, and its custody may be what is lost
                let certificate = custody.certificate(&cluster, &known).await.ok().map(|certificate| certificate.pem());
                let place = record.active.said();
                let deed = deed(format!("CA retired as compromised: {place}; from now on: {}", next.said()));
                let retired = record.compromised_by(next.clone(), now, certificate);
                let done = async || Ok(retired.replace(dir, &cluster, &record)?);
                desk.act(deed.clone(), "it is in force as before", done).await?;
                let digests = fingerprints(&custody, &cluster, &retired, &known).await;
                desk.record(Deed { digests, message: format!("{}: done", deed.message), ..deed }).await?;
                if let Place::Age { file } = &record.active {
                    custody.vault().sealer().set_aside(file, Aside::Retired)?;
                }
                desk.reload().await?;
                writeln!(out, "{place} issues no more; from now on: {}", next.said())?;
                writeln!(
                    out,
                    "Certificates it signed, and any a stranger signs with it, work until the nodes stop to accept it."
                )?;
                writeln!(out, "Take it out of every node now; for each node:")?;
            } else {
                let Some(former) = record.former.last() else {
                    bail!("no former CA of cluster `{cluster}` is left; `--compromised` retires the one in force");
                };
                let until = former.until.saturating_add(loaded.settings.max_ttl).unwrap_or(former.until);
                if until > now {
                    bail!("certificates of the former CA may be valid until {until}; retire it after that");
                }
                let places: Vec<_> = record.former.iter().map(|former| former.place.clone()).collect();
                let said: Vec<_> = places.iter().map(Place::said).collect();
                let deed = deed(format!("former CAs retired: {}", said.join(", ")));
                let digests = fingerprints(&custody, &cluster, &record, &known).await;
                let done = async || {
                    for place in &places {
                        if let Place::Age { file } = place {
                            custody.vault().sealer().remove_ca_file(file)?;
                        }
                    }
                    Ok(record.without_former().replace(dir, &cluster, &record)?)
                };
                desk.act(deed.clone(), "the record still names them; the same command goes on", done).await?;
                desk.record(Deed { digests, message: format!("{}: done", deed.message), ..deed }).await?;
                for place in &places {
                    match place {
                        Place::Age { .. } => writeln!(out, "removed {}", place.said())?,
                        Place::Retired | Place::TalosApi => {}
                        place => writeln!(out, "remove it at the server, with a token that may: {}", place.said())?,
                    }
                }
                writeln!(out, "If a node still accepts one of them, take it out there; for each such node:")?;
            }
            writeln!(out, "  talosctl -n NODE get machineconfig v1alpha1 -o jsonpath='{{.spec}}' > node.yaml")?;
            let at = self.folder.said();
            writeln!(out, "  ichor-broker ca removal-patch {cluster} --former --machine-config node.yaml{at}")?;
            desk.close().await;
            Ok(())
        })
    }
}

/// By what the log knows from now on that these CAs are to issue no more: the former ones of the record, as far as their certificates
/// are at hand. Not one that is in force as well, as after an import of the same.
async fn fingerprints(
    custody: &Custody,
    cluster: &ClusterName,
    record: &Record,
    known: &KnownCas,
) -> BTreeMap<String, String> {
    let of = async |place: &Place| {
        let certificate = custody.certificate_at(cluster, place, known).await.ok()?;
        Some(CaFacts::of(&certificate).fingerprint)
    };
    let mut stays = Vec::new();
    for place in std::iter::once(&record.active).chain(record.rotation.iter().map(|rotation| &rotation.next)) {
        stays.extend(of(place).await);
    }
    let mut retired = Vec::new();
    for former in &record.former {
        let kept = former.certificate.as_deref().and_then(|pem| CaCertificate::parse(pem).ok());
        let fingerprint = match kept {
            Some(certificate) => Some(CaFacts::of(&certificate).fingerprint),
            None => of(&former.place).await,
        };
        retired.extend(fingerprint.filter(|fingerprint| !stays.contains(fingerprint)));
    }
    let named = |(number, fingerprint): (usize, String)| (format!("{RETIRED} {}", number + 1), fingerprint);
    retired.into_iter().enumerate().map(named).collect()
}
