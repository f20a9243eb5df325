//! `ichor audit verify`

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use ichor_wire::log::export::Reader;
use ichor_wire::log::{Checkpoint, LogKey, Verdict, Verifier, verify};
use serde_json::json;
use url::Url;

use crate::audit::known::Known;
use crate::audit::tiles::{Tiles, fault};
use crate::broker::Broker;
use crate::cli::{Here, block_on};
use crate::error::Error;
use crate::private_file;
use crate::settings::{Settings, broker_url};

/// The largest page of an export: 2,000 entries of 64 KiB, and what stands around them.
const LARGEST_PAGE: usize = 130 * 1024 * 1024;

/// Check the whole log: every entry against the tree, the tree against its signed checkpoints
///
/// Nothing is believed but the log's key. With --from no broker is asked: the file may come from anywhere.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A kept export, a folder of C2SP tiles, or the URL of such a log, instead of asking the broker for the entries
    #[arg(long, value_name = "FILE|URL")]
    from: Option<String>,
    /// A checkpoint that was kept elsewhere: the log must still be its continuation
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// The log's key, as `name+id+base64`, or a file with it [default: audit_key in .ichor.toml, else the one kept from the
    /// first use]
    #[arg(long, value_name = "KEY")]
    pubkey: Option<String>,
    /// The file with a static token, where --from is a URL that wants one
    #[arg(long, value_name = "FILE", requires = "from")]
    token_file: Option<PathBuf>,
    /// Keep what the broker sent in this new file, to be checked again with --from
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    keep: Option<PathBuf>,
}

pub(super) fn run(here: &mut Here, args: Args) -> Result<u8, Error> {
    let key = key(here, args.pubkey.as_deref())?;
    let kept: Vec<String> = args.checkpoint.as_deref().map(checkpoint).transpose()?.into_iter().collect();
    let waiting = here.around.terminal.waiting("checking the log".into());
    let checked = match args.from.as_deref() {
        None => block_on(asked(here, &key, &kept, args.keep.as_deref())).map(|verdict| (verdict, 0)),
        Some(from) => given(here, from, args.token_file.as_deref(), &key, &kept),
    };
    drop(waiting);
    let (verdict, hashes_only) = checked?;
    show(here, &verdict, hashes_only)
}

/// The key to believe: the one named, else the one that is known of the broker.
pub(super) fn key(here: &Here, named: Option<&str>) -> Result<LogKey, Error> {
    let Some(text) = named else {
        let broker = here.broker()?;
        let known = Known::load(&here.around.environment, &broker)?;
        return known.keys().into_iter().next().ok_or_else(|| {
            Error::usage(
                format!("no key of the audit log of {} is known", broker.url()),
                "name it with `--pubkey`, or pin it as `audit_key` in .ichor.toml",
            )
        });
    };
    let path = Path::new(text);
    let text = match text.parse::<LogKey>() {
        Err(_) if path.is_file() => private_file::read(path, 4096)?.map_or_else(String::new, |text| text.to_string()),
        _ => text.to_owned(),
    };
    text.parse().map_err(|error| Error::usage(format!("`--pubkey`: {error}"), "copy the key from who runs the broker"))
}

/// The note in this file. Which key signed it shows once the log was read: it may be one that the log leads to.
fn checkpoint(path: &Path) -> Result<String, Error> {
    let note = read(path)?;
    match Checkpoint::parse_unverified(&note) {
        Ok(_) => Ok(note),
        Err(error) => {
            Err(Error::usage(format!("`{}`: {error}", path.display()), "name a signed checkpoint of this log"))
        }
    }
}

/// A file of text that must be there.
pub(super) fn read(path: &Path) -> Result<String, Error> {
    let text = private_file::read(path, 1024 * 1024)?;
    text.map(|text| text.to_string()).ok_or_else(|| Error::file("read", path)(std::io::ErrorKind::NotFound.into()))
}

/// Entry by entry from the broker, in pages.
async fn asked(here: &Here, key: &LogKey, kept: &[String], keep: Option<&Path>) -> Result<Verdict, Error> {
    let session = here.session()?;
    let mut copy = match keep {
        None => None,
        Some(path) => {
            private_file::create_new(path, b"")?;
            let opened = File::options().append(true).open(path).map_err(Error::file("write", path))?;
            Some((path, opened))
        }
    };
    let mut verifier = Verifier::new(key.clone());
    kept.iter().try_for_each(|note| verifier.expect(note)).map_err(fault)?;
    // Being asked adds to the log: it is read up to where a page's checkpoint says. A body that was dropped meanwhile is explained
    // by an entry that is signed a moment later, so that a few pages more are asked for.
    let mut more = 3;
    loop {
        let query = [("from", verifier.size().to_string())];
        let page = session.broker().get_bytes(&session, &["audit", "export"], &query, LARGEST_PAGE).await?;
        if let Some((path, file)) = &mut copy {
            file.write_all(&page).map_err(Error::file("write", path))?;
        }
        let (from, mut reader) = (verifier.size(), Reader::new(&page[..]));
        while let Some(item) = reader.item().map_err(|error| fault(error.into()))? {
            verifier.item(item).map_err(fault)?;
        }
        if verifier.size() == from {
            break;
        }
        if !verifier.awaits_more() {
            more -= 1;
            if verifier.unexplained().is_none() || more == 0 {
                break;
            }
        }
    }
    if let Some((path, file)) = &mut copy {
        file.sync_all().map_err(Error::file("write", path))?;
    }
    verifier.finish().map_err(fault)
}

/// What is named: a file, a folder, a URL.
fn given(
    here: &Here,
    from: &str,
    token_file: Option<&Path>,
    key: &LogKey,
    kept: &[String],
) -> Result<(Verdict, u64), Error> {
    let tiles = if from.starts_with("https://") || from.starts_with("http://") {
        let root: Url = broker_url(from)
            .map_err(|why| Error::usage(format!("`{from}` {why}"), "name the log's root as https://host/log"))?;
        let trust = Settings::trust_named(&here.around.environment, &here.flags);
        let token = token_file.map(read).transpose()?.map(|text| text.trim().to_owned());
        let server = Broker::new(root.clone(), trust, here.around.clock.clone());
        Tiles::Server { server, root, token }
    } else if Path::new(from).is_dir() {
        Tiles::Folder(from.into())
    } else {
        let path = Path::new(from);
        let file = File::open(path).map_err(Error::file("read", path))?;
        return Ok((verify(file, key, kept).map_err(fault)?, 0));
    };
    let checked = block_on(tiles.verify(key, kept))?;
    Ok((checked.verdict, checked.hashes_only))
}

fn show(here: &mut Here, verdict: &Verdict, hashes_only: u64) -> Result<u8, Error> {
    let root = HEXLOWER.encode(verdict.checkpoint.root());
    let value = json!({
        "entries": verdict.entries, "dropped": verdict.dropped, "hashes_only": hashes_only, "uncovered": verdict.uncovered,
        "unknown_checkpoints": verdict.others, "key": verdict.key,
        "checkpoint": { "origin": verdict.checkpoint.origin(), "size": verdict.checkpoint.size(), "root": root },
    });
    here.print(&value, |terminal| {
        let size = verdict.checkpoint.size();
        terminal.line(&format!("the log fits: {size} entries, as signed by {}", verdict.key))?;
        terminal.line(&format!("root {root}"))?;
        let more = [
            (verdict.uncovered, "more that no checkpoint covers yet"),
            (verdict.dropped, "without a body, each of which a signed entry says was dropped"),
            (hashes_only, "given by their hashes alone"),
            (verdict.others, "checkpoints passed over: no believed key signed them"),
        ];
        for (count, what) in more.into_iter().filter(|(count, _)| *count > 0) {
            terminal.line(&format!("{count} {what}"))?;
        }
        Ok(())
    })
}
