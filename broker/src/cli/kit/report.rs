//! `kit report`.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ichor_wire::api::KitLabel;

use crate::app;
use crate::cli::ca::read;
use crate::cli::desk::Desk;
use crate::cli::{FolderArg, block_on};
use crate::clock::{Clock, SystemClock};
use crate::kit::{self, BEYOND, reported};

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
            let store = app::read_store(&loaded.settings).await?;
            let kits = kit::read(&*store).await?;
            let now = SystemClock.now();
            let opening = reported(&*store, &kits, &text, label, self.note.as_deref(), now).await?;
            desk.note_kit(opening.content).await?;
            desk.close().await;
            let (number, opened, name) = (opening.record.number, opening.record.opened, opening.name);
            let said = if opening.beyond.is_some() { BEYOND } else { label.as_str() };
            writeln!(out, "Recorded: kit {number} was opened at {opened:.0} by {name} (claimed), {said}.")?;
            let kit = kits.iter().find(|kit| kit.id == opening.record.kit);
            let (is_revoked, successor) = kit.map_or((false, None), |kit| (kit.revoked.is_some(), kit.replaced_by));
            if let Some(beyond) = opening.beyond {
                let end = match is_revoked {
                    true => "it is revoked, so see that no node accepts it still".to_owned(),
                    false => format!("end it now, with `ichor-broker kit revoke {number}`"),
                };
                writeln!(
                    out,
                    "It claims more than the kit gives ({beyond}), so it explains nothing, and every alarm stays. Whoever signed it has \
                     the kit's key: {end}."
                )?;
            }
            writeln!(out, "{}", left_to_do(number, is_revoked, successor))?;
            anyhow::Ok(())
        })
    }
}

/// What is left to do about a kit whose shares have met, as it stands.
fn left_to_do(number: u16, is_revoked: bool, successor: Option<u16>) -> String {
    match (is_revoked, successor) {
        (false, None) => format!(
            "Its shares have met, so make another in its place: `ichor-broker kit rotate {number}`, then `kit revoke {number}`."
        ),
        (false, Some(successor)) => format!(
            "Its shares have met, and kit {successor} is there in its place: once nodes accept that one, \
             `ichor-broker kit revoke {number}`."
        ),
        (true, Some(successor)) => {
            format!("It is revoked, and kit {successor} is there in its place: nothing is left to do.")
        }
        (true, None) => {
            "It is revoked, and none is there in its place: make one with `ichor-broker kit create`.".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::left_to_do;

    #[test]
    fn a_kit_that_is_revoked_or_replaced_is_not_to_be_rotated() {
        assert!(left_to_do(7, false, None).contains("`ichor-broker kit rotate 7`, then `kit revoke 7`"));
        for (is_revoked, successor, says) in [
            (false, Some(8), "kit 8 is there in its place: once nodes accept that one, `ichor-broker kit revoke 7`"),
            (true, Some(8), "kit 8 is there in its place: nothing is left to do"),
            (true, None, "`ichor-broker kit create`"),
        ] {
            let said = left_to_do(7, is_revoked, successor);
            assert!(said.contains(says) && !said.contains("rotate"), "{said}");
        }
    }
}
