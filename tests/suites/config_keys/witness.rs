//! A witness: what it cosigns, what it refuses, and what the broker does then.

use std::sync::{Arc, Mutex};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use data_encoding::{BASE64, HEXLOWER};
use ichor_client::Error;
use ichor_tests::{Options, Person, World};
use ichor_wire::log::Checkpoint;
use ichor_wire::log::tree::{Hash, empty_root, verify_consistency};
use ichor_wire::problem::Code;
use jiff::SignedDuration;
use sha2::{Digest, Sha256};

use super::audit::{start, wish};

/// What a witness knows.
struct Seen {
    /// The tree that it cosigned last.
    size: u64,
    root: Hash,
    /// How often it was shown a proof that proves something, and went on by it.
    proofs: u32,
    /// How often it refused with 422.
    refused: u32,
    is_out: bool,
}

const WITNESS: &str = "witness.example";

fn witness_key() -> (Ed25519KeyPair, [u8; 4], String) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[3; 32]).unwrap();
    let hash = Sha256::new().chain_update(WITNESS).chain_update([b'\n', 4]).chain_update(pair.public_key()).finalize();
    let id = [hash[0], hash[1], hash[2], hash[3]];
    let public = [&[4], pair.public_key().as_ref()].concat();
    let text = format!("{WITNESS}+{}+{}", HEXLOWER.encode(&id), BASE64.encode(&public));
    (pair, id, text)
}

/// A witness as C2SP tlog-witness has it: it cosigns only what the proof shows to continue the tree that it cosigned last.
async fn add_checkpoint(State(seen): State<Arc<Mutex<Seen>>>, body: String) -> (StatusCode, String) {
    let (head, note) = body.split_once("\n\n").unwrap();
    let mut lines = head.lines();
    let old: u64 = lines.next().unwrap().strip_prefix("old ").unwrap().parse().unwrap();
    let proof: Vec<Hash> = lines.map(|line| BASE64.decode(line.as_bytes()).unwrap().try_into().unwrap()).collect();
    let mut seen = seen.lock().unwrap();
    if seen.is_out {
        return (StatusCode::SERVICE_UNAVAILABLE, "a test's fault".into());
    }
    if old != seen.size {
        return (StatusCode::CONFLICT, format!("{}\n", seen.size));
    }
    let checkpoint = Checkpoint::parse_unverified(note).unwrap();
    if verify_consistency(old, checkpoint.size(), &seen.root, checkpoint.root(), &proof).is_err() {
        seen.refused += 1;
        return (StatusCode::UNPROCESSABLE_ENTITY, "the proof does not hold\n".into());
    }
    seen.proofs += u32::from(old > 0 && old < checkpoint.size());
    (seen.size, seen.root) = (checkpoint.size(), *checkpoint.root());
    let (pair, id, _) = witness_key();
    let time: u64 = 1_764_000_000;
    let signature = pair.sign(format!("cosignature/v1\ntime {time}\n{}", checkpoint.unsigned_text()).as_bytes());
    let bytes = [&id[..], &time.to_be_bytes(), signature.as_ref()].concat();
    (StatusCode::OK, format!("\u{2014} {WITNESS} {}\n", BASE64.encode(&bytes)))
}

/// Has it that the witness cosigned this tree last.
fn cosigned(seen: &Mutex<Seen>, size: u64, root: Hash) {
    let mut seen = seen.lock().unwrap();
    (seen.size, seen.root) = (size, root);
}

/// A world whose log is cosigned, and what the witness knows.
async fn witnessed() -> anyhow::Result<(World, Arc<Mutex<Seen>>)> {
    let nothing = Seen { size: 0, root: empty_root(), proofs: 0, refused: 0, is_out: false };
    let seen = Arc::new(Mutex::new(nothing));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/w/", listener.local_addr()?);
    let routes = axum::Router::new().route("/w/add-checkpoint", post(add_checkpoint)).with_state(Arc::clone(&seen));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let (_, _, key) = witness_key();
    let config = format!(
        "[audit]\nwitness = \"{url}\"\nwitness_key = \"{key}\"\nanchor_file = \"newest\"\nanchor_grace = \"2m\"\n"
    );
    Ok((World::with(Options { config, ..Options::default() }).await?, seen))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_cosigns_as_configured() -> anyhow::Result<()> {
    let (world, seen) = witnessed().await?;
    let alice = Person::log_in(&world, "alice").await?;
    for _ in 0..3 {
        wish(&alice).await?;
    }
    let note = std::fs::read_to_string(world.dir.join("newest"))?;
    assert!(note.contains("\u{2014} witness.example "), "{note}");
    let seen = seen.lock().unwrap();
    assert!(seen.size >= 7 && seen.proofs >= 4, "{} entries, by {} proofs", seen.size, seen.proofs);
    assert_eq!(seen.refused, 0, "every proof held");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_witness_is_out_issuing_goes_on_as_long_as_configured() -> anyhow::Result<()> {
    let (world, seen) = witnessed().await?;
    let alice = Person::log_in(&world, "alice").await?;
    wish(&alice).await?;
    seen.lock().unwrap().is_out = true;
    wish(&alice).await?;
    world.clock.advance(SignedDuration::from_secs(119));
    wish(&alice).await?;
    world.clock.advance(SignedDuration::from_secs(2));
    let refused = wish(&alice).await.unwrap_err();
    let code = match refused.downcast_ref() {
        Some(Error::Problem(problem)) => Some(problem.code),
        _ => None,
    };
    assert_eq!(code, Some(Code::AuditUnavailable), "{refused}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_goes_on_from_what_a_witness_says_and_not_from_another_log() -> anyhow::Result<()> {
    let (mut world, seen) = witnessed().await?;
    wish(&Person::log_in(&world, "alice").await?).await?;
    world.running.stop().await;
    // the new process does not know how far the witness is, is told by its 409, and shows the proof from there
    world.running = start(&world.dir, &world.clock, &world.url).await??;
    wish(&Person::log_in(&world, "alice").await?).await?;
    world.running.stop().await;
    let (size, root) = {
        let seen = seen.lock().unwrap();
        assert_eq!(seen.refused, 0);
        (seen.size, seen.root)
    };
    let refused = async |size: u64, root: Hash| {
        cosigned(&seen, size, root);
        match start(&world.dir, &world.clock, &world.url).await {
            Ok(Err(error)) => error.to_string(),
            Ok(Ok(_)) => panic!("it started though the witness has seen another log"),
            Err(error) => panic!("{error:#}"),
        }
    };
    let said = refused(size + 100, root).await;
    assert!(said.contains(&format!("it has cosigned {} entries, ours has {size}", size + 100)), "{said}");
    let said = refused(size - 1, [7; 32]).await;
    assert!(said.contains(&format!("does not continue the {} entries that it has cosigned", size - 1)), "{said}");
    assert_eq!(seen.lock().unwrap().refused, 1);
    let said = refused(size, [7; 32]).await;
    assert!(said.contains("the witness `witness.example` knows another log than ours"), "{said}");
    cosigned(&seen, size, root);
    world.running = start(&world.dir, &world.clock, &world.url).await??;
    Ok(())
}
