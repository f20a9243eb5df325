//! `kit report`.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ichor_wire::api::KitLabel;

use super::all;
use crate::cli::ca::read;
use crate::cli::desk::Desk;
use crate::cli::{FolderArg, block_on};
use crate::kit::reported;

/// `kit report`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Report {
    #[command(flatten)]
    folder: FolderArg,
    /// The record, as `ichor kit report` hands it over; `-` for standard input.
    file: PathBuf,
    /// What it was.
    #[arg(long)]
    label: Label,
    /// What is to be said of it; it goes into the audit.
    #[arg(long)]
    note: Option<String>,
}

/// What an opening was.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Label {
    /// It was needed.
    Emergency,
    /// A full opening as exercise. It is a use all the same: the kit is to be rotated.
    Drill,
    /// It should not have been.
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

impl Report {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let text = read(&self.file)?;
        let label = KitLabel::from(self.label);
        block_on(async {
            let desk = Desk::open(&loaded).await?;
            let opening = reported(&all(&loaded).await?, &text, label, self.note.as_deref())?;
            desk.note_kit(opening.content).await?;
            desk.close().await;
            let (record, label) = (opening.record, label.as_str());
            let (number, opened, name) = (record.number, record.opened, &record.name);
            writeln!(out, "Recorded: kit {number} was opened at {opened:.0} by {name} (claimed), {label}.")?;
            writeln!(
                out,
                "Its shares have met, so make another in its place: `ichor-broker kit rotate {number}`, then `kit revoke {number}`."
            )?;
            anyhow::Ok(())
        })
    }
}
