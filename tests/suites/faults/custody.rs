//! The CA gone, unreadable, or past its end; policies that cannot be evaluated.

use ichor_broker::audit::verify_log;
use ichor_tests::{CLUSTER, Fault, Options, Person, World, run_command};
use ichor_wire::log::Kind;
use ichor_wire::problem::Code;
use jiff::SignedDuration;

use super::{asks, count, faulty, is_well, refusal};

#[tokio::test(flavor = "multi_thread")]
async fn promise_8_a_ca_that_is_gone_issues_nothing_until_it_is_back_and_a_spoilt_one_leaves_the_old()
-> anyhow::Result<()> {
    let world = World::start().await?;
    let alice = Person::log_in(&world, "alice").await?;
    let file = world.dir.join("vault/ca").join(format!("{CLUSTER}.age"));
    let good = std::fs::read(&file)?;
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    // another cluster's CA, sealed to this very vault, in this one's place
    run_command(&[
        "cluster",
        "add",
        "other",
        "--from",
        &text(&world, "operator-talosconfig"),
        "--reason",
        "tests",
        "--dir",
        &dir(&world),
    ])
    .await?;
    run_command(&["ca", "create", "other", "--reason", "tests", "--dir", &dir(&world)]).await?;
    let other = std::fs::read(world.dir.join("vault/ca/other.age"))?;

    for (what, content) in [("gone", None), ("a bit flipped", Some(flipped)), ("another cluster's", Some(other))] {
        match content {
            None => std::fs::remove_file(&file)?,
            Some(content) => std::fs::write(&file, content)?,
        }
        let checks = world.running.reload().await;
        let check = checks.iter().find(|check| check.name == format!("ca {CLUSTER}")).unwrap();
        assert!(!check.ok, "{what}: {check:?}");
        let before = count(&world, ["grant", "issued"]).await?;
        if what == "gone" {
            assert_eq!(refusal(asks(&alice).await), Code::CustodyUnavailable, "{what}");
            assert_eq!(count(&world, ["grant", "issued"]).await?, before, "{what}");
        } else {
            let detail = check.detail.clone().unwrap();
            assert!(detail.ends_with("the CA opened before stays in force"), "{what}: {detail}");
            let entry = world.entries().await?.remove(0);
            assert_eq!(entry.kind, "reload", "{what}");
            assert!(entry.detail["message"].starts_with("ca keys refused"), "{entry:?}");
            is_well(&world, &alice).await?;
        }

        std::fs::write(&file, &good)?;
        world.running.reload().await;
        is_well(&world, &alice).await?;
    }
    Ok(())
}

/// It may be the one that retires the CA in force, so none is used, at every look, as no broker starts on such a log.
#[tokio::test(flavor = "multi_thread")]
async fn an_entry_about_cas_that_lost_its_body_ends_the_use_of_all_until_it_is_back() -> anyhow::Result<()> {
    let (world, faults) = faulty().await?;
    let alice = Person::log_in(&world, "alice").await?;
    is_well(&world, &alice).await?;
    let (dir, from) = (dir(&world), text(&world, "operator-talosconfig"));
    let recorded = ["--reason", "tests", "--dir", &dir];
    run_command(&[&["cluster", "add", "other", "--from", &from], &recorded[..]].concat()).await?;
    let create = [&["ca", "create", "other"], &recorded[..]].concat();
    let retire = [&["ca", "retire", CLUSTER, "--compromised"], &recorded[..]].concat();
    for (act, goes_on) in [(create, true), (retire, false)] {
        faults.set_no_body(Some(Kind::Ca));
        // it is recorded, and the command tells what the broker makes of that
        let _ = run_command(&act).await;
        for look in ["the first", "the second", "the third"] {
            let checks = world.running.reload().await;
            let line = checks.iter().find(|check| check.name == "ca keys").unwrap();
            let said = line.detail.clone().unwrap_or_default();
            assert!(!line.ok && said.contains("has lost its body"), "{look}: {line:?}");
            assert!(said.contains("so none is used until the entry reads as it was recorded"), "{look}: {said}");
            assert_eq!(refusal(asks(&alice).await), Code::CustodyUnavailable, "{look}");
        }
        let refused = world.entries().await?.into_iter().filter(|entry| {
            entry.detail.get("message").is_some_and(|it| it.starts_with("ca keys refused, no CA is used any longer"))
        });
        assert_eq!(refused.count(), if goes_on { 1 } else { 2 }, "once for each");

        faults.set_no_body(None);
        let checks = world.running.reload().await;
        let line = |name: &str| checks.iter().find(|check| check.name == name).unwrap();
        assert!(line("ca keys").ok, "{checks:?}");
        if goes_on {
            is_well(&world, &alice).await?;
        } else {
            let said = line(&format!("ca {CLUSTER}")).detail.clone().unwrap_or_default();
            assert!(said.contains("was retired"), "{said}");
            assert_eq!(refusal(asks(&alice).await), Code::CustodyUnavailable);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_past_its_end_leaves_a_recorded_failure() -> anyhow::Result<()> {
    let (world, faults) = faulty().await?;
    // longer than a dedicated CA lives
    world.clock.advance(SignedDuration::from_hours(24 * 366 * 5));
    let alice = Person::log_in(&world, "alice").await?;
    assert_eq!(refusal(asks(&alice).await), Code::CustodyUnavailable);
    assert_eq!(count(&world, ["grant", "issue-failed", "issued"]).await?, [1, 1, 0]);
    let entries = world.entries().await?;
    let (failed, grant) = (&entries[0], &entries[1]);
    assert_eq!((failed.kind.as_str(), failed.grant_id), ("issue-failed", grant.grant_id));
    assert_eq!(failed.detail["code"], "custody-unavailable");

    // and where even the failure cannot be recorded, the answer is no
    faults.at_entry(Kind::IssueFailed, Fault::Before);
    assert_eq!(refusal(asks(&alice).await), Code::StoreUnavailable);
    assert_eq!(count(&world, ["grant", "issue-failed", "issued"]).await?, [2, 1, 0]);
    verify_log(&*world.running.store()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_cannot_be_evaluated_refuses() -> anyhow::Result<()> {
    // Cedar alone would leave the forbid out, which overflows, and permit
    let policies = r#"
        @id("read") permit (principal, action == Action::"hold:os:reader", resource);
        @id("broken") forbid (principal, action, resource) when { context.groups_age * 9223372036854775807 > 0 };
    "#;
    let world = World::with(Options { policies: Some(policies), ..Options::default() }).await?;
    let alice = Person::log_in(&world, "alice").await?;
    // at an age of zero nothing overflows
    world.clock.advance(SignedDuration::from_secs(2));
    assert_eq!(refusal(asks(&alice).await), Code::PolicyError);
    assert_eq!(count(&world, ["refusal", "grant", "issued"]).await?, [1, 0, 0]);
    assert_eq!(world.entries().await?[0].detail["code"], "policy-error");

    std::fs::write(
        world.dir.join("policies/test.cedar"),
        r#"@id("read") permit (principal, action == Action::"hold:os:reader", resource);"#,
    )?;
    world.running.reload().await;
    is_well(&world, &alice).await?;
    Ok(())
}

fn dir(world: &World) -> String {
    world.dir.to_string_lossy().into_owned()
}

fn text(world: &World, file: &str) -> String {
    world.scratch().join(file).to_string_lossy().into_owned()
}
