//! Who asked for a lock of everything to be lifted. The row that says so lies in the database; its entry bears the broker's mark.

use std::sync::Arc;

use ichor_wire::log::Kind;
use jiff::{SignedDuration, Timestamp};

use crate::audit::as_recorded;
use crate::custody::DataKey;
use crate::domain::{LockId, Person};
use crate::identity::Identity;
use crate::policy::{NO_HUMAN, NO_HUMAN_HELP, Refusal};
use crate::store::{EntryFilter, LiftAsk, LockRow, Store, StoreError};

/// What the mark is made for.
const MARK: &[u8] = b"ichor asks to lift 2\0";

/// An asking is open for an hour; brokers' clocks may differ by a little.
const LOOKED_BACK: SignedDuration = SignedDuration::from_mins(70);

/// How long another person may confirm that a lock of everything is lifted.
pub(super) const OPEN: SignedDuration = SignedDuration::from_hours(1);

/// So many askings are read at a time.
const PAGE: u32 = 200;

/// Whether policy would let this person ask for a lock of everything to be lifted, had they asked at that time.
pub type MayAsk<'a> = &'a (dyn Fn(&Identity, Timestamp) -> bool + Sync);

/// What there is of an asking for a lock of everything to be lifted.
pub(super) enum Asked<'a> {
    /// Nobody asks.
    Not,
    /// Somebody does, whose asking may be confirmed.
    Counts(&'a LiftAsk),
    /// Somebody did, who is locked, logged in no more, or may not ask any more.
    CountsNoMore(&'a LiftAsk),
    /// The database says so, and nobody did.
    Forged(&'a LiftAsk),
}

/// Marks askings, and knows those that were recorded.
#[derive(Clone)]
pub(super) struct Asks {
    store: Arc<dyn Store>,
    key: Option<Arc<DataKey>>,
}

impl Asks {
    pub(super) fn new(store: Arc<dyn Store>, key: Option<Arc<DataKey>>) -> Self {
        Self { store, key }
    }

    /// The mark that the entry of this asking bears: on the lock, on who asks in which session, what their provider tells of the human,
    /// and until when.
    pub(super) fn mark(&self, lock: LockId, ask: &LiftAsk) -> Option<Vec<u8>> {
        let key = self.key.as_ref()?;
        let Person { provider, issuer, subject } = &ask.person;
        let mut said = lock.0.as_bytes().to_vec();
        for part in [provider.as_str(), issuer, subject, &ask.user] {
            said.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            said.extend_from_slice(part.as_bytes());
        }
        said.extend_from_slice(&ask.until.as_microsecond().to_be_bytes());
        said.extend_from_slice(ask.session.0.as_bytes());
        ask.told.iter().for_each(|told| said.extend_from_slice(told));
        Some(key.tag(MARK, &said).to_vec())
    }

    /// What there is of an asking at `now`. The store holds it once more, but for what policy says, where it is confirmed.
    pub(super) async fn look<'a>(
        &self,
        lock: &'a LockRow,
        now: Timestamp,
        may_ask: MayAsk<'_>,
    ) -> Result<Asked<'a>, StoreError> {
        let Some(ask) = lock.asked.as_ref().filter(|ask| now < ask.until) else { return Ok(Asked::Not) };
        if !self.were_recorded(lock.id, ask, now).await? {
            return Ok(Asked::Forged(ask));
        }
        // as it was then: how long ago someone logged in is no reason to take back what they asked a moment later
        let asked_at = ask.until.checked_sub(OPEN).unwrap_or(now);
        let asker = self.asker(ask, now).await?;
        Ok(match asker.is_some_and(|asker| may_ask(&asker, asked_at)) {
            true => Asked::Counts(ask),
            false => Asked::CountsNoMore(ask),
        })
    }

    /// Who asked, as their session's row says by now, while that session is live; nothing where it is over, or where the broker did not
    /// write the row.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn asker(&self, ask: &LiftAsk, now: Timestamp) -> Result<Option<Identity>, StoreError> {
        let (Some(key), Some(row)) = (&self.key, self.store.session(ask.session).await?) else { return Ok(None) };
        let is_live = row.ended_at.is_none() && now < row.expires_at;
        let identity = Identity::restore(&row, key).inspect_err(|_| {
            let session = row.id.0;
            tracing::error!(%session, "a session's row in the database was not written by this broker: someone else writes it");
            metrics::counter!("ichor_forged_rows_total", "table" => "session").increment(1);
        });
        Ok(identity.ok().filter(|_| is_live).filter(|identity| *identity.person() == ask.person))
    }

    /// Whether the log has the entry of this asking. One that it does not have was asked by nobody, whatever the row says, and that
    /// is said aloud.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn were_recorded(&self, lock: LockId, ask: &LiftAsk, now: Timestamp) -> Result<bool, StoreError> {
        let Some(mark) = self.mark(lock, ask) else { return Ok(false) };
        let since = now.checked_sub(LOOKED_BACK).ok();
        let filter = EntryFilter { kind: Some(Kind::UnlockAsked), since, ..EntryFilter::default() };
        let mut before = None;
        loop {
            let page = self.store.entries(&filter, before, PAGE).await?;
            for stored in &page {
                let entry = as_recorded(stored, filter.kind).ok().flatten();
                if entry.is_some_and(|entry| entry.content.contents.as_ref() == Some(&mark)) {
                    return Ok(true);
                }
            }
            before = page.last().map(|last| last.index);
            if page.len() < PAGE as usize {
                break;
            }
        }
        let lock = lock.0;
        tracing::error!(%lock, "the database has an asking to lift a lock that nobody made: someone else writes it");
        metrics::counter!("ichor_forged_rows_total", "table" => "lock").increment(1);
        Ok(false)
    }
}

/// Why this person is not the second of two; nothing where they are.
pub(super) fn not_the_second(identity: &Identity, asked: &Asked<'_>) -> Option<Refusal> {
    let help =
        "let one person run `ichor unlock everything`, and another of the same provider confirm it within the hour";
    let Some(human) = identity.human() else { return Some(Refusal::plain(NO_HUMAN, NO_HUMAN_HELP)) };
    match asked {
        Asked::Not | Asked::Forged(_) => {
            Some(Refusal::plain("nobody has asked for the lock of everything to be lifted", help))
        }
        Asked::CountsNoMore(_) => Some(Refusal::plain(
            "whoever asked for the lock of everything to be lifted is locked, logged in no more, or may not ask for it now",
            "ask for it yourself with `ichor unlock everything`, and let another of the same provider confirm it within the hour",
        )),
        Asked::Counts(ask) if ask.person == human.person => {
            Some(Refusal::plain("whoever asked for the lock of everything to be lifted does not confirm it", help))
        }
        Asked::Counts(ask) if !human.is_surely_another(&ask.human()) => {
            let help = match human.is_told_as(&ask.human()) {
                true => help,
                // one of them may be of a session of before: then another login helps
                false => {
                    "log in anew (`ichor login`), both, at one provider; then let one run `ichor unlock everything`, and the other \
                     confirm it within the hour"
                }
            };
            Some(Refusal::plain("the two accounts may be the same person's", help))
        }
        Asked::Counts(_) => None,
    }
}
