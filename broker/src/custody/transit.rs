//! A CA key that stays in Transit: it signs our to-be-signed bytes there.

mod powers;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use ichor_wire::profile::KeyAlgorithm;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;

pub(super) use powers::Powers;

use super::{SignError, Signer, ToBeSigned};
use crate::openbao::{BaoError, KeyKind, LARGEST_BATCH, TransitEngine, TransitKey};

/// So many calls are under way at once: while they are, what comes gathers for the next. A call costs the server several times
/// what one more signature in it does, so few calls with many signatures serve a crowd best; the second is for those who
/// come just after a first one left.
const UNDER_WAY: usize = 2;

/// So many may wait.
const WAITING: usize = 4_096;

/// Signs with one version of one Transit key. Signatures that are asked for while others are under way travel together.
pub struct TransitSigner {
    public_key: Vec<u8>,
    algorithm: KeyAlgorithm,
    queue: mpsc::Sender<Waiting>,
    task: AbortHandle,
}

/// Why a Transit key is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransitKeyError {
    /// No key of that name.
    #[error(
        "there is no Transit key `{0}`; bring it back at the server, or `ichor-broker ca create --custody transit` makes one"
    )]
    Missing(String),
    /// No key that encrypts of that name. We make none: who may is the server's own people's matter.
    #[error("there is no Transit key at `{0}`; make it with `bao write -f {0}`")]
    NoSealingKey(String),
    /// It was not born in Transit.
    #[error(
        "the Transit key `{0}` was imported, so someone may hold it elsewhere; name another with `--key`, or use `ca import`"
    )]
    Imported(String),
    /// Its private part can leave Transit.
    #[error(
        "the Transit key `{key}` has `{flag}` set, so its private part can leave Transit, and that cannot be unset; \
         use another key, made with `{flag}=false`: `ichor-broker ca rotate` makes one for a cluster that has a CA"
    )]
    Leaks {
        /// The key.
        key: String,
        /// `exportable` or `allow_plaintext_backup`.
        flag: &'static str,
    },
    /// A kind that does not sign for CAs, or not the one that the CA has.
    #[error("the Transit key `{key}` is of type `{found}`; a CA needs {needed}")]
    Kind {
        /// The key.
        key: String,
        /// Its type.
        found: String,
        /// What it should be.
        needed: String,
    },
    /// The version is not there.
    #[error(
        "the Transit key `{key}` has no version {version}; restore it, or make a new CA with `ichor-broker ca rotate`"
    )]
    Version {
        /// The key.
        key: String,
        /// The version asked for.
        version: u32,
    },
    /// The version signs no more.
    #[error(
        "the Transit key `{key}` signs with no version before {oldest}, and the CA's is version {version}; set its \
         `min_encryption_version` to {version}, or make a new CA with `ichor-broker ca rotate`"
    )]
    TooOld {
        /// The key.
        key: String,
        /// The version asked for.
        version: u32,
        /// The oldest that signs.
        oldest: u32,
    },
    /// It was put out of use.
    #[error(
        "the Transit key `{0}` is soft-deleted, so nothing can be done with it; bring it back with `bao write -f \
         MOUNT/keys/{0}/soft-delete-restore`"
    )]
    SoftDeleted(String),
    /// The version is there, with another public key than the certificate.
    #[error("version {version} of the Transit key `{key}` is not the key of the CA's certificate")]
    Other {
        /// The key.
        key: String,
        /// The version asked for.
        version: u32,
    },
    /// The token may not sign.
    #[error("our token may not sign at `{0}`; give its policy `update` there, as deploy/openbao/transit.hcl has it")]
    MayNotSign(String),
}

struct Waiting {
    bytes: ToBeSigned,
    done: oneshot::Sender<Result<Vec<u8>, SignError>>,
}

/// What the task signs with.
struct Key {
    transit: TransitEngine,
    name: String,
    version: u32,
    kind: KeyKind,
}

/// The types of Transit keys that a CA may have.
const KINDS: [&str; 6] = ["ed25519", "ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-3072", "rsa-4096"];

// === impl TransitKeyError ===

impl TransitKeyError {
    /// The same without what helps a CA.
    pub(super) fn is_so(&self) -> String {
        match self {
            Self::Missing(_) => "it is not there".to_owned(),
            Self::Version { .. } => "it has no such version".to_owned(),
            Self::TooOld { oldest, .. } => format!("it signs with no version before {oldest}"),
            Self::MayNotSign(path) => format!("our token may not sign at `{path}`"),
            Self::Other { .. } => "it is another key".to_owned(),
            other => other.to_string(),
        }
    }
}

// === impl TransitSigner ===

impl TransitSigner {
    /// A signer with this version of the key, once it is seen that the key cannot leave Transit and is of a kind that signs.
    ///
    /// # Errors
    /// When the key is not to be used, with what is wrong.
    pub fn new(transit: TransitEngine, name: &str, version: u32, key: &TransitKey) -> Result<Self, TransitKeyError> {
        check(name, key)?;
        let wrong_kind = || TransitKeyError::Kind {
            key: name.to_owned(),
            found: key.kind.clone(),
            needed: "`ed25519`, `ecdsa-p256`, `ecdsa-p384` or RSA of 2048 to 4096 bits".into(),
        };
        // a key that encrypts has no public key to look for
        if !KINDS.contains(&key.kind.as_str()) {
            return Err(wrong_kind());
        }
        let missing = || TransitKeyError::Version { key: name.to_owned(), version };
        let public_key = key.versions.get(&version).ok_or_else(missing)?.clone();
        if version < key.oldest_signing {
            return Err(TransitKeyError::TooOld { key: name.to_owned(), version, oldest: key.oldest_signing });
        }
        let algorithm = KeyAlgorithm::of_ca(&public_key).map_err(|_| wrong_kind())?;
        let kind = KeyKind::of(algorithm).filter(|kind| kind.transit() == key.kind).ok_or_else(wrong_kind)?;
        let (queue, waiting) = mpsc::channel(WAITING);
        let key = Key { transit, name: name.to_owned(), version, kind };
        let task = tokio::spawn(run(Arc::new(key), waiting)).abort_handle();
        Ok(Self { public_key, algorithm, queue, task })
    }

    /// The key's kind.
    #[must_use]
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }
}

#[async_trait]
impl Signer for TransitSigner {
    fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    async fn sign(&self, bytes: ToBeSigned) -> Result<Vec<u8>, SignError> {
        let (done, signed) = oneshot::channel();
        let full = |_| SignError::Unavailable("too many signatures wait for Transit; try again in a moment".into());
        self.queue.try_send(Waiting { bytes, done }).map_err(full)?;
        let stopping = |_| SignError::Unavailable("the broker is stopping".into());
        signed.await.map_err(stopping)?
    }
}

impl fmt::Debug for TransitSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransitSigner").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl Drop for TransitSigner {
    fn drop(&mut self) {
        // nobody waits: `sign` borrows the signer until it has its answer
        self.task.abort();
    }
}

/// Takes what has gathered whenever a call may begin.
async fn run(key: Arc<Key>, mut waiting: mpsc::Receiver<Waiting>) {
    let places = Arc::new(Semaphore::new(UNDER_WAY));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let mut batch = Vec::new();
        if waiting.recv_many(&mut batch, LARGEST_BATCH).await == 0 {
            return;
        }
        // a commit wakes all whose grants it carried: let the others of them come too
        tokio::task::yield_now().await;
        while batch.len() < LARGEST_BATCH
            && let Ok(more) = waiting.try_recv()
        {
            batch.push(more);
        }
        let key = Arc::clone(&key);
        tokio::spawn(async move {
            key.sign(batch).await;
            drop(place);
        });
    }
}

impl Key {
    async fn sign(&self, mut batch: Vec<Waiting>) {
        // nobody waits any more for some
        batch.retain(|waiting| !waiting.done.is_closed());
        if batch.is_empty() {
            return;
        }
        let inputs: Vec<&[u8]> = batch.iter().map(|waiting| waiting.bytes.as_bytes()).collect();
        match self.transit.sign(&self.name, self.version, self.kind, &inputs).await {
            Ok(signatures) => {
                for (waiting, signature) in batch.into_iter().zip(signatures) {
                    let _ = waiting.done.send(signature.map_err(|error| SignError::from(&error)));
                }
            }
            Err(error) => {
                for waiting in batch {
                    let _ = waiting.done.send(Err(SignError::from(&error)));
                }
            }
        }
    }
}

// === impl SignError ===

impl From<&BaoError> for SignError {
    fn from(error: &BaoError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// Whether a key is in use, and its private part sure to stay in Transit.
///
/// # Errors
/// When it is not.
pub(crate) fn check(name: &str, key: &TransitKey) -> Result<(), TransitKeyError> {
    let leaks = |flag| TransitKeyError::Leaks { key: name.to_owned(), flag };
    if key.is_exportable {
        return Err(leaks("exportable"));
    }
    if key.allows_plaintext_backup {
        return Err(leaks("allow_plaintext_backup"));
    }
    if key.is_soft_deleted {
        return Err(TransitKeyError::SoftDeleted(name.to_owned()));
    }
    Ok(())
}
