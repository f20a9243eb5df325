//! `[[notify]]` and `[break_glass]`. The comments here are the reference, as in [`super::file`].

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use ichor_wire::loopback::is_loopback;
use lettre::message::Mailbox;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::Url;

use super::file::File;
use super::forward::{is_name, sink_url};
use super::{ConfigError, Folder};
use crate::notify::{Destination, Event, HttpFormat, HttpSink, MailSecurity, MailSink, Settings, SigningKey};
use crate::store::CallClass;

/// The most recipients of one sink: each is sent to in turn, within one deadline.
const MOST_RECIPIENTS: usize = 10;

/// Whom people are told by what the audit log records and someone should know of. A new name begins at the log's end.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notify {
    /// Its name, `[a-z0-9-]+`. How far it has come is kept under it.
    pub name: String,
    /// What it understands.
    pub kind: NotifyKind,
    /// Where it is: `https://…`, or for `smtp` `smtps://host` (TLS, port 465) or `smtp://host` (STARTTLS, and never without, port 587).
    /// Plain `http`, and mail without TLS, only on loopback.
    #[serde(default)]
    pub url: Option<String>,
    /// In place of `url`: a file with it. The URLs of Slack and Teams are secrets.
    #[serde(default)]
    pub url_file: Option<PathBuf>,
    /// For `webhook`: a file with the secret that signs, `whsec_` and the base64 of 24 to 64 random bytes.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
    /// A CA certificate (PEM) for the sink's TLS, and then no other.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// What is told: `break-glass`, `kit`, `lock`, `node-alarm`, `ca`. Absent: all of it.
    #[serde(default)]
    pub events: Option<Vec<String>>,
    /// Of `node-alarm` calls of these classes alone: `unexplained`, `suspect`, `escape`, `after-expiry-on-open-connection`, `weak`. What is
    /// of no class (a silent node, the quota, more kinds than are told apart) is told all the same. Absent: all of it.
    #[serde(default)]
    pub classes: Option<Vec<String>>,
    /// For `smtp`: the sender's address.
    #[serde(default)]
    pub from: Option<String>,
    /// For `smtp`: the recipients' addresses, up to 10.
    #[serde(default)]
    pub to: Vec<String>,
    /// For `smtp`: the user name, where the server wants one.
    #[serde(default)]
    pub user: Option<String>,
    /// For `smtp`: a file with the password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
}

/// What a notification sink understands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotifyKind {
    /// The entry as JSON, signed as Standard Webhooks has it.
    #[default]
    Webhook,
    /// The JSON of Slack's incoming webhooks, which others understand too.
    Slack,
    /// The JSON of Microsoft Teams' webhooks.
    Teams,
    /// Mail.
    Smtp,
}

/// How break-glass is followed up.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakGlass {
    /// So long after its last use a request should be reviewed. Then it is recorded and told once a day that it was not.
    #[serde(default = "default_review_within")]
    pub review_within: String,
}

fn default_review_within() -> String {
    "24h".into()
}

impl Default for BreakGlass {
    fn default() -> Self {
        Self { review_within: default_review_within() }
    }
}

/// Whom people are told by.
///
/// # Errors
/// On the first section that does not fit, or whose files cannot be read.
pub fn sinks(folder: &Folder, file: &File) -> Result<Vec<Settings>, ConfigError> {
    let host = Url::parse(&file.server.public_url).ok().and_then(|url| url.host_str().map(str::to_owned));
    let mut names = HashSet::new();
    file.notify
        .iter()
        .map(|section| {
            if !is_name(&section.name) {
                return Err(value(folder, "name", "use up to 63 lower-case letters, digits and inner hyphens"));
            }
            if !names.insert(section.name.as_str()) {
                return Err(value(folder, "name", "each has a name of its own"));
            }
            surplus(folder, section)?;
            let to = match section.kind {
                NotifyKind::Smtp => Destination::Mail(mail(folder, section, host.as_deref().unwrap_or("localhost"))?),
                _ => Destination::Http(http(folder, section)?),
            };
            let events = events(folder, section)?;
            let classes = classes(folder, section, &events)?;
            Ok(Settings { name: section.name.clone(), events, classes, to })
        })
        .collect()
}

/// The files that the sinks are made of: `config.toml` and what its sections name.
#[must_use]
pub fn sink_files(folder: &Folder, file: &File) -> Vec<PathBuf> {
    let named = file.notify.iter().flat_map(|section| {
        [&section.url_file, &section.secret_file, &section.ca_file, &section.password_file].into_iter().flatten()
    });
    std::iter::once(folder.config()).chain(named.map(|path| folder.at(path))).collect()
}

fn value(folder: &Folder, key: &str, why: &str) -> ConfigError {
    ConfigError::Value { path: folder.config(), key: format!("notify.{key}"), why: why.into() }
}

/// What is given and not used: it would seem to be.
fn surplus(folder: &Folder, section: &Notify) -> Result<(), ConfigError> {
    let is_mail = section.kind == NotifyKind::Smtp;
    let given = [
        (
            "secret_file",
            section.secret_file.is_some() && section.kind != NotifyKind::Webhook,
            "only `webhook` takes it",
        ),
        ("from", section.from.is_some() && !is_mail, "only `smtp` takes it"),
        ("to", !section.to.is_empty() && !is_mail, "only `smtp` takes it"),
        ("user", section.user.is_some() && !is_mail, "only `smtp` takes it"),
        ("password_file", section.password_file.is_some() && !is_mail, "only `smtp` takes it"),
        (
            "password_file",
            section.password_file.is_some() != section.user.is_some(),
            "give `user` and `password_file` together",
        ),
        ("url_file", section.url_file.is_some() && section.url.is_some(), "give `url` or `url_file`"),
    ];
    match given.into_iter().find(|(_, is_wrong, _)| *is_wrong) {
        Some((key, _, why)) => Err(value(folder, key, why)),
        None => Ok(()),
    }
}

fn events(folder: &Folder, section: &Notify) -> Result<BTreeSet<Event>, ConfigError> {
    let Some(names) = &section.events else { return Ok(Event::ALL.into_iter().collect()) };
    let known = || Event::ALL.map(Event::as_str).join(", ");
    if names.is_empty() {
        return Err(value(folder, "events", &format!("name at least one of {}, or leave it out", known())));
    }
    let event = |name: &String| {
        let found = Event::ALL.into_iter().find(|event| event.as_str() == name);
        found.ok_or_else(|| {
            value(folder, "events", &format!("`{}` is none; there are {}", name.escape_debug(), known()))
        })
    };
    names.iter().map(event).collect()
}

fn classes(
    folder: &Folder,
    section: &Notify,
    events: &BTreeSet<Event>,
) -> Result<Option<BTreeSet<CallClass>>, ConfigError> {
    let Some(names) = &section.classes else { return Ok(None) };
    if !events.contains(&Event::NodeAlarm) {
        return Err(value(
            folder,
            "classes",
            "only calls at nodes have any: add `node-alarm` to `events`, or leave it out",
        ));
    }
    let alarming = || CallClass::ALL.into_iter().filter(|class| *class != CallClass::Explained);
    let known = || alarming().map(CallClass::as_str).collect::<Vec<_>>().join(", ");
    if names.is_empty() {
        return Err(value(folder, "classes", &format!("name at least one of {}, or leave it out", known())));
    }
    let class = |name: &String| {
        let found = alarming().find(|class| class.as_str() == name);
        found.ok_or_else(|| {
            value(folder, "classes", &format!("`{}` is none that is told; there are {}", name.escape_debug(), known()))
        })
    };
    names.iter().map(class).collect::<Result<_, _>>().map(Some)
}

fn http(folder: &Folder, section: &Notify) -> Result<HttpSink, ConfigError> {
    let text = url_text(folder, section)?;
    sink_url(text.expose_secret()).map_err(|why| value(folder, "url", why))?;
    let format = match section.kind {
        NotifyKind::Slack => HttpFormat::Slack,
        NotifyKind::Teams => HttpFormat::Teams,
        _ => {
            let path = section.secret_file.as_ref();
            let path = path.ok_or_else(|| value(folder, "secret_file", "name the file with the secret that signs"))?;
            let secret = SigningKey::parse(secret(folder, path)?.expose_secret());
            HttpFormat::Webhook(secret.map_err(|error| value(folder, "secret_file", &error.to_string()))?)
        }
    };
    Ok(HttpSink { url: text, ca: ca(folder, section)?, format })
}

fn mail(folder: &Folder, section: &Notify, hello: &str) -> Result<MailSink, ConfigError> {
    let text = url_text(folder, section)?;
    let bad =
        || value(folder, "url", "write `smtps://host`, or `smtp://host` for STARTTLS, without a path or a user name");
    let url = Url::parse(text.expose_secret()).map_err(|_| bad())?;
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(bad)?;
    let is_bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    if !is_bare || !url.username().is_empty() || url.password().is_some() {
        return Err(bad());
    }
    // of a scheme that it does not know, the parser leaves an address as it stands
    let is_near = Url::parse(&format!("http://{host}")).is_ok_and(|url| is_loopback(&url));
    let security = match url.scheme() {
        "smtps" => MailSecurity::Tls,
        "smtp" if is_near => MailSecurity::None,
        "smtp" => MailSecurity::StartTls,
        _ => return Err(bad()),
    };
    let login = match (&section.user, &section.password_file) {
        (Some(user), Some(path)) => Some((user.clone(), secret(folder, path)?)),
        _ => None,
    };
    let address = |key: &str, text: &str| -> Result<Mailbox, ConfigError> {
        text.parse().map_err(|_| value(folder, key, &format!("`{}` is no mail address", text.escape_debug())))
    };
    if section.to.is_empty() || section.to.len() > MOST_RECIPIENTS {
        return Err(value(folder, "to", "name 1 to 10 recipients"));
    }
    let from = section.from.as_deref().ok_or_else(|| value(folder, "from", "name the sender's address"))?;
    Ok(MailSink {
        host: host.trim_start_matches('[').trim_end_matches(']').into(),
        port: url.port().unwrap_or(if security == MailSecurity::Tls { 465 } else { 587 }),
        security,
        ca: ca(folder, section)?,
        login,
        hello: hello.into(),
        from: address("from", from)?,
        to: section.to.iter().map(|to| address("to", to)).collect::<Result<_, _>>()?,
    })
}

fn url_text(folder: &Folder, section: &Notify) -> Result<SecretString, ConfigError> {
    match (&section.url, &section.url_file) {
        (Some(url), _) => Ok(url.as_str().into()),
        (None, Some(path)) => secret(folder, path),
        (None, None) => Err(value(folder, "url", "name the sink's URL with `url` or `url_file`")),
    }
}

fn ca(folder: &Folder, section: &Notify) -> Result<Option<Vec<u8>>, ConfigError> {
    let Some(path) = &section.ca_file else { return Ok(None) };
    let pem = read(folder, path)?;
    let has_one = CertificateDer::pem_slice_iter(&pem).next().is_some_and(|certificate| certificate.is_ok());
    if !has_one {
        return Err(value(folder, "ca_file", "it has no certificate; name one in PEM, or leave `ca_file` out"));
    }
    Ok(Some(pem))
}

/// One line of a file that holds a secret.
fn secret(folder: &Folder, path: &Path) -> Result<SecretString, ConfigError> {
    let why = |why: &str| ConfigError::Unreadable { path: folder.at(path), why: why.into() };
    let text = String::from_utf8(read(folder, path)?).map_err(|_| why("it is not text"))?;
    match text.trim() {
        "" => Err(why("it is empty")),
        text if text.chars().any(char::is_control) => Err(why("it holds more than one line")),
        text => Ok(text.into()),
    }
}

fn read(folder: &Folder, path: &Path) -> Result<Vec<u8>, ConfigError> {
    super::folder::read_bytes(&folder.at(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "[server]\npublic_url = \"https://ichor.example.com\"\nlisten = \"127.0.0.1:8080\"\n\
        tls_certificate = \"c\"\ntls_key = \"k\"\n";

    /// What these keys of one section come to.
    fn made(keys: &str) -> Result<Settings, String> {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
        write("slack", "https://hooks.slack.example/services/T/B/x\n");
        write("two", "one\ntwo\n");
        write("password", "pass word\n");
        let file: File = toml::from_str(&format!("{HEAD}[[notify]]\nname = \"ops\"\n{keys}\n")).unwrap();
        sinks(&Folder::new(folder.path()), &file).map(|mut sinks| sinks.remove(0)).map_err(|error| error.to_string())
    }

    #[test]
    fn each_kind_is_made_of_what_it_takes() {
        let hook = made("kind = \"webhook\"\nurl = \"https://x.example/h\"\nsecret_file = \"secret\"").unwrap();
        assert_eq!(hook.events.len(), Event::ALL.len());
        assert!(hook.hears_of_requests());
        let slack = made("kind = \"slack\"\nurl_file = \"slack\"\nevents = [\"kit\", \"lock\"]").unwrap();
        assert!(!slack.hears_of_requests());
        assert!(!format!("{slack:?}").contains("services"), "its URL is a secret: {slack:?}");
        let mail = |url: &str| {
            let keys = format!(
                "kind = \"smtp\"\nurl = \"{url}\"\nfrom = \"Ichor <ichor@example.com>\"\nto = [\"ops@example.com\"]\n\
                 user = \"ichor\"\npassword_file = \"password\""
            );
            match made(&keys).unwrap().to {
                Destination::Mail(mail) => (mail.host, mail.port, mail.security, mail.hello),
                other => panic!("{other:?}"),
            }
        };
        let hello = || "ichor.example.com".to_owned();
        assert_eq!(mail("smtps://mx.example"), ("mx.example".into(), 465, MailSecurity::Tls, hello()));
        assert_eq!(mail("smtp://mx.example:25"), ("mx.example".into(), 25, MailSecurity::StartTls, hello()));
        assert_eq!(mail("smtp://10.0.0.5"), ("10.0.0.5".into(), 587, MailSecurity::StartTls, hello()));
        assert_eq!(mail("smtp://127.0.0.1:2525"), ("127.0.0.1".into(), 2525, MailSecurity::None, hello()));
        assert_eq!(mail("smtp://[::1]"), ("::1".into(), 587, MailSecurity::None, hello()));
    }

    #[test]
    fn a_sink_can_be_told_of_some_classes_of_calls_alone() {
        let slack = |keys: &str| made(&format!("kind = \"slack\"\nurl = \"https://x/\"\n{keys}"));
        assert_eq!(slack("events = [\"node-alarm\"]").unwrap().classes, None);
        let some = Some([CallClass::Suspect, CallClass::Unexplained].into());
        for events in ["", "events = [\"kit\", \"node-alarm\"]\n"] {
            assert_eq!(slack(&format!("{events}classes = [\"unexplained\", \"suspect\"]")).unwrap().classes, some);
        }
        for (keys, says) in [
            ("classes = []", "at least one of after-expiry-on-open-connection, escape, suspect, weak, unexplained,"),
            ("classes = [\"explained\"]", "`explained` is none that is told"),
            ("classes = [\"silent\"]", "`silent` is none that is told"),
            ("events = [\"kit\"]\nclasses = [\"suspect\"]", "add `node-alarm` to `events`"),
        ] {
            let refused = slack(keys).unwrap_err();
            assert!(refused.contains("notify.classes") && refused.contains(says), "{keys}: {refused}");
        }
    }

    #[test]
    fn what_would_go_in_the_open_or_nowhere_is_refused() {
        let smtp = "kind = \"smtp\"\nfrom = \"a@example.com\"\nto = [\"b@example.com\"]\nurl = ";
        for (keys, says) in [
            ("kind = \"slack\"\nurl = \"http://hooks.example/x\"".to_owned(), "plain http is for loopback"),
            ("kind = \"slack\"\nurl = \"https://u:p@hooks.example/x\"".into(), "without a user name"),
            ("kind = \"teams\"".into(), "`url` or `url_file`"),
            ("kind = \"teams\"\nurl = \"x\"".into(), "write a URL"),
            ("kind = \"slack\"\nurl = \"https://x/\"\nurl_file = \"slack\"".into(), "`url` or `url_file`"),
            ("kind = \"webhook\"\nurl = \"https://x/\"".into(), "the secret that signs"),
            ("kind = \"webhook\"\nurl = \"https://x/\"\nsecret_file = \"slack\"".into(), "whsec_"),
            ("kind = \"webhook\"\nurl = \"https://x/\"\nsecret_file = \"two\"".into(), "more than one line"),
            ("kind = \"slack\"\nurl = \"https://x/\"\nsecret_file = \"secret\"".into(), "only `webhook`"),
            ("kind = \"slack\"\nurl = \"https://x/\"\nto = [\"b@example.com\"]".into(), "only `smtp`"),
            ("kind = \"slack\"\nurl = \"https://x/\"\nca_file = \"two\"".into(), "it has no certificate"),
            ("kind = \"slack\"\nurl = \"https://x/\"\nevents = []".into(), "at least one of break-glass, kit"),
            ("kind = \"slack\"\nurl = \"https://x/\"\nevents = [\"brake-glass\"]".into(), "`brake-glass` is none"),
            (format!("{smtp}\"https://mx.example\""), "smtps://host"),
            (format!("{smtp}\"smtp://mx.example/?tls=none\""), "smtps://host"),
            (format!("{smtp}\"smtp://mx.example\"\nuser = \"x\""), "together"),
            ("kind = \"smtp\"\nurl = \"smtps://mx\"\nfrom = \"a@example.com\"".into(), "1 to 10 recipients"),
            ("kind = \"smtp\"\nurl = \"smtps://mx\"\nto = [\"b@example.com\"]".into(), "the sender"),
            (
                "kind = \"smtp\"\nurl = \"smtps://mx\"\nfrom = \"a\"\nto = [\"b@example.com\\r\\nBcc: c@d.example\"]"
                    .into(),
                "no mail address",
            ),
        ] {
            let refused = made(&keys).unwrap_err();
            assert!(refused.contains(says), "{keys}: {refused}");
        }
    }
}
