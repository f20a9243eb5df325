//! What ends a CA's use: retired, in one step or in several, taken away at its server; and that no new CA has an
//! old one's key.

use anyhow::Context;
use data_encoding::BASE64;
use ichor_broker::app;
use ichor_broker::config::Folder;
use ichor_broker::custody::ca::CaFacts;
use ichor_broker::domain::ClusterName;
use ichor_standins::openbao::Fault;
use ichor_tests::{CLUSTER, Lives, Person, World};
use ichor_wire::profile::CaCertificate;

use super::life::{ca, next, node, recorded};
use super::{asks, bao, line, operate, own_ca, world};

/// A new CA that the world's node accepts is in force.
pub(super) async fn rotated(world: &World, options: &[&str]) -> anyhow::Result<()> {
    let begin = ["rotate", CLUSTER, "--wait", "0s", "--node", &node(world)];
    let said = recorded(world, &[&begin[..], options].concat()).await.unwrap_err().to_string();
    assert!(said.contains("not every node accepts the new CA yet"), "{said}");
    world.node.set_accepted_cas(&next(world).await?)?;
    recorded(world, &["rotate", CLUSTER, "--continue", "--wait", "0s"]).await?;
    Ok(())
}

/// The record says that the former CAs issued long ago.
pub(super) fn past(world: &World) -> anyhow::Result<()> {
    let path = world.dir.join("vault/ca/prod.toml");
    let text = std::fs::read_to_string(&path)?;
    let line = |line: &str| match line.starts_with("until = ") {
        true => "until = \"2020-01-01T00:00:00Z\"\n".to_owned(),
        false => format!("{line}\n"),
    };
    Ok(std::fs::write(&path, text.lines().map(line).collect::<String>())?)
}

/// What is printed for a node that accepts these CAs.
pub(super) async fn removal(world: &World, cas: &[&str]) -> anyhow::Result<String> {
    let config = world.scratch().join("node.yaml");
    let listed: String = cas.iter().map(|pem| format!("    - crt: {}\n", BASE64.encode(pem.as_bytes()))).collect();
    std::fs::write(&config, format!("version: v1alpha1\nmachine:\n  type: worker\n  acceptedCAs:\n{listed}"))?;
    let (config, output) = (config.display().to_string(), world.scratch().display().to_string());
    ca(world, &["removal-patch", CLUSTER, "--former", "--machine-config", &config, "--output", &output]).await
}

/// What the log says of this CA.
pub(super) async fn familiar(world: &World, pem: &str) -> anyhow::Result<String> {
    let known = app::known_cas(&Folder::new(&world.dir).load()?.settings).await?;
    let said = known.check(&ClusterName::new(CLUSTER)?, &CaCertificate::parse(pem)?);
    Ok(said.map_or_else(|error| error.to_string(), |familiar| format!("{familiar:?}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_former_ca_leaves_is_its_certificate_for_the_nodes() -> anyhow::Result<()> {
    for (custody, name) in [(Lives::Age, "age"), (Lives::Kv, "kv"), (Lives::Transit, "transit")] {
        let world = world(custody).await?;
        let old = ca(&world, &["export-public", CLUSTER]).await?;
        // at once, so that the record has no certificate of the one in a file or secret
        recorded(&world, &["create", CLUSTER, "--replace", "--custody", name]).await?;
        let new = ca(&world, &["export-public", CLUSTER]).await?;
        let early = recorded(&world, &["retire", CLUSTER]).await.unwrap_err().to_string();
        assert!(early.contains("may be valid until"), "{early}");
        assert_eq!(familiar(&world, &old).await?, "Named");
        past(&world)?;
        let said = recorded(&world, &["retire", CLUSTER]).await?;
        assert!(said.contains("removal-patch prod --former"), "{said}");
        let told = if custody == Lives::Age { "removed age file prod.age" } else { "remove it at the server" };
        assert!(said.contains(told) && !world.dir.join("vault/ca/prod.age").exists(), "{said}");
        // the command that it prints works, and leaves the CA in force
        let said = removal(&world, &[&old, &new]).await?;
        assert!(said.contains("1 other CAs stay"), "{said}");
        assert!(familiar(&world, &old).await?.contains("was retired by an entry"));
        assert_eq!(familiar(&world, &new).await?, "Named");
        assert!(!std::fs::read_to_string(world.dir.join("vault/ca/prod.toml"))?.contains("[[former]]"));
        let again = recorded(&world, &["retire", CLUSTER]).await.unwrap_err().to_string();
        assert!(again.contains("no former CA of cluster `prod` is left"), "{again}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_former_ca_is_retired_while_the_one_in_force_cannot_be_told_from_it() -> anyhow::Result<()> {
    let world = world(Lives::Kv).await?;
    let (authority, from) = own_ca(&world)?;
    // one CA, in the vault first and then in KV
    for custody in ["age", "kv"] {
        recorded(&world, &["import", CLUSTER, "--from", &from, "--custody", custody, "--replace"]).await?;
    }
    let alice = Person::log_in(&world, "alice").await?;
    asks(&alice).await?;
    past(&world)?;
    bao(&world).seal();
    let said = recorded(&world, &["retire", CLUSTER]).await.unwrap_err().to_string();
    assert!(said.contains("cannot be read") && said.contains("nothing was retired"), "{said}");
    assert_eq!(familiar(&world, &authority.certificate()).await?, "Named");
    bao(&world).unseal();
    recorded(&world, &["retire", CLUSTER]).await?;
    // what is in force is not retired with the copy of it that is not
    assert_eq!(familiar(&world, &authority.certificate()).await?, "Named");
    asks(&alice).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_was_imported_twice_is_former_and_in_force_also_during_a_rotation() -> anyhow::Result<()> {
    let world = world(Lives::Kv).await?;
    let (authority, from) = own_ca(&world)?;
    for custody in ["age", "kv"] {
        recorded(&world, &["import", CLUSTER, "--from", &from, "--custody", custody, "--replace"]).await?;
    }
    recorded(&world, &["rotate", CLUSTER, "--wait", "0s", "--node", &node(&world)]).await.unwrap_err();
    past(&world)?;
    recorded(&world, &["retire", CLUSTER]).await?;
    assert_eq!(familiar(&world, &authority.certificate()).await?, "Named");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retirement_that_was_ended_in_between_is_gone_on_with() -> anyhow::Result<()> {
    let world = world(Lives::Age).await?;
    let alice = Person::log_in(&world, "alice").await?;
    let old = ca(&world, &["export-public", CLUSTER]).await?;
    rotated(&world, &[]).await?;
    past(&world)?;
    // the file went, and the record was not written yet
    std::fs::remove_file(world.dir.join("vault/ca/prod.age"))?;
    recorded(&world, &["retire", CLUSTER]).await?;
    assert!(removal(&world, &[&old]).await?.contains("0 other CAs stay"));
    assert!(familiar(&world, &old).await?.contains("was retired by an entry"));
    asks(&alice).await?;

    // a compromised one: its digest is in the log, and nothing else was done
    let (record, key) = (world.dir.join("vault/ca/prod.toml"), world.dir.join("vault/ca/prod.2.age"));
    let aside = world.dir.join("vault/ca/prod.2.age.retired");
    let before = std::fs::read(&record)?;
    let second = ca(&world, &["export-public", CLUSTER]).await?;
    let compromised = ["retire", CLUSTER, "--compromised"];
    recorded(&world, &compromised).await?;
    std::fs::write(&record, &before)?;
    std::fs::rename(&aside, &key)?;
    let said = line(&world, "ca prod").await;
    assert!(!said.ok && said.detail.as_deref().unwrap().contains("was retired by an entry"), "{said:?}");
    assert!(asks(&alice).await.is_err());
    assert!(recorded(&world, &compromised).await?.contains("issues no more"));
    assert!(aside.exists() && !key.exists());
    assert!(removal(&world, &[&second]).await?.contains("0 other CAs stay"));

    // the record was written, and the key not set aside
    std::fs::rename(&aside, &key)?;
    assert!(ca(&world, &["show", CLUSTER]).await?.contains("`vault/ca/prod.2.age` still holds the key of a CA"));
    let said = recorded(&world, &compromised).await?;
    assert!(said.contains("was retired before, and its key is set aside now"), "{said}");
    assert!(aside.exists() && !key.exists());
    let said = recorded(&world, &compromised).await.unwrap_err().to_string();
    assert!(said.contains("was retired already: none is in force"), "{said}");
    Ok(())
}

/// The SHA-256 of a certificate, hex.
pub(super) fn sha256(pem: &str) -> anyhow::Result<String> {
    Ok(CaFacts::of(&CaCertificate::parse(pem)?).fingerprint)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compromised_ca_that_is_retired_twice_takes_no_other_with_it() -> anyhow::Result<()> {
    for custody in [Lives::Age, Lives::Transit] {
        let world = world(custody).await?;
        let alice = Person::log_in(&world, "alice").await?;
        let first = ca(&world, &["export-public", CLUSTER]).await?;
        recorded(&world, &["rotate", CLUSTER, "--wait", "0s", "--node", &node(&world)]).await.unwrap_err();
        let second = next(&world).await?;
        let (first, second) = (sha256(&first)?, sha256(&second)?);
        let retire = ["retire", CLUSTER, "--compromised"];
        let named = async |sha256: &str| recorded(&world, &[&retire[..], &["--certificate", sha256]].concat()).await;
        let record = || std::fs::read(world.dir.join("vault/ca/prod.toml")).unwrap();

        // with a rotation under way it is said which: both are listed
        let before = record();
        let said = recorded(&world, &retire).await.unwrap_err().to_string();
        assert!(said.contains(&first) && said.contains(&second) && said.contains("to come by the rotation"), "{said}");
        let said = named(&second).await.unwrap_err().to_string();
        assert!(said.contains("--abandon"), "{said}");
        assert!(named(&"7".repeat(64)).await.unwrap_err().to_string().contains("has no CA with such a certificate"));
        assert_eq!(record(), before);
        let said = named(&first[..8]).await?;
        assert!(said.contains("issues no more") && said.contains("removal-patch prod --former"), "{said}");
        world.node.set_accepted_cas(&ca(&world, &["export-public", CLUSTER]).await?)?;
        asks(&alice).await?;

        // once more, and again without a name
        let before = record();
        let said = named(&first).await?;
        assert!(
            said.contains("was retired as compromised before") && said.contains("removal-patch prod --former"),
            "{said}"
        );
        let said = recorded(&world, &retire).await.unwrap_err().to_string();
        assert!(said.contains(&format!("sha256 {second}")) && said.contains("retired as compromised was"), "{said}");
        assert_eq!(record(), before);
        asks(&alice).await?;
        // who means the second says so
        named(&second.to_uppercase()).await?;
        assert!(asks(&alice).await.is_err());
        let said = recorded(&world, &retire).await.unwrap_err().to_string();
        assert!(said.contains("was retired already: none is in force"), "{said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_ca_that_is_compromised_is_refused_at_once_and_the_one_in_force_stays() -> anyhow::Result<()> {
    for (custody, name) in [(Lives::Age, "age"), (Lives::Transit, "transit")] {
        let world = world(custody).await?;
        let alice = Person::log_in(&world, "alice").await?;
        let old = ca(&world, &["export-public", CLUSTER]).await?;
        recorded(&world, &["create", CLUSTER, "--replace", "--custody", name]).await?;
        let early = recorded(&world, &["retire", CLUSTER]).await.unwrap_err().to_string();
        assert!(early.contains("may be valid until"), "{early}");
        assert_eq!(familiar(&world, &old).await?, "Named");
        for words in ["which issued before, is refused from now on", "was retired as compromised before"] {
            let said = recorded(&world, &["retire", CLUSTER, "--compromised", "--certificate", &sha256(&old)?]).await?;
            assert!(said.contains(words) && said.contains("removal-patch prod --former"), "{said}");
            assert!(familiar(&world, &old).await?.contains("was retired by an entry"));
            asks(&alice).await?;
        }
        assert!(!world.dir.join("vault/ca/prod.age").exists());
        assert_eq!(world.dir.join("vault/ca/prod.age.retired").exists(), name == "age");
        assert!(removal(&world, &[&old]).await?.contains("0 other CAs stay"));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_was_dropped_can_be_taken_out_of_the_nodes() -> anyhow::Result<()> {
    for custody in [Lives::Age, Lives::Kv, Lives::Transit] {
        let world = world(custody).await?;
        let old = ca(&world, &["export-public", CLUSTER]).await?;
        recorded(&world, &["rotate", CLUSTER, "--wait", "0s", "--node", &node(&world)]).await.unwrap_err();
        let dropped = next(&world).await?;
        let record = std::fs::read(world.dir.join("vault/ca/prod.toml"))?;
        for _ in 0..2 {
            let said = recorded(&world, &["rotate", CLUSTER, "--abandon"]).await?;
            assert!(said.contains("removal-patch prod --former") && !said.contains("goes on to name"), "{said}");
            assert!(removal(&world, &[&old, &dropped]).await?.contains("1 other CAs stay"));
            assert!(familiar(&world, &dropped).await?.contains("was retired by an entry"));
            // as where it was ended behind its entry
            std::fs::write(world.dir.join("vault/ca/prod.toml"), &record)?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_ca_has_no_key_that_the_cluster_has_or_had() -> anyhow::Result<()> {
    for (custody, name, keys) in [
        (Lives::Transit, "transit", ["ichor-prod", "ichor-prod.2", "ichor-prod.3"]),
        (Lives::Kv, "kv", ["ichor/prod", "ichor/prod.2", "ichor/prod.3"]),
    ] {
        let world = world(custody).await?;
        let [first, second, third] = keys;
        let [old, in_force, under_way] =
            ["a new CA needs a new key", "is this cluster's CA in force", "a rotation of cluster `prod` is under way"];
        // what is written into the secret of the one in force issues at once
        let active = if custody == Lives::Kv { in_force } else { old };
        let refused = async |command: &[&str], key: &str, why: &str| {
            let before = std::fs::read(world.dir.join("vault/ca/prod.toml")).unwrap();
            let said = recorded(&world, &[command, &["--key", key]].concat()).await.unwrap_err().to_string();
            assert!(said.contains(why), "{command:?} {key}: {said}");
            assert_eq!(std::fs::read(world.dir.join("vault/ca/prod.toml")).unwrap(), before);
        };
        let rotate: &[&str] = &["rotate", CLUSTER, "--wait", "0s", "--node", &node(&world)];
        let create: &[&str] = &["create", CLUSTER, "--replace", "--custody", name];
        // the one in force, and the one that is to come
        refused(rotate, first, active).await;
        refused(create, first, active).await;
        recorded(&world, rotate).await.unwrap_err();
        refused(create, second, under_way).await;
        // one that was dropped, which only the log tells
        recorded(&world, &["rotate", CLUSTER, "--abandon"]).await?;
        refused(rotate, second, old).await;
        // one that issued before, and one that was retired
        rotated(&world, &["--key", third]).await?;
        refused(rotate, first, old).await;
        refused(create, first, old).await;
        past(&world)?;
        recorded(&world, &["retire", CLUSTER]).await?;
        refused(rotate, first, old).await;
        recorded(&world, &["retire", CLUSTER, "--compromised"]).await?;
        refused(create, third, old).await;
        recorded(&world, create).await?;
        assert!(line(&world, "ca prod").await.ok);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compromised_ca_is_retired_while_its_server_is_out_and_a_rotation_under_way() -> anyhow::Result<()> {
    let world = world(Lives::Kv).await?;
    let old = ca(&world, &["export-public", CLUSTER]).await?;
    recorded(&world, &["rotate", CLUSTER, "--wait", "0s", "--node", &node(&world)]).await.unwrap_err();
    bao(&world).deny("secret/data/*");
    // both are unread: the log tells which secret it lies in
    let fingerprint = sha256(&old)?;
    let said = recorded(&world, &["retire", CLUSTER, "--compromised", "--certificate", &fingerprint]).await?;
    assert!(said.contains("KV secret secret/ichor/prod at main issues no more"), "{said}");
    assert!(said.contains("from now on: KV secret secret/ichor/prod.2"), "{said}");
    assert!(familiar(&world, &old).await?.contains("was retired by an entry"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_ca_takes_the_place_of_one_that_was_retired_or_lost() -> anyhow::Result<()> {
    let world = world(Lives::Kv).await?;
    let alice = Person::log_in(&world, "alice").await?;
    operate(bao(&world), http::Method::DELETE, "secret/metadata/ichor/prod").await?;
    rotated(&world, &["--custody", "age"]).await?;
    asks(&alice).await?;
    recorded(&world, &["retire", CLUSTER, "--compromised"]).await?;
    assert!(asks(&alice).await.is_err());
    rotated(&world, &["--custody", "transit"]).await?;
    let held = asks(&alice).await?;
    Person::connect(&world, &held).await?.version(&[]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_taken_away_ends_its_ca_and_an_outage_does_not() -> anyhow::Result<()> {
    let world = world(Lives::Kv).await?;
    let alice = Person::log_in(&world, "alice").await?;
    let bao = bao(&world);
    let good = bao.secret("ichor/prod").context("a secret")?;
    // nothing of this says that the secret is gone
    let nowhere = "no handler for route \"secret/data/ichor/prod\". route entry not found.";
    for fault in [
        Fault::Status(404, nowhere.into()),
        Fault::Status(403, "1 error occurred:\n\t* permission denied\n\n".into()),
        Fault::Status(503, "Vault is sealed".into()),
        Fault::Garbage,
    ] {
        bao.set_fault("secret/data/*", Some(fault.clone()));
        let said = line(&world, "ca prod").await;
        assert!(!said.ok, "{fault:?}: {said:?}");
        asks(&alice).await?;
        bao.set_fault("secret/data/*", None);
        assert!(line(&world, "ca prod").await.ok);
    }
    for path in ["secret/data/ichor/prod", "secret/metadata/ichor/prod"] {
        operate(bao, http::Method::DELETE, path).await?;
        let said = line(&world, "ca prod").await;
        assert!(!said.ok && said.detail.as_deref().unwrap().contains("there is no secret at"), "{path}: {said:?}");
        assert!(asks(&alice).await.is_err(), "{path}");
        bao.write_secret("ichor/prod", good.clone());
        assert!(line(&world, "ca prod").await.ok);
        asks(&alice).await?;
    }
    Ok(())
}
