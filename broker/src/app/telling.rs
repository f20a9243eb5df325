//! The couriers at work, and others in their place when the sinks are loaded anew.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::serve::told;
use crate::audit::Standing;
use crate::break_glass::BreakGlass;
use crate::clock::SharedClock;
use crate::custody::DataKey;
use crate::notify::{BadSink, Courier, Settings};
use crate::readiness::{Check, Readiness};
use crate::store::{Store, StoreError};

/// The sinks in force.
pub(super) type Sinks = Arc<Vec<Settings>>;

/// What couriers are made with.
pub(super) struct Telling {
    pub(super) broker: String,
    pub(super) store: Arc<dyn Store>,
    pub(super) break_glass: Arc<BreakGlass>,
    pub(super) clock: SharedClock,
    pub(super) data_key: Arc<DataKey>,
    /// The places in the log that are known to be there.
    pub(super) known: BTreeSet<String>,
    pub(super) readiness: Arc<Readiness>,
    pub(super) standing: watch::Receiver<Standing>,
    pub(super) sinks: watch::Receiver<Sinks>,
}

// === impl Telling ===

impl Telling {
    /// A courier to each sink in force.
    ///
    /// # Errors
    /// When one cannot be made as configured.
    pub(super) fn couriers(&mut self) -> Result<Vec<Courier>, BadSink> {
        let sinks = Arc::clone(&self.sinks.borrow_and_update());
        let courier = |sink: &Settings| {
            let (store, glass) = (Arc::clone(&self.store), Arc::clone(&self.break_glass));
            let (clock, key) = (Arc::clone(&self.clock), Arc::clone(&self.data_key));
            Courier::new(sink.clone(), &self.broker, store, glass, clock, key)
        };
        sinks.iter().map(courier).collect()
    }

    /// Tells until told to stop. When other sinks are in force the couriers end, and others go on where they were.
    pub(super) async fn run(mut self, mut couriers: Vec<Courier>, stopped: watch::Receiver<bool>) {
        let mut stop = std::pin::pin!(told(stopped));
        loop {
            let names: BTreeSet<String> = couriers.iter().map(|courier| check_name(courier.name())).collect();
            let (end, ended) = watch::channel(false);
            let mut running = JoinSet::new();
            for courier in couriers.drain(..) {
                running.spawn(courier.run(Arc::clone(&self.readiness), self.standing.clone(), ended.clone()));
            }
            let is_over = tokio::select! {
                () = &mut stop => true,
                changed = self.sinks.changed() => changed.is_err(),
                Some(_) = running.join_next() => {
                    tracing::error!("a courier ended before it was told to");
                    true
                }
            };
            let _ = end.send(true);
            while running.join_next().await.is_some() {}
            if is_over {
                // what publishes sinks has ended, or the broker does
                return;
            }
            couriers = match self.renewed().await {
                Ok(couriers) => couriers,
                Err(error) => {
                    tracing::error!(error, "people are not told: the sinks cannot be used");
                    let check = Check { name: "notify".into(), ok: false, required: false, detail: Some(error) };
                    self.readiness.report(check);
                    Vec::new()
                }
            };
            let now: BTreeSet<String> = couriers.iter().map(|courier| check_name(courier.name())).collect();
            names.difference(&now).for_each(|gone| self.readiness.forget(gone));
        }
    }

    async fn renewed(&mut self) -> Result<Vec<Courier>, String> {
        let mut couriers = self.couriers().map_err(|error| error.to_string())?;
        self.begin(&mut couriers).await.map_err(|error| error.to_string())?;
        Ok(couriers)
    }

    /// Returns once each has its place in the log: whatever is recorded from now on is told.
    pub(super) async fn begin(&mut self, couriers: &mut [Courier]) -> Result<(), StoreError> {
        for courier in couriers {
            courier.begin(self.known.contains(courier.place())).await?;
            self.known.insert(courier.place().to_owned());
        }
        Ok(())
    }
}

fn check_name(sink: &str) -> String {
    format!("notify {sink}")
}
