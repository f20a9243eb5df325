//! The CA lives in OpenBao: the main job with each custody there, what is refused, and everything that a server can do wrong.

mod bad_input;
pub(crate) mod faults;
mod kinds;
mod life;
mod main_job;
mod own;
mod retiring;

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

/// A line of what the broker says of itself after everything was looked at anew.
async fn line(world: &World, name: &str) -> Check {
    world.running.reload().await.into_iter().find(|check| check.name == name).unwrap()
}
