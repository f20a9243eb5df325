//! What runs beside the service: watching what it depends on, for readiness and metrics, and clearing away what is over.

use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::serve::told;
use crate::audit::{Out, Standing};
use crate::break_glass::{BreakGlass, BreakGlassError};
use crate::clock::SharedClock;
use crate::http::limits::Limits;
use crate::login::Login;
use crate::openbao::{Client, State};
use crate::readiness::{Check, Readiness};
use crate::store::Store;

/// How often what has expired is cleared away.
const SWEEP: Duration = Duration::from_secs(60);

/// How often it is looked at whether a break-glass request's time ran out: people are told of it.
const ENDS: Duration = Duration::from_secs(1);

/// How often it is looked at whether a grace is over.
const LOG_PACE: Duration = Duration::from_secs(1);

/// What is said where nothing outside the database knows the log's newest head.
pub const NO_ANCHOR: &str = "rollback not detected here: no anchor outside the database";

/// Reports how a server that holds CA keys is, at each change. A cluster whose CA is there is out with it; others go on.
pub(super) async fn watch_server(server: Client, readiness: Arc<Readiness>, stopped: watch::Receiver<bool>) {
    let mut stop = std::pin::pin!(told(stopped));
    let mut state = server.state();
    loop {
        let State { ok, detail } = state.borrow_and_update().clone();
        readiness.report(Check { name: format!("openbao {}", server.name()), ok, required: false, detail });
        tokio::select! {
            () = &mut stop => return,
            changed = state.changed() => if changed.is_err() { return },
        }
    }
}

/// Reports whether the audit log is vouched for, at each change and when a grace is over.
pub(super) async fn watch_log(
    mut standing: watch::Receiver<Standing>,
    is_anchored: bool,
    clock: SharedClock,
    readiness: Arc<Readiness>,
    stopped: watch::Receiver<bool>,
) {
    let mut stop = std::pin::pin!(told(stopped));
    let mut ticks = tokio::time::interval(LOG_PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = Vec::new();
    loop {
        let checks = {
            let standing = standing.borrow_and_update();
            let size = standing.newest.as_ref().map_or(0, |signed| signed.checkpoint.size());
            // exact up to 2⁵³ entries
            #[expect(clippy::cast_precision_loss, reason = "gauges are floating-point numbers")]
            metrics::gauge!("ichor_checkpoint_entries").set(size as f64);
            log_checks(&standing, is_anchored, clock.now())
        };
        if checks != known {
            checks.iter().cloned().for_each(|check| readiness.report(check));
            known = checks;
        }
        tokio::select! {
            () = &mut stop => return,
            changed = standing.changed() => if changed.is_err() { return },
            // for its metric
            _ = ticks.tick() => drop(readiness.clock().await),
        }
    }
}

fn log_checks(standing: &Standing, is_anchored: bool, now: jiff::Timestamp) -> Vec<Check> {
    let said = |out: &Option<Out>| {
        out.as_ref().map(|out| match now >= out.until {
            true => format!("out since {}, so nothing is issued: {}", out.since, out.why),
            false => format!("out since {}; from {} on nothing is issued: {}", out.since, out.until, out.why),
        })
    };
    let check = |name: &str, out: &Option<Out>, otherwise: Option<&str>| Check {
        name: name.to_owned(),
        ok: out.is_none(),
        // who issues nothing is not ready
        required: out.as_ref().is_some_and(|out| now >= out.until),
        detail: said(out).or_else(|| otherwise.map(str::to_owned)),
    };
    let none = (!is_anchored).then_some(NO_ANCHOR);
    vec![check("audit key", &standing.key_out, None), check("audit anchor", &standing.anchor_out, none)]
}

/// Reports whether each provider can be reached, so that readiness is known before the first login.
pub(super) async fn watch_providers(login: Arc<Login>, readiness: Arc<Readiness>, stopped: watch::Receiver<bool>) {
    let mut stop = std::pin::pin!(told(stopped));
    let mut ticks = tokio::time::interval(SWEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = &mut stop => return,
            _ = ticks.tick() => {
                for (alias, state) in login.probe().await {
                    let (ok, detail) = (state.is_ok(), state.err().map(|error| error.to_string()));
                    readiness.report(Check { name: format!("provider {alias}"), ok, required: false, detail });
                }
            }
        }
    }
}

/// Records what time does to break-glass requests, gives back what no certificate came of, and reports uses that nobody reviewed in time.
pub(super) async fn watch_requests(
    break_glass: Arc<BreakGlass>,
    readiness: Arc<Readiness>,
    stopped: watch::Receiver<bool>,
) {
    const NAME: &str = "break-glass reviews";
    let mut stop = std::pin::pin!(told(stopped));
    let (mut ends, mut reviews) = (tokio::time::interval(ENDS), tokio::time::interval(SWEEP));
    ends.set_missed_tick_behavior(MissedTickBehavior::Delay);
    reviews.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let failed = tokio::select! {
            () = &mut stop => return,
            _ = ends.tick() => break_glass.time_out().await.err(),
            _ = reviews.tick() => match give_back_and_remind(&break_glass).await {
                Ok(overdue) => {
                    let detail = (overdue > 0).then(|| format!("{overdue} uses wait for a review, longer than configured"));
                    readiness.report(Check { name: NAME.into(), ok: overdue == 0, required: false, detail });
                    None
                }
                Err(error) => Some(error),
            },
        };
        if let Some(error) = failed {
            tracing::warn!(%error, "what time did to break-glass requests could not be recorded yet");
        }
    }
}

/// One that fails does not keep the other from its work.
async fn give_back_and_remind(break_glass: &BreakGlass) -> Result<usize, BreakGlassError> {
    let given = break_glass.give_back_abandoned().await;
    let overdue = break_glass.remind().await?;
    given.map(|()| overdue)
}

pub(super) async fn sweep(
    store: Arc<dyn Store>,
    login: Arc<Login>,
    limits: Arc<Limits>,
    metrics: PrometheusHandle,
    clock: SharedClock,
    stopped: watch::Receiver<bool>,
) {
    let mut stop = std::pin::pin!(told(stopped));
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + SWEEP, SWEEP);
    loop {
        tokio::select! {
            () = &mut stop => {
                login.flush_tally(true).await;
                return;
            }
            _ = ticks.tick() => {
                limits.sweep();
                // what histograms have gathered stays small, also where nobody asks for it
                metrics.run_upkeep();
                login.flush_tally(false).await;
                if let Err(error) = store.sweep(clock.now()).await {
                    tracing::warn!(%error, "expired rows could not be cleared away");
                }
            }
        }
    }
}
