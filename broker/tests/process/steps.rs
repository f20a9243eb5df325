//! How far the broker had come with each request, by its own debug log.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::ChildStderr;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::Context;
use ichor_wire::api::AuditEntry;
use serde_json::Value;
use uuid::Uuid;

/// A step of a certificate's way, counted as the walk does.
pub(super) type Step = usize;

/// The steps that the debug log names. Those before are over when there is a grant's id.
pub(super) const STEPS: [(Step, &str); 5] =
    [(4, "decide"), (5, "record-grant"), (6, "issue"), (7, "record-outcome"), (8, "answer")];

/// Nothing takes the broker so long: it stands still.
const STUCK: Duration = Duration::from_secs(60);

/// The steps of one life of the broker, as they begin.
pub(super) struct Steps {
    begins: Receiver<(Uuid, Step)>,
    /// The last step that each grant has begun.
    last: BTreeMap<Uuid, Step>,
}

// === impl Steps ===

impl Steps {
    /// Reads the log in a thread of its own, to its end: the broker never waits for its reader.
    pub(super) fn read(log: ChildStderr) -> Self {
        let (begin, begins) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(log).lines().map_while(Result::ok) {
                if let Some(begun) = read_step(&line)
                    && begin.send(begun).is_err()
                {
                    return;
                }
            }
        });
        Self { begins, last: BTreeMap::new() }
    }

    /// Returns once the next step begins.
    pub(super) fn next(&mut self) -> anyhow::Result<Step> {
        let (grant, step) = self.begins.recv_timeout(STUCK).context("the broker begins no step any more")?;
        self.last.insert(grant, step);
        Ok(step)
    }

    /// The last step that each grant had begun when the broker ended.
    pub(super) fn at_the_end(mut self) -> BTreeMap<Uuid, Step> {
        self.last.extend(self.begins);
        self.last
    }
}

/// The grant and the step of a line that says that one begins. The last line of a broker that was killed may be torn.
fn read_step(line: &str) -> Option<(Uuid, Step)> {
    let line: Value = serde_json::from_str(line).ok()?;
    let name = line.get("step")?.as_str()?;
    let (step, _) = STEPS.iter().find(|(_, known)| *known == name)?;
    Some((line.get("grant")?.as_str()?.parse().ok()?, *step))
}

/// Holds what the log has of a request against the last step that the request had begun.
///
/// # Panics
/// When something is durable that was not begun, or something was begun before what it stands on was durable.
pub(super) fn fits(grant: Uuid, step: Step, log: &[AuditEntry]) {
    let has =
        |kinds: &[&str]| log.iter().any(|entry| entry.grant_id == Some(grant) && kinds.contains(&entry.kind.as_str()));
    let (granted, ended) = (has(&["grant"]), has(&["issued", "issue-failed"]));
    let fits = match step {
        4 => !granted && !ended,
        // a commit may be on the disk before anyone is told
        5 => !ended,
        6 => granted && !ended,
        7 => granted,
        _ => granted && ended,
    };
    assert!(fits, "{grant} had come to step {step}; in the log: grant {granted}, outcome {ended}");
}
