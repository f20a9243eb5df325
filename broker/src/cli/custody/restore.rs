//! `custody restore`.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::told::{Present, tell};
use super::{count, deed, recorded, vault_key};
use crate::cli::{FolderArg, block_on, owner};
use crate::config::Loaded;
use crate::custody::{Archived, IdentitySource, VaultError};
use crate::regular::{self, Links, folder_of};

/// `custody restore`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Restore {
    #[command(flatten)]
    folder: FolderArg,
    /// The backup, as `custody backup` writes it.
    file: PathBuf,
    /// Only see whether the backup opens and what it holds is good.
    #[arg(long, conflicts_with_all = ["to", "recipients"])]
    drill: bool,
    /// The folder to restore into, instead of the configured vault's.
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// What opens the backup: an identity file, an OpenSSH private key, or a copy of `identity.age`; `-` reads standard input.
    /// Unless given, what opens the vault.
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Seal to this recipient instead of those in the backup, and leave the old identity out. May be given again.
    #[arg(long = "recipient", value_name = "RECIPIENT")]
    recipients: Vec<String>,
    /// Why; it goes into the audit.
    #[arg(long, value_parser = crate::cli::desk::reason)]
    reason: String,
}

/// How an age file begins (C2SP `age`).
const SEALED: &str = "age-encryption.org/v1";

impl Restore {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let opened = self.open(&loaded);
        if self.drill { self.drill(&loaded, opened, out) } else { self.restore(&loaded, &opened?, out) }
    }

    fn open(&self, loaded: &Loaded) -> anyhow::Result<Archived> {
        let settings = &loaded.settings;
        let source = match &self.identity {
            Some(path) => identity(path)?,
            None => vault_key::source(settings)?,
        };
        match Archived::open(&self.file, source, &settings.vault, &vault_key::plugins(settings)?) {
            Err(VaultError::NoIdentity(path)) => {
                bail!("no identity at `{}`; name the one that opens the backup with `--identity`", path.display())
            }
            Err(VaultError::NoMatch(path)) => {
                bail!(
                    "`{}` is not sealed to this identity; name the one that opens it with `--identity`",
                    path.display()
                )
            }
            Err(VaultError::Damaged(path)) if path == self.file => {
                bail!(
                    "`{}` is damaged, or not a backup of a vault; take another copy of it (`ichor-broker restore` opens the backup of a whole installation)",
                    path.display()
                )
            }
            other => Ok(other?),
        }
    }

    fn drill(&self, loaded: &Loaded, opened: anyhow::Result<Archived>, out: &mut dyn Write) -> anyhow::Result<()> {
        let file = self.file.display();
        let digest = regular::digest(&self.file, Links::Followed).ok().map(|digest| ("backup", digest));
        // as it is before this is recorded
        let here = block_on(Present::of(loaded))?;
        let archived = match opened {
            Ok(archived) => archived,
            Err(error) => {
                let message = format!("backup `{file}` tried out: it does not open: {error:#}");
                recorded(loaded, deed(message, &self.reason, digest), "", || Ok(()))?;
                return Err(error);
            }
        };
        let drilled = archived.drill();
        let good = drilled.iter().filter(|drilled| drilled.found.is_ok()).count();
        let all = count(drilled.len(), "file");
        let message = format!("backup `{file}` tried out: {good} of {all} good");
        recorded(loaded, deed(message, &self.reason, digest), "", || Ok(()))?;
        writeln!(out, "`{file}` opens; made {}, sha256 {}", archived.made(), archived.digest())?;
        let differs = tell(&archived, here.as_ref(), out)?;
        for one in &drilled {
            match &one.found {
                Ok(found) => writeln!(out, "ok    {}: {found}", one.what)?,
                Err(error) => writeln!(out, "FAIL  {}: {error}", one.what)?,
            }
        }
        if good < drilled.len() {
            bail!(
                "{} of {all} in the backup are no good; make another with `ichor-broker custody backup`",
                drilled.len() - good
            );
        }
        let whose = if differs { "; whose it is, what DIFFERS above is to tell you first" } else { "" };
        writeln!(out, "all good: a vault can be restored from it{whose}; nothing was written but the audit entry")?;
        Ok(())
    }

    fn restore(&self, loaded: &Loaded, archived: &Archived, out: &mut dyn Write) -> anyhow::Result<()> {
        let settings = &loaded.settings;
        let plugins = vault_key::plugins(settings)?;
        let target = self.to.as_ref().unwrap_or(&settings.vault);
        owner::check_folder(folder_of(target))?;
        archived.check_target(target)?;
        let held = archived.held(&self.recipients);
        let here = block_on(Present::of(loaded))?;
        let message = format!("vault restored to `{}` from `{}`", target.display(), self.file.display());
        let message = format!("{message}: {}", count(held.len(), "file"));
        let deed = deed(message, &self.reason, [("backup", archived.digest().to_owned())]);
        recorded(loaded, deed, "nothing was restored", || archived.restore(target, &self.recipients, &plugins))?;
        writeln!(out, "restored to `{}`, as of {}:", target.display(), archived.made())?;
        tell(archived, here.as_ref(), out)?;
        for what in &held {
            writeln!(out, "  {what}")?;
        }
        for (what, error) in archived.drill().into_iter().filter_map(|one| Some((one.what, one.found.err()?))) {
            writeln!(out, "warning: {what}: {error}")?;
        }
        if !self.recipients.is_empty() {
            writeln!(out, "sealed to the recipients given; the identity of the backup was left out")?;
        }
        if self.to.is_none() {
            writeln!(out, "next: see that the broker opens it with `ichor-broker check{}`", self.folder.said())?;
        }
        Ok(())
    }
}

/// The identity in a file, or on standard input.
pub(in crate::cli) fn identity(path: &Path) -> anyhow::Result<IdentitySource> {
    const MOST: usize = 64 * 1024;
    // room for all at once, so that growing leaves no copy behind
    let mut bytes = Zeroizing::new(Vec::with_capacity(MOST + 64));
    let is_input = path == Path::new("-");
    let most = u64::try_from(MOST)?;
    let read = if is_input {
        std::io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        let file = regular::open(path, Links::Followed);
        let file = file.with_context(|| format!("cannot read the identity `{}`", path.display()))?;
        file.take(most).read_to_end(&mut bytes)
    };
    read.with_context(|| format!("cannot read the identity `{}`", path.display()))?;
    if bytes.starts_with(SEALED.as_bytes()) && !is_input {
        return Ok(IdentitySource::File(path.to_owned(), vault_key::passphrase()?));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| VaultError::Identity)?;
    Ok(IdentitySource::Text(SecretString::from(text)))
}
