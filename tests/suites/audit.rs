//! What the broker answers about its log, checked by someone who has the log's key and nothing else.

use ichor_broker::config::Folder;
use ichor_client::audit::tiles::Tiles;
use ichor_client::dpop::{DpopKey, ProofOf};
use ichor_client::environment::Environment;
use ichor_client::session::{KeptIn, SessionStore};
use ichor_client::{Error, Wish};
use ichor_tests::{CLUSTER, Lives, Options, Person, World, run_command};
use ichor_wire::api::{
    AuditKeyAnswer, ConsistencyAnswer, DropAnswer, DropAsk, DroppedAnswer, Nothing, ProofFile, Receipt, StoryAnswer,
};
use ichor_wire::log::tiles::unbundle;
use ichor_wire::log::tree::{Edge, Hash, verify_consistency};
use ichor_wire::log::{Checkpoint, Kind, LogKey, leaf_hash, proof, verify};
use ichor_wire::problem::{Code, Problem};
use reqwest::StatusCode;
use serde::de::DeserializeOwned;
use uuid::Uuid;

/// The token of the log's tiles.
const TILE_TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A world that serves tiles, and the log's key as its operator hands it out.
async fn world() -> anyhow::Result<(World, LogKey)> {
    world_with(None).await
}

/// The same with policies of one's own.
async fn world_with(policies: Option<&'static str>) -> anyhow::Result<(World, LogKey)> {
    let world = World::with(Options {
        config: "[audit]\ntile_token_file = \"tile-token\"\ndrop_min_age = \"24h\"\n".into(),
        prepare: Some(Box::new(|dir| Ok(std::fs::write(dir.join("tile-token"), TILE_TOKEN)?))),
        policies,
        ..Options::default()
    })
    .await?;
    let key = run_command(&["audit", "key", "--dir", &world.dir.display().to_string()]).await?.trim().parse()?;
    Ok((world, key))
}

/// What a person is answered about the log.
async fn asked<T: DeserializeOwned>(person: &Person, path: &[&str], query: &[(&str, u64)]) -> Result<T, Error> {
    let query: Vec<_> = query.iter().map(|(name, value)| (*name, value.to_string())).collect();
    person.session.broker().get(&person.session, &[&["audit"], path].concat(), &query).await
}

/// The code of what was refused.
fn refused<T>(answer: Result<T, Error>) -> Option<Code> {
    match answer {
        Err(Error::Problem(problem)) => Some(problem.code),
        _ => None,
    }
}

/// What lies below `/log`, by the tiles' token.
async fn below_log(world: &World, path: &str) -> anyhow::Result<Vec<u8>> {
    let request = world.http()?.get(world.at(&format!("/log/{path}"))).bearer_auth(TILE_TOKEN);
    Ok(request.send().await?.error_for_status()?.bytes().await?.to_vec())
}

/// The newest checkpoint, verified.
async fn newest(world: &World, key: &LogKey) -> anyhow::Result<Checkpoint> {
    Ok(Checkpoint::parse_and_verify(&String::from_utf8(below_log(world, "checkpoint").await?)?, key)?)
}

/// The bytes that a session's owner gets from a path.
async fn bytes(world: &World, person: &Person, path: &str) -> anyhow::Result<(StatusCode, Vec<u8>)> {
    let scratch = tempfile::tempdir_in(world.scratch())?;
    let KeptIn::File(file) = SessionStore::new(&Environment::isolated(scratch.path()))?.save(&person.session)? else {
        anyhow::bail!("the keyring is off")
    };
    let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(file)?)?;
    let token = kept["token"].as_str().unwrap();
    let key = DpopKey::from_pkcs8(data_encoding::BASE64.decode(kept["key"].as_str().unwrap().as_bytes())?.into())?;
    let (url, now) = (world.at(path).parse()?, ichor_broker::clock::Clock::now(&*world.clock));
    let mut nonce: Option<String> = None;
    loop {
        let proof = key.proof(
            ProofOf { method: "GET", url: &url, token: Some(token), nonce: nonce.as_deref(), body: None },
            now,
        )?;
        let request = world.http()?.get(url.clone()).header("authorization", format!("DPoP {token}"));
        let answer = request.header("dpop", proof).send().await?;
        let fresh = answer.headers().get("dpop-nonce").and_then(|nonce| nonce.to_str().ok()).map(str::to_owned);
        let (status, body) = (answer.status(), answer.bytes().await?.to_vec());
        if status == StatusCode::UNAUTHORIZED && nonce.is_none() {
            nonce = fresh;
            continue;
        }
        return Ok((status, body));
    }
}

fn code(body: &[u8]) -> anyhow::Result<Code> {
    Ok(serde_json::from_slice::<Problem>(body)?.code)
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_6_receipts_and_proof_files_hold_with_the_logs_key_alone() -> anyhow::Result<()> {
    let (world, key) = world().await?;
    let (alice, root) = (Person::log_in(&world, "alice").await?, Person::log_in(&world, "root").await?);
    let held = alice.certificate(&Wish { cluster: CLUSTER.into(), ..Wish::default() }).await?;
    let (index, grant) = (held.answer.receipt.index, held.answer.grant_id);

    let receipt: Receipt = asked(&alice, &["receipts", &index.to_string()], &[]).await?;
    assert_eq!((receipt.index, &receipt.entry), (index, &held.answer.receipt.entry));
    let entry = receipt.verify(&key)?.entry.unwrap();
    assert_eq!(entry.content.grant, Some(grant.as_bytes().to_vec()));
    // of everyone's, whoever may read them, each of the entry that was asked for
    for other in 0..=index {
        let receipt: Receipt = asked(&root, &["receipts", &other.to_string()], &[]).await?;
        assert_eq!((receipt.index, receipt.verify(&key)?.leaf.index), (other, other));
    }
    let read = world.entries().await?.into_iter().next().unwrap();
    assert_eq!((read.kind.as_str(), read.user.as_deref()), ("audit-read", Some("root@example.test")));
    assert_eq!(read.detail["message"], format!("the receipt of entry {index}"));

    let by_grant: ProofFile = asked(&alice, &["proofs", &grant.to_string()], &[]).await?;
    let proven = by_grant.verify(&key)?.entry.unwrap();
    assert_eq!((proven.content.kind, proven.id.clone()), (Kind::Issued, entry.id.clone()));
    let by_id: ProofFile = asked(&alice, &["proofs", &Uuid::from_slice(&entry.id)?.to_string()], &[]).await?;
    assert_eq!(by_id.verify(&key)?.entry, Some(entry));
    let by_index: ProofFile = asked(&alice, &["proofs", &index.to_string()], &[]).await?;
    assert_eq!(by_index.verify(&key)?.leaf.index, index);
    let another = LogKey::ed25519(key.name(), &[7; 32])?;
    assert!(by_id.verify(&another).is_err());
    let said: AuditKeyAnswer = asked(&alice, &["key"], &[]).await?;
    assert_eq!((said.key, said.origin.as_str(), said.rotations.len()), (key.to_string(), key.name(), 0));

    // the first entry is an act on the host, and of no concern to alice
    assert_eq!(refused(asked::<Receipt>(&alice, &["receipts", "0"], &[]).await), Some(Code::Refused));
    let entry = asked::<Receipt>(&root, &["receipts", "0"], &[]).await?.verify(&key)?.entry.unwrap();
    let id = Uuid::from_slice(&entry.id)?.to_string();
    assert_eq!(refused(asked::<ProofFile>(&alice, &["proofs", &id], &[]).await), Some(Code::Refused));
    // nor is she told of which cluster another's entry is
    let others = root.certificate(&Wish { cluster: CLUSTER.into(), ..Wish::default() }).await?.answer.receipt.index;
    let said = async |index: u64| match asked::<Receipt>(&alice, &["receipts", &index.to_string()], &[]).await {
        Err(Error::Problem(problem)) => (problem.detail, problem.help, problem.policies),
        other => panic!("{:?}", other.map(drop)),
    };
    assert_eq!(said(others).await, said(0).await);
    for nothing in ["999999", "x"] {
        assert_eq!(refused(asked::<Receipt>(&root, &["receipts", nothing], &[]).await), Some(Code::NotFound));
    }
    let nobody = Uuid::nil().to_string();
    for nothing in [nobody.as_str(), "999999", "x"] {
        assert_eq!(refused(asked::<ProofFile>(&root, &["proofs", nothing], &[]).await), Some(Code::NotFound));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_6_a_later_log_is_shown_to_continue_an_earlier_one() -> anyhow::Result<()> {
    let (world, key) = world().await?;
    let alice = Person::log_in(&world, "alice").await?;
    let mut kept = vec![newest(&world, &key).await?];
    for _ in 0..4 {
        let held = alice.certificate(&Wish { cluster: CLUSTER.into(), ..Wish::default() }).await?;
        kept.push(held.answer.receipt.verify(&key)?.checkpoint);
    }
    let consistency = async |from, to| {
        let answer: ConsistencyAnswer = asked(&alice, &["consistency"], &[("from", from), ("to", to)]).await?;
        anyhow::Ok(proof::hashes(&answer.proof)?)
    };
    for (at, later) in kept.iter().enumerate() {
        for earlier in &kept[..=at] {
            let (from, to) = (earlier.size(), later.size());
            let path = consistency(from, to).await?;
            verify_consistency(from, to, earlier.root(), later.root(), &path)?;
            assert!(verify_consistency(from, to, &[1; 32], later.root(), &path).is_err(), "{from} {to}");
        }
    }
    assert!(kept[4].size() > kept[0].size() + 4, "{kept:?}");
    let size = newest(&world, &key).await?.size();
    for (from, to) in [(0, size + 1000), (2, 1)] {
        let answer = asked::<ConsistencyAnswer>(&alice, &["consistency"], &[("from", from), ("to", to)]).await;
        assert_eq!(refused(answer), Some(Code::BadRequest), "{from} {to}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_6_an_export_is_verified_whole_or_in_pages_and_given_to_auditors_alone() -> anyhow::Result<()> {
    let (world, key) = world().await?;
    let (alice, root) = (Person::log_in(&world, "alice").await?, Person::log_in(&world, "root").await?);
    let held = alice.certificate(&Wish { cluster: CLUSTER.into(), ..Wish::default() }).await?;
    let kept = held.answer.receipt.verify(&key)?.checkpoint;
    let note = [held.answer.receipt.checkpoint.clone().unwrap()];

    let (status, whole) = bytes(&world, &root, "/v1/audit/export").await?;
    assert_eq!(status, StatusCode::OK);
    let verdict = verify(&whole[..], &key, &note)?;
    assert!(verdict.entries >= kept.size(), "{verdict:?}");
    assert_eq!((verdict.checkpoint.size(), verdict.dropped, verdict.uncovered), (verdict.entries, 0, 0));
    let read = world.entries().await?.into_iter().next().unwrap();
    assert_eq!((read.kind.as_str(), read.user.as_deref()), ("audit-read", Some("root@example.test")));

    // each page is an entry more, until one reaches the end
    let (mut pages, mut from, mut size) = (Vec::new(), 0, u64::MAX);
    while from < size {
        size = newest(&world, &key).await?.size();
        pages.extend(bytes(&world, &root, &format!("/v1/audit/export?from={from}&limit=3")).await?.1);
        from += 3;
    }
    assert!(verify(&pages[..], &key, &note).is_ok_and(|all| all.entries >= verdict.entries));

    let (status, body) = bytes(&world, &alice, "/v1/audit/export").await?;
    assert_eq!((status, code(&body)?), (StatusCode::FORBIDDEN, Code::Refused));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_6_tiles_and_leaf_records_make_the_root_that_is_signed() -> anyhow::Result<()> {
    let (world, key) = world().await?;
    let (alice, root) = (Person::log_in(&world, "alice").await?, Person::log_in(&world, "root").await?);
    let checkpoint = newest(&world, &key).await?;
    let size = checkpoint.size();
    assert!((1..256).contains(&size), "one tile, not complete: {size}");
    let flat = below_log(&world, &format!("tile/0/000.p/{size}")).await?;
    let hashes: &[Hash] = flat.as_chunks::<32>().0;
    let mut edge = Edge::default();
    for hash in hashes {
        edge.push(*hash);
    }
    assert_eq!((edge.size(), edge.root()), (size, *checkpoint.root()));

    let path = format!("/log/tile/entries/000.p/{size}");
    let (status, bundle) = bytes(&world, &root, &path).await?;
    assert_eq!(status, StatusCode::OK);
    let leaves: Vec<Hash> = unbundle(&bundle)?.into_iter().map(leaf_hash).collect();
    assert_eq!(leaves, hashes);
    let read = world.entries().await?.into_iter().next().unwrap();
    assert_eq!(
        (read.kind.as_str(), read.detail["message"].clone()),
        ("audit-read", format!("leaf records 0 to {}", size - 1))
    );

    let (status, body) = bytes(&world, &alice, &path).await?;
    assert_eq!((status, code(&body)?), (StatusCode::FORBIDDEN, Code::Refused));
    let said = world.entries().await?.into_iter().next().unwrap();
    assert_eq!((said.kind.as_str(), said.user.as_deref()), ("refusal", Some("alice@example.test")));
    for nothing in ["/log/tile/entries/000", "/log/tile/entries/001.p/1", "/log/tile/entries/x"] {
        assert_eq!(code(&bytes(&world, &root, nothing).await?.1)?, Code::NotFound, "{nothing}");
    }
    Ok(())
}

/// Bodies are dropped: whoever has the log's key alone still verifies the whole log, by an export and by tiles.
#[tokio::test(flavor = "multi_thread")]
async fn promise_6_a_log_with_dropped_bodies_verifies_by_export_and_by_tiles() -> anyhow::Result<()> {
    const POLICIES: &str = r#"
@id("read") permit (principal in Group::"corp/talos-users", action == Action::"hold:os:reader", resource);
@id("all") permit (principal in Group::"corp/talos-admins", action == Action::"audit:read", resource == Ichor::"broker");
@id("drop") permit (principal, action == Action::"audit:drop", resource == Ichor::"broker");
"#;
    let (world, key) = world_with(Some(POLICIES)).await?;
    let alice = Person::log_in(&world, "alice").await?;
    let grant = alice.certificate(&Wish { cluster: CLUSTER.into(), ..Wish::default() }).await?.answer.grant_id;
    let user = world.entries().await?.iter().find(|entry| entry.kind == "issued").unwrap().user.clone();
    world.clock.advance(jiff::SignedDuration::from_hours(25));
    let (root, oscar) = (Person::log_in(&world, "root").await?, Person::log_in(&world, "oscar").await?);
    let ask = DropAsk { person: user, before: None, reason: "asked by law".into() };
    let request: DropAnswer = root.session.broker().post(&root.session, &["audit", "drops"], &ask).await?;
    let path = ["audit", "drops", &request.request_id.to_string(), "approval"];
    let dropped: DroppedAnswer = oscar.session.broker().post(&oscar.session, &path, &Nothing {}).await?;
    assert_eq!(dropped.bodies, 3, "login, grant, issued");
    let story = asked::<StoryAnswer>(&root, &["stories", &grant.to_string()], &[]).await;
    assert_eq!(refused(story), Some(Code::NotFound));

    let export = root.session.broker().get_bytes(&root.session, &["audit", "export"], &[], 8 * 1024 * 1024).await?;
    let verdict = verify(&export[..], &key, &[])?;
    assert_eq!((verdict.dropped, verdict.uncovered), (3, 0));

    // the token shows hashes; a person who may read the audit gets the leaf records, which are there without their bodies
    let server = root.session.broker().clone();
    let tiles = Tiles::Server { server, root: world.at("/log").parse()?, token: Some(TILE_TOKEN.into()) };
    let before = String::from_utf8(below_log(&world, "checkpoint").await?)?;
    let seen = tiles.verify(&key, std::slice::from_ref(&before)).await?;
    assert_eq!((seen.verdict.entries, seen.hashes_only), (seen.verdict.checkpoint.size(), seen.verdict.entries));
    assert!(seen.verdict.entries >= verdict.entries);
    let root_of = |root: &[u8]| data_encoding::BASE64.encode(root);
    let other = before.replace(&root_of(Checkpoint::parse_unverified(&before)?.root()), &root_of(&[7; 32]));
    assert!(tiles.verify(&key, &[other]).await.is_err(), "another log was seen before");
    let folder = tempfile::tempdir()?;
    let note = below_log(&world, "checkpoint").await?;
    let size = Checkpoint::parse_unverified(std::str::from_utf8(&note)?)?.size();
    let names = [format!("tile/0/000.p/{size}"), format!("tile/entries/000.p/{size}")];
    let leaves = bytes(&world, &root, &format!("/log/{}", names[1])).await?;
    assert_eq!(leaves.0, StatusCode::OK);
    for (name, bytes) in
        [("checkpoint", note), (names[0].as_str(), below_log(&world, &names[0]).await?), (names[1].as_str(), leaves.1)]
    {
        let file = folder.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap())?;
        std::fs::write(file, bytes)?;
    }
    let whole = Tiles::Folder(folder.path().into()).verify(&key, &[]).await?;
    assert_eq!((whole.verdict.entries, whole.hashes_only), (size, 0));

    // what nobody signed does not travel behind what was
    for name in &names {
        let file = folder.path().join(name);
        let right = std::fs::read(&file)?;
        let one_more = if name.contains("entries") { &b"\x00\x04more"[..] } else { &[7; 32] };
        for behind in [&b"x"[..], one_more] {
            std::fs::write(&file, [&right, behind].concat())?;
            let refused = Tiles::Folder(folder.path().into()).verify(&key, &[]).await.unwrap_err().to_string();
            assert!(refused.contains(&**name) && refused.contains("right length"), "{refused}");
        }
        std::fs::write(&file, right)?;
    }
    Tiles::Folder(folder.path().into()).verify(&key, &[]).await?;
    Ok(())
}

/// The anchor has more entries than the log that goes on in its place, and takes it all the same: by hand, and once.
#[tokio::test(flavor = "multi_thread")]
async fn case_21_an_older_database_is_opened_again_over_an_anchor_in_kv() -> anyhow::Result<()> {
    let world = World::with(Options {
        custody: Lives::Kv,
        config: "[audit]\nanchor_openbao = \"main\"\n".into(),
        ..Options::default()
    })
    .await?;
    world.running.stop().await;
    let (dir, database) = (world.dir.display().to_string(), Folder::new(&world.dir).load()?.settings.database);
    let audit =
        async |arguments: &[&str]| run_command(&[&["audit"], arguments, &["--dir", dir.as_str()]].concat()).await;
    let old = database.with_file_name("old.db");
    std::fs::copy(&database, &old)?;
    for _ in 0..3 {
        audit(&["rotate-key", "--reason", "tests"]).await?;
    }
    let key: LogKey = audit(&["key"]).await?.trim().parse()?;
    for ending in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{ending}", database.display()));
    }
    std::fs::copy(&old, &database)?;
    assert!(audit(&["rotate-key", "--reason", "tests"]).await.is_err());
    let said = audit(&["reopen", "--reason", "tests"]).await?;
    assert!(said.contains(&format!("the log goes on as `{}#2`", key.name())), "{said}");
    let said = audit(&["verify"]).await?;
    assert!(said.contains("the KV secret") && said.contains(&format!("entries of {}#2", key.name())), "{said}");
    assert!(audit(&["reopen", "--reason", "tests"]).await.is_err());
    Ok(())
}
