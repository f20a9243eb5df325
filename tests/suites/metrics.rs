//! What `/metrics` says of the main job. All brokers of this process count together, so only a rise is certain.

use ichor_client::Wish;
use ichor_tests::{CLUSTER, Person, World, run_command};
use ichor_wire::role::Role;

use crate::named;

pub(crate) async fn scrape(world: &World) -> anyhow::Result<String> {
    let url = format!("http://{}/metrics", world.running.health_address().unwrap());
    Ok(world.http()?.get(url).send().await?.text().await?)
}

/// The value of a series, 0 where there is none yet.
pub(crate) fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_tell_of_the_main_job() -> anyhow::Result<()> {
    let world = World::with_health().await?;
    let certificates =
        |outcome: &str| format!("ichor_certificates_total{{cluster=\"{CLUSTER}\",outcome=\"{outcome}\"}}");
    let rising = [
        certificates("issued"),
        certificates("refused"),
        certificates("failed"),
        "ichor_logins_total".into(),
        "ichor_refused_total{code=\"not-logged-in\"}".into(),
        "ichor_commit_seconds_count".into(),
    ];
    let before = scrape(&world).await?;
    let alice = Person::log_in(&world, "alice").await?;
    let wish = |role| Wish { cluster: CLUSTER.into(), roles: vec![role], ..Wish::default() };
    alice.certificate(&wish(Role::Reader)).await?;
    assert!(alice.certificate(&wish(Role::Admin)).await.is_err());
    std::fs::remove_file(world.dir.join(format!("vault/ca/{CLUSTER}.age")))?;
    world.running.reload().await;
    assert!(alice.certificate(&wish(Role::Reader)).await.is_err());
    world.http()?.get(world.at("/v1/session")).send().await?;
    let after = scrape(&world).await?;
    for series in rising {
        assert!(value(&after, &series) > value(&before, &series), "{series}:\n{after}");
    }
    assert!(value(&after, "ichor_log_entries") >= 1.0, "{after}");
    assert!(after.contains("ichor_commit_seconds_bucket{le=\"0.01\"}"), "{after}");
    assert!(after.contains("ichor_ready{check=\"policies\"}"), "{after}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_ca_is_told_until_it_issues_no_more() -> anyhow::Result<()> {
    let world = World::with_health().await?;
    // all brokers of this process count together: a cluster that only this one has
    let (dir, facts) =
        (world.dir.display().to_string(), world.scratch().join("operator-talosconfig").display().to_string());
    let recorded = ["--reason", "tests", "--dir", &dir];
    run_command(&[&["cluster", "add", "ending", "--from", &facts], &recorded[..]].concat()).await?;
    run_command(&[&["ca", "create", "ending"], &recorded[..]].concat()).await?;
    let end = async || anyhow::Ok(value(&scrape(&world).await?, "ichor_ca_not_after_seconds{cluster=\"ending\"}"));
    let told = end().await?;
    assert!(told > 1.7e9, "seconds since 1970: {told}");
    run_command(&[&["ca", "retire", "ending", "--compromised"], &recorded[..]].concat()).await?;
    assert!(end().await?.is_nan(), "no alarm of a CA that is gone");
    Ok(())
}

/// The page lists every series, and none besides.
#[test]
fn the_page_lists_the_metrics() {
    let page = std::fs::read_to_string(named::root().join("docs/operations.md")).unwrap();
    let mut listed: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `ichor_"))
        .filter_map(|rest| Some(format!("ichor_{}", rest.split_once('`')?.0)))
        .collect();
    let mut made = Vec::new();
    let mut folders = vec![named::root().join("broker/src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(path).unwrap_or_default();
            for kind in ["counter!(\"", "gauge!(\"", "histogram!(\""] {
                let names = text.split(kind).skip(1).filter_map(|rest| rest.split_once('"'));
                made.extend(names.map(|(name, _)| name.to_owned()));
            }
        }
    }
    listed.sort();
    made.sort();
    made.dedup();
    assert_eq!(listed, made);
}
