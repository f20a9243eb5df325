//! age plugins: programs of other people that hold keys in hardware. None runs unless the configuration names it.
//!
//! The protocol is age's own (C2SP `age-plugin`): [`talk`] speaks it with a program that may hang, babble or die, within a
//! deadline and bounds. The file that names a plugin, a recipient's line or an identity, never chooses the program: it only
//! picks among the names that the configuration allows (RUSTSEC-2024-0433).

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsString;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::time::Duration;

use age::{DecryptError, EncryptError};
use age_core::format::{FileKey, Stanza};
use age_core::primitives::bech32_decode;
use age_core::secrecy::ExposeSecret;

mod stanza;
mod talk;

use talk::Said;

/// What a recipient of a plugin begins with, before the plugin's name (C2SP `age-plugin`).
const RECIPIENT: &str = "age1";

/// What a plugin's identity begins with, before the plugin's name.
const IDENTITY: &str = "AGE-PLUGIN-";

/// How long one talk with a plugin may take: long enough to touch a key, short enough to notice that nobody does.
const DEADLINE: Duration = Duration::from_secs(30);

/// The longest name of a plugin.
const MAX_NAME: usize = 32;

/// Which plugins may run, and where their programs are looked for. None, unless made by [`Self::allow`].
#[derive(Clone, Debug)]
pub struct Plugins {
    allowed: BTreeSet<String>,
    path: OsString,
    home: Option<OsString>,
    deadline: Duration,
}

/// Why a plugin did not do what it was there for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PluginError {
    /// Not a plugin's name.
    #[error("`{0}` is not a plugin's name: use lower-case letters, digits and inner hyphens, as `yubikey`")]
    Name(String),
    /// The configuration does not name it.
    #[error(
        "the plugin `age-plugin-{0}` is not allowed to run; if it is meant, add `plugins = [\"{0}\"]` under [custody] in \
         config.toml"
    )]
    NotAllowed(String),
    /// There is no such program.
    #[error(
        "there is no program `age-plugin-{0}` on the PATH; install it where the broker's user finds it, as /usr/local/bin"
    )]
    NotFound(String),
    /// Everybody could put another program there.
    #[error("`{}` can be changed by everybody, so it is not run; `chmod o-w` it, and its folder", .0.display())]
    Writable(PathBuf),
    /// It could not be started.
    #[error("`age-plugin-{name}` does not start: {reason}; run it by hand as the broker's user to see why")]
    Start {
        /// The plugin.
        name: String,
        /// What the system said.
        reason: String,
    },
    /// It asks for a PIN, or whether to go on.
    #[error(
        "`age-plugin-{name}` asks for {what}, and nobody is there to answer a service; set the key up so that it asks \
         nothing (a PIN policy of `never`), or give another identity"
    )]
    Asks {
        /// The plugin.
        name: String,
        /// `a PIN or passphrase`, `an answer`, or `a decision`.
        what: &'static str,
    },
    /// It did not end in time, and was ended.
    #[error("`age-plugin-{name}` did not answer within {seconds} s and was ended; is the key plugged in, and touched?")]
    Late {
        /// The plugin.
        name: String,
        /// The deadline.
        seconds: u64,
    },
    /// It says what is wrong.
    #[error("`age-plugin-{name}` says: {message}")]
    Said {
        /// The plugin.
        name: String,
        /// Its words, without what commands a terminal.
        message: String,
    },
    /// It speaks another language, said too much, or stopped in the middle.
    #[error("`age-plugin-{name}` {reason}; try it with `age` itself, and update it")]
    Protocol {
        /// The plugin.
        name: String,
        /// What it did.
        reason: String,
    },
}

/// A recipient that a plugin seals to.
#[derive(Clone, Debug)]
pub(super) struct PluginRecipient {
    name: String,
    text: String,
    plugins: Plugins,
}

/// The identities of one plugin.
#[derive(Clone)]
pub(super) struct PluginIdentities {
    name: String,
    texts: Vec<String>,
    plugins: Plugins,
}

// === impl Plugins ===

impl Plugins {
    /// Allows these plugins, looked for in the absolute folders of `path`, as the shell does. They are given that `PATH` and
    /// this `HOME`, and nothing else of the broker's environment: it names the folder of its credentials.
    ///
    /// # Errors
    /// When one is no name of a plugin.
    pub fn allow(names: &[String], path: OsString, home: Option<OsString>) -> Result<Self, PluginError> {
        for name in names {
            check_name(name)?;
        }
        Ok(Self { allowed: names.iter().cloned().collect(), path, home, deadline: DEADLINE })
    }

    /// The names that are allowed, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.allowed.iter().map(String::as_str)
    }

    /// The program of an allowed plugin.
    ///
    /// # Errors
    /// When it is not allowed, not there, or everybody may change it.
    pub fn program(&self, name: &str) -> Result<PathBuf, PluginError> {
        self.check(name)?;
        let file = format!("age-plugin-{name}");
        let mut folders = std::env::split_paths(&self.path).filter(|folder| folder.is_absolute());
        let found = folders.find_map(|folder| {
            let program = folder.join(&file);
            let metadata = std::fs::metadata(&program).ok()?;
            let runs = metadata.is_file() && metadata.permissions().mode() & 0o111 != 0;
            runs.then_some((program, metadata.mode()))
        });
        match found {
            None => Err(PluginError::NotFound(name.to_owned())),
            Some((program, mode)) if mode & 0o002 != 0 => Err(PluginError::Writable(program)),
            Some((program, _)) => Ok(program),
        }
    }

    /// Whether it may run at all.
    fn check(&self, name: &str) -> Result<(), PluginError> {
        check_name(name)?;
        if self.allowed.contains(name) { Ok(()) } else { Err(PluginError::NotAllowed(name.to_owned())) }
    }

    #[cfg(test)]
    pub(super) fn within(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }
}

impl Default for Plugins {
    fn default() -> Self {
        Self { allowed: BTreeSet::new(), path: OsString::new(), home: None, deadline: DEADLINE }
    }
}

/// A name is part of a program's name, so it holds nothing that a path is made of.
fn check_name(name: &str) -> Result<(), PluginError> {
    let fits = (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if fits { Ok(()) } else { Err(PluginError::Name(shown(name))) }
}

/// Somebody else's words, short and on one line.
fn shown(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(200).collect()
}

// === impl PluginRecipient ===

impl PluginRecipient {
    /// A recipient `age1NAME1…` of an allowed plugin; `None` when the line is nothing of that kind.
    pub(super) fn parse(line: &str, plugins: &Plugins) -> Option<Result<Self, PluginError>> {
        let name = name_in(line, RECIPIENT, "")?;
        let made = Self { name, text: line.to_owned(), plugins: plugins.clone() };
        Some(plugins.check(&made.name).map(|()| made))
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    fn wrap(&self, key: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), PluginError> {
        let say = vec![
            stanza::command("add-recipient", &[&self.text], &[]),
            stanza::command("extension-labels", &[], &[]),
            stanza::command("wrap-file-key", &[], key.expose_secret()),
        ];
        let Said { stanzas, labels, errors, .. } = talk::with(&self.plugins, &self.name, "recipient-v1", say)?;
        if let Some(message) = errors.into_iter().next() {
            return Err(PluginError::Said { name: self.name.clone(), message });
        }
        if stanzas.is_empty() {
            let reason = "sealed nothing and says nothing".to_owned();
            return Err(PluginError::Protocol { name: self.name.clone(), reason });
        }
        Ok((stanzas, labels))
    }
}

impl age::Recipient for PluginRecipient {
    fn wrap_file_key(&self, key: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), EncryptError> {
        self.wrap(key).map_err(|error| EncryptError::Io(std::io::Error::other(error)))
    }
}

// === impl PluginIdentities ===

impl PluginIdentities {
    /// An identity `AGE-PLUGIN-NAME-1…` of an allowed plugin; `None` when the line is nothing of that kind.
    pub(super) fn parse(line: &str, plugins: &Plugins) -> Option<Result<Self, PluginError>> {
        let name = name_in(line, IDENTITY, "-")?.to_ascii_lowercase();
        let made = Self { name, texts: vec![line.to_owned()], plugins: plugins.clone() };
        Some(plugins.check(&made.name).map(|()| made))
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// One talk for several identities of the same plugin.
    pub(super) fn take(&mut self, other: Self) {
        self.texts.extend(other.texts);
    }

    fn unwrap(&self, stanzas: &[Stanza]) -> Result<Option<FileKey>, PluginError> {
        let identities = self.texts.iter().map(|text| stanza::command("add-identity", &[text], &[]));
        let wrapped = stanzas.iter().map(|stanza| {
            let mut arguments = vec!["0", &stanza.tag];
            arguments.extend(stanza.args.iter().map(String::as_str));
            stanza::command("recipient-stanza", &arguments, &stanza.body)
        });
        let say = identities.chain(wrapped).collect();
        let Said { key, errors, .. } = talk::with(&self.plugins, &self.name, "identity-v1", say)?;
        match (key, errors.into_iter().next()) {
            (Some(key), _) => Ok(Some(key)),
            (None, Some(message)) => Err(PluginError::Said { name: self.name.clone(), message }),
            (None, None) => Ok(None),
        }
    }
}

impl age::Identity for PluginIdentities {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        self.unwrap_stanzas(std::slice::from_ref(stanza))
    }

    fn unwrap_stanzas(&self, stanzas: &[Stanza]) -> Option<Result<FileKey, DecryptError>> {
        let unwrapped = self.unwrap(stanzas).map_err(|error| DecryptError::Io(std::io::Error::other(error)));
        unwrapped.transpose()
    }
}

/// What stands between the two in a Bech32 text's first part, if that is well formed.
fn name_in(line: &str, before: &str, after: &str) -> Option<String> {
    let name = |prefix: &str| {
        let name = prefix.strip_prefix(before)?.strip_suffix(after)?;
        (!name.is_empty()).then(|| name.to_owned())
    };
    bech32_decode(line, |_| (), |_| Ok(()), |prefix, _| name(prefix.as_str()).ok_or(())).ok()
}

#[cfg(test)]
mod tests;
