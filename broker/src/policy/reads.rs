//! What a policy looks at. Decisions do not depend on it: loading uses it to find misspelt attributes, and a
//! refusal tries again with other circumstances, of which these are the ones worth trying.

use std::collections::BTreeSet;

use cedar_policy::Policy;
use serde_json::Value;

/// What a policy looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reads {
    /// Whether a reason matters.
    pub(super) reason: bool,
    /// Whether the time of the last authentication matters.
    pub(super) auth_age: bool,
    /// Whether the authentication context matters.
    pub(super) has_acr: bool,
    /// The authentication contexts that it names.
    pub(super) acr: BTreeSet<String>,
    /// Lifetimes, in seconds, that it compares with.
    pub(super) ttl: BTreeSet<i64>,
    /// The keys of the labels that its scope or its conditions name.
    pub(super) labels: BTreeSet<String>,
    /// What it asks for with `has` and the schema does not know.
    pub(super) unknown: BTreeSet<String>,
}

/// The attributes of `Asking`, and of `Approving` and `Locking` beside it, in the schema; `Acting` has some of them. People and
/// clusters have none.
const KNOWN: [&str; 8] = ["reason", "acr", "auth_age", "groups_age", "ttl", "address", "roles", "what"];

// === impl Reads ===

impl Reads {
    /// What the policy's conditions look at, and the labels of its scope.
    ///
    /// # Errors
    /// When Cedar cannot take the policy apart, in words.
    pub(super) fn of(policy: &Policy) -> Result<Self, String> {
        let json = policy.to_json().map_err(|error| error.to_string())?;
        let mut reads = Self::default();
        reads.name_labels(&json);
        if let Some(conditions) = json.get("conditions") {
            reads.walk(conditions);
        }
        Ok(reads)
    }

    /// Adds what another policy looks at.
    pub(super) fn extend(&mut self, other: &Self) {
        self.reason |= other.reason;
        self.auth_age |= other.auth_age;
        self.has_acr |= other.has_acr;
        self.acr.extend(other.acr.iter().cloned());
        self.ttl.extend(&other.ttl);
    }

    fn walk(&mut self, node: &Value) {
        match node {
            Value::Array(nodes) => nodes.iter().for_each(|node| self.walk(node)),
            Value::Object(fields) => {
                for (operator, operands) in fields {
                    if let Some(attribute) = attribute(operator, operands) {
                        self.reason |= attribute == "reason";
                        self.auth_age |= attribute == "auth_age";
                        self.has_acr |= attribute == "acr";
                    }
                    if operator == "has" {
                        self.unknown.extend(misspelt(operands));
                    }
                    self.compare(operands);
                    self.walk(operands);
                }
            }
            _ => {}
        }
    }

    /// Notes the labels that stand anywhere in the policy.
    fn name_labels(&mut self, node: &Value) {
        match node {
            Value::Array(nodes) => nodes.iter().for_each(|node| self.name_labels(node)),
            Value::Object(fields) => {
                if let (Some("Label"), Some(id)) =
                    (fields.get("type").and_then(Value::as_str), fields.get("id").and_then(Value::as_str))
                {
                    self.labels.extend(id.split_once('=').map(|(key, _)| key.to_owned()));
                }
                fields.values().for_each(|node| self.name_labels(node));
            }
            _ => {}
        }
    }

    /// Notes the literals on the other side of `context.acr` and `context.ttl`.
    fn compare(&mut self, operands: &Value) {
        let (Some(left), Some(right)) = (operands.get("left"), operands.get("right")) else { return };
        for (one, other) in [(left, right), (right, left)] {
            match one.get(".").and_then(|access| attribute(".", access)) {
                Some("acr") => self.acr.extend(literals(other).into_iter().filter_map(Value::as_str).map(Into::into)),
                Some("ttl") => self.ttl.extend(literals(other).into_iter().filter_map(Value::as_i64)),
                _ => {}
            }
        }
    }
}

/// The attribute of the context that `context.x` or `context has x` is about.
fn attribute<'a>(operator: &str, operands: &'a Value) -> Option<&'a str> {
    let of_context = operands.get("left")?.get("Var")?.as_str()? == "context";
    if !of_context || !matches!(operator, "." | "has") {
        return None;
    }
    operands.get("attr")?.as_str()
}

/// What `has` asks for, if nothing can have it. Cedar takes that for a plain false, which would switch a `forbid` off.
fn misspelt(operands: &Value) -> Option<String> {
    let variable = operands.get("left")?.get("Var")?.as_str()?;
    let attribute = operands.get("attr")?.as_str()?;
    let known = variable == "context" && KNOWN.contains(&attribute);
    (!known).then(|| format!("{variable} has {attribute}"))
}

/// The literal, or the literals of a set.
fn literals(node: &Value) -> Vec<&Value> {
    match (node.get("Value"), node.get("Set")) {
        (Some(value), _) => vec![value],
        (_, Some(Value::Array(members))) => members.iter().filter_map(|member| member.get("Value")).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(condition: &str) -> Reads {
        let policy = format!("permit(principal, action, resource) {condition};");
        Reads::of(&Policy::parse(None, policy).unwrap()).unwrap()
    }

    #[test]
    fn finds_what_conditions_look_at() {
        let found = reads(
            r#"when { context has reason && context has acr && (context.acr == "mfa" || ["hw", "phr"].contains(context.acr)) }
               unless { context has auth_age && context.auth_age > 3600 }
               when { context.ttl <= 900 }"#,
        );
        assert!(found.reason && found.auth_age && found.has_acr);
        assert_eq!(found.acr, ["hw", "mfa", "phr"].map(String::from).into());
        assert_eq!(found.ttl, [900].into());
        assert_eq!(found.unknown, [""; 0].map(String::from).into());
        let unknown =
            reads("when { context has resaon && !(resource has labels) } unless { principal has name }").unknown;
        assert_eq!(
            unknown,
            ["context has resaon", "principal has name", "resource has labels"].map(String::from).into()
        );
        assert_eq!(reads(""), Reads::default());
        let labelled = Reads { labels: ["acr".to_owned()].into(), ..Reads::default() };
        assert_eq!(reads(r#"when { resource in Label::"acr=mfa" }"#), labelled);
    }
}
