//! What tokens may do.

use serde_json::{Value, json};

/// Something that a policy allows on a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Capability {
    Create,
    Delete,
    List,
    Patch,
    Read,
    Update,
}

/// A stanza of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pattern: String,
    capabilities: Vec<Capability>,
}

/// Everything, until it is narrowed.
#[derive(Default)]
pub(super) struct Policy {
    rules: Option<Vec<Rule>>,
    denied: Vec<String>,
}

const ALL: [Capability; 6] =
    [Capability::Create, Capability::Delete, Capability::List, Capability::Patch, Capability::Read, Capability::Update];

/// What every token may do to itself.
const OWN: [&str; 5] = [
    "auth/token/lookup-self",
    "auth/token/renew-self",
    "auth/token/revoke-self",
    "sys/capabilities-self",
    "sys/internal/ui/resultant-acl",
];

/// What a PKI engine tells everybody.
const OPEN: [&str; 3] = ["+/cert/ca", "+/ca/pem", "+/issuer/default/json"];

/// Whether a path is one of a pattern's: `*` at its end is any rest, `+` any one segment.
pub(super) fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, open) = pattern.strip_suffix('*').map_or((pattern, false), |pattern| (pattern, true));
    let mut segments = path.split('/');
    let mut wanted = pattern.split('/').peekable();
    while let Some(part) = wanted.next() {
        let last = wanted.peek().is_none();
        let Some(segment) = segments.next() else { return false };
        let fits = part == "+" || part == segment || (open && last && segment.starts_with(part));
        if !fits {
            return false;
        }
    }
    open || segments.next().is_none()
}

// === impl Capability ===

impl Capability {
    fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::List => "list",
            Self::Patch => "patch",
            Self::Read => "read",
            Self::Update => "update",
        }
    }
}

// === impl Rule ===

impl Rule {
    /// Allows `capabilities` (`create`, `read`, `update`, `patch`, `delete`, `list`; others count for nothing) on the paths of
    /// `pattern`.
    #[must_use]
    pub fn new<'a>(pattern: &str, capabilities: impl IntoIterator<Item = &'a str>) -> Self {
        let named = |name: &str| ALL.into_iter().find(|capability| capability.name() == name);
        Self { pattern: pattern.into(), capabilities: capabilities.into_iter().filter_map(named).collect() }
    }
}

// === impl Policy ===

impl Policy {
    pub(super) fn allow_only(&mut self, rules: Vec<Rule>) {
        self.rules = Some(rules);
    }

    pub(super) fn deny(&mut self, pattern: &str) {
        self.denied.push(pattern.to_owned());
    }

    pub(super) fn undeny(&mut self, pattern: &str) {
        self.denied.retain(|denied| denied != pattern);
    }

    /// Whether it is allowed on `path`.
    pub(super) fn allows(&self, path: &str, needed: Capability) -> bool {
        let is_denied = self.denied.iter().any(|pattern| pattern == path);
        let is_open = (OWN.contains(&path) && !is_denied) || OPEN.iter().any(|pattern| matches(pattern, path));
        is_open || self.on(path).contains(&needed)
    }

    /// What `sys/capabilities-self` says of `path`.
    pub(super) fn told(&self, path: &str) -> Value {
        let allowed = self.on(path);
        if allowed.is_empty() {
            return json!(["deny"]);
        }
        json!(allowed.into_iter().map(Capability::name).collect::<Vec<_>>())
    }

    /// What `sys/internal/ui/resultant-acl` says: the rules by their paths, those that end in `*` without it. As with the real
    /// server, those with a `+` are not among them.
    pub(super) fn resultant(&self) -> Value {
        let all = [Rule { pattern: "*".into(), capabilities: ALL.to_vec() }];
        let denied = self.denied.iter().map(|pattern| (pattern.as_str(), json!(["deny"])));
        let named =
            |rule: &Rule| json!(rule.capabilities.iter().map(|capability| capability.name()).collect::<Vec<_>>());
        let allowed = self.rules.as_deref().unwrap_or(&all).iter().map(|rule| (rule.pattern.as_str(), named(rule)));
        let (mut exact, mut glob) = (serde_json::Map::new(), serde_json::Map::new());
        for (pattern, capabilities) in allowed.chain(denied).filter(|(pattern, _)| !pattern.contains('+')) {
            let told = json!({ "capabilities": capabilities });
            match pattern.strip_suffix('*') {
                Some(prefix) => glob.insert(prefix.to_owned(), told),
                None => exact.insert(pattern.to_owned(), told),
            };
        }
        json!({ "exact_paths": exact, "glob_paths": glob, "root": false })
    }

    fn on(&self, path: &str) -> Vec<Capability> {
        if self.denied.iter().any(|pattern| matches(pattern, path)) {
            return Vec::new();
        }
        let Some(rules) = &self.rules else { return ALL.to_vec() };
        // Of all that match, the most exact one decides, as in the real server: here, the longest.
        let best = rules.iter().filter(|rule| matches(&rule.pattern, path)).max_by_key(|rule| rule.pattern.len());
        let mut allowed = best.map(|rule| rule.capabilities.clone()).unwrap_or_default();
        allowed.sort();
        allowed
    }
}
