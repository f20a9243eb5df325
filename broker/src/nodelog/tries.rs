//! The tries to keep one batch. One whose answer was lost may have been committed: its digests tell, which are looked for before
//! the batch is given to the store again.

use std::collections::BTreeSet;

use ichor_wire::log::{Content, Kind};
use jiff::Timestamp;

use super::alarm::Finding;
use super::findings::Findings;
use crate::audit::as_recorded;
use crate::store::{EntryFilter, Store, StoreError};

/// So many entries are looked through at once.
const PAGE: u32 = 256;

/// What was tried for one batch, and since when.
#[derive(Debug, Default)]
pub(super) struct Tries {
    since: Option<Timestamp>,
    /// Each different outcome of classing: the entry's content, and what there is to tell.
    tried: Vec<(Content, Findings)>,
    /// What was noted to be told.
    noted: BTreeSet<Finding>,
}

// === impl Tries ===

impl Tries {
    /// Notes that the batch is about to be given to the store with this content.
    pub(super) fn begin(&mut self, now: Timestamp, content: &Content, findings: Findings) {
        self.since.get_or_insert(now);
        if self.tried.iter().all(|(tried, _)| tried != content) {
            self.tried.push((content.clone(), findings));
        }
    }

    /// Whether no earlier try noted this finding.
    pub(super) fn is_news(&mut self, finding: &Finding) -> bool {
        !self.noted.contains(finding) && self.noted.insert(finding.clone())
    }

    /// What there is to tell, where a try was committed: an entry of this cluster, not older than the first try, has exactly its
    /// digests.
    pub(super) async fn kept(&self, store: &dyn Store, cluster: &str) -> Result<Option<Findings>, StoreError> {
        let Some(since) = self.since else { return Ok(None) };
        let filter = EntryFilter {
            cluster: Some(cluster.into()),
            kind: Some(Kind::NodeLog),
            since: Some(since),
            ..EntryFilter::default()
        };
        let mut from = 0;
        loop {
            let page = store.entries_from(&filter, from, PAGE).await?;
            let Some(last) = page.last() else { return Ok(None) };
            from = last.index.saturating_add(1);
            for stored in &page {
                let entry = as_recorded(stored, filter.kind).ok().flatten();
                let same =
                    |(tried, _): &&(Content, Findings)| entry.as_ref().is_some_and(|entry| entry.content == *tried);
                if let Some((_, findings)) = self.tried.iter().find(same) {
                    return Ok(Some(findings.clone()));
                }
            }
        }
    }
}
