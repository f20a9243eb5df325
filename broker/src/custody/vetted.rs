//! What our tokens were seen to do right, so that not every look into custody asks anew.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::entropy::within;
use crate::openbao::{Client, TokenStanding};

/// How long, at most, what was seen to be right is taken to be so, as long as nothing says otherwise; half of it at least, by chance, so
/// that what was asked together is not asked together again. The server reads our token's policies anew
/// for each path that is asked about: for fifty clusters that is the work of some hundred signatures, each time.
const RIGHT_FOR: Duration = Duration::from_secs(600);

/// The keys and secrets of which our token was seen to do what it should and nothing beyond.
#[derive(Debug, Default)]
pub(super) struct Vetted(Mutex<BTreeMap<String, (TokenStanding, Instant)>>);

/// A question that is about to be asked, as the token stood before: a denial meanwhile makes the answer an old one.
pub(super) struct Asking<'a> {
    vetted: &'a Vetted,
    name: String,
    standing: TokenStanding,
    until: Instant,
}

// === impl Vetted ===

impl Vetted {
    /// What to ask of this path with the client's token; `None` where what is known is right still.
    pub(super) fn ask(&self, client: &Client, path: &str) -> Option<Asking<'_>> {
        let name = format!("{} {path}", client.name());
        let standing = client.standing();
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&name).copied();
        let is_right = seen.is_some_and(|(then, until)| then == standing && Instant::now() < until);
        let until = Instant::now() + within(RIGHT_FOR);
        (!is_right).then_some(Asking { vetted: self, name, standing, until })
    }

    /// Everything is asked anew.
    pub(super) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

// === impl Asking ===

impl Asking<'_> {
    /// Takes in what came of it. What is not right is asked anew each time.
    pub(super) fn was_right(self, is_right: bool) {
        let mut seen = self.vetted.0.lock().unwrap_or_else(PoisonError::into_inner);
        match is_right {
            true => drop(seen.insert(self.name, (self.standing, self.until))),
            false => drop(seen.remove(&self.name)),
        }
    }
}
