//! Break-glass from outside: asked, approved by others, used, reviewed; and every way past that.

use std::collections::BTreeSet;

use ichor_client::break_glass::{self, End, Glass, Vote};
use ichor_client::{Error, Wish};
use ichor_tests::{CLUSTER, Faults, Options, Person, World};
use ichor_wire::api::{BreakGlassAsk, BreakGlassLabel, BreakGlassUse, BreakGlassVote};
use ichor_wire::log::Kind;
use ichor_wire::problem::Code;
use ichor_wire::role::Role;
use jiff::SignedDuration;

/// Operators may be os:admin if two of users, operators and admins approve.
const TWO: &str = r#"
@id("read") @max_ttl("8h") permit (principal, action == Action::"hold:os:reader", resource);
@id("operators-break-the-glass") @approvals("2") @max_ttl("30m") @wait("15m")
permit (principal in Group::"corp/talos-operators",
  action in [Action::"break-glass:request", Action::"hold:os:admin"], resource)
when { context has reason };
@id("everyone-approves") permit (principal, action == Action::"break-glass:approve", resource)
unless { principal in Group::"corp/nobody" };
@id("not-the-meta-writer") forbid (principal, action == Action::"hold:os:meta:writer", resource);
"#;

async fn world(policies: &'static str) -> anyhow::Result<World> {
    World::with(Options { policies: Some(policies), ..Options::default() }).await
}

fn admin() -> BreakGlassAsk {
    BreakGlassAsk {
        cluster: CLUSTER.into(),
        roles: vec!["os:admin".into()],
        ttl: Some(8 * 3600),
        reason: "INC-42 etcd down".into(),
        nodes: vec!["node-a".into()],
        ticket: None,
        self_service: false,
    }
}

async fn ask(person: &Person) -> Result<Glass, Error> {
    break_glass::ask(&person.session, &admin()).await
}

async fn approve(person: &Person, glass: &Glass) -> Result<Glass, Error> {
    break_glass::vote(&person.session, glass, Vote::Approve, None).await
}

fn code<T: std::fmt::Debug>(answer: Result<T, Error>) -> Code {
    match answer {
        Err(Error::Problem(problem)) => problem.code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_others_approve_is_used_once_and_reviewed() -> anyhow::Result<()> {
    let world = world(TWO).await?;
    let oscar = Person::log_in(&world, "oscar").await?;
    let (alice, root) = (Person::log_in(&world, "alice").await?, Person::log_in(&world, "root").await?);
    let alone = Wish { cluster: CLUSTER.into(), roles: vec![Role::Admin], reason: Some("x".into()), ..Wish::default() };
    let Err(Error::Problem(refusal)) = oscar.certificate(&alone).await else { anyhow::bail!("no problem") };
    assert_eq!(refusal.code, Code::Refused);
    assert!(refusal.detail.contains("only with the approval of 2 other people"), "{refusal:?}");
    assert!(refusal.help[0].contains("ichor break-glass request prod --role os:admin"), "{refusal:?}");

    let glass = ask(&oscar).await?;
    assert_eq!((glass.answer.state.as_str(), glass.contents.approvals, glass.contents.ttl), ("pending", 2, 1800));
    assert_eq!(code(break_glass::certificate(&oscar.session, &glass).await), Code::WrongState, "nobody approved");
    let half = approve(&alice, &glass).await?;
    assert_eq!(half.answer.state, "pending");
    assert_eq!(code(break_glass::certificate(&oscar.session, &glass).await), Code::WrongState, "one of two");
    let whole = approve(&root, &glass).await?;
    assert_eq!(whole.answer.state, "approved");
    assert_eq!(code(break_glass::certificate(&alice.session, &glass).await), Code::UnknownRequest, "someone else's");

    let held = break_glass::certificate(&oscar.session, &glass).await?;
    assert_eq!(held.answer.roles, [Role::Admin]);
    Person::connect(&world, &held).await?.reboot(&[]).await?;
    assert_eq!(world.node.reboots(), 1);
    assert_eq!(code(break_glass::certificate(&oscar.session, &glass).await), Code::WrongState, "one certificate");

    let label = BreakGlassLabel { label: "emergency".into(), note: "etcd restored".into() };
    assert_eq!(code(break_glass::review(&oscar.session, glass.answer.id, &label).await), Code::Refused, "one's own");
    let reviewed = break_glass::review(&alice.session, glass.answer.id, &label).await?;
    assert_eq!(reviewed.answer.state, "reviewed");
    let report = break_glass::report(&alice.session, glass.answer.id).await?;
    let kinds: Vec<_> = report.entries.iter().map(|entry| entry.kind.as_str()).collect();
    assert_eq!(kinds, ["grant", "issued"]);

    let entries = world.entries().await?;
    let grant = entries.iter().find(|entry| entry.kind == "grant").unwrap();
    // both approved in the same frozen moment, so in no order
    let approvers: BTreeSet<_> = grant.detail["approvers"].split(' ').collect();
    assert_eq!(approvers, BTreeSet::from(["alice@example.test", "root@example.test"]));
    assert_eq!(grant.detail["break_glass"], glass.answer.id.to_string());
    assert_eq!(grant.detail["contents"], glass.answer.sha256);
    let steps: Vec<_> =
        entries.iter().rev().map(|entry| entry.kind.as_str()).filter(|kind| kind.starts_with("break-glass")).collect();
    assert_eq!(steps, ["break-glass-request", "break-glass-approval", "break-glass-approval", "break-glass-review"]);
    Ok(())
}

/// A CA that cannot sign costs no use, and gives it to nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn a_use_that_no_certificate_came_of_is_given_back_to_its_key() -> anyhow::Result<()> {
    let world = world(TWO).await?;
    // longer than a dedicated CA lives
    world.clock.advance(SignedDuration::from_hours(24 * 366 * 5));
    let oscar = Person::log_in(&world, "oscar").await?;
    let (alice, root) = (Person::log_in(&world, "alice").await?, Person::log_in(&world, "root").await?);
    let glass = ask(&oscar).await?;
    approve(&alice, &glass).await?;
    let glass = approve(&root, &glass).await?;
    for _ in 0..2 {
        assert_eq!(code(break_glass::certificate(&oscar.session, &glass).await), Code::CustodyUnavailable);
        let now = break_glass::show(&oscar.session, glass.answer.id).await?.answer;
        assert_eq!((now.state.as_str(), now.used, now.grants), ("approved", 0, Vec::new()));
    }
    let again = Person::log_in(&world, "oscar").await?;
    assert_eq!(code(break_glass::certificate(&again.session, &glass).await), Code::WrongState, "another key");
    let failed = world.entries().await?.into_iter().filter(|entry| entry.kind == "issue-failed");
    assert!(
        failed
            .map(|entry| entry.detail["break_glass"].clone())
            .eq([glass.answer.id.to_string(), glass.answer.id.to_string()])
    );
    Ok(())
}

/// What takes so long that another broker could give its use back soon is thrown away: of one use there is never a second certificate.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_took_too_long_is_none_and_its_use_is_given_back() -> anyhow::Result<()> {
    let faults = Faults::none();
    let wrap_store = Some(faults.wrap());
    let world = World::with(Options { policies: Some(TWO), wrap_store, ..Options::default() }).await?;
    let oscar = Person::log_in(&world, "oscar").await?;
    let (alice, root) = (Person::log_in(&world, "alice").await?, Person::log_in(&world, "root").await?);
    let glass = ask(&oscar).await?;
    approve(&alice, &glass).await?;
    let glass = approve(&root, &glass).await?;
    let mut hold = faults.hold(Kind::Grant);
    let late = async {
        hold.arrived().await;
        world.clock.advance(SignedDuration::from_secs(30));
        hold.release();
    };
    let (answer, ()) = tokio::join!(break_glass::certificate(&oscar.session, &glass), late);
    assert_eq!(code(answer), Code::CustodyUnavailable);
    let now = break_glass::show(&oscar.session, glass.answer.id).await?.answer;
    assert_eq!((now.state.as_str(), now.used, now.grants), ("approved", 0, Vec::new()));
    let kinds: Vec<_> = world.entries().await?.into_iter().map(|entry| entry.kind).take(2).collect();
    assert_eq!(kinds, ["issue-failed", "grant"], "newest first");
    break_glass::certificate(&oscar.session, &glass).await?;
    Ok(())
}

/// What is checked again at use, and fails there, uses nothing up.
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_csr_and_a_forbid_at_use_cost_no_use() -> anyhow::Result<()> {
    const FRESH: &str = r#"
        @id("break") @approvals("1") @max_ttl("30m") permit (principal in Group::"corp/talos-operators",
          action in [Action::"break-glass:request", Action::"hold:os:admin"], resource);
        @id("approve") permit (principal, action == Action::"break-glass:approve", resource);
        @id("fresh-logins-alone") forbid (principal, action == Action::"hold:os:admin", resource)
        unless { context has auth_age && context.auth_age < 900 };
    "#;
    let world = world(FRESH).await?;
    // a provider tells when someone logged in where it is asked to
    let fresh = async || Person::log_in_with(&world, "oscar", |options| options.fresh = true).await;
    let (oscar, alice) = (fresh().await?, Person::log_in(&world, "alice").await?);
    let glass = approve(&alice, &ask(&oscar).await?).await?;
    let id = glass.answer.id;
    let unused = async |what: &str| -> anyhow::Result<()> {
        let now = break_glass::show(&oscar.session, id).await?.answer;
        assert_eq!((now.state.as_str(), now.used, now.grants), ("approved", 0, Vec::new()), "{what}");
        Ok(())
    };
    unused("approved").await?;
    for csr in ["", "no", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"] {
        let body = BreakGlassUse { csr: csr.into() };
        let path = ["break-glass", &id.to_string(), "certificates"];
        let answer = oscar.session.broker().post::<serde_json::Value>(&oscar.session, &path, &body).await;
        assert_eq!(code(answer), Code::BadCsr, "{csr}");
        unused(csr).await?;
    }
    world.clock.advance(SignedDuration::from_mins(16));
    assert_eq!(code(break_glass::certificate(&oscar.session, &glass).await), Code::Refused);
    unused("the login is no longer fresh").await?;
    assert!(
        !world.entries().await?.iter().any(|entry| entry.kind == "grant"),
        "nothing was recorded that gives anything"
    );

    let again = fresh().await?;
    let held = break_glass::certificate(&again.session, &glass).await?;
    assert_eq!(held.answer.roles, [Role::Admin]);
    let now = break_glass::show(&again.session, id).await?.answer;
    assert_eq!((now.state.as_str(), now.used), ("used", 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_approves_their_own_request_or_twice() -> anyhow::Result<()> {
    let world = world(TWO).await?;
    let (oscar, alice) = (Person::log_in(&world, "oscar").await?, Person::log_in(&world, "alice").await?);
    let glass = ask(&oscar).await?;
    assert_eq!(code(approve(&oscar, &glass).await), Code::Refused);
    let again = Person::log_in(&world, "oscar").await?;
    assert_eq!(code(approve(&again, &glass).await), Code::Refused, "another session is the same person");
    assert!(!glass.may("approve") && glass.may("cancel"));
    approve(&alice, &glass).await?;
    let Err(Error::Problem(problem)) = approve(&alice, &glass).await else { anyhow::bail!("no problem") };
    assert_eq!(problem.code, Code::WrongState);
    let again = Person::log_in(&world, "alice").await?;
    assert_eq!(code(approve(&again, &glass).await), Code::WrongState);
    assert_eq!(break_glass::show(&oscar.session, glass.answer.id).await?.answer.state, "pending");
    Ok(())
}

/// An outsider can neither start, fill nor cancel it, nor see it (CVE-2025-52894, CVE-2025-4656).
#[tokio::test(flavor = "multi_thread")]
async fn case_17_an_outsider_starts_fills_and_cancels_nothing() -> anyhow::Result<()> {
    const ADMINS_APPROVE: &str = r#"
        @id("break") @approvals("1") permit (principal in Group::"corp/talos-operators",
          action in [Action::"break-glass:request", Action::"hold:os:admin"], resource);
        @id("approve") permit (principal in Group::"corp/talos-admins", action == Action::"break-glass:approve", resource)
        when { context.roles.contains("os:admin") };
    "#;
    let world = world(ADMINS_APPROVE).await?;
    let (oscar, carol) = (Person::log_in(&world, "oscar").await?, Person::log_in(&world, "carol").await?);
    assert_eq!(code(ask(&carol).await), Code::Refused);
    let glass = ask(&oscar).await?;
    let id = glass.answer.id;
    assert_eq!(code(break_glass::show(&carol.session, id).await), Code::UnknownRequest);
    assert_eq!(code(approve(&carol, &glass).await), Code::UnknownRequest);
    assert_eq!(code(break_glass::vote(&carol.session, &glass, Vote::Deny, None).await), Code::UnknownRequest);
    for end in [End::Cancel, End::Revoke] {
        assert_eq!(code(break_glass::end(&carol.session, id, end, None).await), Code::UnknownRequest);
    }
    assert_eq!(break_glass::list(&carol.session, &[]).await?.0.len(), 0);
    let root = Person::log_in(&world, "root").await?;
    assert_eq!(code(break_glass::end(&root.session, id, End::Cancel, None).await), Code::Refused, "it is oscar's");
    assert_eq!(break_glass::list(&root.session, &[]).await?.0.len(), 1);
    assert_eq!(approve(&root, &glass).await?.answer.state, "approved");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_is_of_exactly_what_was_looked_at() -> anyhow::Result<()> {
    let world = world(TWO).await?;
    let (oscar, alice) = (Person::log_in(&world, "oscar").await?, Person::log_in(&world, "alice").await?);
    let (one, other) = (ask(&oscar).await?, ask(&oscar).await?);
    assert_ne!(one.answer.sha256, other.answer.sha256, "two requests alike are two");
    for what in ["approve", "deny"] {
        let body = BreakGlassVote { sha256: other.answer.sha256.clone(), comment: None };
        let path = ["break-glass", &one.answer.id.to_string(), what];
        let answer = alice.session.broker().post::<serde_json::Value>(&alice.session, &path, &body).await;
        assert_eq!(code(answer), Code::OtherContents, "{what}");
    }
    assert_eq!(break_glass::show(&oscar.session, one.answer.id).await?.answer.approvals, []);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_floods_nobody_and_time_ends_what_waits() -> anyhow::Result<()> {
    let world = world(TWO).await?;
    let (oscar, alice) = (Person::log_in(&world, "oscar").await?, Person::log_in(&world, "alice").await?);
    let mut glasses = Vec::new();
    for _ in 0..5 {
        glasses.push(ask(&oscar).await?);
    }
    assert_eq!(code(ask(&oscar).await), Code::TooManyRequests);
    let cancelled =
        break_glass::end(&oscar.session, glasses[0].answer.id, End::Cancel, Some("mistyped".into())).await?;
    assert_eq!(cancelled.answer.state, "cancelled");
    ask(&oscar).await?;
    let denied = break_glass::vote(&alice.session, &glasses[1], Vote::Deny, Some("not now".into())).await?;
    assert_eq!(denied.answer.state, "denied");
    assert_eq!(denied.answer.closing.unwrap().comment.as_deref(), Some("not now"));
    world.clock.advance(SignedDuration::from_mins(15));
    assert_eq!(break_glass::show(&oscar.session, glasses[2].answer.id).await?.answer.state, "expired");
    assert_eq!(code(approve(&alice, &glasses[2]).await), Code::WrongState);
    ask(&oscar).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_approved_can_be_taken_away_and_ends_by_itself() -> anyhow::Result<()> {
    let world = world(TWO).await?;
    let oscar = Person::log_in(&world, "oscar").await?;
    let (alice, root) = (Person::log_in(&world, "alice").await?, Person::log_in(&world, "root").await?);
    let mut glasses = Vec::new();
    for _ in 0..2 {
        let glass = ask(&oscar).await?;
        approve(&alice, &glass).await?;
        glasses.push(approve(&root, &glass).await?);
    }
    let revoked = break_glass::end(&root.session, glasses[0].answer.id, End::Revoke, None).await?;
    assert_eq!(revoked.answer.state, "revoked");
    assert_eq!(code(break_glass::certificate(&oscar.session, &glasses[0]).await), Code::WrongState);
    world.clock.advance(SignedDuration::from_mins(29));
    let held = break_glass::certificate(&oscar.session, &glasses[1]).await?;
    let left = held.answer.not_after.duration_since(ichor_broker::clock::Clock::now(&*world.clock));
    assert!(left <= SignedDuration::from_mins(1), "it ends with the access, not with its own half hour: {left}");
    let glass = ask(&oscar).await?;
    approve(&alice, &glass).await?;
    approve(&root, &glass).await?;
    world.clock.advance(SignedDuration::from_mins(30));
    assert_eq!(code(break_glass::certificate(&oscar.session, &glass).await), Code::WrongState);
    assert_eq!(break_glass::show(&oscar.session, glass.answer.id).await?.answer.state, "lapsed");
    Ok(())
}

/// Whoever writes the database has no key: the log that they cannot sign says what was ended.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_revoked_stays_so_whoever_writes_the_database() -> anyhow::Result<()> {
    let world = world(TWO).await?;
    let oscar = Person::log_in(&world, "oscar").await?;
    let (alice, root) = (Person::log_in(&world, "alice").await?, Person::log_in(&world, "root").await?);
    let glass = ask(&oscar).await?;
    approve(&alice, &glass).await?;
    let id = approve(&root, &glass).await?.answer.id;
    assert_eq!(break_glass::show(&oscar.session, id).await?.answer.suspect, None);
    break_glass::end(&root.session, id, End::Revoke, None).await?;
    let db = rusqlite::Connection::open(world.dir.join("data/ichor.db"))?;
    db.busy_timeout(std::time::Duration::from_secs(60))?;
    assert_eq!(db.execute("UPDATE break_glass SET state = 1, uses = 9", [])?, 1);
    assert_eq!(code(break_glass::certificate(&oscar.session, &glass).await), Code::Suspect);
    let shown = break_glass::show(&alice.session, id).await?.answer;
    assert!(shown.suspect.is_some_and(|why| why.contains("was revoked")));
    let refusal = world.entries().await?.into_iter().find(|entry| entry.kind == "refusal").unwrap();
    assert_eq!((&refusal.detail["code"], &refusal.detail["break_glass"]), (&"suspect".into(), &id.to_string()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_nobody_or_is_forbidden_is_not_asked() -> anyhow::Result<()> {
    let world = world(TWO).await?;
    let oscar = Person::log_in(&world, "oscar").await?;
    let asks = |roles: &[&str], ticket: Option<&str>| BreakGlassAsk {
        roles: roles.iter().map(|role| (*role).into()).collect(),
        ticket: ticket.map(Into::into),
        ..admin()
    };
    let Err(Error::Problem(problem)) = break_glass::ask(&oscar.session, &asks(&[], None)).await else {
        anyhow::bail!("no problem")
    };
    assert!(problem.detail.contains("nobody needs to approve"), "{problem:?}");
    for roles in [&["os:meta:writer"][..], &["os:admin", "os:operator"]] {
        assert_eq!(code(break_glass::ask(&oscar.session, &asks(roles, None)).await), Code::Refused, "{roles:?}");
    }
    for ticket in ["http://tickets.example.com/1", "javascript:alert(1)"] {
        let answer = break_glass::ask(&oscar.session, &asks(&["os:admin"], Some(ticket))).await;
        assert_eq!(code(answer), Code::BadRequest, "{ticket}");
    }
    let blank = BreakGlassAsk { reason: " ".into(), ..admin() };
    assert_eq!(code(break_glass::ask(&oscar.session, &blank).await), Code::BadRequest);
    Ok(())
}
