//! What another broker did to a CA is so here, too: the log says it.

use std::time::Duration;

use anyhow::Context;
use ichor_broker::app;
use ichor_broker::config::Folder;
use ichor_broker::custody::ca::CaFacts;
use ichor_broker::domain::ClusterName;
use ichor_tests::{CLUSTER, Lives, Options, Person, World, tell_elsewhere};
use ichor_wire::profile::CaCertificate;

use super::life::ca;
use super::{STUCK, asks, bao, line, own_ca};

/// Returns once the line about the CA in the broker's readiness has these words.
async fn until_told(world: &World, words: &str) -> anyhow::Result<()> {
    let url = format!("http://{}/readyz", world.running.health_address().context("a health listener")?);
    let http = world.http()?;
    let looking = async {
        let mut look = tokio::time::interval(Duration::from_millis(20));
        loop {
            look.tick().await;
            let said: serde_json::Value = http.get(&url).send().await?.json().await?;
            let checks = said["checks"].as_array().context("checks")?;
            if checks.iter().any(|check| check["name"] == "ca prod" && check["detail"].to_string().contains(words)) {
                return anyhow::Ok(());
            }
        }
    };
    tokio::time::timeout(STUCK, looking).await?
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_was_retired_at_another_broker_issues_no_more_here() -> anyhow::Result<()> {
    type Break = fn(&World);
    let junk = |world: &World| std::fs::write(world.dir.join("vault/ca/prod.age"), "junk").unwrap();
    let cases: [(Lives, Break, &str); 5] = [
        (Lives::Age, |_| (), ""),
        (Lives::Transit, |_| (), ""),
        // what the log says needs neither server nor vault, and a key that was opened before signs without
        (Lives::Kv, |world| bao(world).seal(), "is sealed; unseal it"),
        (Lives::Kv, |world| bao(world).deny("secret/data/*"), "does not allow"),
        (Lives::Age, junk, "stays in force"),
    ];
    for (custody, spoil, said) in cases {
        let edits = vec![("[server]\n", "[server]\nhealth_listen = \"127.0.0.1:0\"\n")];
        let look = Some(Duration::from_millis(20));
        let world = World::with(Options { custody, edits, look, ..Options::default() }).await?;
        let alice = Person::log_in(&world, "alice").await?;
        let own = CaCertificate::parse(&ca(&world, &["export-public", CLUSTER]).await?)?;
        // one that another broker put in force is told, and this one serves on: nodes accept both
        tell_elsewhere(&world, CLUSTER, ("certificate", &"7".repeat(64))).await?;
        until_told(&world, "bring `ca/prod.toml` of its vault").await?;
        asks(&alice).await?;
        if !said.is_empty() {
            spoil(&world);
            until_told(&world, said).await?;
            asks(&alice).await?;
        }
        tell_elsewhere(&world, CLUSTER, ("retired certificate 1", &CaFacts::of(&own).fingerprint)).await?;
        until_told(&world, "was retired by an entry of the audit log").await?;
        assert!(asks(&alice).await.is_err());
        // nor does a reload bring it back
        let said = line(&world, "ca prod").await;
        let detail = said.detail.as_deref().unwrap();
        assert!(!said.ok && !detail.contains("stays in force"), "{said:?}");
        assert!(detail.contains("was retired by an entry of the audit log"), "{said:?}");
        assert!(asks(&alice).await.is_err());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_was_retired_at_another_broker_issues_no_more_while_a_server_hangs() -> anyhow::Result<()> {
    let look = Some(Duration::from_millis(20));
    let world = World::with(Options { custody: Lives::Kv, look, ..Options::default() }).await?;
    let alice = Person::log_in(&world, "alice").await?;
    let own = CaCertificate::parse(&ca(&world, &["export-public", CLUSTER]).await?)?;
    let mut hold = bao(&world).hold_answers("secret/data/*");
    tokio::time::timeout(STUCK, hold.arrived(1)).await?;
    let asked = bao(&world).count("secret/data/*");
    asks(&alice).await?;
    tell_elsewhere(&world, CLUSTER, ("retired certificate 1", &CaFacts::of(&own).fingerprint)).await?;
    // the look at the server is still under way
    let ended = async { while asks(&alice).await.is_ok() {} };
    tokio::time::timeout(STUCK, ended).await?;
    assert_eq!(bao(&world).count("secret/data/*"), asked, "no look after that one has begun");
    hold.release();
    assert!(line(&world, "ca prod").await.detail.unwrap().contains("was retired by an entry of the audit log"));
    assert!(asks(&alice).await.is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_began_before_a_retirement_brings_nothing_back() -> anyhow::Result<()> {
    let world = World::with(Options { custody: Lives::Kv, ..Options::default() }).await?;
    let (authority, from) = own_ca(&world)?;
    let import = async |custody| {
        let command = ["import", CLUSTER, "--from", &from, "--custody", custody, "--replace", "--reason", "tests"];
        ca(&world, &command).await
    };
    import("age").await?;
    let own = CaCertificate::parse(&authority.certificate())?;
    let mut hold = bao(&world).hold_answers("secret/data/ichor/prod*");
    let meanwhile = async {
        tokio::time::timeout(STUCK, hold.arrived(1)).await?;
        tell_elsewhere(&world, CLUSTER, ("retired certificate 1", &CaFacts::of(&own).fingerprint)).await?;
        hold.release();
        anyhow::Ok(())
    };
    let (imported, told) = tokio::join!(import("kv"), meanwhile);
    told?;
    let said = imported.unwrap_err().to_string();
    assert!(said.contains("was retired by another command meanwhile"), "{said}");
    let known = app::known_cas(&Folder::new(&world.dir).load()?.settings).await?;
    assert!(known.is_retired(&ClusterName::new(CLUSTER)?, &CaFacts::of(&own).fingerprint));
    assert!(!line(&world, "ca prod").await.ok);
    Ok(())
}
