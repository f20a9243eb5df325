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
    use jiff::SignedDuration;

    use super::super::fixture::{cluster, now, row, who};
    use super::super::{AuditScope, Limits, PolicySet, Source, may_drop_audit, may_read_audit, run_cases};
    use super::*;
    use crate::domain::Clusters;

    fn loaded(files: &[(&str, &str)]) -> PolicySet {
        let policies = files.iter().filter(|(name, _)| name.ends_with(".cedar"));
        let policies = policies.map(|(name, text)| Source { name: (*name).into(), text: (*text).into() });
        PolicySet::load(&policies.collect::<Vec<_>>(), Limits::default()).unwrap()
    }

    #[test]
    fn shipped_sets_load_without_a_warning_and_their_cases_pass() {
        for files in [SMALL_TEAM, COMPANY] {
            let set = loaded(files);
            assert_eq!(set.warnings(), [""; 0]);
            let cases: Vec<_> = files.iter().filter(|(name, _)| name.ends_with(".toml")).collect();
            assert!(!cases.is_empty());
            for (name, text) in cases {
                let report = run_cases(&set, &Clusters::default(), text, name).unwrap();
                assert!(report.passed() && report.passes > 0 && report.untried.is_empty(), "{report}");
            }
        }
    }

    /// The groups that a person is in, and whether they read the audit of everything, of a cluster of the payments team, of one
    /// of another team, and whether they drop bodies, freshly logged in with a security key.
    type Row = (&'static [&'static str], [bool; 4]);

    const IN_A_SMALL_TEAM: &[Row] =
        &[(&["talos-admins"], [true, true, true, false]), (&["talos-operators", "talos-users"], [false; 4])];

    const IN_A_COMPANY: &[Row] = &[
        (&["auditors"], [true, true, true, false]),
        (&["sre", "platform-admins"], [false, true, true, false]),
        (&["developers", "payments"], [false, true, false, false]),
        (&["privacy"], [false, false, false, true]),
        (&["auditors", "privacy"], [true, true, true, true]),
        (&["contractors", "search"], [false; 4]),
        (&[], [false; 4]),
    ];

    #[test]
    fn who_reads_the_audit_and_who_drops_bodies_in_the_shipped_sets() {
        for (files, rows) in [(SMALL_TEAM, IN_A_SMALL_TEAM), (COMPANY, IN_A_COMPANY)] {
            let set = loaded(files);
            let (payments, search) =
                (cluster("pay", &[("team", "payments")]), cluster("search", &[("team", "search")]));
            for (groups, expected) in rows {
                let mut session = row(groups);
                session.acr = Some("phr".into());
                let identity = who(&session);
                let reads = |scope| may_read_audit(&set, &identity, scope, now()).is_ok();
                let may = [
                    reads(AuditScope::Everything),
                    reads(AuditScope::Cluster(&payments)),
                    reads(AuditScope::Cluster(&search)),
                    may_drop_audit(&set, &identity, now()).is_ok(),
                ];
                assert_eq!(may, *expected, "{groups:?}");
            }
        }
    }

    #[test]
    fn to_drop_bodies_a_login_must_be_fresh_and_strong() {
        let set = loaded(COMPANY);
        let drops = |acr: Option<&str>, age: Option<i64>| {
            let mut session = row(&["privacy"]);
            session.acr = acr.map(Into::into);
            session.auth_time = age.map(|age| now() - SignedDuration::from_secs(age));
            may_drop_audit(&set, &who(&session), now()).map_err(|refusal| refusal.help)
        };
        let hint = Err(vec!["sign in again with your security key".to_owned()]);
        assert_eq!(drops(Some("phr"), Some(899)), Ok(()));
        for (acr, age) in [(Some("phr"), Some(900)), (Some("mfa"), Some(5)), (None, Some(5)), (Some("phr"), None)] {
            assert_eq!(drops(acr, age), hint, "{acr:?} {age:?}");
        }
    }
}
