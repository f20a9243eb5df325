//! CAs of every kind that clusters have, brought to Transit by `ca import`, judged by the node.

use ichor_tests::{CLUSTER, Lives, Person, World, run_command};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};

use super::{asks, world};

/// Imports a CA with this key as an operator does.
async fn import(world: &World, key: &KeyPair) -> anyhow::Result<()> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(DnType::OrganizationName, "talos");
    let certificate = params.self_signed(key)?.pem();
    let file = world.scratch().join("ca.pem");
    std::fs::write(&file, format!("{certificate}\n{}", key.serialize_pem()))?;
    let (dir, from) = (world.dir.display().to_string(), file.display().to_string());
    let import = ["ca", "import", CLUSTER, "--from", &from, "--replace", "--reason", "tests", "--dir", &dir];
    run_command(&[import.as_slice(), &["--custody", "transit"]].concat()).await?;
    world.node.set_accepted_cas(&certificate)
}

#[tokio::test(flavor = "multi_thread")]
async fn ecdsa_and_rsa_cas_sign_in_transit_and_the_node_takes_it() -> anyhow::Result<()> {
    let world = world(Lives::Transit).await?;
    let alice = Person::log_in(&world, "alice").await?;
    for kind in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_RSA_SHA256] {
        import(&world, &KeyPair::generate_for(kind)?).await?;
        let held = asks(&alice).await?;
        Person::connect(&world, &held).await?.version(&[]).await?;
    }
    Ok(())
}
