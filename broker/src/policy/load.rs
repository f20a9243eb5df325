//! Loading a policy set: whole or not at all.

use std::collections::{BTreeMap, HashMap, HashSet};

use cedar_policy::{Authorizer, Policy, PolicyId, PolicySet as CedarSet, ValidationMode, ValidationWarning, Validator};
use jiff::SignedDuration;
use miette::Diagnostic;
use sha2::{Digest, Sha256};

use super::index::Index;
use super::nesting::too_deep;
use super::problem::{LoadError, Problem};
use super::reads::Reads;
use super::rule::{Place, Rule, Terms, covered, shown, spoken};
use super::set::{HARD_MAX_TTL, Limits, PolicySet, Source};
use super::shadows;
use super::vocabulary::{Vocabulary, misnamed};

/// The stack that policies are read with, in bytes: what is not used costs nothing.
const STACK: usize = 128 << 20;

/// What loading has found so far.
#[derive(Default)]
struct Loading {
    rules: Vec<Rule>,
    by_id: HashMap<PolicyId, usize>,
    problems: Vec<Problem>,
}

// === impl PolicySet ===

impl PolicySet {
    /// Returns the set once every policy and every annotation was understood and every expression type-checks against the
    /// schema, strictly. An empty set is one that refuses everything; it carries a warning.
    ///
    /// # Errors
    /// When anything is wrong: nothing is loaded, and all problems are named with file, line and policy.
    pub fn load(sources: &[Source], limits: Limits) -> Result<Self, LoadError> {
        let failed = |why: &str| LoadError { problems: vec![Problem::general(why.into())] };
        // Cedar's parser and validator call themselves as deep as a policy goes, which `too_deep` bounds
        std::thread::scope(|scope| {
            let room = std::thread::Builder::new().stack_size(STACK);
            let loading = room.spawn_scoped(scope, || Self::loaded(sources, limits));
            let loading = loading.map_err(|error| failed(&format!("no thread to read policies in: {error}")))?;
            loading.join().unwrap_or_else(|_| Err(failed("reading the policies ended in an error of the program")))
        })
    }

    fn loaded(sources: &[Source], limits: Limits) -> Result<Self, LoadError> {
        let bug = |message: String| LoadError { problems: vec![Problem::general(message)] };
        let vocabulary = Vocabulary::new().map_err(bug)?;
        let mut loading = Loading { problems: limit_problems(limits), ..Loading::default() };
        let mut names = HashSet::new();
        for source in sources {
            if !names.insert(source.name.as_str()) {
                loading.problems.push(Problem::general(format!("`{}` is given twice", shown(&source.name))));
            }
            loading.read(source);
        }
        let mut warnings = loading.validate(&vocabulary, sources);
        if !loading.problems.is_empty() {
            let mut problems = loading.problems;
            let place = |name: &Option<String>| sources.iter().position(|source| Some(&source.name) == name.as_ref());
            problems.sort_by_key(|problem| (place(&problem.source), problem.line));
            return Err(LoadError { problems });
        }

        let Loading { rules, by_id, .. } = loading;
        let index = Index::new(&rules).map_err(bug)?;
        let digest = digest(sources);
        let authorizer = Authorizer::new();
        let mut set = Self { rules, by_id, index, vocabulary, authorizer, limits, digest, warnings: Vec::new() };
        warnings.extend(own_warnings(&set));
        set.warnings = warnings;
        Ok(set)
    }
}

// === impl Loading ===

impl Loading {
    /// Reads one source: its policies become rules, what is wrong becomes problems.
    fn read(&mut self, source: &Source) {
        if let Some((at, why)) = too_deep(&source.text) {
            let place = Place { source: source.name.clone(), line: line_of(&source.text, at) };
            return self.problem(Some(place), None, why);
        }
        let parsed: CedarSet = match source.text.parse() {
            Ok(parsed) => parsed,
            Err(errors) => return self.unparsable(source, &errors),
        };
        for template in parsed.templates() {
            let line = line_of(&source.text, source.text.find(&template.to_string()).unwrap_or(0));
            self.problem(
                Some(Place { source: source.name.clone(), line }),
                None,
                "templates are not used; name the principal and the resource".into(),
            );
        }
        let mut policies: Vec<&Policy> = parsed.policies().collect();
        // Cedar numbers the policies of a text from 0, as `policy7`
        policies.sort_by_key(|policy| {
            policy.id().to_string().trim_start_matches("policy").parse::<usize>().unwrap_or(usize::MAX)
        });
        let mut from = 0;
        for policy in policies {
            let text = policy.to_string();
            let at = source.text.get(from..).and_then(|rest| rest.find(&text)).map_or(from, |found| from + found);
            from = at.saturating_add(text.len());
            let place = Place { source: source.name.clone(), line: line_of(&source.text, at) };
            self.add(policy, place);
        }
    }

    fn add(&mut self, policy: &Policy, place: Place) {
        let id = match policy.annotation("id") {
            Some(id) if good_id(id) => Some(id),
            Some(id) => {
                let message =
                    format!("`@id(\"{}\")` is not an id; use up to 64 letters, digits, `.`, `_` and `-`", shown(id));
                self.problem(Some(place.clone()), None, message);
                None
            }
            None => {
                self.problem(
                    Some(place.clone()),
                    None,
                    "the policy has no `@id`; give it one that no other has".into(),
                );
                None
            }
        };
        let cedar_id = PolicyId::new(id.map_or_else(|| place.to_string(), Into::into));
        if let Some(first) = self.by_id.get(&cedar_id).and_then(|place| self.rules.get(*place)) {
            let message = format!("the id is already used at {}", first.place);
            self.problem(Some(place), id, message);
            return;
        }
        let mut misnames: Vec<_> = policy.entity_literals();
        misnames.sort();
        for uid in misnames {
            if let Some(how) = misnamed(&uid) {
                self.problem(Some(place.clone()), id, format!("`{}` can never match; {how}", shown(&uid.to_string())));
            }
        }
        let actions = covered(policy);
        let terms = Terms::read(policy, &actions).unwrap_or_else(|problems| {
            for message in problems {
                self.problem(Some(place.clone()), id, message);
            }
            Terms::default()
        });
        let reads = Reads::of(policy).unwrap_or_else(|problem| {
            self.problem(Some(place.clone()), id, problem);
            Reads::default()
        });
        for unknown in &reads.unknown {
            self.problem(
                Some(place.clone()),
                id,
                format!("`{}` can never be; see the schema for what there is", shown(unknown)),
            );
        }
        // a policy with problems stays in, so that type-checking tells the rest of them at once; the set is refused anyway
        self.by_id.insert(cedar_id.clone(), self.rules.len());
        self.rules.push(Rule {
            id: id.unwrap_or_default().into(),
            place,
            policy: policy.new_id(cedar_id),
            actions,
            terms,
            reads,
        });
    }

    /// Type-checks all policies against the schema and returns Cedar's warnings.
    fn validate(&mut self, vocabulary: &Vocabulary, sources: &[Source]) -> Vec<String> {
        let set = match CedarSet::from_policies(self.rules.iter().map(|rule| rule.policy.clone())) {
            Ok(set) => set,
            Err(error) => {
                self.problems.push(Problem::general(error.to_string()));
                return Vec::new();
            }
        };
        let result = Validator::new(vocabulary.schema.clone()).validate(&set, ValidationMode::Strict);
        // one mistake is told once for every action that the policy covers; keep one, best about a certificate
        let mut errors: Vec<_> = result
            .validation_errors()
            .map(|error| {
                let message = said(error);
                (error.policy_id().clone(), offset(error), !message.contains("hold:"), message)
            })
            .collect();
        errors.sort();
        errors.dedup_by(|later, first| (&later.0, later.1) == (&first.0, first.1));
        for (id, offset, _, message) in errors {
            self.invalid(&id, offset, &message, sources);
        }
        let mut warnings = Vec::new();
        for warning in result.validation_warnings() {
            let never = matches!(warning, ValidationWarning::ImpossiblePolicy(_));
            let rule = self.by_id.get(warning.policy_id()).and_then(|place| self.rules.get(*place));
            if never && rule.is_some_and(|rule| !rule.permits()) {
                self.invalid(warning.policy_id(), None, "the forbid can never apply", sources);
            }
            warnings.push(said(warning));
        }
        warnings.sort();
        warnings
    }

    fn invalid(&mut self, id: &PolicyId, offset: Option<usize>, message: &str, sources: &[Source]) {
        let rule = self.by_id.get(id).and_then(|place| self.rules.get(*place));
        let Some((place, policy)) = rule.map(|rule| (rule.place.clone(), rule.id.clone())) else {
            return self.problem(None, None, message.into());
        };
        let text = sources.iter().find(|source| source.name == place.source).map(|source| source.text.as_str());
        let line = text.zip(offset).map_or(place.line, |(text, offset)| line_of(text, offset));
        let message = message.strip_prefix(&format!("for policy `{id}`, ")).unwrap_or(message);
        let policy = (!policy.is_empty()).then_some(policy);
        self.problem(Some(Place { line, ..place }), policy.as_deref(), message.into());
    }

    fn unparsable(&mut self, source: &Source, errors: &cedar_policy::ParseErrors) {
        for error in errors.iter() {
            let line = line_of(&source.text, offset(error).unwrap_or(0));
            let place = Place { source: source.name.clone(), line };
            self.problem(Some(place), None, said(error));
        }
    }

    fn problem(&mut self, place: Option<Place>, policy: Option<&str>, message: String) {
        let (source, line) = place.map_or((None, None), |place| (Some(place.source), Some(place.line)));
        self.problems.push(Problem { source, line, policy: policy.map(Into::into), message });
    }
}

fn limit_problems(limits: Limits) -> Vec<Problem> {
    let mut problems = Vec::new();
    if limits.max_ttl > HARD_MAX_TTL || limits.max_ttl < SignedDuration::from_secs(1) {
        problems.push(Problem::general("the longest life of a certificate must be between 1s and 24h".into()));
    }
    if limits.default_ttl > limits.max_ttl || limits.default_ttl < SignedDuration::from_secs(1) {
        problems.push(Problem::general("the default life of a certificate must be between 1s and the longest".into()));
    }
    problems
}

fn own_warnings(set: &PolicySet) -> Vec<String> {
    let mut warnings = Vec::new();
    if set.rules.is_empty() {
        warnings.push("there are no policies, so everything is refused".into());
    }
    for rule in &set.rules {
        if rule.terms.max_ttl.is_some_and(|ttl| ttl > set.limits.max_ttl) {
            let most = spoken(set.limits.max_ttl);
            warnings.push(format!("{}: `{}` gives more than the broker's longest life of {most}", rule.place, rule.id));
        }
    }
    warnings.extend(shadows::warnings(set));
    warnings
}

/// Whether a text may be a policy's id: it stands in entries, messages and certificates' records, so nothing needs quoting.
fn good_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// Where in its source Cedar sees the problem, in bytes.
fn offset(error: &dyn Diagnostic) -> Option<usize> {
    error.labels().and_then(|mut labels| labels.next()).map(|label| label.offset())
}

/// What Cedar says, on one line, with its advice.
fn said(error: &dyn Diagnostic) -> String {
    let help = error.help().map(|help| format!(" ({help})")).unwrap_or_default();
    format!("{error}{help}").split_whitespace().collect::<Vec<_>>().join(" ")
}

fn digest(sources: &[Source]) -> [u8; 32] {
    let by_name: BTreeMap<_, _> = sources.iter().map(|source| (&source.name, &source.text)).collect();
    let mut hash = Sha256::new();
    hash.update(b"ichor policy set v1\0");
    for (name, text) in by_name {
        for part in [name, text] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{load, load_with};
    use super::*;

    const GOOD: &str = r#"@id("good") permit (principal in Group::"corp/sre", action, resource);"#;

    fn refused(text: &str) -> String {
        load(text).expect_err(text).to_string()
    }

    #[test]
    fn problems_are_told_all_at_once_with_file_line_and_policy() {
        let text = r#"// a comment
@id("one") @max_tll("1h")
permit (principal, action, resource);

@id("two")
forbid (principal, action, resource)
when { context.reasn == "x" };
@id("one") permit (principal, action, resource);
permit (principal, action, resource);
"#;
        insta::assert_snapshot!(refused(text), @r#"
        test.cedar:2: policy `one`: unknown annotation `@max_tll`; known are @id, @max_ttl, @hint, @mode, @approvals, @self_service, @wait, @uses and @ticket
        test.cedar:7: policy `two`: attribute `reasn` in context for Action::"hold:os:admin" not found (did you mean `reason`?)
        test.cedar:8: policy `one`: the id is already used at test.cedar:2
        test.cedar:9: the policy has no `@id`; give it one that no other has
        "#);
        insta::assert_snapshot!(refused("@id(\"a\")\npermit (principal, action, resource)\nwhen { context. };"), @"test.cedar:3: unexpected token `}`");
    }

    #[test]
    fn case_02_a_set_is_refused_whole() {
        let sources = |texts: &[&str]| -> Vec<Source> {
            let source = |(n, text): (usize, &&str)| Source { name: format!("{n}.cedar"), text: (*text).into() };
            texts.iter().enumerate().map(source).collect()
        };
        assert!(PolicySet::load(&sources(&[GOOD]), Limits::default()).is_ok());
        for bad in [
            "permit",
            GOOD,
            "permit (principal, action, resource);",
            "@id(\"x\") permit (principal == ?principal, action, resource);",
        ] {
            assert!(PolicySet::load(&sources(&[GOOD, bad]), Limits::default()).is_err(), "{bad}");
        }
        let mut twice = sources(&[GOOD, ""]);
        twice[1].name = "0.cedar".into();
        assert!(PolicySet::load(&twice, Limits::default()).is_err(), "one file name, two texts");
    }

    #[test]
    fn templates_are_refused() {
        let text = "\n@id(\"x\") permit (principal in ?principal, action, resource);";
        assert_eq!(refused(text), "test.cedar:2: templates are not used; name the principal and the resource");
    }

    #[test]
    fn ids_are_needed_and_plain() {
        for id in ["", "@id ", "@id(\"\") ", "@id(\"a b\") ", "@id(\"a`b\") ", "@id(\"a\\nb\") ", "@id(\"é\") "] {
            assert!(load(&format!("{id}permit (principal, action, resource);")).is_err(), "{id:?}");
        }
    }

    #[test]
    fn what_does_not_fit_the_schema_is_refused() {
        for scope in [
            r#"principal, action == Action::"hold:os:impersonator", resource"#,
            r#"principal, action == Action::"hold:os:readr", resource"#,
            r#"principal == User::"corp/alice", action, resource"#,
            r#"principal, action, resource == Server::"prod""#,
        ] {
            assert!(load(&format!("@id(\"x\") permit ({scope});")).is_err(), "{scope}");
        }
        for condition in [
            "context.acr == \"mfa\"",
            "context has auth_age && context.auth_age < \"1h\"",
            "context has reason && context.reason",
            "resource has labels && resource.labels.env == \"prod\"",
            "ip(context.reason).isLoopback()",
            "principal.name == \"alice\"",
            "context has resaon",
        ] {
            assert!(
                load(&format!("@id(\"x\") permit (principal, action, resource) when {{ {condition} }};")).is_err(),
                "{condition}"
            );
        }
    }

    #[test]
    fn a_forbid_that_can_never_apply_is_refused() {
        for forbid in [
            r#"forbid (principal, action == Action::"hold:os:reader", resource is Ichor);"#,
            r#"forbid (principal, action, resource) when { context has adress && context.adress.isLoopback() };"#,
            r#"forbid (principal, action == Action::"audit:read", resource) when { context has reason };"#,
        ] {
            assert!(load(&format!("@id(\"x\") {forbid}")).is_err(), "{forbid}");
        }
    }

    #[test]
    fn names_that_can_never_match_are_refused() {
        for name in [
            r#"Group::"sre""#,
            r#"Group::"Corp/sre""#,
            r#"Group::"corp/""#,
            r#"Person::"corp/alice""#,
            r#"Person::"alice""#,
        ] {
            assert!(load(&format!("@id(\"x\") forbid (principal in {name}, action, resource);")).is_err(), "{name}");
            let condition =
                format!("@id(\"x\") permit (principal, action, resource) unless {{ principal in {name} }};");
            assert!(load(&condition).is_err(), "{name} in a condition");
        }
        for name in
            [r#"Label::"prod""#, r#"Label::"=prod""#, r#"Cluster::"Prod""#, r#"Ichor::"brokre""#, r#"Node::"10.0.0.5""#]
        {
            assert!(load(&format!("@id(\"x\") forbid (principal, action, resource in {name});")).is_err(), "{name}");
        }
        assert!(
            load(r#"@id("x") permit (principal in Group::"corp/a/b c", action, resource in Label::"env=");"#).is_ok()
        );
    }

    #[test]
    fn actions_that_nothing_asks_about_are_refused() {
        for action in ["teleport", "audit:write"] {
            for policy in [
                format!("permit (principal, action == Action::\"{action}\", resource);"),
                format!("forbid (principal, action == Action::\"{action}\", resource);"),
                format!("permit (principal, action in [Action::\"hold\", Action::\"{action}\"], resource);"),
                format!("forbid (principal, action, resource) when {{ action == Action::\"{action}\" }};"),
            ] {
                let refused = refused(&format!("@id(\"x\") {policy}"));
                assert!(refused.contains(action), "{policy}: {refused}");
            }
        }
    }

    #[test]
    fn case_26_annotations_are_checked_though_cedar_does_not() {
        let with = |annotation: &str, effect: &str| {
            load(&format!("@id(\"x\") {annotation} {effect} (principal, action, resource);"))
        };
        assert!(with("@max_ttl(\"1h\")", "permit").is_ok());
        for annotation in [
            "@max_ttl(\"1hour!\")",
            "@max_tll(\"1h\")",
            "@approvals(\"11\")",
            "@aprovals(\"2\")",
            "@approvals(\"0\")",
            "@mode(\"gateway\")",
            "@note(\"x\")",
        ] {
            assert!(with(annotation, "permit").is_err(), "{annotation}");
        }
        assert!(with("@max_ttl(\"1h\")", "forbid").is_err());
        let audit = "@id(\"x\") @max_ttl(\"1h\") permit (principal, action == Action::\"audit:read\", resource);";
        assert!(refused(audit).contains("covers no `hold:` action"));
    }

    #[test]
    fn letting_oneself_in_is_bounded() {
        let alone = |annotations: &str| {
            load(&format!("@id(\"x\") @self_service(\"true\") {annotations} permit (principal, action, resource);"))
        };
        assert!(alone("@max_ttl(\"15m\")").is_ok());
        for annotations in ["", "@max_ttl(\"15m1s\")", "@max_ttl(\"1h\")", "@max_ttl(\"15m\") @approvals(\"1\")"] {
            assert!(alone(annotations).is_err(), "{annotations}");
        }
        let forbid = "@id(\"x\") @self_service(\"true\") forbid (principal, action, resource);";
        assert!(refused(forbid).contains("an obligation"));
    }

    #[test]
    fn limits_are_checked() {
        let hours = SignedDuration::from_hours;
        for (default_ttl, max_ttl) in
            [(hours(1), hours(25)), (hours(2), hours(1)), (hours(0), hours(1)), (hours(-1), hours(-1))]
        {
            assert!(load_with(GOOD, Limits { default_ttl, max_ttl }).is_err(), "{default_ttl} {max_ttl}");
        }
    }

    #[test]
    fn an_empty_set_loads_with_a_warning() {
        let set = PolicySet::load(&[], Limits::default()).unwrap();
        assert!(set.is_empty());
        assert_eq!(set.warnings(), ["there are no policies, so everything is refused"]);
    }

    #[test]
    fn the_digest_tells_any_change_and_no_order() {
        let source = |name: &str, text: &str| Source { name: name.into(), text: text.into() };
        let digest = |sources: &[Source]| PolicySet::load(sources, Limits::default()).unwrap().digest();
        let other = GOOD.replace("good", "other");
        let one = digest(&[source("a", GOOD), source("b", &other)]);
        assert_eq!(one, digest(&[source("b", &other), source("a", GOOD)]));
        assert_ne!(one, digest(&[source("a", &other), source("b", GOOD)]));
        assert_ne!(one, digest(&[source("a", &format!("{GOOD} ")), source("b", &other)]));
        assert_ne!(one, digest(&[source("a", GOOD)]));
    }

    #[test]
    fn a_shadowed_permit_is_warned_of() {
        let strict = r#"@id("strict") @max_ttl("15m") permit (principal in Group::"corp/sre", action == Action::"hold:os:admin", resource in Label::"env=prod") when { context has reason };"#;
        let beside = |weaker: &str| load(&format!("{strict} @id(\"weak\") {weaker}")).unwrap().warnings().to_vec();
        for weaker in [
            r#"@max_ttl("15m") permit (principal in Group::"corp/sre", action == Action::"hold:os:admin", resource in Label::"env=prod");"#,
            r#"permit (principal in Group::"corp/sre", action in Action::"hold", resource);"#,
            "permit (principal, action, resource);",
        ] {
            assert_eq!(beside(weaker).len(), 1, "{weaker}");
            assert!(beside(weaker)[0].contains("`strict` are never needed, because `weak`"));
        }
        for harmless in [
            r#"@max_ttl("5m") permit (principal in Group::"corp/sre", action == Action::"hold:os:admin", resource);"#,
            r#"permit (principal in Group::"corp/dev", action, resource);"#,
            r#"permit (principal, action == Action::"hold:os:reader", resource);"#,
            r#"permit (principal, action, resource in Label::"env=dev");"#,
            r#"permit (principal, action, resource) when { context has acr };"#,
            "forbid (principal, action, resource);",
        ] {
            assert_eq!(beside(harmless), [""; 0], "{harmless}");
        }
    }

    #[test]
    fn what_is_probably_not_meant_is_warned_of() {
        let never = r#"@id("never") permit (principal, action == Action::"hold:os:reader", resource is Ichor);"#;
        assert!(load(never).unwrap().warnings()[0].contains("never"), "{:?}", load(never).unwrap().warnings());
        let limits = Limits { max_ttl: SignedDuration::from_hours(2), ..Limits::default() };
        let long = r#"@id("long") @max_ttl("8h") permit (principal, action, resource);"#;
        assert_eq!(load_with(long, limits).unwrap().warnings().len(), 1);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(32))]

        #[test]
        fn no_text_makes_loading_panic(text in "(@id\\(\"a\"\\)|permit|forbid|[ (){};,@\"=:.]|principal|action|resource|when|context|has|Group::\"a/b\"|\\PC){0,24}") {
            let _ = load(&text);
        }
    }
}
