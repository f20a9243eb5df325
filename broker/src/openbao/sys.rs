//! What our token may do.

use std::collections::BTreeMap;

use http::Method;
use serde::{Deserialize, Serialize};

use super::login::json;
use super::{BaoError, Client, Retry};

/// What our token may do at some paths, in the server's words: `read`, `update`, `deny`, …
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(BTreeMap<String, Vec<String>>);

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
    /// When it cannot be asked: `sys/capabilities-self` is in the server's default policy.
    pub async fn capabilities(&self, paths: &[&str]) -> Result<Capabilities, BaoError> {
        let body = json(&Ask { paths });
        let answer = self.call(Method::POST, "sys/capabilities-self", Some(body), Retry::Safe).await?;
        let told: Told = answer.data()?;
        let words = |value: &serde_json::Value| {
            let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
            list.iter().filter_map(|word| word.as_str().map(str::to_owned)).collect()
        };
        Ok(Capabilities(told.paths.iter().map(|(path, value)| (path.clone(), words(value))).collect()))
    }
}

// === impl Capabilities ===

impl Capabilities {
    /// Whether the token may do this there; a root token may do all.
    #[must_use]
    pub fn may(&self, path: &str, what: &str) -> bool {
        self.0.get(path).is_some_and(|words| words.iter().any(|word| word == what || word == "root"))
    }
}
