//! Towards those who take what the broker sends over HTTP: deadlines, bounded answers, and nobody but whom the URL names.

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use url::Url;

use super::ForwardError;
use crate::outgoing::{self, Roots};

/// The longest that one request may take, from connecting to the last byte of the answer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// The largest answer, in bytes.
const LARGEST: usize = 64 * 1024;

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    /// How long it asks to be left alone, where it says so in seconds.
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Vec<u8>,
}

/// A client for this URL. It follows no redirect and uses no proxy; with `ca` (PEM) it trusts those certificates and no other.
///
/// # Errors
/// When `ca` is no list of certificates, or the process has no TLS provider.
pub(crate) fn client(url: &Url, ca: Option<&[u8]>) -> Result<reqwest::Client, ForwardError> {
    let builder = outgoing::builder(DEADLINE, Roots::of(url, ca)).map_err(|error| ForwardError(error.to_string()))?;
    builder.build().map_err(|error| ForwardError(innermost(&error)))
}

/// Sends the request and reads the answer whole. `whom` is who it goes to, in words for the error; its URL, which may be a
/// secret, is in none.
///
/// # Errors
/// When there is no answer in time, or one beyond 64 KiB.
pub(crate) async fn send(request: reqwest::RequestBuilder, whom: &str) -> Result<Answered, ForwardError> {
    let failed = |error: reqwest::Error| {
        let why = if error.is_timeout() { "it did not answer in time".into() } else { innermost(&error.without_url()) };
        ForwardError(format!("{whom} cannot be reached: {why}"))
    };
    let mut answer = request.send().await.map_err(failed)?;
    let (status, retry_after) = (answer.status(), retry_after(answer.headers()));
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        body.extend_from_slice(&chunk);
        if body.len() > LARGEST {
            return Err(ForwardError(format!("{whom} answers with more than 64 KiB")));
        }
    }
    Ok(Answered { status, retry_after, body })
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// What lies behind an error: the outer ones only say that there is one.
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
