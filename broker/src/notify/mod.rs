//! Telling people: what the log records and someone should know of, sent to where they look.
//!
//! The log is the queue. Each sink has a cursor in the store, the entry that is next, shared by all brokers and held by one at a
//! time. It moves on once the sink has accepted the notification, so an outage or a restart repeats one and leaves none out, and
//! they arrive in the log's order. Nothing waits for it, save what says so: [`crate::break_glass`] lets nobody in alone before a
//! sink has accepted the notification of exactly that request.
//!
//! What the sink refuses for good, three times, or for some minutes because it is shut to all, is left behind, counted and said aloud: one entry must not hold up the others.

mod courier;
mod event;
mod http_sink;
mod mail;
mod message;
mod payload;
mod signature;
mod sink;
mod smtp;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeSet;

use lettre::message::Mailbox;
use secrecy::SecretString;

use crate::clock::SharedClock;
use crate::store::CallClass;
pub use courier::{Courier, NotTold, Step};
pub use event::Event;
pub use signature::SigningKey;

/// A sink.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name; the cursor is kept under it.
    pub name: String,
    /// What is told.
    pub events: BTreeSet<Event>,
    /// Of [`Event::NodeAlarm`] calls of these classes alone; `None`: of all. What is of no class, as a silent node, is told all the same.
    pub classes: Option<BTreeSet<CallClass>>,
    /// Where to.
    pub to: Destination,
}

/// Where notifications are sent.
#[derive(Clone, Debug)]
pub enum Destination {
    /// An HTTP endpoint.
    Http(HttpSink),
    /// A mail server.
    Mail(MailSink),
}

/// An HTTP endpoint.
#[derive(Clone, Debug)]
pub struct HttpSink {
    /// Where it is. For some this is the secret.
    pub url: SecretString,
    /// The CA of its certificate, PEM, and then no other.
    pub ca: Option<Vec<u8>>,
    /// What it understands.
    pub format: HttpFormat,
}

/// What an HTTP endpoint understands.
#[derive(Clone, Debug)]
pub enum HttpFormat {
    /// The entry as JSON, signed with this key as Standard Webhooks has it.
    Webhook(SigningKey),
    /// The JSON of Slack's incoming webhooks.
    Slack,
    /// The JSON of Microsoft Teams' webhooks.
    Teams,
}

/// A mail server.
#[derive(Clone, Debug)]
pub struct MailSink {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is secured.
    pub security: MailSecurity,
    /// The CA of its certificate, PEM, and then no other.
    pub ca: Option<Vec<u8>>,
    /// User name and password.
    pub login: Option<(String, SecretString)>,
    /// The name that the broker gives itself there.
    pub hello: String,
    /// The sender.
    pub from: Mailbox,
    /// The recipients, at least one.
    pub to: Vec<Mailbox>,
}

/// How a connection to a mail server is secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailSecurity {
    /// TLS from the first byte.
    Tls,
    /// STARTTLS, and nothing is sent without.
    StartTls,
    /// Not at all.
    None,
}

/// A sink that cannot be made as configured, in one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sink `{name}`: {why}")]
pub struct BadSink {
    /// The sink.
    pub name: String,
    /// What is wrong.
    pub why: String,
}

// === impl Settings ===

impl Settings {
    /// Returns if the sink can be made as configured; nothing is opened or sent.
    ///
    /// # Errors
    /// When it cannot.
    pub fn check(&self, clock: SharedClock) -> Result<(), BadSink> {
        sink::Sink::new(self, "", clock).map(drop)
    }

    /// Whether the sink is told of break-glass requests, and so can let someone in alone.
    #[must_use]
    pub fn hears_of_requests(&self) -> bool {
        self.events.contains(&Event::BreakGlass)
    }
}
