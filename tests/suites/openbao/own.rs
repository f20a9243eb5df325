//! The broker's own secrets at a server: what is written over, and with whose token.

use ichor_broker::app;
use ichor_broker::config::Folder;
use ichor_broker::custody::{IdentitySource, Vault};
use ichor_standins::openbao::{OpenBao, Rule};
use ichor_tests::{Lives, World, run_command};
use serde_json::json;

use super::bad_input::make_key;
use super::{bao, world};

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
        assert!(said.contains("to our token; give its policy what deploy/openbao has"), "{said}");
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
