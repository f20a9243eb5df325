//! Files and folders at other places than `init` puts them.

use std::fs;
use std::os::unix::net::UnixStream;

use ichor_client::Wish;
use ichor_tests::{CLUSTER, Options, Person, World, run_command};

#[tokio::test(flavor = "multi_thread")]
async fn everything_can_lie_elsewhere() -> anyhow::Result<()> {
    let world = World::with(Options {
        config: "[store]\npath = \"else/where.db\"\n[policies]\nfolder = \"rules\"\n[clusters]\nfolder = \"estate\"\n"
            .into(),
        edits: vec![
            ("[server]\n", "[server]\nname = \"broker-7\"\nadmin_socket = \"else/ctl.sock\"\n"),
            ("[custody]\n", "[custody]\nvault = \"safe\"\n"),
        ],
        prepare: Some(Box::new(|dir| {
            for (from, to) in [("vault", "safe"), ("policies", "rules"), ("clusters", "estate"), ("data", "else")] {
                fs::rename(dir.join(from), dir.join(to))?;
            }
            Ok(())
        })),
        ..Options::default()
    })
    .await?;
    let alice = Person::log_in(&world, "alice").await?;
    alice.certificate(&Wish { cluster: CLUSTER.into(), ..Wish::default() }).await?;

    for made in ["else/where.db", "else/ctl.sock", "safe/ca/prod.age", "estate/prod.toml", "rules/team.cedar"] {
        assert!(world.dir.join(made).exists(), "{made}");
    }
    for usual in ["data", "vault", "policies", "clusters"] {
        assert!(!world.dir.join(usual).exists(), "{usual} is there again");
    }
    // commands find the running broker there
    UnixStream::connect(world.dir.join("else/ctl.sock"))?;
    let said = run_command(&["reload", "--dir", &world.dir.to_string_lossy()]).await?;
    assert!(said.contains("policies"), "{said}");
    for entry in world.entries().await? {
        assert_eq!(entry.detail["broker"], "broker-7", "{entry:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tls_certificate_is_served() -> anyhow::Result<()> {
    let (ca_key, key) = (rcgen::KeyPair::generate()?, rcgen::KeyPair::generate()?);
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key)?.pem();
    let issuer = rcgen::Issuer::new(params, ca_key);
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()])?.signed_by(&key, &issuer)?;
    let (chain, key) = (leaf.pem(), key.serialize_pem());
    let world = World::with(Options {
        edits: vec![("\"tls/server.crt\"", "\"own/chain.pem\""), ("\"tls/server.key\"", "\"own/key.pem\"")],
        prepare: Some(Box::new(move |dir| {
            fs::create_dir(dir.join("own"))?;
            fs::write(dir.join("own/chain.pem"), chain)?;
            fs::write(dir.join("own/key.pem"), key)?;
            fs::remove_file(dir.join("tls/server.key"))?;
            // what this world's clients believe, and nothing else
            Ok(fs::write(dir.join("tls/ca.crt"), ca)?)
        })),
        ..Options::default()
    })
    .await?;
    let answer = world.http()?.get(world.at("/v1/session")).send().await?;
    assert_eq!(answer.status(), reqwest::StatusCode::UNAUTHORIZED);
    Ok(())
}
