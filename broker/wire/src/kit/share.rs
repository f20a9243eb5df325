//! One share, and its text: for a sealed file, for paper, for a QR code, for typing.
//!
//! ```text
//! ICHOR-KIT1-GGGGC-GGGGC-…      18 groups: four characters and a check character each (Crockford's base32)
//! 40 bytes: version 1 · kit's number 2 · first bytes of the kit's id 4 · index 1 · value 32; then 4 bytes of SHA-256 over them
//! ```
//! The check character tells which group was mistyped, the hash that all of them belong together.

use std::fmt;

use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

/// What begins a share's text, without its hyphens.
const PREFIX: &str = "ICHORKIT1";

/// The version that a share's bytes begin with.
const VERSION: u8 = 1;

/// The bytes before the hash, and with it.
const BODY: usize = 40;
const WHOLE: usize = 44;

/// Groups of the text, and characters that carry something in each.
const GROUPS: usize = 18;
const CARRIED: usize = 4;

/// Crockford's base32: no I, L, O or U, so that nothing looks like another.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A share of a kit's file key. Wiped when dropped; `Debug` shows which one it is and not its value.
pub struct Share {
    pub(super) number: u16,
    pub(super) kit: [u8; 4],
    pub(super) index: u8,
    pub(super) value: Zeroizing<[u8; 32]>,
}

/// Why a text is not a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadShare {
    /// It does not begin as a share.
    #[error("this is not a share: it does not begin with ICHOR-KIT1")]
    NotAShare,
    /// A group was mistyped.
    #[error("group {0} is mistyped: its check character does not fit")]
    Group(usize),
    /// There are too few or too many groups.
    #[error("a share has 18 groups of five characters; this has {0} characters behind ICHOR-KIT1")]
    Length(usize),
    /// Made by a newer program.
    #[error("the share has version {0}; this program reads version 1: use a newer `ichor`")]
    Version(u8),
    /// Every group fits, but not together.
    #[error("the groups do not belong together: the share is damaged")]
    Damaged,
}

// === impl Share ===

impl Share {
    /// The share of this index of the kit.
    #[must_use]
    pub fn new(number: u16, id: Uuid, index: u8, value: Zeroizing<[u8; 32]>) -> Self {
        Self { number, kit: id_prefix(id), index, value }
    }

    /// The number of the kit that it says to be of.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Its index, from 1.
    #[must_use]
    pub fn index(&self) -> u8 {
        self.index
    }

    /// The share as text, 118 characters of a QR code's alphanumeric set. It is the secret itself.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        self.written(VERSION)
    }

    pub(super) fn written(&self, version: u8) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(WHOLE));
        bytes.push(version);
        bytes.extend_from_slice(&self.number.to_be_bytes());
        bytes.extend_from_slice(&self.kit);
        bytes.push(self.index);
        bytes.extend_from_slice(self.value.as_slice());
        let hash = checksum(&bytes);
        bytes.extend_from_slice(&hash);
        let symbols = symbols(&bytes);
        let mut text = Zeroizing::new(String::with_capacity(11 + GROUPS * 6));
        text.push_str("ICHOR-KIT1");
        for (at, group) in symbols.chunks(CARRIED).enumerate() {
            text.push('-');
            group.iter().chain([&check(at, group)]).for_each(|symbol| text.push(letter(*symbol)));
        }
        text
    }

    /// The share of a text, whatever its case, blanks, hyphens and line breaks; `O` is read as 0, `I` and `L` as 1.
    ///
    /// # Errors
    /// Where it is not one, with the first group that does not fit.
    pub fn parse(text: &str) -> Result<Self, BadShare> {
        let mut letters = Zeroizing::new(Vec::with_capacity(text.len().min(1024)));
        letters.extend(
            block(text)
                .flat_map(str::chars)
                .filter(|c| !c.is_whitespace() && *c != '-')
                .map(|c| c.to_ascii_uppercase())
                .take(1024),
        );
        let mut rest = letters.as_slice();
        for expected in PREFIX.chars() {
            rest = match rest.split_first() {
                Some((found, after)) if is_same(*found, expected) => after,
                _ => return Err(BadShare::NotAShare),
            };
        }
        let mut symbols = Zeroizing::new(Vec::with_capacity(GROUPS * CARRIED));
        for (at, group) in rest.chunks(CARRIED + 1).enumerate().take(GROUPS) {
            let mut read = Zeroizing::new(Vec::with_capacity(CARRIED + 1));
            for found in group {
                read.push(symbol(*found).ok_or(BadShare::Group(at + 1))?);
            }
            match read.split_last() {
                Some((last, carried)) if carried.len() == CARRIED && check(at, carried) == *last => {
                    symbols.extend_from_slice(carried);
                }
                Some((_, carried)) if carried.len() == CARRIED => return Err(BadShare::Group(at + 1)),
                _ => return Err(BadShare::Length(rest.len())),
            }
        }
        if rest.len() != GROUPS * (CARRIED + 1) {
            return Err(BadShare::Length(rest.len()));
        }
        let bytes = bytes(&symbols).ok_or(BadShare::Damaged)?;
        let (body, hash) = bytes.split_at_checked(BODY).ok_or(BadShare::Damaged)?;
        let (&[version, high, low], body) = body.split_first_chunk::<3>().ok_or(BadShare::Damaged)?;
        let (kit, body) = body.split_first_chunk::<4>().ok_or(BadShare::Damaged)?;
        let (index, value) = body.split_first().ok_or(BadShare::Damaged)?;
        let value = Zeroizing::new(<[u8; 32]>::try_from(value).map_err(|_| BadShare::Damaged)?);
        let share = Self { number: u16::from_be_bytes([high, low]), kit: *kit, index: *index, value };
        let sum = bytes.get(..BODY).map(checksum);
        if sum.as_ref().map(<[u8; 4]>::as_slice) != Some(hash) {
            return Err(BadShare::Damaged);
        }
        if version != VERSION {
            return Err(BadShare::Version(version));
        }
        Ok(share)
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share").field("number", &self.number).field("index", &self.index).finish_non_exhaustive()
    }
}

/// What a share says of its kit: enough to tell one's own from another's.
pub(super) fn id_prefix(id: Uuid) -> [u8; 4] {
    // the first bytes of a UUIDv7 are its time, the last ones are random
    let [.., a, b, c, d] = id.into_bytes();
    [a, b, c, d]
}

fn checksum(body: &[u8]) -> [u8; 4] {
    let digest = Sha256::new().chain_update(b"ichor kit share").chain_update(body).finalize();
    digest.first_chunk().copied().unwrap_or_default()
}

/// The bytes as numbers of five bits, the last filled up with zeros.
fn symbols(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(GROUPS * CARRIED));
    let (mut bits, mut held) = (0u32, 0u32);
    for byte in bytes {
        bits = (bits << 8) | u32::from(*byte);
        held += 8;
        while held >= 5 {
            held -= 5;
            out.push(low_five(bits >> held));
        }
        bits &= (1 << held) - 1;
    }
    if held > 0 {
        out.push(low_five(bits << (5 - held)));
    }
    out.resize(GROUPS * CARRIED, 0);
    out
}

/// The bytes of such numbers, if what fills up is zero.
fn bytes(symbols: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut out = Zeroizing::new(Vec::with_capacity(WHOLE + 1));
    let (mut bits, mut held) = (0u32, 0u32);
    for symbol in symbols {
        bits = (bits << 5) | u32::from(*symbol);
        held += 5;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from((bits >> held) & 0xff).ok()?);
            bits &= (1 << held) - 1;
        }
    }
    let filled = out.get(WHOLE..)?.iter().all(|byte| *byte == 0) && bits == 0;
    out.truncate(WHOLE);
    filled.then_some(out)
}

fn low_five(bits: u32) -> u8 {
    u8::try_from(bits & 31).unwrap_or_default()
}

/// The check symbol of a group. The weights are odd, so any one wrong symbol shows; its place counts, so two groups that
/// changed places show.
fn check(at: usize, group: &[u8]) -> u8 {
    let sum: u32 = group.iter().zip([1u32, 3, 5, 7]).map(|(symbol, weight)| u32::from(*symbol) * weight).sum();
    low_five(sum + 9 * u32::try_from(at).unwrap_or_default())
}

fn letter(symbol: u8) -> char {
    ALPHABET.get(usize::from(symbol)).map_or('0', |byte| char::from(*byte))
}

fn symbol(letter: char) -> Option<u8> {
    let letter = match letter {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    ALPHABET.iter().position(|known| char::from(*known) == letter).and_then(|at| u8::try_from(at).ok())
}

/// Whether a letter of the prefix was typed, or one that it is taken for.
fn is_same(found: char, expected: char) -> bool {
    found == expected || symbol(found).is_some() && symbol(found) == symbol(expected)
}
/// The rows of the share in this text: all of it, or from a sheet those from its heading to the next empty line, without the
/// numbers that a sheet has in front of its rows. Every group has five letters, so a number of one or two digits is none.
fn block(text: &str) -> impl Iterator<Item = &str> {
    let heading = |line: &&str| line.trim() == "ICHOR-KIT1";
    let is_sheet = text.lines().any(|line| heading(&line));
    let rows = text.lines().skip_while(move |line| is_sheet && !heading(line));
    rows.take_while(move |line| !is_sheet || !line.trim().is_empty()).map(|row| {
        let row = row.trim_start();
        let rest = row.trim_start_matches(|c: char| c.is_ascii_digit());
        let is_numbered = (1..=2).contains(&(row.len() - rest.len())) && rest.starts_with(char::is_whitespace);
        if is_numbered { rest } else { row }
    })
}
