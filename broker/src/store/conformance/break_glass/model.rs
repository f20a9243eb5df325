//! Break-glass requests held against a model: random walks of acts, on a clock that stands, walks and jumps.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::*;
use crate::domain::BreakGlassStep;

/// What a random walk does next, and how many seconds later.
#[derive(Clone, Copy, Debug)]
enum Act {
    Approve(u8),
    Close(BreakGlassState),
    Use(bool),
    Return,
    TimeOut,
    Review,
}

fn acts() -> impl Strategy<Value = Vec<(Act, i64)>> {
    let act = prop_oneof![
        3 => (1..5_u8).prop_map(Act::Approve),
        1 => Just(Act::Close(BreakGlassState::Denied)),
        1 => Just(Act::Close(BreakGlassState::Cancelled)),
        1 => Just(Act::Close(BreakGlassState::Revoked)),
        4 => any::<bool>().prop_map(Act::Use),
        2 => Just(Act::Return),
        1 => Just(Act::TimeOut),
        2 => Just(Act::Review),
    ];
    // a clock that stands, walks, and jumps
    let step = prop_oneof![6 => 0..20_i64, 1 => 400..1_000_i64, 1 => 1_700..2_000_i64];
    proptest::collection::vec((act, step), 1..14)
}

/// What the model knows of a request; its transitions are [`BreakGlassState::after`]'s.
struct Model {
    state: BreakGlassState,
    humans: BTreeSet<u8>,
    quorum: usize,
    uses: u64,
    used: u64,
    good_until: Timestamp,
    waits_until: Timestamp,
    key: Option<bool>,
    grants: Vec<(GrantId, bool)>,
}

impl Model {
    fn waits(&self, now: Timestamp) -> bool {
        self.state == BreakGlassState::Pending && now < self.waits_until
    }

    fn is_good(&self, now: Timestamp) -> bool {
        self.state == BreakGlassState::Approved && now < self.good_until
    }

    /// Whether the act is allowed, and what it makes of the request.
    fn act(&mut self, act: Act, grant: Option<GrantId>, now: Timestamp) -> bool {
        let was_used = self.used > 0;
        let step = match act {
            Act::Approve(human) => {
                if !self.waits(now) || human == 1 || !self.humans.insert(human) {
                    return false;
                }
                if self.humans.len() < self.quorum {
                    return true;
                }
                self.good_until = now + SignedDuration::from_mins(30);
                BreakGlassStep::Approve
            }
            Act::Close(BreakGlassState::Revoked) if !self.is_good(now) => return false,
            Act::Close(BreakGlassState::Revoked) => BreakGlassStep::Revoke,
            Act::Close(_) if !self.waits(now) => return false,
            Act::Close(BreakGlassState::Denied) => BreakGlassStep::Deny,
            Act::Close(_) => BreakGlassStep::Cancel,
            Act::Use(key) => {
                if !self.is_good(now) || self.key.is_some_and(|first| first != key) {
                    return false;
                }
                self.key = Some(key);
                self.used += 1;
                self.grants.push((grant.unwrap(), false));
                BreakGlassStep::Use { is_last: self.used == self.uses }
            }
            Act::Return => {
                if let Some((_, returned)) = self.grants.last_mut().filter(|(_, returned)| !returned) {
                    *returned = true;
                    if let Some(after) = self.state.after(BreakGlassStep::Return) {
                        self.state = after;
                        self.used -= 1;
                    }
                }
                return true;
            }
            Act::TimeOut => {
                let is_over = match self.state {
                    BreakGlassState::Pending => !self.waits(now),
                    BreakGlassState::Approved => !self.is_good(now),
                    _ => false,
                };
                if !is_over {
                    return false;
                }
                BreakGlassStep::TimeOut { was_used }
            }
            Act::Review => BreakGlassStep::Review { was_used },
        };
        let Some(after) = self.state.after(step) else { return false };
        self.state = after;
        true
    }
}

pub(crate) async fn requests_walk_as_their_model_does(store: Arc<dyn Store>) {
    logged_in(&*store, 1).await;
    let mut runner = TestRunner::deterministic();
    for number in 0..150_u16 {
        let walk = (1..3_u64, 1..3_u64, acts()).new_tree(&mut runner).unwrap().current();
        let (quorum, uses_of_it, acts) = walk.clone();
        let row = request(number, quorum, uses_of_it);
        asked(&*store, &row).await;
        let mut model = Model {
            state: BreakGlassState::Pending,
            humans: BTreeSet::new(),
            quorum: usize::try_from(quorum).unwrap(),
            uses: uses_of_it,
            used: 0,
            good_until: noon(),
            waits_until: row.waits_until,
            key: None,
            grants: Vec::new(),
        };
        let mut now = noon();
        for (place, (act, later)) in acts.into_iter().enumerate() {
            // the session ends after an hour; nothing here is about that
            now = (now + SignedDuration::from_secs(later)).min(after(3_599));
            let last = model.grants.last().map_or(GrantId(Uuid::nil()), |(grant, _)| *grant);
            let part = match act {
                Act::Approve(human) => approve(&row, ApprovalRow { at: now, ..approval(human) }, now),
                Act::Close(to) => close(&row, to, now),
                Act::Use(key) => uses(&row, u16::try_from(place).unwrap(), if key { "key" } else { "other" }, now),
                Act::Return => changed(BreakGlassChange::Return { grant: last }, now),
                Act::TimeOut => changed(BreakGlassChange::TimeOut { request: row.id }, now),
                Act::Review => {
                    let review = Review { label: "drill".into(), note: "n".into(), by: "b".into(), at: now };
                    changed(BreakGlassChange::Review { request: row.id, review: Box::new(review) }, now)
                }
            };
            let grant = matches!(act, Act::Use(_)).then(|| grant_of(&part));
            let answer = one(&*store, part).await;
            let expected = model.act(act, grant, now);
            assert_eq!(
                matches!(answer, Appended::Recorded { .. }),
                expected,
                "{act:?} at {place} of {walk:?}: {answer:?}"
            );
            let found = file(&*store, &row).await.request;
            assert_eq!((found.state, found.used), (model.state, model.used), "{act:?} at {place} of {walk:?}");
        }
    }
}
