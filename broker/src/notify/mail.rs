//! Sending mail.

use std::time::SystemTime;

use ichor_wire::api::AuditEntry;
use lettre::address::Envelope;
use lettre::message::Mailbox;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message as Mime, Tokio1Executor};
use secrecy::ExposeSecret;

use super::message::Message;
use super::payload;
use super::sink::Failure;
use super::{MailSecurity, MailSink};
use crate::forward::http::{DEADLINE, innermost};

/// A mail server, ready. Each notification has a connection of its own.
pub(super) struct Mail {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    to: MailSink,
}

// === impl Mail ===

impl Mail {
    pub(super) fn new(to: &MailSink) -> Result<Self, String> {
        let tls = match to.security {
            MailSecurity::Tls => Tls::Wrapper(tls(to)?),
            MailSecurity::StartTls => Tls::Required(tls(to)?),
            MailSecurity::None => Tls::None,
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&to.host)
            .port(to.port)
            .tls(tls)
            .timeout(Some(DEADLINE / 2))
            .hello_name(ClientId::Domain(to.hello.clone()));
        if let Some((user, password)) = &to.login {
            builder = builder.credentials(Credentials::new(user.clone(), password.expose_secret().to_owned()));
        }
        Ok(Self { transport: builder.build(), to: to.clone() })
    }

    /// Each recipient gets a message of their own. It is accepted once the server has taken it for one of them and refused
    /// it for good for the others: an address that is gone must not keep the rest from being told.
    pub(super) async fn send(&self, entry: &AuditEntry, message: &Message) -> Result<(), Failure> {
        let mail = self.mail(entry, message).map_err(Failure::Refused)?;
        let sending = async {
            let (mut is_taken, mut refused) = (false, None);
            for to in &self.to.to {
                match self.transport.send_raw(&self.envelope(to)?, &mail).await {
                    Ok(_) => is_taken = true,
                    Err(error) => match failure(&error) {
                        Failure::Refused(why) => refused = Some(why),
                        out => return Err(out),
                    },
                }
            }
            match refused {
                Some(why) if is_taken => tracing::warn!(why, "a recipient of notifications is refused"),
                Some(why) => return Err(Failure::Refused(why)),
                None => {}
            }
            Ok(())
        };
        let late = |_| Failure::out("the mail server did not take the message in time");
        tokio::time::timeout(DEADLINE, sending).await.map_err(late)?
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

/// A 5xx is for good; everything else may pass.
fn failure(error: &lettre::transport::smtp::Error) -> Failure {
    let said = match error.status() {
        Some(code) => format!("the mail server answers {code}"),
        None => format!("the mail server cannot be used: {}", innermost(error)),
    };
    if error.is_permanent() { Failure::Refused(said) } else { Failure::out(said) }
}

/// One header's text, whatever it is made of.
fn header(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

fn tls(to: &MailSink) -> Result<TlsParameters, String> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        return Err("no TLS provider is installed in this process".into());
    }
    let mut builder = TlsParameters::builder(to.host.clone());
    if let Some(pem) = &to.ca {
        let ca = Certificate::from_pem(pem).map_err(|_| "its CA file is not a list of PEM certificates".to_owned())?;
        builder = builder.certificate_store(CertificateStore::None).add_root_certificate(ca);
    }
    builder.build_rustls().map_err(|error| innermost(&error))
}
