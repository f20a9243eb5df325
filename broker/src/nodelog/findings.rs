//! What there is to tell of a batch of calls, before it is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::alarm::{Finding, NamedKit};
use crate::kit::NOT_AS_REPORTED;
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
    /// where no report explains it.
    pub(super) fn of<'a>(calls: impl IntoIterator<Item = (&'a Call, Option<NamedKit>)>) -> Self {
        let mut findings = Self::default();
        for (call, kit) in calls {
            *findings.classes.entry(call.class).or_default() += 1;
            if call.class != CallClass::Explained {
                let finding = match kit {
                    // once a grant and node, whatever was called: what matters is that a kit is in use
                    Some(named) => {
                        Finding { code: code(named, call.class), method: String::new(), kit, ..finding(call) }
                    }
                    None => finding(call),
                };
                let new = || (0, why(call, kit), call.started);
                let (count, _, began) = findings.wanting.entry(finding).or_insert_with(new);
                *count += 1;
                *began = call.started.min(*began);
            }
        }
        findings
    }

    /// Counts what was kept. No label is a line's text: a kit that the log does not have is `unknown`.
    pub(super) fn count(&self, cluster: &Arc<str>) {
        for (class, count) in &self.classes {
            let labels = [("cluster", cluster.to_string()), ("class", class.as_str().to_owned())];
            metrics::counter!("ichor_node_calls_total", &labels).increment(*count);
        }
        for (finding, (count, ..)) in &self.wanting {
            if let Some(NamedKit { number, is_made, .. }) = finding.kit {
                let kit = if is_made { number.to_string() } else { "unknown".into() };
                metrics::counter!("ichor_kit_in_use_total", &[("cluster", cluster.to_string()), ("kit", kit)])
                    .increment(*count);
            }
        }
    }
}

/// What is told of a call with a kit's certificate. A line that a caller may have written shows no use beyond a report by itself.
fn code(kit: NamedKit, class: CallClass) -> &'static str {
    match (kit.is_reported, class) {
        (false, _) => IN_USE,
        (true, CallClass::Suspect) => CallClass::Suspect.as_str(),
        (true, _) => NOT_AS_REPORTED,
    }
}

fn why(call: &Call, kit: Option<NamedKit>) -> Option<String> {
    match (&call.why, kit) {
        (Some(why), Some(NamedKit { number, is_reported: true, .. })) => {
            Some(format!("the certificate is kit {number}'s, and this is not what was reported of its opening: {why}"))
        }
        (why, _) => why.clone(),
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
