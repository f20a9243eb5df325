//! The main job with each custody.

use std::time::Duration;

use ichor_standins::authority::Authority;
use ichor_tests::{CLUSTER, Lives, Options, Person, World, run_command};
use ichor_wire::role::Role;

use super::{asks, bao, line, own_ca, until_opened, world};

#[tokio::test(flavor = "multi_thread")]
async fn a_key_born_in_transit_signs_there_and_the_node_takes_it() -> anyhow::Result<()> {
    let world = world(Lives::Transit).await?;
    let alice = Person::log_in(&world, "alice").await?;
    let held = asks(&alice).await?;
    assert_eq!(held.answer.roles, [Role::Reader]);
    Person::connect(&world, &held).await?.version(&[]).await?;
    assert!(bao(&world).signatures() >= 2, "the CA's own and the certificate's");
    // the key never was anywhere else: no file of the vault holds a CA
    let files: Vec<_> =
        std::fs::read_dir(world.dir.join("vault/ca"))?.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files, ["prod.toml"]);
    let kinds: Vec<String> = world.entries().await?.into_iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds, ["issued", "grant", "login", "start", "ca", "ca", "admin"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_kv_signs_here_and_a_new_version_is_taken_up() -> anyhow::Result<()> {
    let world = world(Lives::Kv).await?;
    let alice = Person::log_in(&world, "alice").await?;
    let first = asks(&alice).await?;
    Person::connect(&world, &first).await?.version(&[]).await?;

    // someone writes another CA there: it is taken up whole
    assert!(bao(&world).secret("ichor/prod").is_some());
    let other = Authority::new("another client CA")?;
    bao(&world).write_secret("ichor/prod", kv_fields(&other));
    assert!(line(&world, "ca prod").await.ok);
    let second = asks(&alice).await?;
    assert_ne!(first.answer.issuing_ca, second.answer.issuing_ca);

    // and a pair that does not belong together is refused; the one before stays
    let third = Authority::new("a third")?;
    let mut bent = kv_fields(&other);
    bent["key"] = kv_fields(&third)["key"].clone();
    bao(&world).write_secret("ichor/prod", bent);
    let said = line(&world, "ca prod").await;
    assert!(!said.ok && said.detail.as_deref().unwrap().contains("key and certificate differ"), "{said:?}");
    assert_eq!(asks(&alice).await?.answer.issuing_ca, second.answer.issuing_ca);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_in_kv_is_taken_up_though_nobody_says_so() -> anyhow::Result<()> {
    let look = Some(Duration::from_millis(20));
    let world = World::with(Options { custody: Lives::Kv, look, ..Options::default() }).await?;
    let alice = Person::log_in(&world, "alice").await?;
    let first = asks(&alice).await?;
    let other = kv_fields(&Authority::new("another client CA")?);
    until_opened(&*world.running.store(), || bao(&world).write_secret("ichor/prod", other)).await?;
    // it is recorded before it is in force: what is asked for next waits for that
    assert!(line(&world, "ca prod").await.ok);
    assert_ne!(first.answer.issuing_ca, asks(&alice).await?.answer.issuing_ca);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imported_key_crosses_once_and_wrapped() -> anyhow::Result<()> {
    let world = world(Lives::Transit).await?;
    let dir = world.dir.display().to_string();
    let (authority, from) = own_ca(&world)?;
    let import = [
        "ca",
        "import",
        CLUSTER,
        "--from",
        &from,
        "--custody",
        "transit",
        "--replace",
        "--reason",
        "tests",
        "--dir",
        &dir,
    ];
    let said = run_command(&import).await?;
    assert!(said.contains("Transit key transit/ichor-prod.2 version 1 at main"), "{said}");
    let sent = bao(&world).requests();
    assert_eq!(sent.iter().filter(|request| request.path.ends_with("/import")).count(), 1);
    let body: String = authority.key().unwrap().lines().filter(|line| !line.starts_with('-')).collect();
    assert!(!sent.iter().any(|request| request.body.to_string().contains(&body)), "the key was sent unwrapped");
    // the running broker took it up
    world.node.set_accepted_cas(&authority.certificate())?;
    let alice = Person::log_in(&world, "alice").await?;
    Person::connect(&world, &asks(&alice).await?).await?.version(&[]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_signatures_travel_together() -> anyhow::Result<()> {
    let world = world(Lives::Transit).await?;
    let alice = Person::log_in(&world, "alice").await?;
    let before = bao(&world).batches().len();
    let mut hold = bao(&world).hold("transit/sign/*");
    let all = async {
        let asked = (0..32).map(|_| asks(&alice));
        futures_util::future::try_join_all(asked).await
    };
    let release = async {
        // as many calls as may be under way are held, and what comes meanwhile gathers
        hold.arrived(2).await;
        hold.release();
    };
    let (held, ()) = tokio::join!(all, release);
    assert_eq!(held?.len(), 32);
    let batches = &bao(&world).batches()[before..];
    assert_eq!(batches.iter().sum::<usize>(), 32);
    assert!(batches.len() < 32, "{batches:?}");
    assert_eq!(bao(&world).logins(), 2, "one of the command that made the CA, one of the broker");
    Ok(())
}

/// A CA as `ca create --custody kv` writes it.
pub(super) fn kv_fields(authority: &Authority) -> serde_json::Value {
    let key: String = authority.key().unwrap().lines().filter(|line| !line.starts_with('-')).collect();
    serde_json::json!({ "certificate": authority.certificate(), "key": key })
}
