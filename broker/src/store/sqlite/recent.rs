//! Sessions lately read, so that a request that shows its token costs no trip to another thread.
//!
//! The writer lock makes this process the only one that writes, so a row read once is right until a write of our own
//! concerns it. Whoever writes tells it here after the commit and before the write is answered; a reader that began before
//! that may not leave behind what it saw.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::SessionId;
use crate::store::SessionRow;

/// So many sessions are remembered; beyond them memory is emptied and fills again.
const REMEMBERED: usize = 10_000;

/// The sessions.
#[derive(Debug, Default)]
pub(super) struct Recent {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    by_token: HashMap<[u8; 32], SessionRow>,
    tokens: HashMap<SessionId, [u8; 32]>,
    /// How many writes have concerned sessions.
    writes: u64,
}

/// When a read began, in writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment(u64);

// === impl Recent ===

impl Recent {
    /// The session of this token, if it is remembered; else the moment at which reading it begins.
    pub(super) fn by_token(&self, token: &[u8; 32]) -> Result<SessionRow, Moment> {
        let state = self.state();
        state.by_token.get(token).cloned().ok_or(Moment(state.writes))
    }

    /// Remembers what a read found, unless a write came between.
    pub(super) fn remember(&self, began: Moment, row: &SessionRow) {
        let mut state = self.state();
        if began.0 != state.writes {
            return;
        }
        if state.by_token.len() >= REMEMBERED {
            state.forget_all();
        }
        state.tokens.insert(row.id, row.token_hash);
        state.by_token.insert(row.token_hash, row.clone());
    }

    /// A write concerned these sessions, whether or not it came through.
    pub(super) fn forget(&self, sessions: impl IntoIterator<Item = SessionId>) {
        let mut state = self.state();
        for session in sessions {
            state.writes += 1;
            if let Some(token) = state.tokens.remove(&session) {
                state.by_token.remove(&token);
            }
        }
    }

    /// A write concerned any number of sessions.
    pub(super) fn forget_all(&self) {
        let mut state = self.state();
        state.writes += 1;
        state.forget_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    fn forget_all(&mut self) {
        self.by_token.clear();
        self.tokens.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::session;

    #[test]
    fn a_read_that_a_write_overtook_leaves_nothing_behind() {
        let (recent, row) = (Recent::default(), session(1));
        let before = recent.by_token(&row.token_hash).unwrap_err();
        recent.forget([row.id]);
        recent.remember(before, &row);
        let now = recent.by_token(&row.token_hash).unwrap_err();
        recent.remember(now, &row);
        assert_eq!(recent.by_token(&row.token_hash).unwrap(), row);
        recent.forget([session(2).id]);
        assert_eq!(recent.by_token(&row.token_hash).unwrap(), row, "another session's write costs this one nothing");
        recent.forget([row.id]);
        assert!(recent.by_token(&row.token_hash).is_err());
        recent.remember(recent.by_token(&row.token_hash).unwrap_err(), &row);
        recent.forget_all();
        assert!(recent.by_token(&row.token_hash).is_err());
    }

    #[test]
    fn memory_is_bounded() {
        let recent = Recent::default();
        for number in 0..=u32::try_from(REMEMBERED).unwrap() {
            let mut row = session(1);
            row.id = SessionId(uuid::Uuid::from_u128(number.into()));
            row.token_hash.iter_mut().zip(number.to_be_bytes()).for_each(|(to, from)| *to = from);
            recent.remember(recent.by_token(&row.token_hash).unwrap_err(), &row);
        }
        let state = recent.state();
        assert_eq!((state.by_token.len(), state.tokens.len()), (1, 1));
    }
}
