//! `ca retire`: what former CAs leave. What is compromised is in `compromised`.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context, bail};
use clap::Args;
use ichor_wire::profile::CaCertificate;
use jiff::{SignedDuration, Timestamp};

use super::compromised;
use crate::app;
use crate::audit;
use crate::cli::desk::{Deed, Desk};
use crate::cli::{FolderArg, block_on, vault_key};
use crate::clock::{Clock, SystemClock};
use crate::config::Loaded;
use crate::custody::ca::CaFacts;
use crate::custody::{Custody, CustodyError, ForeignCa, Former, KnownCas, Place, RETIRED, Record};
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
    /// The CA that is compromised, a former one too: the SHA-256 of its certificate, hex, or how that begins, eight digits at least.
    /// Needed while a rotation is under way, and where one was retired so before: the same command again never takes the next.
    #[arg(long, value_name = "SHA256", requires = "compromised", value_parser = compromised::fingerprint)]
    certificate: Option<String>,
    /// What was left of former CAs in KV was taken away at its server: no reminder of it any more. Refused where one is seen to be there.
    #[arg(long, conflicts_with = "compromised")]
    left: bool,
    /// Why; it goes into the audit.
    #[arg(long, value_parser = crate::cli::desk::reason)]
    reason: String,
}

/// For so long after a new CA took its place, what the former one signs may be recorded.
const UNDER_WAY: SignedDuration = SignedDuration::from_mins(2);

/// A retirement at work.
pub(super) struct Work<'a> {
    pub(super) custody: &'a Custody,
    pub(super) cluster: &'a ClusterName,
    pub(super) desk: &'a Desk,
    pub(super) known: KnownCas,
    reason: &'a str,
    pub(super) now: Timestamp,
}

/// What is known of a CA, or of a standing credential.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) fingerprint: String,
    /// A CA's certificate, PEM.
    pub(super) certificate: Option<String>,
}

impl Retire {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let cluster = super::declared(&loaded, &self.cluster)?;
        let custody = app::custody(&loaded, vault_key::vault(&loaded.settings)?)?;
        let record = custody.record(&cluster)?;
        block_on(async {
            let desk = Desk::open(&loaded).await?;
            let known = app::known_cas(&loaded.settings).await?;
            let (custody, cluster, reason) = (&custody, &cluster, self.reason.as_str());
            let work = Work { custody, cluster, desk: &desk, known, reason, now: SystemClock.now() };
            let done = match (self.compromised, self.left) {
                (true, _) => work.compromised(&record, self.certificate.as_deref(), out).await,
                (_, true) => work.left(&record, out).await,
                _ => work.former(&record, &loaded, out).await,
            };
            let taken = match done {
                Ok(_) => desk.reload().await,
                Err(_) => Ok(Vec::new()),
            };
            desk.close().await;
            if done? {
                writeln!(out, "  talosctl -n NODE get machineconfig v1alpha1 -o jsonpath='{{.spec}}' > node.yaml")?;
                let at = self.folder.said();
                writeln!(out, "  ichor-broker ca removal-patch {cluster} --former --machine-config node.yaml{at}")?;
            }
            // what is to be done at the nodes is said whatever the broker answers
            let checks = taken.context("what is said above was done, but the broker that runs here did not answer")?;
            match checks.into_iter().find(|check| !check.ok && check.name == "ca keys") {
                Some(check) => {
                    bail!(
                        "what is said above was done, but the running broker has not taken it up: {}",
                        check.detail.unwrap_or_default()
                    )
                }
                None => Ok(()),
            }
        })
    }
}

impl Work<'_> {
    /// What issued before goes out of custody: its certificates are kept, for the nodes.
    async fn former(&self, record: &Record, loaded: &Loaded, out: &mut dyn Write) -> anyhow::Result<bool> {
        let (cluster, sealer) = (self.cluster, self.custody.vault().sealer());
        let Some(last) = record.former.last() else {
            bail!("no former CA of cluster `{cluster}` is left; `--compromised` retires the one in force");
        };
        let store = app::read_store(&loaded.settings).await?;
        let issued = last.until.saturating_add(UNDER_WAY).unwrap_or(last.until);
        let logged = audit::last_end(&*store, cluster, issued, self.now).await?;
        // the bound may have been another one when they were issued, and a log that was restored may not have them
        let until = last.until.saturating_add(loaded.settings.max_ttl).unwrap_or(last.until);
        let until = logged.map_or(until, |end| end.max(until));
        if until > self.now {
            bail!("certificates of the former CA may be valid until {until}; retire it after that");
        }
        let mut seen = Vec::new();
        let mut kept = record.clone();
        for former in &mut kept.former {
            let found = self.seen_before(former).await;
            if let Some(first) = found.first() {
                former.certificate.clone_from(&first.certificate);
            }
            seen.extend(found);
        }
        let places: Vec<_> = record.former.iter().map(|former| former.place.clone()).collect();
        let said: Vec<_> = places.iter().map(Place::said).collect();
        // what issues may be one of them, as after an import of the same into another custody: then it is not retired
        let active = self.staying(Some(&record.active)).await?;
        let to_come = self.staying(record.next()).await?;
        let stays: Vec<String> = active.iter().chain(&to_come).cloned().collect();
        // nor does a record make it so: what is in force is what the log named last but for the one to come, which is always another
        let newest = self.known.newest(cluster).map(str::to_owned);
        let is_so = |it: &String| {
            let it = Some(it);
            it != to_come.as_ref() && it == active.as_ref() && (newest == active || newest == to_come)
        };
        let is_wrong = |seen: &&Seen| stays.contains(&seen.fingerprint) && !is_so(&seen.fingerprint);
        if let Some(same) = seen.iter().find(is_wrong) {
            bail!(
                "by the record the former CA with the certificate sha256 {} is in force or to come as well, and the log named another after \
                 it, so nothing was retired; look at who writes the vault's folder, or bring the record of the broker where the new one was made",
                same.fingerprint
            );
        }
        let digests = numbered(seen.iter(), &stays);
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
                Place::TalosApi if record.active == Place::TalosApi => {}
                Place::TalosApi => writeln!(
                    out,
                    "removed the adopted credential from the vault; copies of it elsewhere work until it expires"
                )?,
                Place::Retired => {}
                place => {
                    writeln!(out, "remove it at the server, with a token that may: {}", place.said())?;
                    place.removal().map_or(Ok(()), |removal| writeln!(out, "  {removal}"))?;
                }
            }
        }
        let is_to_go = kept.former.iter().any(|former| former.certificate.is_some());
        if is_to_go {
            writeln!(out, "If a node still accepts one of them, take it out there; for each such node:")?;
        }
        Ok(is_to_go)
    }

    /// What was left at servers is told of no more.
    async fn left(&self, record: &Record, out: &mut dyn Write) -> anyhow::Result<bool> {
        let cluster = self.cluster;
        let said: Vec<_> = record.left().map(Place::said).collect();
        if said.is_empty() {
            bail!("nothing of cluster `{cluster}` is known to be left at a server");
        }
        let left = self.custody.left_at_servers(Some(cluster), &self.known).await?;
        if let Some(there) = left.iter().find(|left| left.is_seen) {
            bail!(
                "{} is still there; remove it with all its versions first, with a token that may: {}",
                there.place.said(),
                there.place.removal().unwrap_or_default()
            );
        }
        let deed = self.deed(format!("nothing is left any more, as was said, of: {}", said.join(", ")));
        let done = async || Ok(record.without_left().replace(self.custody.vault().sealer().dir(), cluster, record)?);
        self.desk.act(deed, "the record still names them", done).await?;
        said.iter().try_for_each(|said| writeln!(out, "no reminder of {said} any more"))?;
        Ok(false)
    }

    /// The fingerprint of what issues there, or is to; `None` where nothing does.
    async fn staying(&self, place: Option<&Place>) -> anyhow::Result<Option<String>> {
        let Some(place) = place.filter(|place| **place != Place::Retired) else { return Ok(None) };
        match self.seen(place).await {
            Some(seen) => Ok(Some(seen.fingerprint)),
            None => bail!(
                "{} cannot be read, so whether it is one of the former CAs cannot be told, and nothing was retired; run this again once \
                 `ichor-broker check` opens it",
                place.said()
            ),
        }
    }

    pub(super) fn deed(&self, message: String) -> Deed {
        Deed {
            ca: true,
            cluster: Some(self.cluster.to_string()),
            message: format!("cluster `{}`: {message}", self.cluster),
            reason: self.reason.to_owned(),
            ..Deed::default()
        }
    }

    /// What the place holds, as far as it can be read; also where the log retired it already.
    pub(super) async fn seen(&self, place: &Place) -> Option<Seen> {
        if *place == Place::TalosApi {
            let credential = self.custody.vault().open_talos_credential(self.cluster).ok()?;
            return Some(Seen { fingerprint: credential.fingerprint(), certificate: None });
        }
        let found = match self.custody.certificate_at(self.cluster, place, &self.known).await {
            Err(CustodyError::Foreign(ForeignCa::Retired { .. })) => {
                self.custody.certificate_at(self.cluster, place, &KnownCas::default()).await
            }
            found => found,
        };
        found.ok().map(|certificate| Seen::of(&certificate))
    }

    /// The same of a CA that issued before: first what its record kept, where the log names that, for whoever writes the folder can write
    /// another there; then what lies at its place, where that is another, for who writes at a server can publish one there.
    pub(super) async fn seen_before(&self, former: &Former) -> Vec<Seen> {
        let is_named = |kept: &Seen| {
            let said = self.known.check_fingerprint(self.cluster, kept.fingerprint.clone());
            matches!(said, Ok(_) | Err(ForeignCa::Retired { .. }))
        };
        let kept = former.certificate.as_deref().and_then(Seen::of_pem).filter(is_named);
        let there = self.seen(&former.place).await;
        let another = there.filter(|there| kept.as_ref().is_none_or(|kept| kept.fingerprint != there.fingerprint));
        kept.into_iter().chain(another).collect()
    }
}

/// The digests of an entry by which these are to issue no more, but for those that stay.
pub(super) fn numbered<'s>(retired: impl Iterator<Item = &'s Seen>, stays: &[String]) -> BTreeMap<String, String> {
    let retired = retired.map(|seen| seen.fingerprint.clone()).filter(|seen| !stays.contains(seen));
    retired.enumerate().map(|(number, fingerprint)| (format!("{RETIRED} {}", number + 1), fingerprint)).collect()
}

impl Seen {
    fn of(certificate: &CaCertificate) -> Self {
        Self { fingerprint: CaFacts::of(certificate).fingerprint, certificate: Some(certificate.pem()) }
    }

    pub(super) fn of_pem(pem: &str) -> Option<Self> {
        CaCertificate::parse(pem).ok().map(|certificate| Self::of(&certificate))
    }
}
