//! Renewing what was written, by wall time.

use ichor_wire::problem::Code;
use jiff::Timestamp;

use crate::audit::receipts::{self, Taken};
use crate::broker::Broker;
use crate::certificate::{CertificateStore, Wish, certificate};
use crate::environment::Environment;
use crate::error::Error;
use crate::session::SessionStore;
use crate::talosconfig::{self, Record, Target, Written};

/// What one round did about a context.
#[derive(Debug)]
pub enum Doing {
    /// Its certificate still serves.
    Fresh,
    /// It has a new certificate.
    Renewed {
        /// The new one's end.
        until: Timestamp,
        /// What became of its receipt.
        receipt: Taken,
    },
    /// It will not be renewed without its person.
    LetEnd {
        /// Why, and what helps.
        why: String,
    },
    /// It will be tried again.
    Failed {
        /// What went wrong.
        error: Error,
    },
}

/// Looks at every context that we wrote for this broker and renews those whose certificate has less than a fifth of its
/// life left. A grant that was given with a reason is never asked for again unasked. A context that is gone, or is no
/// longer ours, is forgotten.
///
/// # Errors
/// When the records cannot be read. What goes wrong with one context is that context's [`Doing::Failed`].
pub async fn round(
    environment: &Environment,
    broker: &Broker,
    sessions: &SessionStore,
) -> Result<Vec<(Record, Doing)>, Error> {
    let records: Vec<Record> =
        Written::load(environment)?.all().iter().filter(|record| record.broker == broker.url()).cloned().collect();
    let mut done = Vec::new();
    for record in records {
        let doing = match one(environment, broker, sessions, &record).await {
            Ok(Some(doing)) => doing,
            Ok(None) => {
                Written::update(environment, |records| {
                    records.forget(&record.path, &record.context);
                    Ok(())
                })?;
                continue;
            }
            Err(Error::Problem(problem)) if matches!(problem.code, Code::Refused | Code::UnknownCluster) => {
                let help = problem.help.join("; ");
                Doing::LetEnd {
                    why: if help.is_empty() { problem.detail } else { format!("{}; {help}", problem.detail) },
                }
            }
            Err(error) => Doing::Failed { error },
        };
        done.push((record, doing));
    }
    Ok(done)
}

/// `None` where there is nothing of ours any more.
async fn one(
    environment: &Environment,
    broker: &Broker,
    sessions: &SessionStore,
    record: &Record,
) -> Result<Option<Doing>, Error> {
    let file = talosconfig::read(&record.path)?;
    let records = Written::load(environment)?;
    let context = file.context(&record.context);
    let ours = context.and_then(|context| records.ours(&record.path, &record.context, &context));
    let Some(ours) = ours else { return Ok(None) };
    let now = broker.clock().now();
    if ours.is_fresh(now) {
        return Ok(Some(Doing::Fresh));
    }
    if record.needs_reason {
        let why = format!("it was given for a reason; run `ichor talosconfig {} --reason …`", record.cluster);
        return Ok(Some(Doing::LetEnd { why }));
    }
    let session = sessions.load(broker)?;
    let wish = Wish { cluster: record.cluster.clone(), roles: record.roles.clone(), ttl: record.ttl, reason: None };
    let held = certificate(&session, &wish).await?;
    CertificateStore::new(environment)?.save(broker, &held)?;
    let receipt = receipts::take(environment, &session, &held.answer).await;
    let target =
        Target { path: record.path.clone(), context: record.context.clone(), set_current: false, replace: false };
    Written::update(environment, |records| talosconfig::write(&target, &wish, &broker.url(), &held, records, now))?;
    Ok(Some(Doing::Renewed { until: held.answer.not_after, receipt }))
}
