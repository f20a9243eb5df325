//! Whom the vault is sealed to.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;

use age::{EncryptError, Encryptor, ssh, x25519};

use super::plugin::PluginRecipient;
use super::{PluginError, Plugins, VaultError};

/// The recipients of a vault, at least one, none twice.
#[derive(Clone, Debug)]
pub(super) struct Recipients(Vec<Recipient>);

/// One recipient.
#[derive(Clone, Debug)]
enum Recipient {
    X25519(x25519::Recipient),
    Ssh(Box<ssh::Recipient>),
    Plugin(PluginRecipient),
}

// === impl Recipients ===

impl Recipients {
    /// From the lines of `recipients.txt`; empty ones and comments are left out. `None` when there is no recipient.
    pub(super) fn parse(text: &str, plugins: &Plugins) -> Result<Option<Self>, VaultError> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut found = Self(Vec::new());
        for line in lines {
            found.add(line, plugins)?;
        }
        Ok((!found.0.is_empty()).then_some(found))
    }

    /// Adds one; one that is there stays once.
    pub(super) fn add(&mut self, line: &str, plugins: &Plugins) -> Result<(), VaultError> {
        let recipient = Recipient::parse(line.trim(), plugins)?;
        if !self.has(&recipient.to_string()) {
            self.0.push(recipient);
        }
        Ok(())
    }

    /// Takes one out; answers whether it was there.
    pub(super) fn remove(&mut self, line: &str, plugins: &Plugins) -> Result<bool, VaultError> {
        let text = Recipient::parse(line.trim(), plugins)?.to_string();
        let before = self.0.len();
        self.0.retain(|recipient| recipient.to_string() != text);
        Ok(self.0.len() < before)
    }

    pub(super) fn has(&self, text: &str) -> bool {
        self.0.iter().any(|recipient| recipient.to_string() == text)
    }

    /// Whether one belongs to this plugin.
    pub(super) fn has_plugin(&self, name: &str) -> bool {
        self.plugins().any(|plugin| plugin == name)
    }

    /// The plugins that sealing needs.
    pub(super) fn plugins(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|recipient| match recipient {
            Recipient::Plugin(plugin) => Some(plugin.name()),
            Recipient::X25519(_) | Recipient::Ssh(_) => None,
        })
    }

    /// Each as its line.
    pub(super) fn lines(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }

    /// How many there are of each kind, as `2 X25519, 1 ssh-ed25519, 1 yubikey`.
    pub(super) fn kinds(&self) -> String {
        let mut kinds: BTreeMap<(u8, &str), usize> = BTreeMap::new();
        for recipient in &self.0 {
            *kinds.entry(recipient.kind()).or_default() += 1;
        }
        let kinds: Vec<_> = kinds.iter().map(|((_, kind), count)| format!("{count} {kind}")).collect();
        kinds.join(", ")
    }

    /// What `write` writes, sealed to all of them.
    pub(super) fn seal(
        &self,
        write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    ) -> Result<Vec<u8>, VaultError> {
        let mut sealed = Vec::new();
        self.seal_into(&mut sealed, write)?;
        Ok(sealed)
    }

    /// Seals what `write` writes, as it comes.
    pub(super) fn seal_into(
        &self,
        out: impl Write,
        write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    ) -> Result<(), VaultError> {
        let recipients = self.0.iter().map(Recipient::as_age);
        let encryptor = Encryptor::with_recipients(recipients).map_err(|error| match error {
            EncryptError::Io(error) => failed(error),
            other => failed(std::io::Error::other(other.to_string())),
        })?;
        let written = encryptor.wrap_output(out).and_then(|mut writer| {
            write(&mut writer)?;
            writer.finish().map(|_| ())
        });
        written.map_err(failed)
    }
}

/// What kept it from being sealed: a plugin's error comes through age as the cause of another.
fn failed(error: std::io::Error) -> VaultError {
    match error.get_ref().and_then(|cause| cause.downcast_ref::<PluginError>()) {
        Some(plugin) => plugin.clone().into(),
        None => VaultError::File { path: "sealing".into(), reason: error.to_string() },
    }
}

// === impl Recipient ===

impl Recipient {
    fn parse(line: &str, plugins: &Plugins) -> Result<Self, VaultError> {
        if let Ok(recipient) = line.parse() {
            return Ok(Self::X25519(recipient));
        }
        if line.starts_with("ssh-") {
            return line.parse().map(|key| Self::Ssh(Box::new(key))).map_err(|error| ssh_error(line, &error));
        }
        match PluginRecipient::parse(line, plugins) {
            Some(recipient) => Ok(Self::Plugin(recipient?)),
            None => Err(VaultError::Recipient(shown(line))),
        }
    }

    fn as_age(&self) -> &dyn age::Recipient {
        match self {
            Self::X25519(recipient) => recipient,
            Self::Ssh(recipient) => recipient.as_ref(),
            Self::Plugin(recipient) => recipient,
        }
    }

    /// The kind's place among the kinds, and its name.
    fn kind(&self) -> (u8, &str) {
        match self {
            Self::X25519(_) => (0, "X25519"),
            Self::Ssh(key) => match key.as_ref() {
                ssh::Recipient::SshEd25519(..) => (1, "ssh-ed25519"),
                ssh::Recipient::SshRsa(..) => (2, "ssh-rsa"),
            },
            Self::Plugin(plugin) => (3, plugin.name()),
        }
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::X25519(recipient) => recipient.fmt(f),
            Self::Ssh(recipient) => recipient.fmt(f),
            Self::Plugin(recipient) => f.write_str(recipient.text()),
        }
    }
}

fn ssh_error(line: &str, error: &ssh::ParseRecipientKeyError) -> VaultError {
    let why = match error {
        ssh::ParseRecipientKeyError::RsaModulusTooSmall => "the RSA key has fewer than 2048 bits",
        ssh::ParseRecipientKeyError::RsaModulusTooLarge => "the RSA key is larger than age takes",
        _ => return VaultError::Recipient(shown(line)),
    };
    VaultError::Recipient(format!("{}: {why}", shown(line)))
}

/// What is no recipient is shown only if it cannot be an identity pasted by mistake.
fn shown(line: &str) -> String {
    let upper = line.to_ascii_uppercase();
    if ["SECRET", "PRIVATE", "AGE-PLUGIN-"].iter().any(|word| upper.contains(word)) {
        return "(an identity)".to_owned();
    }
    line.chars().filter(|letter| !letter.is_control()).take(80).collect()
}
