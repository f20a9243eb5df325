//! What nobody who waits for an answer brings about: locks and their ends, what time ends, what is overdue.

use ichor_wire::log::{Content, Kind, Kit, KitHolder};
use jiff::SignedDuration;
use uuid::Uuid;

use super::super::courier::Step;
use super::*;
use crate::clock::Clock;
use crate::custody::ca;
use crate::domain::{ClusterName, LockTarget};
use crate::lock::{Book, Who};
use crate::store::conformance::noon;

/// What came since the last time, as the sink names it, once nothing is left to be told.
async fn told(courier: &mut Courier, hook: &Hook) -> Vec<String> {
    while courier.step().await.unwrap() == Step::Sent {}
    let came = hook.bodies().into_iter().map(|body| body["type"].as_str().unwrap().to_owned()).collect();
    hook.came.lock().unwrap().clear();
    came
}

/// A kit that was just made.
fn kit() -> Content {
    let ca = ca::create(&ClusterName::new("prod").unwrap(), noon(), 1).unwrap();
    let holder =
        |name: &str| KitHolder { name: name.into(), recipient: None, commitment: vec![1; 32], proof_key: vec![2; 32] };
    let kit = Kit {
        number: 7,
        id: Some(Uuid::from_u128(7).into_bytes().to_vec()),
        ca: Some(ca.certificate().der().to_vec()),
        until: Some(ca.certificate().not_after().as_second()),
        threshold: Some(2),
        ttl_cap: Some(3600),
        holders: Some(["ada", "bob"].map(holder).to_vec()),
        file: Some(vec![3; 32]),
        ..Kit::default()
    };
    Content {
        cluster: Some("prod".into()),
        roles: Some(vec!["os:admin".into()]),
        witnesses: Some(vec!["eve".into(), "joe".into()]),
        kit: Some(kit),
        ..Content::of(Kind::KitMade)
    }
}

#[tokio::test]
async fn a_lock_and_its_end_are_told() {
    let glass = Glass::new().await;
    let (hook, url) = Hook::new(&[]).await;
    let mut courier = courier(&glass, webhook(&url)).await;
    let book = Book::new(glass.room.store.clone(), glass.room.sequencer.clone(), glass.room.clock.clone(), None);
    let host = || Who::Host("root", "broker-1");
    let set = async |seconds| {
        let on = LockTarget::Cluster(ClusterName::new("prod").unwrap());
        book.set(host(), Content::of(Kind::Lock), on, seconds, "INC-42".into()).await.unwrap()
    };
    let lifted = set(None).await;
    assert_eq!(told(&mut courier, &hook).await, ["ichor.lock"]);
    book.lift(host(), Content::of(Kind::Unlock), &lifted, "over", false, &|_, _| true).await.unwrap();
    assert_eq!(told(&mut courier, &hook).await, ["ichor.unlock"]);
    set(Some(60)).await;
    glass.room.clock.advance(SignedDuration::from_secs(60));
    book.time_out().await.unwrap();
    assert_eq!(told(&mut courier, &hook).await, ["ichor.lock", "ichor.unlock"], "one that ended by itself");
}

#[tokio::test]
async fn what_time_does_to_break_glass_is_told() {
    let glass = Glass::new().await;
    let (hook, url) = Hook::new(&[]).await;
    let mut courier = courier(&glass, webhook(&url)).await;
    let (used, waits) = (glass.asked().await, glass.asked().await);
    glass.approve(used, &glass.bob).await.unwrap();
    glass.room.sequencer.record(glass.decided(&glass.approved(used).await.unwrap())).await.unwrap();
    let came = told(&mut courier, &hook).await;
    assert_eq!(
        came,
        ["break-glass-request", "break-glass-request", "break-glass-approval", "grant"]
            .map(|kind| format!("ichor.{kind}"))
    );
    let touched = Content {
        break_glass: Some(used.0.into_bytes().to_vec()),
        node: Some("node-a".into()),
        ..Content::of(Kind::BreakGlassTouched)
    };
    glass.room.sequencer.note(touched, None).await.unwrap();
    assert_eq!(told(&mut courier, &hook).await, ["ichor.break-glass-touched"]);

    glass.room.clock.advance(SignedDuration::from_hours(24));
    glass.glass.time_out().await.unwrap();
    assert_eq!(told(&mut courier, &hook).await, ["ichor.break-glass-over"], "{waits:?} expired");
    glass.glass.remind().await.unwrap();
    assert_eq!(told(&mut courier, &hook).await, ["ichor.break-glass-overdue"]);
}

#[tokio::test]
async fn a_kits_overdue_drill_is_told() {
    let glass = Glass::new().await;
    let (hook, url) = Hook::new(&[]).await;
    let mut courier = courier(&glass, webhook(&url)).await;
    glass.room.sequencer.note(kit(), None).await.unwrap();
    assert_eq!(told(&mut courier, &hook).await, ["ichor.kit-made"]);
    glass.room.clock.advance(crate::kit::DRILL_EVERY);
    let (kits, size) = crate::kit::read_with_size(&*glass.room.store).await.unwrap();
    crate::kit::remind(&kits, size, &glass.room.sequencer, glass.room.clock.now()).await.unwrap();
    assert_eq!(told(&mut courier, &hook).await, ["ichor.kit-overdue"]);
}
