//! `login`: 500 sessions in a minute, each by a whole login with provider, confirmation page and a browser of its own.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::time::Instant;

use crate::Settings;
use crate::meter::{Times, each, millis, rate};
use crate::report::{Goal, Report};
use crate::world::World;

const SESSIONS: usize = 500;
/// Logins under way at once.
const AT_ONCE: usize = 16;

pub(crate) async fn run(settings: &Settings) -> anyhow::Result<Report> {
    let mut report = Report::new("login");
    let world = Arc::new(World::start(settings).await?);
    report.note(format!(
        "{SESSIONS} whole logins, {AT_ONCE} at once; browsers, provider and client run on the same cores"
    ));
    let (began, cpu) = (Instant::now(), world.broker_cpu()?);
    let logins = stream::iter(0..SESSIONS).map(|_| {
        let world = Arc::clone(&world);
        async move {
            let began = Instant::now();
            world.log_in().await?;
            anyhow::Ok(began.elapsed())
        }
    });
    let results: Vec<anyhow::Result<Duration>> = logins.buffer_unordered(AT_ONCE).collect().await;
    let took = began.elapsed();
    let cpu = world.broker_cpu()?.saturating_sub(cpu);
    let mut times = Times::default();
    let mut errors: u32 = 0;
    for result in results {
        match result {
            Ok(time) => times.push(time),
            Err(error) => {
                errors += 1;
                if errors == 1 {
                    report.note(format!("the first error: {error:#}"));
                }
            }
        }
    }
    report.hold("time for all", took.as_secs_f64(), "s", Goal::AtMost(60.0));
    report.hold("errors", f64::from(errors), "", Goal::AtMost(0.0));
    report.add("logins", rate(times.len(), took), "1/s");
    report.add("p50", millis(times.percentile(0.5)), "ms");
    report.add("p99", millis(times.percentile(0.99)), "ms");
    report.add("broker CPU each", millis(each(cpu, SESSIONS)?), "ms");
    Ok(report)
}
