//! What there is to tell of a batch of calls once it is kept.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::alarm::{Finding, NamedKit};
use crate::store::{Call, CallClass};

/// The code of the finding that a kit is in use.
const IN_USE: &str = "kit-in-use";

/// Counts of the calls of one batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// How many calls each class has.
    pub(super) classes: BTreeMap<CallClass, u64>,
    /// Of each finding how many calls, why, and when the first of them began.
    pub(super) wanting: BTreeMap<Finding, (u64, Option<String>, Timestamp)>,
}

// === impl Findings ===

impl Findings {
    /// Counts the calls by class, and those that want a look by what there is to tell. Each call comes with the kit that its line names,
    /// where nobody has reported its opening.
    pub(super) fn of<'a>(calls: impl IntoIterator<Item = (&'a Call, Option<NamedKit>)>) -> Self {
        let mut findings = Self::default();
        for (call, kit) in calls {
            *findings.classes.entry(call.class).or_default() += 1;
            if call.class != CallClass::Explained {
                let finding = match kit {
                    // once a grant and node, whatever was called: what matters is that a kit is in use
                    Some(_) => Finding { code: IN_USE, method: String::new(), kit, ..finding(call) },
                    None => finding(call),
                };
                let new = || (0, call.why.clone(), call.started);
                let (count, _, began) = findings.wanting.entry(finding).or_insert_with(new);
                *count += 1;
                *began = call.started.min(*began);
            }
        }
        findings
    }
}

fn finding(call: &Call) -> Finding {
    Finding {
        cluster: call.cluster.clone(),
        code: call.class.as_str(),
        node: call.node.clone(),
        method: call.method.clone(),
        kit: None,
    }
}
