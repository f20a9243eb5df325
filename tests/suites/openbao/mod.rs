//! The CA lives in OpenBao: the main job with each custody there, what is refused, and everything that a server can do wrong.

mod bad_input;
pub(crate) mod faults;
mod kinds;
mod life;
mod main_job;
mod own;
mod retiring;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ichor_broker::app::{Parts, Running, StartError};
use ichor_broker::clock::{Clock, FrozenClock};
use ichor_broker::config::Folder;
use ichor_broker::custody::{IdentitySource, Vault};
use ichor_broker::readiness::Check;
use ichor_client::{Error, Held, Wish};
use ichor_standins::openbao::OpenBao;
use ichor_tests::{CLUSTER, Lives, Options, Person, World};

/// A world whose CA lives there.
async fn world(custody: Lives) -> anyhow::Result<World> {
    World::with(Options { custody, ..Options::default() }).await
}

/// The server behind a world.
fn bao(world: &World) -> &OpenBao {
    world.bao.as_ref().unwrap()
}

/// The person asks for a certificate of the usual sort.
async fn asks(person: &Person) -> Result<Held, Error> {
    person.certificate(&Wish { cluster: CLUSTER.into(), ..Wish::default() }).await
}

/// Another broker on the same folder, which looks so often whether something changed.
async fn start_again(
    dir: &Path,
    clock: &Arc<FrozenClock>,
    look: Duration,
) -> anyhow::Result<Result<Running, StartError>> {
    let loaded = Folder::new(dir).load()?;
    let vault = Vault::open(&loaded.settings.vault, IdentitySource::DangerBeside)?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    let parts = Parts { clock, vault, listener: Some(listener), wrap_store: None, accept_clock: true, look };
    Ok(Running::start(&loaded, parts).await)
}

/// A line of what the broker says of itself after everything was looked at anew.
async fn line(world: &World, name: &str) -> Check {
    world.running.reload().await.into_iter().find(|check| check.name == name).unwrap()
}
