//! `backup`.

mod archive;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;

use super::custody::check_whole;
use super::desk::{self, Deed, Desk};
use super::{FolderArg, block_on, owner, vault_key};
use crate::app;
use crate::clock::{Clock, SystemClock};
use crate::config::Loaded;
use crate::custody::Sealer;
use crate::durable;
use crate::regular::{self, Links, folder_of};
use crate::store::copy::Place;
pub(super) use archive::read;

/// Where the archive has the database, the vault, and the configuration.
pub(super) const DATABASE: &str = "database.sqlite";
pub(super) const VAULT: &str = "vault.age";
pub(super) const CONFIG: &str = "config";

/// What the vault knows of the log's name and key, in the archive and below the vault's folder. It holds no secret.
pub(super) const PIN: &str = "audit-log.toml";
pub(super) const PIN_IN_VAULT: &str = "secrets/audit-log.toml";

/// The largest file of the configuration that is taken along, in bytes.
const LARGEST: u64 = 1 << 20;

/// Write one sealed file that holds database, custody and configuration. Works beside a running broker.
///
/// The database is copied as of one moment and read back, from SQLite or Postgres; the vault is in it as `custody backup` writes it;
/// of the configuration all that lies in the folder. What the configuration names elsewhere is not in it, nor are CA keys that
/// live at an OpenBao. Room for a copy of the database is needed beside the file.
///
/// It opens for the vault's recipients, or for those given with `--recipient` and nobody else. Give the public half of a key that
/// is kept elsewhere, or the backup is lost together with the host. Then try it out with `restore --drill`.
///
/// Where the vault lacks a file that one of its records names, the backup is written, what is missing is named, and the exit code is 1.
#[derive(Debug, Args)]
pub(super) struct BackUp {
    #[command(flatten)]
    folder: FolderArg,
    /// The file to write.
    file: PathBuf,
    /// Seal to this recipient instead of the vault's. May be given again.
    #[arg(long = "recipient", value_name = "RECIPIENT")]
    recipients: Vec<String>,
    /// Why; it goes into the audit.
    #[arg(long, value_parser = desk::reason)]
    reason: String,
}

impl BackUp {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        // all keys of the vault pass through this process
        let _ = crate::custody::harden_process();
        let loaded = self.folder.folder().load()?;
        owner::check(&loaded)?;
        let file = self.file.display();
        if self.file.symlink_metadata().is_ok() {
            bail!("`{file}` exists, and a backup overwrites nothing; name another file");
        }
        let parent = folder_of(&self.file);
        let beside = tempfile::Builder::new().prefix(".ichor-backup-").tempdir_in(parent)?;
        let vault = vault_key::vault(&loaded.settings)?;
        let custody = vault.backup(&self.recipients, SystemClock.now())?;
        custody.write(&beside.path().join(VAULT))?;
        let database = beside.path().join(DATABASE);
        let from = app::place_of(&loaded.settings)?;
        let to = Place::Sqlite(database.clone());
        let copied = block_on(async { Ok(crate::store::copy::copy(&from, &to).await?) })?;

        let mut files = vec![(beside.path().join(VAULT), VAULT.into()), (database, DATABASE.into())];
        let pin = loaded.settings.vault.join(PIN_IN_VAULT);
        if pin.exists() {
            files.push((pin, PIN.into()));
        }
        let others = files.len();
        for (path, inside) in configuration(&loaded)? {
            files.push((path, Path::new(CONFIG).join(inside)));
        }
        let mut sealed = tempfile::Builder::new().prefix(".new-").tempfile_in(parent)?;
        let recipients = vault.seal_into(&self.recipients, sealed.as_file_mut(), |out| archive::write(out, &files))?;
        sealed.as_file().sync_all()?;
        let digest = regular::digest(sealed.path(), Links::Refused)?;

        let deed = Deed {
            ca: true,
            message: match custody.lacks().len() {
                0 => format!("database, custody and configuration backed up to `{file}`"),
                some => {
                    format!("database, custody and configuration backed up to `{file}`; the vault lacks {some} files")
                }
            },
            reason: self.reason.clone(),
            digests: [("backup".to_owned(), digest.clone()), ("rows".to_owned(), copied.digest)].into(),
            ..Deed::default()
        };
        block_on(async {
            let desk = Desk::open(&loaded).await?;
            desk.record(deed).await?;
            desk.close().await;
            Ok(())
        })?;
        sealed
            .persist_noclobber(&self.file)
            .map_err(|error| error.error)
            .with_context(|| format!("cannot write `{file}`"))?;
        durable::sync_folder(parent)?;

        writeln!(out, "wrote `{file}`, sealed to {recipients}; it holds")?;
        writeln!(out, "  the database, {} entries of the log in {} rows", copied.entries, copied.rows)?;
        writeln!(out, "  {} files of the configuration", files.len().saturating_sub(others))?;
        for held in custody.holds() {
            writeln!(out, "  {held}")?;
        }
        writeln!(out, "sha256 {digest}")?;
        if self.recipients.is_empty() && vault.opens_only_by_itself() {
            writeln!(
                out,
                "warning: only the identity in the vault's own folder opens this backup, so both are lost together; give a \
                 key that is kept elsewhere with `--recipient`"
            )?;
        }
        writeln!(out, "next: see that it opens, with `ichor-broker restore {file} --drill --identity KEY`")?;
        check_whole(&self.file, &custody, out)
    }
}

/// The files of the configuration folder: where each is, and its path in the folder. Not the vault, nor where the database lies,
/// nor the log's anchor.
fn configuration(loaded: &Loaded) -> anyhow::Result<Vec<(PathBuf, PathBuf)>> {
    let settings = &loaded.settings;
    let root = loaded.folder.root();
    let left_out = [Some(settings.vault.as_path()), settings.database.parent(), settings.admin_socket.parent()];
    // an anchor that came back as old as the database would vouch for it
    let left_out = left_out.into_iter().chain([settings.audit.file.as_deref()]);
    let left_out: Vec<_> = left_out.flatten().filter(|path| *path != root).collect();
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read `{}`", folder.display()))? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if left_out.contains(&path.as_path()) || path == settings.admin_socket || is_of_database(&path, loaded) {
                continue;
            }
            if kind.is_dir() {
                // a vault that was moved away is no configuration, and its keys would not be sealed as the vault's are
                if !Sealer::is_at(&path) {
                    folders.push(path);
                }
            } else if kind.is_file() {
                if entry.metadata()?.len() > LARGEST {
                    bail!("`{}` is larger than a file of the configuration can be; move it elsewhere", path.display());
                }
                let inside = path.strip_prefix(root)?.to_owned();
                files.push((path, inside));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Whether the file is the SQLite database or lies beside it as a part of it.
fn is_of_database(path: &Path, loaded: &Loaded) -> bool {
    let database = &loaded.settings.database;
    path.parent() == database.parent()
        && matches!((path.file_name(), database.file_name()), (Some(name), Some(own))
            if name.to_string_lossy().starts_with(&*own.to_string_lossy()))
}
