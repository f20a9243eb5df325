//! Self-service: acceptance opens, and nothing else.

use super::super::courier::Step;
use super::*;
use crate::domain::BreakGlassState;
use crate::store::Store;

async fn state(glass: &Glass, id: crate::domain::BreakGlassId) -> BreakGlassState {
    glass.room.store.break_glass(id).await.unwrap().unwrap().request.state
}

#[tokio::test]
async fn a_sink_that_accepts_opens_exactly_what_it_was_told_of() {
    let glass = Glass::new().await;
    glass.lets_in_alone();
    let (hook, url) = Hook::new(&[Answers::Says(500)]).await;
    let mut courier = courier(&glass, webhook(&url)).await;
    let (first, second) = (glass.asked_alone().await.unwrap(), glass.asked_alone().await.unwrap());
    assert!(courier.step().await.is_err());
    assert_eq!(state(&glass, first).await, BreakGlassState::Pending, "it did not accept");
    assert_eq!(courier.step().await, Ok(Step::Sent));
    assert_eq!(
        (state(&glass, first).await, state(&glass, second).await),
        (BreakGlassState::Approved, BreakGlassState::Pending)
    );
    let approved = glass.approved(first).await.unwrap();
    glass.room.sequencer.record(glass.decided(&approved)).await.unwrap();
    assert!(glass.approved(second).await.is_err());
    // and of all that follows people are told too
    while courier.step().await == Ok(Step::Sent) {}
    let told: Vec<_> = hook.bodies().iter().map(|body| body["type"].as_str().unwrap().to_owned()).collect();
    let expected = [
        "break-glass-request",
        "break-glass-request",
        "break-glass-request",
        "break-glass-told",
        "grant",
        "break-glass-told",
    ];
    assert_eq!(told, expected.map(|kind| format!("ichor.{kind}")));
    assert!(hook.bodies()[0]["data"]["title"].as_str().unwrap().starts_with("BREAK-GLASS WITHOUT APPROVAL"));
}

#[tokio::test]
async fn a_sink_that_refuses_for_good_is_passed_by_and_opens_nothing() {
    let glass = Glass::new().await;
    glass.lets_in_alone();
    let (hook, url) = Hook::new(&[Answers::Says(400); 3]).await;
    let mut courier = courier(&glass, webhook(&url)).await;
    let id = glass.asked_alone().await.unwrap();
    assert!(courier.step().await.is_err());
    assert!(courier.step().await.is_err());
    assert_eq!(courier.step().await, Ok(Step::Idle));
    assert_eq!((hook.count(), cursor(&glass).await), (3, glass.room.store.head().await.unwrap().size));
    assert_eq!(state(&glass, id).await, BreakGlassState::Pending, "its cursor passed the entry, and nobody was told");
    let refused = glass.approved(id).await.unwrap_err();
    assert!(refused.to_string().contains("waits until a notification sink has accepted"), "{refused}");
}

#[tokio::test]
async fn what_opens_is_recorded_before_the_cursor_moves() {
    use crate::store::faulty::Fault;
    let glass = Glass::new().await;
    glass.lets_in_alone();
    let (hook, url) = Hook::new(&[]).await;
    let mut courier = courier(&glass, webhook(&url)).await;
    let id = glass.asked_alone().await.unwrap();
    // that it was accepted cannot be recorded: it is sent again
    glass.room.store.add([Fault::Before]);
    assert!(courier.step().await.is_err());
    assert_eq!((hook.count(), state(&glass, id).await), (1, BreakGlassState::Pending));
    assert_eq!(courier.step().await, Ok(Step::Sent));
    assert_eq!((hook.count(), state(&glass, id).await), (2, BreakGlassState::Approved));
}
