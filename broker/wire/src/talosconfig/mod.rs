//! The talosconfig file: to read, and to edit without damage.
//!
//! A file is somebody's work: contexts of other tools, comments, fields that this build has never heard of. So an edit is
//! made on the old bytes by a lossless editor, and its result is believed only after two checks: parsed again, exactly
//! the intended fields differ; and byte for byte, everything outside the edited context is the same.
//!
//! [`Talosconfig::parse`] → [`Talosconfig::put_context`], [`Talosconfig::renew_context`], [`Talosconfig::set_current`]:
//! each gives a new value and leaves the old one alone; writing it to a file is the caller's.

mod edit;
mod endpoint;
mod ours;
mod tree;

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use zeroize::Zeroizing;

pub use edit::{EditError, NewContext, Renewal};
pub use endpoint::{host_and_port, is_endpoint};
pub use ours::{Ours, PemError, fingerprint, is_fresh};

/// The largest file that is read, in bytes (4 MiB; a thousand contexts are 2 MiB).
pub const MAX_SIZE: usize = 4 * 1024 * 1024;

/// A talosconfig: its exact text and what it says.
///
/// The text holds private keys, so it is wiped when dropped and `Debug` does not show it.
#[derive(Clone)]
pub struct Talosconfig {
    text: Zeroizing<String>,
    view: View,
}

/// One context, as far as Ichor reads it. Fields it does not know stay in the text.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Context {
    /// Where talosctl connects: host, host:port, or https://host.
    #[serde(deserialize_with = "tree::null_is_default")]
    pub endpoints: Vec<String>,
    /// The default targets of a call.
    #[serde(deserialize_with = "tree::null_is_default")]
    pub nodes: Vec<String>,
    /// Base64 of the PEM of the CA certificates that nodes present; absent means system roots.
    pub ca: Option<String>,
    /// Base64 of the PEM of the client certificate.
    pub crt: Option<String>,
    /// Base64 of the PEM of the private key.
    pub key: Option<String>,
    /// The name sent as metadata `context` on every call.
    pub cluster: Option<String>,
}

/// Why a text is not a talosconfig.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct ParseError {
    /// The line, from 1; 0 where the parser does not tell.
    pub line: u64,
    /// The column, from 1; 0 where the parser does not tell.
    pub column: u64,
    /// What is wrong there. Long values are left out: they may be keys.
    pub message: String,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct View {
    context: Option<String>,
    #[serde(deserialize_with = "tree::null_is_default")]
    contexts: BTreeMap<String, Option<Context>>,
}

// === impl Talosconfig ===

impl Talosconfig {
    /// Reads a file's text.
    ///
    /// # Errors
    /// When it is not one YAML document without duplicate keys, or a field that talosctl reads has another shape; with
    /// line and column.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if text.len() > MAX_SIZE {
            return Err(ParseError { line: 0, column: 0, message: "the file is larger than 4 MiB".into() });
        }
        let view: Option<View> = tree::read(text)?;
        Ok(Self { text: Zeroizing::new(text.to_owned()), view: view.unwrap_or_default() })
    }

    /// A file that does not exist yet.
    #[must_use]
    pub fn empty() -> Self {
        Self { text: Zeroizing::new(String::new()), view: View::default() }
    }

    /// The exact text. It holds private keys.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The current context's name, if one is set.
    #[must_use]
    pub fn current(&self) -> Option<&str> {
        self.view.context.as_deref().filter(|name| !name.is_empty())
    }

    /// The names of all contexts, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.view.contexts.keys().map(String::as_str)
    }

    /// Whether there is a context of this name, be it an empty one.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.view.contexts.contains_key(name)
    }

    /// The context of this name. A context without a value (`prod:`) is an empty one.
    #[must_use]
    pub fn context(&self, name: &str) -> Option<Context> {
        self.view.contexts.get(name).map(|context| context.clone().unwrap_or_default())
    }
}

impl fmt::Debug for Talosconfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Talosconfig")
            .field("context", &self.view.context)
            .field("contexts", &self.view.contexts)
            .finish()
    }
}

// === impl Context ===

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("endpoints", &self.endpoints)
            .field("nodes", &self.nodes)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_talosctl_reads() {
        let file =
            Talosconfig::parse("context: b\ncontexts:\n  b:\n    endpoints: [10.0.0.2, 10.0.0.3]\n    nodes:\n  a:\n")
                .unwrap();
        assert_eq!(file.current(), Some("b"));
        assert_eq!(file.names().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(file.context("b").unwrap().endpoints, ["10.0.0.2", "10.0.0.3"]);
        assert_eq!(file.context("a"), Some(Context::default()));
        assert_eq!(file.context("c"), None);
    }

    #[test]
    fn names_are_text_whatever_they_look_like() {
        let file = Talosconfig::parse("context: 1.10\ncontexts:\n  1.10: {}\n  yes: {}\n  0x10: {}\n").unwrap();
        assert_eq!(file.current(), Some("1.10"));
        assert_eq!(file.names().collect::<Vec<_>>(), ["0x10", "1.10", "yes"]);
    }

    #[test]
    fn nothing_is_an_empty_file() {
        for text in ["", "\n", "# a comment\n", "---\n", "context: ''\ncontexts: {}\n", "contexts:\n"] {
            let file = Talosconfig::parse(text).unwrap();
            assert_eq!((file.current(), file.names().count()), (None, 0), "{text:?}");
        }
    }

    #[test]
    fn what_is_refused_names_line_and_column() {
        for (text, line) in [
            ("context: a\ncontext: b\n", 2),
            ("contexts:\n  a: {}\n  a: {}\n", 3),
            ("contexts:\n  a:\n    ca: x\n    ca: y\n", 4),
            ("contexts:\n  a:\n    zz: {q: 1, q: 2}\n", 3),
            ("contexts: {}\n---\ncontexts: {}\n", 2),
            ("contexts:\n  a: [\n", 2),
            ("contexts:\n\ta: 1\n", 2),
            ("contexts: 3\n", 1),
            ("contexts:\n  a:\n    endpoints: 10.0.0.1\n", 3),
            ("- a\n", 1),
        ] {
            let error = Talosconfig::parse(text).unwrap_err();
            assert!(error.line >= line && error.line <= line + 1, "{text:?}: {error}");
            assert!(error.column > 0, "{text:?}: {error}");
            assert!(!error.message.contains(" line ") && !error.message.contains("Policy"), "{error}");
        }
    }

    #[test]
    fn an_error_never_shows_a_key() {
        let error =
            Talosconfig::parse("contexts:\n  a:\n    nodes: LS0tLS1CRUdJTiBFRDI1NTE5IFBSSVZBVEUgS0VZ\n").unwrap_err();
        assert!(!error.to_string().contains("LS0t"), "{error}");
        let file = Talosconfig::parse("contexts: {a: {key: SECRETSECRET}}").unwrap();
        assert!(!format!("{file:?}").contains("SECRETSECRET"));
    }
}
