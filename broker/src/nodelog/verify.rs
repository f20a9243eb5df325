//! Whether the calls kept are those that the log has digests of.

use ichor_wire::log::{Entry, Kind};

use super::digest::digest;
use crate::store::{Call, Store, StoreError, StoredCall};

/// So many calls are read at once.
const PAGE: u32 = 4096;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallsReport {
    /// How many calls are kept.
    pub calls: u64,
    /// How many whole batches agree with their entries.
    pub batches: u64,
    /// Each batch that does not: its entry's index, and why. At most ten.
    pub faults: Vec<(u64, String)>,
}

/// Reads every call kept and holds each batch against the digest in its entry. The oldest batch may have lost its beginning to
/// the quota, and then cannot be judged.
///
/// # Errors
/// When the store cannot be read.
pub async fn verify_calls(store: &dyn Store) -> Result<CallsReport, StoreError> {
    let mut report = CallsReport::default();
    let mut from = 0;
    let mut batch: Vec<StoredCall> = Vec::new();
    loop {
        let page = store.call_range(from, PAGE).await?;
        let Some(last) = page.last() else { break };
        from = last.id.saturating_add(1);
        for call in page {
            report.calls += 1;
            if batch.last().is_some_and(|before| before.batch != call.batch) {
                judge(store, &mut report, &std::mem::take(&mut batch)).await?;
            }
            batch.push(call);
        }
    }
    judge(store, &mut report, &batch).await?;
    Ok(report)
}

async fn judge(store: &dyn Store, report: &mut CallsReport, batch: &[StoredCall]) -> Result<(), StoreError> {
    let Some(first) = batch.first() else { return Ok(()) };
    let found = store.entry_range(first.batch..first.batch.saturating_add(1)).await?;
    let body = found.first().and_then(|stored| stored.body.as_deref());
    let entry = body.and_then(|body| Entry::decode(body).ok()).filter(|entry| entry.content.kind == Kind::NodeLog);
    let fault = match entry {
        None => Some("the log has no entry of these calls".to_owned()),
        Some(entry) => {
            let count = entry.content.count.unwrap_or_default();
            let calls: Vec<&Call> = batch.iter().map(|stored| &stored.call).collect();
            if entry.content.calls.as_deref() == Some(digest(calls).as_slice()) {
                report.batches += 1;
                None
            } else if report.batches == 0 && report.faults.is_empty() && (batch.len() as u64) < count && first.id > 0 {
                // the quota has taken its beginning
                None
            } else {
                Some(format!("{} calls are kept that are not the {count} that were recorded", batch.len()))
            }
        }
    };
    if let Some(fault) = fault.filter(|_| report.faults.len() < 10) {
        report.faults.push((first.batch, fault));
    }
    Ok(())
}
