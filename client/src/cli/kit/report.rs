//! `ichor kit report`

use std::path::PathBuf;

use ichor_wire::kit::SignedRecord;
use serde_json::json;

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
    /// The grant, as `kit open` printed it; without it the records are listed
    #[arg(value_name = "GRANT")]
    grant: Option<String>,
    /// The folder with the records [default: ~/.local/state/ichor/kit-records]
    #[arg(long, value_name = "DIR")]
    records: Option<PathBuf>,
}

pub(super) fn run(here: &mut Here, args: Args) -> Result<u8, Error> {
    let folder = match args.records {
        Some(folder) => folder,
        None => folder(&here.around.environment)?,
    };
    let mut found = Vec::new();
    for path in records(&folder)? {
        let Some(text) = private_file::read(&path, MAX)? else { continue };
        if let Ok(record) = SignedRecord::unverified_record(&text) {
            found.push((record, text, path));
        }
    }
    let Some(grant) = args.grant else {
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
            "run `ichor kit report` to list them",
        ));
    };
    here.print(&json!({ "record": text.as_str(), "file": path }), |terminal| terminal.text(&text))
}
