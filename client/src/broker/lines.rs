//! Answers that come line by line.

use std::time::Duration;

use http::Method;
use ichor_wire::api::LINES_AFTER;
use serde::de::DeserializeOwned;

use super::{Broker, wants_nonce};
use crate::dpop::ProofOf;
use crate::error::Error;
use crate::session::Session;

/// A broker that has nothing to say sends an empty line every 15 seconds; one that is silent for so long is gone.
const SILENCE: Duration = Duration::from_secs(45);

/// The longest that one answer may take: the broker ends one that follows after five minutes, and one that takes
/// everything away lasts as long as it lasts.
const WHOLE: Duration = Duration::from_secs(24 * 3600);

/// The longest line, in bytes. An entry has at most 64 KiB, more in JSON.
const LONGEST: usize = 1024 * 1024;

impl Broker {
    /// `GET` of an API path whose answer is JSON lines, each handed to `each` as it comes. Returns once the broker ended
    /// the answer.
    ///
    /// # Errors
    /// The broker's problem, that it cannot be reached (any more), or what `each` says.
    pub async fn lines<T: DeserializeOwned>(
        &self,
        session: &Session,
        path: &[&str],
        query: &[(&str, String)],
        each: impl FnMut(T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.lines_behind(session, path, query, &mut None, each).await
    }

    /// The same; before the first line, `behind` hears behind which entry the answer begins, where the broker says so.
    ///
    /// # Errors
    /// As [`Self::lines`].
    pub async fn lines_behind<T: DeserializeOwned>(
        &self,
        session: &Session,
        path: &[&str],
        query: &[(&str, String)],
        behind: &mut Option<u64>,
        mut each: impl FnMut(T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let url = self.asking(path, query)?;
        let mut repeated = false;
        let mut response = loop {
            let nonce = self.nonce();
            let token = Some(session.token());
            let of = ProofOf { method: "GET", url: &url, token, nonce: nonce.as_deref(), body: None };
            let headers = self.proof(session.key(), of)?;
            let request = self.http()?.request(Method::GET, url.clone()).headers(headers).timeout(WHOLE);
            let response = self.begin(request).await?;
            if response.status().is_success() {
                break response;
            }
            let answer = self.read(response, super::MAX_ANSWER).await?;
            if repeated || !wants_nonce(&answer) || self.nonce() == nonce {
                return Err(self.problem(&answer));
            }
            repeated = true;
        };
        let said = response.headers().get(LINES_AFTER).and_then(|said| said.to_str().ok()?.parse().ok());
        *behind = said.or(*behind);
        let mut rest = Vec::new();
        loop {
            let chunk = tokio::time::timeout(SILENCE, response.chunk()).await;
            let chunk = chunk.map_err(|_| self.not_a_broker("it has fallen silent"))?;
            let Some(chunk) = chunk.map_err(|error| self.unreachable(&error))? else { break };
            rest.extend_from_slice(&chunk);
            let mut from = 0;
            while let Some(end) = rest.iter().skip(from).position(|byte| *byte == b'\n') {
                let line = rest.get(from..from + end).unwrap_or_default();
                from += end + 1;
                if !line.is_empty() {
                    each(serde_json::from_slice(line).map_err(|_| self.not_a_broker("a line of it cannot be read"))?)?;
                }
            }
            rest.drain(..from);
            if rest.len() > LONGEST {
                return Err(self.not_a_broker("a line of it is longer than 1 MiB"));
            }
        }
        match rest.is_empty() {
            true => Ok(()),
            false => Err(self.not_a_broker("its answer ends within a line")),
        }
    }
}
