//! `restore`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use jiff::Timestamp;

use super::backup::{CONFIG, DATABASE, PIN, PIN_IN_VAULT, VAULT, read};
use super::custody::{identity, tell};
use super::{block_on, desk, owner};
use crate::audit::{self, Sequencer};
use crate::clock::SystemClock;
use crate::config::{Folder, Settings};
use crate::custody::{Archived, Plugins, open_sealed};
use crate::durable;
use crate::regular::{self, Links, folder_of};
use crate::store::Store;
use crate::store::sqlite::{Options, SqliteStore};

/// Make a broker's folder of a backup, or see whether one would do.
///
/// The folder must be missing or empty, and then it is there whole or not at all: configuration, vault, and the database as a SQLite
/// file. The whole log is checked before, and its newest entry then tells of the restore: no broker starts on it until `audit reopen`
/// goes on with it under the log's next name. Where the configuration names a Postgres database, the next step is printed that
/// fills it.
///
/// Whatever its configuration says, nothing is made outside of that folder, and no file takes another's place.
///
/// With `--drill` all of that is done in a temporary folder beside the backup, which is then removed.
#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The backup, as `backup` writes it.
    file: PathBuf,
    /// The folder to make.
    #[arg(long, value_name = "DIR", required_unless_present = "drill", conflicts_with = "drill")]
    to: Option<PathBuf>,
    /// Only see whether the backup opens and all in it is good.
    #[arg(long)]
    drill: bool,
    /// What opens the backup: an identity file, an OpenSSH private key, or a copy of `identity.age`.
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    /// Why; it goes into the audit of what is restored.
    #[arg(long, value_parser = desk::reason, required_unless_present = "drill")]
    reason: Option<String>,
}

/// Where a database goes that the configuration keeps elsewhere, in the folder.
const DATABASE_IN_FOLDER: &str = "data/ichor.db";

/// Where a restore puts things: in the folder that it makes, and nowhere else.
#[derive(Debug)]
struct Places {
    database: PathBuf,
    /// To be there, with or without files.
    folders: Vec<PathBuf>,
}

/// What was restored into a folder.
struct Restored {
    entries: u64,
    files: usize,
    settings: Settings,
    database: PathBuf,
    /// Whose it is, a line each.
    told: Vec<u8>,
    /// What is no good in the vault, or missing, a line each.
    bad: Vec<String>,
}

impl Restore {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let _ = crate::custody::harden_process();
        let parent = folder_of(self.to.as_ref().unwrap_or(&self.file));
        if let Some(to) = &self.to {
            owner::check_folder(parent)?;
            if fs::read_dir(to).is_ok_and(|mut files| files.next().is_some()) {
                bail!("`{}` is not empty, and a restore overwrites nothing; name a new folder", to.display());
            }
        }
        let beside = tempfile::Builder::new().prefix(".ichor-restore-").tempdir_in(parent)?;
        let restored = self.restore(beside.path())?;
        out.write_all(&restored.told)?;
        for bad in &restored.bad {
            writeln!(out, "{}{bad}", if self.drill { "FAIL  " } else { "warning: " })?;
        }
        let Some(to) = &self.to else {
            if !restored.bad.is_empty() {
                bail!("the vault in the backup is not whole, as told above; make another with `ichor-broker backup`");
            }
            writeln!(
                out,
                "all good: {} files of the configuration, the vault, and a log of {} entries, checked whole; nothing was kept",
                restored.files, restored.entries
            )?;
            return Ok(());
        };
        let made = beside.path().join(CONFIG);
        if to.exists() {
            fs::remove_dir(to)?;
        }
        fs::rename(&made, to).with_context(|| format!("cannot make `{}`", to.display()))?;
        durable::sync_folder(parent)?;
        writeln!(
            out,
            "restored to `{}`: {} files of the configuration, the vault, and a log of {} entries, checked whole",
            to.display(),
            restored.files,
            restored.entries
        )?;
        let dir = to.display();
        if restored.settings.postgres.is_some() {
            let database = to.join(restored.database.strip_prefix(&made).unwrap_or(&restored.database));
            writeln!(
                out,
                "next: fill an empty Postgres database, with `ichor-broker store copy --from sqlite:{} --to @URLFILE \
                 --reason \"a restore\"`, and name it in `{dir}/config.toml`",
                database.display()
            )?;
        }
        writeln!(
            out,
            "next: `ichor-broker audit reopen --dir {dir} --reason …`, for what came after the backup was signed under the log's name; \
             then `ichor-broker check --dir {dir}`, and start it; stop whatever broker this replaces first"
        )?;
        Ok(())
    }

    /// Makes everything below `folder`.
    fn restore(&self, folder: &Path) -> anyhow::Result<Restored> {
        let source = identity(&self.identity)?;
        let plugins = Plugins::allow(&[], Default::default(), None)?;
        let nowhere = folder.join("none");
        let opened = open_sealed(&self.file, source.clone(), &nowhere, &plugins)
            .with_context(|| format!("`{}` cannot be opened with this identity", self.file.display()))?;
        let files = read(opened, folder)?;
        let made = folder.join(CONFIG);
        let loaded = Folder::new(&made).load().context("the configuration in the backup cannot be loaded as it is")?;
        let settings = loaded.settings;
        let places = Places::of(&settings, &made)?;
        let archived = Archived::open(&folder.join(VAULT), source, &nowhere, &plugins)?;
        archived.restore(&settings.vault, &[], &plugins)?;
        let drilled = archived.drill().into_iter();
        let bad = drilled.filter_map(|one| one.found.err().map(|error| format!("{}: {error}", one.what))).collect();
        let mut told = Vec::new();
        tell(&archived, None, &mut told)?;
        if folder.join(PIN).exists() {
            place(&folder.join(PIN), &settings.vault.join(PIN_IN_VAULT))?;
        }

        let database = places.database;
        fs::create_dir_all(database.parent().unwrap_or(&made))?;
        place(&folder.join(DATABASE), &database)?;
        // folders without a file are in no archive
        places.folders.iter().try_for_each(fs::create_dir_all)?;
        if database != settings.database {
            writeln!(
                told,
                "warning: the configuration names its database at `{}`, outside of the folder: nothing was put there, and \
                 the database is `{}` in the folder",
                settings.database.display(),
                DATABASE_IN_FOLDER
            )?;
        }
        let act = desk::act(desk::Deed {
            ca: true,
            message: format!("restored from the backup `{}`", self.file.display()),
            reason: self.reason.clone().unwrap_or_else(|| "a drill".into()),
            digests: BTreeMap::from([(audit::RESTORED.to_owned(), regular::digest(&self.file, Links::Followed)?)]),
            ..desk::Deed::default()
        });
        let name = settings.name.clone();
        let path = database.clone();
        let (entries, head) = block_on(async move {
            let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path, Options::default())?);
            let report = audit::verify_log(&*store).await?;
            let head = store.head().await?;
            let (sequencer, task) = Sequencer::start(store, Arc::new(SystemClock), audit::Settings::named(name));
            sequencer.note(act.into_content(), None).await?;
            drop(sequencer);
            let _ = task.await;
            Ok((report.entries, head))
        })?;
        let files = files.iter().filter(|file| file.starts_with(CONFIG)).count();
        if let Ok(time) = Timestamp::from_microsecond(head.time) {
            writeln!(told, "its newest entry, of {}, is of {time}", head.size)?;
        }
        Ok(Restored { entries, files, settings, database, told, bad })
    }
}

// === impl Places ===

impl Places {
    /// The places that these settings name in the folder `made`. What they name elsewhere is left alone: the database goes into the
    /// folder then, and other folders are not made.
    ///
    /// # Errors
    /// When the vault is elsewhere, or a path climbs with `..`, wherever it leads: a path that begins in the folder need not end there.
    fn of(settings: &Settings, made: &Path) -> anyhow::Result<Self> {
        let named = [
            ("custody.vault", &settings.vault),
            ("store.path", &settings.database),
            ("policies.folder", &settings.policies),
            ("clusters.folder", &settings.clusters),
            ("server.admin_socket", &settings.admin_socket),
        ];
        for (key, path) in named {
            let said = path.strip_prefix(made).unwrap_or(path);
            if climbs(said) {
                bail!(
                    "the configuration in the backup has `..` in `{key}`, and a restore makes nothing outside of its folder; \
                     nothing was kept: name that place without `..`, and make another backup"
                );
            }
        }
        let is_inside = |path: &Path| path.strip_prefix(made).is_ok_and(|rest| rest.components().next().is_some());
        if !is_inside(&settings.vault) {
            bail!(
                "the configuration keeps its vault at `{}`, outside of the folder; restore that with `custody restore`",
                settings.vault.display()
            );
        }
        let database = Some(&settings.database).filter(|path| is_inside(path)).cloned();
        // an anchor is on another disk most often, and its folder is made here only where it lies in this one
        let anchor = settings.audit.file.as_deref().and_then(Path::parent);
        let anchor = anchor.filter(|path| !climbs(path.strip_prefix(made).unwrap_or(path)));
        let folders =
            [Some(settings.clusters.as_path()), Some(&settings.policies), settings.admin_socket.parent(), anchor];
        Ok(Self {
            database: database.unwrap_or_else(|| made.join(DATABASE_IN_FOLDER)),
            folders: folders.into_iter().flatten().filter(|path| is_inside(path)).map(Path::to_owned).collect(),
        })
    }
}

fn climbs(path: &Path) -> bool {
    path.components().any(|part| part == Component::ParentDir)
}

/// Moves a file to where none is.
fn place(from: &Path, to: &Path) -> anyhow::Result<()> {
    let moved = tempfile::TempPath::try_from_path(from)?.persist_noclobber(to);
    moved.map_err(|error| error.error).with_context(|| {
        let name = to.file_name().unwrap_or_default().to_string_lossy();
        format!("the backup has a file of its own where `{name}` goes, and a restore overwrites nothing")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_where_none_is_and_never_in_anothers_place() {
        let folder = tempfile::tempdir().unwrap();
        let [from, there, free] = ["from", "there", "free"].map(|name| folder.path().join(name));
        fs::write(&there, "precious").unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&there, &link).unwrap();
        for taken in [&there, &link] {
            fs::write(&from, "new").unwrap();
            let refused = place(&from, taken).unwrap_err().to_string();
            assert!(refused.contains("overwrites nothing"), "{refused}");
            assert_eq!(fs::read(&there).unwrap(), b"precious", "{}", taken.display());
        }
        assert!(link.is_symlink());
        fs::write(&from, "new").unwrap();
        place(&from, &free).unwrap();
        assert_eq!((fs::read(&free).unwrap(), from.exists()), (b"new".to_vec(), false));
    }
}
