//! A login, kept until it ends: the token and the key that it is bound to.

use std::fmt;
use std::path::PathBuf;

use data_encoding::{BASE64, HEXLOWER};
use http::Method;
use ichor_wire::api::SessionAnswer;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::broker::{Broker, CLIENT_ID};
use crate::dpop::DpopKey;
use crate::environment::Environment;
use crate::error::Error;
use crate::forms;
use crate::private_file;

/// How many trusts of one broker are remembered: a CA and its successor, each as a file and as a pin.
const MOST_TRUSTS: usize = 4;

/// A session at one broker. Token and key are wiped when it is dropped and never shown.
pub struct Session {
    broker: Broker,
    token: Zeroizing<String>,
    key: DpopKey,
    expires_at: Timestamp,
    session_id: Option<Uuid>,
}

/// Where sessions are kept: the OS keyring, else a 0600 file.
#[derive(Clone, Debug)]
pub struct SessionStore {
    folder: PathBuf,
    /// One file for each broker that this user has ever logged in at, whatever became of the session: its URL, and a line for
    /// each trust with which that was, the newest first.
    known: PathBuf,
    keyring: bool,
}

/// Where a session went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "path", rename_all = "lowercase")]
pub enum KeptIn {
    /// The operating system's keyring.
    Keyring,
    /// This file, 0600.
    File(PathBuf),
}

#[derive(Serialize, Deserialize)]
struct Kept {
    broker: String,
    #[serde(with = "forms::wiped")]
    token: Zeroizing<String>,
    #[serde(with = "forms::wiped")]
    key: Zeroizing<String>,
    expires_at: Timestamp,
    session_id: Option<Uuid>,
}

// === impl Session ===

impl Session {
    pub(crate) fn new(
        broker: Broker,
        token: Zeroizing<String>,
        key: DpopKey,
        expires_at: Timestamp,
        session_id: Option<Uuid>,
    ) -> Self {
        Self { broker, token, key, expires_at, session_id }
    }

    /// The broker that it is a session of.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// When it ends whatever happens.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// Its id, as the audit names it, where the broker told.
    #[must_use]
    pub fn session_id(&self) -> Option<Uuid> {
        self.session_id
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    pub(crate) fn key(&self) -> &DpopKey {
        &self.key
    }

    /// What the broker says about it: `GET /v1/session`.
    ///
    /// # Errors
    /// The broker's problem, or that it cannot be reached.
    pub async fn describe(&self) -> Result<SessionAnswer, Error> {
        self.broker.get(self, &["session"], &[]).await
    }

    /// Ends it at the broker (RFC 7009). The kept copy is the caller's to remove.
    ///
    /// # Errors
    /// When the broker cannot be reached, or does not take it back.
    pub async fn revoke(&self) -> Result<(), Error> {
        let metadata = self.broker.metadata().await?;
        let Some(url) = metadata.revocation_endpoint else {
            return Err(Error::failed(
                "the broker has no way to end a session early",
                format!("it ends by itself at {}", self.expires_at),
            ));
        };
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("token", &self.token)
            .append_pair("client_id", CLIENT_ID)
            .finish();
        let body = ("application/x-www-form-urlencoded", form.into_bytes());
        let answer = self.broker.proved(Method::POST, &url, &self.key, Some(&self.token), Some(body)).await?;
        if answer.status.is_success() {
            return Ok(());
        }
        match answer.oauth_error() {
            Some(error) => Err(Error::SessionEnded { detail: error.error_description.unwrap_or(error.error) }),
            None => Err(self.broker.problem(&answer)),
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("broker", &self.broker)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

// === impl SessionStore ===

impl SessionStore {
    /// The store of this user; with the keyring unless the environment turns it off.
    ///
    /// # Errors
    /// When there is no home to keep anything in.
    pub fn new(environment: &Environment) -> Result<Self, Error> {
        let state = environment.state_dir().ok_or_else(no_home)?;
        Ok(Self { folder: state.join("sessions"), known: state.join("brokers"), keyring: !environment.keyring_off })
    }

    /// Whether this user has ever logged in at the broker with this URL.
    #[must_use]
    pub fn knows(&self, broker: &str) -> bool {
        self.known(broker).is_some()
    }

    /// Whether what the broker's certificate must lead to is this user's own choice: nobody else chose it (no project's file
    /// did), or this user has logged in there with the very same.
    ///
    /// # Errors
    /// When the CA file cannot be read.
    pub fn agrees(&self, broker: &Broker) -> Result<bool, Error> {
        if broker.trusting().is_none() {
            return Ok(true);
        }
        let trust = broker.trust().fingerprint()?;
        Ok(self.known(&broker.url()).is_some_and(|trusts| trusts.contains(&trust)))
    }

    /// With which trusts this user has logged in there; none where they never did.
    fn known(&self, broker: &str) -> Option<Vec<String>> {
        let kept = private_file::read(&self.known.join(name(broker)), 4096).ok()??;
        let mut lines = kept.lines();
        (lines.next() == Some(broker)).then(|| lines.map(str::to_owned).collect())
    }

    fn make_known(&self, broker: &Broker) -> Result<(), Error> {
        let (url, trust) = (broker.url(), broker.trust().fingerprint()?);
        let before = self.known(&url).unwrap_or_default();
        let before = before.into_iter().filter(|kept| *kept != trust);
        let lines: Vec<String> = [url.clone(), trust.clone()].into_iter().chain(before).take(1 + MOST_TRUSTS).collect();
        private_file::write(&self.known.join(name(&url)), lines.join("\n").as_bytes())
    }

    /// Keeps the session; in the keyring where there is one that works, else in a file. The other place is emptied.
    ///
    /// # Errors
    /// When neither takes it.
    pub fn save(&self, session: &Session) -> Result<KeptIn, Error> {
        let broker = session.broker.url();
        let kept = Kept {
            broker: broker.clone(),
            token: session.token.clone(),
            key: Zeroizing::new(BASE64.encode(session.key.pkcs8())),
            expires_at: session.expires_at,
            session_id: session.session_id,
        };
        let json = Zeroizing::new(serde_json::to_string(&kept).map_err(|_| Error::Bug("a session is not JSON"))?);
        self.make_known(&session.broker)?;
        let file = self.file(&broker);
        if self.keyring && keyring(&broker, KeyringAct::Set(json.clone())).is_some() {
            private_file::remove(&file)?;
            return Ok(KeptIn::Keyring);
        }
        private_file::write(&file, json.as_bytes())?;
        Ok(KeptIn::File(file))
    }

    /// The kept session for `broker`.
    ///
    /// # Errors
    /// [`Error::NotLoggedIn`] where there is none, [`Error::SessionEnded`] where its time is over, and a refusal where a
    /// project's file has another server believed than the one that this user logged in at ([`SessionStore::agrees`]).
    pub fn load(&self, broker: &Broker) -> Result<Session, Error> {
        let url = broker.url();
        let none = || Error::NotLoggedIn { broker: url.clone() };
        if let (false, Some(file)) = (self.agrees(broker)?, broker.trusting()) {
            return Err(Error::usage(
                format!("`{}` names a CA for {url} with which you have never logged in there", file.display()),
                "if it is the right one, run `ichor login` here; else remove it from the file",
            ));
        }
        let json = match private_file::read_secret(&self.file(&url), 64 * 1024)? {
            Some(json) => json,
            None if self.keyring => keyring(&url, KeyringAct::Take).flatten().ok_or_else(none)?,
            None => return Err(none()),
        };
        let kept: Kept = serde_json::from_str(&json).map_err(|_| none())?;
        if kept.broker != url {
            return Err(none());
        }
        if kept.expires_at <= broker.clock().now() {
            return Err(Error::SessionEnded { detail: format!("it ended at {}", kept.expires_at) });
        }
        let key = Zeroizing::new(BASE64.decode(kept.key.as_bytes()).map_err(|_| none())?);
        let key = DpopKey::from_pkcs8(key)?;
        Ok(Session {
            broker: broker.clone(),
            token: kept.token,
            key,
            expires_at: kept.expires_at,
            session_id: kept.session_id,
        })
    }

    /// Forgets the session for `broker`, in both places.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn forget(&self, broker: &Broker) -> Result<(), Error> {
        if self.keyring {
            keyring(&broker.url(), KeyringAct::Delete);
        }
        private_file::remove(&self.file(&broker.url()))
    }

    fn file(&self, broker: &str) -> PathBuf {
        self.folder.join(format!("{}.json", name(broker)))
    }
}

/// A file's name for a broker.
fn name(broker: &str) -> String {
    let digest = Sha256::digest(broker.as_bytes());
    HEXLOWER.encode(digest.get(..8).unwrap_or_default())
}

enum KeyringAct {
    Set(Zeroizing<String>),
    Take,
    Delete,
}

/// `None` where the keyring does not work or has nothing. On a thread of its own: the keyring's client may run an
/// executor, which must not happen inside ours.
fn keyring(broker: &str, act: KeyringAct) -> Option<Option<Zeroizing<String>>> {
    let broker = broker.to_owned();
    let asked = std::thread::spawn(move || {
        let entry = keyring::Entry::new("ichor", &broker).ok()?;
        match act {
            KeyringAct::Set(secret) => entry.set_password(&secret).ok().map(|()| None),
            KeyringAct::Take => entry.get_password().ok().map(|secret| Some(Zeroizing::new(secret))),
            KeyringAct::Delete => entry.delete_credential().ok().map(|()| None),
        }
    });
    asked.join().ok().flatten()
}

pub(crate) fn no_home() -> Error {
    Error::usage("there is no home folder to keep anything in", "set HOME or XDG_STATE_HOME")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::tls::Trust;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn broker(url: &str, now: i64) -> Broker {
        Broker::new(url.parse().unwrap(), Trust::System { bundle: None }, Clock::showing(move || at(now)))
    }

    fn session(broker: &Broker) -> Session {
        Session::new(
            broker.clone(),
            Zeroizing::new("secret-token".into()),
            DpopKey::generate().unwrap(),
            at(1000),
            None,
        )
    }

    #[test]
    fn a_session_is_kept_privately_and_found_again_for_its_own_broker_only() {
        let root = tempfile::tempdir().unwrap();
        let store = SessionStore::new(&Environment::isolated(root.path())).unwrap();
        let here = broker("https://a.example", 0);
        let saved = session(&here);
        let KeptIn::File(file) = store.save(&saved).unwrap() else { panic!("in a file") };
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&file).unwrap()) & 0o777, 0o600);
        let loaded = store.load(&here).unwrap();
        assert_eq!((loaded.token(), loaded.key().thumbprint()), ("secret-token", saved.key().thumbprint()));
        assert!(matches!(store.load(&broker("https://b.example", 0)), Err(Error::NotLoggedIn { .. })));
        store.forget(&here).unwrap();
        assert!(matches!(store.load(&here), Err(Error::NotLoggedIn { .. })));
        assert!(store.knows("https://a.example") && !store.knows("https://b.example"), "a logout forgets no broker");
    }

    #[test]
    fn an_ended_session_says_so_without_asking_the_broker() {
        let root = tempfile::tempdir().unwrap();
        let store = SessionStore::new(&Environment::isolated(root.path())).unwrap();
        store.save(&session(&broker("https://a.example", 0))).unwrap();
        let error = store.load(&broker("https://a.example", 1000)).unwrap_err();
        assert_eq!(error.next_steps(), ["run `ichor login`"]);
        assert!(error.to_string().starts_with("session expired"), "{error}");
    }

    #[test]
    fn debug_shows_no_token() {
        assert!(!format!("{:?}", session(&broker("https://a.example", 0))).contains("secret-token"));
    }
}
