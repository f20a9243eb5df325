//! Bad input at the commands: a clear sentence, and nothing half-made.

use ichor_broker::app;
use ichor_broker::config::Folder;
use ichor_broker::custody::{IdentitySource, Vault};
use ichor_broker::domain::ClusterName;
use ichor_standins::authority::Authority;
use ichor_standins::openbao::OpenBao;
use ichor_tests::{CLUSTER, Lives, World, run_command};
use serde_json::json;

use super::{bao, world};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_kv_ca_that_was_made_and_not_recorded_is_gone_on_with() -> anyhow::Result<()> {
    use ichor_standins::openbao::Fault;

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
    assert!(said.contains("held a CA of this cluster that nothing used; it is used now"), "{said}");
    assert_eq!(bao.secret("ichor/prod.2"), Some(made));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_copied_gives_no_other_cluster_the_ca() -> anyhow::Result<()> {
    let world = world(Lives::Transit).await?;
    std::fs::copy(world.dir.join("vault/ca/prod.toml"), world.dir.join("vault/ca/dev.toml"))?;
    let loaded = Folder::new(&world.dir).load()?;
    let custody = app::custody(&loaded, Vault::open(&loaded.settings.vault, IdentitySource::DangerBeside)?)?;
    custody.open(&ClusterName::new("prod")?).await?;
    let said = custody.open(&ClusterName::new("dev")?).await.unwrap_err().to_string();
    assert!(said.contains("was made for cluster `prod`"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_imported_is_none_that_was_born_there() -> anyhow::Result<()> {
    let world = world(Lives::Transit).await?;
    let authority = Authority::new("someone who keeps the key")?;
    let file = world.scratch().join("ca.pem");
    std::fs::write(&file, format!("{}\n{}", authority.certificate(), authority.key()?))?;
    let (dir, from) = (world.dir.display().to_string(), file.display().to_string());
    let import = ["ca", "import", CLUSTER, "--from", &from, "--custody", "transit", "--key", "planted", "--replace"];
    run_command(&[import.as_slice(), &["--reason", "tests", "--dir", &dir]].concat()).await?;
    let said = refused(&world, &["--custody", "transit", "--key", "planted"]).await;
    assert!(said.contains("was imported, so someone may hold it elsewhere"), "{said}");
    Ok(())
}
