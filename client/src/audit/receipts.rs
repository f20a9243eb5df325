//! A certificate's receipt: checked when it comes, and kept.

use std::path::PathBuf;

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
}

/// The receipts of one broker's certificates.
#[derive(Clone, Debug)]
pub struct Receipts {
    folder: PathBuf,
}

/// Checks a new certificate's receipt and keeps it; one that is pending is kept to be completed. Where no key of the log is
/// known yet, the broker's is believed and kept.
///
/// # Errors
/// When the receipt does not hold: then the broker did not record what it says, and the certificate is better not used.
pub async fn take(
    environment: &Environment,
    session: &Session,
    answer: &CertificateAnswer,
) -> Result<(), Error> {
    let broker = session.broker();
    let receipts = Receipts::of(environment, broker)?;
    let kept = Kept::of(answer)?;
    if !kept.receipt.is_pending() {
        let mut known = Known::load(environment, broker)?;
        let key = match known.key().cloned() {
            Some(key) => key,
            None => known.first_use(&unverified_key(session).await?)?,
        };
        let mut newest = key.clone();
        if let Err(error) = kept.verify(&[key]) {
            // The log may have another key since: then it says so itself.
            let keys = match error {
                Unproven::Proof(NoProof::Checkpoint(_)) => known.follow(&unverified_key(session).await?)?,
                error => return Err(refused(&error)),
            };
            kept.verify(&keys).map_err(|error| refused(&error))?;
            newest = keys.last().cloned().unwrap_or(newest);
        }
        // Not the checkpoint: that it continues the one before has not been shown.
        known.save(&newest, None)?;
    }
    receipts.save(&kept)?;
    receipts.prune(broker.clock().now());
    Ok(())
}

fn refused(error: &Unproven) -> Error {
    Error::failed(
        format!("the broker's receipt for this certificate does not hold, so it is not used: {error}"),
        "tell who runs the broker; `ichor status --verify` checks the receipts before it",
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

    fn is_shown_by(&self, proven: &Proven) -> bool {
        proven.entry.as_ref().is_some_and(|entry| {
            let content = &entry.content;
            content.kind == Kind::Issued
                && content.fingerprint.as_deref().map(|bytes| HEXLOWER.encode(bytes)).as_ref() == Some(&self.fingerprint)
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

    /// Keeps one, in place of an older one of the same entry.
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
                Error::failed(format!("`{}` is no receipt: {error}", path.display()), "look at the file; without it the rest can be checked")
            })?;
            all.push(kept);
        }
        all.sort_by_key(|kept| kept.receipt.index);
        Ok(all)
    }

    /// Forgets what ended long ago, and the oldest of too many, each time that a hundred more have come: every command reads no
    /// more than it needs. That one cannot be removed harms nobody.
    fn prune(&self, now: Timestamp) {
        let count = std::fs::read_dir(&self.folder).map_or(0, Iterator::count);
        if count % 100 != 0 && count <= MOST {
            return;
        }
        let all = self.all().unwrap_or_default();
        let many = all.len().saturating_sub(MOST);
        for (number, kept) in all.iter().enumerate() {
            if number < many || kept.not_after.as_second().saturating_add(KEPT_FOR) < now.as_second() {
                let _ = private_file::remove(&self.file(kept));
            }
        }
    }

    fn file(&self, kept: &Kept) -> PathBuf {
        self.folder.join(format!("{:020}.json", kept.receipt.index))
    }
}
