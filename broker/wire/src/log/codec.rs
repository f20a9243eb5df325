//! Encoding and decoding: exactly one byte string for each value.

use minicbor::{Decoder, Encoder};
use sha2::{Digest, Sha256};

use super::{Content, Entry, Leaf, LogError, MAX_ENTRY, Places, VERSION};

/// The bytes of an id (RFC 9562) and of a salt.
const ID: usize = 16;

/// The bytes of a SHA-256 digest.
const DIGEST: usize = 32;

// === impl Entry ===

impl Entry {
    /// The entry's one deterministic encoding (RFC 8949 §4.2.1), at most [`MAX_ENTRY`] bytes.
    ///
    /// # Errors
    /// When it would be longer, an id, salt or digest has the wrong length, or the version is not [`VERSION`].
    pub fn encode(&self) -> Result<Vec<u8>, LogError> {
        version(self.version)?;
        self.check()?;
        let encoded = minicbor::to_vec(self).map_err(malformed)?;
        if encoded.len() > MAX_ENTRY {
            return Err(LogError::TooLarge(encoded.len()));
        }
        Ok(encoded)
    }

    /// The entry that `bytes` encode.
    ///
    /// # Errors
    /// When they are too long, of a newer version, no entry, or any other encoding than the deterministic one: unknown
    /// fields, trailing bytes and repeated keys included, so that one entry has one hash.
    pub fn decode(bytes: &[u8]) -> Result<Self, LogError> {
        let entry: Self = decode(bytes)?;
        entry.check()?;
        Ok(entry)
    }

    /// Checks the lengths that the format fixes.
    fn check(&self) -> Result<(), LogError> {
        let Content {
            grant,
            session,
            fingerprint,
            public_key,
            policy_digest,
            old_head,
            dropped,
            drop_request,
            calls,
            lines,
            break_glass,
            contents,
            kit,
            challenge,
            node_calls,
            ..
        } = &self.content;
        if dropped.as_ref().is_some_and(|numbers| Places::read(numbers).is_none()) {
            return Err(LogError::Malformed("the places of dropped bodies are not in order".into()));
        }
        length("drop request", drop_request.as_ref(), ID)?;
        length("id", Some(&self.id), ID)?;
        length("salt", Some(&self.salt), ID)?;
        length("grant", grant.as_ref(), ID)?;
        length("session", session.as_ref(), ID)?;
        length("fingerprint", fingerprint.as_ref(), DIGEST)?;
        length("public key digest", public_key.as_ref(), DIGEST)?;
        length("policy digest", policy_digest.as_ref(), DIGEST)?;
        length("old root", old_head.as_ref().map(|head| &head.root), DIGEST)?;
        length("digest of calls", calls.as_ref(), DIGEST)?;
        length("digest of lines", lines.as_ref(), DIGEST)?;
        length("break-glass request", break_glass.as_ref(), ID)?;
        length("digest of contents", contents.as_ref(), DIGEST)?;
        length("challenge", challenge.as_ref(), DIGEST)?;
        for of_node in node_calls.iter().flatten() {
            length("digest of a node's calls", Some(&of_node.calls), DIGEST)?;
        }
        let Some(kit) = kit else { return Ok(()) };
        length("kit's id", kit.id.as_ref(), ID)?;
        length("kit's file digest", kit.file.as_ref(), DIGEST)?;
        for holder in kit.holders.iter().flatten() {
            length("commitment", Some(&holder.commitment), DIGEST)?;
            length("proof key", Some(&holder.proof_key), DIGEST)?;
        }
        Ok(())
    }
}

// === impl Leaf ===

impl Leaf {
    /// The leaf record of an encoded entry at `index`; `time` is the entry's, in microseconds since the epoch.
    #[must_use]
    pub fn of(index: u64, entry_encoded: &[u8], time: i64) -> Self {
        Self { version: VERSION, index, time, body: Sha256::digest(entry_encoded).to_vec() }
    }

    /// The leaf's one deterministic encoding.
    ///
    /// # Errors
    /// When the body's hash is not 32 bytes or the version is not [`VERSION`].
    pub fn encode(&self) -> Result<Vec<u8>, LogError> {
        version(self.version)?;
        length("body hash", Some(&self.body), DIGEST)?;
        minicbor::to_vec(self).map_err(malformed)
    }

    /// The leaf that `bytes` encode.
    ///
    /// # Errors
    /// As [`Entry::decode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, LogError> {
        let leaf: Self = decode(bytes)?;
        length("body hash", Some(&leaf.body), DIGEST)?;
        Ok(leaf)
    }

    /// Whether this leaf stands for exactly this encoded entry.
    #[must_use]
    pub fn stands_for(&self, entry_encoded: &[u8]) -> bool {
        self.body == Sha256::digest(entry_encoded)[..]
    }
}

/// The longest leaf record, and one byte in front: a map's head, four keys, a version, two numbers of up to nine bytes, a digest.
const LEAF_ROOM: usize = 1 + 1 + 4 + 1 + 9 + 9 + 2 + DIGEST;

/// The hash of the leaf that stands for this encoded entry: that of [`Leaf::of`], encoded. It allocates nothing, for whoever
/// reads a whole log.
///
/// # Errors
/// None that a leaf record can have.
pub(super) fn leaf_hash_of(index: u64, entry_encoded: &[u8], time: i64) -> Result<[u8; 32], LogError> {
    let mut room = [0; LEAF_ROOM];
    let [_prefix, record @ ..] = &mut room;
    let free = {
        let mut encoder = Encoder::new(&mut record[..]);
        let digest = Sha256::digest(entry_encoded);
        let fields = encoder.map(4).and_then(|e| e.u8(0)?.u8(VERSION)?.u8(1)?.u64(index)?.u8(2)?.i64(time)?.u8(3));
        fields.and_then(|e| e.bytes(&digest)).map_err(malformed)?;
        encoder.writer().len()
    };
    let used = room.get(..LEAF_ROOM.saturating_sub(free)).unwrap_or_default();
    Ok(Sha256::digest(used).into())
}

/// The hash of an encoded leaf in the Merkle tree: SHA-256(0x00 ‖ leaf) (RFC 6962 §2.1).
#[must_use]
pub fn leaf_hash(leaf_encoded: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update([0]).chain_update(leaf_encoded).finalize().into()
}

// === the deterministic rule ===

/// Decodes, then encodes again and compares: whatever a decoder lets pass, only one byte string is accepted.
fn decode<'b, T>(bytes: &'b [u8]) -> Result<T, LogError>
where
    T: minicbor::Decode<'b, ()> + minicbor::Encode<()>,
{
    if bytes.len() > MAX_ENTRY {
        return Err(LogError::TooLarge(bytes.len()));
    }
    // The version stands first in entry and leaf alike, so that a newer record is told from a damaged one.
    let mut head = Decoder::new(bytes);
    head.map().map_err(malformed)?;
    if head.u8().map_err(malformed)? != 0 {
        return Err(LogError::Malformed("the version does not come first".into()));
    }
    version(head.u8().map_err(malformed)?)?;

    let value: T = minicbor::decode(bytes).map_err(malformed)?;
    if minicbor::to_vec(&value).map_err(malformed)? != bytes {
        return Err(LogError::NotDeterministic);
    }
    Ok(value)
}

fn version(found: u8) -> Result<(), LogError> {
    match found {
        0 => Err(LogError::Malformed("there is no version 0".into())),
        VERSION => Ok(()),
        newer => Err(LogError::Version(newer)),
    }
}

fn length(what: &str, bytes: Option<&Vec<u8>>, expected: usize) -> Result<(), LogError> {
    match bytes {
        Some(bytes) if bytes.len() != expected => {
            Err(LogError::Malformed(format!("the {what} has {} bytes, not {expected}", bytes.len())))
        }
        _ => Ok(()),
    }
}

fn malformed(error: impl std::fmt::Display) -> LogError {
    LogError::Malformed(error.to_string())
}

/// Maps from text to text, ordered by their encoded keys as RFC 8949 §4.2.1 wants it: a shorter key comes first, which is
/// not the order of a `BTreeMap<String, _>`.
pub(super) mod text_map {
    use std::collections::BTreeMap;

    use minicbor::decode::{self, Decoder};
    use minicbor::encode::{self, Encoder, Write};

    type Map = Option<BTreeMap<String, String>>;

    pub(in crate::log) fn encode<C, W: Write>(
        map: &Map,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        let Some(map) = map else {
            e.null()?;
            return Ok(());
        };
        let mut pairs: Vec<_> = map.iter().collect();
        pairs.sort_by_key(|(key, _)| (key.len(), *key));
        e.map(pairs.len() as u64)?;
        for (key, value) in pairs {
            e.str(key)?.str(value)?;
        }
        Ok(())
    }

    pub(in crate::log) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Map, decode::Error> {
        d.map_iter::<String, String>()?.collect::<Result<_, _>>().map(Some)
    }

    pub(in crate::log) fn nil() -> Option<Map> {
        Some(None)
    }

    pub(in crate::log) fn is_nil(map: &Map) -> bool {
        map.is_none()
    }
}
