//! `policy`: one decision in sets of 10, 100 and 1,000 policies.
//!
//! The sets look like a company's: teams, environments, one policy for a team's role in an environment, and a few that hold
//! for everyone. A last row shows what the index cannot help with: a thousand policies that are all about this very request.

use std::fmt::Write;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, ensure};
use ichor_broker::custody::DataKey;
use ichor_broker::domain::{
    Cluster, ClusterName, GrantId, Group, HumanClaim, Person, ProviderAlias, Request, Role, SessionId,
};
use ichor_broker::identity::{Identity, vouch};
use ichor_broker::policy::{Limits, PolicySet, Source, decide};
use ichor_broker::store::SessionRow;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use uuid::Uuid;

use crate::Settings;
use crate::meter::{Times, micros, timed};
use crate::report::{Goal, Report};

/// The bar at every size.
const GOAL_MICROS: f64 = 50.0;

pub(crate) fn run(settings: &Settings) -> anyhow::Result<Report> {
    let mut report = Report::new("policy");
    report.note("one decision in this process: a grant, and a refusal with its search for what would help");
    let time = Duration::from_secs(settings.seconds) / 4;
    for size in [10, 100, 1000] {
        let set = load(&company(size)?)?;
        ensure!(set.len() == size, "the set has {} policies", set.len());
        let (mut granted, mut refused) = (Times::default(), Times::default());
        measure(&set, Role::Reader, true, time, &mut granted)?;
        measure(&set, Role::Admin, false, time, &mut refused)?;
        let goal = Goal::AtMost(GOAL_MICROS);
        report.hold(format!("{size} policies: granted, p50"), micros(granted.percentile(0.5)), "µs", goal);
        report.add(format!("{size} policies: granted, p99"), micros(granted.percentile(0.99)), "µs");
        report.add(format!("{size} policies: refused, p50"), micros(refused.percentile(0.5)), "µs");
    }
    let set = load(&alike(1000)?)?;
    let mut times = Times::default();
    measure(&set, Role::Reader, true, time, &mut times)?;
    report.add("1,000 policies that all apply: p50", micros(times.percentile(0.5)), "µs");
    Ok(report)
}

fn measure(set: &PolicySet, role: Role, yes: bool, time: Duration, times: &mut Times) -> anyhow::Result<()> {
    let (identity, cluster, now) = (alice()?, prod()?, Timestamp::from_second(1_800_000_000)?);
    let request = Request {
        cluster: cluster.name.clone(),
        roles: vec![role],
        ttl: None,
        reason: None,
        public_key: vec![0; 44],
        csr: Vec::new(),
        address: IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)),
    };
    let end = Instant::now() + time;
    while Instant::now() < end {
        let (decided, took) =
            timed(|| decide(set, &identity, &cluster, &request, None, GrantId(Uuid::from_u128(7)), now));
        ensure!(decided.is_ok() == yes, "not the decision that was meant to be measured: {decided:?}");
        black_box(&decided);
        times.push(took);
    }
    Ok(())
}

/// `size` policies of a company; alice's team `team-0` may read prod.
fn company(size: usize) -> anyhow::Result<String> {
    let mut text = String::from(
        "@id(\"no-metadata-writes\")\nforbid (principal, action == Action::\"hold:os:meta:writer\", resource);\n",
    );
    let roles = ["os:reader", "os:operator", "os:etcd:backup", "os:image:verifier"];
    let environments = ["prod", "staging", "dev", "lab", "edge"];
    for n in 0..size.saturating_sub(1) {
        let (team, rest) = (n / (roles.len() * environments.len()), n % (roles.len() * environments.len()));
        let role = roles.get(rest % roles.len()).context("a role")?;
        let environment = environments.get(rest / roles.len()).context("an environment")?;
        writeln!(
            text,
            "@id(\"p{n}\") @max_ttl(\"8h\")\npermit (principal in Group::\"corp/team-{team}\", action == Action::\"hold:{role}\", \
             resource in Label::\"env={environment}\") when {{ context.groups_age < 300 }};"
        )?;
    }
    Ok(text)
}

/// `size` policies with one scope and different conditions.
fn alike(size: usize) -> anyhow::Result<String> {
    let mut text = String::new();
    for n in 0..size {
        writeln!(
            text,
            "@id(\"p{n}\") @max_ttl(\"8h\")\npermit (principal in Group::\"corp/team-0\", action == Action::\"hold:os:reader\", \
             resource in Label::\"env=prod\") when {{ context.ttl < {} }};",
            n + 3601
        )?;
    }
    Ok(text)
}

fn load(text: &str) -> anyhow::Result<PolicySet> {
    Ok(PolicySet::load(&[Source { name: "bench.cedar".into(), text: text.into() }], Limits::default())?)
}

/// Someone with a dozen groups, two of which a policy speaks of.
fn alice() -> anyhow::Result<Identity> {
    let provider = ProviderAlias::new("corp")?;
    let now = Timestamp::from_second(1_800_000_000)?;
    let groups = (0..10).map(|n| format!("other-{n}")).chain(["team-0".into(), "everyone".into()]);
    let mut row = SessionRow {
        id: SessionId(Uuid::from_u128(1)),
        token_hash: [0; 32],
        jkt: String::new(),
        person: Person {
            provider: provider.clone(),
            issuer: "https://idp.example.com".into(),
            subject: "248289761001".into(),
        },
        name: "Alice".into(),
        user: "alice@example.com".into(),
        groups: groups.map(|name| Group { provider: provider.clone(), name }).collect(),
        groups_at: now,
        acr: Some("mfa".into()),
        auth_time: Some(now),
        refresh_sealed: None,
        version: 1,
        created_at: now,
        expires_at: now.checked_add(SignedDuration::from_hours(12))?,
        used_at: now,
        ended_at: None,
        tag: [0; 32],
        human: HumanClaim::NotAsked,
        page: None,
    };
    let key = DataKey::new(&[1; 32])?;
    vouch(&mut row, &key);
    Ok(Identity::restore(&row, &key)?)
}

fn prod() -> anyhow::Result<Cluster> {
    Ok(Cluster {
        name: ClusterName::new("prod")?,
        labels: [("env".to_owned(), "prod".to_owned()), ("region".to_owned(), "eu".to_owned())].into(),
        endpoints: vec!["10.0.0.2".into()],
        nodes: Vec::new(),
        ca: String::new(),
    })
}
