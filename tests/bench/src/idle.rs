//! `idle`: the memory of a broker that has served someone and now waits.

use std::time::Duration;

use ichor_client::{Wish, certificate};

use crate::Settings;
use crate::report::{Goal, Report};
use crate::world::World;

pub(crate) async fn run(settings: &Settings) -> anyhow::Result<Report> {
    let mut report = Report::new("idle");
    let world = World::start(settings).await?;
    report.add("resident memory after the start", mebibytes(world.broker_memory()?), "MiB");
    let session = world.log_in().await?;
    certificate(&session, &Wish { cluster: "prod".into(), ..Wish::default() }).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let memory = mebibytes(world.broker_memory()?);
    report.hold("resident memory after a login and a certificate", memory, "MiB", Goal::AtMost(40.0));
    Ok(report)
}

fn mebibytes(kibibytes: u32) -> f64 {
    f64::from(kibibytes) / 1024.0
}
