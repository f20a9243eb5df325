//! What opens the vault: asked for on the terminal, or handed over by systemd. Never a command-line argument, never the
//! environment itself.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Context, bail};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::config::{Identity, Settings};
use crate::custody::{IdentitySource, Plugins, Sealer, Vault};
use crate::regular::{self, Links, ReadError};

/// The vault, opened as the configuration says.
pub(super) fn vault(settings: &Settings) -> anyhow::Result<Vault> {
    Ok(Vault::open_allowing(&settings.vault, source(settings)?, &plugins(settings)?)?)
}

/// What seals into the vault; it needs nothing that opens it.
pub(super) fn sealer(settings: &Settings) -> anyhow::Result<Sealer> {
    Ok(Sealer::allowing(&settings.vault, &plugins(settings)?)?)
}

/// The plugins that the configuration allows, found as this process finds programs.
#[expect(clippy::disallowed_methods, reason = "programs are found by PATH, and they find their files by HOME")]
pub(super) fn plugins(settings: &Settings) -> anyhow::Result<Plugins> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    Ok(Plugins::allow(&settings.plugins, path, std::env::var_os("HOME"))?)
}

/// What the configuration says that opens the vault.
pub(super) fn source(settings: &Settings) -> anyhow::Result<IdentitySource> {
    Ok(match settings.identity {
        Identity::Passphrase => IdentitySource::Passphrase(passphrase()?),
        Identity::Credential => match credential("ichor-identity")? {
            Some(identity) => IdentitySource::Text(identity),
            None => bail!(
                "there is no systemd credential `ichor-identity`; seal it with `{}` and add \
                 `LoadCredentialEncrypted=ichor-identity` to the unit",
                sealing("ichor-identity")
            ),
        },
        Identity::InsecureBeside => IdentitySource::DangerBeside,
    })
}

/// The passphrase of an identity: from the credential, or asked for.
pub(super) fn passphrase() -> anyhow::Result<SecretString> {
    match credential("ichor-passphrase")? {
        Some(passphrase) => Ok(passphrase),
        None => ask("passphrase of the vault: "),
    }
}

/// A passphrase for a new vault: from the credential, or asked for twice.
pub(super) fn new_passphrase() -> anyhow::Result<SecretString> {
    if let Some(passphrase) = credential("ichor-passphrase")? {
        return Ok(passphrase);
    }
    let first = ask("new passphrase for the vault (12 characters or more): ")?;
    let second = ask("the same again: ")?;
    if first.expose_secret() != second.expose_secret() {
        bail!("the two passphrases differ; nothing was made");
    }
    Ok(first)
}

fn ask(prompt: &str) -> anyhow::Result<SecretString> {
    if !std::io::stdin().is_terminal() {
        bail!(
            "no terminal to ask for the passphrase; run this on one, or give it as the systemd credential \
             `ichor-passphrase`: seal it with `{}` and add `LoadCredentialEncrypted=ichor-passphrase` to the unit",
            sealing("ichor-passphrase")
        );
    }
    Ok(SecretString::from(rpassword::prompt_password(prompt)?))
}

/// The command that seals a credential for this machine, where `LoadCredentialEncrypted=NAME` looks for it.
fn sealing(name: &str) -> String {
    format!("systemd-creds encrypt --name={name} - /etc/credstore.encrypted/{name}")
}

/// A systemd credential (`$CREDENTIALS_DIRECTORY/NAME`), without the newline that editors add.
#[expect(clippy::disallowed_methods, reason = "systemd names the folder of credentials there, and nowhere else")]
fn credential(name: &str) -> anyhow::Result<Option<SecretString>> {
    let Some(folder) = std::env::var_os("CREDENTIALS_DIRECTORY") else { return Ok(None) };
    let path = PathBuf::from(folder).join(name);
    // systemd lets a credential have 1 MiB at most
    match regular::read_text(&path, 1 << 20, Links::Followed) {
        Ok(text) => {
            let text = Zeroizing::new(text);
            Ok(Some(SecretString::from(text.trim_end_matches(['\r', '\n']))))
        }
        Err(ReadError::Missing) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read the credential `{}`", path.display())),
    }
}
