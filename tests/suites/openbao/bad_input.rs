//! Bad input at the commands: a clear sentence, and nothing half-made.

use ichor_broker::app;
use ichor_broker::clock::FrozenClock;
use ichor_broker::config::Folder;
use ichor_broker::custody::ca::CaFacts;
use ichor_broker::custody::{IdentitySource, Vault};
use ichor_broker::domain::ClusterName;
use ichor_standins::authority::Authority;
use ichor_standins::openbao::{Fault, OpenBao, Rule};
use ichor_tests::{CLUSTER, Lives, Options, World, run_command};
use ichor_wire::profile::CaCertificate;
use serde_json::json;

use super::{bao, line, own_ca, start_again, world};

/// What `ca create` says when it fails.
async fn refused(world: &World, options: &[&str]) -> String {
    let dir = world.dir.display().to_string();
    let command =
        [&["ca", "create", CLUSTER, "--replace", "--reason", "tests", "--dir", dir.as_str()], options].concat();
    let before = std::fs::read(world.dir.join("vault/ca/prod.toml")).unwrap();
    let said = run_command(&command).await.unwrap_err().to_string();
    assert_eq!(std::fs::read(world.dir.join("vault/ca/prod.toml")).unwrap(), before, "the record is as it was");
    said
}

/// Puts a key there as its operator would.
pub(super) async fn make_key(bao: &OpenBao, name: &str, body: serde_json::Value) -> anyhow::Result<()> {
    let url = format!("{}/v1/transit/keys/{name}", bao.url());
    let ca = reqwest::Certificate::from_pem(bao.ca_pem().as_bytes())?;
    #[expect(clippy::disallowed_methods, reason = "an operator's own client")]
    let http = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build()?;
    let answer = http.post(url).header("x-vault-token", OpenBao::ROOT_TOKEN).json(&body).send().await?;
    assert!(answer.status().is_success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_refused_by_name() -> anyhow::Result<()> {
    let world = world(Lives::Transit).await?;
    let bao = bao(&world);
    make_key(bao, "leaky", json!({"type": "ed25519", "exportable": true})).await?;
    make_key(bao, "backed-up", json!({"type": "ed25519", "allow_plaintext_backup": true})).await?;
    make_key(bao, "sealing", json!({"type": "aes256-gcm96"})).await?;
    let cases: &[(&[&str], &str)] = &[
        (&["--custody", "transit", "--key", "leaky"], "has `exportable` set"),
        (&["--custody", "transit", "--key", "backed-up"], "has `allow_plaintext_backup` set"),
        (&["--custody", "transit", "--key", "sealing"], "sealing"),
        (&["--custody", "transit", "--mount", "nowhere"], "has no `nowhere/"),
        (&["--custody", "transit", "--mount", "../sys"], "cannot stand in a path"),
        (&["--custody", "transit", "--server", "other"], "no [[openbao]] named `other`"),
        (&["--custody", "kv", "--mount", "nowhere"], "has no `nowhere/"),
        (&["--mount", "transit"], "are for `kv`, `transit` and `pki`"),
    ];
    for (options, expected) in cases {
        let said = refused(&world, options).await;
        assert!(said.contains(expected), "{options:?}: {said}");
    }
    Ok(())
}

/// What `check` prints, and what a ready broker says of the CA.
async fn told(world: &World) -> [String; 2] {
    let dir = world.dir.display().to_string();
    let check = run_command(&["check", "--dir", &dir]).await.unwrap_or_else(|error| error.to_string());
    let ready = line(world, "ca prod").await;
    assert!(ready.ok, "{ready:?}");
    [check, ready.detail.unwrap_or_default()]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_may_let_the_key_out_is_said_at_check_and_in_readiness() -> anyhow::Result<()> {
    let world = world(Lives::Transit).await?;
    for said in told(&world).await {
        assert!(said.contains("our token may use `transit/keys/ichor-prod/config` of the server"), "{said}");
    }
    // deploy/openbao/transit.hcl
    let sign = Rule::new("transit/sign/ichor-prod", ["update"]);
    bao(&world).allow_only([sign, Rule::new("transit/keys/ichor-prod", ["read"])]);
    for said in told(&world).await {
        assert!(!said.contains("our token may use"), "{said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_may_write_its_secret_is_said_at_check_and_in_readiness() -> anyhow::Result<()> {
    let world = world(Lives::Kv).await?;
    // deploy/openbao/kv.hcl, and then one path at a time beyond it
    let read = || Rule::new("secret/data/ichor/prod", ["read"]);
    bao(&world).allow_only([read()]);
    for said in told(&world).await {
        assert!(!said.contains("our token may"), "{said}");
    }
    for (path, may) in [
        ("data/ichor/prod", "update"),
        ("metadata/ichor/prod", "delete"),
        ("delete/ichor/prod", "update"),
        ("undelete/ichor/prod", "update"),
        ("destroy/ichor/prod", "update"),
        // the server takes it for the same
        ("metadata/ichor/prod/", "delete"),
    ] {
        let path = format!("secret/{path}");
        bao(&world).allow_only([read(), Rule::new(&path, [may, "read"])]);
        for said in told(&world).await {
            assert!(said.contains(&format!("our token may write or delete at `{path}`")), "{said}");
        }
    }
    // what is not told is not taken to be nothing
    bao(&world).allow_only([read()]);
    for told_of in [json!({}), json!({ "secret/data/ichor/prod": "deny" })] {
        bao(&world).set_fault("sys/capabilities-self", Some(Fault::Instead(json!({ "data": told_of }))));
        for said in told(&world).await {
            assert!(said.contains("what our token may do with the secret beside reading it cannot be asked"), "{said}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kv_ca_that_was_made_and_not_recorded_is_gone_on_with() -> anyhow::Result<()> {
    let world = world(Lives::Transit).await?;
    let bao = bao(&world);
    // written, and the command never heard of it
    bao.set_fault("secret/data/*", Some(Fault::Lost));
    refused(&world, &["--custody", "kv"]).await;
    bao.set_fault("secret/data/*", None);
    let made = bao.secret("ichor/prod.2").unwrap();
    let dir = world.dir.display().to_string();
    let again =
        ["ca", "create", CLUSTER, "--custody", "kv", "--key", "ichor/prod.2", "--reason", "tests", "--dir", &dir];
    // it was not asked to write over anything
    std::fs::remove_file(world.dir.join("vault/ca/prod.toml"))?;
    let said = run_command(&again).await?;
    assert!(said.contains("held a CA for a cluster of this name that this broker did not use; it does now"), "{said}");
    assert_eq!(bao.secret("ichor/prod.2"), Some(made));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_copied_gives_no_other_cluster_the_ca() -> anyhow::Result<()> {
    let world = world(Lives::Transit).await?;
    std::fs::copy(world.dir.join("vault/ca/prod.toml"), world.dir.join("vault/ca/dev.toml"))?;
    let loaded = Folder::new(&world.dir).load()?;
    let custody = app::custody(&loaded, Vault::open(&loaded.settings.vault, IdentitySource::DangerBeside)?)?;
    let known = app::known_cas(&loaded.settings).await?;
    custody.open(&ClusterName::new("prod")?, &known).await?;
    let said = custody.open(&ClusterName::new("dev")?, &known).await.unwrap_err().to_string();
    assert!(said.contains("is the record of cluster `prod`'s CA, copied"), "{said}");
    // and by what a dedicated CA's certificate says, where the record's own word was written over
    let copied = std::fs::read_to_string(world.dir.join("vault/ca/dev.toml"))?;
    std::fs::write(world.dir.join("vault/ca/dev.toml"), copied.replace("cluster = \"prod\"", "cluster = \"dev\""))?;
    let said = custody.open(&ClusterName::new("dev")?, &known).await.unwrap_err().to_string();
    assert!(said.contains("was made for cluster `prod`"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_imported_is_none_that_was_born_there() -> anyhow::Result<()> {
    let world = world(Lives::Transit).await?;
    // someone keeps the key
    let (dir, (_, from)) = (world.dir.display().to_string(), own_ca(&world)?);
    let import = ["ca", "import", CLUSTER, "--from", &from, "--custody", "transit", "--key", "planted", "--replace"];
    let recorded = ["--reason", "tests", "--dir", &dir];
    run_command(&[import.as_slice(), &recorded].concat()).await?;
    // nobody's any more, as far as the record tells
    run_command(&[&["ca", "create", CLUSTER, "--replace"], &recorded[..]].concat()).await?;
    let record = world.dir.join("vault/ca/prod.toml");
    let text = std::fs::read_to_string(&record)?;
    std::fs::write(&record, text.split("[[former]]").next().unwrap_or_default())?;
    let said = refused(&world, &["--custody", "transit", "--key", "planted"]).await;
    assert!(said.contains("was imported, so someone may hold it elsewhere"), "{said}");
    Ok(())
}

/// A broker's folder on which none runs.
struct Stopped<'a> {
    dir: &'a std::path::Path,
    clock: &'a std::sync::Arc<FrozenClock>,
    http: reqwest::Client,
}

impl Stopped<'_> {
    /// The line about the CA that `check` prints, and the one in the readiness of a broker that was just started.
    async fn told(&self) -> anyhow::Result<[String; 2]> {
        let dir = self.dir.display().to_string();
        // the command fails for what it found; its words are what is looked at
        let check = match run_command(&["check", "--dir", &dir]).await {
            Ok(said) => said,
            Err(error) => error.to_string(),
        };
        let name = format!("ca {CLUSTER}");
        let line = check.lines().find(|line| line.contains(&name)).unwrap_or_default().to_owned();

        let running = start_again(self.dir, self.clock, std::time::Duration::from_secs(24 * 3600)).await??;
        let url = format!("http://{}/readyz", running.health_address().unwrap());
        let ready: serde_json::Value = self.http.get(url).send().await?.json().await?;
        assert_eq!(ready["ready"], true, "only this cluster is out: {ready}");
        let found = ready["checks"].as_array().unwrap().iter().find(|check| check["name"] == name.as_str()).cloned();
        let found = found.unwrap();
        assert_eq!(found["ok"], false, "{found}");
        running.stop().await;
        Ok([line, found["detail"].as_str().unwrap_or_default().to_owned()])
    }
}

async fn healthy(custody: Lives) -> anyhow::Result<World> {
    let edits = vec![("[server]\n", "[server]\nhealth_listen = \"127.0.0.1:0\"\n")];
    World::with(Options { edits, custody, ..Options::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_record_names_wrongly_is_said_at_check_and_at_start() -> anyhow::Result<()> {
    let world = healthy(Lives::Transit).await?;
    let http = world.http()?;
    world.running.stop().await;
    let bao = world.bao.as_ref().unwrap();
    let stopped = Stopped { dir: &world.dir, clock: &world.clock, http };
    make_key(bao, "leaky", json!({"type": "ed25519", "exportable": true})).await?;
    make_key(bao, "backed-up", json!({"type": "ed25519", "allow_plaintext_backup": true})).await?;
    make_key(bao, "sealing", json!({"type": "aes256-gcm96"})).await?;
    make_key(bao, "other", json!({"type": "ed25519"})).await?;
    let path = world.dir.join("vault/ca/prod.toml");
    let good = std::fs::read_to_string(&path)?;
    let key = |name: &str| good.replace("\"ichor-prod\"", &format!("\"{name}\""));
    for (record, expected) in [
        (good.replace("mount = \"transit\"", "mount = \"nowhere\""), "has no `nowhere/"),
        (
            good.replace("server = \"main\"", "server = \"other\""),
            "named `other` in config.toml as it was read; name one that is there, or add it and restart the broker",
        ),
        (key("missing"), "there is no Transit key `transit/missing`"),
        (key("leaky"), "has `exportable` set"),
        (key("backed-up"), "has `allow_plaintext_backup` set"),
        (key("sealing"), "the Transit key `sealing` is of type `aes256-gcm96`"),
        (key("other"), "is not the key of the CA's certificate"),
        (good.replace("cluster = \"prod\"", "cluster = \"dev\""), "is the record of cluster `dev`'s CA, copied"),
        ("nonsense".to_owned(), "is no record of a CA"),
    ] {
        assert_ne!(record, good, "{expected}");
        std::fs::write(&path, record)?;
        for said in stopped.told().await? {
            assert!(said.contains(expected), "{expected}: {said}");
        }
    }
    std::fs::write(&path, good)?;
    let dir = world.dir.display().to_string();
    assert!(run_command(&["ca", "show", CLUSTER, "--dir", &dir]).await?.contains("lives in Transit key"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_whose_halves_do_not_match_is_said_at_check_and_at_start() -> anyhow::Result<()> {
    let world = healthy(Lives::Kv).await?;
    let http = world.http()?;
    world.running.stop().await;
    let bao = world.bao.as_ref().unwrap();
    let stopped = Stopped { dir: &world.dir, clock: &world.clock, http };
    let good = bao.secret("ichor/prod").unwrap();
    let other = Authority::new("another CA")?;
    let mixed = json!({ "certificate": other.certificate(), "key": good["key"] });
    for (secret, expected) in
        [(mixed, "key and certificate differ"), (json!({ "certificate": good["certificate"] }), "secret/ichor/prod")]
    {
        bao.write_secret("ichor/prod", secret);
        for said in stopped.told().await? {
            assert!(said.contains(expected), "{expected}: {said}");
        }
    }
    // no such mount is another thing than no such secret
    let path = world.dir.join("vault/ca/prod.toml");
    let record = std::fs::read_to_string(&path)?;
    for (from, to, expected) in [
        (
            "mount = \"secret\"",
            "mount = \"nowhere\"",
            "has no `nowhere/data/ichor/prod`: no such engine is mounted there",
        ),
        ("path = \"ichor/prod\"", "path = \"ichor/other\"", "there is no secret at `secret/ichor/other`"),
    ] {
        std::fs::write(&path, record.replace(from, to))?;
        for said in stopped.told().await? {
            assert!(said.contains(expected), "{expected}: {said}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_clusters_ca_does_not_become_anothers_by_a_copied_record() -> anyhow::Result<()> {
    let world = world(Lives::Transit).await?;
    let (dir, (authority, from)) = (world.dir.display().to_string(), own_ca(&world)?);
    let at = ["--reason", "tests", "--dir", &dir];
    let import = ["ca", "import", CLUSTER, "--from", &from, "--custody", "transit", "--replace"];
    run_command(&[&import[..], &at].concat()).await?;
    // another cluster, of which the log knows no CA, and a copy of the record
    std::fs::copy(world.dir.join("clusters/prod.toml"), world.dir.join("clusters/stage.toml"))?;
    let record = std::fs::read_to_string(world.dir.join("vault/ca/prod.toml"))?;
    let copy = record.replace("cluster = \"prod\"", "cluster = \"stage\"");
    anyhow::ensure!(copy != record, "{record}");
    std::fs::write(world.dir.join("vault/ca/stage.toml"), copy)?;
    let said = line(&world, "ca stage").await;
    let detail = said.detail.as_deref().unwrap_or_default();
    assert!(!said.ok && detail.contains("has the key of cluster `prod`'s CA"), "{said:?}");
    assert!(line(&world, "ca prod").await.ok);
    let check = run_command(&["check", "--dir", &dir]).await.unwrap_err().to_string();
    assert!(check.contains("has the key of cluster `prod`'s CA"), "{check}");
    // where both do have one CA, an operator says so by its fingerprint
    let said = run_command(&[&["ca", "record", "stage"][..], &at].concat()).await.unwrap_err().to_string();
    assert!(said.contains("name it with `--certificate"), "{said}");
    let print = CaFacts::of(&CaCertificate::parse(&authority.certificate())?).fingerprint;
    run_command(&[&["ca", "record", "stage", "--certificate", &print][..], &at].concat()).await?;
    assert!(line(&world, "ca stage").await.ok);
    Ok(())
}
