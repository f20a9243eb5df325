//! Certificates: what is granted, what is refused and why, and that a request cannot smuggle anything in.

use ichor_client::Wish;
use ichor_tests::{CLUSTER, Options, Person, World};
use ichor_wire::problem::Code;
use ichor_wire::role::Role;
use jiff::SignedDuration;
use x509_parser::prelude::FromDer;

fn wish(role: Role) -> Wish {
    Wish { cluster: CLUSTER.into(), roles: vec![role], ..Wish::default() }
}

/// The problem code of a refusal.
fn code(error: &ichor_client::Error) -> Option<Code> {
    match error {
        ichor_client::Error::Problem(problem) => Some(problem.code),
        ichor_client::Error::SessionEnded { .. } => Some(Code::SessionEnded),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_who_decided_and_what_would_help_and_is_recorded() -> anyhow::Result<()> {
    let world = World::start().await?;
    let oscar = Person::log_in(&world, "oscar").await?;
    let error = oscar.certificate(&wish(Role::Operator)).await.unwrap_err();
    let ichor_client::Error::Problem(problem) = &error else { panic!("{error}") };
    assert_eq!(problem.code, Code::Refused);
    assert!(problem.policies.contains(&"production-needs-a-reason".to_owned()), "{problem:?}");
    assert!(problem.help.join(" ").contains("reason"), "{problem:?}");
    let entries = world.entries().await?;
    assert_eq!(entries[0].kind, "refusal");
    assert_eq!(entries[0].user.as_deref(), Some("oscar@example.test"));

    let held = oscar.certificate(&Wish { reason: Some("INC-42".into()), ..wish(Role::Operator) }).await?;
    assert_eq!(held.answer.roles, [Role::Operator]);
    Person::connect(&world, &held).await?.reboot(&[]).await?;
    assert_eq!(world.node.reboots(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_4_nobody_gets_what_no_policy_permits() -> anyhow::Result<()> {
    let world = World::start().await?;
    let carol = Person::log_in(&world, "carol").await?;
    for role in Role::ALL {
        let asked = Wish { reason: Some("because".into()), ..wish(role) };
        assert_eq!(code(&carol.certificate(&asked).await.unwrap_err()), Some(Code::Refused), "{role}");
    }
    let kinds: Vec<String> = world.entries().await?.into_iter().map(|entry| entry.kind).collect();
    assert!(!kinds.iter().any(|kind| kind == "grant" || kind == "issued"), "{kinds:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn os_admin_needs_a_reason_a_second_factor_and_a_fresh_login_and_lasts_15_minutes() -> anyhow::Result<()> {
    let world =
        World::with(Options { provider: "acr_values = [\"mfa\"]\nmax_age = \"12h\"\n".into(), ..Options::default() })
            .await?;
    let root = Person::log_in(&world, "root").await?;
    let asked = Wish { reason: Some("INC-1".into()), ttl: Some(8 * 3600), ..wish(Role::Admin) };
    let held = root.certificate(&asked).await?;
    let life = held.answer.not_after.duration_since(ichor_broker::clock::Clock::now(&*world.clock));
    // a certificate's times are whole seconds
    assert!((SignedDuration::from_secs(15 * 60 - 1)..=SignedDuration::from_mins(15)).contains(&life), "{life}");

    let error = root.certificate(&wish(Role::Admin)).await.unwrap_err();
    assert_eq!(code(&error), Some(Code::Refused), "without a reason");
    world.clock.advance(SignedDuration::from_mins(61));
    let error = root.certificate(&asked).await.unwrap_err();
    let ichor_client::Error::Problem(problem) = &error else { panic!("{error}") };
    assert_eq!(problem.code, Code::Refused, "the login is older than an hour, and a refresh does not renew it");
    Ok(())
}

/// Neither the broker's folder, database and log included, nor an answer of its has what was made on the laptop.
#[tokio::test(flavor = "multi_thread")]
async fn promise_3_a_private_key_stays_where_it_was_made() -> anyhow::Result<()> {
    let world = World::start().await?;
    let held = Person::log_in(&world, "alice").await?.certificate(&wish(Role::Reader)).await?;
    let text: String = held.key.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = data_encoding::BASE64.decode(text.as_bytes())?;
    // PKCS #8 (RFC 8410 §7): an OCTET STRING with an OCTET STRING of 32 bytes
    let at = der.windows(4).position(|part| part == [0x04, 0x22, 0x04, 0x20]).unwrap() + 4;
    let secret = &der[at..at + 32];
    let has = |bytes: &[u8]| {
        bytes.windows(32).any(|part| part == secret) || bytes.windows(40).any(|part| part == &text.as_bytes()[20..60])
    };
    assert!(has(&der) && has(text.as_bytes()), "the test would find it");
    let (mut folders, mut read) = (vec![world.dir.clone()], 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                read += 1;
                assert!(!has(&std::fs::read(&path)?), "{}", path.display());
            }
        }
    }
    assert!(read > 5, "{read} files");
    assert!(!has(&serde_json::to_vec(&held.answer)?));
    Ok(())
}

/// CVE-2022-36103: everything in a request but its public key is ignored.
#[tokio::test(flavor = "multi_thread")]
async fn case_07_a_csr_that_asks_for_more_gets_nothing_of_it() -> anyhow::Result<()> {
    let world = World::start().await?;
    let alice = Person::log_in(&world, "alice").await?;
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
    let mut params = rcgen::CertificateParams::new(vec!["evil.example".to_owned()])?;
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "os:admin");
    params.distinguished_name.push(rcgen::DnType::CommonName, "root");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let csr = params.serialize_request(&key)?.pem()?;
    let body = serde_json::json!({ "csr": csr });
    let answer: ichor_wire::api::CertificateAnswer =
        alice.session.broker().post(&alice.session, &["clusters", CLUSTER, "certificates"], &body).await?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(answer.certificate.as_bytes())?;
    let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(&pem.contents)?;
    let subject = certificate.subject().to_string();
    assert!(subject.contains("os:reader") && subject.contains("user:alice@example.test"), "{subject}");
    assert!(!subject.contains("os:admin") && !subject.contains("root"), "{subject}");
    assert!(!certificate.is_ca());
    assert!(certificate.subject_alternative_name()?.is_none());
    let usage = certificate.extended_key_usage()?.unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_named_and_nothing_is_granted() -> anyhow::Result<()> {
    let world = World::start().await?;
    let alice = Person::log_in(&world, "alice").await?;
    let good = good_csr()?;
    let cases = [
        (serde_json::json!({ "csr": "no" }), Code::BadCsr),
        (serde_json::json!({ "csr": good, "roles": ["os:impersonator"] }), Code::UnknownRole),
        (serde_json::json!({ "csr": good, "roles": [" os:admin "] }), Code::UnknownRole),
        (serde_json::json!({ "csr": good, "subject": "O=os:admin" }), Code::UnknownField),
        (serde_json::json!({ "csr": good, "ttl": 1 }), Code::BadRequest),
        (serde_json::json!({ "csr": good, "ttl": -5 }), Code::BadRequest),
        (serde_json::json!({ "csr": good, "reason": "x".repeat(501) }), Code::BadRequest),
        (serde_json::json!({ "csr": good, "reason": "two\nlines" }), Code::BadRequest),
        (serde_json::json!([]), Code::BadRequest),
    ];
    for (body, expected) in cases {
        let path = ["clusters", CLUSTER, "certificates"];
        let answer: Result<serde_json::Value, _> = alice.session.broker().post(&alice.session, &path, &body).await;
        assert_eq!(code(&answer.unwrap_err()), Some(expected), "{body}");
    }
    let path = ["clusters", "nowhere", "certificates"];
    let body = serde_json::json!({ "csr": good });
    let answer: Result<serde_json::Value, _> = alice.session.broker().post(&alice.session, &path, &body).await;
    assert_eq!(code(&answer.unwrap_err()), Some(Code::UnknownCluster));
    let kinds: Vec<String> = world.entries().await?.into_iter().map(|entry| entry.kind).collect();
    assert!(!kinds.iter().any(|kind| kind == "grant"), "{kinds:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_5_who_left_gets_nothing_new_within_minutes() -> anyhow::Result<()> {
    let world = World::start().await?;
    let alice = Person::log_in(&world, "alice").await?;
    alice.certificate(&wish(Role::Reader)).await?;
    world.provider.set_groups("alice", []);
    alice.certificate(&wish(Role::Reader)).await?;
    world.clock.advance(SignedDuration::from_secs(301));
    assert_eq!(
        code(&alice.certificate(&wish(Role::Reader)).await.unwrap_err()),
        Some(Code::Refused),
        "groups are gone"
    );

    let oscar = Person::log_in(&world, "oscar").await?;
    world.provider.disable("oscar");
    world.clock.advance(SignedDuration::from_secs(301));
    let error = oscar.certificate(&wish(Role::Reader)).await.unwrap_err();
    assert_eq!(code(&error), Some(Code::SessionEnded), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_say_what_i_may_hold_and_why_not() -> anyhow::Result<()> {
    let world = World::start().await?;
    let alice = Person::log_in(&world, "alice").await?;
    let answer: ichor_wire::api::ClustersAnswer =
        alice.session.broker().get(&alice.session, &["clusters"], &[]).await?;
    let cluster = &answer.clusters[0];
    let reader = cluster.roles.iter().find(|role| role.role == Role::Reader).unwrap();
    assert!(reader.allowed && reader.max_ttl == Some(8 * 3600), "{reader:?}");
    let admin = cluster.roles.iter().find(|role| role.role == Role::Admin).unwrap();
    assert!(!admin.allowed && admin.why.is_some(), "{admin:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_is_read_by_policy_and_everyone_sees_their_own() -> anyhow::Result<()> {
    let world = World::start().await?;
    let alice = Person::log_in(&world, "alice").await?;
    alice.certificate(&wish(Role::Reader)).await?;
    let own = read(&alice, vec![("person", "me".into())]).await?;
    assert!(
        own.entries.len() >= 3 && own.entries.iter().all(|entry| entry.user.as_deref() == Some("alice@example.test"))
    );
    assert_eq!(code(&read(&alice, vec![]).await.unwrap_err()), Some(Code::Refused));
    assert_eq!(
        code(&read(&alice, vec![("person", "root@example.test".into())]).await.unwrap_err()),
        Some(Code::Refused)
    );

    let root = Person::log_in(&world, "root").await?;
    let all = read(&root, vec![("limit", "2".into())]).await?;
    assert_eq!(all.entries.len(), 2);
    let next = read(&root, vec![("limit", "2".into()), ("cursor", all.next.clone().unwrap())]).await?;
    assert_eq!(next.entries[0].index + 1, all.entries[1].index);
    let kinds = read(&root, vec![("kind", "audit-read".into())]).await?;
    assert!(!kinds.entries.is_empty(), "reading others' entries is itself recorded");
    let reads = async || anyhow::Ok(world.entries().await?.iter().filter(|entry| entry.kind == "audit-read").count());
    let before = reads().await?;
    assert_eq!(code(&read(&root, vec![("kind", "nonsense".into())]).await.unwrap_err()), Some(Code::BadRequest));
    assert_eq!(code(&read(&root, vec![("limit", "0".into())]).await.unwrap_err()), Some(Code::BadRequest));
    assert_eq!(code(&read(&root, vec![("cursor", "x".into())]).await.unwrap_err()), Some(Code::BadRequest));
    assert_eq!(reads().await?, before, "what was not read is not recorded as read");
    Ok(())
}

async fn read(
    person: &Person,
    query: Vec<(&'static str, String)>,
) -> Result<ichor_wire::api::AuditAnswer, ichor_client::Error> {
    person.session.broker().get(&person.session, &["audit", "entries"], &query).await
}

fn good_csr() -> anyhow::Result<String> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
    Ok(rcgen::CertificateParams::default().serialize_request(&key)?.pem()?)
}
