//! The broker, in this process: the same code that `ichor-broker serve` runs, on a folder that `ichor-broker init` made.

use ichor_client::tls::Trust;
use url::Url;

use crate::world::World;

/// A running broker.
pub(crate) struct Broker {
    /// Its public URL.
    pub(crate) url: Url,
    /// What a client believes it by.
    pub(crate) trust: Trust,
    /// The dedicated client CA's certificate, PEM: what nodes are to accept.
    pub(crate) client_ca: String,
}

// === impl Broker ===

impl Broker {
    /// Returns once the broker serves: provider and cluster declared, a dedicated client CA in the vault.
    #[expect(clippy::unused_async, reason = "starting a broker waits")]
    pub(crate) async fn start(_world: &World) -> anyhow::Result<Self> {
        anyhow::bail!("it is not wired yet")
    }

    /// Returns once requests under way have ended and all is recorded.
    #[expect(clippy::unused_async, reason = "stopping a broker waits")]
    pub(crate) async fn stop(self) {}
}
