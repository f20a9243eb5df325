//! When what was loaded is loaded anew.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::app::Live;
use crate::app::serve::told;
use crate::audit::Sequencer;
use crate::http::admin::Reload;
use crate::readiness::Readiness;

/// Reloads when asked, and when a file has changed and then stayed the same from one look to the next; also when the last
/// reload could not be recorded.
pub(in crate::app) async fn reload_on_change(
    mut live: Live,
    mut reloads: mpsc::Receiver<Reload>,
    sequencer: Sequencer,
    readiness: Arc<Readiness>,
    pace: Duration,
    stopped: watch::Receiver<bool>,
) {
    let mut stop = std::pin::pin!(told(stopped));
    let mut look = tokio::time::interval(pace);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = &mut stop => return,
            Some(Reload { by, done }) = reloads.recv() => {
                let _ = done.send(live.reload(&sequencer, &readiness, by.as_deref()).await);
            }
            _ = look.tick() => {
                if live.look() {
                    live.reload(&sequencer, &readiness, None).await;
                } else if live.hears_of_cas().await || live.is_custody_due() {
                    live.reload_custody(&sequencer, &readiness, || !reloads.is_empty()).await;
                }
            }
        }
    }
}
