//! That a kit's drill is overdue, that it serves no more or was opened and has no successor, told once a day; that its end is near, told
//! once a week.

use ichor_wire::log::{Content, Kind, Kit};
use jiff::{SignedDuration, Timestamp};

use super::ledger::KINDS;
use super::{Standing, State};
use crate::audit::{RecordError, Sequencer};
use crate::store::{Change, Condition};

/// What is overdue is told again after so long.
const AGAIN: SignedDuration = SignedDuration::from_hours(24);

/// What is near is.
const NEAR_AGAIN: SignedDuration = SignedDuration::from_hours(24 * 7);

/// Records the kits whose drill is overdue, those whose cluster is another now, and those that were opened or have expired while no other
/// is there in their place, once a day for each, and those whose end is near, once a week; the notification sinks tell of the entries. The kits are those that the log told of when it had `size` entries: once
/// another broker has recorded something of kits since, the rest is left to the next look.
///
/// # Errors
/// When something cannot be recorded; the rest is recorded next time.
pub async fn remind(kits: &[Standing], size: u64, sequencer: &Sequencer, now: Timestamp) -> Result<(), RecordError> {
    let mut from = size;
    for content in kits.iter().filter_map(|kit| reminder(kit, now)) {
        match sequencer.note(content, Some(Change::AsRead { kinds: KINDS, from })).await {
            // nothing of kits came in between
            Ok(receipt) => from = receipt.index.saturating_add(1),
            Err(RecordError::Refused(Condition::Stale)) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn reminder(kit: &Standing, now: Timestamp) -> Option<Content> {
    let is_pressing = match kit.state(now) {
        State::Due => now >= kit.next_drill() || kit.is_left_behind(),
        State::Used | State::Expired if kit.replaced_by.is_none() => true,
        _ => return None,
    };
    let again = if is_pressing { AGAIN } else { NEAR_AGAIN };
    if kit.reminded.is_some_and(|at| now.duration_since(at) < again) {
        return None;
    }
    Some(Content {
        cluster: Some(kit.cluster.clone()),
        kit: Some(Kit { number: kit.number, id: Some(kit.id.into_bytes().to_vec()), ..Kit::default() }),
        message: kit.complaint(now),
        ..Content::of(Kind::KitOverdue)
    })
}
