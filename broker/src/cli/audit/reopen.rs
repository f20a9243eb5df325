//! `audit reopen`: a lawful restore.

use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use ichor_wire::log::{Checkpoint, Content, Kind, LogKey, OldHead, is_opened_again, numbered};

use super::rotate_key::{attest, by_hand};
use super::{alone, block_on};
use crate::app;
use crate::audit::anchor::Anchor;
use crate::audit::{self, Notary, Sequencer};
use crate::break_glass::{self, BreakGlassError};
use crate::cli::{FolderArg, vault_key};
use crate::clock::{Clock, SystemClock};
use crate::config::{AuditSettings, Loaded};
use crate::custody::{Custody, LogPin};
use crate::store::Store;

/// `audit reopen`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Reopen {
    #[command(flatten)]
    folder: FolderArg,
    /// The name of the log that an anchor holds, where it is another than this vault knows: it is given up for the one here
    #[arg(long, value_name = "NAME")]
    after: Option<String>,
    /// Why; it goes into the audit.
    #[arg(long, value_parser = crate::cli::desk::reason)]
    reason: String,
}

/// What is known of the log: what this vault knows, and what lies in the database and at the anchors.
struct Seen {
    pin: LogPin,
    /// The note that the database keeps.
    kept: Option<String>,
    /// What anchors hold, by what each is called.
    held: Vec<(String, String)>,
}

impl Reopen {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let custody = app::custody(&loaded, vault_key::vault(&loaded.settings)?)?;
        let (lost, notary, left) = block_on(async {
            let store = alone(&loaded).await?;
            self.reopen(&loaded, &custody, store).await
        })?;
        writeln!(
            out,
            "the log goes on as `{}`; its first entry there names the head that was lost:",
            notary.log().name()
        )?;
        writeln!(
            out,
            "  {} entries of `{}`, root {}",
            lost.size,
            lost.origin,
            data_encoding::HEXLOWER.encode(&lost.root)
        )?;
        writeln!(out, "its key is now {}; give that to whoever verifies the log, and to witnesses", notary.log())?;
        writeln!(out, "everyone who uses `ichor` here pins it, as `audit_key` in .ichor.toml")?;
        if let Some(why) = left {
            writeln!(out, "break-glass requests of before are over, and not all are shown so: {why}")?;
        }
        Ok(())
    }

    async fn reopen(
        &self,
        loaded: &Loaded,
        custody: &Custody,
        store: Arc<dyn Store>,
    ) -> anyhow::Result<(OldHead, Notary, Option<BreakGlassError>)> {
        let settings = &loaded.settings.audit;
        // what is there must fit together, whatever it is the continuation of
        let report = audit::verify_log(&*store).await?;
        let pin = match custody.log_pin()? {
            Some(pin) => pin,
            // the backup is older than the log's first start, which gave it this name
            None if report.restored.is_some() && store.checkpoint().await?.is_none() => {
                first(custody, settings).await?
            }
            None => bail!("this log was never opened: `ichor-broker serve` opens it"),
        };
        if app::open_log(custody, settings, &*store, SystemClock.now()).await.is_ok() {
            bail!("this log is what was signed and anchored, so there is nothing to open again; start the broker");
        }
        let anchors = app::anchors(custody.servers(), settings)?;
        let seen = Seen::look(pin, &*store, &anchors).await?;
        seen.check_meant(self.after.as_deref())?;
        let origin = app::next_origin(seen.names().iter().map(String::as_str), &settings.name);
        let origin = origin.context("the log has the highest number there is; give it another `audit.name`")?;
        if let Some((place, _)) = report.changes.iter().find(|(_, change)| change.origin == origin) {
            bail!(
                "entry {place} names a key of the log `{origin}`, which does not exist yet: somebody else writes the database"
            );
        }
        let (lost, strange) = (seen.lost()?, seen.strange()?);
        let notary = app::notary_over(anchors, settings, custody.audit_key().await?, &origin)?;
        let said = std::iter::once(format!("the log goes on as {origin}")).chain(strange);
        let content = Content {
            reason: Some(self.reason.clone()),
            message: Some(said.collect::<Vec<_>>().join("; ")),
            old_head: Some(lost.clone()),
            ..by_hand(Kind::LogOpened)
        };
        let left = record(loaded, Arc::clone(&store), content).await?;
        attest(custody, &*store, &notary).await?;
        Ok((lost, notary, left))
    }
}

/// What a vault would know of its log after the first start.
async fn first(custody: &Custody, settings: &AuditSettings) -> anyhow::Result<LogPin> {
    let key = LogKey::ed25519(&settings.name, &custody.audit_key().await?.public_key())?;
    let (origin, key) = (settings.name.clone(), key.to_string());
    Ok(LogPin { origin, key, anchored: Vec::new(), next: None, given_up: Vec::new(), rotations: Vec::new() })
}

/// Records that the log is opened again, and ends what was open in it: what became of that later is in what was lost. Answers why
/// not all of it is shown as ended, where that is so: by the entry it is, and nobody uses it.
async fn record(loaded: &Loaded, store: Arc<dyn Store>, content: Content) -> anyhow::Result<Option<BreakGlassError>> {
    let settings = app::sequencer_settings(&loaded.settings);
    let (sequencer, task) = Sequencer::start(Arc::clone(&store), Arc::new(SystemClock), settings);
    sequencer.note(content, None).await?;
    let ended = break_glass::end_all(&*store, &sequencer, &SystemClock).await;
    drop(sequencer);
    task.await?;
    Ok(ended.err())
}

// === impl Seen ===

impl Seen {
    async fn look(pin: LogPin, store: &dyn Store, anchors: &[Anchor]) -> anyhow::Result<Self> {
        let kept = store.checkpoint().await?.map(|kept| kept.note);
        let mut held = Vec::new();
        for anchor in anchors {
            held.extend(anchor.held().await?.map(|note| (anchor.said(), note)));
        }
        Ok(Self { pin, kept, held })
    }

    /// Every note, and where it lies.
    fn notes(&self) -> impl Iterator<Item = (&str, &str)> {
        let kept = self.kept.iter().map(|note| ("the database", note.as_str()));
        kept.chain(self.held.iter().map(|(who, note)| (who.as_str(), note.as_str())))
    }

    /// The checkpoints as they lie there, whoever signed them, and where.
    fn unverified(&self) -> impl Iterator<Item = (&str, Checkpoint)> {
        self.notes().filter_map(|(who, note)| Some((who, Checkpoint::parse_unverified(note).ok()?)))
    }

    /// Every name of the log that is known anywhere. None is taken a second time, whoever signed what bears it.
    fn names(&self) -> Vec<String> {
        let others = self.unverified().map(|(_, checkpoint)| checkpoint.origin().to_owned());
        std::iter::once(self.pin.origin.clone()).chain(others).collect()
    }

    /// Whether a log of another name, that an anchor knows or that the database is of while the vault is older, is meant to be
    /// given up.
    fn check_meant(&self, after: Option<&str>) -> anyhow::Result<()> {
        let known = &self.pin.origin;
        // a database that is older than the vault is what is opened again
        let is_other = |who: &str, origin: &str| match self.held.iter().any(|(anchor, _)| anchor == who) {
            true => origin != known,
            false => origin != known && !is_opened_again(origin, known),
        };
        for (who, checkpoint) in self.unverified() {
            let (origin, size) = (checkpoint.origin(), checkpoint.size());
            if is_other(who, origin) && after != Some(origin) {
                bail!(
                    "{who} holds {size} entries of the log `{origin}`, and this vault knows its log as `{known}`: what is here is of another \
                     time than that, or of another log; put back what belongs to `{origin}`, or, where that one is to be given up for this, \
                     say so with `--after '{origin}'`"
                );
            }
        }
        match after {
            Some(after) if !self.names().iter().any(|name| name == after) => {
                bail!("nobody here knows of a log `{after}`; leave `--after` out to see which one is known")
            }
            _ => Ok(()),
        }
    }

    /// The newest head that is known of the log: of the highest number the largest that the log's key signed.
    fn lost(&self) -> anyhow::Result<OldHead> {
        let mut newest = None;
        for (_, note) in self.notes() {
            newest = newest.into_iter().chain(self.signed(note)?).max_by_key(rank);
        }
        let (_, pinned) = numbered(&self.pin.origin);
        Ok(match newest.filter(|head| rank(head).0 >= pinned) {
            Some(head) => OldHead { origin: head.origin().to_owned(), size: head.size(), root: head.root().to_vec() },
            // everything that knew it is gone: what is left is its name
            None => OldHead { origin: self.pin.origin.clone(), size: 0, root: vec![0; 32] },
        })
    }

    /// What is to be said of an anchor that holds what the key of this vault did not sign.
    fn strange(&self) -> anyhow::Result<Option<String>> {
        let mut said = Vec::new();
        for (who, note) in self.notes() {
            if let (None, Ok(held)) = (self.signed(note)?, Checkpoint::parse_unverified(note)) {
                said.push(format!("{who} had {} entries of {}, signed by another key", held.size(), held.origin()));
            }
        }
        Ok((!said.is_empty()).then(|| said.join("; ")))
    }

    /// The checkpoint in a note that the log's key signed, under whichever name.
    fn signed(&self, note: &str) -> anyhow::Result<Option<Checkpoint>> {
        let pinned: LogKey = self.pin.key.parse().context("the vault's audit-log.toml")?;
        let Ok(unverified) = Checkpoint::parse_unverified(note) else { return Ok(None) };
        let Ok(key) = LogKey::ed25519(unverified.origin(), pinned.public()) else { return Ok(None) };
        Ok(Checkpoint::parse_and_verify(note, &key).ok())
    }
}

/// What of two heads of one log is newer.
fn rank(head: &Checkpoint) -> (u32, u64) {
    (numbered(head.origin()).1, head.size())
}
