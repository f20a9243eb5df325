//! What our token may do, and where its policies say anything.

use std::collections::BTreeMap;

use http::Method;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::login::json;
use super::{BaoError, Client, Retry};

/// What our token may do at some paths, in the server's words: `read`, `update`, `deny`, …
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(BTreeMap<String, Vec<String>>);

/// The paths of all rules of our token's policies: those of one path, and those of all that begin alike, without their `*`.
/// Rules with a `+` in them are in neither: the server does not tell them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules(Vec<String>);

/// What changes something, or has it done.
const ACTS: [&str; 5] = ["create", "update", "patch", "delete", "sudo"];

/// Where the server tells them.
const RULES: &str = "sys/internal/ui/resultant-acl";

#[derive(Deserialize)]
struct Acl {
    #[serde(default)]
    exact_paths: BTreeMap<String, IgnoredAny>,
    #[serde(default)]
    glob_paths: BTreeMap<String, IgnoredAny>,
}

#[derive(Serialize)]
struct Ask<'a> {
    paths: &'a [&'a str],
}

#[derive(Deserialize)]
struct Told {
    #[serde(flatten)]
    paths: BTreeMap<String, serde_json::Value>,
}

impl Client {
    /// What our token may do at these paths.
    ///
    /// # Errors
    /// When the answer leaves one of them out, or it cannot be asked: `sys/capabilities-self` is in the policy `default` and in deploy/openbao/token.hcl.
    pub async fn capabilities(&self, paths: &[&str]) -> Result<Capabilities, BaoError> {
        let body = json(&Ask { paths });
        let answer = self.call(Method::POST, "sys/capabilities-self", Some(body), Retry::Safe).await?;
        let told: Told = answer.data()?;
        let words = |path: &&str| {
            let list = told.paths.get(*path)?.as_array()?;
            let words: Option<Vec<_>> = list.iter().map(|word| word.as_str().map(str::to_owned)).collect();
            Some(((*path).to_owned(), words?))
        };
        // what is not told is not taken to be nothing
        let told: Option<BTreeMap<_, _>> = paths.iter().map(words).collect();
        told.map(Capabilities)
            .ok_or_else(|| answer.garbled("it does not tell of each path what our token may do there"))
    }
}

impl Client {
    /// The paths of our token's rules; none of them for a root token, which needs none.
    ///
    /// # Errors
    /// When they cannot be asked: reading them is in the policy `default` and in deploy/openbao/token.hcl.
    pub async fn rules(&self) -> Result<Rules, BaoError> {
        let acl: Acl = self.call(Method::GET, RULES, None, Retry::Safe).await?.data()?;
        Ok(Rules(acl.exact_paths.into_keys().chain(acl.glob_paths.into_keys()).collect()))
    }
}

// === impl Rules ===

impl Rules {
    /// What they name below a mount: the rest of each path. In a namespace the paths begin with it.
    pub fn below<'a>(&'a self, mount: &str) -> impl Iterator<Item = &'a str> {
        let (at_the_root, in_a_namespace) = (format!("{mount}/"), format!("/{mount}/"));
        self.0.iter().filter_map(move |path| match path.strip_prefix(&at_the_root) {
            Some(rest) => Some(rest),
            None => path.split_once(&in_a_namespace).map(|(_, rest)| rest),
        })
    }
}

// === impl Capabilities ===

impl Capabilities {
    /// Whether the token may do this there; a root token may do all.
    #[must_use]
    pub fn may(&self, path: &str, what: &str) -> bool {
        self.0.get(path).is_some_and(|words| words.iter().any(|word| word == what || word == "root"))
    }

    /// Whether the token may do anything there but look.
    #[must_use]
    pub fn acts(&self, path: &str) -> bool {
        ACTS.iter().any(|act| self.may(path, act))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_below_a_mount_are_told_in_a_namespace_too() {
        let below = |paths: &[&str]| {
            let rules = Rules(paths.iter().map(|path| (*path).to_owned()).collect());
            rules.below("pki").map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(below(&["pki/sign/ichor-prod-", "pki-other/issue/x"]), ["sign/ichor-prod-"]);
        // as OpenBao tells a token of the namespace `teams` that asks within it
        let told = ["teams/pki/sign-verbatim/odd", "teams/sys/capabilities-self", "teams/pki/sign/ichor-prod-"];
        assert_eq!(below(&told), ["sign-verbatim/odd", "sign/ichor-prod-"]);
    }
}
