//! A certificate's receipt: checked when it comes, and kept.

use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use ichor_wire::api::{CertificateAnswer, Receipt};
use ichor_wire::log::proof::{NoProof, Proven};
use ichor_wire::log::{Checkpoint, Kind, LogKey};
use ichor_wire::profile::pem;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::known::{self, Known};
use super::unverified_key;
use crate::broker::Broker;
use crate::environment::Environment;
use crate::error::Error;
use crate::private_file;
use crate::session::Session;

/// How long a receipt is kept after its certificate's end, in seconds: 90 days.
const KEPT_FOR: i64 = 90 * 24 * 3600;

/// How many receipts are kept of one broker; the oldest go first.
const MOST: usize = 2000;

/// A receipt as it is kept, with what it must speak of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The certificate's cluster.
    pub cluster: String,
    /// The certificate's grant.
    pub grant_id: Uuid,
    /// SHA-256 of the certificate, lower-case hex.
    pub fingerprint: String,
    /// The certificate's end.
    pub not_after: Timestamp,
    /// The receipt.
    pub receipt: Receipt,
    /// The size of the newest checkpoint that this receipt's was shown to be the beginning of.
    #[serde(default)]
    pub agrees_up_to: Option<u64>,
    /// Why it does not hold, where that was found: then it is evidence.
    #[serde(default)]
    pub fault: Option<String>,
    /// That the fault is the key alone: it is signed by one that the broker showed and that was not believed then. It is looked at
    /// again under the keys that are believed now.
    #[serde(default)]
    pub is_of_key: bool,
}

/// The receipts of one broker's certificates.
#[derive(Clone, Debug)]
pub struct Receipts {
    folder: PathBuf,
}

/// Receipts that want a look, as they lie here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Open {
    /// How many the log had not signed when they came: its key was out.
    pub pending: usize,
    /// How many are signed by a key that was not believed when they came.
    pub unbelieved: usize,
    /// How many were found false.
    #[serde(rename = "false")]
    pub not_held: usize,
}

/// What became of a new certificate's receipt.
#[derive(Debug)]
#[must_use]
pub struct Taken {
    /// The log's key, where it was seen for the first time and is believed from now on.
    pub first_seen: Option<LogKey>,
    /// Whether the receipt holds.
    pub standing: Standing,
}

/// Whether a receipt holds.
#[derive(Debug)]
pub enum Standing {
    /// The log has the certificate's entry, and signed that.
    Holds,
    /// The log had not signed the entry yet; the receipt is completed later.
    Pending,
    /// It could not be checked here and now: the network, a file.
    Unchecked(Error),
    /// The broker says that its log was opened again, and the receipt is of that one. Whether it is so, a person must find out: until
    /// then neither is believed.
    OpenedAgain(Error),
    /// It is false: the broker did not record what it says, or shows another log than before. It is kept as evidence.
    False(Error),
}

/// Checks a new certificate's receipt and keeps it, whatever comes out: a pending one to be completed, a false one as
/// evidence. Where no key of the log is known yet, the broker's is believed and kept.
///
/// The certificate is as good as it was: that is not the receipt's to say.
pub async fn take(environment: &Environment, session: &Session, answer: &CertificateAnswer) -> Taken {
    let mut first_seen = None;
    let standing = match kept(environment, session, answer, &mut first_seen).await {
        Ok(standing) => standing,
        Err(error) => Standing::Unchecked(error),
    };
    Taken { first_seen, standing }
}

async fn kept(
    environment: &Environment,
    session: &Session,
    answer: &CertificateAnswer,
    first_seen: &mut Option<LogKey>,
) -> Result<Standing, Error> {
    let broker = session.broker();
    let receipts = Receipts::of(environment, broker)?;
    let mut kept = Kept::of(answer)?;
    let standing = if kept.receipt.is_pending() {
        Ok(Standing::Pending)
    } else {
        match check(environment, session, &kept, first_seen).await {
            Ok(Ok(())) => Ok(Standing::Holds),
            Ok(Err(doubt)) => {
                let why = doubt.to_string();
                let error = is_false(&why, &receipts.file(&kept));
                kept.is_of_key = !matches!(doubt, Doubt::Receipt(_));
                kept.fault = Some(why);
                Ok(match doubt {
                    Doubt::OpenedAgain(error) => Standing::OpenedAgain(error),
                    Doubt::Receipt(_) | Doubt::Key(_) => Standing::False(error),
                })
            }
            Err(error) => Err(error),
        }
    };
    receipts.save(&kept)?;
    if receipts.count() > MOST {
        receipts.prune(broker.clock().now());
    }
    standing
}

/// Why a new receipt is not taken for true.
#[derive(Debug, thiserror::Error)]
enum Doubt {
    /// It does not hold, or is of no log that the broker shows.
    #[error("{0}")]
    Receipt(String),
    /// It is signed by the key that the broker shows, which nothing leads to.
    #[error(transparent)]
    Key(Error),
    /// The same, of a log that is said to be ours, opened again.
    #[error(transparent)]
    OpenedAgain(Error),
}

/// Whether the receipt holds under the keys that are believed; else why not.
async fn check(
    environment: &Environment,
    session: &Session,
    kept: &Kept,
    first_seen: &mut Option<LogKey>,
) -> Result<Result<(), Doubt>, Error> {
    let mut known = Known::load(environment, session.broker())?;
    let mut keys = known.keys();
    if keys.is_empty() {
        keys = vec![known.first_use(&unverified_key(session).await?)?];
        *first_seen = keys.first().cloned();
        known.save(&keys, None)?;
    }
    match kept.verify(&keys) {
        Ok(_) => Ok(Ok(())),
        // The log may have another key since: then it says so itself.
        Err(Unproven::Proof(NoProof::Checkpoint(_))) => {
            let told = unverified_key(session).await?;
            let keys = match known.follow(&told) {
                Ok(keys) => keys,
                Err(error) => {
                    let key = told.key.parse::<LogKey>().ok();
                    return Ok(Err(match key.is_some_and(|key| kept.verify(&[key]).is_ok()) {
                        true if known.is_opened_again(&told) => Doubt::OpenedAgain(error),
                        true => Doubt::Key(error),
                        false => Doubt::Receipt(error.to_string()),
                    }));
                }
            };
            if let Err(error) = kept.verify(&keys) {
                return Ok(Err(Doubt::Receipt(error.to_string())));
            }
            // Not the checkpoint: that it continues the one before has not been shown.
            known.save(&keys, None)?;
            Ok(Ok(()))
        }
        Err(error) => Ok(Err(Doubt::Receipt(error.to_string()))),
    }
}

fn is_false(why: &str, file: &Path) -> Error {
    Error::failed(
        format!("the broker's receipt for this certificate is false: {why}"),
        format!(
            "the certificate works; tell who answers for the audit, and give them `{}`; `ichor status --verify` checks all",
            file.display()
        ),
    )
}

/// Why a receipt does not show what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// It proves nothing.
    #[error(transparent)]
    Proof(#[from] NoProof),
    /// It proves another thing.
    #[error("the entry that it proves is not this certificate's")]
    AnotherCertificate,
}

// === impl Kept ===

impl Kept {
    fn of(answer: &CertificateAnswer) -> Result<Self, Error> {
        let blocks = pem::blocks(&answer.certificate).unwrap_or_default();
        let Some(block) = blocks.first() else { return Err(Error::Bug("a certificate is not PEM")) };
        Ok(Self {
            cluster: answer.cluster.clone(),
            grant_id: answer.grant_id,
            fingerprint: HEXLOWER.encode(&Sha256::digest(&block.der)),
            not_after: answer.not_after,
            receipt: answer.receipt.clone(),
            agrees_up_to: None,
            fault: None,
            is_of_key: false,
        })
    }

    /// The name of the log that it is of; `None` while it is pending.
    #[must_use]
    pub fn origin(&self) -> Option<String> {
        let checkpoint = Checkpoint::parse_unverified(self.receipt.checkpoint.as_deref()?).ok()?;
        Some(checkpoint.origin().to_owned())
    }

    /// The entry, once it is shown that the log of one of these keys has it, and that it is this certificate's.
    ///
    /// # Errors
    /// When that is not shown.
    pub fn verify(&self, keys: &[LogKey]) -> Result<Proven, Unproven> {
        let mut refused = NoProof::Pending;
        for key in keys.iter().rev() {
            match self.receipt.verify(key) {
                Ok(proven) if self.is_shown_by(&proven) => return Ok(proven),
                Ok(_) => return Err(Unproven::AnotherCertificate),
                Err(error) => refused = error,
            }
        }
        Err(refused.into())
    }

    /// Its key is believed by now: what there was to say of that is over.
    pub(super) fn believe(&mut self) {
        (self.fault, self.is_of_key) = (None, false);
    }

    fn is_shown_by(&self, proven: &Proven) -> bool {
        proven.entry.as_ref().is_some_and(|entry| {
            let content = &entry.content;
            content.kind == Kind::Issued
                && content.fingerprint.as_deref().map(|bytes| HEXLOWER.encode(bytes)).as_ref()
                    == Some(&self.fingerprint)
                && content.grant.as_deref() == Some(&self.grant_id.as_bytes()[..])
        })
    }
}

// === impl Receipts ===

impl Receipts {
    /// The receipts of this broker's certificates.
    ///
    /// # Errors
    /// When there is no home to keep anything in.
    pub fn of(environment: &Environment, broker: &Broker) -> Result<Self, Error> {
        Ok(Self { folder: known::folder(environment, broker)?.join("receipts") })
    }

    /// Keeps one, in place of an older one of the same entry and grant.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, kept: &Kept) -> Result<(), Error> {
        let json = serde_json::to_vec(kept).map_err(|_| Error::Bug("a receipt is not JSON"))?;
        private_file::write(&self.file(kept), &json)
    }

    /// Every one, by index; a file that is none is named.
    ///
    /// # Errors
    /// When the folder cannot be read, or holds something that is no receipt.
    pub fn all(&self) -> Result<Vec<Kept>, Error> {
        let files = match std::fs::read_dir(&self.folder) {
            Ok(files) => files,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::file("read", &self.folder)(error)),
        };
        let mut all = Vec::new();
        for file in files {
            let path = file.map_err(Error::file("read", &self.folder))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let Some(json) = private_file::read(&path, 256 * 1024)? else { continue };
            let kept: Kept = serde_json::from_str(&json).map_err(|error| {
                Error::failed(
                    format!("`{}` is no receipt: {error}", path.display()),
                    "look at the file; without it the rest can be checked",
                )
            })?;
            all.push(kept);
        }
        all.sort_by_key(|kept| kept.receipt.index);
        Ok(all)
    }

    /// What is open of them, without asking anyone.
    ///
    /// # Errors
    /// As [`Receipts::all`].
    pub fn open(&self) -> Result<Open, Error> {
        let all = self.all()?;
        let (of_key, not_held): (Vec<_>, Vec<_>) =
            all.iter().filter(|kept| kept.fault.is_some()).partition(|kept| kept.is_of_key);
        let pending = all.iter().filter(|kept| kept.fault.is_none() && kept.receipt.is_pending()).count();
        Ok(Open { pending, unbelieved: of_key.len(), not_held: not_held.len() })
    }

    /// Forgets what ended long ago, and the oldest of too many; what does not hold is evidence and stays. That one cannot be
    /// removed harms nobody.
    pub(super) fn prune(&self, now: Timestamp) {
        let mut all = self.all().unwrap_or_default();
        all.retain(|kept| kept.fault.is_none());
        let many = all.len().saturating_sub(MOST);
        for (number, kept) in all.iter().enumerate() {
            if number < many || kept.not_after.as_second().saturating_add(KEPT_FOR) < now.as_second() {
                let _ = private_file::remove(&self.file(kept));
            }
        }
    }

    fn count(&self) -> usize {
        std::fs::read_dir(&self.folder).map_or(0, Iterator::count)
    }

    /// By place and grant: a false receipt must not take a true one's place.
    fn file(&self, kept: &Kept) -> PathBuf {
        self.folder.join(format!("{:020}-{}.json", kept.receipt.index, kept.grant_id))
    }
}
