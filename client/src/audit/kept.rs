//! Everything that was kept, against the log as it is now.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use ichor_wire::api::{ConsistencyAnswer, Receipt};
use ichor_wire::log::proof::hashes;
use ichor_wire::log::tree::verify_consistency;
use ichor_wire::log::{Checkpoint, LogKey, is_opened_again};
use ichor_wire::problem::Code;
use serde::Serialize;
use serde_json::json;

use super::known::{Because, Known};
use super::receipts::{Kept, Receipts};
use super::{evidence, unverified_key};
use crate::environment::Environment;
use crate::error::Error;
use crate::session::Session;

/// One broker of several may be behind another for a second or so: it is asked again so often, each time this much later than
/// before: 1.5 seconds in all.
const TRIES: u32 = 6;
const LATER: Duration = Duration::from_millis(100);

/// What became of the check.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The log's name.
    pub origin: String,
    /// The key that signs now.
    pub key: LogKey,
    /// Why it is believed.
    pub because: Because,
    /// It was seen for the first time, just now.
    pub first_use: bool,
    /// How many entries the log has.
    pub size: u64,
    /// How many receipts hold, and are in the log as it is now.
    pub verified: usize,
    /// How many the log has not signed yet.
    pub pending: usize,
    /// How many are of another log: one that this broker wrote before a restore. They are not checked.
    pub other_log: usize,
    /// What does not hold, one sentence each. It is kept as evidence, and said for good.
    pub faults: Vec<String>,
    /// What the broker does not show though it should by now, one sentence each. It may yet: the next check asks again.
    pub doubts: Vec<String>,
}

/// Completes what was pending, verifies every kept receipt, and has the broker show that each of their checkpoints, and the
/// newest one seen, is the beginning of the log as it is now. What was shown once is not asked for again.
///
/// # Errors
/// When the broker cannot be asked, or its log is not the one known: another key, or fewer entries, or others; then what was
/// kept stays, and what the broker showed lies beside it. What does not hold of single receipts is in the report.
pub async fn verify(environment: &Environment, session: &Session) -> Result<Report, Error> {
    let broker = session.broker();
    let mut known = Known::load(environment, broker)?;
    let told = unverified_key(session).await?;
    let first_use = known.keys().is_empty();
    if first_use {
        known.first_use(&told)?;
    }
    let keys = known.follow(&told)?;
    let Some(newest) = keys.iter().find(|key| key.to_string() == told.key).cloned() else {
        return Err(Error::Bug("a key that was followed is gone"));
    };
    let receipts = Receipts::of(environment, broker)?;
    let mut all = receipts.all()?;
    let before = known.checkpoint().map(|(checkpoint, note)| (checkpoint, note.to_owned()));
    // also what came with certificates since: perhaps of a broker that is ahead of the one that answers now
    let came = all.iter().filter(|kept| kept.fault.is_none()).filter_map(|kept| kept.verify(&keys).ok());
    let came = came.map(|proven| proven.checkpoint).filter(|it| it.origin() == newest.name()).map(|it| it.size()).max();
    let seen = before.as_ref().map_or(0, |(checkpoint, _)| checkpoint.size()).max(came.unwrap_or_default());
    let note = newest_note(session, seen).await?;
    let head = match Known::verify(&keys, &note) {
        Ok(head) => head,
        Err(error) => {
            let seen = json!({ "why": error.to_string(), "shown": note, "key": told });
            return Err(unfit(&error.to_string(), &evidence::keep(environment, broker, &seen)?));
        }
    };
    let mut shown = Shown { session, head: &head, proofs: BTreeMap::new() };
    if let Some((before, kept)) = &before
        && let Err(Broken::Shorter(why) | Broken::Other(why)) = shown.continues(before).await?
    {
        let proof = shown.proofs.get(&before.size());
        let seen = json!({ "why": why, "kept": kept, "shown": note, "consistency": proof, "key": told });
        return Err(unfit(&why, &evidence::keep(environment, broker, &seen)?));
    }
    // A mark is worth what is known of the log: without the checkpoint that it leads to (its file was lost, say), it is asked for anew,
    // and before another checkpoint is known in its place.
    let leads_to = before.as_ref().map_or(0, |(checkpoint, _)| checkpoint.size());
    for kept in all.iter_mut().filter(|kept| kept.agrees_up_to.is_some_and(|size| size > leads_to)) {
        kept.agrees_up_to = None;
        receipts.save(kept)?;
    }
    // Before any receipt is marked: what is marked has been shown to lead here.
    known.save(&keys, Some(&note))?;
    let mut report = Report {
        origin: newest.name().to_owned(),
        key: newest,
        because: known.because(),
        first_use,
        size: head.size(),
        verified: 0,
        pending: 0,
        other_log: 0,
        faults: Vec::new(),
        doubts: Vec::new(),
    };
    for mut kept in all {
        let before = kept.clone();
        if let Some(origin) = kept.origin().filter(|origin| origin != head.origin()) {
            // of a log that was opened again under the name that is believed now: nobody can say any more what it was
            if kept.is_of_key && is_opened_again(&origin, head.origin()) {
                kept.believe();
                receipts.save(&kept)?;
            }
            if kept.fault.is_none() {
                report.other_log += 1;
                continue;
            }
        }
        let index = kept.receipt.index;
        match one(&mut kept, &keys, &mut shown).await? {
            Standing::Holds => report.verified += 1,
            Standing::Pending => {
                report.pending += 1;
                if kept.not_after <= broker.clock().now() {
                    let since = kept.not_after;
                    report
                        .doubts
                        .push(format!("entry {index} is not signed yet, and its certificate ended at {since}"));
                }
            }
            Standing::Doubtful(why) => {
                report.pending += usize::from(kept.receipt.is_pending());
                report.doubts.push(format!("entry {index}: {why}"));
            }
            Standing::False(why) => {
                report.faults.push(format!("the receipt of entry {index} does not hold: {why}"));
                kept.fault = Some(why);
            }
        }
        if kept != before {
            receipts.save(&kept)?;
        }
    }
    receipts.prune(broker.clock().now());
    Ok(report)
}

/// The newest checkpoint's note. Of several brokers on one log, one may be a moment behind another: it is asked again before a
/// log of fewer entries than `seen` is believed to be one.
async fn newest_note(session: &Session, seen: u64) -> Result<String, Error> {
    let mut asked = 0;
    loop {
        let note = session.broker().get_text(session, &["audit", "checkpoint"]).await?;
        asked += 1;
        let size = Checkpoint::parse_unverified(&note).map_or(u64::MAX, |checkpoint| checkpoint.size());
        if size >= seen || asked == TRIES {
            return Ok(note);
        }
        tokio::time::sleep(LATER * asked).await;
    }
}

/// What is known of a receipt now.
enum Standing {
    Holds,
    /// The log as it is shown does not reach to its entry.
    Pending,
    /// The broker does not show what it has to have by now. That is no proof against it: one of several may be behind.
    Doubtful(String),
    /// It does not hold, and never will.
    False(String),
}

/// What is known of this receipt, completed where it was pending.
async fn one(kept: &mut Kept, keys: &[LogKey], shown: &mut Shown<'_>) -> Result<Standing, Error> {
    // What was found false once stays so, whatever the broker says later; what no believed key had signed is looked at again.
    if let Some(why) = &kept.fault {
        if !kept.is_of_key || kept.verify(keys).is_err() {
            return Ok(Standing::False(why.clone()));
        }
        kept.believe();
    }
    if kept.receipt.is_pending() {
        let answer = match completed(kept, shown).await? {
            Ok(answer) => answer,
            Err(standing) => return Ok(standing),
        };
        let completed = Kept { receipt: answer, ..kept.clone() };
        if let Err(error) = completed.verify(keys) {
            return Ok(Standing::False(error.to_string()));
        }
        *kept = completed;
    }
    let proven = match kept.verify(keys) {
        Ok(proven) => proven,
        Err(error) => return Ok(Standing::False(error.to_string())),
    };
    // Shown before, and the newest checkpoint seen then continues in this one.
    if kept.agrees_up_to.is_some() {
        return Ok(Standing::Holds);
    }
    Ok(match shown.continues(&proven.checkpoint).await? {
        Ok(()) => {
            kept.agrees_up_to = Some(shown.head.size());
            Standing::Holds
        }
        Err(Broken::Shorter(why)) => Standing::Doubtful(why),
        Err(Broken::Other(why)) => Standing::False(why),
    })
}

/// The receipt in place of a pending one; else what is known of it as it is.
async fn completed(kept: &Kept, shown: &Shown<'_>) -> Result<Result<Receipt, Standing>, Error> {
    let index = kept.receipt.index;
    let is_signed = index < shown.head.size();
    let path = ["audit", "receipts", &index.to_string()];
    let mut asked = 0;
    loop {
        let answer: Result<Receipt, Error> = shown.session.broker().get(shown.session, &path, &[]).await;
        asked += 1;
        let standing = match answer {
            Ok(answer) if (answer.index, &answer.leaf_hash) != (index, &kept.receipt.leaf_hash) => {
                return Ok(Err(Standing::False("the log has another entry in its place".into())));
            }
            Ok(answer) if !answer.is_pending() => return Ok(Ok(answer)),
            Ok(_) if is_signed => {
                Standing::Doubtful(format!("the log has {} signed entries, and it is not proven", shown.head.size()))
            }
            Err(Error::Problem(problem)) => match problem.code {
                Code::Refused if is_signed => {
                    let why = "the broker does not show it in this session: run this as who got the certificate";
                    return Ok(Err(Standing::Doubtful(why.into())));
                }
                Code::NotFound if is_signed => {
                    Standing::Doubtful("the log has signed more entries, and does not have this one".into())
                }
                Code::Refused | Code::NotFound => Standing::Pending,
                _ => return Err(Error::Problem(problem)),
            },
            Ok(_) => Standing::Pending,
            Err(error) => return Err(error),
        };
        // another broker than the one that showed the checkpoint may be behind it
        if !matches!(standing, Standing::Doubtful(_)) || asked == TRIES {
            return Ok(Err(standing));
        }
        tokio::time::sleep(LATER * asked).await;
    }
}

/// Why the log as it is shown does not continue what was seen.
enum Broken {
    /// It has fewer entries.
    Shorter(String),
    /// It has others.
    Other(String),
}

/// The log as it is now, and what the broker has shown of its growth.
struct Shown<'a> {
    session: &'a Session,
    head: &'a Checkpoint,
    proofs: BTreeMap<u64, Vec<String>>,
}

impl Shown<'_> {
    /// Whether the log as it is now continues the one of `before`; else why not.
    async fn continues(&mut self, before: &Checkpoint) -> Result<Result<(), Broken>, Error> {
        let (from, to) = (before.size(), self.head.size());
        if from > to {
            let why = format!("the log had {from} entries and has {to} now: some were taken away");
            return Ok(Err(Broken::Shorter(why)));
        }
        if from > 0 && from < to && !self.proofs.contains_key(&from) {
            self.proofs.insert(from, self.proof(from, to).await?);
        }
        let proof = self.proofs.get(&from).map(|proof| hashes(proof)).unwrap_or_else(|| Ok(Vec::new()));
        let held =
            proof.is_ok_and(|proof| verify_consistency(from, to, before.root(), self.head.root(), &proof).is_ok());
        let why = || {
            Broken::Other(format!("the log of {to} entries does not continue the one of {from}: it was written anew"))
        };
        Ok(held.then_some(()).ok_or_else(why))
    }

    /// The broker's proof; of another broker than the one that showed the head, once it has come so far.
    async fn proof(&self, from: u64, to: u64) -> Result<Vec<String>, Error> {
        let query = [("from", from.to_string()), ("to", to.to_string())];
        let mut asked = 0;
        loop {
            let answer: Result<ConsistencyAnswer, Error> =
                self.session.broker().get(self.session, &["audit", "consistency"], &query).await;
            asked += 1;
            match answer {
                Err(Error::Problem(problem)) if problem.code == Code::BadRequest && asked < TRIES => {
                    tokio::time::sleep(LATER * asked).await;
                }
                answer => return Ok(answer?.proof),
            }
        }
    }
}

fn unfit(why: &str, evidence: &Path) -> Error {
    Error::failed(
        format!("the broker's audit log is not the one that was seen before: {why}"),
        format!(
            "tell who answers for the audit; `{}` is the evidence, and what was known before is kept as it is",
            evidence.display()
        ),
    )
}
