//! `kit report`.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use ichor_wire::kit::SignedRecord;
use ichor_wire::log::{Content, Kind};
use sha2::{Digest, Sha256};

use super::{all, named};
use crate::cli::ca::read;
use crate::cli::desk::Desk;
use crate::cli::{FolderArg, block_on};
use crate::domain::check_reason;

/// The bytes of an Ed25519 key's SubjectPublicKeyInfo before the key itself.
const SPKI_HEAD: usize = 12;

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

impl Label {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Emergency => "emergency",
            Self::Drill => "drill",
            Self::Misuse => "misuse",
        }
    }
}

impl Report {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        if let Some(note) = &self.note {
            check_reason(note).context("`--note`")?;
        }
        let text = read(&self.file)?;
        let claimed = SignedRecord::unverified_record(&text)?;
        block_on(async {
            let desk = Desk::open(&loaded).await?;
            let kits = all(&loaded).await?;
            let kit = kits.iter().find(|kit| kit.id == claimed.kit);
            let kit = kit.with_context(|| format!("the log tells of no kit {} with this id", claimed.number))?;
            let key = kit.ca.public_key().get(SPKI_HEAD..).context("the kit's CA has a key of another kind")?;
            let signed = SignedRecord::parse(&text, key)?;
            let record = signed.record();
            if record.number != kit.number || record.cluster != kit.cluster {
                bail!("the record names another kit or cluster than the log has under this id; keep it as evidence");
            }
            if kit.openings.iter().any(|opening| opening.grant == record.grant && opening.label == self.label.as_str())
            {
                bail!("this opening is reported already, as {}", self.label.as_str());
            }
            let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).ok();
            let shares: Vec<String> = record.shares.iter().map(ToString::to_string).collect();
            let message = format!(
                "kit {} was opened with shares {}, by its record as {}@{}{}",
                kit.number,
                shares.join(" "),
                record.os_user,
                record.host,
                self.note.as_ref().map(|note| format!("; {note}")).unwrap_or_default()
            );
            let content = Content {
                cluster: Some(kit.cluster.clone()),
                kit: Some(named(kit)),
                grant: Some(record.grant.into_bytes().to_vec()),
                roles: Some(record.roles.iter().map(ToString::to_string).collect()),
                reason: Some(readable(&record.reason)),
                not_after: Some(record.not_after.as_second()),
                opened: Some(record.opened.as_second()),
                claimed: Some(record.name.clone()),
                kit_label: Some(self.label.as_str().into()),
                shares: Some(record.shares.clone()),
                serial: hex(&record.serial),
                public_key: hex(&record.public_key).filter(|digest| digest.len() == Sha256::output_size()),
                digests: Some([("record".to_owned(), data_encoding::HEXLOWER.encode(&signed.digest()))].into()),
                message: Some(message.chars().take(1_000).collect()),
                ..Content::of(Kind::KitOpened)
            };
            desk.note_kit(content).await?;
            desk.close().await;
            writeln!(
                out,
                "Recorded: kit {} was opened at {} by {} (claimed), {}.",
                kit.number,
                record.opened,
                record.name,
                self.label.as_str()
            )?;
            writeln!(
                out,
                "Its shares have met, so make another in its place: `ichor-broker kit rotate {}`, then `kit revoke {}`.",
                kit.number, kit.number
            )?;
            anyhow::Ok(())
        })
    }
}

/// The reason as the log takes it. What was signed is never refused: what cannot be seen in it is written out.
fn readable(reason: &str) -> String {
    if check_reason(reason).is_ok() {
        return reason.to_owned();
    }
    let plain: String = reason.escape_default().take(400).collect();
    format!("as the record has it: {plain}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_reason_was_signed_can_be_reported() {
        assert_eq!(readable("INC-42 etcd down"), "INC-42 etcd down");
        for signed in ["INC \u{2764}\u{fe0f}", "", "\u{202e}", &"x".repeat(2_000)] {
            assert_eq!(check_reason(&readable(signed)), Ok(()), "{signed:?}");
        }
        assert_eq!(readable("INC\u{fe0f}"), "as the record has it: INC\\u{fe0f}");
    }
}
