//! What goes on while custody is looked at, for a server may take its time: a CA that is retired at another broker ends here all the same,
//! and who waits for something else does not wait for the looks.

use std::time::Duration;

use tokio::sync::watch;

use crate::app::issuers::{self, Marks};
use crate::audit;
use crate::custody::KnownCas;
use crate::mint::Issuers;
use crate::store::Store;

/// What is held against the log while looks are under way.
pub(super) struct Meanwhile<'a> {
    pub(super) store: &'a dyn Store,
    /// What the log said when the looks began.
    pub(super) known: &'a KnownCas,
    pub(super) marks: &'a Marks,
    pub(super) issuers: &'a watch::Sender<Issuers>,
    /// How often the log is read on, and `is_wanted` asked.
    pub(super) pace: Duration,
}

// === impl Meanwhile ===

impl Meanwhile<'_> {
    /// What came of the looks, with what the log says by then. `None` once `is_wanted` says that something else is: then the looks are
    /// dropped, which only read.
    pub(super) async fn looks<T>(
        &self,
        looks: impl Future<Output = T>,
        is_wanted: impl Fn() -> bool,
    ) -> Option<(T, KnownCas)> {
        let mut looks = std::pin::pin!(looks);
        let mut known = self.known.clone();
        self.end_retired(&known);
        loop {
            tokio::select! {
                found = &mut looks => return Some((found, known)),
                () = tokio::time::sleep(self.pace) => {}
            }
            if is_wanted() {
                return None;
            }
            // what cannot be read now is read at the next look
            if audit::learn_cas(self.store, &mut known).await.is_ok() {
                self.end_retired(&known);
            }
        }
    }

    /// Takes the issuers out of use whose CAs the log says were retired. That needs neither server nor vault, nor an entry: there is one.
    fn end_retired(&self, known: &KnownCas) {
        self.issuers.send_if_modified(|held| match issuers::without_retired(held, self.marks, known) {
            Some(left) => {
                *held = left;
                true
            }
            None => false,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use ichor_wire::log::{Content, Kind};

    use super::*;
    use crate::audit::tests::Room;
    use crate::custody::CERTIFICATE;
    use crate::domain::ClusterName;

    #[tokio::test]
    async fn while_looks_take_their_time_the_log_is_read_on_and_who_waits_is_heard() {
        let room = Room::new([]);
        let (known, marks, issuers) = (KnownCas::default(), Marks::new(), watch::Sender::new(Issuers::default()));
        let pace = Duration::from_millis(1);
        let meanwhile = Meanwhile { store: &*room.store, known: &known, marks: &marks, issuers: &issuers, pace };
        assert!(meanwhile.looks(pending::<()>(), || true).await.is_none());

        let digests = [(CERTIFICATE.to_owned(), "one".to_owned())].into();
        let told = Content { cluster: Some("prod".into()), digests: Some(digests), ..Content::of(Kind::Ca) };
        let prod = ClusterName::new("prod").unwrap();
        let heard = std::cell::Cell::new(0_u32);
        let looks = async {
            room.sequencer.note(told, None).await.unwrap();
            let before = heard.get();
            while heard.get() < before + 2 {
                tokio::task::yield_now().await;
            }
            "found"
        };
        let is_wanted = || {
            heard.set(heard.get() + 1);
            false
        };
        let (found, known) = meanwhile.looks(looks, is_wanted).await.unwrap();
        assert_eq!((found, known.newest(&prod)), ("found", Some("one")));
    }
}
