//! The CA lives in OpenBao: the main job with each custody there, what is refused, and everything that a server can do wrong.

mod bad_input;
mod elsewhere;
pub(crate) mod faults;
mod forged;
mod kinds;
mod left;
mod life;
mod main_job;
mod own;
mod retiring;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ichor_broker::app::{Parts, Running, StartError};
use ichor_broker::audit::entries;
use ichor_broker::clock::{Clock, FrozenClock};
use ichor_broker::config::Folder;
use ichor_broker::custody::{IdentitySource, Vault};
use ichor_broker::readiness::Check;
use ichor_broker::store::{EntryFilter, Store};
use ichor_client::{Error, Held, Wish};
use ichor_standins::authority::Authority;
use ichor_standins::openbao::OpenBao;
use ichor_tests::{CLUSTER, Lives, Options, Person, World};
use ichor_wire::api::AuditEntry;

/// Nothing takes the broker so long: it stands still.
const STUCK: Duration = Duration::from_secs(60);

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

/// A CA that somebody made elsewhere, and the file with its certificate and key that it is imported from.
fn own_ca(world: &World) -> anyhow::Result<(Authority, String)> {
    let authority = Authority::new("their own CA")?;
    let file = world.scratch().join("ca.pem");
    std::fs::write(&file, format!("{}\n{}", authority.certificate(), authority.key()?))?;
    Ok((authority, file.display().to_string()))
}

/// An operator's own call at the server.
async fn operate(bao: &OpenBao, method: http::Method, path: &str) -> anyhow::Result<()> {
    let ca = reqwest::Certificate::from_pem(bao.ca_pem().as_bytes())?;
    #[expect(clippy::disallowed_methods, reason = "an operator's own client")]
    let http = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build()?;
    let url = format!("{}/v1/{path}", bao.url());
    let answer = http.request(method, url).header("x-vault-token", OpenBao::ROOT_TOKEN).send().await?;
    anyhow::ensure!(answer.status().is_success(), "{path}: {}", answer.status());
    Ok(())
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

/// Returns once CAs were opened anew after this was done, by the broker's own looks.
async fn until_opened(store: &dyn Store, doing: impl FnOnce()) -> anyhow::Result<()> {
    let opened = async || {
        let entries = entries(store, &EntryFilter::default(), None, 500).await?.entries;
        let is_it = |entry: &&AuditEntry| entry.detail.get("message").is_some_and(|said| said == "CA keys opened");
        anyhow::Ok(entries.iter().filter(is_it).count())
    };
    let before = opened().await?;
    doing();
    let looking = async {
        while opened().await? == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(STUCK, looking).await?
}

/// A line of what the broker says of itself after everything was looked at anew.
async fn line(world: &World, name: &str) -> Check {
    world.running.reload().await.into_iter().find(|check| check.name == name).unwrap()
}
