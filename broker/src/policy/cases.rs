//! Test cases for policies, written beside them in TOML: who asks for what on which cluster, and what is expected.
//!
//! ```toml
//! [people.alice]
//! groups = ["corp/sre"]
//! acr = "mfa"
//! auth_age = "5m"
//!
//! [clusters.prod]
//! labels = { env = "prod" }
//!
//! [[case]]
//! who = "alice"
//! cluster = "prod"
//! asks = { roles = ["os:admin"], reason = "INC-42" }
//! expects = { grants = "15m", by = ["admin-prod"] }
//!
//! [[case]]
//! who = "alice"
//! cluster = "prod"
//! asks = { roles = ["os:admin"] }
//! expects = { refuses = "conditions", help = "reason" }
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;

use crate::domain::{ClusterName, Clusters};

use super::case_file::{Expects, File, asks, cluster, duration, locking, who};
use super::explain::{Considered, Granted, explain};
use super::locking::would_lock;
use super::refusal::Refusal;
use super::rule::{shown, spoken};
use super::set::PolicySet;

/// What became of a file of cases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaseReport {
    /// How many cases came out as expected.
    pub passes: usize,
    /// The others.
    pub failures: Vec<CaseFailure>,
    /// The policies about certificates that no case made decide, by `@id`.
    pub untried: Vec<String>,
}

/// A case that came out otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseFailure {
    /// The file's name and the case's line.
    pub place: String,
    /// What was asked, in words.
    pub asked: String,
    /// What differs, a sentence each.
    pub differs: Vec<String>,
    /// Every policy that was considered, and whether it is met; none for a lock.
    pub considered: Vec<Considered>,
}

/// A file of cases cannot be run. Says where and what to correct.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct CaseError {
    /// The file's name and the line.
    pub place: String,
    /// What is wrong.
    pub message: String,
}

/// Runs every case of a file against the policies. Clusters that the file declares hide those of the same name in `clusters`.
///
/// # Errors
/// When the file cannot be read as cases: no case is run then. A case that fails is no error but part of the report.
pub fn run_cases(
    policies: &PolicySet,
    clusters: &Clusters,
    text: &str,
    file_name: &str,
) -> Result<CaseReport, CaseError> {
    let error_at = |offset: usize, message: String| {
        let line = text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1;
        CaseError { place: format!("{file_name}:{line}"), message }
    };
    let file: File = toml::from_str(text)
        .map_err(|error| error_at(error.span().map_or(0, |span| span.start), error.message().replace('\n', ": ")))?;
    let mut people = BTreeMap::new();
    for (name, entry) in &file.people {
        let who = who(name, entry.get_ref()).map_err(|message| error_at(entry.span().start, message))?;
        people.insert(name.as_str(), who);
    }
    let mut declared = BTreeMap::new();
    for (name, entry) in &file.clusters {
        let cluster = cluster(name, entry.get_ref()).map_err(|message| error_at(entry.span().start, message))?;
        declared.insert(cluster.name.clone(), cluster);
    }

    let mut report = CaseReport::default();
    let mut tried = BTreeSet::new();
    for case in &file.cases {
        let start = case.span().start;
        let case = case.get_ref();
        let at = |message: String| error_at(start, message);
        let who = people.get(case.who.as_str());
        let who = who.ok_or_else(|| at(format!("nobody under `people` is called `{}`", shown(&case.who))))?;
        let name = ClusterName::new(&case.cluster).map_err(|error| at(error.to_string()))?;
        let cluster = declared.get(&name).or_else(|| clusters.get(&name).map(AsRef::as_ref));
        let cluster =
            cluster.ok_or_else(|| at(format!("there is no cluster `{name}`; declare it under `clusters`")))?;
        let (outcome, considered) = match locking(&case.asks).map_err(at)? {
            Some((act, kind)) => (would_lock(policies, who, act, kind, cluster).map(Outcome::Permitted), Vec::new()),
            None => {
                let asks = asks(&case.asks).map_err(at)?;
                // a case is about lives, not about times of day, so any time will do
                let explanation = explain(policies, who, cluster, &asks, Timestamp::UNIX_EPOCH);
                (explanation.outcome.map(Outcome::Granted), explanation.considered)
            }
        };
        tried.extend(decisive(&outcome));
        let differs = case.expects.compare(&outcome).map_err(at)?;
        if differs.is_empty() {
            report.passes += 1;
        } else {
            report.failures.push(CaseFailure {
                place: error_at(start, String::new()).place,
                asked: case.said(),
                differs,
                considered,
            });
        }
    }
    let about_certificates = policies.rules.iter().filter(|rule| rule.actions.iter().any(|action| action.is_hold()));
    report.untried = about_certificates.map(|rule| rule.id.clone()).filter(|id| !tried.contains(id)).collect();
    Ok(report)
}

/// A yes.
enum Outcome {
    /// To a certificate.
    Granted(Granted),
    /// To a lock, by these policies.
    Permitted(Vec<String>),
}

/// The policies that decided.
fn decisive(outcome: &Result<Outcome, Refusal>) -> Vec<String> {
    match outcome {
        Ok(Outcome::Granted(granted)) => granted.deciding.iter().map(|(_, id)| id.clone()).collect(),
        Ok(Outcome::Permitted(by)) => by.clone(),
        Err(refusal) => refusal.policies.clone(),
    }
}

// === impl Expects ===

impl Expects {
    /// What differs from the expectation, a sentence each.
    ///
    /// # Errors
    /// When the expectation contradicts itself, in words.
    fn compare(&self, outcome: &Result<Outcome, Refusal>) -> Result<Vec<String>, String> {
        let mut differs = Vec::new();
        match (&self.grants, &self.refuses, self.permits) {
            (None, None, true) => match outcome {
                Ok(Outcome::Permitted(_)) => {}
                Ok(Outcome::Granted(_)) => return Err("a case about a certificate expects `grants = \"8h\"`".into()),
                Err(refusal) => differs.push(format!("expected a yes, but {refusal}")),
            },
            (Some(longest), None, false) => {
                let longest = duration(longest)?;
                match outcome {
                    Ok(Outcome::Permitted(_)) => return Err("a case about a lock expects `permits = true`".into()),
                    Err(refusal) => differs.push(format!("expected a grant, but {refusal}")),
                    Ok(Outcome::Granted(granted)) if granted.longest != longest => {
                        differs.push(format!(
                            "expected at most {}, but got {}",
                            spoken(longest),
                            spoken(granted.longest)
                        ));
                    }
                    Ok(_) => {}
                }
            }
            (None, Some(part), false) => match outcome {
                Ok(Outcome::Permitted(_)) => differs.push("expected a refusal, but it is permitted".into()),
                Ok(Outcome::Granted(granted)) => {
                    differs.push(format!("expected a refusal, but it is granted for {}", spoken(granted.life)))
                }
                Err(refusal) if !refusal.sentence.contains(part.as_str()) => {
                    differs.push(format!("expected a refusal that says `{}`, but {refusal}", shown(part)));
                }
                Err(_) => {}
            },
            _ => return Err("a case expects one of `grants = \"8h\"`, `permits = true` and `refuses = \"…\"`".into()),
        }
        if let Some(part) = &self.help {
            let Err(refusal) = outcome else { return Ok(differs) };
            if !refusal.help.iter().any(|help| help.contains(part.as_str())) {
                differs.push(format!("expected help that says `{}`, but: {}", shown(part), refusal.help.join("; ")));
            }
        }
        if let Some(by) = &self.by {
            let (expected, decided) = (sorted(by.clone()), sorted(decisive(outcome)));
            if expected != decided {
                differs.push(format!("expected [{}] to decide, but [{}] did", expected.join(", "), decided.join(", ")));
            }
        }
        Ok(differs)
    }
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids.dedup();
    ids
}

// === impl CaseReport ===

impl CaseReport {
    /// Whether every case came out as expected.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}

impl fmt::Display for CaseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for failure in &self.failures {
            writeln!(f, "{}: {}", failure.place, failure.asked)?;
            for differs in &failure.differs {
                writeln!(f, "  {differs}")?;
            }
            for considered in &failure.considered {
                writeln!(f, "    {considered}")?;
            }
        }
        if !self.untried.is_empty() {
            writeln!(f, "no case makes these policies decide: {}", self.untried.join(", "))?;
        }
        writeln!(f, "{} passed, {} failed", self.passes, self.failures.len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::load;
    use super::*;

    const POLICIES: &str = r#"
        @id("read") @max_ttl("8h")
        permit (principal in Group::"corp/sre", action == Action::"hold:os:reader", resource in Label::"env=prod");
        @id("admin") @max_ttl("15m")
        permit (principal in Group::"corp/sre", action == Action::"hold:os:admin", resource) when { context has reason };
        @id("unused") permit (principal in Group::"corp/dev", action == Action::"hold:os:reader", resource);
        @id("locks") permit (principal in Group::"corp/sre", action == Action::"lock", resource == Ichor::"broker")
        when { context.what == "user" };
        @id("unlocks") permit (principal in Group::"corp/sre", action == Action::"unlock", resource in Label::"env=prod");
    "#;

    const SETTING: &str = "[people.alice]\ngroups = [\"corp/sre\"]\nacr = \"mfa\"\nauth_age = \"5m\"\n[clusters.prod]\nlabels = { env = \"prod\" }\n";

    fn run(cases: &str) -> Result<CaseReport, CaseError> {
        let text = format!("{SETTING}{cases}");
        run_cases(&load(POLICIES).unwrap(), &Clusters::default(), &text, "cases.toml")
    }

    fn case(asks: &str, expects: &str) -> String {
        format!("[[case]]\nwho = \"alice\"\ncluster = \"prod\"\nasks = {{ {asks} }}\nexpects = {{ {expects} }}\n")
    }

    #[test]
    fn right_expectations_pass() {
        for (asks, expects) in [
            ("", r#"grants = "8h", by = ["read"]"#),
            (r#"roles = ["os:admin"], reason = "x""#, r#"grants = "15m", by = ["admin"]"#),
            (r#"roles = ["os:admin"]"#, r#"refuses = "conditions", help = "--reason", by = ["admin"]"#),
            (r#"roles = ["os:operator"]"#, r#"refuses = "no policy", by = []"#),
            (r#"locks = "user""#, r#"permits = true, by = ["locks"]"#),
            (r#"locks = "everything""#, r#"refuses = "conditions""#),
            (r#"unlocks = "cluster""#, r#"permits = true, by = ["unlocks"]"#),
            (r#"unlocks = "user""#, r#"refuses = "no policy""#),
        ] {
            let report = run(&case(asks, expects)).unwrap();
            assert!(report.passed() && report.passes == 1, "{report}");
        }
    }

    #[test]
    fn wrong_expectations_fail() {
        for (asks, expects) in [
            ("", r#"grants = "9h""#),
            ("", r#"grants = "8h", by = ["admin"]"#),
            ("", r#"refuses = """#),
            (r#"roles = ["os:admin"]"#, r#"grants = "15m""#),
            (r#"roles = ["os:admin"]"#, r#"refuses = "forbidden""#),
            (r#"roles = ["os:admin"]"#, r#"refuses = "", help = "moon""#),
            (r#"locks = "user""#, r#"refuses = """#),
            (r#"locks = "everything""#, "permits = true"),
        ] {
            let report = run(&case(asks, expects)).unwrap();
            assert!(!report.passed() && report.passes == 0, "{asks} {expects}");
        }
        for (asks, said) in [
            (r#"locks = "everything""#, "alice wants to lock everything (cluster prod)"),
            (r#"unlocks = "user""#, "alice wants to unlock a user (cluster prod)"),
        ] {
            let report = run(&case(asks, "permits = true")).unwrap().to_string();
            assert!(report.contains(said), "{report}");
        }
    }

    #[test]
    fn a_report_says_what_differs_and_what_was_never_tried() {
        let cases = [case("", r#"refuses = """#), case(r#"roles = ["os:admin"]"#, r#"grants = "15m""#)].concat();
        insta::assert_snapshot!(run(&cases).unwrap(), @r"
        cases.toml:7: alice asks for os:reader on prod
          expected a refusal, but it is granted for 1h
            os:reader: permit `read` (test.cedar:2): met
        cases.toml:12: alice asks for os:admin on prod
          expected a grant, but os:admin on `prod` is permitted by `admin` only on conditions that are not met
            os:admin: permit `admin` (test.cedar:4): conditions not met
        no case makes these policies decide: unused
        0 passed, 2 failed
        ");
    }

    #[test]
    fn what_cannot_be_read_is_an_error_with_its_line() {
        for (cases, line) in [
            ("[[case]]\nwho = \"bob\"\ncluster = \"prod\"\nexpects = { refuses = \"\" }", 7),
            ("[[case]]\nwho = \"alice\"\ncluster = \"moon\"\nexpects = { refuses = \"\" }", 7),
            ("[[case]]\nwho = \"alice\"\ncluster = \"prod\"\nexpect = { refuses = \"\" }", 10),
            ("\n[people.eve]\ngroups = [\"sre\"]", 8),
            ("[people.eve]\ngroups = [\"corp/a\", \"other/b\"]", 7),
            ("x =", 7),
        ] {
            let error = run(cases).unwrap_err();
            assert_eq!(error.place, format!("cases.toml:{line}"), "{error}");
        }
        for (asks, expects) in [
            (r#"roles = ["os:impersonator"]"#, r#"refuses = """#),
            (r#"ttl = "soon""#, r#"refuses = """#),
            ("", r#"grants = "8h", refuses = """#),
            ("", ""),
            ("", r#"grants = "long""#),
            ("", "permits = true"),
            (r#"locks = "user""#, r#"grants = "8h""#),
            (r#"locks = "user", unlocks = "user""#, "permits = true"),
            (r#"locks = "node""#, "permits = true"),
        ] {
            assert!(run(&case(asks, expects)).is_err(), "{asks} {expects}");
        }
    }
}
