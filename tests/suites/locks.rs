//! Locks from outside: what stops at once, what goes on, who lifts them.

use ichor_broker::app::{Parts, Running};
use ichor_broker::clock::Clock;
use ichor_broker::config::Folder;
use ichor_broker::custody::{IdentitySource, Vault};
use ichor_client::break_glass::{self, Vote};
use ichor_client::{Error, Wish, locks};
use ichor_tests::{CLUSTER, Lives, Options, Person, World, run_command};
use ichor_wire::api::{BreakGlassAsk, LockAnswer, LockAsk, LockOn, LockSetAnswer, SessionAnswer, UnlockAsk};
use ichor_wire::problem::Code;
use jiff::SignedDuration;

/// Admins lock and unlock everything there is; operators only everything at once.
const POLICIES: &str = r#"
@id("read") @max_ttl("8h") permit (principal, action == Action::"hold:os:reader", resource);
@id("operators-break-the-glass") @approvals("1") @max_ttl("30m") @uses("2")
permit (principal in Group::"corp/talos-operators",
  action in [Action::"break-glass:request", Action::"hold:os:admin"], resource);
@id("everyone-approves") permit (principal, action == Action::"break-glass:approve", resource);
@id("admins-lock")
permit (principal in Group::"corp/talos-admins", action in [Action::"lock", Action::"unlock"], resource == Ichor::"broker");
@id("operators-lock-everything")
permit (principal in Group::"corp/talos-operators", action in [Action::"lock", Action::"unlock"], resource == Ichor::"broker")
when { context.what == "everything" };
@id("admins-read") permit (principal in Group::"corp/talos-admins", action == Action::"audit:read", resource);
"#;

async fn world() -> anyhow::Result<World> {
    World::with(Options {
        policies: Some(POLICIES),
        config: "[limits]\nper_person = 1000\nper_address = 1000\n".into(),
        ..Options::default()
    })
    .await
}

fn code<T: std::fmt::Debug>(answer: Result<T, Error>) -> Code {
    match answer {
        Err(Error::Problem(problem)) => problem.code,
        Err(Error::SessionEnded { .. }) => Code::SessionEnded,
        other => panic!("{other:?}"),
    }
}

fn cluster() -> LockOn {
    LockOn::Cluster { name: CLUSTER.into() }
}

async fn lock(person: &Person, on: LockOn, seconds: Option<u64>) -> Result<LockSetAnswer, Error> {
    locks::set(&person.session, &LockAsk { on, seconds, reason: "INC-42 stolen laptop".into() }).await
}

async fn unlock(person: &Person, lock: &LockAnswer, confirm: bool) -> Result<LockAnswer, Error> {
    locks::lift(&person.session, lock.id, &UnlockAsk { reason: "found again".into(), confirm }).await
}

async fn reads(person: &Person) -> Result<ichor_client::Held, Error> {
    person.certificate(&Wish { cluster: CLUSTER.into(), ..Wish::default() }).await
}

async fn id_of(person: &Person) -> anyhow::Result<uuid::Uuid> {
    let session: SessionAnswer = person.session.broker().get(&person.session, &["session"], &[]).await?;
    Ok(session.session_id)
}

async fn kinds(world: &World) -> anyhow::Result<Vec<String>> {
    Ok(world.entries().await?.into_iter().rev().map(|entry| entry.kind).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_user_is_out_at_once_and_nobody_else() -> anyhow::Result<()> {
    let world = world().await?;
    let (root, alice) = (Person::log_in(&world, "root").await?, Person::log_in(&world, "alice").await?);
    let oscar = Person::log_in(&world, "oscar").await?;
    let held = reads(&alice).await?;

    for spelling in ["Alice", "ALICE", "alice ", "Alice Example", "al\u{131}ce"] {
        assert!(
            locks::person(&root.session, spelling).await.is_err(),
            "`{spelling}` is nobody's subject or `user:` value"
        );
    }
    let found = locks::person(&root.session, "alice@example.test").await?;
    assert_eq!((found.subject.as_str(), found.name.as_str()), ("sub-alice", "Alice Example"));
    let on = LockOn::User { issuer: found.issuer.clone(), subject: found.subject };
    let set = lock(&root, on.clone(), None).await?;
    assert_eq!((set.lock.on.clone(), set.lock.holds, set.lock.by.as_str()), (on, true, "root@example.test"));
    // what it does not do is said with it
    assert_eq!((set.outstanding.certificates, set.outstanding.until), (1, Some(held.answer.not_after)));
    assert_eq!(set.outstanding.clusters, [CLUSTER]);
    let beyond = set.beyond.join("\n");
    for said in [
        "1 certificate issued before stays good until it expires",
        "open connection",
        "removal-patch prod",
        "rotate-ca",
    ] {
        assert!(beyond.contains(said), "`{said}` is not in\n{beyond}");
    }
    // the very entry that nodes were given, so that nobody has to look for it
    let dir = world.dir.display().to_string();
    let patch = run_command(&["ca", "patch", CLUSTER, "--dir", &dir]).await?;
    let entry = patch.lines().find(|line| line.contains("- crt: ")).unwrap().trim();
    assert!(beyond.contains(&format!("all others stay: {entry}")), "`{entry}` is not in\n{beyond}");
    Person::connect(&world, &held).await?.version(&[]).await.map(drop)?;

    assert_eq!(code(reads(&alice).await), Code::SessionEnded);
    let refused = Person::log_in(&world, "alice").await.err().map(|error| format!("{error:#}")).unwrap_or_default();
    assert!(refused.contains("you are locked"), "{refused}");
    reads(&oscar).await?;
    // another person whose name is nearly hers, at the same provider, is not her
    let near = LockOn::User { issuer: found.issuer, subject: "Sub-oscar".into() };
    lock(&root, near, None).await?;
    reads(&oscar).await?;

    unlock(&root, &set.lock, false).await?;
    assert_eq!(code(reads(&alice).await), Code::SessionEnded, "an ended session stays ended");
    reads(&Person::log_in(&world, "alice").await?).await?;
    let entries = world.entries().await?;
    let entry = |kind: &str| entries.iter().rev().find(|entry| entry.kind == kind).unwrap();
    let locked = entry("lock");
    assert_eq!(locked.user.as_deref(), Some("root@example.test"));
    assert_eq!((&*locked.detail["locked"], &*locked.detail["locked_subject"]), ("user", "sub-alice"));
    assert_eq!((&*locked.detail["reason"], locked.detail["lock"].parse()), ("INC-42 stolen laptop", Ok(set.lock.id)));
    assert_eq!(entry("unlock").detail["lock"], locked.detail["lock"]);
    let login = entry("refusal");
    assert_eq!((login.user.as_deref(), &*login.detail["code"]), (Some("alice@example.test"), "locked"));
    Ok(())
}

/// Fifty ask while a lock is taken: what the log has behind the lock is no grant and no certificate, and nobody holds one that it
/// does not have.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_ask_while_a_lock_is_taken_and_none_is_recorded_behind_it() -> anyhow::Result<()> {
    let world = world().await?;
    let (root, alice) = (Person::log_in(&world, "root").await?, Person::log_in(&world, "alice").await?);
    let half = async {
        while kinds(&world).await?.iter().filter(|kind| *kind == "issued").count() < 5 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        Ok::<_, anyhow::Error>(lock(&root, cluster(), None).await?)
    };
    let asks = futures_util::future::join_all((0..50).map(|_| reads(&alice)));
    let (answers, set) = tokio::join!(asks, half);
    set?;
    let issued = answers.iter().filter(|answer| answer.is_ok()).count();
    for answer in answers.into_iter().filter(|answer| answer.is_err()) {
        assert_eq!(code(answer), Code::Locked);
    }
    let kinds = kinds(&world).await?;
    let at = kinds.iter().position(|kind| kind == "lock").unwrap();
    let behind = &kinds[at..];
    assert!(!behind.iter().any(|kind| kind == "grant" || kind == "issued"), "{behind:?}");
    assert_eq!(kinds.iter().filter(|kind| *kind == "issued").count(), issued);
    assert!(issued >= 5, "the lock came in between");
    // every grant has its outcome, those that the lock overtook too
    let grants = kinds.iter().filter(|kind| *kind == "grant").count();
    assert_eq!(kinds.iter().filter(|kind| *kind == "issue-failed").count(), grants - issued);
    Ok(())
}

/// The CA signs while the lock is taken: the grant was recorded before it, the certificate is not, and nobody gets it.
#[tokio::test(flavor = "multi_thread")]
async fn case_28_a_certificate_on_its_way_when_the_lock_came_is_not_handed_over() -> anyhow::Result<()> {
    let world =
        World::with(Options { policies: Some(POLICIES), custody: Lives::Transit, ..Options::default() }).await?;
    let (root, alice) = (Person::log_in(&world, "root").await?, Person::log_in(&world, "alice").await?);
    let mut hold = world.bao.as_ref().unwrap().hold("transit/sign/*");
    let meanwhile = async {
        hold.arrived(1).await;
        let set = lock(&root, cluster(), None).await;
        hold.release();
        set
    };
    let (answer, set) = tokio::join!(reads(&alice), meanwhile);
    assert_eq!(set?.outstanding.certificates, 0);
    assert_eq!(code(answer), Code::Locked);
    let entries = world.entries().await?;
    let last: Vec<_> = entries.iter().take(3).map(|entry| entry.kind.as_str()).collect();
    assert_eq!(last, ["issue-failed", "lock", "grant"]);
    assert_eq!(entries[0].detail["code"], "locked");
    assert_eq!(entries[0].grant_id, entries[2].grant_id);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_unlocked_by_two_people_and_they_can_get_in() -> anyhow::Result<()> {
    let world = world().await?;
    let (root, alice) = (Person::log_in(&world, "root").await?, Person::log_in(&world, "alice").await?);
    let set = lock(&root, LockOn::Everything, None).await?;
    assert!(
        set.beyond.iter().any(|line| line.contains("kit")),
        "a kit is not stopped, and that is said: {:?}",
        set.beyond
    );
    assert_eq!(code(reads(&alice).await), Code::Locked);
    let told: serde_json::Value = alice.session.broker().get(&alice.session, &["clusters"], &[]).await?;
    let (first, role) = (&told["clusters"][0], &told["clusters"][0]["roles"][0]);
    assert_eq!((&first["unavailable"], &role["allowed"]), (&"a lock stops it".into(), &false.into()), "{told}");
    // what lifting needs goes on: logging in, reading the audit, seeing the locks
    let oscar = Person::log_in(&world, "oscar").await?;
    let log: serde_json::Value = root.session.broker().get(&root.session, &["audit", "entries"], &[]).await?;
    assert!(log["entries"].as_array().is_some_and(|entries| entries.len() > 3), "{log}");
    assert_eq!(locks::list(&oscar.session, false).await?.len(), 1);

    assert_eq!(code(unlock(&root, &set.lock, true).await), Code::Refused, "nobody has asked");
    assert_eq!(code(unlock(&alice, &set.lock, false).await), Code::UnknownLock, "no business of hers");
    let asked = unlock(&root, &set.lock, false).await?;
    assert_eq!((asked.holds, asked.asked_by.as_deref()), (true, Some("root@example.test")));
    assert_eq!(code(reads(&alice).await), Code::Locked, "asked is not lifted");
    assert_eq!(code(unlock(&root, &set.lock, true).await), Code::Refused, "not by oneself");
    let again = Person::log_in(&world, "root").await?;
    assert_eq!(code(unlock(&again, &set.lock, true).await), Code::Refused, "another session is the same person");
    assert_eq!(code(unlock(&oscar, &set.lock, false).await), Code::BadRequest, "a yes is said as one");
    world.clock.advance(SignedDuration::from_hours(1));
    assert_eq!(code(unlock(&oscar, &set.lock, true).await), Code::Refused, "within the hour");
    unlock(&root, &set.lock, false).await?;
    let lifted = unlock(&oscar, &set.lock, true).await?;
    assert_eq!((lifted.holds, lifted.ended_by.as_deref()), (false, Some("oscar@example.test")));
    reads(&alice).await?;
    let entries = world.entries().await?;
    let last = entries.iter().find(|entry| entry.kind == "unlock").unwrap();
    assert_eq!((last.user.as_deref(), &*last.detail["requester"]), (Some("oscar@example.test"), "root@example.test"));
    assert_eq!(entries.iter().filter(|entry| entry.kind == "unlock-asked").count(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_lock_is_policy_and_a_refusal_is_recorded() -> anyhow::Result<()> {
    let world = world().await?;
    let (root, oscar) = (Person::log_in(&world, "root").await?, Person::log_in(&world, "oscar").await?);
    let alice = Person::log_in(&world, "alice").await?;
    let user = || LockOn::User { issuer: world.provider.issuer().to_string(), subject: "sub-root".into() };
    let id = id_of(&root).await?;
    let session = || LockOn::Session { id };
    for on in [user(), session(), cluster(), LockOn::Everything] {
        assert_eq!(code(lock(&alice, on, None).await), Code::Refused);
    }
    for on in [user(), session(), cluster()] {
        assert_eq!(code(lock(&oscar, on, None).await), Code::Refused);
    }
    assert_eq!(code(locks::person(&oscar.session, "root").await), Code::Refused, "nor does he look people up");
    let refusals = kinds(&world).await?.into_iter().filter(|kind| kind == "refusal").count();
    assert_eq!(refusals, 7);
    let set = lock(&root, cluster(), None).await?;
    assert_eq!(locks::list(&alice.session, false).await?, []);
    assert_eq!(locks::list(&oscar.session, false).await?, [], "he may neither set nor lift it");
    assert_eq!(locks::list(&root.session, false).await?, std::slice::from_ref(&set.lock));
    assert_eq!(code(unlock(&oscar, &set.lock, false).await), Code::UnknownLock);
    unlock(&root, &set.lock, false).await?;
    assert_eq!(code(unlock(&root, &set.lock, false).await), Code::BadRequest, "it holds no longer");
    assert_eq!(locks::list(&root.session, false).await?, []);
    assert_eq!(locks::list(&root.session, true).await?[0].ended_by.as_deref(), Some("root@example.test"));

    let unfit = [
        (LockOn::Cluster { name: "elsewhere".into() }, None, Code::UnknownCluster),
        (LockOn::Cluster { name: "Prod".into() }, None, Code::BadRequest),
        (LockOn::Grant { id: uuid::Uuid::nil() }, None, Code::BadRequest),
        (LockOn::User { issuer: String::new(), subject: "x".into() }, None, Code::BadRequest),
        (LockOn::User { issuer: "https://x".into(), subject: "a\nb".into() }, None, Code::BadRequest),
        (cluster(), Some(59), Code::BadRequest),
        (cluster(), Some(u64::MAX), Code::BadRequest),
    ];
    for (on, seconds, expected) in unfit {
        assert_eq!(code(lock(&root, on.clone(), seconds).await), expected, "{on:?} {seconds:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_ends_by_itself_on_the_brokers_clock() -> anyhow::Result<()> {
    let world = world().await?;
    let (root, alice) = (Person::log_in(&world, "root").await?, Person::log_in(&world, "alice").await?);
    let set = lock(&root, cluster(), Some(3600)).await?;
    assert_eq!(set.lock.until.map(|until| until.duration_since(set.lock.at)), Some(SignedDuration::from_hours(1)));
    world.clock.advance(SignedDuration::from_secs(3599));
    assert_eq!(code(reads(&alice).await), Code::Locked);
    world.clock.advance(SignedDuration::from_secs(1));
    reads(&alice).await?;
    assert_eq!(locks::list(&root.session, false).await?, []);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn break_glass_stops_under_a_lock_and_a_locked_grant_is_not_renewed() -> anyhow::Result<()> {
    let world = world().await?;
    let (root, oscar) = (Person::log_in(&world, "root").await?, Person::log_in(&world, "oscar").await?);
    let alice = Person::log_in(&world, "alice").await?;
    let ask = BreakGlassAsk {
        cluster: CLUSTER.into(),
        roles: vec!["os:admin".into()],
        ttl: None,
        reason: "INC-42 etcd down".into(),
        nodes: Vec::new(),
        ticket: None,
        self_service: false,
    };
    let glass = break_glass::ask(&oscar.session, &ask).await?;
    let set = lock(&root, cluster(), None).await?.lock;
    assert_eq!(code(break_glass::ask(&oscar.session, &ask).await), Code::Locked);
    assert_eq!(code(break_glass::vote(&alice.session, &glass, Vote::Approve, None).await), Code::Locked);
    unlock(&root, &set, false).await?;
    let glass = break_glass::vote(&alice.session, &glass, Vote::Approve, None).await?;
    let set = lock(&root, cluster(), None).await?.lock;
    assert_eq!(code(break_glass::certificate(&oscar.session, &glass).await), Code::Locked);
    assert_eq!(break_glass::show(&oscar.session, glass.answer.id).await?.answer.used, 0);
    unlock(&root, &set, false).await?;

    let held = break_glass::certificate(&oscar.session, &glass).await?;
    let grant = LockOn::Grant { id: held.answer.grant_id };
    let set = lock(&root, grant, None).await?;
    assert_eq!(set.outstanding.certificates, 1);
    assert_eq!(code(break_glass::certificate(&oscar.session, &glass).await), Code::Locked, "one use was left");
    assert_eq!(code(reads(&oscar).await), Code::Locked, "nothing more for this session on this cluster");
    reads(&alice).await?;
    assert_eq!(set.lock.on, LockOn::Grant { id: held.answer.grant_id });
    unlock(&root, &set.lock, false).await?;
    break_glass::certificate(&oscar.session, &glass).await?;

    let session = lock(&root, LockOn::Session { id: id_of(&oscar).await? }, None).await?;
    assert_eq!(session.outstanding.certificates, 2);
    assert_eq!(code(reads(&oscar).await), Code::SessionEnded);
    Ok(())
}

/// At the broker's own host, beside a running broker and without one; and over a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_of_the_host_holds_over_a_restart() -> anyhow::Result<()> {
    let world = world().await?;
    let alice = Person::log_in(&world, "alice").await?;
    let (dir, broker) = (world.dir.clone(), world.broker());
    let dir_text = dir.to_str().unwrap();
    let command = async |arguments: &[&str]| run_command(&[arguments, &["--dir", dir_text]].concat()).await;
    let said = command(&["lock", "user", "alice@example.test", "--reason", "left the company"]).await?;
    assert!(said.contains("`alice@example.test` is Alice Example (issuer "), "{said}");
    assert_eq!(code(reads(&alice).await), Code::SessionEnded);
    let entry = world.entries().await?.into_iter().find(|entry| entry.kind == "lock").unwrap();
    assert_eq!((entry.user, entry.detail["os_user"].is_empty(), entry.detail["host"].is_empty()), (None, false, false));
    let oscar = Person::log_in(&world, "oscar").await?;
    command(&["lock", "cluster", CLUSTER, "--for", "1h", "--reason", "INC-42"]).await?;
    let listed = command(&["locks"]).await?;
    assert!(listed.contains("cluster `prod` is locked, until ") && listed.lines().count() == 2, "{listed}");
    let checked = command(&["check"]).await?;
    assert!(checked.contains("warn  locks: cluster `prod` is locked by "), "{checked}");
    let id = listed.lines().find(|line| line.contains("cluster")).and_then(|line| line.split(' ').next()).unwrap();
    assert_eq!(code(reads(&oscar).await), Code::Locked);

    world.running.stop().await;
    // no broker: the same commands work on its folder
    let lifted = command(&["unlock", id, "--reason", "over"]).await?;
    assert!(lifted.contains("cluster `prod`"), "{lifted}");
    let all = command(&["lock", "everything", "--reason", "worse than thought"]).await?;
    let everything = all.lines().next().and_then(|line| line.split(' ').next()).unwrap();
    let refused = command(&["unlock", everything, "--reason", "over"]).await.unwrap_err().to_string();
    assert!(refused.contains("two people who log in"), "{refused}");

    let loaded = Folder::new(&dir).load()?;
    let now = ichor_broker::clock::SystemClock.now();
    world.clock.advance(now.duration_since(world.clock.now()).max(SignedDuration::ZERO) + SignedDuration::from_secs(1));
    let parts = Parts {
        clock: std::sync::Arc::clone(&world.clock) as std::sync::Arc<dyn Clock>,
        vault: Vault::open(&loaded.settings.vault, IdentitySource::DangerBeside)?,
        listener: None,
        wrap_store: None,
        accept_clock: true,
        look: std::time::Duration::from_secs(3600),
    };
    let running = Running::start(&loaded, parts).await?;
    assert_eq!(code(reads(&oscar).await), Code::Locked);
    let browser = ichor_standins::browser::Browser::new(&[&world.tls_ca])?;
    let refused = ichor_tests::log_in(&broker, &browser, "alice", |_| {}).await;
    assert!(refused.is_err_and(|error| format!("{error:#}").contains("you are locked")));
    let listed = command(&["locks"]).await?;
    assert!(listed.contains("everything is locked") && listed.contains("user `sub-alice`"), "{listed}");
    running.stop().await;
    Ok(())
}
