//! A credential that is minted when it is needed: a short certificate of os:admin that another custody signs. So nothing that
//! could make certificates lies anywhere, and one patch, which takes that custody's CA out of the nodes, ends it.

use std::pin::Pin;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::Mutex;

use super::apid::Apid;
use super::{Ready, TalosApiError};
use crate::clock::SharedClock;
use crate::custody::StandingCredential;

/// A credential on its way; a failure is a sentence.
pub type Minting = Pin<Box<dyn Future<Output = Result<StandingCredential, String>> + Send>>;

/// Mints a credential each time it is called.
pub type Mints = Box<dyn Fn() -> Minting + Send + Sync>;

/// The credential in use, and what mints the next.
pub struct Minted {
    mints: Mints,
    held: Mutex<Option<Arc<Ready>>>,
}

// === impl Minted ===

impl Minted {
    /// A credential that `mints` makes at the first need, and anew once a fifth of its life is left.
    #[must_use]
    pub fn new(mints: Mints) -> Self {
        Self { mints, held: Mutex::new(None) }
    }

    /// The credential, ready to call nodes that show a certificate of `ca`. Whoever asks while one is minted waits for that
    /// one.
    pub(super) async fn ready(&self, ca: &str, clock: &SharedClock) -> Result<Arc<Ready>, TalosApiError> {
        let mut held = self.held.lock().await;
        if let Some(ready) = held.as_ref().filter(|ready| lasts(&ready.credential, clock.now())) {
            return Ok(Arc::clone(ready));
        }
        let credential = (self.mints)().await.map_err(TalosApiError::Minting)?;
        let apid = Apid::new(&credential, ca, Arc::clone(clock))?;
        let ready = Arc::new(Ready { credential, apid });
        *held = Some(Arc::clone(&ready));
        Ok(ready)
    }
}

impl std::fmt::Debug for Minted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Minted")
    }
}

/// Whether more than a fifth of its life is left.
fn lasts(credential: &StandingCredential, now: Timestamp) -> bool {
    let (end, life) = (credential.not_after(), credential.not_after().duration_since(credential.not_before()));
    credential.check_time(now).is_ok() && end.duration_since(now) > life / 5
}
