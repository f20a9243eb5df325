//! Every status mapping of the API, in one place.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use ichor_wire::problem::{Code, MEDIA_TYPE, Problem, StepUp};

use crate::audit::{ProveError, RecordError};
use crate::break_glass::BreakGlassError;
use crate::kit::{LedgerError as KitLedgerError, RegisterError, ReportError};
use crate::lock::LockError;
use crate::login::FreshError;
use crate::mint::MintError;
use crate::policy::Refusal;
use crate::store::{Condition, StoreError};

/// An error answer. Its internal cause is logged where it is made; the client gets the problem alone.
#[derive(Debug)]
pub struct ApiError(Box<Problem>);

impl ApiError {
    /// A problem with this code and sentence.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Problem::new(code, detail).into()
    }

    /// The same, to be tried again after so many seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }

    /// The same with this next step instead of its code's own.
    #[must_use]
    pub fn help(mut self, next: &str) -> Self {
        self.0.help = vec![next.into()];
        self
    }

    /// What went wrong, in one sentence.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The problem's code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// What the client gets.
    #[must_use]
    pub fn problem(&self) -> &Problem {
        &self.0
    }

    /// After how many seconds to try again, at least one.
    #[must_use]
    pub fn seconds(&self) -> u64 {
        self.0.retry_after.unwrap_or(1)
    }

    /// A bug of ours: the cause goes to the log, not to the client.
    pub fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "request failed");
        Self::new(Code::Internal, "the broker failed; nothing was issued")
    }
}

impl From<Problem> for ApiError {
    fn from(mut problem: Problem) -> Self {
        if problem.help.is_empty() {
            problem.help.push(problem.code.next_step().into());
        }
        Self(Box::new(problem))
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "store failed");
        Self::new(Code::StoreUnavailable, "the broker's database is unavailable").retry_after(5)
    }
}

impl From<RecordError> for ApiError {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Refused(Condition::SessionEnded) => Self::new(Code::SessionEnded, "the session has ended"),
            RecordError::Refused(Condition::ClockWentBack) => {
                tracing::error!("this host's clock is behind the newest entry of the log, so nothing can be recorded; `ichor-broker check` says until when");
                Self::new(Code::StoreUnavailable, "the broker's clock went back, so nothing can be recorded")
                    .retry_after(30)
            }
            RecordError::Refused(Condition::TooManyOpen) => {
                Self::new(Condition::TooManyOpen.code(), Condition::TooManyOpen.to_string())
                    .help("`ichor break-glass list --mine` shows them; withdraw one with `ichor break-glass cancel ID`")
            }
            RecordError::Refused(Condition::TooManyAsked) => {
                Self::new(Condition::TooManyAsked.code(), Condition::TooManyAsked.to_string())
                    .help("wait, and talk to an approver: one request, approved, is enough (`ichor break-glass list --mine`)")
            }
            RecordError::Refused(Condition::Unreviewed) => {
                Self::new(Condition::Unreviewed.code(), Condition::Unreviewed.to_string()).help(
                    "have someone who may approve review one with `ichor break-glass review ID`, or ask for others' approval",
                )
            }
            RecordError::Refused(condition) => Self::new(condition.code(), condition.to_string()),
            RecordError::Store(error) => error.into(),
            RecordError::NotVouched(why) => {
                tracing::error!(%why, "nothing is issued");
                Self::new(Code::AuditUnavailable, "the audit log cannot be vouched for, so nothing is issued")
                    .retry_after(10)
            }
            RecordError::Overloaded => Self::new(Code::Unavailable, "the broker is busy or stopping").retry_after(1),
            other => Self::internal(&other),
        }
    }
}

impl From<ProveError> for ApiError {
    fn from(error: ProveError) -> Self {
        match error {
            ProveError::Store(error) => error.into(),
            other => Self::internal(&other),
        }
    }
}

impl From<FreshError> for ApiError {
    fn from(error: FreshError) -> Self {
        if let FreshError::Store(error) = error {
            return error.into();
        }
        let answer = Self::new(error.code(), error.to_string());
        if error.code() == Code::ProviderUnavailable { answer.retry_after(5) } else { answer }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        if let Some(cause) = &refusal.internal {
            tracing::error!(%cause, "a policy could not be evaluated");
        }
        let mut problem = Problem::new(refusal.code, refusal.sentence);
        problem.help = refusal.help;
        problem.policies = refusal.policies;
        problem.step_up = refusal.step_up.map(|step_up| StepUp { acr_values: step_up.acr, max_age: 0 });
        problem.into()
    }
}

impl From<BreakGlassError> for ApiError {
    fn from(error: BreakGlassError) -> Self {
        match error {
            BreakGlassError::Unknown => Self::new(Code::UnknownRequest, error.to_string()),
            BreakGlassError::UnknownCluster(name) => {
                Self::new(Code::UnknownCluster, format!("there is no cluster `{name}`"))
            }
            BreakGlassError::Bad(why) => Self::new(Code::BadRequest, why),
            BreakGlassError::Refused(refusal) => refusal.into(),
            BreakGlassError::State(why) => Self::new(Code::WrongState, why),
            BreakGlassError::Suspect(_) => Self::new(Code::Suspect, error.to_string()),
            BreakGlassError::NotFresh => Self::new(Code::Refused, error.to_string()),
            BreakGlassError::OtherContents => Self::new(Code::OtherContents, error.to_string()),
            BreakGlassError::Record(error) => error.into(),
            BreakGlassError::Store(error) => error.into(),
            BreakGlassError::Entropy(error) => Self::internal(&error),
        }
    }
}

impl From<LockError> for ApiError {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Unknown => Self::new(Code::UnknownLock, error.to_string()),
            LockError::Bad(why) => Self::new(Code::BadRequest, why),
            LockError::Refused(refusal) => refusal.into(),
            LockError::Record(error) => error.into(),
            LockError::Store(error) => error.into(),
            LockError::Log(error) => Self::internal(&error),
            LockError::Entropy(error) => Self::internal(&error),
        }
    }
}

impl From<MintError> for ApiError {
    fn from(error: MintError) -> Self {
        match error {
            MintError::UnknownCluster(name) => Self::new(Code::UnknownCluster, format!("there is no cluster `{name}`")),
            MintError::NoCustody(name) => Self::new(
                Code::CustodyUnavailable,
                format!("the CA of cluster `{name}` cannot be used: none is in custody, or its custody is out"),
            ),
            MintError::Refused(refusal) => refusal.into(),
            MintError::Record(error) => error.into(),
            MintError::Issue(error) => {
                Self::new(error.code(), "the cluster's CA could not issue; the grant is recorded as failed")
            }
            MintError::Ledger(error) => {
                Self::new(error.code(), format!("no certificate: {error}; the grant is recorded as failed"))
            }
            slow @ MintError::TooSlow => Self::new(Code::CustodyUnavailable, slow.to_string())
                .help("ask again from the same machine: the use is its key's again"),
            MintError::Entropy(error) => Self::internal(&error),
        }
    }
}

impl From<KitLedgerError> for ApiError {
    fn from(error: KitLedgerError) -> Self {
        match error {
            KitLedgerError::Store(error) => error.into(),
            KitLedgerError::Entry(_) => Self::internal(&error),
        }
    }
}

impl From<ReportError> for ApiError {
    fn from(error: ReportError) -> Self {
        match error {
            ReportError::Store(error) => error.into(),
            ReportError::Already(_) => Self::new(Code::Conflict, error.to_string()),
            _ => Self::new(Code::BadRequest, error.to_string()),
        }
    }
}

impl From<RegisterError> for ApiError {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::NotAboutAKit(_) => Self::new(Code::BadRequest, error.to_string()),
            RegisterError::Taken(_) | RegisterError::Reported(_) => Self::new(Code::Conflict, error.to_string()),
            RegisterError::Ledger(error) => error.into(),
            RegisterError::Record(error) => error.into(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if let Some(seconds) = self.0.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9449 §7.1: the scheme, the error, and the algorithms that proofs may use
            let error = if self.0.code == Code::UseNonce { "use_dpop_nonce" } else { "invalid_token" };
            if let Ok(value) = HeaderValue::from_str(&format!("DPoP error=\"{error}\", algs=\"ES256\"")) {
                headers.insert(WWW_AUTHENTICATE, value);
            }
        }
        // layers put the request's id into the problem
        response.extensions_mut().insert(*self.0);
        response
    }
}
