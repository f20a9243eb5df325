//! What we wrote where: so that a renewal knows what a person changed since, and the agent what to renew.

use std::path::{Path, PathBuf};

use ichor_wire::role::Role;
use ichor_wire::talosconfig::{Context, Ours};
use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::error::Error;
use crate::private_file;
use crate::session::no_home;

/// A context that we wrote. It holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The file.
    pub path: PathBuf,
    /// The context's name in it.
    pub context: String,
    /// The broker's URL.
    pub broker: String,
    /// The cluster's name there.
    pub cluster: String,
    /// The roles asked for.
    pub roles: Vec<Role>,
    /// The lifetime asked for, in seconds.
    pub ttl: Option<u64>,
    /// Whether a reason was given: such a grant is not renewed unasked.
    pub needs_reason: bool,
    /// The endpoints as we last knew them from the broker.
    pub endpoints: Vec<String>,
    /// The certificate that we last wrote: some cannot name their grant, and are known by this.
    #[serde(default)]
    pub certificate: Option<Known>,
}

/// A certificate that we wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// SHA-256 of its DER, lower-case hex.
    pub fingerprint: String,
    /// Its grant.
    pub grant: String,
    /// Its key was made by the cluster, not on this machine.
    #[serde(default)]
    pub key_made_by_cluster: bool,
}

/// All records of this user.
#[derive(Debug)]
pub struct Written {
    file: PathBuf,
    records: Vec<Record>,
}

// === impl Written ===

impl Written {
    /// Reads the records; a file that cannot be understood counts as none, for they are conveniences.
    ///
    /// # Errors
    /// When there is no home, or the file cannot be read.
    pub fn load(environment: &Environment) -> Result<Self, Error> {
        let file = environment.state_dir().ok_or_else(no_home)?.join("contexts.json");
        let json = private_file::read(&file, 4 * 1024 * 1024)?;
        let records = json.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default();
        Ok(Self { file, records })
    }

    /// Writes the records that `change` makes of the newest ones on disk, under a lock.
    ///
    /// # Errors
    /// When they cannot be locked, read or written.
    pub fn update<T>(
        environment: &Environment,
        change: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let file = Self::load(environment)?.file;
        let _lock = private_file::lock(&file)?;
        let mut records = Self::load(environment)?;
        let before = records.records.clone();
        let result = change(&mut records)?;
        if records.records != before {
            let json = serde_json::to_vec_pretty(&records.records).map_err(|_| Error::Bug("records are not JSON"))?;
            private_file::write(&records.file, &json)?;
        }
        Ok(result)
    }

    /// The record of a context, however its file is named.
    #[must_use]
    pub fn find(&self, path: &Path, context: &str) -> Option<&Record> {
        let path = private_file::real(path);
        // an older build may have kept one for each name of the file: the newest is of what lies there
        self.records.iter().rev().find(|record| record.is_of(&path, context))
    }

    /// What the certificate of a context says that Ichor issued: one that names its grant, or the very one that we wrote
    /// there. `None` for every other.
    #[must_use]
    pub fn ours(&self, path: &Path, name: &str, context: &Context) -> Option<Ours> {
        ours(context, self.find(path, name))
    }

    /// Whether the context holds a certificate that we wrote there and whose key the cluster made.
    #[must_use]
    pub fn key_made_by_cluster(&self, path: &Path, name: &str, context: &Context) -> bool {
        known(context, self.find(path, name)).is_some_and(|known| known.key_made_by_cluster)
    }

    /// Every record.
    #[must_use]
    pub fn all(&self) -> &[Record] {
        &self.records
    }

    /// Adds or replaces a record, under the one name that its file has.
    pub fn put(&mut self, record: Record) {
        let record = Record { path: private_file::real(&record.path), ..record };
        self.records.retain(|old| !old.is_of(&record.path, &record.context));
        self.records.push(record);
    }

    /// Drops a record.
    pub fn forget(&mut self, path: &Path, context: &str) {
        let path = private_file::real(path);
        self.records.retain(|old| !old.is_of(&path, context));
    }
}

// === impl Record ===

impl Record {
    /// `path` is the file's real name. A record of before there was one name has the file's as it was typed.
    fn is_of(&self, path: &Path, context: &str) -> bool {
        self.context == context && (self.path == path || private_file::real(&self.path) == path)
    }
}

/// As [`Written::ours`], of a record at hand.
pub(super) fn ours(context: &Context, record: Option<&Record>) -> Option<Ours> {
    context.ours().or_else(|| context.ours_granted(&known(context, record)?.grant))
}

fn known<'a>(context: &Context, record: Option<&'a Record>) -> Option<&'a Known> {
    let known = record?.certificate.as_ref()?;
    (context.fingerprint()? == known.fingerprint).then_some(known)
}
