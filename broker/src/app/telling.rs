//! The couriers at work, and others in their place when the sinks are loaded anew.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::serve::told;
use crate::audit::Standing;
use crate::break_glass::BreakGlass;
use crate::clock::SharedClock;
use crate::custody::DataKey;
use crate::forward::Backoff;
use crate::notify::{BadSink, Courier, Settings};
use crate::readiness::{Check, Readiness};
use crate::store::{Store, StoreError};

/// The check of sinks that were loaded anew: `notify`, which a reload reports, says only that they can be used as configured.
const CHECK: &str = "notify sinks";

/// The first wait until sinks are tried again that could not begin.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

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

    /// Tells until told to stop. When other sinks are in force the couriers end, and others go on where they were; while those cannot
    /// begin, as when the store is out, they are tried again.
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
            let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
            couriers = loop {
                let error = match self.renewed().await {
                    Ok(couriers) => break couriers,
                    Err(error) => error,
                };
                tracing::error!(error, "people are not told: the sinks cannot be used");
                let detail = Some(format!("nobody is told, and it is tried again: {error}"));
                self.readiness.report(Check { name: CHECK.into(), ok: false, required: false, detail });
                tokio::select! {
                    () = &mut stop => return,
                    changed = self.sinks.changed() => if changed.is_err() { return },
                    () = tokio::time::sleep(backoff.wait()) => {}
                }
            };
            self.readiness.forget(CHECK);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::break_glass::tests::Glass;
    use crate::identity::fixture::key;
    use crate::notify::tests::{Hook, webhook};
    use crate::store::faulty::Fault;

    async fn until(is_so: impl AsyncFn() -> bool) {
        let waiting = async {
            while !is_so().await {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("in time");
    }

    #[tokio::test]
    async fn sinks_loaded_anew_while_the_store_is_out_tell_once_it_is_back() {
        let glass = Glass::new().await;
        let (hook, url) = Hook::new(&[]).await;
        let readiness = Arc::new(Readiness::new(glass.room.store.clone()));
        let (publish, sinks) = watch::channel::<Sinks>(Arc::new(Vec::new()));
        let telling = Telling {
            broker: "https://ichor.example.com".into(),
            store: glass.room.store.clone(),
            break_glass: Arc::clone(&glass.glass),
            clock: glass.room.clock.clone(),
            data_key: Arc::new(key()),
            known: BTreeSet::new(),
            readiness: Arc::clone(&readiness),
            standing: glass.room.sequencer.standing(),
            sinks,
        };
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(telling.run(Vec::new(), stopped));
        let check = async |name: &str| readiness.checks().await.into_iter().find(|check| check.name == name);
        glass.room.store.add([Fault::Before]);
        publish.send_replace(Arc::new(vec![webhook(&url)]));
        // a look at readiness writes too
        until(async || glass.room.store.is_well()).await;
        until(async || check(CHECK).await.is_some_and(|check| !check.ok)).await;
        until(async || check("notify pager").await.is_some_and(|check| check.ok)).await;
        assert_eq!(check(CHECK).await, None, "and that it failed is no news");
        glass.asked().await;
        until(async || !hook.places().is_empty()).await;
        stop.send_replace(true);
        running.await.unwrap();
    }
}
