//! Signed notes (C2SP signed-note): a text and the signatures on it.

use data_encoding::BASE64;

use super::LogKey;

/// The longest note that is read, in bytes (64 KiB): a checkpoint with many witnesses has a few.
pub const MAX_NOTE: usize = 64 * 1024;

/// How many signatures of a note are read.
const MAX_SIGNATURES: usize = 100;

/// What begins a signature line: an em dash and a blank.
const DASH: &str = "\u{2014} ";

/// A note as read; nothing of it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note<'a> {
    text: &'a str,
    signatures: Vec<Signature<'a>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Signature<'a> {
    name: &'a str,
    id: u32,
    bytes: Vec<u8>,
}

/// Why a text is not a note that a key vouches for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// Not in the form of a signed note.
    #[error("the signed note cannot be read: {0}")]
    Malformed(&'static str),
    /// Signed, but not by this key.
    #[error("the note has no signature of the key `{0}`")]
    Unsigned(
        /// The key's name and id.
        String,
    ),
    /// A signature in the key's name that is not the key's.
    #[error("the signature of `{0}` is not valid")]
    BadSignature(
        /// The key's name.
        String,
    ),
}

// === impl Note ===

impl<'a> Note<'a> {
    /// The note that `note` is.
    ///
    /// # Errors
    /// When it is none, or larger than [`MAX_NOTE`].
    pub fn parse(note: &'a str) -> Result<Self, NoteError> {
        if note.len() > MAX_NOTE {
            return Err(NoteError::Malformed("it is larger than 64 KiB"));
        }
        if note.chars().any(|c| c.is_ascii_control() && c != '\n') {
            return Err(NoteError::Malformed("it has a control character"));
        }
        // The signatures stand behind the last empty line; the text keeps its last line's end.
        let (before, signatures) = note.rsplit_once("\n\n").ok_or(NoteError::Malformed("it has no signatures"))?;
        let text = note.get(..=before.len()).ok_or(NoteError::Malformed("it has no text"))?;
        let lines = signatures.strip_suffix('\n').ok_or(NoteError::Malformed("its last line has no end"))?;
        let mut read = Vec::new();
        for line in lines.split('\n') {
            if read.len() == MAX_SIGNATURES {
                return Err(NoteError::Malformed("it has more than 100 signatures"));
            }
            read.push(Signature::parse(line).ok_or(NoteError::Malformed("a signature line is not one"))?);
        }
        Ok(Self { text, signatures: read })
    }

    /// The signed text, with its last line's end.
    #[must_use]
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// Checks that `key` signed this text.
    ///
    /// # Errors
    /// When it did not, or a signature in its name is not valid.
    pub fn verify(&self, key: &LogKey) -> Result<(), NoteError> {
        let ours: Vec<_> = self.signatures.iter().filter(|s| s.name == key.name() && s.id == key.id()).collect();
        if ours.is_empty() {
            return Err(NoteError::Unsigned(format!("{}+{:08x}", key.name(), key.id())));
        }
        match ours.iter().all(|signature| key.verifies(self.text.as_bytes(), &signature.bytes)) {
            true => Ok(()),
            false => Err(NoteError::BadSignature(key.name().to_owned())),
        }
    }
}

// === impl Signature ===

impl<'a> Signature<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (name, signature) = line.strip_prefix(DASH)?.split_once(' ')?;
        let bytes = BASE64.decode(signature.as_bytes()).ok()?;
        let (id, bytes) = bytes.split_first_chunk::<4>()?;
        let sound = is_name(name) && !bytes.is_empty();
        sound.then(|| Self { name, id: u32::from_be_bytes(*id), bytes: bytes.to_vec() })
    }
}

/// The line, with its end, that carries a signature of `key`.
pub(super) fn signature_line(key: &LogKey, signature: &[u8]) -> String {
    let bytes = [&key.id().to_be_bytes(), signature].concat();
    format!("{DASH}{} {}\n", key.name(), BASE64.encode(&bytes))
}

/// Whether a signer may be called this: something, without blanks or `+`.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}
