//! What is out is refused with its own code, nothing is issued by it, and what does not need it goes on; when the cause is
//! gone the broker recovers by itself. After each fault the whole log is verified.

mod custody;
mod login;
mod provider;
mod store;
mod time;

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use anyhow::bail;
use ichor_broker::audit::verify_log;
use ichor_client::{Error, Held, Wish};
use ichor_tests::{CLUSTER, Faults, Options, Person, World};
use ichor_wire::problem::Code;

/// A world whose store has faults.
async fn faulty() -> anyhow::Result<(World, Arc<Faults>)> {
    let faults = Faults::none();
    let world = World::with(Options { wrap_store: Some(faults.wrap()), ..Options::default() }).await?;
    Ok((world, faults))
}

/// The person asks for a certificate of the usual sort.
async fn asks(person: &Person) -> Result<Held, Error> {
    person.certificate(&Wish { cluster: CLUSTER.into(), ..Wish::default() }).await
}

/// What came of `request`, while `meanwhile` waited for it at some step, did something, and let it go on.
async fn held<T>(
    request: impl Future<Output = T>,
    meanwhile: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<T> {
    let mut request = pin!(request);
    tokio::select! {
        biased;
        done = meanwhile => done?,
        _ = &mut request => bail!("the request ended before it came to the step at which it was to be held"),
    }
    Ok(request.await)
}

/// The code of the refusal. The client tells all ends of a session by one.
fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> Code {
    match result {
        Err(Error::Problem(problem)) => problem.code,
        Err(Error::SessionEnded { .. }) => Code::SessionEnded,
        other => panic!("not a refusal: {other:?}"),
    }
}

/// How many entries there are of each of these kinds.
async fn count<const N: usize>(world: &World, kinds: [&str; N]) -> anyhow::Result<[usize; N]> {
    let mut counts = BTreeMap::<String, usize>::new();
    for entry in world.entries().await? {
        *counts.entry(entry.kind).or_default() += 1;
    }
    Ok(kinds.map(|kind| counts.get(kind).copied().unwrap_or_default()))
}

/// The broker is well again: this person gets a certificate that the log has, the node takes it, and the log is whole.
async fn is_well(world: &World, person: &Person) -> anyhow::Result<Held> {
    let held = asks(person).await?;
    Person::connect(world, &held).await?.version(&[]).await?;
    let entries = world.entries().await?;
    let of_grant = |kind: &str| {
        entries
            .iter()
            .find(|entry| entry.kind == kind && entry.grant_id == Some(held.answer.grant_id))
            .map(|entry| entry.index)
    };
    let (grant, issued) = (of_grant("grant").expect("its grant"), of_grant("issued").expect("the certificate"));
    assert!(grant < issued, "grant {grant}, certificate {issued}");
    verify_log(&*world.running.store()).await?;
    Ok(held)
}
