//! Who is refused a reading of the audit, and what the log says of it.

use ichor_client::Error;
use ichor_tests::{CLUSTER, Person, World};
use ichor_wire::api::AuditEntry;
use ichor_wire::problem::Code;

use super::{certificate, world};

/// What is asked for, by path and query; the cluster that the entry is of, and its words.
type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], Option<&'a str>, String);

/// The code with which someone is answered who may not read that part of the audit.
async fn denied(person: &Person, path: &[&str], query: &[(&str, &str)]) -> Code {
    let path = [&["audit"], path].concat();
    let query: Vec<_> = query.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    match person.session.broker().get::<serde_json::Value>(&person.session, &path, &query).await {
        Err(Error::Problem(problem)) => problem.code,
        other => panic!("{path:?}: {other:?}"),
    }
}

/// The entries that tell of refusals, newest first.
async fn refusals(world: &World) -> anyhow::Result<Vec<AuditEntry>> {
    Ok(world.entries().await?.into_iter().filter(|entry| entry.kind == "refusal").collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_someone_may_not_read_is_recorded_and_the_entry_tells_them_no_more() -> anyhow::Result<()> {
    let world = world("").await?;
    let alice = Person::log_in(&world, "alice").await?;
    let grant = certificate(&alice).await?.to_string();
    let entries = world.entries().await?;
    let place = |kind: &str| entries.iter().find(|entry| entry.kind == kind).unwrap().index.to_string();
    // the first is of no cluster
    let (started, granted, issued) = (place("start"), place("grant"), place("issued"));
    let (grant, started, granted, issued) = (grant.as_str(), started.as_str(), granted.as_str(), issued.as_str());
    let nothing = uuid::Uuid::nil().to_string();
    let nothing = nothing.as_str();
    let carol = Person::log_in(&world, "carol").await?;
    let cases: [Case<'_>; 13] = [
        (&["entries"], &[], None, "everything".into()),
        (
            &["entries"],
            &[("cluster", CLUSTER), ("person", "bob\u{202e}")],
            Some(CLUSTER),
            format!("person bob , cluster {CLUSTER}"),
        ),
        (&["lines"], &[("cluster", "made-up")], None, "cluster made-up".into()),
        (&["calls"], &[("user", "root@example.test")], None, "calls at nodes: user root@example.test".into()),
        (&["calls"], &[("grant", grant)], None, format!("calls at nodes: grant {grant}")),
        (&["calls"], &[("entry", granted)], None, format!("calls at nodes: entry {granted}")),
        (&["stories", grant], &[], None, format!("the story of id {grant}")),
        (&["stories", nothing], &[], None, format!("the story of id {nothing}")),
        (&["receipts", started], &[], None, format!("the receipt of entry {started}")),
        (&["receipts", issued], &[], None, format!("the receipt of entry {issued}")),
        (&["receipts", granted], &[], None, format!("the receipt of entry {granted}")),
        (&["proofs", grant], &[], None, format!("the proof of {grant}")),
        (&["export"], &[("from", "3")], None, "an export of the entries from 3 on".into()),
    ];
    for (path, query, cluster, what) in &cases {
        assert_eq!(denied(&carol, path, query).await, Code::Refused, "{path:?}");
        let said = refusals(&world).await?.remove(0);
        let of = (said.user.as_deref(), said.cluster.as_deref());
        assert_eq!(of, (Some("carol@example.test"), *cluster), "{path:?}");
        assert_eq!(said.detail["code"], "refused", "{path:?}");
        assert!(said.detail["message"].ends_with(&format!("; asked for: {what}")), "{path:?}: {:?}", said.detail);
    }
    let all = refusals(&world).await?;
    assert_eq!(all.len(), cases.len(), "an entry each");
    assert!(!all.iter().any(|said| said.detail["message"].contains(&format!("proof of entry {issued}"))), "{all:?}");
    // she reads her own entries: what is not told of an entry stands in none of hers
    let told = |index: &str| {
        let what = format!("the receipt of entry {index}");
        let said = all.iter().find(|entry| entry.detail["message"].ends_with(&what)).unwrap();
        (said.detail["message"].replace(&what, ""), said.detail.get("policies").cloned())
    };
    assert_eq!([told(issued), told(granted)], [told(started), told(started)]);

    // the client asks so when it tells someone their own story
    for query in [("grant", grant), ("entry", granted)] {
        assert_eq!(denied(&alice, &["calls"], &[query]).await, Code::Refused, "{query:?}");
    }
    assert_eq!(refusals(&world).await?.len(), cases.len(), "it is nobody else's that she asked for");

    // however much someone writes
    assert_eq!(denied(&carol, &["entries"], &[("person", &"x".repeat(5_000))]).await, Code::Refused);
    let said = refusals(&world).await?.remove(0).detail["message"].clone();
    assert!(said.contains("person xxx") && said.chars().count() < 400, "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_fills_the_log_with_what_they_may_not_read() -> anyhow::Result<()> {
    let world = world("[limits]\nper_person = 6\n").await?;
    let carol = Person::log_in(&world, "carol").await?;
    let (mut refused, mut turned_away) = (0, 0);
    for _ in 0..30 {
        match denied(&carol, &["entries"], &[]).await {
            Code::Refused => refused += 1,
            Code::TooManyRequests => turned_away += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(refused > 0 && turned_away > 0, "{refused} and {turned_away}");
    assert_eq!(refusals(&world).await?.len(), refused);
    Ok(())
}
