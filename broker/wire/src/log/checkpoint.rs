//! Checkpoints: the size and root of a log, signed (C2SP tlog-checkpoint in a C2SP signed-note).

use data_encoding::BASE64;

use super::note::{Note, NoteError};
use super::tree::Hash;
use super::{LogKey, note};

/// What a log was at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    origin: String,
    size: u64,
    root: Hash,
}

/// Why a text is not a checkpoint that a key vouches for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// Not a signed note.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// A signed note that is no checkpoint.
    #[error("the checkpoint cannot be read: {0}")]
    Malformed(&'static str),
    /// The checkpoint is another log's.
    #[error("the checkpoint is of the log `{found}`, not of `{expected}`")]
    OtherLog {
        /// The log that it is of.
        found: String,
        /// The log that the key is of.
        expected: String,
    },
}

// === impl Checkpoint ===

impl Checkpoint {
    /// What the log of this key is: `size` leaves with this root.
    #[must_use]
    pub fn new(key: &LogKey, size: u64, root: Hash) -> Self {
        Self { origin: key.name().to_owned(), size, root }
    }

    /// The log's name.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// How many leaves the log has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root of the log's tree.
    #[must_use]
    pub fn root(&self) -> &Hash {
        &self.root
    }

    /// The bytes that are signed: three lines, each with its end.
    #[must_use]
    pub fn unsigned_text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(&self.root))
    }

    /// The signed note, from an Ed25519 signature over [`Checkpoint::unsigned_text`].
    ///
    /// # Errors
    /// When the signature is not this key's over these bytes, or the key is another log's: no note goes out that nobody could
    /// verify.
    pub fn signed(&self, key: &LogKey, signature: &[u8]) -> Result<String, CheckpointError> {
        if key.name() != self.origin {
            return Err(self.other_log(key));
        }
        let text = self.unsigned_text();
        if !key.verifies(text.as_bytes(), signature) {
            return Err(NoteError::BadSignature(key.name().to_owned()).into());
        }
        Ok(format!("{text}\n{}", note::signature_line(key, signature)))
    }

    /// The checkpoint in a signed note, once the key's signature on it is verified. Signatures of others are passed over, and
    /// so are lines behind the third, which the format leaves to others.
    ///
    /// # Errors
    /// When it is none, is of another log, or has no valid signature of this key.
    pub fn parse_and_verify(note: &str, key: &LogKey) -> Result<Self, CheckpointError> {
        let note = Note::parse(note)?;
        let checkpoint = Self::read(note.text())?;
        if checkpoint.origin != key.name() {
            return Err(checkpoint.other_log(key));
        }
        note.verify(key)?;
        Ok(checkpoint)
    }

    /// What a signed note says, whoever signed it: to be told apart from what is verified.
    ///
    /// # Errors
    /// When it is no checkpoint.
    pub fn parse_unverified(note: &str) -> Result<Self, CheckpointError> {
        Self::read(Note::parse(note)?.text())
    }

    fn read(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text.lines();
        let mut line = |what| lines.next().filter(|line| !line.is_empty()).ok_or(CheckpointError::Malformed(what));
        let origin = line("it has no origin")?.to_owned();
        let size_text = line("it has no size")?;
        let size: u64 = size_text.parse().map_err(|_| CheckpointError::Malformed("its size is not a number"))?;
        if size.to_string() != size_text {
            return Err(CheckpointError::Malformed("its size is not in its one form"));
        }
        let root = BASE64.decode(line("it has no root")?.as_bytes()).ok().and_then(|root| Hash::try_from(root).ok());
        let root = root.ok_or(CheckpointError::Malformed("its root is not 32 bytes in base64"))?;
        if lines.any(str::is_empty) {
            return Err(CheckpointError::Malformed("it has an empty line"));
        }
        Ok(Self { origin, size, root })
    }

    fn other_log(&self, key: &LogKey) -> CheckpointError {
        CheckpointError::OtherLog { found: self.origin.clone(), expected: key.name().to_owned() }
    }
}
