//! Why a policy set was refused.

use std::fmt;

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

// === impl Problem ===

impl Problem {
    /// One that is in no file.
    pub(super) fn general(message: String) -> Self {
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
