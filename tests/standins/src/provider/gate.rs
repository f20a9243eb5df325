//! The gate in front of every endpoint: counts, holds answers back, or lets nobody through.

use std::collections::BTreeMap;
use std::sync::Mutex;

use tokio::sync::watch;

use crate::lock;

/// An endpoint of the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// `/.well-known/openid-configuration`.
    Discovery,
    /// `/jwks`.
    Jwks,
    /// `/authorize`.
    Authorize,
    /// `/login`: the page's buttons.
    Login,
    /// `/token`.
    Token,
    /// `/userinfo`.
    Userinfo,
    /// `/revoke`.
    Revoke,
}

/// How the provider is out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outage {
    /// It is not.
    #[default]
    None,
    /// Every request is answered 503.
    Unavailable,
    /// Every connection is closed without an answer.
    Refusing,
}

/// While it lives, requests to its endpoint wait. Dropping it lets them go on.
pub struct Hold {
    release: watch::Sender<bool>,
    arrived: watch::Receiver<usize>,
}

#[derive(Default)]
pub(super) struct Gate {
    counts: Mutex<BTreeMap<Endpoint, u64>>,
    holds: Mutex<BTreeMap<Endpoint, Held>>,
    outage: Mutex<Outage>,
}

struct Held {
    released: watch::Receiver<bool>,
    arrived: watch::Sender<usize>,
}

// === impl Hold ===

impl Hold {
    /// Returns once `count` requests wait at the endpoint.
    pub async fn arrived(&mut self, count: usize) {
        // An error means that a newer hold took this one's place: nobody will arrive here any more.
        let _ = self.arrived.wait_for(|arrived| *arrived >= count).await;
    }

    /// Lets the waiting requests go on.
    pub fn release(self) {}
}

impl Drop for Hold {
    fn drop(&mut self) {
        let _ = self.release.send(true);
    }
}

// === impl Gate ===

impl Gate {
    pub(super) fn count(&self, endpoint: Endpoint) -> u64 {
        lock(&self.counts).get(&endpoint).copied().unwrap_or_default()
    }

    pub(super) fn outage(&self) -> Outage {
        *lock(&self.outage)
    }

    pub(super) fn set_outage(&self, outage: Outage) {
        *lock(&self.outage) = outage;
    }

    pub(super) fn hold(&self, endpoint: Endpoint) -> Hold {
        let (release, released) = watch::channel(false);
        let (arrived, watch_arrived) = watch::channel(0);
        lock(&self.holds).insert(endpoint, Held { released, arrived });
        Hold { release, arrived: watch_arrived }
    }

    /// Counts a request, and returns once no hold stands in its way.
    pub(super) async fn pass(&self, endpoint: Endpoint) {
        *lock(&self.counts).entry(endpoint).or_default() += 1;
        let released = lock(&self.holds).get(&endpoint).map(|held| {
            held.arrived.send_modify(|arrived| *arrived += 1);
            held.released.clone()
        });
        if let Some(mut released) = released {
            let _ = released.wait_for(|released| *released).await;
        }
    }
}
