//! Keys that nothing needs any more, at servers: somebody is reminded of each until it is gone.

use ichor_tests::{CLUSTER, Lives, World, run_command};

use super::life::{ca, node, recorded};
use super::retiring::{past, rotated};
use super::{bao, operate, world};

/// What `check` and `ca show` say of what was left.
async fn told(world: &World) -> anyhow::Result<[String; 2]> {
    let dir = world.dir.display().to_string();
    Ok([run_command(&["check", "--dir", &dir]).await?, ca(world, &["show", CLUSTER]).await?])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_left_in_kv_is_told_until_it_is_gone() -> anyhow::Result<()> {
    const HELD: &str = "at main still holds the key of a CA that nothing needs";
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
        assert!(said.contains("secret/ichor/prod.3 at main may still hold, which cannot be seen"), "{said}");
    }
    Ok(())
}
