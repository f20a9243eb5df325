//! What the log tells of kits, entry by entry.

use ichor_wire::log::Kit;

use super::*;
use crate::audit::tests::Room;
use crate::clock::Clock;
use crate::custody::ca;
use crate::domain::ClusterName;
use crate::store::conformance::noon;

const ID: Uuid = Uuid::from_u128(7);

fn kit() -> Kit {
    Kit { number: 7, id: Some(ID.into_bytes().to_vec()), ..Kit::default() }
}

pub(crate) fn made() -> Content {
    let ca = ca::create(&ClusterName::new("prod").unwrap(), noon(), 1).unwrap();
    let holder =
        |name: &str| KitHolder { name: name.into(), recipient: None, commitment: vec![1; 32], proof_key: vec![2; 32] };
    let kit = Kit {
        ca: Some(ca.certificate().der().to_vec()),
        until: Some(ca.certificate().not_after().as_second()),
        threshold: Some(2),
        ttl_cap: Some(3600),
        holders: Some(["ada", "bob"].map(holder).to_vec()),
        file: Some(vec![3; 32]),
        ..kit()
    };
    Content {
        cluster: Some("prod".into()),
        roles: Some(vec!["os:admin".into()]),
        witnesses: Some(vec!["eve".into(), "joe".into()]),
        kit: Some(kit),
        ..Content::of(Kind::KitMade)
    }
}

pub(crate) fn proved(shares: &[u8], accepting: (u64, u64)) -> Content {
    Content {
        kit: Some(kit()),
        shares: Some(shares.to_vec()),
        accepting: Some(accepting),
        ..Content::of(Kind::KitDrill)
    }
}

pub(crate) fn opened(grant: u128, label: &str) -> Content {
    Content {
        kit: Some(kit()),
        grant: Some(Uuid::from_u128(grant).into_bytes().to_vec()),
        claimed: Some("ada".into()),
        kit_label: Some(label.into()),
        opened: Some(noon().as_second()),
        ..Content::of(Kind::KitOpened)
    }
}

fn in_use(grant: u128, cluster: &str) -> Content {
    Content {
        cluster: Some(cluster.into()),
        kit: Some(Kit { id: None, ..kit() }),
        grant: Some(Uuid::from_u128(grant).into_bytes().to_vec()),
        ..Content::of(Kind::KitInUse)
    }
}

#[tokio::test]
async fn an_entry_of_a_kit_that_was_changed_or_has_no_body_is_read_by_nobody() {
    for sql in [
        "UPDATE body SET body = (SELECT body FROM body WHERE idx = 1) WHERE idx = 0",
        "DELETE FROM body WHERE idx = 0",
        "UPDATE leaf SET kind = (SELECT kind FROM leaf WHERE idx = 1) WHERE idx = 0",
    ] {
        let room = Room::new([]);
        for content in [made(), opened(1, "drill")] {
            room.sequencer.note(content, None).await.unwrap();
        }
        assert_eq!(read(&*room.store).await.unwrap().len(), 1);
        room.edit(sql);
        assert_eq!(read(&*room.store).await.map(|kits| kits.len()), Err(LedgerError::Entry(0)), "{sql}");
    }
}

pub(crate) async fn states(contents: Vec<Content>) -> Vec<Standing> {
    let room = Room::new([]);
    for content in contents {
        room.sequencer.note(content, None).await.unwrap();
    }
    read(&*room.store).await.unwrap()
}

#[tokio::test]
async fn a_kit_is_fresh_by_a_whole_drill_alone_and_due_ninety_days_later() {
    let in_days = |days: i64| noon() + SignedDuration::from_hours(24 * days);
    let [kit] = &states(vec![made()]).await[..] else { panic!() };
    assert_eq!([0, 89, 90].map(|days| kit.state(in_days(days))), [State::Undrilled, State::Undrilled, State::Due]);
    assert_eq!(kit.state(in_days(365)), State::Expired);
    assert!(kit.complaint(in_days(90)).unwrap().contains("kit drill 7"));
    let at = noon() + SignedDuration::from_micros(123_456);
    let complaint = Standing { made: at, ..kit.clone() }.complaint(in_days(91)).unwrap();
    assert!(complaint.contains("was to be drilled by 2027-02-20T12:00:00Z; run"), "{complaint}");
    assert_eq!(kit.complaint(in_days(89)), None);
    for (shares, accepting) in [(&[1][..], (2, 2)), (&[1, 2], (1, 2)), (&[1, 2], (0, 0)), (&[], (2, 2))] {
        let kits = states(vec![made(), proved(shares, accepting)]).await;
        assert_eq!(kits[0].drilled, None, "{shares:?} {accepting:?} is no whole drill");
    }
    let [kit] = &states(vec![made(), proved(&[2, 1], (2, 2))]).await[..] else { panic!() };
    assert!(kit.drilled.is_some());
    assert_eq!([0, 89, 90].map(|days| kit.state(in_days(days))), [State::Fresh, State::Fresh, State::Due]);
}

#[tokio::test]
async fn a_kit_whose_end_is_near_is_due_and_told_once_a_week_unless_another_takes_its_place() {
    let room = Room::new([]);
    room.sequencer.note(made(), None).await.unwrap();
    // drilled the day before, so that nothing else is to be done
    let last = SignedDuration::from_hours(24 * (365 - 30));
    room.clock.advance(last - SignedDuration::from_hours(24));
    room.sequencer.note(proved(&[1, 2], (2, 2)), None).await.unwrap();
    let told = async |hours: i64| {
        room.clock.advance(SignedDuration::from_hours(hours));
        let (kits, size) = read_with_size(&*room.store).await.unwrap();
        crate::kit::remind(&kits, size, &room.sequencer, room.clock.now()).await.unwrap();
        let log = room.log().await.into_iter();
        (kits[0].state(room.clock.now()), log.filter(|entry| entry.content.kind == Kind::KitOverdue).count())
    };
    assert_eq!(told(23).await, (State::Fresh, 0));
    assert_eq!(told(1).await, (State::Due, 1));
    let entry = room.log().await.pop().unwrap().content;
    assert!(entry.message.unwrap().contains("ends at 2027-11-22T12:00:00Z; run `ichor-broker kit rotate 7`"));
    assert_eq!(told(24 * 7 - 1).await, (State::Due, 1), "once a week");
    assert_eq!(told(1).await, (State::Due, 2));
    let mut kits = states(vec![made()]).await;
    kits[0].drilled = Some(room.clock.now());
    assert!(kits[0].is_near_its_end(room.clock.now()));
    kits[0].replaced_by = Some(8);
    assert_eq!(kits[0].state(room.clock.now()), State::Fresh);
}

#[tokio::test]
async fn an_overdue_drill_is_told_once_a_day_until_it_is_done() {
    let room = Room::new([]);
    room.sequencer.note(made(), None).await.unwrap();
    let told = async |days: i64, minutes: i64| {
        room.clock.advance(SignedDuration::from_hours(24 * days) + SignedDuration::from_mins(minutes));
        let (kits, size) = read_with_size(&*room.store).await.unwrap();
        crate::kit::remind(&kits, size, &room.sequencer, room.clock.now()).await.unwrap();
        // another broker, which looked within the same moment
        crate::kit::remind(&kits, size, &room.sequencer, room.clock.now()).await.unwrap();
        room.log().await.into_iter().filter(|entry| entry.content.kind == Kind::KitOverdue).count()
    };
    assert_eq!(told(89, 23 * 60 + 59).await, 0);
    assert_eq!(told(0, 1).await, 1);
    assert_eq!(told(0, 23 * 60 + 59).await, 1, "once a day");
    assert_eq!(told(0, 1).await, 2);
    let entry = room.log().await.pop().unwrap().content;
    assert!(entry.message.unwrap().contains("`ichor-broker kit drill 7`"));
    room.sequencer.note(proved(&[1, 2], (2, 2)), None).await.unwrap();
    assert_eq!(told(2, 0).await, 2);
}

#[tokio::test]
async fn a_reminder_follows_what_was_read_and_all_that_are_due_are_told() {
    let room = Room::new([]);
    for number in [7, 8, 9] {
        let id = Some(Uuid::from_u128(number.into()).into_bytes().to_vec());
        let content = Content { kit: Some(Kit { number, id, ..made().kit.unwrap() }), ..made() };
        room.sequencer.note(content, None).await.unwrap();
    }
    room.clock.advance(DRILL_EVERY);
    let told = async || {
        let log = room.log().await.into_iter();
        let told = log.filter(|entry| entry.content.kind == Kind::KitOverdue);
        told.map(|entry| entry.content.kit.unwrap().number).collect::<Vec<_>>()
    };
    let (kits, size) = read_with_size(&*room.store).await.unwrap();
    // meanwhile one of them is drilled
    let id = Some(Uuid::from_u128(8).into_bytes().to_vec());
    let drilled = Content { kit: Some(Kit { number: 8, id, ..Kit::default() }), ..proved(&[1, 2], (2, 2)) };
    room.sequencer.note(drilled, None).await.unwrap();
    crate::kit::remind(&kits, size, &room.sequencer, room.clock.now()).await.unwrap();
    assert_eq!(told().await, [0_u16; 0], "the next look shows what is due still");
    let (kits, size) = read_with_size(&*room.store).await.unwrap();
    crate::kit::remind(&kits, size, &room.sequencer, room.clock.now()).await.unwrap();
    assert_eq!(told().await, [7, 9]);
}

#[tokio::test]
async fn a_drill_under_way_has_the_newest_challenge() {
    let begun = |byte| Content { kit: Some(kit()), challenge: Some(vec![byte; 32]), ..Content::of(Kind::KitDrill) };
    let kits = states(vec![made(), begun(1), begun(2)]).await;
    assert_eq!(kits[0].challenge.unwrap().1, [2; 32]);
    let kits = states(vec![made(), begun(1), proved(&[1, 2], (1, 1))]).await;
    assert_eq!(kits[0].challenge, None, "a challenge serves one drill");
}

/// Every opening of a static kit has one grant: what tells them apart is when.
#[tokio::test]
async fn a_report_of_a_static_kit_explains_the_uses_of_its_time_alone() {
    let at = |minutes: i64| noon() + SignedDuration::from_mins(minutes);
    let made_static = || {
        let kit = made();
        let facts = Kit { certificate: Some(vec![1]), ..kit.kit.clone().unwrap() };
        Content { kit: Some(facts), ..kit }
    };
    let used = |minutes| Content { opened: Some(at(minutes).as_second()), ..in_use(1, "prod") };
    let reported = |from, until| Content {
        opened: Some(at(from).as_second()),
        not_after: Some(at(until).as_second()),
        ..opened(1, "emergency")
    };
    let kit = async |contents| states(contents).await.remove(0);
    let state = async |contents| kit(contents).await.state(at(0));
    assert_eq!(state(vec![made_static(), used(5)]).await, State::Unreported);
    assert_eq!(state(vec![made_static(), used(5), reported(0, 30)]).await, State::Used);
    assert_eq!(state(vec![made_static(), reported(0, 30), used(5)]).await, State::Used);
    assert_eq!(state(vec![made_static(), reported(0, 30), used(31)]).await, State::Unreported, "someone else's");
    assert_eq!(state(vec![made_static(), used(31), reported(0, 30)]).await, State::Unreported);
    assert_eq!(state(vec![made_static(), used(-11), reported(0, 30)]).await, State::Unreported);
    assert_eq!(state(vec![made_static(), used(31), reported(0, 30), reported(30, 60)]).await, State::Used);
    assert_eq!(state(vec![made_static(), in_use(1, "prod")]).await, State::Undrilled, "it was told with its time");
    let twice = kit(vec![made_static(), reported(0, 30), reported(30, 60), reported(0, 30)]).await;
    assert_eq!(twice.openings.len(), 2, "two openings, one of them reported again");
    assert!(twice.is_static() && twice.record_key().is_none(), "no certificate, no key");
}

/// A certificate lasts as long as its opening was said to; what comes later under its grant is somebody else's, or not what was said.
#[tokio::test]
async fn a_report_explains_the_uses_of_its_grant_within_its_time_alone() {
    let at = |minutes: i64| (noon() + SignedDuration::from_mins(minutes)).as_second();
    let used =
        |minutes, code: &str| Content { opened: Some(at(minutes)), code: Some(code.into()), ..in_use(1, "prod") };
    let report = || Content { opened: Some(at(0)), not_after: Some(at(30)), ..opened(1, "emergency") };
    let state = async |contents| states(contents).await[0].state(noon());
    for contents in [vec![made(), report(), used(20, "kit-in-use")], vec![made(), used(20, "kit-in-use"), report()]] {
        assert_eq!(state(contents).await, State::Used);
    }
    for contents in [vec![made(), report(), used(31, "suspect")], vec![made(), used(31, "kit-in-use"), report()]] {
        assert_eq!(state(contents).await, State::Unreported, "after its end");
    }
    let beyond = used(20, NOT_AS_REPORTED);
    let again = Content { kit_label: Some("misuse".into()), ..report() };
    let kit = states(vec![made(), report(), beyond.clone(), again]).await.remove(0);
    assert_eq!(kit.state(noon()), State::Unreported, "no report explains what was held against one");
    let complaint = kit.complaint(noon()).unwrap();
    assert!(complaint.contains("not as its opening was reported") && complaint.contains("kit revoke 7"), "{complaint}");
    let revoked = || Content { kit: Some(self::kit()), ..Content::of(Kind::KitRevoked) };
    assert_eq!(state(vec![made(), report(), beyond.clone(), revoked()]).await, State::Revoked);
    let kit = states(vec![made(), report(), revoked(), beyond]).await.remove(0);
    assert_eq!(kit.state(noon()), State::Unreported);
    assert!(kit.complaint(noon()).unwrap().contains("a node takes it still"));
    // more of the same within a minute is told without a time, and is no use of its own
    let more = Content { opened: None, ..used(20, "kit-in-use") };
    assert_eq!(states(vec![made(), used(20, "kit-in-use"), more]).await[0].unreported.len(), 1);
}

#[tokio::test]
async fn what_a_node_saw_stays_until_it_is_reported() {
    let state = async |contents| states(contents).await[0].state(noon());
    assert_eq!(state(vec![made(), in_use(1, "prod")]).await, State::Unreported);
    assert_eq!(state(vec![made(), in_use(1, "lab")]).await, State::Undrilled, "another cluster's kit of that number");
    assert_eq!(state(vec![made(), in_use(1, "prod"), opened(1, "emergency")]).await, State::Used);
    assert_eq!(state(vec![made(), in_use(1, "prod"), opened(2, "emergency")]).await, State::Unreported);
    assert_eq!(state(vec![made(), opened(1, "emergency"), in_use(1, "prod")]).await, State::Used);
    let revoked = Content { kit: Some(kit()), ..Content::of(Kind::KitRevoked) };
    assert_eq!(state(vec![made(), in_use(1, "prod"), revoked.clone()]).await, State::Revoked);
    // a node to which the patch did not come
    let kit = states(vec![made(), revoked, in_use(1, "prod")]).await.remove(0);
    assert_eq!(kit.state(noon()), State::Unreported);
    let complaint = kit.complaint(noon()).unwrap();
    assert!(
        complaint.contains("was revoked, and a node takes it still")
            && complaint.contains("kit revoke 7 --machine-config"),
        "{complaint}"
    );
    for label in ["drill", "emergency", "misuse"] {
        let [kit] = &states(vec![made(), proved(&[1, 2], (1, 1)), opened(1, label)]).await[..] else { panic!() };
        assert_eq!(kit.state(noon()), State::Used, "the shares have met, {label} or not");
        let complaint = kit.complaint(noon()).unwrap();
        assert!(complaint.contains("`ichor-broker kit rotate 7`") && complaint.contains("revoke"), "{complaint}");
    }
}

#[tokio::test]
async fn what_an_opening_was_said_to_be_stays_the_worst_first() {
    let said = ["emergency", "misuse", "drill", "misuse"].map(|label| opened(1, label));
    let kits = states([&[made()][..], &said].concat()).await;
    assert_eq!(kits[0].openings.len(), 1);
    assert_eq!(kits[0].openings[0].labels, ["misuse", "emergency", "drill"]);
}

/// Whatever label it bears: what is more than the kit gives explains nothing, and is told.
#[tokio::test]
async fn an_opening_beyond_its_kit_explains_nothing_and_is_told() {
    let at = |seconds: i64| Some((noon() + SignedDuration::from_secs(seconds)).as_second());
    let day = 24 * 3600;
    let reported = |label: &str, roles: &[&str], from, until| Content {
        roles: Some(roles.iter().map(ToString::to_string).collect()),
        opened: at(from),
        not_after: at(until),
        ..opened(1, label)
    };
    let state = async |report: Content| {
        let kit = states(vec![made(), in_use(1, "prod"), report]).await.remove(0);
        let complaint = kit.complaint(noon()).unwrap();
        assert_eq!(complaint.contains("claims more than the kit gives"), kit.openings[0].is_beyond(), "{complaint}");
        assert_eq!(kit.openings[0].labels.contains(&BEYOND.to_owned()), kit.openings[0].is_beyond());
        kit.state(noon())
    };
    assert_eq!(state(reported("drill", &["os:admin"], 0, 3600)).await, State::Used);
    for (what, report) in [
        ("another role", reported("drill", &["os:admin", "os:etcd:backup"], 0, 3600)),
        ("longer than the cap", reported("drill", &["os:admin"], 0, 3601)),
        ("before the CA", reported("drill", &["os:admin"], -day, 3600 - day)),
        ("after the CA", reported("drill", &["os:admin"], 365 * day - 60, 365 * day + 60)),
        ("an end before its beginning", reported("drill", &["os:admin"], 60, 0)),
        ("so recorded", reported(BEYOND, &["os:admin"], 0, 60)),
    ] {
        assert_eq!(state(report).await, State::Unreported, "{what}");
    }
    // nor does it take away what another report explains
    let beyond = reported(BEYOND, &["os:admin"], 0, 3600);
    let good = reported("emergency", &["os:admin"], 0, 3600);
    let [kit] = &states(vec![made(), good, beyond, in_use(1, "prod")]).await[..] else { panic!() };
    assert_eq!((kit.state(noon()), kit.openings.len()), (State::Used, 2));
}
