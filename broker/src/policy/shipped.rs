//! The policy sets that come with the broker, as `policies/` has them.

/// For a handful of people with one provider: `(file name, text)` of each file. What `ichor-broker init` writes.
pub const SMALL_TEAM: &[(&str, &str)] = &[
    ("team.cedar", include_str!("../../../policies/small-team/team.cedar")),
    ("cases.toml", include_str!("../../../policies/small-team/cases.toml")),
];

/// For a company with several teams and environments: `(file name, text)` of each file.
pub const COMPANY: &[(&str, &str)] = &[
    ("guardrails.cedar", include_str!("../../../policies/company/guardrails.cedar")),
    ("platform.cedar", include_str!("../../../policies/company/platform.cedar")),
    ("product-teams.cedar", include_str!("../../../policies/company/product-teams.cedar")),
    ("break-glass.cedar", include_str!("../../../policies/company/break-glass.cedar")),
    ("audit.cedar", include_str!("../../../policies/company/audit.cedar")),
    ("locks.cedar", include_str!("../../../policies/company/locks.cedar")),
    ("cases.toml", include_str!("../../../policies/company/cases.toml")),
];

#[cfg(test)]
mod tests {
    use super::super::{Limits, PolicySet, Source, run_cases};
    use super::*;
    use crate::domain::Clusters;

    #[test]
    fn shipped_sets_load_without_a_warning_and_their_cases_pass() {
        for files in [SMALL_TEAM, COMPANY] {
            let policies = files.iter().filter(|(name, _)| name.ends_with(".cedar"));
            let policies = policies.map(|(name, text)| Source { name: (*name).into(), text: (*text).into() });
            let set = PolicySet::load(&policies.collect::<Vec<_>>(), Limits::default()).unwrap();
            assert_eq!(set.warnings(), [""; 0]);
            let cases: Vec<_> = files.iter().filter(|(name, _)| name.ends_with(".toml")).collect();
            assert!(!cases.is_empty());
            for (name, text) in cases {
                let report = run_cases(&set, &Clusters::default(), text, name).unwrap();
                assert!(report.passed() && report.passes > 0 && report.untried.is_empty(), "{report}");
            }
        }
    }
}
