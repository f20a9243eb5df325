//! `ichor lock`, `unlock` and `locks`.

use ichor_wire::api::LockOn;
use uuid::Uuid;

use crate::world::World;

fn alice() -> LockOn {
    LockOn::User { issuer: "https://login.example".into(), subject: "42".into() }
}

/// What was asked to be locked.
fn locked(world: &World) -> Vec<LockOn> {
    world.fake.with(|state| state.locks.iter().map(|ask| ask.on.clone()).collect())
}

#[test]
fn what_is_locked_is_said_and_what_the_lock_does_not_end() {
    let world = World::logged_in();
    let ran = world.ichor(&["lock", "user", "alice@example.com", "--for", "1h", "--reason", "stolen laptop"]);
    insta::assert_snapshot!("lock_user", ran.transcript());
    let ask = world.fake.with(|state| state.locks.remove(0));
    assert_eq!((ask.on, ask.seconds, ask.reason.as_str()), (alice(), Some(3600), "stolen laptop"));
    world.ichor(&["lock", "user", "--issuer", "https://login.example", "--subject", "42"]).ok();
    let id = Uuid::from_u128(7).to_string();
    world.ichor(&["lock", "session", &id]).ok();
    world.ichor(&["lock", "grant", &id]).ok();
    world.ichor(&["lock", "cluster", "prod"]).ok();
    let id = Uuid::from_u128(7);
    let expected = [alice(), LockOn::Session { id }, LockOn::Grant { id }, LockOn::Cluster { name: "prod".into() }];
    assert_eq!(locked(&world), expected);
    assert_eq!(world.fake.with(|state| state.locks[0].reason.clone()), "no reason given");
    for unclear in ["twins", "nobody"] {
        let ran = world.ichor(&["lock", "user", unclear]);
        assert_eq!(ran.code, 2, "{}", ran.transcript());
        assert!(ran.err.contains("--issuer"), "{}", ran.transcript());
    }
    for wrong in [
        &["lock", "user"][..],
        &["lock", "node", "x"],
        &["lock", "session", "prod"],
        &["lock", "cluster"],
        &["lock", "cluster", "--issuer", "x", "--subject", "y"],
        &["lock", "user", "--issuer", "x"],
        &["lock", "everything", "prod"],
        &["lock", "cluster", "prod", "--for", "0s"],
    ] {
        assert_eq!(world.ichor(wrong).code, 2, "{wrong:?}");
    }
    assert_eq!(locked(&world), expected, "what cannot be meant locks nothing");
    world.fake.assert_kept();
}

#[test]
fn everything_is_locked_only_by_whoever_is_sure() {
    let world = World::logged_in();
    let ran = world.ichor(&["lock", "everything"]);
    assert_eq!(ran.code, 2, "nobody is here to ask: {}", ran.transcript());
    assert_eq!(locked(&world), []);
    world.ichor(&["lock", "everything", "--yes"]).ok();
    assert_eq!(locked(&world), [LockOn::Everything]);
}

#[test]
fn locks_are_listed_and_lifted_by_what_they_are_on_or_by_id() {
    let world = World::logged_in();
    insta::assert_snapshot!("locks", world.ichor(&["locks"]).transcript());
    assert!(!world.fake.with(|state| state.seen.iter().any(|seen| seen.contains("ended"))));
    world.ichor(&["locks", "--ended"]).ok();
    assert!(world.fake.with(|state| state.seen.iter().any(|seen| seen == "GET /v1/locks?ended=true")));
    let lifts = || world.fake.with(|state| std::mem::take(&mut state.unlocks));
    let ran = world.ichor(&["unlock", "user", "alice@example.com", "--reason", "found"]);
    insta::assert_snapshot!("unlock_user", ran.transcript());
    let [(id, ask)] = &lifts()[..] else { panic!("one lock is of her") };
    assert_eq!((id.as_str(), ask.reason.as_str(), ask.confirm), (&*Uuid::from_u128(21).to_string(), "found", false));
    world.ichor(&["unlock", "user", "--issuer", "https://login.example", "--subject", "42"]).ok();
    assert_eq!(lifts().len(), 1);
    world.ichor(&["unlock", &Uuid::from_u128(21).to_string()]).ok();
    assert_eq!(lifts().len(), 1);
    insta::assert_snapshot!("unlock_everything", world.ichor(&["unlock", "everything"]).transcript());
    world.ichor(&["unlock", "everything", "--confirm"]).ok();
    assert_eq!(lifts().iter().map(|(_, ask)| ask.confirm).collect::<Vec<_>>(), [false, true]);
    assert_eq!(world.ichor(&["unlock", "cluster", "staging"]).code, 1, "it is not locked");
    assert_eq!(world.ichor(&["unlock", "prod"]).code, 2);
    assert!(lifts().is_empty());
    world.fake.assert_kept();
}
