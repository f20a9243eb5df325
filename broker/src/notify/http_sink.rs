//! Sending over HTTP.

use http::StatusCode;
use http::header::CONTENT_TYPE;
use ichor_wire::api::AuditEntry;
use secrecy::ExposeSecret;
use url::Url;

use super::message::Message;
use super::payload;
use super::sink::Failure;
use super::{HttpFormat, HttpSink};
use crate::clock::SharedClock;
use crate::forward::http as post;

/// The longest that a sink may ask to be left alone.
const LONGEST_REST: std::time::Duration = std::time::Duration::from_secs(60);

/// An HTTP endpoint, ready.
pub(super) struct Http {
    client: reqwest::Client,
    url: Url,
    format: HttpFormat,
    broker: String,
    clock: SharedClock,
}

// === impl Http ===

impl Http {
    pub(super) fn new(to: &HttpSink, broker: &str, clock: SharedClock) -> Result<Self, String> {
        // what it says would have the URL in it
        let url = Url::parse(to.url.expose_secret()).map_err(|_| "its URL is none".to_owned())?;
        let client = post::client(&url, to.ca.as_deref()).map_err(|error| error.to_string())?;
        Ok(Self { client, url, format: to.format.clone(), broker: broker.into(), clock })
    }

    pub(super) async fn send(&self, entry: &AuditEntry, message: &Message) -> Result<(), Failure> {
        let body = match self.format {
            HttpFormat::Webhook(_) => payload::webhook(entry, message, &self.broker),
            HttpFormat::Slack => payload::slack(message),
            HttpFormat::Teams => payload::teams(message),
        };
        let body = serde_json::to_vec(&body).map_err(|error| Failure::Refused(error.to_string()))?;
        let mut request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/json");
        if let HttpFormat::Webhook(key) = &self.format {
            for (name, value) in key.headers(&entry.id.to_string(), self.clock.now(), &body) {
                request = request.header(name, value);
            }
        }
        let answered = post::send(request.body(body), "the sink").await;
        self.judge(&answered.map_err(|error| Failure::out(error.to_string()))?)
    }

    /// What an answer means. Any success is acceptance, whatever else it says, with two exceptions that are known to lie: a page
    /// for people, which a proxy answers in the sink's place, and Teams' older connectors, which report failures as 200.
    fn judge(&self, answered: &post::Answered) -> Result<(), Failure> {
        let status = answered.status;
        let said = format!("the sink answers {}", status.as_u16());
        if !status.is_success() {
            let is_for_good = status.is_client_error()
                && ![StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS]
                    .contains(&status);
            let after = answered.retry_after.map(|after| after.min(LONGEST_REST));
            let is_shut = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::NOT_FOUND, StatusCode::GONE]
                .contains(&status);
            return Err(match (is_for_good, is_shut) {
                (_, true) => Failure::Shut(said),
                (true, false) => Failure::Refused(said),
                (false, false) => Failure::Out { why: said, after },
            });
        }
        let body = answered.body.trim_ascii();
        if body.first() == Some(&b'<') {
            return Err(Failure::out(format!("{said} with a page for people, so it is no sink")));
        }
        // the number of messages sent; what its successors answer is 202, or nothing
        let is_count = body.iter().all(u8::is_ascii_digit);
        if matches!(self.format, HttpFormat::Teams) && status == StatusCode::OK && !is_count {
            return Err(Failure::Refused(format!("{said}, but does not say that it sent the message on")));
        }
        Ok(())
    }
}
