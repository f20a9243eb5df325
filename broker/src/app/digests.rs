//! SHA-256 digests of everything that can be loaded anew: by them a change is seen, and the log says what took effect.

use std::collections::BTreeMap;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::config::{self, Settings};
use crate::regular::{self, Links};

/// The digests of one part, by file.
pub(super) type Files = BTreeMap<String, String>;

/// The digests of every part. What cannot be read counts as absent: loading says why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Digests {
    pub(super) policies: Files,
    pub(super) clusters: Files,
    pub(super) vault: Files,
    pub(super) tls: Files,
    /// Of the providers' files of groups.
    pub(super) groups: Files,
    /// Compared, and never written down: they are of secrets.
    pub(super) sinks: Files,
}

/// The file whose digest is compared and never written down: nothing that is made of a private key leaves the process.
const TLS_KEY: &str = "key";

/// The largest file looked at, in bytes.
const MOST: u64 = 1 << 20;

// === impl Digests ===

impl Digests {
    /// The digests of the files as they are now.
    pub(super) fn of(settings: &Settings, sinks: &[PathBuf], groups: &[PathBuf]) -> Self {
        let folder = |path: &std::path::Path, ending| config::digests(path, ending).unwrap_or_default();
        let tls = settings.tls.iter().flat_map(|(chain, key)| [("certificate", chain), (TLS_KEY, key)]);
        let tls = tls.chain(settings.audit.tile_clients.as_ref().map(|path| ("client CA", path)));
        Self {
            policies: folder(&settings.policies, "cedar"),
            clusters: folder(&settings.clusters, "toml"),
            vault: ["age", "toml"]
                .into_iter()
                .flat_map(|ending| folder(&settings.vault.join("ca"), ending))
                .chain(adopted(&settings.vault))
                .collect(),
            tls: tls.filter_map(|(name, path)| file(name, path)).collect(),
            sinks: of_files(sinks),
            groups: of_files(groups),
        }
    }

    /// What may be written down, by `part/file`.
    pub(super) fn shown(&self) -> BTreeMap<String, String> {
        let parts = [
            ("policies", &self.policies),
            ("clusters", &self.clusters),
            ("vault", &self.vault),
            ("tls", &self.tls),
            ("groups", &self.groups),
        ];
        let named = |(part, files): (&'static str, &Files)| {
            shown(files).into_iter().map(move |(name, digest)| (format!("{part}/{name}"), digest)).collect::<Vec<_>>()
        };
        parts.into_iter().flat_map(named).collect()
    }
}

/// The digests of these files, by their paths.
pub(super) fn of_files(paths: &[PathBuf]) -> Files {
    paths.iter().filter_map(|path| file(path.to_string_lossy().as_ref(), path)).collect()
}

fn file(name: &str, path: &std::path::Path) -> Option<(String, String)> {
    let bytes = zeroize::Zeroizing::new(regular::read(path, MOST, Links::Followed).ok()?);
    Some((name.to_owned(), data_encoding::HEXLOWER.encode(&Sha256::digest(bytes.as_slice()))))
}

/// The clusters' standing credentials among the vault's secrets; the others are read once, at the start.
fn adopted(vault: &std::path::Path) -> Files {
    let secrets = config::digests(&vault.join("secrets"), "age").unwrap_or_default();
    let adopted = secrets.into_iter().filter(|(name, _)| name.starts_with("talos-"));
    adopted.map(|(name, digest)| (format!("secrets/{name}"), digest)).collect()
}

/// The digests of one part that may be written down.
pub(super) fn shown(files: &Files) -> Files {
    files.iter().filter(|(name, _)| *name != TLS_KEY).map(|(name, digest)| (name.clone(), digest.clone())).collect()
}
