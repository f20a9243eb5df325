//! `ichor audit prove` and `ichor audit check-proof`

use std::path::PathBuf;

use ichor_wire::api::{AuditEntry, ProofFile};
use ichor_wire::log::leaf_hash;
use ichor_wire::log::proof::Proven;
use serde_json::json;

use super::times::ZoneArgs;
use super::verify::{key, read};
use crate::audit::known::Known;
use crate::cli::{Here, block_on};
use crate::error::Error;
use crate::private_file;

/// Get the proof of an entry, for someone who does not believe the broker
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A grant's id, an entry's id, or an entry's index
    #[arg(value_name = "ID")]
    id: String,
    /// Write the proof into this file instead of printing it
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

/// Check a proof file with nothing but the log's key
#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    /// The proof file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The log's key, as `name+id+base64`, or a file with it [default: audit_key in .ichor.toml, else the one kept from the
    /// first use]
    #[arg(long, value_name = "KEY")]
    pubkey: Option<String>,
    #[command(flatten)]
    zone: ZoneArgs,
}

pub(super) fn run(here: &mut Here, args: Args) -> Result<u8, Error> {
    let session = here.session()?;
    let waiting = here.around.terminal.waiting("asking the broker".into());
    let asked = block_on(session.broker().get::<ProofFile>(&session, &["audit", "proofs", &args.id], &[]));
    drop(waiting);
    let proof = asked?;
    // A proof that does not hold is better found here than by the one it is shown to.
    if let Some(known) = Known::load(&here.around.environment, session.broker())?.key() {
        proof.verify(&known).map_err(|error| not_proven(&error.to_string()))?;
    }
    let Some(path) = args.to else { return here.print(&proof, |terminal| terminal.json(&proof)) };
    let mut text = serde_json::to_string_pretty(&proof).map_err(|_| Error::Bug("a proof is not JSON"))?;
    text.push('\n');
    private_file::write(&path, text.as_bytes())?;
    let value = json!({ "file": path, "index": proof.entry.index, "key": proof.key });
    here.print(&value, |terminal| {
        terminal.line(&format!("the proof of entry {} is in {}", proof.entry.index, path.display()))?;
        terminal.line(&format!("whoever checks it needs the log's key from elsewhere: {}", proof.key))
    })
}

pub(super) fn check(here: &mut Here, args: CheckArgs) -> Result<u8, Error> {
    let key = key(here, args.pubkey.as_deref())?;
    let text = read(&args.file)?;
    let proof: ProofFile = serde_json::from_str(&text).map_err(|error| {
        Error::usage(
            format!("`{}` is no proof file: {error}", args.file.display()),
            "name a file of `ichor audit prove`",
        )
    })?;
    let proven = proof.verify(&key).map_err(|error| not_proven(&error.to_string()))?;
    let hash = leaf_hash(&proven.leaf.encode().map_err(|_| Error::Bug("a leaf record has no encoding"))?);
    let Proven { leaf, entry, checkpoint } = proven;
    let entry = match &entry {
        Some(entry) => AuditEntry::of(leaf.index, entry, &hash),
        None => AuditEntry::of_dropped(&leaf, &hash),
    };
    let value = json!({
        "entry": entry, "key": key, "checkpoint": { "origin": checkpoint.origin(), "size": checkpoint.size() },
    });
    let texts = [
        ("kind", Some(entry.kind.clone())),
        ("user", entry.user.clone()),
        ("cluster", entry.cluster.clone()),
        ("grant", entry.grant_id.map(|id| id.to_string())),
    ];
    let zone = args.zone.zone();
    here.print(&value, |terminal| {
        let (size, origin) = (checkpoint.size(), checkpoint.origin());
        terminal.line(&format!("proven: entry {} is in the log `{origin}` of {size} entries", entry.index))?;
        terminal.line(&format!("time: {}", zone.show(entry.time)))?;
        for (name, text) in texts {
            text.map_or(Ok(()), |text| terminal.line(&format!("{name}: {text}")))?;
        }
        entry.detail.iter().try_for_each(|(name, value)| terminal.line(&format!("{name}: {value}")))
    })
}

fn not_proven(why: &str) -> Error {
    Error::failed(
        format!("the proof does not hold: {why}"),
        "check that the key is the log's; if it is, the entry is not proven, whatever the file says",
    )
}
