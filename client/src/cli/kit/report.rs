//! `ichor kit report`

use std::path::{Path, PathBuf};

use ichor_wire::kit::{Record, SignedRecord};
use serde_json::json;
use zeroize::Zeroizing;

use crate::cli::Here;
use crate::error::Error;
use crate::kit::{folder, records};
use crate::private_file;

/// The largest record, in bytes.
const MAX: usize = 64 * 1024;

/// List the kits that were opened on this machine, or print a record to bring it to the broker
///
///   ichor kit report GRANT > opening.record
///   ichor-broker kit report opening.record --label emergency      on the broker's host
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// The grant, as `kit open` printed it, or the record's file; without it the records are listed
    #[arg(value_name = "GRANT|FILE")]
    which: Option<String>,
    /// The folder with the records [default: ~/.local/state/ichor/kit-records]
    #[arg(long, value_name = "DIR")]
    records: Option<PathBuf>,
}

pub(super) fn run(here: &mut Here, args: Args) -> Result<u8, Error> {
    if let Some(file) = args.which.as_deref().map(Path::new).filter(|file| file.is_file()) {
        let (_, text) = read(file)?.ok_or_else(|| no_record(file))?;
        return here.print(&json!({ "record": text.as_str(), "file": file }), |terminal| terminal.text(&text));
    }
    let folder = match args.records {
        Some(folder) => folder,
        None => folder(&here.around.environment)?,
    };
    let mut found = Vec::new();
    for path in records(&folder)? {
        if let Some((record, text)) = read(&path)? {
            found.push((record, text, path));
        }
    }
    let Some(grant) = args.which else {
        let records: Vec<_> = found.iter().map(|(record, ..)| record).collect();
        return here.print(&json!({ "records": records }), |terminal| {
            for record in &records {
                let name = record.grant_name();
                terminal.line(&format!(
                    "{name}  {}  {}  {}  {}",
                    record.opened, record.cluster, record.name, record.reason
                ))?;
            }
            if records.is_empty() { terminal.line("no kit was opened here") } else { Ok(()) }
        });
    };
    let found = found.into_iter().find(|(record, ..)| record.grant_name().to_string() == grant);
    let Some((_, text, path)) = found else {
        return Err(Error::failed(
            format!("there is no record of `{grant}` here"),
            "run `ichor kit report` to list them, or name the record's file",
        ));
    };
    here.print(&json!({ "record": text.as_str(), "file": path }), |terminal| terminal.text(&text))
}

/// A record and its text; `None` where the file holds something else.
fn read(path: &Path) -> Result<Option<(Record, Zeroizing<String>)>, Error> {
    let text = private_file::read(path, MAX)?;
    Ok(text.and_then(|text| Some((SignedRecord::unverified_record(&text).ok()?, text))))
}

fn no_record(path: &Path) -> Error {
    Error::failed(
        format!("`{}` is not the record of an opened kit", path.display()),
        "run `ichor kit report` to list those of this machine",
    )
}
