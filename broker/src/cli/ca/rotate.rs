//! `ca rotate`: a new CA beside the old one, waited for, then put in force. Each step is recorded and can be taken up again.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use ichor_wire::profile::CaCertificate;

use super::keep::{about, digests, leave, put, taken_up, tried};
use super::probe::{Nodes, Probing};
use super::target::{At, Kind};
use crate::app;
use crate::cli::desk::{Deed, Desk};
use crate::cli::{FolderArg, block_on, vault_key};
use crate::clock::{Clock, SystemClock};
use crate::config::Loaded;
use crate::custody::ca::{self, CaFacts};
use crate::custody::{
    Custody, CustodyError, For, ForeignCa, KnownCas, Place, Places, RETIRED, Record, Rotation, Settled,
};
use crate::domain::ClusterName;

/// How often nodes that do not accept the new CA yet are asked again.
const PACE: Duration = Duration::from_secs(5);

/// `ca rotate`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Rotate {
    #[command(flatten)]
    folder: FolderArg,
    /// The cluster.
    cluster: String,
    /// Go on with the rotation that is under way.
    #[arg(long = "continue", conflicts_with_all = ["abandon", "custody", "years", "token_file"])]
    go_on: bool,
    /// Drop the rotation that is under way: the CA in force stays. Take the new CA out of nodes that were patched already.
    #[arg(long)]
    abandon: bool,
    /// The CA that is dropped, by the SHA-256 of its certificate, hex, or how that begins. Needed where it may have issued, as the log has it.
    #[arg(long, value_name = "SHA256", requires = "abandon", value_parser = super::compromised::fingerprint)]
    certificate: Option<String>,
    /// Where the new CA's key lives, if not where the old one's does.
    #[arg(long, value_enum)]
    custody: Option<Kind>,
    #[command(flatten)]
    at: At,
    /// How many years the new CA lasts, 1 to 10.
    #[arg(long, default_value_t = ca::DEFAULT_YEARS)]
    years: u16,
    #[command(flatten)]
    nodes: Nodes,
    /// How long to wait for the nodes, as `10m`; `0s` asks them once.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = super::wait)]
    wait: Duration,
    /// Why; it goes into the audit.
    #[arg(long, value_parser = crate::cli::desk::reason)]
    reason: String,
}

/// A rotation at work.
struct Work<'a> {
    loaded: &'a Loaded,
    custody: Arc<Custody>,
    cluster: ClusterName,
    desk: Desk,
    reason: String,
    at: String,
}

impl Rotate {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let cluster = super::declared(&loaded, &self.cluster)?;
        let custody = Arc::new(app::custody(&loaded, vault_key::vault(&loaded.settings)?)?);
        block_on(async {
            let desk = Desk::open(&loaded).await?;
            let (reason, at) = (self.reason.clone(), self.folder.said());
            let work = Work { loaded: &loaded, custody, cluster, desk, reason, at };
            let done = self.steps(&work, out).await;
            work.desk.close().await;
            done
        })
    }

    async fn steps(&self, work: &Work<'_>, out: &mut dyn Write) -> anyhow::Result<()> {
        let record = work.custody.record(&work.cluster)?;
        let cluster = &work.cluster;
        match (&record.rotation, self.go_on, self.abandon) {
            (None, false, false) => self.begin(work, &record, out).await?,
            (None, ..) => bail!("no rotation of cluster `{cluster}` is under way; begin one without this option"),
            (Some(rotation), false, false) => bail!(
                "a rotation of cluster `{cluster}` is under way since {}; `--continue` goes on with it, `--abandon` drops it",
                rotation.begun
            ),
            (Some(rotation), _, true) => {
                work.abandon(&record, &rotation.next, self.certificate.as_deref(), out).await?;
                writeln!(out, "dropped; the CA in force is still {}", record.active.said())?;
                writeln!(
                    out,
                    "the key of the one that is dropped stays where it is; remove it there: {}",
                    rotation.next.said()
                )?;
                rotation.next.removal().map_or(Ok(()), |removal| writeln!(out, "  {removal}"))?;
                writeln!(out, "Take it out of nodes that were patched already; for each such node:")?;
                writeln!(out, "  talosctl -n NODE get machineconfig v1alpha1 -o jsonpath='{{.spec}}' > node.yaml")?;
                let at = &work.at;
                writeln!(out, "  ichor-broker ca removal-patch {cluster} --former --machine-config node.yaml{at}")?;
                return Ok(());
            }
            (Some(rotation), true, false) => writeln!(out, "going on with {}", rotation.next.said())?,
        }
        let record = work.custody.record(cluster)?;
        let Some(rotation) = &record.rotation else { bail!("no rotation is under way") };
        match work.wait(rotation, &self.nodes, self.wait, out).await? {
            true => work.switch(&record, rotation, out).await,
            false => work.not_yet(out),
        }
    }

    /// A new CA beside the old one. Ended before its record, the next try takes up what is there.
    async fn begin(&self, work: &Work<'_>, record: &Record, out: &mut dyn Write) -> anyhow::Result<()> {
        let (cluster, now) = (&work.cluster, SystemClock.now());
        let kind = self.custody.map_or_else(|| Kind::of(&record.active), Ok)?;
        let target = self.at.beside(&record.active, kind).target(kind, work.loaded)?;
        let of = For { cluster, generation: record.generation + 1, replace: false, awaited: None };
        let servers = self.at.clients(&target, work.loaded)?;
        // a name that is none makes no key
        let nodes = self.nodes.named(work.loaded, cluster)?;
        let (sealer, known) = (work.custody.vault().sealer(), &app::known_cas(&work.loaded.settings).await?);
        let places = Places { sealer, servers: &servers, known };
        let deed = work.deed("rotation begun: a new client CA is made".into(), None);
        let make = async || {
            let settled = places.create(of, &target, now, self.years).await?;
            // nothing names it yet
            let tried = tried(&work.custody, cluster, &settled.place, &KnownCas::default()).await;
            tried.inspect_err(|_| leave(sealer, cluster, record, &settled.place))?;
            anyhow::Ok(settled)
        };
        let settled = work.desk.act(deed, "the CA in force is what it was", make).await?;
        let rotating = record.rotating(settled.place.clone(), nodes, now);
        let made = work.deed(format!("new client CA made: {}", settled.place.said()), Some(&settled));
        let written = async || Ok(put(sealer, cluster, &settled.place, &rotating, record)?);
        work.desk.act(made, "the CA in force is what it was", written).await?;
        settled.remarks.iter().try_for_each(|remark| writeln!(out, "{remark}"))?;
        write!(out, "{}", ca::rotating_text(cluster, &settled.certificate.pem(), &settled.place.said(), &work.at)?)?;
        Ok(())
    }
}

impl Work<'_> {
    fn dir(&self) -> &std::path::Path {
        self.custody.vault().sealer().dir()
    }

    fn deed(&self, message: String, settled: Option<&Settled>) -> Deed {
        let message = format!("cluster `{}`: {message}", self.cluster);
        let of = |settled: &Settled| about(&CaFacts::of(&settled.certificate), Some(&settled.place));
        let digests = settled.map(of).unwrap_or_default();
        Deed { ca: true, cluster: Some(self.cluster.to_string()), message, reason: self.reason.clone(), digests }
    }

    /// Records that the new CA is not used, and, by its digest, that it is to issue no more: else the log would go on to name it as
    /// one of this cluster's. Where it cannot be read any more, that is said. Then the record: where another command was first and the
    /// CA is in force or to come all the same, the log has it back.
    async fn abandon(
        &self,
        record: &Record,
        next: &Place,
        named: Option<&str>,
        out: &mut dyn Write,
    ) -> anyhow::Result<()> {
        let known = app::known_cas(&self.loaded.settings).await?;
        let in_force = self.custody.certificate(&self.cluster, &known).await.ok();
        let mut deed = self.deed(format!("rotation dropped: {} is not used", next.said()), None);
        let found = match self.custody.certificate_at(&self.cluster, next, &known).await {
            // a command before was ended between the two
            Err(CustodyError::Foreign(ForeignCa::Retired { .. })) => {
                self.custody.certificate_at(&self.cluster, next, &KnownCas::default()).await
            }
            found => found,
        };
        let mut dropped = None;
        match found {
            // a record that was tampered with does not retire the CA in force
            Ok(found) if in_force.as_ref().is_some_and(|it| it.fingerprint() == found.fingerprint()) => {}
            Ok(found) => {
                let print = CaFacts::of(&found).fingerprint;
                let is_named = named.is_some_and(|named| print.starts_with(named));
                // nor one that was in force and that somebody wrote down as the one to come
                if known.may_have_issued(&self.cluster, &print) && !is_named {
                    bail!(
                        "the CA that is to come by the record, with the certificate sha256 {print}, may have issued, as the log has it, so nothing \
                         was dropped; look at who writes the vault's folder, and where it is meant all the same, name it: `ichor-broker ca \
                         rotate {} --abandon --certificate {print} --reason …`",
                        self.cluster
                    );
                }
                deed.digests.insert(format!("{RETIRED} 1"), print);
                dropped = Some(found);
            }
            Err(error) => {
                deed.message = format!("{}; its certificate cannot be read, so no digest of it is here", deed.message);
                writeln!(out, "the log goes on to name the CA that is dropped, for it cannot be read: {error}")?;
            }
        }
        self.desk.record(deed).await?;
        let after = record.abandoned(dropped.as_ref().map(CaCertificate::pem));
        let written = after.replace(self.dir(), &self.cluster, record);
        // another command may have dropped it as well
        let now = Record::read(self.dir(), &self.cluster).ok().flatten();
        let is_used = now.is_some_and(|now| now.in_use().any(|place| place == next));
        if let (Err(error), Some(certificate), true) = (&written, dropped, is_used) {
            let settled = Settled { place: next.clone(), certificate, remarks: Vec::new() };
            let message = format!("rotation not dropped after all: {} may be used: {error}", next.said());
            let brought = digests(&CaFacts::of(&settled.certificate), Some(&settled.place));
            // the entry above retired it, and this one has it back
            self.desk.record(Deed { digests: brought, ..self.deed(message, None) }).await?;
        }
        Ok(written?)
    }

    /// Whether every node accepts the new CA, asked until they do or the time is over.
    async fn wait(
        &self,
        rotation: &Rotation,
        nodes: &Nodes,
        time: Duration,
        out: &mut dyn Write,
    ) -> anyhow::Result<bool> {
        let nodes = if nodes.is_empty() { rotation.nodes.clone() } else { nodes.named(self.loaded, &self.cluster)? };
        let probing = Probing { loaded: self.loaded, custody: &self.custody, cluster: &self.cluster, desk: &self.desk };
        let end = tokio::time::Instant::now() + time;
        let mut told = Vec::new();
        loop {
            let answers = probing.ask(&nodes, true).await?;
            let lines: Vec<_> = answers.iter().map(ToString::to_string).collect();
            // what did not change is not said again
            for line in lines.iter().filter(|line| !told.contains(*line)) {
                writeln!(out, "  {line}")?;
            }
            told = lines;
            if answers.iter().all(|answer| answer.is_accepted) {
                return Ok(true);
            }
            if tokio::time::Instant::now() + PACE > end {
                return Ok(false);
            }
            tokio::time::sleep(PACE).await;
        }
    }

    /// The new CA in force: the one that the nodes were asked about, where no other command changed the record meanwhile.
    async fn switch(&self, record: &Record, rotation: &Rotation, out: &mut dyn Write) -> anyhow::Result<()> {
        let (cluster, now) = (&self.cluster, SystemClock.now());
        let known = app::known_cas(&self.loaded.settings).await?;
        // what was adopted or retired has none, and one that cannot be opened any more is no reason to keep it in force
        let old = self.custody.certificate(cluster, &known).await.ok();
        let new = self.custody.open_place(cluster, &rotation.next, &known).await?;
        let settled = Settled { place: rotation.next.clone(), certificate: new.certificate, remarks: Vec::new() };
        let message =
            format!("every named node accepts the new CA, which issues from now on: {}", settled.place.said());
        let after = record.succeeded_by(rotation.next.clone(), now, old.map(|old| old.pem()));
        let switched = async || Ok(after.replace(self.dir(), cluster, record)?);
        self.desk.act(self.deed(message, Some(&settled)), "the CA in force is what it was", switched).await?;
        let place = settled.place.said();
        let taken = self.desk.reload().await.map_err(|error| format!("{error:#}"));
        if let Err(why) = taken.and_then(|checks| taken_up(cluster, checks)) {
            writeln!(out, "by the record the new CA is in force ({place})")?;
            let ttl = self.loaded.settings.max_ttl;
            bail!(
                "the running broker goes on with the old CA: {why} Take the old one out of no node until {ttl:#} after readiness says `ca \
                 {cluster}` is well; what is to be done then: `ichor-broker ca removal-patch {cluster} --former --machine-config …{at}`, \
                 then `ichor-broker ca retire {cluster} --reason …{at}`",
                at = self.at
            );
        }
        let until = now.saturating_add(self.loaded.settings.max_ttl).unwrap_or(now);
        write!(out, "{}", ca::rotated_text(cluster, &place, until, &self.at))?;
        Ok(())
    }

    fn not_yet(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        let (cluster, at) = (&self.cluster, &self.at);
        writeln!(out, "the old CA stays in force until they all do; apply the patch, then go on:")?;
        writeln!(out, "  ichor-broker ca patch {cluster} --next{at}")?;
        writeln!(out, "  ichor-broker ca rotate {cluster} --continue --reason …{at}")?;
        bail!("not every node accepts the new CA yet")
    }
}
