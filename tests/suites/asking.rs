//! Asking the audit over HTTP: who may hear which story, and the log line by line.

use std::time::Duration;

use ichor_broker::store::CallFilter;
use ichor_client::{Error, Session, Wish};
use ichor_tests::{CLUSTER, Options, Person, World};
use ichor_wire::api::{AuditAnswer, AuditEntry, CallAnswer, NodeCall, StoryAnswer};
use ichor_wire::problem::Code;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

mod dropping;
mod forwarded;
mod refused;

const POLICIES: &str = r#"
@id("read") @max_ttl("8h") permit (principal in Group::"corp/talos-users", action == Action::"hold:os:reader", resource);
@id("audit-all") permit (principal in Group::"corp/talos-admins", action == Action::"audit:read", resource == Ichor::"broker");
@id("audit-prod") permit (principal in Group::"corp/talos-operators", action == Action::"audit:read", resource in Label::"env=prod");
@id("drop") permit (principal, action == Action::"audit:drop", resource == Ichor::"broker")
  when { principal in Group::"corp/talos-admins" || principal in Group::"corp/talos-operators" };
@id("lock") permit (principal in Group::"corp/talos-operators", action in [Action::"lock", Action::"unlock"], resource == Ichor::"broker");
"#;

async fn world(config: &str) -> anyhow::Result<World> {
    World::with(Options { config: config.into(), policies: Some(POLICIES), ..Options::default() }).await
}

async fn certificate(person: &Person) -> anyhow::Result<uuid::Uuid> {
    Ok(person.certificate(&Wish { cluster: CLUSTER.into(), ..Wish::default() }).await?.answer.grant_id)
}

async fn story(session: &Session, id: &str) -> Result<StoryAnswer, Code> {
    match session.broker().get(session, &["audit", "stories", id], &[]).await {
        Ok(story) => Ok(story),
        Err(Error::Problem(problem)) => Err(problem.code),
        Err(error) => panic!("{error}"),
    }
}

fn kinds(story: &StoryAnswer) -> Vec<&str> {
    story.entries().map(|entry| entry.kind.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_story_is_told_to_whoever_may_hear_it() -> anyhow::Result<()> {
    let world = world("").await?;
    let alice = Person::log_in(&world, "alice").await?;
    let grant = certificate(&alice).await?.to_string();
    let reads = async || world.entries().await.unwrap().iter().filter(|entry| entry.kind == "audit-read").count();

    let own = story(&alice.session, &grant).await.unwrap();
    assert_eq!(kinds(&own), ["login", "grant", "issued"]);
    assert_eq!((own.hidden, reads().await), (0, 0), "one's own needs no policy and is not recorded");
    let serial = own.grants[0].outcome[0].detail["serial"].clone();
    assert_eq!(kinds(&story(&alice.session, &serial).await.unwrap()), ["login", "grant", "issued"]);

    let root = Person::log_in(&world, "root").await?;
    assert_eq!(kinds(&story(&root.session, &grant).await.unwrap()), ["login", "grant", "issued"]);
    assert_eq!(reads().await, 1, "reading others' is recorded");
    let oscar = Person::log_in(&world, "oscar").await?;
    let part = story(&oscar.session, &grant).await.unwrap();
    assert_eq!((kinds(&part), part.hidden), (vec!["grant", "issued"], 1), "a login belongs to no cluster");

    let carol = Person::log_in(&world, "carol").await?;
    let nothing = uuid::Uuid::nil().to_string();
    for id in [&grant, &nothing, "0"] {
        assert_eq!(story(&carol.session, id).await, Err(Code::Refused), "{id}: what is there is not told either");
    }
    assert_eq!(story(&root.session, &nothing).await, Err(Code::NotFound));
    assert_eq!(story(&root.session, "no id").await, Err(Code::BadRequest));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_after_a_reload_is_not_cut_off_for_it() -> anyhow::Result<()> {
    let world = world("").await?;
    std::fs::write(world.dir.join("policies/test.cedar"), format!("{POLICIES}\n// another text\n"))?;
    world.running.reload().await;
    assert!(world.entries().await?.iter().any(|entry| entry.kind == "reload"), "it was loaded anew");
    let (alice, root) = (Person::log_in(&world, "alice").await?, Person::log_in(&world, "root").await?);
    let (seen, mut sees) = mpsc::unbounded_channel();
    let following = tokio::spawn(async move {
        let follow = [("follow", "true".to_owned()), ("kind", "issued".to_owned())];
        let each = |entry: AuditEntry| {
            seen.send(entry.kind).unwrap();
            Ok(())
        };
        root.session.broker().lines(&root.session, &["audit", "lines"], &follow, each).await
    });
    while !world.entries().await?.iter().any(|entry| entry.kind == "audit-read") {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    for _ in 0..2 {
        certificate(&alice).await?;
        assert_eq!(sees.recv().await.as_deref(), Some("issued"), "it follows still");
        // one that finds what is in force already
        world.running.reload().await;
    }
    certificate(&alice).await?;
    assert_eq!(sees.recv().await.as_deref(), Some("issued"), "the same policies cut nobody off");
    // a change from then on ends the answer, once
    std::fs::write(world.dir.join("policies/test.cedar"), POLICIES)?;
    world.running.reload().await;
    tokio::time::timeout(Duration::from_secs(20), following).await???;
    let reads = world.entries().await?.into_iter().filter(|entry| entry.kind == "audit-read").count();
    assert_eq!(reads, 1, "one answer was taken");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_misses_nothing_before_the_first_line() -> anyhow::Result<()> {
    let world = world("").await?;
    let (alice, root) = (Person::log_in(&world, "alice").await?, Person::log_in(&world, "root").await?);
    let path = ["audit", "lines"];
    let follow = vec![("follow", "true".to_owned()), ("kind", "issued".to_owned())];
    let asked = follow.clone();
    let following = tokio::spawn(async move {
        let mut behind = None;
        let each = |entry: AuditEntry| panic!("{entry:?}");
        root.session.broker().lines_behind(&root.session, &path, &asked, &mut behind, each).await.unwrap();
        (root, behind)
    });
    while !world.entries().await?.iter().any(|entry| entry.kind == "audit-read") {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    // the answer ends before there was a line, and the next is asked for only after one came
    std::fs::write(world.dir.join("policies/test.cedar"), format!("{POLICIES}\n// another text\n"))?;
    world.running.reload().await;
    let (root, behind) = tokio::time::timeout(Duration::from_secs(20), following).await??;
    certificate(&alice).await?;
    let asked = [follow, vec![("after", behind.expect("where it began").to_string())]].concat();
    let mut first = None;
    let each = |entry: AuditEntry| {
        first = Some(entry.kind);
        Err(Error::Bug("enough"))
    };
    let _ = root.session.broker().lines_behind(&root.session, &path, &asked, &mut None, each).await;
    assert_eq!(first.as_deref(), Some("issued"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_no_longer_declared_can_be_asked_about() -> anyhow::Result<()> {
    let world = world("").await?;
    let alice = Person::log_in(&world, "alice").await?;
    let grant = certificate(&alice).await?.to_string();
    let (root, oscar) = (Person::log_in(&world, "root").await?, Person::log_in(&world, "oscar").await?);
    std::fs::remove_file(world.dir.join(format!("clusters/{CLUSTER}.toml")))?;
    world.running.reload().await;
    let of_it = [("cluster", CLUSTER.to_owned()), ("grant", grant.clone())];
    let broker = root.session.broker();
    let found: AuditAnswer = broker.get(&root.session, &["audit", "entries"], &of_it).await?;
    assert_eq!(found.entries.len(), 2);
    let calls: CallAnswer = broker.get(&root.session, &["audit", "calls"], &of_it).await?;
    assert!(calls.calls.is_empty());
    for path in ["entries", "calls"] {
        let refused = oscar.session.broker().get::<serde_json::Value>(&oscar.session, &["audit", path], &of_it).await;
        let Err(Error::Problem(refused)) = refused else { panic!("{refused:?}") };
        assert_eq!(refused.code, Code::Refused, "{path}: no label of it is known any more");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_taken_away_and_followed() -> anyhow::Result<()> {
    let world = world("").await?;
    let alice = Person::log_in(&world, "alice").await?;
    let root = Person::log_in(&world, "root").await?;
    certificate(&alice).await?;
    let mut all: Vec<AuditEntry> = Vec::new();
    let path = ["audit", "lines"];
    root.session
        .broker()
        .lines(&root.session, &path, &[], |entry| {
            all.push(entry);
            Ok(())
        })
        .await?;
    let indexes: Vec<_> = all.iter().map(|entry| entry.index).collect();
    assert_eq!(indexes, (0..u64::try_from(all.len())?).collect::<Vec<_>>(), "all of it, oldest first");
    assert_eq!(all.last().unwrap().kind, "audit-read", "with the entry that says so");
    let mut own: Vec<AuditEntry> = Vec::new();
    let me = [("person", "me".to_owned())];
    alice
        .session
        .broker()
        .lines(&alice.session, &path, &me, |entry| {
            own.push(entry);
            Ok(())
        })
        .await?;
    assert_eq!(own.iter().map(|entry| entry.kind.as_str()).collect::<Vec<_>>(), ["login", "grant", "issued"]);
    let refused = alice.session.broker().lines(&alice.session, &path, &[], |_: AuditEntry| Ok(())).await;
    assert!(matches!(refused, Err(Error::Problem(problem)) if problem.code == Code::Refused));

    let (seen, mut sees) = mpsc::unbounded_channel();
    let session = root.session;
    let following = tokio::spawn(async move {
        let follow = [("follow", "true".to_owned()), ("kind", "issued".to_owned())];
        session
            .broker()
            .lines(&session, &path, &follow, |entry: AuditEntry| {
                seen.send(entry.kind).unwrap();
                Ok(())
            })
            .await
    });
    // once the reader is recorded it follows
    while world.entries().await?.iter().filter(|entry| entry.kind == "audit-read").count() < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    certificate(&alice).await?;
    assert_eq!(sees.recv().await.as_deref(), Some("issued"));
    // the end of the broker is not held up by who follows
    tokio::time::timeout(Duration::from_secs(20), world.running.stop()).await?;
    following.await??;
    assert_eq!(sees.recv().await, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_at_nodes_are_told_to_whom_policy_lets_and_everyone_sees_their_own() -> anyhow::Result<()> {
    let config = format!(
        "[nodelog]\ntcp = \"127.0.0.1:0\"\nheartbeat = \"off\"\n\n\
         [[nodelog_source]]\ncluster = \"{CLUSTER}\"\nfrom = [\"127.0.0.0/8\"]\n\
         nodes = {{ \"127.0.0.1\" = \"cp-1\" }}\n"
    );
    let world = world(&config).await?;
    let alice = Person::log_in(&world, "alice").await?;
    let held = alice.certificate(&Wish { cluster: CLUSTER.into(), ..Wish::default() }).await?.answer;
    let now = ichor_broker::clock::Clock::now(&*world.clock);
    let line = |roles: &str| {
        let (first, second) = (now.strftime("%Y/%m/%d %H:%M:%S"), now.strftime("%Y-%m-%dT%H:%M:%SZ"));
        let message =
            format!("machined {first} OK [/machine.MachineService/Version] 1ms unary Success (talos-role={roles})");
        format!("{{\"msg\":\"{message}\",\"talos-service\":\"machined\",\"talos-time\":\"{second}\"}}\n")
    };
    let hers = line(&format!("grant:{},os:reader,user:{}", held.grant_id, held.user));
    let address = world.running.node_addresses().0.unwrap();
    tokio::net::TcpStream::connect(address).await?.write_all((hers + &line("os:admin")).as_bytes()).await?;
    let store = world.running.store();
    while store.calls(&CallFilter::default(), None, 10).await?.len() < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }

    let ask = async |person: &Person, query: &[(&str, &str)]| -> Result<Vec<NodeCall>, Code> {
        let query: Vec<_> = query.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        match person.session.broker().get::<CallAnswer>(&person.session, &["audit", "calls"], &query).await {
            Ok(answer) => Ok(answer.calls),
            Err(Error::Problem(problem)) => Err(problem.code),
            Err(error) => panic!("{error}"),
        }
    };
    let reads = async || world.entries().await.unwrap().into_iter().filter(|entry| entry.kind == "audit-read");
    for me in ["me", held.user.as_str()] {
        let own = ask(&alice, &[("user", me)]).await.unwrap();
        assert_eq!(
            own.iter().map(|call| (call.grant_id, call.class.as_str())).collect::<Vec<_>>(),
            [(Some(held.grant_id), "explained")]
        );
    }
    assert_eq!(ask(&alice, &[]).await, Err(Code::Refused));
    assert_eq!(ask(&alice, &[("cluster", CLUSTER)]).await, Err(Code::Refused));
    assert_eq!(ask(&alice, &[("user", "root@example.test")]).await, Err(Code::Refused));
    assert_eq!(reads().await.count(), 0, "one's own is not recorded, and what was refused was not read");

    let oscar = Person::log_in(&world, "oscar").await?;
    assert_eq!(ask(&oscar, &[("cluster", CLUSTER)]).await.unwrap().len(), 2);
    assert_eq!(ask(&oscar, &[]).await, Err(Code::Refused), "of one cluster is not of all");
    let root = Person::log_in(&world, "root").await?;
    assert_eq!(ask(&root, &[]).await.unwrap().len(), 2);
    let said: Vec<_> = reads().await.map(|entry| entry.detail["message"].clone()).collect();
    assert_eq!(said, ["calls at nodes: everything".to_owned(), format!("calls at nodes: cluster {CLUSTER}")]);

    // by the node's name, or the address that the sources have for it
    for (node, count) in [("cp-1", 2), ("127.0.0.1", 2), ("::ffff:127.0.0.1", 2), ("127.0.0.2", 0), ("cp-2", 0)] {
        assert_eq!(ask(&root, &[("node", node)]).await.unwrap().len(), count, "{node}");
        assert_eq!(ask(&root, &[("node", node), ("cluster", CLUSTER)]).await.unwrap().len(), count, "{node}");
    }
    let told = ask(&root, &[("node", "127.0.0.1")]).await.unwrap();
    assert!(told.iter().all(|call| call.node == "cp-1"), "{told:?}");
    Ok(())
}
