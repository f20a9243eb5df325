//! Where each cluster's CA lives: `ca/<cluster>.toml` in the vault's folder.
//!
//! A record holds no secret. It is written by commands, whole or not at all, so that which CA issues is switched by one
//! rename. An age file that no record names issues nothing: it may be one that was moved or retired.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::known::kv_place;
use super::pki::RoleSet;
use super::vault::{VaultError, cluster_of, file};
use crate::domain::ClusterName;
use crate::openbao::{check_mount, check_name};

/// A cluster's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    version: u8,
    /// How many CAs the cluster has had: names of new keys are made with it.
    pub generation: u32,
    /// Whether the cluster's own API makes the people's certificates, and the CA in force only the broker's own, with which the
    /// cluster is asked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub delegated: bool,
    /// The certificates, PEM, of CAs that went out of custody: nodes may accept them still.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<String>,
    /// The CA that issues.
    pub active: Place,
    /// The CA that is to take its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
    /// CAs that issued before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<Former>,
    /// Secrets at servers that a CA's key was left in, also such as are in use again: see [`Self::left`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    left: Vec<Place>,
}

/// Where one CA lives. Public facts only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "custody", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Place {
    /// A file of the vault, sealed to its recipients.
    Age {
        /// Its name below `ca/`.
        file: String,
    },
    /// A secret of KV version 2 with certificate and key. New versions are taken up.
    Kv {
        /// The server, as `[[openbao]]` names it.
        server: String,
        /// The mount.
        mount: String,
        /// The secret's path.
        path: String,
    },
    /// A key of Transit.
    Transit {
        /// The server, as `[[openbao]]` names it.
        server: String,
        /// The mount.
        mount: String,
        /// The key's name.
        key: String,
        /// The key's version, pinned.
        key_version: u32,
        /// The CA's certificate, PEM.
        certificate: String,
    },
    /// A CA in the PKI engine, which makes the certificates itself.
    Pki {
        /// The server, as `[[openbao]]` names it.
        server: String,
        /// The mount.
        mount: String,
        /// The CA's certificate, PEM, pinned.
        certificate: String,
        /// Whether the broker makes a role for each person and set of roles.
        role_per_person: bool,
        /// The sets of roles that the engine must have a role for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        roles: Vec<RoleSet>,
    },
    /// Nowhere any more: the CA was retired and none took its place.
    Retired,
    /// The cluster itself, asked with a talosconfig's credential, which is sealed in the vault.
    TalosApi,
}

/// A rotation under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// When it began.
    pub begun: Timestamp,
    /// The new CA.
    pub next: Place,
    /// The nodes whose acceptance is waited for.
    #[serde(default)]
    pub nodes: Vec<String>,
}

/// A CA that issued before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Former {
    /// Its certificate, PEM, for the patch that takes it out of the nodes; `None` where it was not at hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Since when it issues no more.
    pub until: Timestamp,
    /// Whether it has to go at once.
    #[serde(default)]
    pub compromised: bool,
    /// Where its key was, and may still be.
    pub place: Place,
}

/// The only version of records there is.
const VERSION: u8 = 1;

/// The key that names the cluster in the file, so that no copy of it is another's.
const OWNER: &str = "cluster";

// === impl Record ===

impl Record {
    /// The record of a cluster's first CA.
    #[must_use]
    pub fn first(active: Place) -> Self {
        Self {
            version: VERSION,
            generation: 1,
            delegated: false,
            active,
            rotation: None,
            former: Vec::new(),
            retired: Vec::new(),
            left: Vec::new(),
        }
    }

    /// The same for a CA that bears another number, so that its key is written over no other's.
    #[must_use]
    pub fn numbered(self, generation: u32) -> Self {
        Self { generation, ..self }
    }

    /// The record once another CA issues, and this one did until `now`.
    #[must_use]
    pub fn succeeded_by(&self, active: Place, now: Timestamp, certificate: Option<String>) -> Self {
        let mut former = self.former.clone();
        // nothing issued where there was none
        if self.active != Place::Retired {
            let certificate = certificate.or_else(|| self.active.certificate().map(str::to_owned));
            former.push(Former { certificate, until: now, compromised: false, place: self.active.clone() });
        }
        Self { generation: self.after(&active), active, rotation: None, former, ..self.clone() }
    }

    /// The record once a new CA was made, which is to take the other's place.
    #[must_use]
    pub fn rotating(&self, next: Place, nodes: Vec<String>, now: Timestamp) -> Self {
        Self { rotation: Some(Rotation { begun: now, next, nodes }), ..self.clone() }
    }

    /// The record once a rotation is dropped. The new CA's key stays where it is, and its number is not used again; its certificate is
    /// kept, for nodes may accept it already.
    #[must_use]
    pub fn abandoned(&self, certificate: Option<String>) -> Self {
        let generation = self.rotation.as_ref().map_or(self.generation, |rotation| self.after(&rotation.next));
        let mut retired = self.retired.clone();
        retired.extend(certificate.filter(|certificate| !self.retired.contains(certificate)));
        Self { rotation: None, generation, retired, ..self.clone() }.leaving(self.next())
    }

    /// The record once the CA in force has to go at once.
    #[must_use]
    pub fn compromised_by(&self, active: Place, now: Timestamp, certificate: Option<String>) -> Self {
        let mut record = self.succeeded_by(active, now, certificate);
        if let Some(former) = record.former.last_mut() {
            former.compromised = true;
        }
        record
    }

    /// The record once nothing is left of former CAs but their certificates.
    #[must_use]
    pub fn without_former(&self) -> Self {
        let mut retired = self.retired.clone();
        for certificate in self.former.iter().filter_map(|former| former.certificate.as_ref()) {
            if !retired.contains(certificate) {
                retired.push(certificate.clone());
            }
        }
        let places = self.former.iter().map(|former| &former.place);
        Self { former: Vec::new(), retired, ..self.clone() }.leaving(places)
    }

    /// The record once the cluster makes the certificates with the CA's help, or no longer does.
    #[must_use]
    pub fn delegating(&self, delegated: bool) -> Self {
        Self { delegated, ..self.clone() }
    }

    /// The record once the same CA lives elsewhere.
    #[must_use]
    pub fn moved(&self, active: Place) -> Self {
        let generation = self.generation.max(active.number());
        Self { generation, active, ..self.clone() }.leaving([&self.active])
    }

    /// The record once a key was written at this place for nothing.
    #[must_use]
    pub fn left_at(&self, place: &Place) -> Self {
        self.clone().leaving([place])
    }

    /// The record once nothing needs what lies at these places. A key in Transit or the PKI engine is nothing that somebody could read
    /// there, and one in a file is seen to be there.
    fn leaving<'a>(mut self, places: impl IntoIterator<Item = &'a Place>) -> Self {
        for place in places.into_iter().filter(|place| matches!(place, Place::Kv { .. })) {
            if !self.left.contains(place) {
                self.left.push(place.clone());
            }
        }
        self
    }

    /// The secrets at servers in which a CA's key was left that nothing needs: it was moved, dropped or retired. Whether it is there still
    /// only the server knows.
    pub fn left(&self) -> impl Iterator<Item = &Place> {
        let compromised = self.former.iter().filter(|former| former.compromised).map(|former| &former.place);
        let left = self.left.iter().chain(compromised.filter(|place| matches!(place, Place::Kv { .. })));
        left.filter(|left| !self.needed().any(|place| place == *left))
    }

    /// The record once somebody took away what was left at servers.
    #[must_use]
    pub fn without_left(&self) -> Self {
        Self { left: Vec::new(), ..self.clone() }
    }

    /// How many CAs there were with this one: its file may bear a higher number, where lower ones were taken.
    fn after(&self, next: &Place) -> u32 {
        next.number().max(self.generation + 1)
    }

    /// A cluster's record in the vault's folder `dir`; `None` where the cluster has no CA.
    ///
    /// # Errors
    /// When it cannot be read, or is missing where there is an age file of one of the cluster's CAs.
    pub fn read(dir: &Path, cluster: &ClusterName) -> Result<Option<Self>, VaultError> {
        if let Some(record) = Self::written(dir, cluster)? {
            return Ok(Some(record));
        }
        let folder = dir.join("ca");
        let names = file::names(&folder, "age")?;
        match names.into_iter().find(|stem| cluster_of(stem) == Some(cluster.as_str())) {
            Some(stem) => {
                let path = folder.join(format!("{stem}.age"));
                Err(VaultError::NoRecord { path, cluster: cluster.to_string() })
            }
            None => Ok(None),
        }
    }

    /// The same, where an age file without a record counts for nothing.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn written(dir: &Path, cluster: &ClusterName) -> Result<Option<Self>, VaultError> {
        let path = path(dir, cluster);
        file::read(&path)?.map(|bytes| Self::parse(&path, cluster, &bytes)).transpose()
    }

    /// The record in these bytes of the file at `path`.
    pub(super) fn parse(path: &Path, cluster: &ClusterName, bytes: &[u8]) -> Result<Self, VaultError> {
        let path = path.to_owned();
        let table: Option<toml::Table> = std::str::from_utf8(bytes).ok().and_then(|text| toml::from_str(text).ok());
        let mut table = table.ok_or_else(|| VaultError::Record(path.clone()))?;
        // a record that was copied does not make one cluster's CA another's
        match table.remove(OWNER) {
            Some(toml::Value::String(owner)) if owner == cluster.as_str() => {}
            Some(toml::Value::String(owner)) => return Err(VaultError::OthersRecord { path, owner }),
            _ => return Err(VaultError::Record(path)),
        }
        let record: Option<Self> = table.try_into().ok();
        let is_one = |record: &Self| {
            let nodes = record.rotation.iter().flat_map(|rotation| &rotation.nodes).map(String::as_str);
            let names = record.places().chain(&record.left).flat_map(Place::names).chain(nodes);
            record.version == VERSION && names.into_iter().all(is_plain)
        };
        record.filter(is_one).ok_or(VaultError::Record(path))
    }

    /// Returns once the record is durable in the vault's folder `dir`.
    ///
    /// # Errors
    /// When it is there and `replace` does not say otherwise, or the file system fails.
    pub fn write(&self, dir: &Path, cluster: &ClusterName, replace: bool) -> Result<(), VaultError> {
        let path = path(dir, cluster);
        let text = toml::to_string(self).map_err(|_| VaultError::Record(path.clone()))?;
        let head = "# Where this cluster's CA lives. Written by `ichor-broker ca`; no secrets.\n";
        file::write(&path, format!("{head}{OWNER} = \"{cluster}\"\n{text}").as_bytes(), replace)
    }

    /// Returns once this is the cluster's record in the place of `before`, and `before` still was the record: what another
    /// command did meanwhile is not undone.
    ///
    /// # Errors
    /// When the record is another by now, another command writes in the vault, or the file system fails.
    pub fn replace(&self, dir: &Path, cluster: &ClusterName, before: &Self) -> Result<(), VaultError> {
        let _lock = file::lock(dir)?;
        if Self::read(dir, cluster)?.as_ref() != Some(before) {
            return Err(VaultError::RecordChanged(path(dir, cluster)));
        }
        self.write(dir, cluster, true)
    }

    /// Where the CA lives that is to come, while a rotation is under way.
    #[must_use]
    pub fn next(&self) -> Option<&Place> {
        self.rotation.as_ref().map(|rotation| &rotation.next)
    }

    /// Where the CAs live that issue, or are to.
    pub fn in_use(&self) -> impl Iterator<Item = &Place> {
        std::iter::once(&self.active).chain(self.next())
    }

    /// The same, and where former ones live, or did.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.in_use().chain(self.former.iter().map(|former| &former.place))
    }

    /// Those whose keys are needed still: of former ones all that need not go at once.
    pub fn needed(&self) -> impl Iterator<Item = &Place> {
        let former = self.former.iter().filter(|former| !former.compromised);
        self.in_use().chain(former.map(|former| &former.place))
    }

    /// Whether it names this file of the vault, for the CA in force, to come, or former.
    #[must_use]
    pub fn names_file(&self, file: &str) -> bool {
        self.places().any(|place| place.file() == Some(file))
    }

    /// The clusters that have a record of their own, sorted.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn all(dir: &Path) -> Result<Vec<String>, VaultError> {
        file::names(&dir.join("ca"), "toml")
    }
}

/// Whether it can be shown as it is: a name that somebody wrote into the file speaks to no terminal.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

// === impl Place ===

impl Place {
    /// What it is, for people: `age file prod.age`, `Transit key transit/ichor-prod version 1 at main`.
    #[must_use]
    pub fn said(&self) -> String {
        match self {
            Self::Age { file } => format!("age file {file}"),
            Self::Kv { server, mount, path } => format!("KV secret {mount}/{path} at {server}"),
            Self::Transit { server, mount, key, key_version, .. } => {
                format!("Transit key {mount}/{key} version {key_version} at {server}")
            }
            Self::Pki { server, mount, .. } => format!("PKI engine {mount} at {server}"),
            Self::Retired => "nowhere: it was retired".into(),
            Self::TalosApi => "the cluster itself, by an adopted talosconfig".into(),
        }
    }

    /// The CA's certificate, PEM, where the record has it.
    #[must_use]
    pub fn certificate(&self) -> Option<&str> {
        match self {
            Self::Transit { certificate, .. } | Self::Pki { certificate, .. } => Some(certificate),
            Self::Age { .. } | Self::Kv { .. } | Self::TalosApi | Self::Retired => None,
        }
    }

    /// The names in it.
    fn names(&self) -> Vec<&str> {
        match self {
            Self::Age { file } => vec![file],
            Self::Kv { server, mount, path } => vec![server, mount, path],
            Self::Transit { server, mount, key, .. } => vec![server, mount, key],
            Self::Pki { server, mount, .. } => vec![server, mount],
            Self::Retired | Self::TalosApi => Vec::new(),
        }
    }

    /// How what lies there is taken away for good, by somebody who may: a command for the server's own program. `None` where a name in it is
    /// none of the server's, which somebody else wrote: nobody is to give that to a shell.
    #[must_use]
    pub fn removal(&self) -> Option<String> {
        match self {
            Self::Kv { mount, path, .. } if check_mount(mount).and(check_mount(path)).is_ok() => {
                Some(format!("bao kv metadata delete -mount={mount} {path}"))
            }
            Self::Transit { mount, key, .. } if check_mount(mount).and(check_name(key)).is_ok() => Some(format!(
                "bao write {mount}/keys/{key}/config deletion_allowed=true && bao delete {mount}/keys/{key}"
            )),
            _ => None,
        }
    }

    /// The vault's file, by its name below `ca/`, where it is in one.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        if let Self::Age { file } = self { Some(file) } else { None }
    }

    /// The number in the name of the vault's file; 0 where there is none.
    #[must_use]
    pub fn number(&self) -> u32 {
        let number = self.file().and_then(|file| file.strip_suffix(".age")?.split_once('.'));
        number.and_then(|(_, number)| number.parse().ok()).unwrap_or_default()
    }

    /// What entries of the log say of it where it is a secret of KV.
    #[must_use]
    pub fn in_kv(&self) -> Option<String> {
        match self {
            Self::Kv { server, mount, path } => Some(kv_place(server, mount, path)),
            _ => None,
        }
    }

    /// The server it is at, as `[[openbao]]` names it.
    #[must_use]
    pub fn server(&self) -> Option<&str> {
        match self {
            Self::Kv { server, .. } | Self::Transit { server, .. } | Self::Pki { server, .. } => Some(server),
            Self::Age { .. } | Self::TalosApi | Self::Retired => None,
        }
    }
}

fn path(dir: &Path, cluster: &ClusterName) -> PathBuf {
    dir.join("ca").join(format!("{cluster}.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_file_without_its_record_is_no_ca_of_the_cluster() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("ca")).unwrap();
        let cluster = ClusterName::new("prod").unwrap();
        let record = Record::first(Place::TalosApi);
        record.write(dir.path(), &cluster, false).unwrap();
        std::fs::write(dir.path().join("ca/prod.age"), "the key before").unwrap();
        assert_eq!(Record::read(dir.path(), &cluster).unwrap(), Some(record));
        std::fs::remove_file(dir.path().join("ca/prod.toml")).unwrap();
        let said = Record::read(dir.path(), &cluster).unwrap_err().to_string();
        assert!(said.contains("no record says that it is in force") && said.contains("ca record prod"), "{said}");
        assert_eq!(Record::written(dir.path(), &cluster).unwrap(), None);
        // nor is that of a later one, whose number is all that is left
        std::fs::rename(dir.path().join("ca/prod.age"), dir.path().join("ca/prod.2.age")).unwrap();
        assert!(matches!(Record::read(dir.path(), &cluster), Err(VaultError::NoRecord { .. })));
        std::fs::rename(dir.path().join("ca/prod.2.age"), dir.path().join("ca/prod2.age")).unwrap();
        assert_eq!(Record::read(dir.path(), &cluster).unwrap(), None);
    }

    #[test]
    fn a_secret_is_left_once_nothing_needs_it_and_no_longer_than_that() {
        let kv = |path: &str| Place::Kv { server: "main".into(), mount: "secret".into(), path: path.into() };
        let age = Place::Age { file: "prod.2.age".into() };
        let (first, now) = (Record::first(kv("one")), "2026-11-22T12:00:00Z".parse().unwrap());
        let left = |record: &Record| record.left().cloned().collect::<Vec<_>>();
        assert_eq!(left(&first.moved(age.clone())), [kv("one")]);
        // one that issued before is needed until it is retired
        let succeeded = first.succeeded_by(age.clone(), now, None);
        assert_eq!((left(&succeeded), left(&succeeded.without_former())), (vec![], vec![kv("one")]));
        assert_eq!(left(&first.compromised_by(age.clone(), now, None)), [kv("one")]);
        let dropped = first.rotating(kv("two"), Vec::new(), now).abandoned(None);
        assert_eq!(left(&dropped), [kv("two")]);
        // once more, and in use again
        let again = dropped.rotating(kv("two"), Vec::new(), now);
        assert_eq!((left(&again), left(&again.abandoned(None))), (vec![], vec![kv("two")]));
        assert_eq!(kv("ichor/prod").removal().as_deref(), Some("bao kv metadata delete -mount=secret ichor/prod"));
        assert_eq!(kv("ichor/prod; rm -r ~").removal(), None);
        // nobody reads a key there, or it is a file that is seen
        assert!(left(&succeeded.moved(Place::TalosApi)).is_empty());
    }

    #[test]
    fn a_record_comes_back_as_written_and_nothing_else_is_one() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("ca")).unwrap();
        let cluster = ClusterName::new("prod").unwrap();
        assert_eq!(Record::read(dir.path(), &cluster).unwrap(), None);
        let age = Record::first(Place::Age { file: "prod.age".into() });

        let place = Place::Transit {
            server: "main".into(),
            mount: "transit".into(),
            key: "ichor-prod".into(),
            key_version: 1,
            certificate: "-----BEGIN CERTIFICATE-----\n".into(),
        };
        let mut record = Record::first(place.clone());
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        record.rotation = Some(Rotation { begun: now, next: Place::TalosApi, nodes: vec!["n".into()] });
        record.left = vec![Place::Kv { server: "main".into(), mount: "secret".into(), path: "ichor/prod".into() }];
        record.former.push(Former { certificate: Some("c".into()), until: now, compromised: true, place });
        record.write(dir.path(), &cluster, false).unwrap();
        assert_eq!(Record::read(dir.path(), &cluster).unwrap(), Some(record.clone()));
        assert!(matches!(age.write(dir.path(), &cluster, false), Err(VaultError::Exists(_))));
        age.write(dir.path(), &cluster, true).unwrap();
        assert_eq!(Record::all(dir.path()).unwrap(), ["prod"]);

        // what another command wrote meanwhile is not undone
        let other = record.succeeded_by(Place::Retired, now, None);
        assert!(matches!(other.replace(dir.path(), &cluster, &record), Err(VaultError::RecordChanged(_))));
        assert_eq!(Record::read(dir.path(), &cluster).unwrap(), Some(age.clone()));
        let retired = age.succeeded_by(Place::Retired, now, None);
        retired.replace(dir.path(), &cluster, &age).unwrap();
        // that nothing issued is no former CA
        let next = retired.succeeded_by(Place::TalosApi, now, None);
        assert_eq!(next.former.iter().map(|former| &former.place).collect::<Vec<_>>(), [&age.active]);

        let good = std::fs::read_to_string(dir.path().join("ca/prod.toml")).unwrap();
        std::fs::write(dir.path().join("ca/dev.toml"), &good).unwrap();
        let copied = Record::read(dir.path(), &ClusterName::new("dev").unwrap());
        assert!(matches!(&copied, Err(VaultError::OthersRecord { owner, .. }) if owner == "prod"), "{copied:?}");
        let unnamed = good.replace("cluster = \"prod\"\n", "");
        let escape = good.replace("prod.age", "prod\\u001b[31m.age");
        assert_ne!(escape, good);
        std::fs::write(dir.path().join("ca/prod.toml"), escape).unwrap();
        assert!(matches!(Record::read(dir.path(), &cluster), Err(VaultError::Record(_))));
        for bad in [good.replace("version = 1", "version = 2"), format!("{good}more = 1\n"), unnamed, "nothing".into()]
        {
            std::fs::write(dir.path().join("ca/prod.toml"), bad).unwrap();
            assert!(matches!(Record::read(dir.path(), &cluster), Err(VaultError::Record(_))));
        }
    }
}
