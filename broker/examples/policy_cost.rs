//! What a decision costs with 10, 100 and 1,000 policies: `cargo run --release -p ichor-broker --example policy_cost`.
//!
//! The set is a company's: for each of many teams a permit for each of three roles, half of them with conditions, and four
//! forbids about everyone. The person is in 20 groups of which policies name 4, all of them with permits on this cluster. Every
//! decision is whole: entities, context and requests are made anew, two roles are asked for; a refusal looks for what would help.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use ichor_broker::domain::{Cluster, ClusterName, GrantId, Group, Person, ProviderAlias, Request, Role, SessionId};
use ichor_broker::identity::Identity;
use ichor_broker::policy::{Limits, PolicySet, Source, decide, listing};
use ichor_broker::store::SessionRow;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

const ROUNDS: usize = 5_000;

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let now = Timestamp::from_second(1_800_000_000)?;
    let identity = identity(now)?;
    let name = ClusterName::new("prod-7")?;
    let labels = [("env", "prod"), ("team", "team-3"), ("region", "eu")];
    let cluster = Cluster {
        name: name.clone(),
        labels: labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
        endpoints: Vec::new(),
        nodes: Vec::new(),
        ca: String::new(),
    };
    let mut request = Request {
        cluster: name,
        roles: vec![Role::Reader, Role::Operator],
        ttl: None,
        reason: Some("INC-42".into()),
        public_key: vec![0; 44],
        address: IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)),
    };
    println!(
        "{:>9}  {:>12}  {:>12}  {:>12}  {:>12}",
        "policies", "grant p50", "grant p99", "refusal p50", "listing p50"
    );
    for count in [10, 100, 1_000] {
        let source = Source { name: "bench.cedar".into(), text: policies(count) };
        let set = PolicySet::load(&[source], Limits::default())?;
        request.roles = vec![Role::Reader, Role::Operator];
        decide(&set, &identity, &cluster, &request, GrantId(Uuid::nil()), now)?;
        let grant = measure(|| {
            black_box(decide(&set, &identity, &cluster, &request, GrantId(Uuid::nil()), now).is_ok());
        });
        request.roles = vec![Role::Admin];
        let refusal = measure(|| {
            black_box(decide(&set, &identity, &cluster, &request, GrantId(Uuid::nil()), now).is_err());
        });
        let listed = measure(|| {
            black_box(listing(&set, &identity, &cluster, Some(request.address), now));
        });
        let (n, us) = (set.len(), |nanos: u128| format!("{:.1} µs", nanos as f64 / 1_000.0));
        println!("{n:>9}  {:>12}  {:>12}  {:>12}  {:>12}", us(grant.0), us(grant.1), us(refusal.0), us(listed.0));
    }
    Ok(())
}

/// Median and 99th percentile, in nanoseconds.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn measure(mut run: impl FnMut()) -> (u128, u128) {
    let mut times: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_nanos()
        })
        .collect();
    times.sort_unstable();
    let at = |place: usize| times.get(place).copied().unwrap_or_default();
    (at(ROUNDS / 2), at(ROUNDS * 99 / 100))
}

fn policies(count: usize) -> String {
    let mut text = String::from(
        r#"
        @id("care") forbid (principal, action == Action::"hold:os:admin", resource)
        unless { context has reason && context has acr && context.acr == "mfa" && context has auth_age && context.auth_age < 900 };
        @id("reason") forbid (principal, action == Action::"hold:os:operator", resource in Label::"env=prod") unless { context has reason };
        @id("contractors") forbid (principal in Group::"corp/contractors", action == Action::"hold:os:admin", resource);
        @id("networks") forbid (principal, action in Action::"hold", resource in Label::"env=prod")
        unless { context has address && context.address.isInRange(ip("10.0.0.0/8")) };
        "#,
    );
    let roles = ["reader", "operator", "etcd:backup"];
    for n in 0..count.saturating_sub(4) {
        let team = n / roles.len();
        let (id, role) = (n, roles.get(n % roles.len()).copied().unwrap_or("reader"));
        let condition = if n % 2 == 0 { "" } else { "when { context has reason }" };
        let on = if team < 4 { "env=prod".into() } else { format!("team=team-{team}") };
        text.push_str(&format!(
            "@id(\"p{id}\") @max_ttl(\"8h\")\npermit (principal in Group::\"corp/team-{team}\", \
             action == Action::\"hold:os:{role}\", resource in Label::\"{on}\") {condition};\n"
        ));
    }
    text
}

fn identity(now: Timestamp) -> Result<Identity, Box<dyn std::error::Error>> {
    let provider = ProviderAlias::new("corp")?;
    let names = (0..4).map(|n| format!("team-{n}")).chain((0..16).map(|n| format!("unnamed-{n}")));
    Ok(Identity::restore(&SessionRow {
        id: SessionId(Uuid::nil()),
        token_hash: [0; 32],
        jkt: String::new(),
        person: Person {
            provider: provider.clone(),
            issuer: "https://idp.example.com".into(),
            subject: "alice".into(),
        },
        name: "Alice".into(),
        user: "alice@example.com".into(),
        groups: names.map(|name| Group { provider: provider.clone(), name }).collect(),
        groups_at: now,
        acr: Some("pwd".into()),
        auth_time: Some(now),
        refresh_sealed: None,
        version: 1,
        created_at: now,
        expires_at: now + SignedDuration::from_hours(12),
        used_at: now,
        ended_at: None,
    }))
}
