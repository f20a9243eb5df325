//! What somebody makes of a record, or publishes where a CA was: it ends no other CA, keeps none in force, and makes none of its own.

use anyhow::Context;
use ichor_standins::authority::Authority;
use ichor_tests::{CLUSTER, Lives, Person, World};

use super::life::{ca, node, recorded};
use super::retiring::{familiar, past, removal, rotated, sha256};
use super::{asks, bao, line, world};

/// The record with these words in the place of those, as whoever writes the vault's folder can have it.
fn forge(world: &World, those: &str, these: &str) -> anyhow::Result<()> {
    let path = world.dir.join("vault/ca/prod.toml");
    let text = std::fs::read_to_string(&path)?;
    anyhow::ensure!(text.contains(those), "{text}");
    Ok(std::fs::write(&path, text.replace(those, these))?)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_record_keeps_a_ca_in_force_that_is_retired() -> anyhow::Result<()> {
    let world = world(Lives::Age).await?;
    let alice = Person::log_in(&world, "alice").await?;
    let first = ca(&world, &["export-public", CLUSTER]).await?;
    // a former one that is to come again by the record
    rotated(&world, &[]).await?;
    recorded(&world, &["rotate", CLUSTER, "--wait", "0s", "--node", &node(&world)]).await.unwrap_err();
    past(&world)?;
    forge(&world, "prod.3.age", "prod.age")?;
    let said = recorded(&world, &["retire", CLUSTER]).await.unwrap_err().to_string();
    assert!(said.contains("is in force or to come as well"), "{said}");
    assert!(world.dir.join("vault/ca/prod.age").exists());
    // the one in force is to come again: what is compromised is refused all the same
    forge(&world, "file = \"prod.age\"", "file = \"prod.2.age\"")?;
    let second = ca(&world, &["export-public", CLUSTER]).await?;
    let said = recorded(&world, &["retire", CLUSTER, "--compromised", "--certificate", &sha256(&second)?]).await?;
    assert!(said.contains("by the record the CA to come is the same") && said.contains("--replace"), "{said}");
    assert!(familiar(&world, &second).await?.contains("was retired by an entry"));
    assert!(asks(&alice).await.is_err());
    assert!(!familiar(&world, &first).await?.contains("was retired"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_publishes_at_a_former_cas_place_is_not_retired_in_its_stead() -> anyhow::Result<()> {
    let world = world(Lives::Kv).await?;
    let first = ca(&world, &["export-public", CLUSTER]).await?;
    rotated(&world, &[]).await?;
    past(&world)?;
    let other = Authority::new("published there")?;
    let key = data_encoding::BASE64.encode(other.key()?.as_bytes());
    bao(&world).write_secret("ichor/prod", serde_json::json!({ "certificate": other.certificate(), "key": key }));
    recorded(&world, &["retire", CLUSTER]).await?;
    assert!(familiar(&world, &first).await?.contains("was retired by an entry"));
    assert!(removal(&world, &[&first]).await?.contains("0 other CAs stay"), "its certificate is there for the nodes");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_ca_is_retired_by_what_it_is_and_not_by_what_its_record_says() -> anyhow::Result<()> {
    let world = world(Lives::Age).await?;
    let first = ca(&world, &["export-public", CLUSTER]).await?;
    rotated(&world, &[]).await?;
    past(&world)?;
    let other = Authority::new("another")?.certificate();
    forge(&world, first.trim(), other.trim())?;
    recorded(&world, &["retire", CLUSTER]).await?;
    assert!(familiar(&world, &first).await?.contains("was retired by an entry"));
    assert!(familiar(&world, &other).await?.contains("which the audit log does not know"), "none that is not ours");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_rewrites_the_record_neither_publishes_a_ca_nor_has_the_cluster_make_certificates() -> anyhow::Result<()> {
    let world = world(Lives::Transit).await?;
    let alice = Person::log_in(&world, "alice").await?;
    let own = asks(&alice).await?.answer.issuing_ca;
    let record = world.dir.join("vault/ca/prod.toml");
    let good = std::fs::read_to_string(&record)?;
    let refused = async |text: &str, words: &str| -> anyhow::Result<()> {
        std::fs::write(&record, text)?;
        let said = line(&world, "ca prod").await;
        assert!(!said.ok && said.detail.as_deref().unwrap().contains(words), "{said:?}");
        assert_eq!(asks(&alice).await?.answer.issuing_ca, own);
        std::fs::write(&record, &good)?;
        Ok(())
    };
    // a secret that the broker reads, and that someone else writes
    let other = Authority::new("another client CA")?;
    bao(&world).write_secret("ichor/dev", super::main_job::kv_fields(&other));
    let (head, _) = good.split_once("[active]").context("a place")?;
    let kv = format!("{head}[active]\ncustody = \"kv\"\nserver = \"main\"\nmount = \"secret\"\npath = \"ichor/dev\"\n");
    refused(&kv, "which the audit log does not know").await?;
    let delegated = good.replace("generation = 1\n", "generation = 1\ndelegated = true\n");
    assert_ne!(delegated, good);
    refused(&delegated, "no entry of the log says so").await?;
    // where it is meant it is said, by the same command as ever
    std::fs::write(&record, delegated)?;
    recorded(&world, &["delegate", CLUSTER, "--offline"]).await?;
    assert!(line(&world, "ca prod").await.ok);
    assert!(asks(&alice).await?.key_made_by_cluster);
    recorded(&world, &["delegate", CLUSTER, "--end"]).await?;
    assert!(!asks(&alice).await?.key_made_by_cluster);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_in_force_that_is_written_down_as_the_one_to_come_is_not_dropped() -> anyhow::Result<()> {
    let world = world(Lives::Age).await?;
    let first = ca(&world, &["export-public", CLUSTER]).await?;
    recorded(&world, &["create", CLUSTER, "--replace"]).await?;
    let second = ca(&world, &["export-public", CLUSTER]).await?;
    let path = world.dir.join("vault/ca/prod.toml");
    let good = std::fs::read_to_string(&path)?;
    let (head, _) = good.split_once("[active]").context("a place")?;
    let age = |file: &str| format!("custody = \"age\"\nfile = \"{file}\"\n");
    let to_come = "[rotation]\nbegun = \"2026-11-22T12:00:00Z\"\nnodes = []\n";
    let forged = format!("{head}[active]\n{}\n{to_come}\n[rotation.next]\n{}", age("prod.age"), age("prod.2.age"));
    std::fs::write(&path, &forged)?;
    // a rotation that is none hides nothing of what the log says
    let said = line(&world, "ca prod").await;
    assert!(said.detail.as_deref().unwrap_or_default().contains("names another, with the certificate"), "{said:?}");
    let abandon = ["rotate", CLUSTER, "--abandon"];
    let refused = recorded(&world, &abandon).await.unwrap_err().to_string();
    assert!(refused.contains("may have issued, as the log has it, so nothing was dropped"), "{refused}");
    assert_eq!(std::fs::read_to_string(&path)?, forged);
    assert_eq!((familiar(&world, &first).await?, familiar(&world, &second).await?), ("Named".into(), "Named".into()));
    // who means it names it
    recorded(&world, &[&abandon[..], &["--certificate", &sha256(&second)?]].concat()).await?;
    assert!(familiar(&world, &second).await?.contains("was retired by an entry"));
    Ok(())
}
