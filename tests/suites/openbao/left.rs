//! Keys that nothing needs any more, at servers: somebody is reminded of each until it is gone.

use ichor_standins::openbao::{OpenBao, Rule};
use ichor_tests::{CLUSTER, Lives, World, run_command};

use super::life::{ca, node, recorded};
use super::main_job::kv_fields;
use super::retiring::{past, rotated};
use super::{bao, operate, own_ca, world};

/// What `check` and `ca show` say of what was left.
async fn told(world: &World) -> anyhow::Result<[String; 2]> {
    let dir = world.dir.display().to_string();
    Ok([run_command(&["check", "--dir", &dir]).await?, ca(world, &["show", CLUSTER]).await?])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_left_in_kv_is_told_until_it_is_gone() -> anyhow::Result<()> {
    const HELD: &str = "at main still holds the key of a CA of `prod` that nothing needs";
    let world = world(Lives::Kv).await?;
    let bao = bao(&world);
    let is_told = async |path: &str, expected: bool| -> anyhow::Result<()> {
        for said in told(&world).await? {
            assert_eq!(said.contains(&format!("KV secret secret/{path} {HELD}")), expected, "{path}: {said}");
        }
        Ok(())
    };
    // dropped; the one in force is needed
    recorded(&world, &["rotate", CLUSTER, "--wait", "0s", "--node", &node(&world)]).await.unwrap_err();
    is_told("ichor/prod.2", false).await?;
    recorded(&world, &["rotate", CLUSTER, "--abandon"]).await?;
    is_told("ichor/prod.2", true).await?;
    is_told("ichor/prod", false).await?;
    operate(bao, http::Method::DELETE, "secret/metadata/ichor/prod.2").await?;
    is_told("ichor/prod.2", false).await?;
    // retired
    rotated(&world, &[]).await?;
    past(&world)?;
    is_told("ichor/prod", false).await?;
    recorded(&world, &["retire", CLUSTER]).await?;
    is_told("ichor/prod", true).await?;
    // moved
    let at = |said: &str| said.contains("KV secret secret/ichor/prod.3 at main");
    assert!(at(&ca(&world, &["show", CLUSTER]).await?));
    recorded(&world, &["move", CLUSTER, "--to", "transit"]).await?;
    is_told("ichor/prod.3", true).await?;
    // who cannot be asked is not taken to have nothing
    bao.deny("secret/data/*");
    for said in told(&world).await? {
        assert!(said.contains("secret/ichor/prod.3 at main may still hold the key of a CA of `prod`"), "{said}");
        assert!(said.contains("bao kv metadata delete -mount=secret ichor/prod.3"), "{said}");
    }
    recorded(&world, &["retire", CLUSTER, "--left"]).await?;
    for said in told(&world).await? {
        assert!(!said.contains("ichor/prod.3"), "{said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_cluster_needs_or_somebody_else_wrote_is_nobodys_leftover() -> anyhow::Result<()> {
    let world = world(Lives::Kv).await?;
    recorded(&world, &["move", CLUSTER, "--to", "transit"]).await?;
    let left = "secret/ichor/prod at main still holds the key";
    for said in told(&world).await? {
        assert!(said.contains(left), "{said}");
    }
    let refused = recorded(&world, &["retire", CLUSTER, "--left"]).await.unwrap_err().to_string();
    assert!(refused.contains("is still there; remove it with all its versions first"), "{refused}");
    // taken by another cluster since
    let record = world.dir.join("vault/ca/dev.toml");
    let kv = "[active]\ncustody = \"kv\"\nserver = \"main\"\nmount = \"secret\"\npath = \"ichor/prod\"\n";
    std::fs::write(&record, format!("cluster = \"dev\"\nversion = 1\ngeneration = 1\n{kv}"))?;
    assert!(!ca(&world, &["show", CLUSTER]).await?.contains(left));
    // one that cannot be read may need it
    std::fs::write(&record, "nonsense")?;
    assert!(!ca(&world, &["show", CLUSTER]).await?.contains(left));
    std::fs::remove_file(&record)?;
    assert!(ca(&world, &["show", CLUSTER]).await?.contains(left));
    // what is no CA of the cluster
    let (other, _) = own_ca(&world)?;
    bao(&world).write_secret("ichor/prod", kv_fields(&other));
    assert!(!ca(&world, &["show", CLUSTER]).await?.contains(left));
    bao(&world).write_secret("ichor/prod", serde_json::json!({ "password": "of somebody" }));
    assert!(!ca(&world, &["show", CLUSTER]).await?.contains(left));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_made_for_nothing_is_told_of() -> anyhow::Result<()> {
    let world = world(Lives::Kv).await?;
    let reads = |path: &str| Rule::new(&format!("secret/data/ichor/{path}"), ["read"]);
    // the operator's token may write, and the broker's may not read
    bao(&world).allow_only([reads("prod")]);
    let token = world.scratch().join("operator").display().to_string();
    std::fs::write(&token, OpenBao::ROOT_TOKEN)?;
    let rotate = ["rotate", CLUSTER, "--wait", "0s", "--node", &node(&world), "--token-file", &token];
    let failed = recorded(&world, &rotate).await.unwrap_err().to_string();
    assert!(failed.contains("nothing was put in force"), "{failed}");
    bao(&world).allow_only([reads("prod"), reads("prod.2")]);
    for said in told(&world).await? {
        assert!(said.contains("KV secret secret/ichor/prod.2 at main still holds the key of a CA"), "{said}");
    }
    // the same command goes on with what is there, which is needed then
    assert!(recorded(&world, &rotate).await.unwrap_err().to_string().contains("not every node accepts"));
    for said in told(&world).await? {
        assert!(!said.contains("still holds the key"), "{said}");
    }
    Ok(())
}
