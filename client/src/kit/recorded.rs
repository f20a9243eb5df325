//! The record of an opening, on this machine's disk before a certificate exists.

use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use ichor_wire::kit::{Record, SignedRecord};
use sha2::{Digest, Sha256};

use super::{Grant, Opened};
use crate::environment::Environment;
use crate::error::Error;
use crate::private_file;
use crate::session::no_home;

/// A value whose record is on this machine's disk. Built only by [`LocallyRecorded::record`], after the file and its folder were
/// synced.
///
/// What is recorded can be minted,
/// ```
/// use ichor_client::kit::{Grant, LocallyRecorded, Minted, Opened};
///
/// fn mint(opened: &Opened, grant: LocallyRecorded<Grant>, now: jiff::Timestamp) -> Result<Minted, ichor_client::Error> {
///     opened.mint(grant, now)
/// }
/// ```
/// a grant that is not recorded cannot,
/// ```compile_fail,E0308
/// use ichor_client::kit::{Grant, Minted, Opened};
///
/// fn mint(opened: &Opened, grant: Grant, now: jiff::Timestamp) -> Result<Minted, ichor_client::Error> {
///     opened.mint(grant, now)
/// }
/// ```
/// nor twice,
/// ```compile_fail,E0382
/// use ichor_client::kit::{Grant, LocallyRecorded, Opened};
///
/// fn mint(opened: &Opened, grant: LocallyRecorded<Grant>, now: jiff::Timestamp) {
///     let _ = (opened.mint(grant, now), opened.mint(grant, now));
/// }
/// ```
/// and no record is made up.
/// ```compile_fail,E0451
/// use ichor_client::kit::{Grant, LocallyRecorded};
///
/// fn recorded(grant: Grant) -> LocallyRecorded<Grant> {
///     LocallyRecorded { value: grant, path: todo!() }
/// }
/// ```
#[derive(Debug)]
pub struct LocallyRecorded<T> {
    value: T,
    path: PathBuf,
}

/// The machine on which a kit is opened, as it says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// The operating-system user.
    pub os_user: String,
    /// The machine's name.
    pub host: String,
}

/// Where this user's records lie.
///
/// # Errors
/// When there is no home.
pub fn folder(environment: &Environment) -> Result<PathBuf, Error> {
    Ok(environment.state_dir().ok_or_else(no_home)?.join("kit-records"))
}

/// The records in a folder, the oldest first.
///
/// # Errors
/// When it cannot be read.
pub fn records(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::file("read", folder))?,
    };
    let is_record = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "record");
    let mut found: Vec<PathBuf> =
        entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).filter(is_record).collect();
    // a grant's id begins with its time
    found.sort();
    Ok(found)
}

// === impl LocallyRecorded ===

impl LocallyRecorded<Grant> {
    /// Returns once the record, signed by the kit's key, and its name are on disk in `folder`.
    ///
    /// # Errors
    /// When it cannot be written; then nothing may be minted.
    pub fn record(opened: &Opened, grant: Grant, machine: &Machine, folder: &Path) -> Result<Self, Error> {
        let facts = opened.facts();
        let record = Record {
            version: 1,
            number: facts.number,
            kit: facts.id,
            cluster: facts.cluster.clone(),
            grant: grant.name.id(),
            name: grant.asked.name.clone(),
            reason: grant.asked.reason.clone(),
            roles: grant.asked.roles.clone(),
            opened: grant.opened,
            not_after: grant.not_after,
            serial: HEXLOWER.encode(&grant.serial),
            public_key: HEXLOWER.encode(&Sha256::digest(&grant.spki)),
            shares: opened.shares().to_vec(),
            os_user: machine.os_user.clone(),
            host: machine.host.clone(),
        };
        let signed: SignedRecord = record
            .signed(|bytes| opened.sign(bytes))
            .map_err(|error| Error::failed(error.to_string(), "give a shorter reason"))?;
        // the openings of a static kit have one grant, and a record is never written over
        let at = if facts.is_static() { format!("-{}", grant.opened.as_microsecond()) } else { String::new() };
        let path = folder.join(format!("{}{at}.record", grant.name));
        if path.exists() {
            return Err(Error::failed(format!("there is a record at `{}` already", path.display()), "run it again"));
        }
        private_file::write_new(&path, signed.text().as_bytes())?;
        Ok(Self { value: grant, path })
    }

    /// Where the record lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was recorded.
    #[must_use]
    pub fn value(&self) -> &Grant {
        &self.value
    }
}
