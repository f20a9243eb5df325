//! `serve`.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::FolderArg;
use crate::app::{LOOK, Parts, Running, migrate_store};
use crate::clock::SystemClock;
use crate::config::{Loaded, LogFormat};
use crate::{custody, telemetry};

/// So long threads that still read or write files are waited for once everything else has ended.
const THREADS: Duration = Duration::from_secs(2);

/// Serve until SIGTERM or Ctrl-C. SIGHUP, or a changed file, loads policies, clusters, CA keys and TLS certificates anew.
#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    folder: FolderArg,
    /// Bring a Postgres database's schema to this build's first. Of several brokers one does it, before the others are updated. A
    /// SQLite database is always brought up to date.
    #[arg(long)]
    migrate: bool,
    /// Start though the clock is more than 180 days ahead of the newest entry of the log: the broker was off for so long.
    #[arg(long)]
    accept_clock: bool,
}

impl Serve {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        // before any secret is read
        let hardening = custody::harden_process();
        let loaded = self.folder.folder().load()?;
        super::owner::check(&loaded)?;
        telemetry::install_log(loaded.settings.log_format == LogFormat::Json, &loaded.settings.log_level);
        for warning in hardening.warnings() {
            tracing::warn!("{warning}");
        }
        for warning in crate::config::too_open(&loaded) {
            tracing::warn!("{warning}");
        }
        let vault = super::vault_key::vault(&loaded.settings)?;
        for warning in vault.warnings() {
            tracing::warn!("{warning}");
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let done = runtime.block_on(self.serve(&loaded, vault, out));
        // a thread that a disk keeps is not waited for without end
        runtime.shutdown_timeout(THREADS);
        done
    }

    async fn serve(self, loaded: &Loaded, vault: custody::Vault, out: &mut dyn Write) -> anyhow::Result<()> {
        if self.migrate && loaded.settings.postgres.is_some() {
            let steps = migrate_store(&loaded.settings).await?;
            tracing::info!(steps, "the database's schema is this build's");
        }
        let parts = Parts {
            clock: Arc::new(SystemClock),
            vault,
            listener: None,
            wrap_store: None,
            accept_clock: self.accept_clock,
            look: LOOK,
        };
        serve(loaded, parts, out).await
    }
}

async fn serve(loaded: &Loaded, parts: Parts, out: &mut dyn Write) -> anyhow::Result<()> {
    let (mut term, mut int, mut hup) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?);
    let mut running = Running::start(loaded, parts).await?;
    let base = loaded.settings.base_url();
    match running.address() {
        Some(address) => writeln!(out, "ichor-broker serves {base} on {address}")?,
        None => writeln!(out, "ichor-broker serves {base} on a Unix socket")?,
    }
    if let Some(address) = running.health_address() {
        writeln!(out, "health and metrics on http://{address}")?;
    }
    out.flush()?;
    let failed = loop {
        tokio::select! {
            _ = term.recv() => break None,
            _ = int.recv() => break None,
            failed = running.failed() => break Some(failed),
            _ = hup.recv() => {
                for check in running.reload().await {
                    tracing::info!(name = check.name, ok = check.ok, detail = check.detail, "reloaded");
                }
            }
        }
    };
    tracing::info!("stopping: requests under way end first");
    running.stop().await;
    match failed {
        None => Ok(()),
        Some(ended) => {
            anyhow::bail!("{ended}, so the broker stopped; start it again, and report what its log says before this")
        }
    }
}
