//! `ichor kit report`

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use ichor_wire::api::{KitLabel, KitReportAnswer, KitReportAsk};
use ichor_wire::kit::{Record, SignedRecord};
use serde_json::json;
use zeroize::Zeroizing;

use crate::cli::{Here, block_on};
use crate::error::Error;
use crate::kit::{folder, records, report};
use crate::private_file;

/// The largest record, in bytes.
const MAX: usize = 64 * 1024;

/// List the kits that were opened on this machine, print a record, or bring it to the broker
///
///   ichor kit report                                  the openings of this machine
///   ichor kit report GRANT --label emergency          recorded at the broker, by your session
///   ichor kit report GRANT > opening.record           without one there:
///   ichor-broker kit report opening.record --label emergency      on the broker's host
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// The grant, as `kit open` printed it, or the record's file; without it the records are listed
    #[arg(value_name = "GRANT|FILE")]
    which: Option<String>,
    /// Bring it to the broker, as what it was; the broker's policies say who may (`kit:report`)
    #[arg(long, value_enum, requires = "which")]
    label: Option<Label>,
    /// What is to be said of it; it goes into the audit
    #[arg(long, value_name = "TEXT", requires = "label")]
    note: Option<String>,
    /// The folder with the records [default: ~/.local/state/ichor/kit-records]
    #[arg(long, value_name = "DIR")]
    records: Option<PathBuf>,
}

/// What an opening was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Label {
    /// It was needed
    Emergency,
    /// A full opening as exercise: a use all the same
    Drill,
    /// It should not have been
    Misuse,
}

impl From<Label> for KitLabel {
    fn from(label: Label) -> Self {
        match label {
            Label::Emergency => Self::Emergency,
            Label::Drill => Self::Drill,
            Label::Misuse => Self::Misuse,
        }
    }
}

pub(super) fn run(here: &mut Here, args: Args) -> Result<u8, Error> {
    if let Some(file) = args.which.as_deref().map(Path::new).filter(|file| file.is_file()) {
        let (_, text) = read(file)?.ok_or_else(|| no_record(file))?;
        return hand_over(here, &text, file, args.label, args.note);
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
        let is_one = |record: &Record| records.iter().filter(|other| other.grant == record.grant).count() == 1;
        return here.print(&json!({ "records": records }), |terminal| {
            for (record, _, path) in &found {
                // the openings of a static kit have one grant: its records are told apart by their files
                let named = if is_one(record) { record.grant_name().to_string() } else { path.display().to_string() };
                let Record { opened, cluster, name, reason, .. } = record;
                terminal.line(&format!("{named}  {opened:.0}  {cluster}  {name}  {reason}"))?;
            }
            if records.is_empty() { terminal.line("no kit was opened here") } else { Ok(()) }
        });
    };
    // as nodes log it, or the id alone, as it stands in the record
    let is_it = |record: &Record| record.grant_name().to_string() == grant || record.grant.to_string() == grant;
    let mut found = found.into_iter().filter(|(record, ..)| is_it(record));
    let (first, second) = (found.next(), found.next());
    if second.is_some() {
        return Err(Error::failed(
            format!("several openings have the grant `{grant}`, as those of a static kit do"),
            "name the record's file, as `ichor kit report` lists it",
        ));
    }
    let Some((_, text, path)) = first else {
        return Err(Error::failed(
            format!("there is no record of `{grant}` here"),
            "run `ichor kit report` to list them, or name the record's file",
        ));
    };
    hand_over(here, &text, &path, args.label, args.note)
}

/// Prints a record; with a label brings it to the broker.
fn hand_over(
    here: &mut Here,
    text: &str,
    file: &Path,
    label: Option<Label>,
    note: Option<String>,
) -> Result<u8, Error> {
    let Some(label) = label else {
        return here.print(&json!({ "record": text, "file": file }), |terminal| terminal.text(text));
    };
    let session = here.session()?;
    let ask = KitReportAsk { record: text.to_owned(), label: label.into(), note };
    let answer = block_on(report(&session, &ask))?;
    here.print(&answer, |terminal| {
        let KitReportAnswer { kit, cluster, claimed, opened, label, beyond, .. } = &answer;
        let label = label.as_str();
        terminal.line(&format!(
            "✓ recorded: kit {kit} of {cluster} was opened at {opened:.0} by {claimed} (claimed), {label}"
        ))?;
        if let Some(beyond) = beyond {
            terminal.line(&format!(
                "  It claims more than the kit gives ({beyond}): it explains nothing, and every alarm stays."
            ))?;
        }
        terminal.line(&format!(
            "  Its shares have met: `ichor-broker kit rotate {kit}`, then `kit revoke {kit}`, on the broker's host."
        ))
    })
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
