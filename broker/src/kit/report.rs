//! An opening that is brought back: its record held against the log's kits, and the entry that it becomes.

use ichor_wire::api::KitLabel;
use ichor_wire::kit::{Record, RecordError, SignedRecord};
use ichor_wire::log::{Content, Kind, Kit};
use sha2::{Digest, Sha256};

use super::Standing;
use crate::domain::check_reason;

/// An opening that can be recorded.
#[derive(Clone, Debug)]
pub struct Reported {
    /// What the opener's machine recorded, signed by the kit's key.
    pub record: Record,
    /// The entry; who brings it is to be added.
    pub content: Content,
}

/// Why a record is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// It is none, or not as it was signed.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The note cannot stand in the audit.
    #[error("the note cannot be taken: {0}")]
    Note(String),
    /// The log has no such kit.
    #[error("the log tells of no kit {0} with this id")]
    UnknownKit(u16),
    /// The kit's key is of another kind than kits have.
    #[error("the kit's key is of another kind; keep the record as evidence")]
    Key,
    /// It was signed by the kit's key, and does not say what the log says of the kit.
    #[error("the record names another kit, cluster or grant than the log has under this id; keep it as evidence")]
    OtherKit,
    /// It was reported before, with the same label.
    #[error("this opening is reported already, as {0}")]
    Already(&'static str),
}

/// The opening that a record tells of, if the kit's key signed it and it fits what the log says of the kit. One that was reported before
/// can be reported once more with another label.
///
/// # Errors
/// Why it is not taken.
pub fn reported(kits: &[Standing], text: &str, label: KitLabel, note: Option<&str>) -> Result<Reported, ReportError> {
    if let Some(note) = note {
        check_reason(note).map_err(|error| ReportError::Note(error.to_string()))?;
    }
    let claimed = SignedRecord::unverified_record(text)?;
    let kit = kits.iter().find(|kit| kit.id == claimed.kit).ok_or(ReportError::UnknownKit(claimed.number))?;
    let signed = SignedRecord::parse(text, &kit.record_key().ok_or(ReportError::Key)?)?;
    let record = signed.record();
    let is_its_grant = !kit.is_static() || record.grant == kit.id;
    if record.number != kit.number || record.cluster != kit.cluster || !is_its_grant {
        return Err(ReportError::OtherKit);
    }
    let is_same = |grant, opened: jiff::Timestamp| {
        // entries have whole seconds
        grant == record.grant && opened.as_second() == record.opened.as_second()
    };
    let label = label.as_str();
    if kit.openings.iter().any(|opening| is_same(opening.grant, opening.opened) && opening.label == label) {
        return Err(ReportError::Already(label));
    }
    let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).ok();
    let shares: Vec<String> = record.shares.iter().map(ToString::to_string).collect();
    let message = format!(
        "kit {} was opened with shares {}, by its record as {}@{}{}",
        kit.number,
        shares.join(" "),
        record.os_user,
        record.host,
        note.map(|note| format!("; {note}")).unwrap_or_default()
    );
    let content = Content {
        cluster: Some(kit.cluster.clone()),
        kit: Some(Kit {
            number: kit.number,
            id: Some(kit.id.into_bytes().to_vec()),
            user: kit.user(),
            ..Kit::default()
        }),
        grant: Some(record.grant.into_bytes().to_vec()),
        roles: Some(record.roles.iter().map(ToString::to_string).collect()),
        reason: Some(readable(&record.reason)),
        not_after: Some(record.not_after.as_second()),
        opened: Some(record.opened.as_second()),
        claimed: Some(record.name.clone()),
        kit_label: Some(label.into()),
        shares: Some(record.shares.clone()),
        serial: hex(&record.serial),
        public_key: hex(&record.public_key).filter(|digest| digest.len() == Sha256::output_size()),
        digests: Some([("record".to_owned(), data_encoding::HEXLOWER.encode(&signed.digest()))].into()),
        message: Some(message.chars().take(1_000).collect()),
        ..Content::of(Kind::KitOpened)
    };
    Ok(Reported { record: record.clone(), content })
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
