//! A log that is published as C2SP tiles, in a folder or at a URL.

use std::path::PathBuf;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use ichor_wire::log::tiles::{CHECKPOINT_PATH, TilePath, unbundle};
use ichor_wire::log::tree::{Hash, TILE_WIDTH, Tile};
use ichor_wire::log::{Checkpoint, Fault, LogKey, Verdict, Verifier};
use url::Url;

use crate::broker::Broker;
use crate::error::Error;

/// The largest file of a log: 256 leaf records of 64 KiB.
const LARGEST: u64 = 17 * 1024 * 1024;

/// Where leaf records lie below the log's root.
const ENTRIES: &str = "tile/entries/";

/// Where the tiles are.
#[derive(Clone, Debug)]
pub enum Tiles {
    /// A folder with `checkpoint` and `tile/` in it.
    Folder(PathBuf),
    /// A server; the URL is that of the log's root.
    Server {
        /// Speaks to the server.
        server: Broker,
        /// The log's root.
        root: Url,
        /// A static token to show.
        token: Option<String>,
    },
}

/// What stands at a path.
enum Found {
    Bytes(Vec<u8>),
    Nothing,
    /// Not for whoever asks: a broker shows leaf records to people, not to a token.
    Refused,
}

/// What a log of tiles is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfTiles {
    /// What the checkpoints say.
    pub verdict: Verdict,
    /// Of how many entries no leaf record was given: only their hashes are in the tree.
    pub hashes_only: u64,
}

impl Tiles {
    /// Reads every leaf record and hash, and compares them with the checkpoint and with those that were `kept`.
    ///
    /// # Errors
    /// When a part cannot be read, or the first place that does not fit.
    pub async fn verify(&self, key: &LogKey, kept: &[String]) -> Result<OfTiles, Error> {
        let Found::Bytes(note) = self.read(CHECKPOINT_PATH).await? else { return Err(self.missing(CHECKPOINT_PATH)) };
        let note = String::from_utf8(note).map_err(|_| self.missing(CHECKPOINT_PATH))?;
        let size = Checkpoint::parse_unverified(&note).map_err(|error| fault(error.into()))?.size();
        let mut verifier = Verifier::new(key.clone());
        verifier.checkpoint(&note).map_err(fault)?;
        kept.iter().try_for_each(|note| verifier.expect(note)).map_err(fault)?;
        let (mut hashes_only, mut shows_leaves) = (0, true);
        for index in 0..size.div_ceil(TILE_WIDTH as u64) {
            let Some(tile) = Tile::of(0, index, size) else { break };
            let Found::Bytes(hashes) = self.tile(TilePath::Hashes(tile)).await? else {
                return Err(self.missing(&TilePath::Hashes(tile).to_string()));
            };
            let (hashes, behind) = hashes.as_chunks::<{ size_of::<Hash>() }>();
            let width = usize::from(tile.width);
            // nothing unsigned may travel behind what is: of a tile that has grown since, the whole is there
            let is_whole = |there: usize| there == width || there == TILE_WIDTH;
            let odd = || self.missing(&TilePath::Hashes(tile).to_string());
            let hashes = hashes.get(..width).filter(|_| behind.is_empty() && is_whole(hashes.len())).ok_or_else(odd)?;
            let leaves = match shows_leaves {
                true => self.tile(TilePath::Entries(tile)).await?,
                false => Found::Refused,
            };
            match leaves {
                Found::Bytes(bundle) => {
                    let odd = || self.missing(&TilePath::Entries(tile).to_string());
                    let leaves = unbundle(&bundle).map_err(|_| odd())?;
                    let leaves = leaves.get(..width).filter(|_| is_whole(leaves.len())).ok_or_else(odd)?;
                    for (hash, leaf) in hashes.iter().zip(leaves) {
                        verifier.leaf(hash, leaf).map_err(fault)?;
                    }
                }
                missing @ (Found::Nothing | Found::Refused) => {
                    // Asked for once: who is refused here is refused everywhere.
                    shows_leaves = !matches!(missing, Found::Refused);
                    hashes_only += u64::from(tile.width);
                    hashes.iter().try_for_each(|hash| verifier.hash(hash)).map_err(fault)?;
                }
            }
        }
        Ok(OfTiles { verdict: verifier.finish().map_err(fault)?, hashes_only })
    }

    /// A tile, or the complete one that it has become.
    async fn tile(&self, path: TilePath) -> Result<Found, Error> {
        match self.read(&path.to_string()).await? {
            Found::Nothing => {}
            found => return Ok(found),
        }
        let complete = |tile: Tile| Tile { width: TILE_WIDTH as u16, ..tile };
        let path = match path {
            TilePath::Hashes(tile) if !tile.is_complete() => TilePath::Hashes(complete(tile)),
            TilePath::Entries(tile) if !tile.is_complete() => TilePath::Entries(complete(tile)),
            _ => return Ok(Found::Nothing),
        };
        self.read(&path.to_string()).await
    }

    /// A file below the log's root.
    async fn read(&self, path: &str) -> Result<Found, Error> {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(path);
                let failed = Error::file("read", &path);
                match std::fs::metadata(&path) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Nothing),
                    Ok(found) if !found.is_file() => return Err(failed(std::io::ErrorKind::InvalidInput.into())),
                    Ok(found) if found.len() > LARGEST => {
                        return Err(failed(std::io::ErrorKind::FileTooLarge.into()));
                    }
                    _ => {}
                }
                std::fs::read(&path).map(Found::Bytes).map_err(failed)
            }
            Self::Server { server, root, token } => {
                let url = format!("{}/{path}", root.as_str().trim_end_matches('/'));
                let url: Url = url.parse().map_err(|_| Error::Bug("a tile's path makes no URL"))?;
                let mut headers = HeaderMap::new();
                if let Some(token) = token {
                    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                        .map_err(|_| Error::usage("the token is not one line of text", "correct the token's file"))?;
                    value.set_sensitive(true);
                    headers.insert(header::AUTHORIZATION, value);
                }
                let answer = server.send(Method::GET, &url, headers, None).await?;
                match answer.status {
                    status if status.is_success() => Ok(Found::Bytes(answer.body)),
                    StatusCode::NOT_FOUND if path != CHECKPOINT_PATH => Ok(Found::Nothing),
                    StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if path.starts_with(ENTRIES) => Ok(Found::Refused),
                    _ => Err(server.problem(&answer)),
                }
            }
        }
    }

    fn missing(&self, path: &str) -> Error {
        let root = match self {
            Self::Folder(folder) => folder.display().to_string(),
            Self::Server { root, .. } => root.to_string(),
        };
        Error::failed(
            format!("the log at `{root}` lacks `{path}`, or that is not of its right length"),
            "name the folder or URL that has `checkpoint` and `tile/` in it",
        )
    }
}

/// What a log that does not fit means for the person.
#[must_use]
pub fn fault(fault: Fault) -> Error {
    let next = match &fault {
        Fault::Read(_) => "check that this is an export of `ichor audit verify --keep`, whole",
        Fault::Stranger { .. } => {
            "name a signed checkpoint of this log, and the key that signed it or an older one of the log's with `--pubkey`"
        }
        Fault::Unsigned(_) => "check the key: the broker shows it at /v1/audit/key",
        _ => {
            "leave the log and its checkpoints as they are: they are the evidence, and whoever runs the broker must explain it"
        }
    };
    Error::failed(fault.to_string(), next)
}
