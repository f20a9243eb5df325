//! The keys of `[audit]`: by what name the log goes, where its newest head lies, and for how long it may not.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ichor_broker::app::{Parts, Running, StartError};
use ichor_broker::clock::{Clock, FrozenClock, SystemClock};
use ichor_broker::config::Folder;
use ichor_broker::custody::{IdentitySource, LogPin, Vault};
use ichor_client::Wish;
use ichor_standins::openbao::Fault;
use ichor_tests::{CLUSTER, Lives, Options, Person, World, run_command};
use ichor_wire::log::{Checkpoint, LogKey};
use ichor_wire::problem::Code;
use jiff::SignedDuration;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

async fn verifier(world: &World) -> anyhow::Result<LogKey> {
    verifier_of(&world.dir.display().to_string()).await
}

/// The world's broker, started once more.
pub(super) async fn start(
    dir: &Path,
    clock: &Arc<FrozenClock>,
    url: &url::Url,
) -> anyhow::Result<Result<Running, StartError>> {
    let loaded = Folder::new(dir).load()?;
    let listener = std::net::TcpListener::bind(("127.0.0.1", url.port().unwrap()))?;
    listener.set_nonblocking(true)?;
    let parts = Parts {
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        vault: Vault::open(&loaded.settings.vault, IdentitySource::DangerBeside)?,
        listener: Some(listener),
        wrap_store: None,
        accept_clock: true,
        look: Duration::from_secs(3600),
    };
    Ok(Running::start(&loaded, parts).await)
}

async fn verifier_of(dir: &str) -> anyhow::Result<LogKey> {
    Ok(run_command(&["audit", "key", "--dir", dir]).await?.parse()?)
}

pub(super) async fn wish(alice: &Person) -> anyhow::Result<()> {
    alice.certificate(&Wish { cluster: CLUSTER.into(), ..Wish::default() }).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_named_and_anchored_as_configured() -> anyhow::Result<()> {
    let world = World::with(Options {
        config: "[audit]\nname = \"logs.example/ichor\"\nanchor_file = \"other/newest\"\ntile_token_file = \"token\"\n"
            .into(),
        prepare: Some(Box::new(|dir| {
            std::fs::create_dir(dir.join("other"))?;
            Ok(std::fs::write(dir.join("token"), TOKEN)?)
        })),
        ..Options::default()
    })
    .await?;
    let key = verifier(&world).await?;
    assert_eq!(key.name(), "logs.example/ichor");
    let alice = Person::log_in(&world, "alice").await?;
    wish(&alice).await?;
    let anchored = Checkpoint::parse_and_verify(&std::fs::read_to_string(world.dir.join("other/newest"))?, &key)?;
    assert!(anchored.size() >= 3, "{anchored:?}");

    let ask = async |path: &str, token: &str| {
        let asked = world.http()?.get(world.at(path)).header("authorization", format!("Bearer {token}"));
        anyhow::Ok(asked.send().await?)
    };
    let note = ask("/log/checkpoint", TOKEN).await?.error_for_status()?.text().await?;
    let checkpoint = Checkpoint::parse_and_verify(&note, &key)?;
    assert_eq!(ask("/log/checkpoint", "another token, as long").await?.status(), 401);
    let path = format!("/log/tile/0/000.p/{}", checkpoint.size());
    let hashes = ask(&path, TOKEN).await?.error_for_status()?.bytes().await?;
    let mut tree = ichor_wire::log::tree::Edge::default();
    for hash in hashes.as_chunks::<32>().0 {
        tree.push(*hash);
    }
    assert_eq!(
        (tree.size(), &tree.root()),
        (checkpoint.size(), checkpoint.root()),
        "the tile makes the checkpoint's tree"
    );
    assert_eq!(ask(&format!("/log/tile/0/000.p/{}", checkpoint.size() + 50), TOKEN).await?.status(), 404);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_checkpoint_lies_in_kv_where_configured() -> anyhow::Result<()> {
    let world = World::with(Options {
        config: "[audit]\nanchor_openbao = \"main\"\nanchor_mount = \"secret\"\nanchor_path = \"heads/ichor\"\nanchor_grace = \"2m\"\n".into(),
        custody: Lives::Kv,
        ..Options::default()
    })
    .await?;
    let bao = world.bao.as_ref().unwrap();
    let key = verifier(&world).await?;
    let alice = Person::log_in(&world, "alice").await?;
    wish(&alice).await?;
    let held = bao.secret("heads/ichor").unwrap();
    let note = held["checkpoint"].as_str().unwrap_or_else(|| panic!("{held}"));
    assert!(Checkpoint::parse_and_verify(note, &key)?.size() >= 3);

    bao.set_fault("secret/data/heads/ichor", Some(Fault::Status(503, "a test's fault".into())));
    wish(&alice).await?;
    world.clock.advance(SignedDuration::from_secs(121));
    let refused = alice.certificate(&Wish { cluster: CLUSTER.into(), ..Wish::default() }).await.unwrap_err();
    let code = match &refused {
        ichor_client::Error::Problem(problem) => Some(problem.code),
        _ => None,
    };
    assert_eq!(code, Some(Code::AuditUnavailable), "{refused}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_key_the_log_goes_on_as_long_as_configured() -> anyhow::Result<()> {
    let mut world = World::with(Options {
        config: "[audit]\nkey_grace = \"3m\"\n".into(),
        custody: Lives::Transit,
        ..Options::default()
    })
    .await?;
    let first = verifier(&world).await?;
    world.running.stop().await;
    let dir = world.dir.display().to_string();
    let rotated = run_command(&["audit", "rotate-key", "--to", "transit", "--reason", "tests", "--dir", &dir]).await?;
    assert!(rotated.contains("Transit key transit/ichor.audit version 1 at main, which never leaves"), "{rotated}");
    assert_ne!(verifier_of(&dir).await?, first);

    world.clock.advance(SystemClock.now().duration_since(world.clock.now()) + SignedDuration::from_millis(1));
    world.running = start(&world.dir, &world.clock, &world.url).await??;
    let alice = Person::log_in(&world, "alice").await?;
    wish(&alice).await?;

    let bao = world.bao.as_ref().unwrap();
    bao.set_fault("transit/sign/ichor.audit", Some(Fault::Status(503, "a test's fault".into())));
    wish(&alice).await?;
    world.clock.advance(SignedDuration::from_secs(181));
    let refused = wish(&alice).await.unwrap_err().to_string();
    assert!(refused.contains("the audit log"), "{refused}");
    Ok(())
}

/// Entries are recorded without the key for a time, and the one that changes it must not be: nobody could follow from the key before.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_stopped_signing_hands_the_log_over_to_no_other() -> anyhow::Result<()> {
    const SIGN: &str = "transit/sign/ichor.audit";
    let world = World::with(Options {
        config: "[audit]\nkey_grace = \"1h\"\n".into(),
        custody: Lives::Transit,
        ..Options::default()
    })
    .await?;
    world.running.stop().await;
    let dir = world.dir.display().to_string();
    let audit = async |command: &[&str]| run_command(&[&["audit"], command, &["--dir", dir.as_str()]].concat()).await;
    audit(&["rotate-key", "--to", "transit", "--reason", "tests"]).await?;
    let before = verifier_of(&dir).await?;
    let rotations = || LogPin::read(&world.dir.join("vault")).unwrap().unwrap().rotations;
    assert_eq!(rotations().len(), 1);

    // it signs so often and no more: the log is opened, and the entry recorded
    let bao = world.bao.as_ref().unwrap();
    let mut refused = String::new();
    for after in 0..9 {
        bao.spoil_after(SIGN, Fault::Status(503, "a test's fault".into()), after);
        refused = audit(&["rotate-key", "--reason", "tests"]).await.expect_err("it is not signed").to_string();
        if refused.contains("nobody could follow") {
            break;
        }
    }
    assert!(refused.contains("the key before has not signed entry ") && refused.contains("once more"), "{refused}");
    bao.set_fault(SIGN, None);
    assert_eq!((verifier_of(&dir).await?, rotations().len()), (before.clone(), 1));

    audit(&["rotate-key", "--reason", "tests"]).await?;
    let rotation = rotations().pop().unwrap();
    assert!(Checkpoint::parse_and_verify(&rotation.checkpoint, &before)?.size() > rotation.index);
    let said = audit(&["verify"]).await?;
    assert!(said.contains("no damage"), "{said}");
    Ok(())
}

/// A tool's certificate opens checkpoint and hash tiles, of the CA that is configured, and nothing else; whoever shows none is
/// asked for the token, and goes on as before elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_opens_the_tiles_alone() -> anyhow::Result<()> {
    let (ca, other) = (tools_ca()?, tools_ca()?);
    let pem = ca.pem();
    let world = World::with(Options {
        config: "[audit]\ntile_client_ca_file = \"tools.crt\"\n".into(),
        prepare: Some(Box::new(move |dir| Ok(std::fs::write(dir.join("tools.crt"), pem)?))),
        ..Options::default()
    })
    .await?;
    let tool = tool_of(&ca)?;
    let note =
        world.http_as(Some(&tool))?.get(world.at("/log/checkpoint")).send().await?.error_for_status()?.text().await?;
    let size = Checkpoint::parse_and_verify(&note, &verifier(&world).await?)?.size();
    let tile = format!("/log/tile/0/000.p/{size}");
    assert_eq!(world.http_as(Some(&tool))?.get(world.at(&tile)).send().await?.status(), 200);

    assert_eq!(world.http()?.get(world.at("/log/checkpoint")).send().await?.status(), 401);
    assert!(
        world.http_as(Some(&tool_of(&other)?))?.get(world.at("/log/checkpoint")).send().await.is_err(),
        "another CA's"
    );
    for closed in [format!("/log/tile/entries/000.p/{size}"), "/v1/audit/entries".to_owned(), "/v1/clusters".to_owned()]
    {
        assert_eq!(world.http_as(Some(&tool))?.get(world.at(&closed)).send().await?.status(), 401, "{closed}");
    }
    Person::log_in(&world, "alice").await?;

    let refused = behind_a_proxy(&world)?.load().unwrap_err().to_string();
    assert!(refused.contains("tile_client_ca_file") && refused.contains("behind a proxy"), "{refused}");
    Ok(())
}

/// The configuration of a broker whose TLS a proxy ends.
fn behind_a_proxy(world: &World) -> anyhow::Result<Folder> {
    let dir = world.scratch().join("proxied");
    std::fs::create_dir_all(&dir)?;
    let text = "[server]\npublic_url = \"https://b.example\"\nlisten = \"unix:/run/b.sock\"\n\
                [audit]\ntile_client_ca_file = \"tools.crt\"\n";
    std::fs::write(dir.join("config.toml"), text)?;
    Ok(Folder::new(dir))
}

fn tools_ca() -> anyhow::Result<rcgen::CertifiedIssuer<'static, rcgen::KeyPair>> {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    Ok(rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate()?)?)
}

/// A tool's certificate and key, PEM.
fn tool_of(ca: &rcgen::CertifiedIssuer<'static, rcgen::KeyPair>) -> anyhow::Result<String> {
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::default();
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, ca)?;
    Ok(certificate.pem() + &key.serialize_pem())
}
