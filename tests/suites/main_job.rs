//! The main job: someone logs in, gets a certificate, and it works at the node, with their name in the node's own log.

use ichor_client::Wish;
use ichor_tests::{CLUSTER, Person, World};
use ichor_wire::role::Role;

#[tokio::test(flavor = "multi_thread")]
async fn an_sre_logs_in_and_the_node_names_them() -> anyhow::Result<()> {
    let world = World::start().await?;
    let alice = Person::log_in(&world, "alice").await?;
    let described = alice.session.describe().await?;
    assert_eq!(
        (described.name.as_str(), described.groups.as_slice()),
        ("Alice Example", ["talos-users".to_owned()].as_slice())
    );

    let held = alice.certificate(&Wish { cluster: CLUSTER.into(), ..Wish::default() }).await?;
    assert_eq!(held.answer.roles, [Role::Reader]);
    let mut node = Person::connect(&world, &held).await?;
    node.version(&[]).await?;
    let refused = node.reboot(&[]).await.unwrap_err().to_string();
    assert!(refused.contains("not authorized"), "{refused}");

    let grant = format!("grant:{}", held.answer.grant_id);
    let line =
        world.node.log_lines().into_iter().find(|line| line.contains("/machine.MachineService/Version")).unwrap();
    assert!(line.contains(&grant) && line.contains("user:alice@example.test"), "{line}");

    let kinds: Vec<String> = world.entries().await?.into_iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds, ["issued", "grant", "login", "start", "ca", "admin"]);
    world.running.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_6_a_certificate_comes_with_a_receipt_that_the_logs_key_alone_verifies() -> anyhow::Result<()> {
    let world = World::start().await?;
    let alice = Person::log_in(&world, "alice").await?;
    let wish = ichor_client::Wish { cluster: CLUSTER.into(), ..Default::default() };
    let held = alice.certificate(&wish).await?;
    let said = ichor_tests::run_command(&["audit", "key", "--dir", &world.dir.display().to_string()]).await?;
    let key: ichor_wire::log::LogKey = said.parse()?;
    let receipt = held.answer.receipt;
    let content = receipt.verify(&key)?.entry.unwrap().content;
    assert_eq!(content.kind, ichor_wire::log::Kind::Issued);
    assert_eq!(content.grant, Some(held.answer.grant_id.as_bytes().to_vec()));
    let other = ichor_wire::log::LogKey::ed25519(key.name(), &[7; 32])?;
    assert!(receipt.verify(&other).is_err());
    Ok(())
}
