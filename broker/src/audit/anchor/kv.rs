//! The newest checkpoint as a secret of KV version 2: whoever writes the database cannot write it.

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::{AnchorError, size};
use crate::audit::notary::Signed;
use crate::openbao::{BaoError, Kind, Kv};

/// How often it is written over what others wrote meanwhile.
const TRIES: usize = 8;

/// A secret that holds the whole signed note.
#[derive(Debug)]
pub struct KvAnchor {
    kv: Kv,
    path: String,
    said: String,
    /// The version that is the newest, as far as we know.
    version: Mutex<Option<u64>>,
}

#[derive(Serialize, Deserialize)]
struct Fields {
    checkpoint: String,
}

// === impl KvAnchor ===

impl KvAnchor {
    /// The secret at `path` below the mount; `said` names it for people.
    #[must_use]
    pub fn new(kv: Kv, path: String, said: String) -> Self {
        Self { kv, path, said, version: Mutex::default() }
    }

    pub(super) fn said(&self) -> String {
        self.said.clone()
    }

    /// Whoever asks decides what to make of the answer: what is written next is written over this version.
    pub(super) async fn held(&self) -> Result<Option<String>, AnchorError> {
        let mut version = self.version.lock().await;
        let (held, newest) = self.read().await?;
        *version = Some(newest);
        Ok(held)
    }

    /// Writes over the version that was read or written last, and over no other: a version that someone else wrote is looked
    /// at first. Where that speaks of more entries it stays, and is answered.
    pub(super) async fn hold(&self, signed: &Signed) -> Result<Option<String>, AnchorError> {
        let mut version = self.version.lock().await;
        let fields = Fields { checkpoint: signed.note.to_string() };
        for _ in 0..TRIES {
            let over = match version.take() {
                Some(over) => over,
                None => {
                    let (held, newest) = self.read().await?;
                    if let Some(later) = held.filter(|held| size(held) > signed.checkpoint.size()) {
                        return Ok(Some(later));
                    }
                    newest
                }
            };
            match self.kv.write(&self.path, &fields, over).await {
                Ok(written) => {
                    *version = Some(written);
                    return Ok(None);
                }
                // an answer that was lost may stand for a write that was done, and other brokers write too
                Err(error) if matches!(error.kind(), Kind::Refused(words) if words.contains("check-and-set")) => {}
                Err(error) => return Err(self.failing(&error)),
            }
        }
        Err(AnchorError::failing(&self.said, "others write it all the time"))
    }

    /// What it holds, and the number of the newest version, whether that is deleted or not.
    async fn read(&self) -> Result<(Option<String>, u64), AnchorError> {
        let Some(found) = self.kv.read(&self.path).await.map_err(|error| self.failing(&error))? else {
            let newest = self.kv.newest(&self.path).await.map_err(|error| self.failing(&error))?;
            return Ok((None, newest));
        };
        let fields: Fields = found.data().map_err(|error| self.failing(&error))?;
        Ok((Some(fields.checkpoint), found.number))
    }

    fn failing(&self, error: &BaoError) -> AnchorError {
        AnchorError::failing(&self.said, error)
    }
}
