//! Certificates and clusters.

use ichor_broker::clock::Clock;
use ichor_client::Wish;
use ichor_tests::{CLUSTER, Options, Person, World};
use ichor_wire::role::Role;
use jiff::SignedDuration;

fn wish() -> Wish {
    Wish { cluster: CLUSTER.into(), ..Wish::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn lives_are_as_configured() -> anyhow::Result<()> {
    let world = World::with(Options {
        edits: vec![
            ("default_ttl = \"1h\"", "default_ttl = \"10m\"\nbackdate = \"5m\""),
            ("max_ttl = \"24h\"", "max_ttl = \"20m\""),
        ],
        ..Options::default()
    })
    .await?;
    let alice = Person::log_in(&world, "alice").await?;
    // A certificate's times are whole seconds.
    let is = |span: SignedDuration, minutes: i64| (span - SignedDuration::from_mins(minutes)).abs().as_secs() == 0;
    let now = world.clock.now();
    let usual = alice.certificate(&wish()).await?.answer;
    assert!(is(usual.not_after.duration_since(now), 10), "{usual:?}");
    assert!(is(now.duration_since(usual.not_before), 5), "{usual:?}");
    let longest = alice.certificate(&Wish { ttl: Some(8 * 3600), ..wish() }).await?.answer;
    assert!(is(longest.not_after.duration_since(now), 20), "{longest:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clusters_file_says_what_clients_get() -> anyhow::Result<()> {
    let world = World::start().await?;
    let oscar = Person::log_in(&world, "oscar").await?;
    // where the label says production, nobody operates without a reason
    let operate = || Wish { roles: vec![Role::Operator], ..wish() };
    assert!(oscar.certificate(&operate()).await.is_err());
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&rcgen::KeyPair::generate()?)?.pem();
    let file = format!(
        "endpoints = [\"talos.example\"]\nnodes = [\"192.0.2.7\"]\nca = \"\"\"\n{ca}\"\"\"\n[labels]\nenv = \"lab\"\n"
    );
    std::fs::write(world.dir.join("clusters/prod.toml"), file)?;
    assert!(world.running.reload().await.iter().all(|check| check.ok));
    let answer = oscar.certificate(&operate()).await?.answer;
    assert_eq!((answer.endpoints, answer.nodes), (vec!["talos.example".to_owned()], vec!["192.0.2.7".to_owned()]));
    assert_eq!(answer.ca.trim(), ca.trim());
    Ok(())
}
