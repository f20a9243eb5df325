//! How far the log was forwarded and told, where someone else writes the database: nothing is kept back unseen.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ichor_broker::app::{Parts, Running};
use ichor_broker::clock::{Clock, FrozenClock};
use ichor_broker::config::Folder;
use ichor_broker::custody::{IdentitySource, Vault};
use ichor_tests::{Options, World};
use rusqlite::Connection;

const CONFIG: &str = "[[forward]]\nname = \"siem\"\nkind = \"jsonl\"\npath = \"data/audit.jsonl\"\n\
                      [[notify]]\nname = \"pager\"\nkind = \"slack\"\nurl = \"https://127.0.0.1:9/\"\nevents = [\"lock\"]\n";

/// The world's broker, started once more, elsewhere.
async fn start(dir: &Path, clock: &Arc<FrozenClock>) -> anyhow::Result<Running> {
    let loaded = Folder::new(dir).load()?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let parts = Parts {
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        vault: Vault::open(&loaded.settings.vault, IdentitySource::DangerBeside)?,
        listener: Some(listener),
        wrap_store: None,
        accept_clock: true,
        look: Duration::from_secs(24 * 3600),
    };
    Ok(Running::start(&loaded, parts).await?)
}

/// What readiness says of the forwarding and of the sink, once both have reported.
async fn said(running: &Running) -> anyhow::Result<BTreeMap<String, (bool, String)>> {
    let at = format!("http://{}/readyz", running.health_address().unwrap());
    loop {
        let said: serde_json::Value = reqwest_client()?.get(&at).send().await?.json().await?;
        let text = |check: &serde_json::Value, name: &str| check[name].as_str().unwrap_or_default().to_owned();
        let checks = said["checks"].as_array().unwrap().iter();
        let checks = checks.map(|check| (text(check, "name"), (check["ok"] == true, text(check, "detail"))));
        let found: BTreeMap<_, _> =
            checks.filter(|(name, _)| name == "forward siem" || name == "notify pager").collect();
        if found.len() == 2 {
            return Ok(found);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a plain client for the health listener")]
fn reqwest_client() -> anyhow::Result<reqwest::Client> {
    Ok(reqwest::Client::builder().tls_certs_only([]).no_proxy().build()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_was_taken_away_or_unmarked_is_not_taken_for_a_new_one() -> anyhow::Result<()> {
    let world = World::with(Options {
        config: CONFIG.into(),
        edits: vec![("[server]\n", "[server]\nhealth_listen = \"127.0.0.1:0\"\n")],
        ..Options::default()
    })
    .await?;
    let started = world.entries().await?.into_iter().find(|entry| entry.kind == "start").unwrap();
    for place in ["siem", "notify/pager"] {
        assert!(started.detail.contains_key(&format!("digest of place/{place}")), "{started:?}");
    }
    assert!(said(&world.running).await?.values().all(|(ok, _)| *ok));
    world.running.stop().await;

    let database = Folder::new(&world.dir).load()?.settings.database;
    let sent = || std::fs::read_to_string(world.dir.join("data/audit.jsonl")).map(|text| text.lines().count());
    for sql in [
        "UPDATE forward SET tag = NULL, next = (SELECT count(*) FROM leaf)",
        "UPDATE forward SET next = next + 1",
        "DELETE FROM forward",
    ] {
        Connection::open(&database)?.execute_batch(sql)?;
        let before = sent()?;
        let running = start(&world.dir, &world.clock).await?;
        let found = said(&running).await?;
        let ((forwards, forward), (tells, notify)) = (&found["forward siem"], &found["notify pager"]);
        assert!(!forwards && forward.contains("everything is sent again, from the first entry on"), "{sql}: {forward}");
        assert!(!tells && notify.contains("nobody is told until the sink has another name"), "{sql}: {notify}");
        let size = usize::try_from(running.store().head().await?.size)?;
        while sent()? < before + size {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        running.stop().await;
    }
    Ok(())
}
