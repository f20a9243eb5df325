//! Where entries about kits are recorded.

use std::sync::Arc;

use ichor_wire::api::Receipt;
use ichor_wire::log::{Content, Kind};

use super::{LedgerError, read_with_size};
use crate::audit::{RecordError, Sequencer};
use crate::store::{Change, Condition, Store};

/// So often the log is read again because another kit came in.
const TRIES: u32 = 8;

/// Records entries about kits. Of ceremonies that run at once, beside whichever of several brokers on one database, one gets a number, and
/// of reports of one opening with one label one is recorded: that no such entry has come in since the log was read for it is a condition of
/// the entry's own transaction.
#[derive(Clone)]
pub struct Register {
    store: Arc<dyn Store>,
    sequencer: Sequencer,
}

/// Why an entry about a kit is not recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// It is another entry.
    #[error("an entry of kind `{0}` is none about a kit, or has none")]
    NotAboutAKit(Kind),
    /// Another ceremony was first.
    #[error(
        "another ceremony made kit {0} meanwhile, and nothing of this one is kept; run it again, and it takes the next number"
    )]
    Taken(u16),
    /// It was reported before, with the same label.
    #[error("this opening is reported already, as {0}")]
    Reported(String),
    /// The log could not be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The entry could not be recorded.
    #[error(transparent)]
    Record(#[from] RecordError),
}

// === impl Register ===

impl Register {
    /// A register of this store's kits.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, sequencer: Sequencer) -> Self {
        Self { store, sequencer }
    }

    /// Returns once the entry is durable.
    ///
    /// # Errors
    /// When it tells of no kit, of a new one whose number is taken, of an opening that is reported already, or cannot be recorded.
    pub async fn note(&self, content: Content) -> Result<Receipt, RegisterError> {
        let kind = content.kind;
        let about = [Kind::KitMade, Kind::KitOpened, Kind::KitDrill, Kind::KitRevoked];
        let number = content.kit.as_ref().map(|kit| kit.number).filter(|_| about.contains(&kind));
        let number = number.ok_or(RegisterError::NotAboutAKit(kind))?;
        let kinds: &[Kind] = match kind {
            Kind::KitMade => &[Kind::KitMade],
            Kind::KitOpened => &[Kind::KitOpened],
            _ => return Ok(self.sequencer.note(content, None).await?),
        };
        for _ in 0..TRIES {
            let (kits, from) = read_with_size(&*self.store).await?;
            if kind == Kind::KitMade && kits.iter().any(|kit| kit.number == number) {
                return Err(RegisterError::Taken(number));
            }
            if kind == Kind::KitOpened && kits.iter().any(|kit| kit.has_reported(&content)) {
                return Err(RegisterError::Reported(content.kit_label.unwrap_or_default()));
            }
            let change = Change::AsRead { kinds, from };
            match self.sequencer.note(content.clone(), Some(change)).await {
                Err(RecordError::Refused(Condition::Stale)) => {}
                done => return Ok(done?),
            }
        }
        Err(RecordError::Refused(Condition::Stale).into())
    }
}

impl std::fmt::Debug for Register {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Register").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::tests::Room;
    use crate::kit::ledger::tests::made;

    #[tokio::test]
    async fn of_reports_of_one_opening_at_once_one_is_recorded_for_each_label() {
        let room = Room::new([]);
        let register = Register::new(Arc::clone(&room.store) as _, room.sequencer.clone());
        register.note(made()).await.unwrap();
        let opened = |label: &str| Content {
            kit: made().kit,
            grant: Some(vec![9; 16]),
            opened: Some(1_795_348_800),
            not_after: Some(1_795_350_600),
            claimed: Some("ada".into()),
            kit_label: Some(label.into()),
            ..Content::of(Kind::KitOpened)
        };
        let all = ["drill", "drill", "drill", "drill", "emergency"];
        let answers = futures_util::future::join_all(all.map(|label| register.note(opened(label)))).await;
        let refused: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
        assert_eq!(refused, vec![RegisterError::Reported("drill".into()); 3]);
        let kits = crate::kit::read(&*room.store).await.unwrap();
        assert_eq!(kits[0].openings.len(), 1);
        assert_eq!(kits[0].openings[0].labels, ["emergency", "drill"]);
    }

    /// A kit of this number, as no other's.
    fn numbered(number: u16) -> Content {
        let id = Some(uuid::Uuid::from_u128(number.into()).into_bytes().to_vec());
        Content { kit: Some(ichor_wire::log::Kit { number, id, ..made().kit.unwrap() }), ..made() }
    }

    #[tokio::test]
    async fn of_two_ceremonies_at_once_one_gets_the_number() {
        let room = Room::new([]);
        // as two brokers have them: they share the log alone
        let register = || Register::new(Arc::clone(&room.store) as _, room.sequencer.clone());
        let (one, other) = (register(), register());
        let (first, second) = tokio::join!(one.note(made()), other.note(made()));
        let refused: Vec<_> = [first, second].into_iter().filter_map(Result::err).collect();
        assert_eq!(refused, [RegisterError::Taken(7)]);
        assert_eq!(one.note(made()).await, Err(RegisterError::Taken(7)), "nor later");
        // others' numbers are no reason to run a ceremony again
        let (first, second) = tokio::join!(one.note(numbered(8)), other.note(numbered(9)));
        assert!(first.is_ok() && second.is_ok(), "{first:?} {second:?}");
        let mut numbers: Vec<u16> =
            crate::kit::read(&*room.store).await.unwrap().iter().map(|kit| kit.number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [7, 8, 9]);
        let other = one.note(Content::of(Kind::Admin)).await;
        assert_eq!(other, Err(RegisterError::NotAboutAKit(Kind::Admin)));
        let none = Content { kit: None, ..made() };
        assert_eq!(one.note(none).await, Err(RegisterError::NotAboutAKit(Kind::KitMade)));
    }
}
