//! What the log says of locks, held against a database that says otherwise; and what the answer to a lock tells.

use ichor_wire::log::{Content, Kind};
use jiff::SignedDuration;

use super::ledger::Ledger;
use super::*;
use crate::audit::tests::Room;
use crate::store::conformance::noon;
use crate::store::{Change, LockChange, Store as _};

fn book(room: &Room) -> Book {
    Book::new(room.store.clone(), room.sequencer.clone(), room.clock.clone())
}

async fn set(book: &Book, target: LockTarget, seconds: Option<u64>) -> LockRow {
    book.set(Who::Host("root", "broker-1"), Content::of(Kind::Lock), target, seconds, "INC-42".into()).await.unwrap()
}

/// Someone who writes the database ends a lock: nothing stops it, but the log has it still.
#[tokio::test]
async fn a_lock_that_vanished_from_the_database_is_told() {
    let room = Room::new([]);
    let (book, mut ledger) = (book(&room), Ledger::default());
    let prod = LockTarget::Cluster(ClusterName::new("prod").unwrap());
    let [taken, lifted, ends, all] = [
        set(&book, prod.clone(), None).await,
        set(&book, prod.clone(), None).await,
        set(&book, prod, Some(60)).await,
        set(&book, LockTarget::Everything, None).await,
    ];
    assert_eq!(ledger.vanished(&*room.store, noon()).await.unwrap(), []);
    book.lift(Who::Host("root", "broker-1"), Content::of(Kind::Unlock), &lifted, "over", false).await.unwrap();
    assert_eq!(ledger.vanished(&*room.store, noon()).await.unwrap(), []);
    // as a writer of the database would: the row is ended, and no entry says so
    for row in [&taken, &ends] {
        let change = LockChange::Lift { lock: row.id, person: None, by: "nobody".into(), session: None };
        room.sequencer.note(Content::of(Kind::Reload), Some(Change::Lock { change, now: noon() })).await.unwrap();
    }
    let mut vanished = ledger.vanished(&*room.store, noon()).await.unwrap();
    vanished.sort();
    assert_eq!(vanished, {
        let mut two = [taken.id, ends.id];
        two.sort();
        two
    });
    let later = noon() + SignedDuration::from_secs(60);
    assert_eq!(ledger.vanished(&*room.store, later).await.unwrap(), [taken.id], "the other's time is over");
    assert_eq!(Ledger::default().vanished(&*room.store, later).await.unwrap(), [taken.id], "read from the beginning");
    assert!(book.find(all.id).await.unwrap().holds(later));
}

#[tokio::test]
async fn locks_whose_time_is_over_are_recorded_once() {
    let room = Room::new([]);
    let book = book(&room);
    let row = set(&book, LockTarget::Everything, Some(60)).await;
    assert_eq!(book.time_out().await.unwrap().len(), 1);
    room.clock.advance(SignedDuration::from_secs(60));
    assert_eq!(book.time_out().await.unwrap(), []);
    assert_eq!(book.time_out().await.unwrap(), []);
    let ended = book.find(row.id).await.unwrap().ended.unwrap();
    assert_eq!(ended, ("its time was over".into(), noon() + SignedDuration::from_secs(60)));
    assert_eq!(room.store.head().await.unwrap().size, 2, "the lock and its end");
}

#[test]
fn what_a_lock_does_not_end_is_said() {
    let cluster = LockTarget::Cluster(ClusterName::new("prod").unwrap());
    let none = beyond(&cluster, &Outstanding::default());
    assert!(none[0].contains("no certificate is outstanding") && none[1].contains("kit"), "{none:?}");
    let everything = beyond(&LockTarget::Everything, &Outstanding::default());
    assert!(everything[1].contains("nobody lifts it alone") && everything[2].contains("kit"), "{everything:?}");
    assert!(!none.iter().any(|line| line.contains("alone")), "{none:?}");
    let until = Some(noon() + SignedDuration::from_millis(123));
    let some = Outstanding { certificates: 2, more: true, until, clusters: ["prod".into()].into() };
    let user = LockTarget::User { issuer: "https://id.example.com".into(), subject: "x".into() };
    let lines = beyond(&user, &some);
    assert!(
        lines[0].starts_with("2 or more certificates") && lines[0].contains("at 2026-11-22T12:00:00Z:"),
        "{lines:?}"
    );
    assert!(lines[1].contains("open connection"), "{lines:?}");
    assert!(lines[2].contains("ichor-broker ca removal-patch prod --machine-config node.yaml"), "{lines:?}");
    assert!(lines[3].contains("rotate-ca") && lines.len() == 4, "{lines:?}");
}
