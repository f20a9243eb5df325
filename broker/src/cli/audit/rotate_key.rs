//! `audit rotate-key`.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::bail;
use clap::{Args, ValueEnum};
use ichor_wire::log::{Checkpoint, Content, KeyChange, Kind, LogKey};

use super::{alone, block_on};
use crate::app;
use crate::audit::{self, Notary, Sequencer};
use crate::cli::ca::{operator, server_name};
use crate::cli::{FolderArg, vault_key};
use crate::clock::{Clock, SystemClock};
use crate::config::Loaded;
use crate::custody::{Custody, CustodyError, Home, KeyRotation, LogPin, Secret};
use crate::http::admin::user_name;
use crate::openbao::Client;
use crate::store::{Grown, Store};

/// Where an audit key can live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kept {
    /// In a file of the vault.
    Age,
    /// As a secret of KV version 2.
    Kv,
    /// In Transit, where it is born and never leaves.
    Transit,
}

/// `audit rotate-key`.
#[derive(Debug, Args)]
pub(in crate::cli) struct RotateKey {
    #[command(flatten)]
    folder: FolderArg,
    /// Where the new key is to live.
    #[arg(long, value_enum, default_value_t = Kept::Age)]
    to: Kept,
    /// Which [[openbao]] of config.toml, where there are several.
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// The engine's mount there: `transit` or `secret` unless told otherwise.
    #[arg(long, value_name = "PATH")]
    mount: Option<String>,
    /// The Transit key's name, or what the KV secret's path begins with: `ichor.audit`, or `ichor-broker/audit-key`, unless
    /// told otherwise.
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    /// A file with an operator's token, which makes the key and no more: the broker's own need not write.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Why; it goes into the audit.
    #[arg(long, value_parser = crate::cli::desk::reason)]
    reason: String,
}

impl RotateKey {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let custody = app::custody(&loaded, vault_key::vault(&loaded.settings)?)?;
        let to = self.home(&loaded)?;
        let maker = match (&self.token_file, to.server()) {
            (None, _) => None,
            (Some(token), Some(server)) => Some(operator(&loaded, server, token)?),
            (Some(_), None) => {
                bail!("`--token-file` is for `--to kv` and `--to transit`; a file of the vault needs no token")
            }
        };
        let (home, notary) = block_on(async {
            let store = alone(&loaded).await?;
            rotate(&loaded, &custody, store, to, maker.as_ref(), &self.reason).await
        })?;
        writeln!(out, "the log is signed from now on by {}", notary.log())?;
        writeln!(out, "the key lives here: {}", home.said(Secret::Audit))?;
        writeln!(
            out,
            "give the line above to whoever verifies the log, and to witnesses; the old key stays where it is"
        )?;
        Ok(())
    }

    fn home(&self, loaded: &Loaded) -> anyhow::Result<Home> {
        let (mount, key) = (self.mount.clone(), self.key.clone());
        let server = || server_name(self.server.clone(), loaded);
        Ok(match self.to {
            Kept::Age => Home::AGE,
            Kept::Kv => Home::Kv {
                server: server()?,
                mount: mount.unwrap_or_else(|| "secret".into()),
                path: key.unwrap_or_else(|| "ichor-broker/audit-key".into()),
            },
            Kept::Transit => Home::TransitKey {
                server: server()?,
                mount: mount.unwrap_or_else(|| "transit".into()),
                key: key.unwrap_or_else(|| "ichor.audit".into()),
                version: 1,
            },
        })
    }
}

/// The new key is made, recorded under the one before, and only then used.
async fn rotate(
    loaded: &Loaded,
    custody: &Custody,
    store: Arc<dyn Store>,
    to: Home,
    maker: Option<&Client>,
    reason: &str,
) -> anyhow::Result<(Home, Notary)> {
    let (settings, now) = (&loaded.settings, SystemClock.now());
    let old = match app::open_log(custody, &settings.audit, &*store, now).await {
        Ok(opened) => Some(opened),
        // a folder of before; one whose log was signed once is not
        Err(app::LogError::Custody(CustodyError::NoAuditKey)) if custody.log_pin()?.is_none() => None,
        Err(error) => return Err(error.into()),
    };
    let origin = old.as_ref().map_or(settings.audit.name.as_str(), |(notary, _)| notary.log().name()).to_owned();
    let (home, key) = custody.make_audit_key(to, maker).await?;
    let new = app::notary(custody, &settings.audit, key, &origin)?;
    let content = Content {
        reason: Some(reason.to_owned()),
        message: Some(format!("the log's key lives here from now on: {}", home.said(Secret::Audit))),
        log_key: Some(KeyChange {
            origin,
            new: new.log().to_string(),
            old: old.as_ref().map(|(notary, _)| notary.log().to_string()),
        }),
        ..by_hand(Kind::AuditKey)
    };
    let before = old.as_ref().map(|(notary, _)| notary.log().clone());
    if let Some(pin) = custody.log_pin()? {
        // no entry is believed to change the key that is not announced where who writes the database cannot write
        let given_up = pin.given_up.iter().chain(&pin.next).cloned().collect();
        custody.pin_log(&LogPin { next: Some(new.log().to_string()), given_up, ..pin })?;
    }
    let index = record(loaded, Arc::clone(&store), old, content).await?;
    if let (Some(before), Some(pin)) = (before, custody.log_pin()?) {
        let rotation = KeyRotation { index, checkpoint: signed_by(&before, &*store, index).await? };
        custody.pin_log(&LogPin { rotations: [pin.rotations.clone(), vec![rotation]].concat(), ..pin })?;
    }
    custody.use_audit_key(&home)?;
    attest(custody, &*store, &new).await?;
    Ok((home, new))
}

/// What the key before signed of the entry that names the next one: without it nobody could follow from that key to the next.
///
/// # Errors
/// When it did not sign that: it may have stopped signing a moment ago, and entries are recorded without it for a time.
async fn signed_by(before: &LogKey, store: &dyn Store, index: u64) -> anyhow::Result<String> {
    let kept = store.checkpoint().await?.map(|kept| kept.note).unwrap_or_default();
    let size = Checkpoint::parse_and_verify(&kept, before).map_or(0, |checkpoint| checkpoint.size());
    if size <= index {
        bail!(
            "the key before has not signed entry {index}, which names the new key, so nobody could follow from the one to the other: the log's \
             key is not changed, and the new one is made and not used; once the key before signs again, run this once more (for Transit with \
             another `--key`)"
        );
    }
    Ok(kept)
}

/// Records the entry, vouched for by the notary where there is one, ends the sequencer with all it has, and answers the entry's
/// index.
async fn record(
    loaded: &Loaded,
    store: Arc<dyn Store>,
    notary: Option<(Arc<Notary>, audit::Opened)>,
    content: Content,
) -> anyhow::Result<u64> {
    let (clock, settings) = (Arc::new(SystemClock), app::sequencer_settings(&loaded.settings));
    let (sequencer, task) = match notary {
        Some((notary, opened)) => Sequencer::vouched(store, clock, settings, notary, opened.standing),
        None => Sequencer::start(store, clock, settings),
    };
    let receipt = sequencer.note(content, None).await?;
    drop(sequencer);
    task.await?;
    Ok(receipt.index)
}

/// Signs and anchors the newest tree, keeps that, and pins the log.
pub(super) async fn attest(custody: &Custody, store: &dyn Store, notary: &Notary) -> anyhow::Result<()> {
    let size = store.head().await?.size;
    let tree = Arc::new(Grown { edge: store.edge(size).await?, tiles: Vec::new() });
    let opened = audit::attest(store, notary, tree, SystemClock.now()).await?;
    Ok(app::pin_log(custody, custody.log_pin()?.as_ref(), notary, opened.standing.anchor_out.is_none())?)
}

/// Content of an act on this host.
pub(super) fn by_hand(kind: Kind) -> Content {
    Content {
        host: Some(nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()),
        os_user: Some(user_name(nix::unistd::getuid().as_raw())),
        ..Content::of(kind)
    }
}
