//! One request, taken apart.

use std::collections::BTreeMap;

use http::Method;
use serde_json::Value;

use super::answer::Answer;
use super::policy::Capability;
use super::{Mounted, Shared};

/// What a request asks for. Its path has lost `v1/` and the namespace.
pub(super) struct Call {
    pub(super) verb: Verb,
    pub(super) path: String,
    pub(super) query: BTreeMap<String, String>,
    pub(super) namespace: Option<String>,
    pub(super) token: Option<String>,
    pub(super) body: Value,
    /// A client certificate was shown and verified.
    pub(super) certified: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Read,
    Write,
    List,
    Delete,
}

/// How many strings a body may have, the names of fields among them: a batch of 499 items passes, one of 500 does not.
pub(super) const MOST_STRINGS: usize = 1000;

// === impl Call ===

impl Call {
    /// `None` where the method or the path is none of the API's.
    pub(super) fn parse(parts: &http::request::Parts, body: &[u8], certified: bool) -> Option<Self> {
        let query: BTreeMap<String, String> =
            url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        let list = query.get("list").is_some_and(|list| list == "true");
        let verb = match parts.method {
            Method::GET if list => Verb::List,
            Method::GET | Method::HEAD => Verb::Read,
            Method::POST | Method::PUT => Verb::Write,
            Method::DELETE => Verb::Delete,
            ref other if other.as_str() == "LIST" => Verb::List,
            _ => return None,
        };
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let bearer = || header("authorization").and_then(|value| value.strip_prefix("Bearer ").map(str::to_owned));
        Some(Self {
            verb,
            path: parts.uri.path().strip_prefix("/v1/")?.trim_end_matches('/').to_owned(),
            query,
            namespace: header("x-vault-namespace").map(|name| name.trim_matches('/').to_owned()),
            token: header("x-vault-token").or_else(bearer).filter(|token| !token.is_empty()),
            body: serde_json::from_slice(body).unwrap_or_default(),
            certified,
        })
    }

    /// A field of the body, as text; empty where there is none.
    pub(super) fn text(&self, name: &str) -> &str {
        self.body.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// How many strings the body has, the names of fields among them.
    pub(super) fn strings(&self) -> usize {
        fn count(value: &Value) -> usize {
            match value {
                Value::String(_) => 1,
                Value::Array(items) => items.iter().map(count).sum(),
                Value::Object(fields) => fields.values().map(|field| 1 + count(field)).sum(),
                _ => 0,
            }
        }
        count(&self.body)
    }

    /// What the token must be allowed: `create` only where the engine tells what is there already from what is not.
    pub(super) fn needs(&self, mounted: Option<(&Mounted, &str)>) -> Capability {
        match self.verb {
            Verb::Read => Capability::Read,
            Verb::List => Capability::List,
            Verb::Delete => Capability::Delete,
            Verb::Write => {
                let (mounted, (act, name)) = match mounted {
                    Some((mounted, rest)) => (mounted, rest.split_once('/').unwrap_or((rest, ""))),
                    None => return Capability::Update,
                };
                let makes = match mounted {
                    Mounted::Kv(kv) => act == "data" && !kv.has(name),
                    Mounted::Transit(transit) => act == "encrypt" && !transit.has(name),
                    Mounted::Pki(_) => false,
                };
                if makes { Capability::Create } else { Capability::Update }
            }
        }
    }

    /// Takes the namespace from the header or the path, and refuses a wrong one.
    pub(super) fn enter(&mut self, shared: &Shared) -> Result<(), Answer> {
        let Some(wanted) = &shared.namespace else {
            return match self.namespace.as_deref() {
                None | Some("" | "root") => Ok(()),
                Some(_) => Err(no_namespace()),
            };
        };
        match self.namespace.as_deref() {
            Some(named) if named == wanted => return Ok(()),
            None | Some("") => {}
            Some(_) => return Err(no_namespace()),
        }
        if let Some(rest) = self.path.strip_prefix(wanted.as_str()).and_then(|rest| rest.strip_prefix('/')) {
            self.path = rest.to_owned();
            return Ok(());
        }
        // In the root namespace nothing but `sys/` exists.
        if self.path.starts_with("sys/") { Ok(()) } else { Err(no_route(&self.path)) }
    }
}

/// 404: nothing is mounted there.
pub(super) fn no_route(path: &str) -> Answer {
    Answer::error(http::StatusCode::NOT_FOUND, format!("no handler for route \"{path}\". route entry not found."))
}

/// 404 for an engine that is there, but has no such path.
pub(super) fn no_path() -> Answer {
    Answer::error(http::StatusCode::NOT_FOUND, "1 error occurred:\n\t* unsupported path\n\n")
}

fn no_namespace() -> Answer {
    Answer::error(http::StatusCode::NOT_FOUND, "namespace not found")
}
