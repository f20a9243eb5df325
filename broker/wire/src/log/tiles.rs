//! Where C2SP tlog-tiles puts what a log is made of, and how it packs leaf records.

use std::fmt;
use std::str::FromStr;

use super::tree::{MAX_LEVEL, TILE_WIDTH, Tile};

/// The path of the newest checkpoint.
pub const CHECKPOINT_PATH: &str = "checkpoint";

/// The longest path that is read.
const MAX_PATH: usize = 64;

/// What a path below the log's root names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TilePath {
    /// `tile/L/N` or `tile/L/N.p/W`: the hashes of a tile, 32 bytes each.
    Hashes(Tile),
    /// `tile/entries/N` or `tile/entries/N.p/W`: the leaf records behind the tile `N` of level 0, as [`bundle`] packs them.
    /// The tile's level is 0.
    Entries(Tile),
}

/// The text is not the path of a tile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a tile's path reads tile/0/x001/234, tile/entries/x001/234, or ends in .p/ and a width from 1 to 255")]
pub struct NotATile;

/// Leaf records, each behind its length in two bytes, big-endian.
///
/// # Errors
/// When a record is longer than 65,535 bytes.
pub fn bundle<'a>(leaves: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<u8>, BundleError> {
    let mut bundle = Vec::new();
    for leaf in leaves {
        let length = u16::try_from(leaf.len()).map_err(|_| BundleError)?;
        bundle.extend_from_slice(&length.to_be_bytes());
        bundle.extend_from_slice(leaf);
    }
    Ok(bundle)
}

/// The leaf records of a bundle.
///
/// # Errors
/// When it is cut, or has more than a tile has.
pub fn unbundle(mut bundle: &[u8]) -> Result<Vec<&[u8]>, BundleError> {
    let mut leaves = Vec::new();
    while !bundle.is_empty() {
        let (length, rest) = bundle.split_first_chunk::<2>().ok_or(BundleError)?;
        let (leaf, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or(BundleError)?;
        leaves.push(leaf);
        bundle = rest;
        if leaves.len() > TILE_WIDTH {
            return Err(BundleError);
        }
    }
    Ok(leaves)
}

/// The bytes are not a bundle of leaf records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bundle of leaf records is cut short or holds more than 256 of them")]
pub struct BundleError;

// === impl TilePath ===

impl TilePath {
    /// The tile that the path is about.
    #[must_use]
    pub const fn tile(self) -> Tile {
        match self {
            Self::Hashes(tile) | Self::Entries(tile) => tile,
        }
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hashes(tile) => write!(f, "tile/{}/", tile.level)?,
            Self::Entries(_) => f.write_str("tile/entries/")?,
        }
        let tile = self.tile();
        // Three digits at a time, all but the last behind an `x`.
        let mut thousands = vec![tile.index % 1000];
        let mut rest = tile.index / 1000;
        while rest > 0 {
            thousands.push(rest % 1000);
            rest /= 1000;
        }
        for (after, three) in thousands.iter().enumerate().rev() {
            match after {
                0 => write!(f, "{three:03}")?,
                _ => write!(f, "x{three:03}/")?,
            }
        }
        if tile.is_complete() { Ok(()) } else { write!(f, ".p/{}", tile.width) }
    }
}

impl FromStr for TilePath {
    type Err = NotATile;

    /// Reads the one form in which a path is printed, and no other.
    fn from_str(text: &str) -> Result<Self, NotATile> {
        let path = Some(text).filter(|text| text.len() <= MAX_PATH).and_then(parse).ok_or(NotATile)?;
        if path.to_string() == text { Ok(path) } else { Err(NotATile) }
    }
}

fn parse(text: &str) -> Option<TilePath> {
    let (kind, rest) = text.strip_prefix("tile/")?.split_once('/')?;
    let (number, width) = match rest.split_once(".p/") {
        None => (rest, TILE_WIDTH as u16),
        Some((number, width)) => (number, width.parse().ok().filter(|width| (1..TILE_WIDTH as u16).contains(width))?),
    };
    let mut index = 0u64;
    for three in number.split('/') {
        let three: u64 = three.trim_start_matches('x').parse().ok()?;
        index = index.checked_mul(1000)?.checked_add(three)?;
    }
    let tile = |level| Tile { level, index, width };
    match kind {
        "entries" => Some(TilePath::Entries(tile(0))),
        level => level.parse().ok().filter(|level| *level <= MAX_LEVEL).map(|level| TilePath::Hashes(tile(level))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hashes(level: u8, index: u64, width: u16) -> TilePath {
        TilePath::Hashes(Tile { level, index, width })
    }

    #[test]
    fn paths_are_those_of_the_format() {
        let cases = [
            (hashes(0, 0, 256), "tile/0/000"),
            (hashes(0, 5, 256), "tile/0/005"),
            (hashes(1, 1234, 256), "tile/1/x001/234"),
            (hashes(0, 1_234_067, 256), "tile/0/x001/x234/067"),
            (hashes(0, 273, 112), "tile/0/273.p/112"),
            (hashes(7, 1000, 1), "tile/7/x001/000.p/1"),
            (TilePath::Entries(Tile { level: 0, index: 1_234_067, width: 8 }), "tile/entries/x001/x234/067.p/8"),
        ];
        for (path, text) in cases {
            assert_eq!(path.to_string(), text);
            assert_eq!(text.parse(), Ok(path));
        }
        for wrong in [
            "",
            "tile",
            "tile/0",
            "tile/0/",
            "tile/0/0",
            "tile/0/0000",
            "tile/0/1234",
            "tile/8/000",
            "tile/00/000",
            "tile/0/x000/001",
            "tile/0/001/234",
            "tile/0/xx001/234",
            "tile/0/x001/x234",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/000.p/",
            "tile/0/000.p/1/",
            "tile/0/-01",
            "tile/0/+01",
            "/tile/0/000",
            "tile/0/000/",
            "tile/entries/x",
            "tile/data/000",
            "tile/0/../000",
            "checkpoint",
            "tile/0/x018/x446/x744/x073/x709/x551/616",
        ] {
            assert_eq!(wrong.parse::<TilePath>(), Err(NotATile), "{wrong}");
        }
    }

    #[test]
    fn bundles_hold_what_they_are_given_and_nothing_cut() {
        let leaves: [&[u8]; 3] = [b"one", b"", &[7; 300]];
        let packed = bundle(leaves).unwrap();
        assert_eq!(packed[..7], *b"\x00\x03one\x00\x00");
        assert_eq!(unbundle(&packed).unwrap(), leaves);
        assert_eq!(unbundle(&[]), Ok(Vec::new()));
        for end in [1, 2, 4, 6, 8, packed.len() - 1] {
            assert_eq!(unbundle(&packed[..end]), Err(BundleError), "cut at {end}");
        }
        assert_eq!(unbundle(&[0; 2 * 257]), Err(BundleError));
        assert_eq!(bundle([&[0; 65_536][..]]), Err(BundleError));
    }

    proptest! {
        #[test]
        fn every_tile_comes_back_from_its_path(level in 0u8..=7, index in any::<u64>(), width in 1u16..=256) {
            for path in [hashes(level, index, width), TilePath::Entries(Tile { level: 0, index, width })] {
                prop_assert_eq!(path.to_string().parse(), Ok(path));
            }
        }

        #[test]
        fn any_text_is_a_path_in_its_one_form_or_none(text in "(tile/)?[0-9a-zx./]{0,24}") {
            if let Ok(path) = text.parse::<TilePath>() {
                prop_assert_eq!(path.to_string(), text);
            }
        }
    }
}
