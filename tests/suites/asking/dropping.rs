//! Bodies of entries that two people drop, and what stays.

use std::sync::Arc;

use ichor_client::Error;
use ichor_tests::{Fault, Faults, Options, Person, World};
use ichor_wire::api::{
    DropAnswer, DropAsk, DroppedAnswer, LockAnswer, LockAsk, LockOn, LockSetAnswer, Nothing, UnlockAsk,
};
use ichor_wire::log::Kind;
use ichor_wire::problem::Code;
use jiff::SignedDuration;

use super::{POLICIES, certificate, story};

/// A world whose bodies may go after a day, and whose store fails as told.
async fn world() -> anyhow::Result<(World, Arc<Faults>)> {
    let faults = Faults::none();
    let config = "[audit]\ndrop_min_age = \"24h\"\n".into();
    let wrap_store = Some(faults.wrap());
    let world = World::with(Options { config, policies: Some(POLICIES), wrap_store, ..Options::default() }).await?;
    Ok((world, faults))
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_go_when_two_agree_and_only_old_ones() -> anyhow::Result<()> {
    let (world, faults) = world().await?;
    let alice = Person::log_in(&world, "alice").await?;
    let grant = certificate(&alice).await?.to_string();
    let code = |error: Error| match error {
        Error::Problem(problem) => problem.code,
        other => panic!("{other}"),
    };
    let user = world.entries().await?.iter().find(|entry| entry.kind == "issued").unwrap().user.clone();
    let ask_for = async |person: &Person| -> Result<DropAnswer, Error> {
        let ask = DropAsk { person: user.clone(), before: None, reason: "asked by law".into() };
        person.session.broker().post(&person.session, &["audit", "drops"], &ask).await
    };
    assert_eq!(code(ask_for(&alice).await.unwrap_err()), Code::Refused);
    let root = Person::log_in(&world, "root").await?;
    assert_eq!(ask_for(&root).await?.bodies, Some(0), "nothing is a day old");

    world.clock.advance(SignedDuration::from_hours(25));
    let (root, oscar) = (Person::log_in(&world, "root").await?, Person::log_in(&world, "oscar").await?);
    let asked = ask_for(&root).await?;
    assert_eq!(asked.bodies, Some(3), "login, grant, issued");
    let said = world.entries().await?;
    let [read, said] = &said[..2] else { panic!("{said:?}") };
    assert_eq!((read.kind.as_str(), said.kind.as_str()), ("audit-read", "body-dropped"), "what was counted was read");
    for entry in [read, said] {
        assert!(!format!("{:?}", entry.detail).contains("alice"), "whose they are is not in the log: {entry:?}");
    }
    let id = asked.request_id.to_string();
    // how many entries someone has is told to those who may read them, and that they were told is recorded
    let show = async |person: &Person| -> Result<DropAnswer, Error> {
        person.session.broker().get(&person.session, &["audit", "drops", id.as_str()], &[]).await
    };
    let size = world.running.store().head().await?.size;
    assert_eq!(show(&oscar).await?.bodies, None, "an operator does not read the whole audit");
    assert_eq!(world.running.store().head().await?.size, size);
    assert_eq!(show(&root).await?.bodies, Some(3));
    assert_eq!(world.running.store().head().await?.size, size + 1, "{:?}", world.entries().await?[0]);
    let path = ["audit", "drops", id.as_str(), "approval"];
    let approve = async |person: &Person| -> Result<DroppedAnswer, Error> {
        person.session.broker().post(&person.session, &path, &Nothing {}).await
    };
    assert_eq!(code(approve(&root).await.unwrap_err()), Code::Conflict, "who asked cannot approve");
    // someone wrote the database: it says that another asked, for everyone's bodies
    faults.set_other_asker(true);
    for person in [&root, &oscar] {
        assert_eq!(code(approve(person).await.unwrap_err()), Code::Conflict, "it is not as it was asked");
    }
    faults.set_other_asker(false);
    assert!(world.entries().await?.iter().all(|entry| entry.kind != "dropped"), "nothing went");
    // nor does anything go that someone asked for who is locked by now
    let on = LockOn::User { issuer: said.issuer.clone().unwrap(), subject: said.subject.clone().unwrap() };
    let lock = LockAsk { on, seconds: None, reason: "stolen laptop".into() };
    let lock: LockSetAnswer = oscar.session.broker().post(&oscar.session, &["locks"], &lock).await?;
    assert_eq!(code(approve(&oscar).await.unwrap_err()), Code::Locked);
    let refusal = world.entries().await?.remove(0);
    assert_eq!((refusal.kind.as_str(), refusal.detail["code"].as_str()), ("refusal", "locked"), "{refusal:?}");
    let unlock = UnlockAsk { reason: "found".into(), confirm: false };
    let path_of_lock = ["locks", &lock.lock.id.to_string(), "unlock"];
    let lifted: LockAnswer = oscar.session.broker().post(&oscar.session, &path_of_lock, &unlock).await?;
    assert!(!lifted.holds);
    let root = Person::log_in(&world, "root").await?;
    let dropped = approve(&oscar).await?;
    assert_eq!((dropped.bodies, dropped.more), (3, false));
    assert_eq!(code(approve(&oscar).await.unwrap_err()), Code::Conflict, "it is done");

    assert_eq!(story(&root.session, &grant).await, Err(Code::NotFound));
    let entries = world.entries().await?;
    assert_eq!(entries.iter().filter(|entry| entry.kind == "dropped").count(), 3);
    assert!(entries.iter().all(|entry| entry.user != user), "nobody is named any more");
    let store = world.running.store();
    let verified = ichor_broker::audit::verify_log(&*store).await?;
    assert_eq!(verified.entries, u64::try_from(entries.len())?, "and the log verifies");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_go_with_the_entry_that_says_so_or_stay() -> anyhow::Result<()> {
    let (world, faults) = world().await?;
    certificate(&Person::log_in(&world, "alice").await?).await?;
    let user = world.entries().await?.iter().find(|entry| entry.kind == "issued").unwrap().user.clone();
    world.clock.advance(SignedDuration::from_hours(25));
    let (root, oscar) = (Person::log_in(&world, "root").await?, Person::log_in(&world, "oscar").await?);
    let ask = DropAsk { person: user, before: None, reason: "asked by law".into() };
    let asked: DropAnswer = root.session.broker().post(&root.session, &["audit", "drops"], &ask).await?;
    let id = asked.request_id.to_string();
    let path = ["audit", "drops", id.as_str(), "approval"];
    let approve = async || -> Result<DroppedAnswer, Error> {
        oscar.session.broker().post(&oscar.session, &path, &Nothing {}).await
    };
    let code = |answer: Result<DroppedAnswer, Error>| match answer {
        Err(Error::Problem(problem)) => Some(problem.code),
        _ => None,
    };
    let gone = async || anyhow::Ok(world.entries().await?.iter().filter(|entry| entry.kind == "dropped").count());
    let store = world.running.store();
    for (fault, expected) in [(Fault::Before, 0), (Fault::After, usize::try_from(asked.bodies.unwrap())?)] {
        faults.at_entry(Kind::BodyDropped, fault);
        assert_eq!(code(approve().await), Some(Code::StoreUnavailable), "{fault:?}");
        assert!(faults.happened(), "{fault:?}");
        assert_eq!(gone().await?, expected, "{fault:?}");
        ichor_broker::audit::verify_log(&*store).await?;
    }
    // whoever was not answered is told what became of it
    assert_eq!(code(approve().await), Some(Code::Conflict), "it is done");
    assert_eq!(gone().await?, usize::try_from(asked.bodies.unwrap())?);
    Ok(())
}
