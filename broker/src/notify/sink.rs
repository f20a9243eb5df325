//! A sink at work, and what may come of sending.

use std::time::Duration;

use ichor_wire::api::AuditEntry;

use super::http_sink::Http;
use super::mail::Mail;
use super::message::Message;
use super::{BadSink, Destination, Settings};
use crate::clock::SharedClock;

/// Why a notification was not accepted, in one sentence for the broker's log and readiness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The sink is out, or asks to be left alone for a while: trying again may help.
    Out { why: String, after: Option<Duration> },
    /// The sink does not want this one.
    Refused(String),
    /// The sink lets nobody in, or is not there: that is for good, or passes within minutes, and says nothing of this one.
    Shut(String),
}

/// A notification that was accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Accepted {
    /// Why someone goes without it, in one sentence, where it is not everyone that it was for.
    pub(super) without: Option<String>,
}

/// An open sink.
pub(super) struct Sink {
    to: To,
    /// The URL that people know the broker by.
    broker: String,
}

enum To {
    Http(Http),
    Mail(Box<Mail>),
}

// === impl Sink ===

impl Sink {
    /// Nothing is opened or sent yet. `broker` is the URL that people know the broker by.
    pub(super) fn new(settings: &Settings, broker: &str, clock: SharedClock) -> Result<Self, BadSink> {
        let made = match &settings.to {
            Destination::Http(to) => Http::new(to, broker, clock).map(To::Http),
            Destination::Mail(to) => Mail::new(to).map(|mail| To::Mail(Box::new(mail))),
        };
        made.map(|to| Self { to, broker: broker.into() }).map_err(|why| BadSink { name: settings.name.clone(), why })
    }

    /// Returns once the sink has said that it has it. What was said to be failed may have arrived all the same.
    pub(super) async fn send(&mut self, entry: &AuditEntry) -> Result<Accepted, Failure> {
        let message = Message::of(entry, &self.broker);
        match &mut self.to {
            To::Http(http) => http.send(entry, &message).await.map(|()| Accepted::default()),
            To::Mail(mail) => mail.send(entry, &message).await,
        }
    }
}

// === impl Failure ===

impl Failure {
    pub(super) fn out(why: impl Into<String>) -> Self {
        Self::Out { why: why.into(), after: None }
    }

    /// One sentence.
    pub(super) fn why(&self) -> &str {
        match self {
            Self::Out { why, .. } | Self::Refused(why) | Self::Shut(why) => why,
        }
    }
}
