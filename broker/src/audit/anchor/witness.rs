//! A witness (C2SP tlog-witness): it signs a checkpoint once it has seen that the log only grew.

use std::time::Duration;

use data_encoding::BASE64;
use ichor_wire::log::{Checkpoint, LogKey};
use reqwest::StatusCode;
use tokio::sync::Mutex;
use url::Url;

use super::{AnchorError, Later, WitnessKey};
use crate::audit::notary::Signed;
use crate::audit::prove;
use crate::outgoing::{self, Roots, chain};
use crate::store::Store;

/// The longest that a witness may take to answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// The largest answer that is read: a few signature lines.
const LARGEST_ANSWER: usize = 16 * 1024;

/// How often a witness is asked that tells each time from which other size it expects us to go on: other brokers of the same log ask
/// it meanwhile.
const TRIES: usize = 6;

/// A witness of the log.
#[derive(Debug)]
pub struct Witness {
    client: reqwest::Client,
    url: Url,
    key: WitnessKey,
    /// The size that it cosigned last, as far as we know.
    size: Mutex<u64>,
}

/// What a witness answers.
enum Answer {
    Signed(String),
    /// It goes on from this size.
    From(u64),
}

// === impl Witness ===

impl Witness {
    /// The witness below `url`, whose path ends with a slash.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn new(url: &Url, key: WitnessKey) -> Result<Self, AnchorError> {
        let failed = |why: &dyn std::fmt::Display| AnchorError::failing(&said(&key), why);
        let url = url.join("add-checkpoint").map_err(|error| failed(&error))?;
        let builder = outgoing::builder(DEADLINE, Roots::of(&url, None)).map_err(|error| failed(&error))?;
        let client = builder.build().map_err(|error| failed(&error))?;
        Ok(Self { client, url, key, size: Mutex::default() })
    }

    pub(super) fn said(&self) -> String {
        said(&self.key)
    }

    /// Returns the witness' signature line once it has seen that this checkpoint continues the one before. Where it has signed
    /// more entries than these, of another broker's tree, it signs no fewer: then the checkpoint that it signed is looked for in the
    /// database, where that broker keeps it, and no line is returned. Where it is not there yet, that is [`AnchorError::Ahead`], as long as
    /// the database has so many entries: the witness is to see the newest tree then.
    pub(super) async fn cosign(&self, store: &dyn Store, log: &LogKey, signed: &Signed) -> Result<String, AnchorError> {
        let mut from = self.size.lock().await;
        let size = signed.checkpoint.size();
        // another tree of ours, or a witness that lost its memory: it says itself where it is
        *from = (*from).min(size);
        for _ in 0..TRIES {
            match self.ask(store, signed, *from).await? {
                Answer::Signed(line) => {
                    *from = size;
                    return Ok(line);
                }
                Answer::From(known) if known > size => {
                    let there = store.head().await.map_err(|error| self.failing(error))?.size;
                    let anchor = self.said();
                    if known <= there && self.has_kept(store, log, signed).await? {
                        return Ok(String::new());
                    }
                    return Err(match known <= there {
                        true => AnchorError::Ahead { anchor, seen: known, ours: size },
                        false => {
                            let why = format!("it has cosigned {known} entries, ours has {there}");
                            AnchorError::Forked { anchor, why }
                        }
                    });
                }
                Answer::From(known) if known == *from => {
                    return Err(AnchorError::Forked {
                        anchor: self.said(),
                        why: format!("it has cosigned another tree of {known} entries"),
                    });
                }
                Answer::From(known) => *from = known,
            }
        }
        Err(self.failing("it does not say from which size to go on"))
    }

    /// Whether the database keeps a checkpoint of ours that this witness signed and that has all entries of this one.
    async fn has_kept(&self, store: &dyn Store, log: &LogKey, signed: &Signed) -> Result<bool, AnchorError> {
        let Some(kept) = store.checkpoint().await.map_err(|error| self.failing(error))? else { return Ok(false) };
        let Ok(checkpoint) = Checkpoint::parse_and_verify(&kept.note, log) else { return Ok(false) };
        if checkpoint.size() < signed.checkpoint.size()
            || self.key.find(&checkpoint.unsigned_text(), &kept.note).is_none()
        {
            return Ok(false);
        }
        Later { store, log, anchor: &self.said() }.is_ours(signed, &kept.note).await?;
        Ok(true)
    }

    async fn ask(&self, store: &dyn Store, signed: &Signed, from: u64) -> Result<Answer, AnchorError> {
        let proof = prove::consistency(store, &signed.tree, from).await.map_err(|error| self.failing(error))?;
        let proof: String = proof.iter().map(|hash| BASE64.encode(hash) + "\n").collect();
        // what others have cosigned is theirs
        let body = format!("old {from}\n{proof}\n{}", signed.note);
        let sent = self.client.post(self.url.clone()).body(body).send().await;
        let mut answer = sent.map_err(|error| self.failing(chain(&error)))?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.failing(chain(&error)))? {
            if body.len() + chunk.len() > LARGEST_ANSWER {
                return Err(self.failing("its answer is larger than 16 KiB"));
            }
            body.extend_from_slice(&chunk);
        }
        let body = String::from_utf8_lossy(&body);
        match status {
            StatusCode::OK => {
                let line = self.key.find(&signed.checkpoint.unsigned_text(), &body);
                line.map(|line| Answer::Signed(line.to_owned()))
                    .ok_or_else(|| self.failing("its answer has no valid signature of the configured key"))
            }
            StatusCode::CONFLICT => {
                let known = body.trim_end().parse().ok();
                known.map(Answer::From).ok_or_else(|| self.failing("it answers 409 and names no size"))
            }
            StatusCode::UNPROCESSABLE_ENTITY => Err(AnchorError::Forked {
                anchor: self.said(),
                why: format!("it finds that ours does not continue the {from} entries that it has cosigned"),
            }),
            StatusCode::NOT_FOUND => {
                Err(self.failing(format!("it does not know the log `{}`; have it added there", origin(signed))))
            }
            StatusCode::FORBIDDEN => {
                Err(self
                    .failing("it does not accept our signature; give it the key that `ichor-broker audit key` prints"))
            }
            other => Err(self.failing(format!("it answers {other}"))),
        }
    }

    fn failing(&self, why: impl std::fmt::Display) -> AnchorError {
        AnchorError::failing(&self.said(), why)
    }
}

fn said(key: &WitnessKey) -> String {
    format!("the witness `{}`", key.name())
}

fn origin(signed: &Signed) -> &str {
    Checkpoint::origin(&signed.checkpoint)
}
