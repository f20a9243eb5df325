//! What is loaded anew while the broker runs: good values take effect once they are recorded, bad ones never, and readiness
//! and the log say which.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use ichor_client::Wish;
use ichor_tests::{CLUSTER, Faults, Options, Person, World};
use ichor_wire::log::Kind;
use serde_json::Value;

/// Permits what alice asks for, as the shipped policies do, and nothing else.
const ONLY_READERS: &str = r#"@id("read") permit (principal, action == Action::"hold:os:reader", resource);"#;

/// Nothing takes the broker so long: it stands still.
const STUCK: Duration = Duration::from_secs(60);

async fn world(faults: Option<&std::sync::Arc<Faults>>) -> anyhow::Result<World> {
    World::with(Options {
        edits: vec![("[server]\n", "[server]\nhealth_listen = \"127.0.0.1:0\"\n")],
        policies: Some(ONLY_READERS),
        wrap_store: faults.map(|faults| faults.wrap()),
        look: Some(Duration::from_millis(20)),
        ..Options::default()
    })
    .await
}

/// Whether the broker is ready, and the detail of a check that fails.
async fn readiness(world: &World, name: &str) -> anyhow::Result<(bool, Option<String>)> {
    let url = format!("http://{}/readyz", world.running.health_address().context("a health listener")?);
    let said: Value = world.http()?.get(url).send().await?.json().await?;
    let checks = said["checks"].as_array().context("checks")?;
    let check = checks.iter().find(|check| check["name"] == name);
    let failed = check.filter(|check| check["ok"] == false).map(|check| check["detail"].to_string());
    Ok((said["ready"] == true, failed))
}

/// The messages of the entries about reloads, newest first.
async fn reloads(world: &World) -> anyhow::Result<Vec<String>> {
    let entries = world.entries().await?.into_iter().filter(|entry| entry.kind == "reload");
    Ok(entries.map(|entry| entry.detail["message"].clone()).collect())
}

async fn works(world: &World) -> anyhow::Result<()> {
    let alice = Person::log_in(world, "alice").await?;
    alice.certificate(&Wish { cluster: CLUSTER.into(), ..Wish::default() }).await?;
    Ok(())
}

/// Returns once it is so.
async fn until(mut is_so: impl AsyncFnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let looking = async {
        let mut look = tokio::time::interval(Duration::from_millis(50));
        while !is_so().await? {
            look.tick().await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(STUCK, looking).await?
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_8_a_bad_file_keeps_the_old_value_and_everyone_is_told() -> anyhow::Result<()> {
    let world = world(None).await?;
    let bad: [(&str, PathBuf, &str); 4] = [
        ("policies", world.dir.join("policies/test.cedar"), "permit ("),
        ("clusters", world.dir.join("clusters/prod.toml"), "endpoints = 7"),
        ("tls", world.dir.join("tls/server.crt"), "no certificate"),
        ("tls", world.dir.join("tls/server.key"), "no key"),
    ];
    for (name, path, text) in &bad {
        let good = fs::read(path)?;
        fs::write(path, text)?;
        let checks = world.running.reload().await;
        assert!(checks.iter().any(|check| check.name == *name && !check.ok), "{name}: {checks:?}");
        let (ready, failed) = readiness(&world, name).await?;
        assert!(ready, "{name}: the old value serves");
        assert!(failed.context("a failed check")?.ends_with("the old value stays\""), "{name}");
        assert!(reloads(&world).await?[0].starts_with(&format!("{name} refused, the old value stays: ")), "{name}");
        works(&world).await?;

        let before = reloads(&world).await?.len();
        fs::write(path, good)?;
        world.running.reload().await;
        assert_eq!(readiness(&world, name).await?, (true, None), "{name}");
        assert_eq!(reloads(&world).await?.len(), before, "{name}: what is in force already is not recorded again");
        works(&world).await?;
    }
    Ok(())
}

/// A chain and a key that fit neither the files in force nor, for a moment, each other.
#[tokio::test(flavor = "multi_thread")]
async fn a_tls_certificate_takes_effect_only_with_its_entry() -> anyhow::Result<()> {
    let world = world(None).await?;
    let key = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])?.self_signed(&key)?;
    fs::write(world.dir.join("tls/server.crt"), certificate.pem())?;
    world.running.reload().await;
    assert!(readiness(&world, "tls").await?.1.is_some(), "the new chain does not fit the old key");
    fs::write(world.dir.join("tls/server.key"), key.serialize_pem())?;
    world.running.reload().await;
    assert_eq!(readiness(&world, "tls").await?.1, None);
    assert_eq!(reloads(&world).await?[0], "TLS certificate loaded");
    let entry = world.entries().await?.remove(0);
    let told = format!("{:?}", entry.detail);
    assert!(told.contains("certificate") && !told.contains("key"), "{told}");

    let probe = world.http()?.get(world.at("/v1/session")).send().await;
    assert!(probe.is_err(), "the old CA no longer vouches for the broker");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changed_is_loaded_by_itself() -> anyhow::Result<()> {
    let world = world(None).await?;
    fs::write(world.dir.join("policies/test.cedar"), ONLY_READERS.replace("read\"", "readers\""))?;
    until(async || Ok(reloads(&world).await?.first().is_some_and(|message| message == "policies loaded"))).await?;
    works(&world).await
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_8_a_value_that_could_not_be_recorded_is_not_in_force_and_is_tried_again() -> anyhow::Result<()> {
    let faults = Faults::none();
    let world = world(Some(&faults)).await?;
    let nobody = r#"@id("nobody") forbid (principal, action, resource);"#;
    let file = world.dir.join("policies/test.cedar");
    for (name, path, text) in
        [("policies", file.as_path(), nobody), ("policies", &file, "permit ("), ("ca keys", &ca(&world), "")]
    {
        let good = fs::read(path)?;
        faults.set_no_entry(Some(Kind::Reload));
        if text.is_empty() {
            fs::remove_file(path)?
        } else {
            fs::write(path, text)?
        }
        world.running.reload().await;
        let (ready, failed) = readiness(&world, name).await?;
        assert!(ready && failed.is_some(), "{name}");
        // the old value serves, whatever it was tried with; a commit shared with an entry that fails is lost, so more than one try
        if text != nobody {
            until(async || Ok(works(&world).await.is_ok())).await?;
        }
        let before = reloads(&world).await?.len();
        faults.set_no_entry(None);
        until(async || Ok(reloads(&world).await?.len() > before)).await?;
        fs::write(path, good)?;
        world.running.reload().await;
        until(async || Ok(readiness(&world, name).await?.1.is_none())).await?;
        works(&world).await?;
    }
    Ok(())
}

fn ca(world: &World) -> PathBuf {
    Path::new(&world.dir).join(format!("vault/ca/{CLUSTER}.age"))
}
