//! The way of a notification: in order, at least once, held up by nobody for good.

use std::time::Duration;

use aws_lc_rs::hmac;
use data_encoding::BASE64;
use ichor_wire::log::{Content, Kind};
use jiff::SignedDuration;
use tokio::sync::watch;

use super::super::courier::Step;
use super::*;
use crate::clock::Clock;
use crate::readiness::Readiness;
use crate::store::Store;

/// Records an entry that people are told of.
async fn tell(glass: &Glass) {
    glass.room.sequencer.note(Content::of(Kind::KitInUse), None).await.unwrap();
}

/// Records one that nobody is told of.
async fn tell_nobody(glass: &Glass) {
    glass.room.sequencer.note(Content::of(Kind::Reload), None).await.unwrap();
}

#[tokio::test]
async fn a_webhook_gets_the_entry_signed_over_id_time_and_body() {
    let glass = Glass::new().await;
    let (hook, url) = Hook::new(&[]).await;
    let mut courier = courier(&glass, webhook(&url)).await;
    let id = glass.asked().await;
    assert_eq!(courier.step().await, Ok(Step::Sent));
    assert_eq!(courier.step().await, Ok(Step::Idle));

    let (headers, body) = hook.came.lock().unwrap().pop().unwrap();
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let entry = glass.entries().await.pop().unwrap();
    assert_eq!(header("webhook-id"), entry.id.to_string(), "by which one that comes twice is known");
    assert_eq!(header("webhook-timestamp"), glass.room.clock.now().as_second().to_string());
    let key =
        hmac::Key::new(hmac::HMAC_SHA256, &BASE64.decode(SECRET.trim_start_matches("whsec_").as_bytes()).unwrap());
    let mut signed = format!("{}.{}.", header("webhook-id"), header("webhook-timestamp")).into_bytes();
    signed.extend_from_slice(&body);
    let signature = header("webhook-signature");
    let mac = BASE64.decode(signature.strip_prefix("v1,").unwrap().as_bytes()).unwrap();
    hmac::verify(&key, &signed, &mac).unwrap();
    signed[0] ^= 1;
    assert!(hmac::verify(&key, &signed, &mac).is_err());

    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["type"], "ichor.break-glass-request");
    assert_eq!(body["data"]["broker"], "https://ichor.example.com");
    assert_eq!(body["data"]["next"], format!("ichor break-glass approve {}", id.0));
    assert_eq!(body["data"]["entry"], serde_json::to_value(&entry).unwrap());
}

#[tokio::test]
async fn a_new_sink_is_told_of_nothing_that_was_before_it() {
    let glass = Glass::new().await;
    tell(&glass).await;
    let (hook, url) = Hook::new(&[]).await;
    let mut courier = courier(&glass, webhook(&url)).await;
    assert_eq!(hook.count(), 0);
    tell(&glass).await;
    assert_eq!(courier.step().await, Ok(Step::Sent));
    assert_eq!(hook.count(), 1);
}

#[tokio::test]
async fn a_sink_that_fails_or_lies_gets_the_same_again_and_then_the_rest_in_order() {
    use Answers::{LeadsElsewhere, Rests, Says, With};
    let glass = Glass::new().await;
    let plan = [Says(500), LeadsElsewhere, Says(408), Rests(7), Rests(3600), With("\n<html>sign in</html>"), Says(503)];
    let (hook, url) = Hook::new(&plan).await;
    let mut courier = courier(&glass, webhook(&url)).await;
    let from = cursor(&glass).await;
    for _ in 0..3 {
        tell(&glass).await;
        tell_nobody(&glass).await;
    }
    let (mut said, mut rests) = (Vec::new(), Vec::new());
    for _ in plan {
        let refused = courier.step().await.unwrap_err();
        said.push(refused.why);
        rests.push(refused.after.map(|after| after.as_secs()));
        assert_eq!(cursor(&glass).await, from, "it moves once one is accepted, and not before");
    }
    assert_eq!(
        said,
        [
            "the sink answers 500",
            "the sink answers 302",
            "the sink answers 408",
            "the sink answers 429",
            "the sink answers 429",
            "the sink answers 200 with a page for people, so it is no sink",
            "the sink answers 503",
        ]
    );
    assert_eq!(rests, [None, None, None, Some(7), Some(60), None, None], "it is left alone as it asks, within bounds");
    for behind in [1, 3, 5] {
        assert_eq!(courier.step().await, Ok(Step::Sent));
        assert_eq!(cursor(&glass).await, from + behind);
    }
    assert_eq!(courier.step().await, Ok(Step::Idle));
    assert_eq!(hook.places(), [vec![from; 8], vec![from + 2, from + 4]].concat());
}

/// Which may be while its sink asked to be left alone for longer than it holds the place.
#[tokio::test]
async fn a_courier_that_has_its_place_again_goes_on_where_another_was() {
    let glass = Glass::new().await;
    let (hook, url) = Hook::new(&[]).await;
    let mut first = courier(&glass, webhook(&url)).await;
    let from = cursor(&glass).await;
    tell(&glass).await;
    assert_eq!(first.step().await, Ok(Step::Sent));
    glass.room.clock.advance(SignedDuration::from_secs(31));
    let mut other = restarted(&glass, webhook(&url));
    tell(&glass).await;
    assert_eq!(other.step().await, Ok(Step::Sent));
    // on SQLite, which one broker has, no other holds it
    assert_eq!(first.step().await, Ok(Step::Idle));
    tell(&glass).await;
    assert_eq!(other.step().await, Ok(Step::Sent));
    glass.room.clock.advance(SignedDuration::from_secs(31));
    tell(&glass).await;
    while first.step().await.unwrap() == Step::Sent {}
    assert_eq!(hook.places(), (from..from + 4).collect::<Vec<_>>(), "each once");
}

#[tokio::test]
async fn what_is_refused_for_good_is_tried_three_times_and_left_behind() {
    let glass = Glass::new().await;
    let (hook, url) = Hook::new(&[Answers::Says(400), Answers::Says(413), Answers::Says(400)]).await;
    let whys = ["the sink answers 400", "the sink answers 413"];
    let mut courier = courier(&glass, webhook(&url)).await;
    let from = cursor(&glass).await;
    tell(&glass).await;
    for why in whys {
        assert_eq!(courier.step().await.unwrap_err().why, why);
        assert_eq!((cursor(&glass).await, courier.behind()), (from, None));
    }
    assert_eq!(courier.step().await, Ok(Step::Idle));
    assert_eq!(cursor(&glass).await, from + 1);
    assert_eq!(courier.behind(), Some("the sink answers 400"), "and that is said until one is accepted again");
    tell(&glass).await;
    assert_eq!(courier.step().await, Ok(Step::Sent), "the one behind it");
    assert_eq!(hook.places(), [from, from, from, from + 1]);
    assert_eq!(courier.behind(), None);
}

#[tokio::test]
async fn a_sink_that_is_shut_for_a_while_loses_nothing() {
    let glass = Glass::new().await;
    let shut = [401, 403, 404, 410].map(Answers::Says);
    let (hook, url) = Hook::new(&[shut, shut].concat()).await;
    let mut courier = courier(&glass, webhook(&url)).await;
    let from = cursor(&glass).await;
    tell(&glass).await;
    for _ in 0..8 {
        courier.step().await.unwrap_err();
        assert_eq!(cursor(&glass).await, from);
    }
    assert_eq!(courier.step().await, Ok(Step::Sent));
    assert_eq!((hook.count(), courier.behind()), (9, None));
}

#[tokio::test]
async fn one_that_stays_shut_holds_up_nobody_for_good() {
    let glass = Glass::new().await;
    let (_hook, url) = Hook::new(&[Answers::Says(403); 12]).await;
    let mut courier = courier(&glass, webhook(&url)).await;
    let from = cursor(&glass).await;
    tell(&glass).await;
    for _ in 0..11 {
        courier.step().await.unwrap_err();
    }
    assert_eq!(courier.step().await, Ok(Step::Idle));
    assert_eq!((cursor(&glass).await, courier.behind()), (from + 1, Some("the sink answers 403")));
}

#[tokio::test]
async fn a_sink_that_never_answers_holds_up_nobody() {
    let glass = Glass::new().await;
    let (hook, url) = Hook::new(&[Answers::Never]).await;
    let mut courier = courier(&glass, webhook(&url)).await;
    let from = cursor(&glass).await;
    tell(&glass).await;
    {
        let mut step = std::pin::pin!(courier.step());
        while hook.count() == 0 {
            assert!(futures_util::poll!(&mut step).is_pending());
            tokio::task::yield_now().await;
        }
        // it waits, and the record goes on
        tell(&glass).await;
        let id = glass.asked().await;
        glass.approve(id, &glass.bob).await.unwrap();
        glass.room.sequencer.record(glass.decided(&glass.approved(id).await.unwrap())).await.unwrap();
        assert!(futures_util::poll!(&mut step).is_pending());
    }
    assert_eq!(cursor(&glass).await, from);
}

#[tokio::test]
async fn a_restart_in_the_middle_repeats_one_at_most_and_leaves_none_out() {
    let glass = Glass::new().await;
    let (hook, url) = Hook::new(&[]).await;
    let mut first = courier(&glass, webhook(&url)).await;
    let from = cursor(&glass).await;
    for _ in 0..4 {
        tell(&glass).await;
    }
    assert_eq!(first.step().await, Ok(Step::Sent));
    // the second was taken, and the broker dies before its cursor moves
    glass.room.store.add([crate::store::faulty::Fault::Before]);
    assert!(first.step().await.is_err());
    drop(first);
    let mut again = restarted(&glass, webhook(&url));
    for _ in 0..3 {
        assert_eq!(again.step().await, Ok(Step::Sent));
    }
    assert_eq!(again.step().await, Ok(Step::Idle));
    assert_eq!(hook.places(), [from, from + 1, from + 1, from + 2, from + 3]);
    let ids: Vec<_> = hook.came.lock().unwrap().iter().map(|(headers, _)| headers["webhook-id"].clone()).collect();
    assert_eq!(ids[1], ids[2], "whoever gets it twice can tell");
}

#[tokio::test]
async fn a_sink_is_told_of_what_it_asked_for_and_a_long_way_between_is_kept() {
    let glass = Glass::new().await;
    let (hook, url) = Hook::new(&[]).await;
    let settings = Settings { events: [Event::Lock].into(), ..webhook(&url) };
    let mut courier = courier(&glass, settings).await;
    let from = cursor(&glass).await;
    for _ in 0..999 {
        tell_nobody(&glass).await;
    }
    assert_eq!(courier.step().await, Ok(Step::Idle));
    assert_eq!(cursor(&glass).await, from, "not every look is worth a write");
    tell(&glass).await;
    assert_eq!(courier.step().await, Ok(Step::Idle));
    assert_eq!(cursor(&glass).await, from + 1000);
    assert_eq!(hook.count(), 0, "a kit is no lock");
}

#[tokio::test]
async fn of_calls_at_nodes_a_sink_is_told_of_the_classes_that_it_names() {
    let glass = Glass::new().await;
    let (hook, url) = Hook::new(&[]).await;
    let classes = Some([CallClass::Suspect].into());
    let settings = Settings { events: [Event::NodeAlarm, Event::BreakGlass].into(), classes, ..webhook(&url) };
    let mut courier = courier(&glass, settings).await;
    let told = |kind: Kind, code: &str| Content { code: Some(code.into()), ..Content::of(kind) };
    for (kind, code) in [
        (Kind::NodeAlarm, "unexplained"),
        (Kind::NodeAlarm, "suspect"),
        (Kind::NodeAlarm, "weak"),
        // of no class, and what was counted together may be of any
        (Kind::NodeAlarm, "silent"),
        (Kind::NodeAlarm, "others"),
        // another event's code is no class of calls that someone chose
        (Kind::BreakGlassTouched, "weak"),
        (Kind::NodeAlarm, "escape"),
    ] {
        glass.room.sequencer.note(told(kind, code), None).await.unwrap();
    }
    while courier.step().await == Ok(Step::Sent) {}
    let codes: Vec<_> = hook
        .bodies()
        .iter()
        .map(|body| body["data"]["entry"]["detail"]["code"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(codes, ["suspect", "silent", "others", "weak"]);
}

#[tokio::test]
async fn it_is_woken_runs_until_told_to_stop_and_reports() {
    let glass = Glass::new().await;
    let (hook, url) = Hook::new(&[Answers::Says(500)]).await;
    let courier = courier(&glass, webhook(&url)).await;
    let readiness = Arc::new(Readiness::new(glass.room.store.clone()));
    let (wake, woken) = watch::channel(crate::audit::Standing::default());
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(courier.run(Arc::clone(&readiness), woken, stopped));
    let check = async || readiness.checks().await.into_iter().find(|check| check.name == "notify pager");
    while check().await.is_none_or(|check| !check.ok) {
        tokio::task::yield_now().await;
    }
    tell(&glass).await;
    wake.send_replace(crate::audit::Standing::default());
    while check().await.is_none_or(|check| check.ok) {
        tokio::task::yield_now().await;
    }
    let failing = check().await.unwrap();
    assert_eq!(failing.detail.as_deref(), Some("the sink answers 500; 1 entries of the log wait to be looked at"));
    assert!(!failing.required, "the broker serves all the same");
    while hook.count() < 2 || check().await.is_none_or(|check| !check.ok) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.send(true).unwrap();
    running.await.unwrap();
    assert_eq!(glass.room.store.head().await.unwrap().size, cursor(&glass).await);
}

#[tokio::test]
async fn whoever_moves_the_cursor_keeps_no_notification_back_unseen() {
    use crate::store::ForwardRow;
    let by_another_key = crate::custody::DataKey::new(&[2; 32]).unwrap().tag(b"ichor place in the log 1\0", b"");
    for tag in [None, Some(vec![7; 32]), Some(by_another_key.to_vec()), Some(Vec::new())] {
        let glass = Glass::new().await;
        let (hook, url) = Hook::new(&[]).await;
        let mut first = courier(&glass, webhook(&url)).await;
        for _ in 0..3 {
            tell(&glass).await;
        }
        assert_eq!(first.step().await, Ok(Step::Sent));
        drop(first);
        // past the two that wait
        let store = &glass.room.store;
        let kept = store.forward_cursor("notify/pager").await.unwrap().unwrap();
        let forged = ForwardRow { next: kept.next + 2, tag };
        assert!(store.move_forward("notify/pager", Some(&kept), &forged).await.unwrap());
        let mut again = restarted(&glass, webhook(&url));
        again.begin(true).await.unwrap();
        let said = again.step().await.unwrap_err().why;
        assert!(said.contains("changed by someone else") && said.contains("another name"), "{said}");
        // and stays, also where it is put back
        assert!(store.move_forward("notify/pager", Some(&forged), &kept).await.unwrap());
        assert_eq!(again.step().await.unwrap_err().why, said);
        assert_eq!(hook.count(), 1);
        // what was to be told is known again
        let mut sound = restarted(&glass, webhook(&url));
        sound.begin(true).await.unwrap();
        assert_eq!(sound.step().await, Ok(Step::Sent));
        assert_eq!(sound.step().await, Ok(Step::Sent));
    }
}

#[tokio::test]
async fn a_cursor_that_is_moved_under_a_courier_at_work_ends_its_telling() {
    use crate::store::ForwardRow;
    let glass = Glass::new().await;
    let (_hook, url) = Hook::new(&[]).await;
    let mut courier = courier(&glass, webhook(&url)).await;
    tell(&glass).await;
    let store = &glass.room.store;
    let kept = store.forward_cursor("notify/pager").await.unwrap().unwrap();
    let forged = ForwardRow { next: kept.next + 1, ..kept.clone() };
    assert!(store.move_forward("notify/pager", Some(&kept), &forged).await.unwrap());
    assert!(courier.step().await.unwrap_err().why.contains("changed by someone else"));
    assert_eq!(store.forward_cursor("notify/pager").await.unwrap(), Some(forged), "nothing is written over it");
}

#[tokio::test]
async fn an_entry_whose_body_was_taken_away_is_not_passed_over() {
    let glass = Glass::new().await;
    let (hook, url) = Hook::new(&[]).await;
    let mut courier = courier(&glass, webhook(&url)).await;
    let kept = cursor(&glass).await;
    tell(&glass).await;
    glass.room.edit(
        "CREATE TABLE aside.side AS SELECT * FROM body WHERE idx = (SELECT max(idx) FROM leaf);
         DELETE FROM body WHERE idx = (SELECT max(idx) FROM leaf)",
    );
    for _ in 0..5 {
        let held_up = courier.step().await.unwrap_err();
        assert!(held_up.why.contains("has lost its body, and was not dropped"), "{held_up}");
    }
    assert_eq!((cursor(&glass).await, hook.count()), (kept, 0));
    glass.room.edit("INSERT INTO body (idx, body) SELECT idx, body FROM side");
    assert_eq!(courier.step().await, Ok(Step::Sent));
    assert_eq!(hook.count(), 1);
}
