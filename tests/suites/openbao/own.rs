//! The broker's own secrets at a server: where they live, what is written over, and with whose token; and the end of its own token.

use std::time::Duration;

use ichor_broker::app;
use ichor_broker::config::Folder;
use ichor_broker::custody::{IdentitySource, Vault};
use ichor_standins::openbao::{Fault, OpenBao, Rule};
use ichor_tests::{Lives, Person, World, run_command};
use serde_json::json;

use super::bad_input::make_key;
use super::{asks, bao, start_again, world};

/// What tells the data key that the folder leads to from another.
async fn tag(world: &World) -> anyhow::Result<[u8; 32]> {
    let loaded = Folder::new(&world.dir).load()?;
    let vault = Vault::open(&loaded.settings.vault, IdentitySource::DangerBeside)?;
    Ok(app::custody(&loaded, vault)?.data_key().await?.tag(b"row", b"of a session"))
}

async fn moved(world: &World, to: &[&str]) -> Result<String, String> {
    let dir = world.dir.display().to_string();
    let command = [&["custody", "move-secrets", "--reason", "tests", "--dir", dir.as_str()], to].concat();
    run_command(&command).await.map_err(|error| error.to_string())
}

/// A file with a token that may do everything.
fn operator(world: &World) -> anyhow::Result<String> {
    let file = world.scratch().join("operator-token");
    std::fs::write(&file, OpenBao::ROOT_TOKEN)?;
    Ok(file.display().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_brokers_secret_is_not_written_over_unasked() -> anyhow::Result<()> {
    let world = world(Lives::Transit).await?;
    let (bao, before) = (bao(&world), tag(&world).await?);
    for (secret, path) in [("data-key", "ichor-broker/data-key"), ("audit-key", "ichor-broker/audit-key")] {
        for others in [json!({ "value": data_encoding::BASE64.encode(&[7; 32]) }), json!({ "more": "than ours" })] {
            bao.write_secret(path, others.clone());
            let said = moved(&world, &["--to", "kv", "--secret", secret]).await.unwrap_err();
            assert!(said.contains(&format!("{path} at main holds another")) && said.contains("`--key`"), "{said}");
            assert_eq!(bao.secret(path), Some(others));
        }
    }
    assert!(!world.dir.join("vault/secrets/data-key.toml").exists());
    assert_eq!(tag(&world).await?, before);

    // elsewhere it is written, and once more to where it is already nothing is written
    let elsewhere = ["--to", "kv", "--key", "broker-b/data-key"];
    moved(&world, &elsewhere).await.unwrap();
    assert_eq!(tag(&world).await?, before);
    let written = |at: &str| bao.requests().iter().filter(|asked| asked.path == at && asked.method == "POST").count();
    assert_eq!(written("secret/data/broker-b/data-key"), 1);
    moved(&world, &elsewhere).await.unwrap();
    assert_eq!(written("secret/data/broker-b/data-key"), 1);
    // and over the other's where someone says so
    moved(&world, &["--to", "kv", "--replace"]).await.unwrap();
    assert_eq!(tag(&world).await?, before);
    let said = moved(&world, &["--to", "age", "--replace"]).await.unwrap_err();
    assert!(said.contains("are for `kv` and `transit`"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_the_brokers_own_token_cannot_read_does_not_become_the_secrets() -> anyhow::Result<()> {
    let world = world(Lives::Age).await?;
    let said = moved(&world, &["--to", "age", "--token-file", &operator(&world)?]).await.unwrap_err();
    assert!(said.contains("a file of the vault needs no token"), "{said}");

    let world = super::world(Lives::Transit).await?;
    let (bao, before, token) = (bao(&world), tag(&world).await?, operator(&world)?);
    make_key(bao, "ichor.broker", json!({"type": "aes256-gcm96"})).await?;
    // deploy/openbao/transit.hcl, and what deploy/openbao/secrets.hcl adds
    let issuing = || [Rule::new("transit/keys/ichor-prod", ["read"]), Rule::new("transit/sign/ichor-prod", ["update"])];
    let secrets = || {
        [
            Rule::new("transit/decrypt/ichor.broker", ["update"]),
            Rule::new("secret/data/ichor-broker/data-key", ["read"]),
        ]
    };
    for to in ["kv", "transit"] {
        bao.allow_only(issuing());
        let said = moved(&world, &["--to", to, "--token-file", &token]).await.unwrap_err();
        assert!(
            said.contains("to our token, or has no engine mounted there; give its policy what deploy/openbao has"),
            "{said}"
        );
        assert!(!world.dir.join("vault/secrets/data-key.toml").exists(), "it lives where it did");
        assert_eq!(tag(&world).await?, before);

        bao.allow_only(issuing().into_iter().chain(secrets()));
        moved(&world, &["--to", to, "--token-file", &token]).await.unwrap();
        std::fs::remove_file(world.dir.join("vault/secrets/data-key.age"))?;
        assert_eq!(tag(&world).await?, before);
        let dir = world.dir.display().to_string();
        let check = async || run_command(&["check", "--dir", &dir]).await.unwrap_or_else(|error| error.to_string());
        let line = |said: String| said.lines().find(|line| line.contains("data key")).unwrap_or_default().to_owned();
        assert!(line(check().await).contains("ok"), "{}", check().await);
        // what a start would not get is said before it
        bao.allow_only(issuing());
        assert!(line(check().await).contains("does not allow"), "{}", check().await);
        // and the operator's token brings it back from there
        moved(&world, &["--to", "age"]).await.unwrap_err();
        moved(&world, &["--to", "age", "--token-file", &token]).await.unwrap();
        assert_eq!(tag(&world).await?, before);
        std::fs::remove_file(world.dir.join("vault/secrets/data-key.toml"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_brokers_own_secrets_live_in_the_same_custody() -> anyhow::Result<()> {
    let world = world(Lives::Transit).await?;
    let before = tag(&world).await?;
    let move_to = async |kind: &str| moved(&world, &["--to", kind]).await.map_err(anyhow::Error::msg);
    let missing = move_to("transit").await.unwrap_err().to_string();
    assert!(missing.contains("bao write -f transit/keys/ichor.broker"), "{missing}");
    assert_eq!(tag(&world).await?, before);
    let leaky = json!({"type": "aes256-gcm96", "exportable": true});
    make_key(bao(&world), "leaky", leaky).await?;
    let leaks = moved(&world, &["--to", "transit", "--key", "leaky"]).await.unwrap_err();
    assert!(leaks.contains("has `exportable` set"), "{leaks}");
    assert_eq!(tag(&world).await?, before);
    make_key(bao(&world), "ichor.broker", json!({"type": "aes256-gcm96"})).await?;
    // what comes back is another secret: it lives where it did
    let another = json!({ "plaintext": data_encoding::BASE64.encode(&[7; 32]) });
    bao(&world).set_fault("transit/decrypt/*", Some(Fault::Instead(json!({ "data": another }))));
    move_to("transit").await.unwrap_err();
    bao(&world).set_fault("transit/decrypt/*", None);
    assert!(!world.dir.join("vault/secrets/data-key.toml").exists());
    assert_eq!(tag(&world).await?, before);
    for (kind, place) in [("kv", "custody = \"kv\""), ("transit", "vault:v1:")] {
        assert!(move_to(kind).await?.contains("the data key now lives here"));
        let _ = std::fs::remove_file(world.dir.join("vault/secrets/data-key.age"));
        let home = std::fs::read_to_string(world.dir.join("vault/secrets/data-key.toml"))?;
        assert!(home.contains(place), "{home}");
        assert_eq!(tag(&world).await?, before, "it is the same key");
    }
    // once more to where it is: no other copy is spoken of
    let again = move_to("transit").await?;
    assert!(again.contains("lives where it did, written anew") && !again.contains("the copy before"), "{again}");
    assert_eq!(tag(&world).await?, before);

    // a broker starts on it, and does not while the server is out
    world.running.stop().await;
    let bao = world.bao.as_ref().unwrap();
    bao.seal();
    let start = || start_again(&world.dir, &world.clock, Duration::from_secs(3600));
    let refused = start().await?.map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("is sealed; unseal it"), "{refused}");
    bao.unseal();
    start().await??.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_stopped_ends_its_token_and_waits_for_no_server_that_is_silent() -> anyhow::Result<()> {
    const REVOKE: &str = "auth/token/revoke-self";
    for fault in [None, Some(Fault::Stall)] {
        let world = world(Lives::Transit).await?;
        asks(&Person::log_in(&world, "alice").await?).await?;
        let bao = world.bao.as_ref().unwrap();
        let (live, is_silent) = (bao.live_tokens(), fault.is_some());
        bao.set_fault(REVOKE, fault);
        tokio::time::timeout(Duration::from_secs(30), world.running.stop()).await?;
        assert_eq!(bao.count(REVOKE), 1);
        assert_eq!(live - bao.live_tokens(), usize::from(!is_silent));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_token_makes_the_audit_key_and_the_brokers_own_signs_with_it() -> anyhow::Result<()> {
    let world = world(Lives::Transit).await?;
    world.running.stop().await;
    let dir = world.dir.display().to_string();
    let rotate = async |to: &[&str]| {
        let command = [&["audit", "rotate-key", "--reason", "tests", "--dir", dir.as_str()], to].concat();
        run_command(&command).await.map_err(|error| format!("{error:#}"))
    };
    let token = world.dir.join("operator-token");
    std::fs::write(&token, OpenBao::ROOT_TOKEN)?;
    let token = token.display().to_string();
    let bao = world.bao.as_ref().unwrap();
    // deploy/openbao/audit.hcl
    bao.allow_only([
        Rule::new("transit/sign/ichor.audit", ["update"]),
        Rule::new("transit/keys/ichor.audit", ["read"]),
        Rule::new("secret/data/ichor-broker/audit-key-*", ["read"]),
    ]);
    let mut said = String::new();
    for to in ["transit", "kv"] {
        let refused = rotate(&["--to", to]).await.unwrap_err();
        assert!(
            refused.contains("to our token, or has no engine mounted there; give its policy what deploy/openbao has"),
            "{refused}"
        );
        said = rotate(&["--to", to, "--token-file", &token]).await.unwrap();
        assert!(said.contains(&format!(" at main{}", if to == "kv" { "\n" } else { ", which never" })), "{said}");
    }
    // what the broker itself may not read does not become its key
    let (_, in_use) = said.split_once("KV secret secret/").unwrap();
    let in_use = format!("secret/data/{}", in_use.split_once(' ').unwrap().0);
    bao.allow_only([Rule::new(&in_use, ["read"])]);
    let refused = rotate(&["--to", "kv", "--token-file", &token]).await.unwrap_err();
    assert!(refused.contains("does not allow `secret/data/ichor-broker/audit-key-"), "{refused}");
    assert!(!refused.contains(&in_use), "{refused}");
    let record = std::fs::read_to_string(world.dir.join("vault/secrets/audit-key.toml"))?;
    assert!(record.contains(in_use.trim_start_matches("secret/data/")), "{record}");
    let refused = rotate(&["--token-file", &token]).await.unwrap_err();
    assert!(refused.contains("a file of the vault needs no token"), "{refused}");
    Ok(())
}
