//! What is asked of a provider, and what is made of its answers.

use anyhow::Context as _;
use ichor_client::Wish;
use ichor_standins::provider::{Client, GroupsIn};
use ichor_tests::{CLUSTER, Options, Person, World};
use jiff::SignedDuration;

async fn with(provider: &str) -> anyhow::Result<World> {
    World::with(Options { provider: provider.into(), ..Options::default() }).await
}

async fn groups(world: &World) -> anyhow::Result<Vec<String>> {
    Ok(Person::log_in(world, "alice").await?.session.describe().await?.groups)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_secret_is_sent() -> anyhow::Result<()> {
    let world = World::with(Options {
        provider: "client_secret_file = \"secret\"\n".into(),
        // with the newline that editors add
        prepare: Some(Box::new(|dir| Ok(std::fs::write(dir.join("secret"), "s3cret: +%\n")?))),
        ..Options::default()
    })
    .await?;
    let callback = world.at("/oauth/callback/corp");
    world.provider.add_client(Client::confidential("ichor", "s3cret: +%", [callback.as_str()]));
    Person::log_in(&world, "alice").await?;
    world.provider.add_client(Client::confidential("ichor", "another", [callback.as_str()]));
    assert!(Person::log_in(&world, "alice").await.is_err(), "the stand-in must look at it");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_found_where_configured() -> anyhow::Result<()> {
    let world = with("groups_claim = \"realm_access.roles\"\n").await?;
    world.provider.set_groups_in(GroupsIn::Nested(vec!["realm_access".into(), "roles".into()]));
    assert_eq!(groups(&world).await?, ["talos-users"]);
    let world = with("groups_from = \"userinfo\"\n").await?;
    world.provider.set_groups_in(GroupsIn::UserinfoOnly);
    assert_eq!(groups(&world).await?, ["talos-users"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_is_named_by_the_configured_claim() -> anyhow::Result<()> {
    let world = with("user_claims = [\"nickname\", \"preferred_username\"]\n").await?;
    let alice = Person::log_in(&world, "alice").await?;
    let held = alice.certificate(&Wish { cluster: CLUSTER.into(), ..Wish::default() }).await?;
    assert_eq!(held.answer.user, "alice");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_asked_again_as_configured() -> anyhow::Result<()> {
    for (recheck, refreshes) in [("refresh", 1), ("login-only", 0)] {
        let world = with(&format!("recheck = \"{recheck}\"\n")).await?;
        let alice = Person::log_in(&world, "alice").await?;
        world.clock.advance(SignedDuration::from_mins(6));
        alice.certificate(&Wish { cluster: CLUSTER.into(), ..Wish::default() }).await?;
        assert_eq!(world.provider.refreshes(), refreshes, "{recheck}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_come_from_a_file() -> anyhow::Result<()> {
    let world = World::with(Options {
        provider: "groups_file = \"groups.toml\"\n".into(),
        prepare: Some(Box::new(|dir| {
            Ok(std::fs::write(dir.join("groups.toml"), "\"sub-carol\" = [\"talos-users\"]\n")?)
        })),
        ..Options::default()
    })
    .await?;
    let carol = Person::log_in(&world, "carol").await?;
    carol.certificate(&Wish { cluster: CLUSTER.into(), ..Wish::default() }).await?;

    // who is taken out has nothing any more once groups are asked again; a file that cannot be read takes nothing away and gives nothing
    for (text, is_ok) in [("[", false), ("", true)] {
        std::fs::write(world.dir.join("groups.toml"), text)?;
        let checks = world.running.reload().await;
        assert!(checks.iter().any(|check| check.name == "groups" && check.ok == is_ok), "{checks:?}");
        world.clock.advance(SignedDuration::from_mins(6));
        let had = carol.certificate(&Wish { cluster: CLUSTER.into(), ..Wish::default() }).await;
        assert_eq!(had.is_err(), is_ok, "{text:?}: {had:?}");
    }
    // and whoever is in none learns where groups come from, by which subject, and not where the file lies
    let carol = Person::log_in(&world, "carol").await?;
    let refused = carol.certificate(&Wish { cluster: CLUSTER.into(), ..Wish::default() }).await;
    let steps = refused.err().context("a certificate for nobody")?.next_steps().join("\n");
    assert!(steps.contains("the broker's `groups_file` named one for the subject `sub-carol`"), "{steps}");
    assert!(!steps.contains("groups.toml"), "{steps}");
    Ok(())
}
