//! Loading a policy set: whole or not at all.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use cedar_policy::{Authorizer, Policy, PolicyId, PolicySet as CedarSet, ValidationMode, Validator};
use jiff::SignedDuration;
use miette::Diagnostic;
use sha2::{Digest, Sha256};

use super::index::Index;
use super::reads::Reads;
use super::rule::{Place, Rule, Terms, covered, shown, spoken};
use super::set::{HARD_MAX_TTL, Limits, PolicySet, Source};
use super::shadows;
use super::vocabulary::{Vocabulary, misnamed};

/// Why a policy set was refused: every problem that was found, not only the first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(problems))]
pub struct LoadError {
    /// The problems, in the order of the sources.
    pub problems: Vec<Problem>,
}

/// One problem of a policy set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file's name; absent where the problem is not in a file.
    pub source: Option<String>,
    /// The line, from 1.
    pub line: Option<usize>,
    /// The policy's `@id`, if it has a usable one.
    pub policy: Option<String>,
    /// What is wrong, in one sentence.
    pub message: String,
}

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
        let mut warnings = loading.validate(&vocabulary);
        if !loading.problems.is_empty() {
            return Err(LoadError { problems: loading.problems });
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
        // a policy with problems stays in, so that type-checking tells the rest of them at once; the set is refused anyway
        self.by_id.insert(cedar_id.clone(), self.rules.len());
        self.rules.push(Rule {
            id: id.unwrap_or_default().into(),
            place,
            policy: policy.new_id(cedar_id),
            actions,
            terms,
            reads: Reads::of(policy),
        });
    }

    /// Type-checks all policies against the schema and returns Cedar's warnings.
    fn validate(&mut self, vocabulary: &Vocabulary) -> Vec<String> {
        let set = match CedarSet::from_policies(self.rules.iter().map(|rule| rule.policy.clone())) {
            Ok(set) => set,
            Err(error) => {
                self.problems.push(Problem::general(error.to_string()));
                return Vec::new();
            }
        };
        let result = Validator::new(vocabulary.schema.clone()).validate(&set, ValidationMode::Strict);
        let mut errors: Vec<_> =
            result.validation_errors().map(|error| (error.policy_id().clone(), said(error))).collect();
        errors.sort();
        for (id, message) in errors {
            let rule = self.by_id.get(&id).and_then(|place| self.rules.get(*place));
            let (place, id) = (rule.map(|rule| rule.place.clone()), rule.map(|rule| rule.id.clone()));
            self.problem(place, id.as_deref().filter(|id| !id.is_empty()), message);
        }
        let mut warnings: Vec<_> = result.validation_warnings().map(|warning| said(warning)).collect();
        warnings.sort();
        warnings
    }

    fn unparsable(&mut self, source: &Source, errors: &cedar_policy::ParseErrors) {
        for error in errors.iter() {
            let offset = error.labels().and_then(|mut labels| labels.next()).map_or(0, |label| label.offset());
            let place = Place { source: source.name.clone(), line: line_of(&source.text, offset) };
            self.problem(Some(place), None, said(error));
        }
    }

    fn problem(&mut self, place: Option<Place>, policy: Option<&str>, message: String) {
        let (source, line) = place.map_or((None, None), |place| (Some(place.source), Some(place.line)));
        self.problems.push(Problem { source, line, policy: policy.map(Into::into), message });
    }
}

// === impl Problem ===

impl Problem {
    fn general(message: String) -> Self {
        Self { source: None, line: None, policy: None, message }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(source) = &self.source {
            write!(f, "{source}:{}: ", self.line.unwrap_or(1))?;
        }
        if let Some(policy) = &self.policy {
            write!(f, "policy `{policy}`: ")?;
        }
        f.write_str(&self.message)
    }
}

fn lines(problems: &[Problem]) -> String {
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
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
