//! Sending mail.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
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
use crate::forward::SURELY_HELD;
use crate::store::SKEW;

/// So often a message is tried that the server has taken for one recipient and not yet for another.
const TRIES: u32 = 5;

/// The longest that one recipient's mail may take, from looking up the server to its word that it has it. Servers let a client
/// wait for their greeting on purpose (postscreen for six seconds), and again behind the message.
pub(super) const DEADLINE: Duration = Duration::from_secs(14);

/// The longest that the end of a connection may take.
const FAREWELL: Duration = Duration::from_secs(1);

// else another broker would take the place in the log while this one still sends, and tell everyone again
const _: () = assert!(
    DEADLINE.as_secs() + FAREWELL.as_secs() + SKEW.as_secs().unsigned_abs() <= SURELY_HELD.as_secs().unsigned_abs()
);

/// A mail server, ready. Each recipient of a notification has a connection of their own.
pub(super) struct Mail {
    secured: Secured,
    to: MailSink,
    /// How far the entry that is being sent is.
    sending: Option<Sending>,
    /// The recipients, by their place, that went without the last time: nobody waits for them until one is taken again.
    without: BTreeSet<usize>,
}

/// How far an entry is. It is kept until another entry comes: whoever was told of this one is not told again when the broker
/// cannot record that they were.
struct Sending {
    entry: Uuid,
    /// How often it was tried since the server has taken it for anyone.
    tries: u32,
    /// The recipients, by their place, whom the server has taken it for: they get it once.
    taken: BTreeSet<usize>,
    /// What was said of it, once it was accepted.
    accepted: Option<Accepted>,
}

// === impl Mail ===

impl Mail {
    pub(super) fn new(to: &MailSink) -> Result<Self, String> {
        Ok(Self { secured: Secured::new(to)?, to: to.clone(), sending: None, without: BTreeSet::new() })
    }

    /// Each recipient gets a message of their own, all at once. It is accepted once the server has taken it for one of them, and for
    /// each other has refused it for good or not taken it at any of several tries: an address that is gone or full must not keep the
    /// rest from being told, nor have them told again and again. What was accepted is not sent again.
    pub(super) async fn send(&mut self, entry: &AuditEntry, message: &Message) -> Result<Accepted, Failure> {
        let mail = self.mail(entry, message).map_err(Failure::Refused)?;
        let mut sending = match self.sending.take() {
            Some(sending) if sending.entry == entry.id => sending,
            _ => Sending { entry: entry.id, tries: 0, taken: BTreeSet::new(), accepted: None },
        };
        let sent = match sending.accepted.clone() {
            Some(accepted) => Ok(accepted),
            None => self.send_to_rest(&mut sending, &mail).await,
        };
        sending.accepted = sent.clone().ok();
        self.sending = Some(sending);
        sent
    }

    async fn send_to_rest(&mut self, sending: &mut Sending, mail: &[u8]) -> Result<Accepted, Failure> {
        let this = &*self;
        let rest = this.to.to.iter().enumerate().filter(|(place, _)| !sending.taken.contains(place));
        let tried = join_all(rest.map(|(place, to)| async move { (place, this.send_to(to, mail).await) })).await;
        let mut failed = Vec::new();
        for (place, sent) in tried {
            match sent {
                Ok(()) => drop(sending.taken.insert(place)),
                Err(failure) => failed.push((place, failure)),
            }
        }
        if sending.taken.is_empty() {
            let none = || Failure::Refused("it has no recipient".into());
            return Err(failed.into_iter().map(|(_, failure)| failure).min_by_key(weight).unwrap_or_else(none));
        }
        sending.tries += 1;
        let is_waited_for = |(place, failure): &&(usize, Failure)| {
            // a server that lets nobody in says nothing of a mailbox
            !matches!(failure, Failure::Refused(_)) && !self.without.contains(place)
        };
        if sending.tries < TRIES
            && let Some((_, failure)) = failed.iter().find(is_waited_for)
        {
            return Err(Failure::out(failure.why()));
        }
        self.without = failed.iter().map(|(place, _)| *place).collect();
        // by their place: what readiness says is read by more people than `config.toml`
        let of = self.to.to.len();
        let first = failed.iter().min_by_key(|(_, failure)| !matches!(failure, Failure::Refused(_)));
        let without = first.map(|(place, failure)| format!("recipient {} of {of}: {}", place + 1, failure.why()));
        Ok(Accepted { without })
    }

    /// Returns once the server has taken it for this recipient, each within a deadline of their own.
    async fn send_to(&self, to: &Mailbox, mail: &[u8]) -> Result<(), Failure> {
        let envelope = self.envelope(to)?;
        let sending = async {
            let mut open = self.secured.open(&self.to).await?;
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

/// Of the failures of a message that nobody has got the one counts that has the least weight: while anyone may get it by trying
/// again it is not refused, and while the server lets one of them in it may let in the others.
fn weight(failure: &Failure) -> u8 {
    match failure {
        Failure::Out { .. } => 0,
        Failure::Shut(_) => 1,
        Failure::Refused(_) => 2,
    }
}

/// One header's text, whatever it is made of.
fn header(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}
