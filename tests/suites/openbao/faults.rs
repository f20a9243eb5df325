//! Everything that a server can do wrong: a bounded wait, a typed error, no certificate without record, and recovery by
//! itself.

use std::time::Duration;

use ichor_broker::audit::verify_log;
use ichor_client::{Error, Held};
use ichor_standins::openbao::Fault;
use ichor_tests::{Lives, Options, Person, Prepare, World};
use ichor_wire::problem::Code;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;

use super::bad_input::make_key;
use super::{asks, bao, line, start_again, until_opened, world};
use crate::metrics;

/// What rises when custody made what nobody granted.
pub(crate) const MISMATCHES: &str = "ichor_certificate_mismatches_total{cluster=\"prod\"}";

const SIGN: &str = "transit/sign/*";

/// The sentence of the entry that says why nothing was issued: an outage.
async fn failure(world: &World, person: &Person) -> anyhow::Result<String> {
    refusal(world, person, Code::CustodyUnavailable).await
}

async fn refusal(world: &World, person: &Person, code: Code) -> anyhow::Result<String> {
    match asks(person).await {
        Err(Error::Problem(problem)) => assert_eq!(problem.code, code),
        other => panic!("not refused: {other:?}"),
    }
    let newest = world.entries().await?.into_iter().next().unwrap();
    assert_eq!((newest.kind.as_str(), newest.detail["code"].as_str()), ("issue-failed", code.as_str()));
    Ok(newest.detail["message"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_lie_and_outage_is_told_apart_and_ends_with_its_cause() -> anyhow::Result<()> {
    let edits = vec![("[server]\n", "[server]\nhealth_listen = \"127.0.0.1:0\"\n")];
    let world = World::with(Options { custody: Lives::Transit, edits, ..Options::default() }).await?;
    let alice = Person::log_in(&world, "alice").await?;
    let bao = bao(&world);
    asks(&alice).await?;
    let faults = [
        (Fault::Stall, "did not answer in time"),
        (Fault::Disconnect, "cannot be reached"),
        (Fault::Quota, "rate quota"),
        (Fault::Status(500, "it broke".into()), "failed with status 500: it broke"),
        (Fault::Garbage, "its data has another shape"),
        (Fault::Truncated, "another shape"),
        (Fault::Huge(10 << 20), "larger than 1 MiB"),
    ];
    for (fault, expected) in faults {
        bao.set_fault(SIGN, Some(fault.clone()));
        let said = failure(&world, &alice).await?;
        assert!(said.contains("OpenBao `main`") && said.contains(expected), "{fault:?}: {said}");
        bao.set_fault(SIGN, None);
        asks(&alice).await?;
    }
    // a signature by another key is no outage: it is told, and counted, as what nobody granted
    bao.set_wrong_key("ichor-prod", true);
    let before = metrics::value(&metrics::scrape(&world).await?, MISMATCHES);
    let said = refusal(&world, &alice, Code::CertificateMismatch).await?;
    assert!(said.contains("no signature by the key"), "{said}");
    assert!(metrics::value(&metrics::scrape(&world).await?, MISMATCHES) > before);
    bao.set_wrong_key("ichor-prod", false);
    asks(&alice).await?;
    verify_log(&*world.running.store()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_server_is_out_and_comes_back_with_one_login() -> anyhow::Result<()> {
    let world = world(Lives::Transit).await?;
    let alice = Person::log_in(&world, "alice").await?;
    let bao = bao(&world);
    asks(&alice).await?;
    bao.seal();
    assert!(failure(&world, &alice).await?.contains("is sealed; unseal it"));
    let said = line(&world, "ca prod").await;
    assert!(!said.ok && said.detail.as_deref().unwrap().contains("is sealed"), "{said:?}");
    // whoever asks meanwhile waits a bounded time, and when it is back one login serves them all
    bao.revoke_tokens();
    let before = bao.logins();
    let all = futures_util::future::join_all((0..100).map(|_| asks(&alice)));
    let unseal = async {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        bao.unseal();
    };
    let (held, ()) = tokio::join!(all, unseal);
    assert!(held.iter().any(Result::is_ok));
    asks(&alice).await?;
    assert_eq!(bao.logins() - before, 1);
    assert!(line(&world, "ca prod").await.ok);
    Ok(())
}

/// Each of them on a connection of its own, as from so many machines: all are recorded and wait when the server comes back.
#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_who_wait_are_served_after_one_login() -> anyhow::Result<()> {
    const CROWD: usize = 500;
    // both ends of every connection are this process'
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let prepare: Prepare = Box::new(|dir| {
        // longer than so many grants take in a build for tests
        let path = dir.join("config.toml");
        let file = std::fs::read_to_string(&path)?;
        assert!(file.contains("deadline = \"2s\""));
        Ok(std::fs::write(&path, file.replace("deadline = \"2s\"", "deadline = \"40s\""))?)
    });
    let limits = "[limits]\nper_person = 1000\nconnections_per_address = 1000\nrequest_time = \"80s\"\n";
    let (config, prepare) = (limits.into(), Some(prepare));
    let world = World::with(Options { custody: Lives::Transit, config, prepare, ..Options::default() }).await?;
    let alice = Person::log_in(&world, "alice").await?;
    let bao = bao(&world);
    asks(&alice).await?;
    bao.seal();
    bao.revoke_tokens();
    let (logins, asked, store) = (bao.logins(), bao.requests().len(), world.running.store());
    let before = store.head().await?.size;
    let all = before + CROWD as u64;
    let mut crowd = std::pin::pin!(futures_util::future::join_all((0..CROWD).map(|_| asks(&alice))));
    let all_wait = async {
        let mut look = tokio::time::interval(Duration::from_millis(20));
        while store.head().await?.size < all {
            look.tick().await;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        held = &mut crowd => panic!("they did not wait: {:?}", refusals(&held).first()),
        waited = all_wait => waited?,
    }
    assert_eq!(store.head().await?.size, all, "everyone waits, and nobody was sent away");
    assert_eq!(bao.logins(), logins, "a sealed server logs nobody in");
    bao.unseal();
    let held = crowd.await;
    assert_eq!((held.len(), refusals(&held)), (CROWD, Vec::new()));
    assert_eq!(bao.logins() - logins, 1);
    // what it was asked while it was out and when it was back: batches, each with its waits, and no crowd
    let asked = bao.requests().len() - asked;
    assert!(asked < CROWD / 5, "{asked} requests");
    verify_log(&*store).await?;
    Ok(())
}

/// What those were told who got nothing.
fn refusals(held: &[Result<Held, Error>]) -> Vec<String> {
    held.iter().filter_map(|held| held.as_ref().err()).map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_replaced_and_a_denied_path_is_not_asked_again() -> anyhow::Result<()> {
    let world = world(Lives::Transit).await?;
    let alice = Person::log_in(&world, "alice").await?;
    let bao = bao(&world);
    asks(&alice).await?;
    let (logins, signs) = (bao.logins(), bao.count(SIGN));
    bao.revoke_tokens();
    asks(&alice).await?;
    assert_eq!((bao.logins() - logins, bao.count(SIGN) - signs), (1, 2), "the refused call was made again, once");

    let signs = bao.count(SIGN);
    bao.deny(SIGN);
    let said = failure(&world, &alice).await?;
    assert!(said.contains("does not allow `transit/sign/ichor-prod` to our token"), "{said}");
    assert_eq!((bao.logins() - logins, bao.count(SIGN) - signs), (1, 1), "a denial is no reason to try again");
    let said = line(&world, "ca prod").await;
    assert!(!said.ok && said.detail.as_deref().unwrap().contains("may not sign"), "{said:?}");
    bao.undeny(SIGN);
    asks(&alice).await?;
    assert!(line(&world, "ca prod").await.ok);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destroyed_key_version_is_said_plainly() -> anyhow::Result<()> {
    let world = world(Lives::Transit).await?;
    let alice = Person::log_in(&world, "alice").await?;
    bao(&world).destroy_key_version("ichor-prod", 1)?;
    failure(&world, &alice).await?;
    let said = line(&world, "ca prod").await;
    assert!(!said.ok && said.detail.as_deref().unwrap().contains("has no version 1"), "{said:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_starts_without_the_server_and_takes_the_ca_up_when_it_is_there() -> anyhow::Result<()> {
    let world = world(Lives::Transit).await?;
    world.running.stop().await;
    let bao = world.bao.as_ref().unwrap();
    bao.seal();
    let running = start_again(&world.dir, &world.clock, Duration::from_millis(20)).await??;
    let ca = async || running.reload().await.into_iter().find(|check| check.name == "ca prod").unwrap();
    let said = ca().await;
    assert!(!said.ok && said.detail.as_deref().unwrap().contains("is sealed; unseal it"), "{said:?}");
    until_opened(&*running.store(), || bao.unseal()).await?;
    assert!(ca().await.ok);
    running.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_may_leave_while_the_broker_runs_signs_no_more() -> anyhow::Result<()> {
    let world = world(Lives::Transit).await?;
    let alice = Person::log_in(&world, "alice").await?;
    asks(&alice).await?;
    // as whoever administers the engine can at any time, and nobody can take back
    make_key(bao(&world), "ichor-prod/config", json!({"exportable": true})).await?;
    let said = line(&world, "ca prod").await;
    let detail = said.detail.unwrap();
    assert!(!said.ok && detail.contains("has `exportable` set") && detail.contains("not used any longer"), "{detail}");
    match asks(&alice).await {
        Err(Error::Problem(problem)) => assert_eq!(problem.code, Code::CustodyUnavailable),
        other => panic!("issued: {other:?}"),
    }
    let entries = world.entries().await?;
    let told = entries.iter().find(|entry| entry.kind == "reload" && entry.detail["message"].contains("exportable"));
    let message = &told.unwrap().detail["message"];
    assert!(message.starts_with("ca keys refused, the CA opened before is not used any longer: "), "{message}");
    Ok(())
}
