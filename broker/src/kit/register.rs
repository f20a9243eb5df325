//! Where entries about kits are recorded.

use std::sync::Arc;

use ichor_wire::api::Receipt;
use ichor_wire::log::{Content, Kind};
use tokio::sync::Mutex;

use super::{LedgerError, read};
use crate::audit::{RecordError, Sequencer};
use crate::store::Store;

/// Records entries about kits. Of ceremonies that run at once beside one broker, one gets a number: each reads which there are before it
/// makes a kit, and that none has the number still is asked again here, one at a time. Brokers on one database do not wait for each other.
#[derive(Clone)]
pub struct Register {
    store: Arc<dyn Store>,
    sequencer: Sequencer,
    making: Arc<Mutex<()>>,
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
        Self { store, sequencer, making: Arc::new(Mutex::new(())) }
    }

    /// Returns once the entry is durable.
    ///
    /// # Errors
    /// When it tells of no kit, of a new one whose number is taken, or cannot be recorded.
    pub async fn note(&self, content: Content) -> Result<Receipt, RegisterError> {
        let kind = content.kind;
        let about = [Kind::KitMade, Kind::KitOpened, Kind::KitDrill, Kind::KitRevoked];
        let number = content.kit.as_ref().map(|kit| kit.number).filter(|_| about.contains(&kind));
        let number = number.ok_or(RegisterError::NotAboutAKit(kind))?;
        if kind != Kind::KitMade {
            return Ok(self.sequencer.note(content, None).await?);
        }
        let _one = self.making.lock().await;
        if read(&*self.store).await?.iter().any(|kit| kit.number == number) {
            return Err(RegisterError::Taken(number));
        }
        Ok(self.sequencer.note(content, None).await?)
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
    async fn of_two_ceremonies_at_once_one_gets_the_number() {
        let room = Room::new([]);
        let register = Register::new(Arc::clone(&room.store) as _, room.sequencer.clone());
        let (one, other) = tokio::join!(register.note(made()), register.note(made()));
        let refused: Vec<_> = [one, other].into_iter().filter_map(Result::err).collect();
        assert_eq!(refused, [RegisterError::Taken(7)]);
        assert_eq!(register.note(made()).await, Err(RegisterError::Taken(7)), "nor later");
        let mut next = made();
        next.kit.as_mut().unwrap().number = 8;
        register.note(next).await.unwrap();
        let numbers: Vec<u16> = read(&*room.store).await.unwrap().iter().map(|kit| kit.number).collect();
        assert_eq!(numbers, [7, 8]);
        let other = register.note(Content::of(Kind::Admin)).await;
        assert_eq!(other, Err(RegisterError::NotAboutAKit(Kind::Admin)));
        let none = Content { kit: None, ..made() };
        assert_eq!(register.note(none).await, Err(RegisterError::NotAboutAKit(Kind::KitMade)));
    }
}
