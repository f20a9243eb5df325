//! `ca retire`.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::bail;
use clap::Args;
use ichor_wire::profile::CaCertificate;
use jiff::{SignedDuration, Timestamp};

use crate::app;
use crate::cli::desk::{Deed, Desk};
use crate::cli::{FolderArg, block_on, unlock};
use crate::clock::{Clock, SystemClock};
use crate::custody::ca::CaFacts;
use crate::custody::{Aside, Custody, CustodyError, Former, KnownCas, Place, RETIRED, Record};
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

/// A retirement at work.
struct Work<'a> {
    custody: &'a Custody,
    cluster: &'a ClusterName,
    desk: &'a Desk,
    known: KnownCas,
    reason: &'a str,
    now: Timestamp,
}

/// What is known of a CA, or of a standing credential.
struct Seen {
    fingerprint: String,
    /// A CA's certificate, PEM.
    certificate: Option<String>,
}

impl Retire {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let cluster = super::declared(&loaded, &self.cluster)?;
        let custody = app::custody(&loaded, unlock::vault(&loaded.settings)?)?;
        let record = custody.record(&cluster)?;
        block_on(async {
            let desk = Desk::open(&loaded).await?;
            let known = app::known_cas(&loaded.settings).await?;
            let (custody, cluster, reason) = (&custody, &cluster, self.reason.as_str());
            let work = Work { custody, cluster, desk: &desk, known, reason, now: SystemClock.now() };
            let done = match self.compromised {
                true => work.compromised(&record, out).await,
                false => work.former(&record, loaded.settings.max_ttl, out).await,
            };
            if done.is_ok() {
                desk.reload().await?;
            }
            desk.close().await;
            if done? {
                writeln!(out, "  talosctl -n NODE get machineconfig v1alpha1 -o jsonpath='{{.spec}}' > node.yaml")?;
                let at = self.folder.said();
                writeln!(out, "  ichor-broker ca removal-patch {cluster} --former --machine-config node.yaml{at}")?;
            }
            Ok(())
        })
    }
}

impl Work<'_> {
    /// The CA in force issues no more. Its digest comes first: from then on the log refuses it everywhere, whatever ends this command.
    async fn compromised(&self, record: &Record, out: &mut dyn Write) -> anyhow::Result<bool> {
        let (cluster, sealer) = (self.cluster, self.custody.vault().sealer());
        if let Some(left) = record.former.iter().find(|former| former.compromised && has_file(self.custody, former)) {
            self.finish(left, record, out).await?;
            return Ok(true);
        }
        if record.active == Place::Retired {
            bail!(
                "the CA of cluster `{cluster}` was retired already: none is in force; `ichor-broker ca create {cluster} --replace --reason …` makes one"
            );
        }
        let next = record.rotation.as_ref().map_or(Place::Retired, |rotation| rotation.next.clone());
        let place = record.active.said();
        // its custody may be what is lost
        let seen = self.seen(&record.active).await;
        let deed = Deed {
            digests: self.digests(seen.iter(), [&next]).await,
            ..self.deed(format!("CA retired as compromised: {place}; from now on: {}", next.said()))
        };
        let certificate = seen.as_ref().and_then(|seen| seen.certificate.clone());
        let retired = record.compromised_by(next.clone(), self.now, certificate);
        let done = async || {
            retired.replace(sealer.dir(), cluster, record)?;
            if let Place::Age { file } = &record.active {
                sealer.set_aside(file, Aside::Retired)?;
            }
            Ok(())
        };
        self.desk.act(deed, "what of it was done stays; run the same command again", done).await?;
        writeln!(out, "{place} issues no more; from now on: {}", next.said())?;
        if seen.is_none() {
            writeln!(
                out,
                "its certificate cannot be read, so the log has no digest by which one that is put back is refused"
            )?;
        }
        self.removal(out)?;
        Ok(true)
    }

    /// Ends what a command was ended in: the CA is no longer in force, and its key lies where it did.
    async fn finish(&self, left: &Former, record: &Record, out: &mut dyn Write) -> anyhow::Result<()> {
        let Place::Age { file } = &left.place else { return Ok(()) };
        let kept = left.certificate.as_deref().and_then(Seen::of_pem);
        let seen = if kept.is_some() { kept } else { self.seen(&left.place).await };
        let message = format!("CA retired as compromised, ended before it was done: {}", left.place.said());
        let deed = Deed { digests: self.digests(seen.iter(), in_use(record)).await, ..self.deed(message) };
        let done = async || Ok(self.custody.vault().sealer().set_aside(file, Aside::Retired)?);
        self.desk.act(deed, "its key lies where it did", done).await?;
        writeln!(out, "{} was retired before, and its key is set aside now", left.place.said())?;
        if record.active != Place::Retired {
            writeln!(
                out,
                "{} is in force as before; where it is compromised too, run this again",
                record.active.said()
            )?;
        }
        self.removal(out)
    }

    fn removal(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        writeln!(
            out,
            "Certificates it signed, and any a stranger signs with it, work until the nodes stop to accept it."
        )?;
        Ok(writeln!(out, "Take it out of every node now; for each node:")?)
    }

    /// What issued before goes out of custody: its certificates are kept, for the nodes.
    async fn former(&self, record: &Record, max_ttl: SignedDuration, out: &mut dyn Write) -> anyhow::Result<bool> {
        let (cluster, sealer) = (self.cluster, self.custody.vault().sealer());
        let Some(last) = record.former.last() else {
            bail!("no former CA of cluster `{cluster}` is left; `--compromised` retires the one in force");
        };
        let until = last.until.saturating_add(max_ttl).unwrap_or(last.until);
        if until > self.now {
            bail!("certificates of the former CA may be valid until {until}; retire it after that");
        }
        let mut seen = Vec::new();
        let mut kept = record.clone();
        for former in &mut kept.former {
            let known = former.certificate.as_deref().and_then(Seen::of_pem);
            let found = if known.is_some() { known } else { self.seen(&former.place).await };
            former.certificate = found.as_ref().and_then(|found| found.certificate.clone());
            seen.extend(found);
        }
        let places: Vec<_> = record.former.iter().map(|former| former.place.clone()).collect();
        let said: Vec<_> = places.iter().map(Place::said).collect();
        let digests = self.digests(seen.iter(), in_use(record)).await;
        let deed = Deed { digests, ..self.deed(format!("former CAs retired: {}", said.join(", "))) };
        let done = async || {
            // a file that is gone tells no certificate any more
            kept.replace(sealer.dir(), cluster, record)?;
            for place in &places {
                match place {
                    Place::Age { file } => sealer.remove_ca_file(file)?,
                    Place::TalosApi if record.active != Place::TalosApi => sealer.remove_talos_credential(cluster)?,
                    _ => {}
                }
            }
            Ok(kept.without_former().replace(sealer.dir(), cluster, &kept)?)
        };
        self.desk.act(deed, "the record still names them; the same command goes on", done).await?;
        for place in &places {
            match place {
                Place::Age { .. } => writeln!(out, "removed {}", place.said())?,
                Place::TalosApi => writeln!(
                    out,
                    "removed the adopted credential from the vault; copies of it elsewhere work until it expires"
                )?,
                Place::Retired => {}
                place => writeln!(out, "remove it at the server, with a token that may: {}", place.said())?,
            }
        }
        let is_to_go = kept.former.iter().any(|former| former.certificate.is_some());
        if is_to_go {
            writeln!(out, "If a node still accepts one of them, take it out there; for each such node:")?;
        }
        Ok(is_to_go)
    }

    fn deed(&self, message: String) -> Deed {
        Deed {
            ca: true,
            cluster: Some(self.cluster.to_string()),
            message: format!("cluster `{}`: {message}", self.cluster),
            reason: self.reason.to_owned(),
            ..Deed::default()
        }
    }

    /// What the place holds, as far as it can be read; also where the log retired it already.
    async fn seen(&self, place: &Place) -> Option<Seen> {
        if *place == Place::TalosApi {
            let credential = self.custody.vault().open_talos_credential(self.cluster).ok()?;
            return Some(Seen { fingerprint: credential.fingerprint(), certificate: None });
        }
        let found = match self.custody.certificate_at(self.cluster, place, &self.known).await {
            Err(CustodyError::Foreign(crate::custody::ForeignCa::Retired { .. })) => {
                self.custody.certificate_at(self.cluster, place, &KnownCas::default()).await
            }
            found => found,
        };
        found.ok().map(|certificate| Seen::of(&certificate))
    }

    /// By what the log knows from now on that these are to issue no more. Not one that is in use as well, as after an import of the same.
    async fn digests(
        &self,
        retired: impl Iterator<Item = &Seen>,
        in_use: impl IntoIterator<Item = &Place>,
    ) -> BTreeMap<String, String> {
        let mut stays = Vec::new();
        for place in in_use {
            stays.extend(self.seen(place).await.map(|seen| seen.fingerprint));
        }
        let retired = retired.map(|seen| seen.fingerprint.clone()).filter(|seen| !stays.contains(seen));
        retired.enumerate().map(|(number, fingerprint)| (format!("{RETIRED} {}", number + 1), fingerprint)).collect()
    }
}

/// What issues, or is to.
fn in_use(record: &Record) -> impl Iterator<Item = &Place> {
    std::iter::once(&record.active).chain(record.rotation.iter().map(|rotation| &rotation.next))
}

/// Whether the former CA's key lies in a file of the vault, under a name that can be opened.
fn has_file(custody: &Custody, former: &Former) -> bool {
    matches!(former.place, Place::Age { .. }) && !custody.vault().sealer().lacks_key_of(&former.place)
}

impl Seen {
    fn of(certificate: &CaCertificate) -> Self {
        Self { fingerprint: CaFacts::of(certificate).fingerprint, certificate: Some(certificate.pem()) }
    }

    fn of_pem(pem: &str) -> Option<Self> {
        CaCertificate::parse(pem).ok().map(|certificate| Self::of(&certificate))
    }
}
