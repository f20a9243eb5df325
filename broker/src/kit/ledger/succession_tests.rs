//! Kits in the place of others: what one that is there spares the old one, and what comes back once it is revoked.

use ichor_wire::log::Kit;

use super::tests::{made, opened, proved, states};
use super::*;
use crate::audit::tests::Room;
use crate::clock::Clock;
use crate::store::conformance::noon;

/// A kit of this number, made in the place of another.
fn successor(number: u16, replaces: u16) -> Content {
    let id = Some(Uuid::from_u128(number.into()).into_bytes().to_vec());
    Content { kit: Some(Kit { number, id, replaces: Some(replaces), ..made().kit.unwrap() }), ..made() }
}

fn revoked(number: u16) -> Content {
    let id = Some(Uuid::from_u128(number.into()).into_bytes().to_vec());
    Content { kit: Some(Kit { number, id, ..Kit::default() }), ..Content::of(Kind::KitRevoked) }
}

fn day(number: i64) -> Timestamp {
    noon() + SignedDuration::from_hours(24 * number)
}

#[tokio::test]
async fn a_successor_that_is_revoked_silences_the_old_kit_no_more() {
    let replaced_by = async |contents| states(contents).await[0].replaced_by;
    assert_eq!(replaced_by(vec![made(), successor(8, 7)]).await, Some(8));
    let kit = states(vec![made(), successor(8, 7), revoked(8)]).await.remove(0);
    assert_eq!(kit.replaced_by, None);
    assert!(kit.is_near_its_end(day(350)), "there is none in its place");
    assert!(Standing { moved: Some(Moved::Ca), ..kit }.is_left_behind());
    // another after it, and another after that
    assert_eq!(replaced_by(vec![made(), successor(8, 7), revoked(8), successor(9, 7)]).await, Some(9));
    assert_eq!(replaced_by(vec![made(), successor(8, 7), successor(9, 8), revoked(8)]).await, Some(9));
    assert_eq!(replaced_by(vec![made(), successor(8, 7), successor(9, 8), revoked(8), revoked(9)]).await, None);
    // another cluster's kit 8
    let of_lab = Content { cluster: Some("lab".into()), ..successor(8, 7) };
    assert_eq!(replaced_by(vec![made(), of_lab]).await, None);
    assert_eq!(replaced_by(vec![made(), revoked(7), successor(8, 7)]).await, Some(8));
}

#[tokio::test]
async fn of_a_kit_with_a_successor_nothing_but_its_end_is_left_to_do() {
    let [old, _] = &states(vec![made(), opened(1, "drill"), successor(8, 7)]).await[..] else { panic!() };
    let [expired, _] = &states(vec![made(), successor(8, 7)]).await[..] else { panic!() };
    for (kit, now, state) in [(old, noon(), State::Used), (expired, day(366), State::Expired)] {
        assert_eq!(kit.state(now), state);
        let complaint = kit.complaint(now).unwrap();
        assert!(complaint.contains("kit 8 is there in its place"), "{complaint}");
        assert!(complaint.contains("`ichor-broker kit revoke 7`") && !complaint.contains("rotate"), "{complaint}");
    }
    let ended = states(vec![made(), opened(1, "drill"), successor(8, 7), revoked(8)]).await.remove(0);
    assert!(ended.complaint(noon()).unwrap().contains("`ichor-broker kit rotate 7`"));
}

#[tokio::test]
async fn one_that_was_opened_or_has_expired_is_told_once_a_day_until_another_takes_its_place() {
    for (hours, first) in [(0, vec![made(), opened(1, "emergency")]), (24 * 365, vec![made()])] {
        let room = Room::new([]);
        for content in first {
            room.sequencer.note(content, None).await.unwrap();
        }
        room.clock.advance(SignedDuration::from_hours(hours));
        let told = async |hours: i64| {
            room.clock.advance(SignedDuration::from_hours(hours));
            let (kits, size) = read_with_size(&*room.store).await.unwrap();
            crate::kit::remind(&kits, size, &room.sequencer, room.clock.now()).await.unwrap();
            let log = room.log().await.into_iter();
            let of_7 = |entry: &ichor_wire::log::Entry| {
                entry.content.kind == Kind::KitOverdue && entry.content.kit.as_ref().is_some_and(|kit| kit.number == 7)
            };
            log.filter(of_7).count()
        };
        assert_eq!((told(0).await, told(23).await, told(1).await), (1, 1, 2), "once a day");
        let message = room.log().await.pop().unwrap().content.message.unwrap();
        assert!(message.contains("`ichor-broker kit rotate 7`"), "{message}");
        // drilled, so that of the new one nothing is due
        let id = Some(Uuid::from_u128(8).into_bytes().to_vec());
        let drilled = Content { kit: Some(Kit { number: 8, id, ..Kit::default() }), ..proved(&[1, 2], (1, 1)) };
        for content in [successor(8, 7), drilled] {
            room.sequencer.note(content, None).await.unwrap();
        }
        assert_eq!(told(48).await, 2, "another is there");
        room.sequencer.note(revoked(8), None).await.unwrap();
        assert_eq!(told(0).await, 3, "and is no more");
        room.sequencer.note(revoked(7), None).await.unwrap();
        assert_eq!(told(48).await, 3);
    }
}
