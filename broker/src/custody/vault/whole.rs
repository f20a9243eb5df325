//! Whether a vault, or a backup of it, is whole: each secret is what its name says, and each file is there that a record names.

use std::path::Path;

use super::backup::Kind;
use super::sealer::{is_talos_credential, talos_credential};
use super::{AUDIT_KEY, DATA_KEY, VaultError};
use crate::custody::own::{Home, Secret};
use crate::custody::record::{Place, Record};
use crate::custody::{AuditKey, DataKey, StandingCredential};
use crate::domain::ClusterName;

/// A file that has to be there.
#[derive(Debug)]
pub(super) struct Named {
    /// What it belongs to, for people.
    pub(super) by: String,
    kind: Kind,
    name: String,
}

// === impl Named ===

impl Named {
    /// What to say where `has` does not know of the file.
    pub(super) fn lacks(&self, has: impl Fn(Kind, &str) -> bool) -> Option<VaultError> {
        if has(self.kind, &self.name) {
            return None;
        }
        let (folder, otherwise) = match self.kind {
            Kind::Ca => {
                ("ca", ", or have the cluster do without that CA (`ichor-broker ca create --replace`, `ca retire`)")
            }
            _ => ("secrets", ""),
        };
        Some(VaultError::Lacks { file: format!("{folder}/{}.age", self.name), otherwise })
    }
}

/// The files that a record names in its text: of a cluster those of the CA in force, of the one to come, and of former ones that need not
/// be gone at once. None where it is no record.
///
/// # Errors
/// When the text is none of such a record.
pub(super) fn named_in(path: &Path, kind: Kind, name: &str, text: &[u8]) -> Result<Vec<Named>, VaultError> {
    let named = |of, file: String| Named { by: kind.told(name), kind: of, name: file };
    match kind {
        Kind::Record => {
            let cluster = ClusterName::new(name).map_err(|_| VaultError::Record(path.to_owned()))?;
            let record = Record::parse(path, &cluster, text)?;
            let mut files: Vec<_> = record
                .needed()
                .filter_map(|place| match place {
                    Place::Age { file } => Some((Kind::Ca, file.strip_suffix(".age").unwrap_or(file).to_owned())),
                    Place::TalosApi => Some((Kind::Secret, talos_credential(&cluster))),
                    Place::Kv { .. } | Place::Transit { .. } | Place::Pki { .. } | Place::Retired => None,
                })
                .collect();
            files.sort();
            files.dedup();
            Ok(files.into_iter().map(|(kind, name)| named(kind, name)).collect())
        }
        Kind::Home => {
            let home = Home::parse(path, text)?;
            let secret = if name == AUDIT_KEY { Secret::Audit } else { Secret::Data };
            Ok(home.file(secret).map(|file| named(Kind::Secret, file.to_owned())).into_iter().collect())
        }
        Kind::Ca | Kind::Secret | Kind::Identity => Ok(Vec::new()),
    }
}

/// The broker's own secrets that have to be there because no record says that they are elsewhere: the data key, and the key of a log that
/// has begun.
pub(super) fn named_by_none(has: impl Fn(Kind, &str) -> bool, has_log: bool) -> impl Iterator<Item = Named> {
    let names = [DATA_KEY].into_iter().chain(has_log.then_some(AUDIT_KEY));
    let own = names.filter(move |name| !has(Kind::Home, name));
    own.map(|name| Named { by: "the vault".to_owned(), kind: Kind::Secret, name: name.to_owned() })
}

/// Returns if a secret that was sealed under this name is what that says.
///
/// # Errors
/// When nobody could use it as that.
pub(super) fn check_value(name: &str, value: &[u8]) -> Result<(), VaultError> {
    if name == DATA_KEY {
        DataKey::new(value)?;
    } else if name.strip_prefix(AUDIT_KEY).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')) {
        // one that was rotated bears the beginning of its public half behind the name
        AuditKey::from_seed(value)?;
    } else if is_talos_credential(name) {
        StandingCredential::from_sealed(value)?;
    }
    Ok(())
}
