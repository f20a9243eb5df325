//! Sending mail.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use ichor_wire::api::AuditEntry;
use lettre::Message as Mime;
use lettre::address::Envelope;
use lettre::message::Mailbox;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use uuid::Uuid;

use super::MailSink;
use super::message::Message;
use super::payload;
use super::sink::{Accepted, Failure};
use super::smtp::{Secured, failure};
use crate::forward::http::DEADLINE;

/// So often a message is tried that the server has taken for one recipient and not yet for another.
const TRIES: u32 = 5;

/// The longest that the end of a connection may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// A mail server, ready. Each recipient of a notification has a connection of their own.
pub(super) struct Mail {
    secured: Secured,
    to: MailSink,
    /// How far the entry that is being sent is.
    sending: Option<Sending>,
    /// The recipients, by their place, that went without the last time: nobody waits for them until one is taken again.
    without: BTreeSet<usize>,
}

/// How far an entry is.
struct Sending {
    entry: Uuid,
    tries: u32,
    /// The recipients, by their place, whom the server has taken it for: they get it once.
    taken: BTreeSet<usize>,
}

// === impl Mail ===

impl Mail {
    pub(super) fn new(to: &MailSink) -> Result<Self, String> {
        Ok(Self { secured: Secured::new(to)?, to: to.clone(), sending: None, without: BTreeSet::new() })
    }

    /// Each recipient gets a message of their own. It is accepted once the server has taken it for one of them, and for each other has
    /// refused it for good or not taken it at any of several tries: an address that is gone or full must not keep the rest from
    /// being told, nor have them told again and again.
    pub(super) async fn send(&mut self, entry: &AuditEntry, message: &Message) -> Result<Accepted, Failure> {
        let mail = self.mail(entry, message).map_err(Failure::Refused)?;
        let mut sending = match self.sending.take() {
            Some(sending) if sending.entry == entry.id => sending,
            _ => Sending { entry: entry.id, tries: 0, taken: BTreeSet::new() },
        };
        sending.tries += 1;
        let (mut refused, mut out) = (Vec::new(), Vec::new());
        for (place, to) in self.to.to.iter().enumerate() {
            if sending.taken.contains(&place) {
                continue;
            }
            match self.send_to(to, &mail).await {
                Ok(()) => drop(sending.taken.insert(place)),
                Err(Failure::Refused(why) | Failure::Shut(why)) => refused.push((place, why)),
                Err(Failure::Out { why, .. }) => out.push((place, why)),
            }
        }
        let is_waited_for = |(place, _): &(usize, String)| !self.without.contains(place);
        if sending.taken.is_empty() || (sending.tries < TRIES && out.iter().any(is_waited_for)) {
            let first = out.into_iter().next();
            self.sending = Some(sending);
            return Err(match (first, refused.pop()) {
                (Some((_, why)), _) => Failure::out(why),
                (None, Some((_, why))) => Failure::Refused(why),
                (None, None) => Failure::Refused("it has no recipient".into()),
            });
        }
        refused.append(&mut out);
        self.without = refused.iter().map(|(place, _)| *place).collect();
        // by their place: what readiness says is read by more people than `config.toml`
        let of = self.to.to.len();
        let without = refused.into_iter().next().map(|(place, why)| format!("recipient {} of {of}: {why}", place + 1));
        Ok(Accepted { without })
    }

    /// Returns once the server has taken it for this recipient, each within a deadline of their own.
    async fn send_to(&self, to: &Mailbox, mail: &[u8]) -> Result<(), Failure> {
        let envelope = self.envelope(to)?;
        let sending = async {
            let opening = tokio::time::timeout(DEADLINE / 2, self.secured.open(&self.to));
            let mut open = opening.await.map_err(|_| Failure::out("the mail server did not answer in time"))??;
            open.send(&envelope, mail).await.map_err(|error| failure(&error))?;
            Ok(open)
        };
        let late = |_| Failure::out("the mail server did not take the message in time");
        let mut open = tokio::time::timeout(DEADLINE, sending).await.map_err(late)??;
        // it is taken, whatever becomes of the farewell
        let _ = tokio::time::timeout(FAREWELL, open.abort()).await;
        Ok(())
    }

    fn envelope(&self, to: &Mailbox) -> Result<Envelope, Failure> {
        Envelope::new(Some(self.to.from.email.clone()), vec![to.email.clone()])
            .map_err(|error| Failure::Refused(error.to_string()))
    }

    /// The message. Its id is the entry's, so a mailbox that gets it twice can tell.
    fn mail(&self, entry: &AuditEntry, message: &Message) -> Result<Vec<u8>, String> {
        let date = SystemTime::UNIX_EPOCH + entry.time.duration_since(jiff::Timestamp::UNIX_EPOCH).unsigned_abs();
        let cluster = entry.cluster.as_deref().map(|name| format!(" ({name})")).unwrap_or_default();
        let mut builder = Mime::builder()
            .from(self.to.from.clone())
            .subject(header(&format!("[ichor] {}{cluster}", message.title)))
            .message_id(Some(format!("<{}@{}>", entry.id, self.to.from.email.domain())))
            .date(date)
            .raw_header(HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".into()))
            .header(ContentType::TEXT_PLAIN);
        for to in &self.to.to {
            builder = builder.to(to.clone());
        }
        builder.body(payload::text(message)).map(|mail| mail.formatted()).map_err(|error| error.to_string())
    }
}

/// One header's text, whatever it is made of.
fn header(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}
