//! The config folder: finding, reading and decoding its files.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::file::File;
use super::{ConfigError, Settings};
use crate::policy;
use crate::regular::{self, Links};

/// A config folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    root: PathBuf,
}

/// A folder's `config.toml`, read and checked.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The folder.
    pub folder: Folder,
    /// The file as written.
    pub file: File,
    /// The checked settings, paths made absolute.
    pub settings: Settings,
}

impl Folder {
    /// The folder at `root`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder's own path.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `path` as the config means it: relative to the folder.
    #[must_use]
    pub fn at(&self, path: &Path) -> PathBuf {
        self.root.join(path)
    }

    /// The path of `config.toml`.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// Reads `config.toml` as written.
    ///
    /// # Errors
    /// When it cannot be read, or is not what its format says.
    pub fn file(&self) -> Result<File, ConfigError> {
        read_toml(&self.config())
    }

    /// Reads and checks `config.toml` and the secrets it names.
    ///
    /// # Errors
    /// On the first thing that is wrong.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let path = self.config();
        if path.metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            return Err(ConfigError::NoConfig(path));
        }
        let file: File = read_toml(&path)?;
        let settings = Settings::check(self, &file)?;
        Ok(Loaded { folder: self.clone(), file, settings })
    }
}

/// The policy sources of a folder.
///
/// # Errors
/// When a file cannot be read.
pub fn load_policies(folder: &Path) -> Result<Vec<policy::Source>, ConfigError> {
    files(folder, "cedar")?
        .into_iter()
        .map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Ok(policy::Source { name, text: read(&path)? })
        })
        .collect()
}

/// The folder's files with that ending, by name; hidden files are left out.
pub(super) fn files(folder: &Path, ending: &str) -> Result<Vec<PathBuf>, ConfigError> {
    let unreadable = |error: std::io::Error| ConfigError::Unreadable { path: folder.into(), why: error.to_string() };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && path.extension().is_some_and(|e| e == ending) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The largest file of a configuration, in bytes.
const MOST: u64 = 1 << 20;

/// A text file of at most 1 MiB.
pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    let read = regular::read_text(path, MOST, Links::Followed);
    read.map_err(|why| ConfigError::Unreadable { path: path.into(), why: why.to_string() })
}

/// The bytes of such a file.
pub(super) fn read_bytes(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let read = regular::read(path, MOST, Links::Followed);
    read.map_err(|why| ConfigError::Unreadable { path: path.into(), why: why.to_string() })
}

/// A TOML file, unknown keys refused with the nearest known name.
pub(super) fn read_toml<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    decode(path, &read(path)?)
}

/// The same for a text already at hand.
pub(super) fn decode<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| ConfigError::Malformed {
        path: path.into(),
        place: error.span().map(|span| place(text, span.start)).unwrap_or_default(),
        why: explain(error.message()),
    })
}

/// `:line:column` of a byte offset.
fn place(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!(":{line}:{column}")
}

/// serde's "unknown field" with the nearest name put first.
fn explain(message: &str) -> String {
    let mut parts = message.split('`');
    let (Some(head), Some(given)) = (parts.next(), parts.next()) else { return message.into() };
    if !head.starts_with("unknown field") && !head.starts_with("unknown variant") {
        return message.trim().replace('\n', ", ");
    }
    let what = if head.starts_with("unknown field") { "key" } else { "value" };
    let known: Vec<&str> = parts.skip(1).step_by(2).collect();
    let nearest = known
        .iter()
        .map(|name| (strsim::jaro_winkler(given, name), *name))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(likeness, _)| *likeness > 0.7);
    match nearest {
        Some((_, name)) => format!("unknown {what} `{given}`; did you mean `{name}`?"),
        None => format!("unknown {what} `{given}`; known here: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_name_and_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, "[server]\npublic_url = \"https://b\"\nlisten = \"x\"\ntls_certificat = \"y\"\n")
            .unwrap();
        let error = Folder::new(folder.path()).load().unwrap_err().to_string();
        assert!(error.contains("unknown key `tls_certificat`; did you mean `tls_certificate`?"), "{error}");
        assert!(error.contains("config.toml`:4:1"), "{error}");
    }

    #[test]
    fn an_unknown_value_names_those_that_are_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, "[server]\npublic_url = \"https://b\"\nlisten = \"x\"\n[log]\nformat = \"xml\"\n")
            .unwrap();
        let error = Folder::new(folder.path()).load().unwrap_err().to_string();
        assert!(error.contains("unknown value `xml`; known here: text, json"), "{error}");
    }
}
