//! Files of the shipped policy sets, copied one beside another as people copy them.

use ichor_broker::domain::Clusters;
use ichor_broker::policy::{Limits, PolicySet, Source, run_cases};

const TEAM: &str = include_str!("../../policies/small-team/team.cedar");
const BREAK_GLASS: &str = include_str!("../../policies/company/break-glass.cedar");
const GUARDRAILS: &str = include_str!("../../policies/company/guardrails.cedar");

const CASES: &str = r#"
[people.by-password]
groups = ["corp/sre"]
acr = "pwd"
auth_age = "5m"

[people.long-ago]
groups = ["corp/sre"]
acr = "phr"
auth_age = "1h"

[people.told-nothing]
groups = ["corp/sre"]

[people.with-factor]
groups = ["corp/sre"]
acr = "phr"
auth_age = "5m"

[clusters.pay]
labels = { env = "prod" }

[clusters.play]
labels = { env = "dev" }
"#;

/// A case about os:admin, with what others approved, and what is expected.
fn case(who: &str, cluster: &str, backing: &str, expects: &str) -> String {
    let asks = format!("{{ roles = [\"os:admin\"], reason = \"INC-42\", {backing} }}");
    format!("\n[[case]]\nwho = \"{who}\"\ncluster = \"{cluster}\"\nasks = {asks}\nexpects = {{ {expects} }}\n")
}

fn loaded(files: &[(&str, &str)]) -> PolicySet {
    let sources: Vec<_> =
        files.iter().map(|(name, text)| Source { name: (*name).into(), text: (*text).into() }).collect();
    PolicySet::load(&sources, Limits::default()).unwrap()
}

/// README leads people to copy it so: beside `team.cedar`, no guardrail binds os:admin.
#[test]
fn break_glass_copied_alone_wants_a_second_factor_and_a_fresh_login() {
    let ways =
        [("pay", "approvals = 2", "30m"), ("play", "approvals = 1", "30m"), ("play", "self_service = true", "10m")];
    for (set, refused) in [
        (loaded(&[("team.cedar", TEAM), ("break-glass.cedar", BREAK_GLASS)]), "refuses = \"conditions\""),
        (
            loaded(&[("team.cedar", TEAM), ("break-glass.cedar", BREAK_GLASS), ("guardrails.cedar", GUARDRAILS)]),
            "refuses = \"forbidden\", by = [\"admin-only-with-care\"]",
        ),
    ] {
        assert_eq!(set.warnings(), [""; 0]);
        let mut cases = CASES.to_owned();
        for (cluster, backing, life) in ways {
            for who in ["by-password", "long-ago", "told-nothing"] {
                cases += &case(who, cluster, backing, &format!("{refused}, help = \"ichor login --fresh\""));
            }
            cases += &case("with-factor", cluster, backing, &format!("grants = \"{life}\""));
        }
        let report = run_cases(&set, &Clusters::default(), &cases, "cases.toml").unwrap();
        assert!(report.passed() && report.passes == 12, "{report}");
    }
}
