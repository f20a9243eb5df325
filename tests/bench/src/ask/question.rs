//! The questions, each asked of many nodes, persons and clusters.

use anyhow::ensure;
use ichor_broker::store::{CallClass, CallFilter, EntryFilter, NodeName, Store};
use ichor_wire::log::Kind;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::history::{CLUSTERS, NODES, PERSONS, cluster, node, scattered, user};
use crate::meter::Times;

/// Questions of one kind at one size.
pub(super) const QUESTIONS: u64 = 300;
/// Rows that each answer may have.
pub(super) const ANSWERS: u32 = 100;
/// What a question covers.
const ASKED: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A question to the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Who called this node?
    Who,
    /// Who called this node by this method?
    Method,
    /// What calls did this person make?
    Calls,
    /// What entries has this person?
    Person,
    /// Which certificates were issued for this cluster?
    Issued,
    /// Which calls does no grant explain?
    Unexplained,
}

// === impl Question ===

impl Question {
    pub(super) const ALL: [Self; 6] =
        [Self::Who, Self::Method, Self::Calls, Self::Person, Self::Issued, Self::Unexplained];

    pub(super) fn said(self) -> &'static str {
        match self {
            Self::Who => "who called a node",
            Self::Method => "who rebooted a node",
            Self::Calls => "calls of a person",
            Self::Person => "entries of a person",
            Self::Issued => "certificates of a cluster",
            Self::Unexplained => "unexplained calls",
        }
    }

    /// Asks it of many nodes, persons and clusters in turn; how long each answer took.
    pub(super) async fn ask(self, store: &dyn Store) -> anyhow::Result<Times> {
        let head = store.head().await?;
        let since = Timestamp::from_microsecond(head.time)?.checked_sub(ASKED)?;
        let mut times = Times::default();
        let mut found = 0;
        for number in 0..QUESTIONS {
            let spread = scattered(number);
            let (of, person) = (spread % CLUSTERS, user(spread % PERSONS));
            let calls = CallFilter { since: Some(since), ..CallFilter::default() };
            let entries = EntryFilter { since: Some(since), ..EntryFilter::default() };
            let named = NodeName { cluster: None, node: node(of, spread / 50 % NODES) };
            let at_node = CallFilter { cluster: Some(cluster(of)), nodes: vec![named], ..calls.clone() };
            let began = Instant::now();
            found += match self {
                Question::Who => store.calls(&at_node, None, ANSWERS).await?.len(),
                Question::Method => {
                    store.calls(&CallFilter { method: Some("Reboot".into()), ..at_node }, None, ANSWERS).await?.len()
                }
                Question::Calls => store.calls(&CallFilter { user: Some(person), ..calls }, None, ANSWERS).await?.len(),
                Question::Person => {
                    store.entries(&EntryFilter { person: Some(person), ..entries }, None, ANSWERS).await?.len()
                }
                Question::Issued => {
                    let filter = EntryFilter { cluster: Some(cluster(of)), kind: Some(Kind::Issued), ..entries };
                    store.entries(&filter, None, ANSWERS).await?.len()
                }
                Question::Unexplained => {
                    let classes = CallClass::ALL.into_iter().filter(|class| *class != CallClass::Explained).collect();
                    store.calls(&CallFilter { classes, ..calls }, None, ANSWERS).await?.len()
                }
            };
            times.push(began.elapsed());
        }
        ensure!(found > 0, "{self:?} found nothing in {} entries", head.size);
        Ok(times)
    }
}
