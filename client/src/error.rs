//! Everything that can go wrong, with the exit code and the next step.

use std::path::{Path, PathBuf};

use ichor_wire::problem::{Code, Problem};
use ichor_wire::talosconfig::{EditError, ParseError};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The command line or a settings file asks for something that cannot be.
    #[error("{message}")]
    Usage {
        /// What is wrong.
        message: String,
        /// The next step.
        next: String,
    },
    /// Something that the environment or a file does not allow.
    #[error("{message}")]
    Failed {
        /// What is wrong.
        message: String,
        /// The next step.
        next: String,
    },
    /// There is no session for this broker.
    #[error("not logged in at {broker}")]
    NotLoggedIn {
        /// The broker's URL.
        broker: String,
    },
    /// The session is over.
    #[error("session expired: {detail}")]
    SessionEnded {
        /// What the broker, or the clock, said.
        detail: String,
    },
    /// The login did not come about.
    #[error("login failed: {0}")]
    Login(String),
    /// The broker answered with a problem.
    #[error("{}", .0.detail)]
    Problem(Box<Problem>),
    /// The broker cannot be reached, or what answers there is not one.
    #[error("cannot reach the broker at {url}: {reason}")]
    Unreachable {
        /// The broker's URL.
        url: String,
        /// Why.
        reason: String,
        /// The next step.
        next: String,
    },
    /// A file cannot be read or written.
    #[error("cannot {what} `{}`: {source}", path.display())]
    File {
        /// `read`, `write`, `lock`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A talosconfig is malformed; it is left as it is.
    #[error("`{}` is not a talosconfig: {source}", path.display())]
    Talosconfig {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: ParseError,
    },
    /// A talosconfig cannot be edited; it is left as it is.
    #[error("`{}` was left as it is: {source}", path.display())]
    Edit {
        /// The file.
        path: PathBuf,
        /// Why.
        source: EditError,
    },
    /// What cannot happen, did.
    #[error("{0}")]
    Bug(&'static str),
}

/// The command did what it was asked.
pub const EXIT_OK: u8 = 0;
/// Anything that has no code of its own.
pub const EXIT_FAILED: u8 = 1;
/// The command line or a settings file is wrong.
pub const EXIT_USAGE: u8 = 2;
/// Not logged in, or the session expired.
pub const EXIT_NOT_LOGGED_IN: u8 = 3;
/// Policy refused.
pub const EXIT_REFUSED: u8 = 4;
/// The broker, or what it needs, is out of reach.
pub const EXIT_UNREACHABLE: u8 = 5;

// === impl Error ===

impl Error {
    /// For [`Error::File`] on `path`.
    pub fn file(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File { what, path: path.into(), source }
    }

    /// A failure with its next step.
    pub fn failed(message: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), next: next.into() }
    }

    /// A wrong command line or setting with its next step.
    pub fn usage(message: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), next: next.into() }
    }

    /// The process' exit code; `--help` lists them.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage { .. } => EXIT_USAGE,
            Self::NotLoggedIn { .. } | Self::SessionEnded { .. } => EXIT_NOT_LOGGED_IN,
            Self::Unreachable { .. } => EXIT_UNREACHABLE,
            Self::Problem(problem) => match problem.status {
                403 => EXIT_REFUSED,
                503 | 504 => EXIT_UNREACHABLE,
                _ => EXIT_FAILED,
            },
            _ => EXIT_FAILED,
        }
    }

    /// Whether the message quotes a file of this machine, with its lines; else it is one line whoever wrote it.
    #[must_use]
    pub fn has_lines(&self) -> bool {
        matches!(self, Self::Usage { .. } | Self::Talosconfig { .. })
    }

    /// A stable word for `-o json`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Usage { .. } => "usage",
            Self::NotLoggedIn { .. } => "not-logged-in",
            Self::SessionEnded { .. } => "session-ended",
            Self::Login(_) => "login-failed",
            Self::Problem(problem) => problem.code.as_str(),
            Self::Unreachable { .. } => "broker-unreachable",
            Self::File { .. } => "file",
            Self::Talosconfig { .. } => "talosconfig-malformed",
            Self::Edit { .. } => "talosconfig-not-editable",
            Self::Failed { .. } | Self::Bug(_) => "failed",
        }
    }

    /// What to do now, a sentence each; never empty.
    #[must_use]
    pub fn next_steps(&self) -> Vec<String> {
        match self {
            Self::Usage { next, .. } | Self::Failed { next, .. } | Self::Unreachable { next, .. } => vec![next.clone()],
            Self::NotLoggedIn { .. } | Self::SessionEnded { .. } => vec!["run `ichor login`".into()],
            Self::Login(_) => vec!["run `ichor login` again once that is mended".into()],
            Self::Problem(problem) => problem_steps(problem),
            Self::File { .. } => vec!["check the path and its permissions".into()],
            Self::Talosconfig { .. } => vec!["correct the file, or name another one with `--talosconfig`".into()],
            Self::Edit { source: EditError::NoSuchContext(_), .. } => vec!["run `talosctl config contexts`".into()],
            Self::Edit { .. } => vec!["write to another file with `--talosconfig`, or tidy this one by hand".into()],
            Self::Bug(_) => vec!["please report it".into()],
        }
    }
}

fn problem_steps(problem: &Problem) -> Vec<String> {
    let mut steps = problem.help.clone();
    if steps.is_empty() {
        let step = match problem.code {
            Code::Refused => "run `ichor clusters` to see what you may hold",
            code => code.next_step(),
        };
        steps.push(step.into());
    }
    if let Some(seconds) = problem.retry_after {
        steps.push(format!("try again in {seconds} s"));
    }
    if let Some(id) = problem.request_id.as_ref().filter(|_| problem.status >= 500) {
        steps.push(format!("the request's id is {id}"));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_say_what_happened() {
        let problem = |code| Error::Problem(Box::new(Problem::new(code, "no"))).exit_code();
        assert_eq!(problem(Code::Refused), EXIT_REFUSED);
        assert_eq!(problem(Code::PolicyError), EXIT_REFUSED);
        assert_eq!(problem(Code::StoreUnavailable), EXIT_UNREACHABLE);
        assert_eq!(problem(Code::UnknownCluster), EXIT_FAILED);
        assert_eq!(Error::NotLoggedIn { broker: "b".into() }.exit_code(), EXIT_NOT_LOGGED_IN);
        assert_eq!(Error::usage("a", "b").exit_code(), EXIT_USAGE);
    }

    #[test]
    fn every_problem_ends_with_a_next_step() {
        for code in Code::ALL {
            assert!(!Error::Problem(Box::new(Problem::new(*code, "no"))).next_steps().is_empty());
        }
    }
}
