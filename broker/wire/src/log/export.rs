//! The export of a log: a CBOR sequence (RFC 8742) that is written as it comes and read in one pass.
//!
//! Each item is an array that begins with its kind:
//!
//! - `[0, "ichor-audit-export/1", first]`: entries follow, from the index `first` on. It begins the export and stands again
//!   wherever a further page was put behind.
//! - `[1, leaf hash, entry]`: the next entry, with the hash that the log's tree has in its place.
//! - `[2, leaf hash, leaf record]`: the next entry, whose body was dropped.
//! - `[3, note]`: a signed checkpoint. It stands before the last of the entries that it covers, or right behind that.

use std::io::Read;

use super::tree::Hash;
use super::{MAX_ENTRY, note::MAX_NOTE};

/// The format's name, in its first item.
pub const FORMAT: &str = "ichor-audit-export/1";

/// The media type of an export.
pub const MEDIA_TYPE: &str = "application/cbor-seq";

/// No item is longer: an entry and what stands around it.
const MAX_ITEM: usize = if MAX_ENTRY > MAX_NOTE { MAX_ENTRY } else { MAX_NOTE } + 128;

/// How much is read at a time.
const CHUNK: u64 = 256 * 1024;

/// One item, within the reader's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// Entries follow from this index on.
    Begin {
        /// The index of the first.
        first: u64,
    },
    /// The next entry.
    Entry {
        /// What the log's tree has in its place.
        leaf_hash: &'a Hash,
        /// The encoded entry.
        entry: &'a [u8],
    },
    /// The next entry, whose body was dropped.
    Dropped {
        /// What the log's tree has in its place.
        leaf_hash: &'a Hash,
        /// The encoded leaf record.
        leaf: &'a [u8],
    },
    /// A signed checkpoint.
    Checkpoint(&'a str),
}

/// Reads an export item by item, in bounded memory.
pub struct Reader<R> {
    source: R,
    buffer: Vec<u8>,
    /// What of the buffer has been handed out.
    at: usize,
    /// Where the buffer begins in the source.
    offset: u64,
    ended: bool,
}

/// Why an export cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The source failed.
    #[error("the export cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// What stands there is no item.
    #[error("the export is damaged at byte {offset}: {why}")]
    Damaged {
        /// Where the item begins.
        offset: u64,
        /// What is wrong with it.
        why: &'static str,
    },
}

// === writing ===

/// Writes the item that begins an export or a page of one.
pub fn write_begin(out: &mut Vec<u8>, first: u64) {
    head(out, 4, 3);
    head(out, 0, 0);
    text(out, FORMAT);
    head(out, 0, first);
}

/// Writes an entry. `leaf_hash` is what the tree has, not what follows from the entry: that the two agree is what a verifier
/// finds out.
pub fn write_entry(out: &mut Vec<u8>, leaf_hash: &Hash, entry: &[u8]) {
    entry_item(out, 1, leaf_hash, entry);
}

/// Writes an entry whose body was dropped, by its leaf record.
pub fn write_dropped(out: &mut Vec<u8>, leaf_hash: &Hash, leaf: &[u8]) {
    entry_item(out, 2, leaf_hash, leaf);
}

/// Writes a signed checkpoint.
pub fn write_checkpoint(out: &mut Vec<u8>, note: &str) {
    head(out, 4, 2);
    head(out, 0, 3);
    text(out, note);
}

fn entry_item(out: &mut Vec<u8>, kind: u64, leaf_hash: &Hash, bytes: &[u8]) {
    head(out, 4, 3);
    head(out, 0, kind);
    head(out, 2, leaf_hash.len() as u64);
    out.extend_from_slice(leaf_hash);
    head(out, 2, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn text(out: &mut Vec<u8>, text: &str) {
    head(out, 3, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// The head of a data item in its shortest form (RFC 8949 §3).
fn head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let major = major << 5;
    let bytes = argument.to_be_bytes();
    match argument {
        0..=23 => out.push(major | argument.to_le_bytes()[0]),
        24..=0xff => out.extend_from_slice(&[major | 24, bytes[7]]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend_from_slice(&bytes[6..]);
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major | 26);
            out.extend_from_slice(&bytes[4..]);
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&bytes);
        }
    }
}

// === impl Reader ===

impl<R: Read> Reader<R> {
    /// Reads from `source`; it need not be buffered.
    pub fn new(source: R) -> Self {
        Self { source, buffer: Vec::new(), at: 0, offset: 0, ended: false }
    }

    /// The next item; `None` at the end.
    ///
    /// # Errors
    /// When the source fails, ends within an item, or has something that is none.
    pub fn item(&mut self) -> Result<Option<Item<'_>>, ReadError> {
        let length = loop {
            let rest = self.buffer.get(self.at..).unwrap_or_default();
            let why = match parse(rest) {
                Ok(Some((_, length))) => break length,
                Ok(None) if rest.is_empty() && self.ended => return Ok(None),
                Ok(None) if self.ended => "it ends within an item",
                Ok(None) if rest.len() > MAX_ITEM => "an item is longer than any may be",
                Ok(None) => {
                    self.fill()?;
                    continue;
                }
                Err(why) => why,
            };
            return Err(ReadError::Damaged { offset: self.offset + self.at as u64, why });
        };
        let rest = self.buffer.get(self.at..).unwrap_or_default();
        self.at += length;
        // Parsed a second time, because the first borrow would forbid to read on.
        parse(rest)
            .map(|item| item.map(|(item, _)| item))
            .map_err(|why| ReadError::Damaged { offset: self.offset, why })
    }

    fn fill(&mut self) -> Result<(), ReadError> {
        self.buffer.drain(..self.at);
        self.offset += self.at as u64;
        self.at = 0;
        let read = self.source.by_ref().take(CHUNK).read_to_end(&mut self.buffer)?;
        self.ended = read == 0;
        Ok(())
    }
}

/// The first item of `bytes` and its length; `None` where more bytes are needed to tell.
fn parse(bytes: &[u8]) -> Result<Option<(Item<'_>, usize)>, &'static str> {
    let mut rest = bytes;
    Ok(read_item(&mut rest)?.map(|item| (item, bytes.len() - rest.len())))
}

fn read_item<'a>(rest: &mut &'a [u8]) -> Result<Option<Item<'a>>, &'static str> {
    const NONE: &str = "what stands there is no item of an export";
    let Some(count) = take_head(rest, 4)? else { return Ok(None) };
    let Some(kind) = take_head(rest, 0)? else { return Ok(None) };
    let item = match (kind, count) {
        (0, 3) => {
            let Some(format) = take_string(rest, 3)? else { return Ok(None) };
            if format != FORMAT.as_bytes() {
                return Err("it is of another format than `ichor-audit-export/1`");
            }
            take_head(rest, 0)?.map(|first| Item::Begin { first })
        }
        (1 | 2, 3) => {
            let Some(hash) = take_string(rest, 2)? else { return Ok(None) };
            let leaf_hash: &Hash = hash.try_into().map_err(|_| "a hash has not 32 bytes")?;
            let bytes = take_string(rest, 2)?;
            bytes.map(|bytes| match kind {
                1 => Item::Entry { leaf_hash, entry: bytes },
                _ => Item::Dropped { leaf_hash, leaf: bytes },
            })
        }
        (3, 2) => {
            let Some(note) = take_string(rest, 3)? else { return Ok(None) };
            Some(Item::Checkpoint(std::str::from_utf8(note).map_err(|_| "a checkpoint is no text")?))
        }
        _ => return Err(NONE),
    };
    Ok(item)
}

/// The argument of a head of this major type.
fn take_head(rest: &mut &[u8], major: u8) -> Result<Option<u64>, &'static str> {
    let Some((&first, after)) = rest.split_first() else { return Ok(None) };
    if first >> 5 != major {
        return Err("what stands there is no item of an export");
    }
    let more = match first & 31 {
        small @ 0..=23 => {
            *rest = after;
            return Ok(Some(u64::from(small)));
        }
        24 => 1,
        25 => 2,
        26 => 4,
        27 => 8,
        _ => return Err("an item has no definite length"),
    };
    let Some((argument, after)) = after.split_at_checked(more) else { return Ok(None) };
    *rest = after;
    Ok(Some(argument.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))))
}

fn take_string<'a>(rest: &mut &'a [u8], major: u8) -> Result<Option<&'a [u8]>, &'static str> {
    let Some(length) = take_head(rest, major)? else { return Ok(None) };
    let length = usize::try_from(length).ok().filter(|length| *length <= MAX_ENTRY.max(MAX_NOTE));
    let length = length.ok_or("an item is longer than any may be")?;
    let Some((string, after)) = rest.split_at_checked(length) else { return Ok(None) };
    *rest = after;
    Ok(Some(string))
}
