//! The audit log of a folder: its notary, and opening it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ichor_wire::log::{Checkpoint, LogKeyError, numbered, with_number};
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::audit::anchor::{Anchor, AnchorError, FileAnchor, KvAnchor, Witness, WitnessKey, WitnessKeyError};
use crate::audit::{self, Grace, Known, Notary, OpenError, Opened};
use crate::config::{AuditSettings, Settings};
use crate::custody::{AuditKey, Custody, CustodyError, LogPin, UnknownServer};
use crate::http::tlog::TileToken;
use crate::openbao::{Client, Kv};
use crate::regular::{self, Links};
use crate::store::{Store, StoreError};

/// Why the audit log is not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// It is not what was signed and anchored.
    #[error("the audit log cannot be vouched for, so the broker does not start: {0}")]
    Open(#[from] OpenError),
    /// It has another name than the configuration says.
    #[error(
        "the audit log is named `{found}`, and `audit.name` is `{configured}` now (without it the host of \
         `server.public_url` counts); a log keeps its name: write `name = \"{found}\"` under [audit]"
    )]
    Name {
        /// The log's.
        found: String,
        /// The configuration's.
        configured: String,
    },
    /// The vault has another key than its record of the log.
    #[error(
        "the audit key of this vault is not the one that its `secrets/audit-log.toml` knows: where it was copied from the vault of another \
         broker, after `audit rotate-key` there, copy that file too"
    )]
    OtherKey,
    /// It cannot be called that.
    #[error("`audit.name`: {0}")]
    Unnameable(#[from] LogKeyError),
    /// The key, or what is known of the log, cannot be had.
    #[error(transparent)]
    Custody(#[from] CustodyError),
    /// An anchor cannot be used.
    #[error(transparent)]
    Anchor(#[from] AnchorError),
    /// The witness' key is none.
    #[error("`audit.witness_key`: {0}")]
    WitnessKey(#[from] WitnessKeyError),
    /// The token of the log's tiles cannot be used.
    #[error("`audit.tile_token_file`: `{}`: {why}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database is not there any more.
    #[error(
        "the database `{}` is gone, though the log of this vault was signed before: put it back, or restore its newest backup and run \
         `ichor-broker audit reopen --reason …` (docs/emergencies.md has each step)",
        .0.display()
    )]
    Gone(PathBuf),
}

/// Whether the database is there, where a log of this vault was signed before: an empty one is not made in its place. Only a
/// file can be missing; of a database at a server its log tells.
///
/// # Errors
/// When it is gone, or what is known of the log cannot be read.
pub fn check_database_is_there(settings: &Settings) -> Result<(), LogError> {
    let is_signed = || Ok::<_, LogError>(LogPin::read(&settings.vault).map_err(CustodyError::from)?.is_some());
    if settings.postgres.is_none() && !settings.database.exists() && is_signed()? {
        return Err(LogError::Gone(settings.database.clone()));
    }
    Ok(())
}

/// The notary of the log of this name.
///
/// # Errors
/// When it cannot be called that, or an anchor cannot be.
pub fn notary(custody: &Custody, settings: &AuditSettings, key: AuditKey, origin: &str) -> Result<Notary, LogError> {
    notary_over(anchors(custody.servers(), settings)?, settings, key, origin)
}

/// The same over anchors that were asked already: it writes over what they were seen to hold, and over nothing else.
///
/// # Errors
/// When the log cannot be called that.
pub fn notary_over(
    anchors: Vec<Anchor>,
    settings: &AuditSettings,
    key: AuditKey,
    origin: &str,
) -> Result<Notary, LogError> {
    let grace = Grace { key: settings.key_grace, anchor: settings.anchor_grace };
    Ok(Notary::new(key, origin, anchors, grace)?)
}

/// The anchors that the configuration names.
///
/// # Errors
/// When one cannot be.
pub fn anchors(servers: &BTreeMap<String, Client>, settings: &AuditSettings) -> Result<Vec<Anchor>, LogError> {
    let mut anchors = Vec::new();
    if let Some(path) = &settings.file {
        anchors.push(Anchor::File(FileAnchor::new(path.clone())));
    }
    if let Some(at) = &settings.kv {
        let server = servers.get(&at.server).cloned();
        let server = server.ok_or_else(|| CustodyError::from(UnknownServer(at.server.clone())))?;
        let kv = Kv::new(server, &at.mount).map_err(CustodyError::from)?;
        let said = format!("the KV secret `{}/{}` at {}", at.mount, at.path, at.server);
        anchors.push(Anchor::Kv(KvAnchor::new(kv, at.path.clone(), said)));
    }
    if let Some(witness) = &settings.witness {
        let key: WitnessKey = witness.key.parse()?;
        anchors.push(Anchor::Witness(Witness::new(&witness.url, key)?));
    }
    Ok(anchors)
}

/// Opens the log: returns its notary once it is known to continue what was signed and anchored, and pins what is known of it.
///
/// # Errors
/// When it does not, or its key cannot be had.
pub async fn open_log(
    custody: &Custody,
    settings: &AuditSettings,
    store: &dyn Store,
    now: Timestamp,
) -> Result<(Arc<Notary>, Opened), LogError> {
    let key = custody.audit_key().await?;
    let pin = custody.log_pin()?;
    let origin = origin(pin.as_ref(), settings, store).await?;
    let notary = notary(custody, settings, key, &origin)?;
    let signs = notary.log().to_string();
    if pin.as_ref().is_some_and(|pin| pin.key != signs && pin.next.as_ref() != Some(&signs)) {
        // who followed the key before could not follow on from what this broker would show
        return Err(LogError::OtherKey);
    }
    let known = pin.as_ref().map(known).unwrap_or_default();
    let opened = audit::open(store, &notary, &known, now).await?;
    pin_log(custody, pin.as_ref(), &notary, opened.standing.anchor_out.is_none())?;
    Ok((Arc::new(notary), opened))
}

/// What a pin says of its log.
fn known(pin: &LogPin) -> Known {
    Known {
        is_signed: true,
        anchored: pin.anchored.clone(),
        key: Some(pin.key.clone()),
        next: pin.next.clone(),
        rotations: pin.rotations.iter().map(|rotation| (rotation.index, rotation.checkpoint.clone())).collect(),
    }
}

/// Notes the log's name and key, and its anchors once they hold a checkpoint.
///
/// # Errors
/// When that cannot be written.
pub fn pin_log(
    custody: &Custody,
    before: Option<&LogPin>,
    notary: &Notary,
    is_anchored: bool,
) -> Result<(), CustodyError> {
    let held = |said: &String| is_anchored || before.is_some_and(|before| before.anchored.contains(said));
    let anchored = notary.anchors().iter().filter(|anchor| anchor.can_be_read()).map(Anchor::said).filter(held);
    let key = notary.log().to_string();
    // those of another name led to keys of that
    let same = before.filter(|before| before.origin == notary.log().name());
    let pin = LogPin {
        origin: notary.log().name().to_owned(),
        anchored: anchored.collect(),
        rotations: same.map(|it| it.rotations.clone()).unwrap_or_default(),
        next: same.and_then(|it| it.next.clone()).filter(|next| *next != key),
        given_up: same.map(|it| it.given_up.clone()).unwrap_or_default(),
        key,
    };
    if before != Some(&pin) {
        custody.pin_log(&pin)?;
    }
    Ok(())
}

/// The log's name: as it is pinned, or as its checkpoint says, or, for a new one, as configured.
async fn origin(pin: Option<&LogPin>, settings: &AuditSettings, store: &dyn Store) -> Result<String, LogError> {
    let origin = match pin {
        Some(pin) => Some(pin.origin.clone()),
        // what its checkpoint says is verified with its key when it is opened
        None => store.checkpoint().await?.and_then(|kept| {
            Checkpoint::parse_unverified(&kept.note).ok().map(|checkpoint| checkpoint.origin().to_owned())
        }),
    };
    let Some(origin) = origin else { return Ok(settings.name.clone()) };
    let (found, _) = numbered(&origin);
    match found == settings.name {
        true => Ok(origin),
        false => Err(LogError::Name { found: found.to_owned(), configured: settings.name.clone() }),
    }
}

/// The token in this file.
///
/// # Errors
/// When there is none that will do.
pub(super) fn tile_token(path: &Path) -> Result<TileToken, LogError> {
    let bad = |why: String| LogError::Token { path: path.to_owned(), why };
    let text = regular::read_text(path, regular::LINE, Links::Followed).map(Zeroizing::new);
    let text = text.map_err(|error| bad(error.to_string()))?;
    let short = || bad("it needs one token of at least 16 characters, as `openssl rand -hex 32` makes it".into());
    TileToken::of(&text).ok_or_else(short)
}

/// The name that the log would have if it was opened once more: one number higher than every name that is known of it, wherever,
/// so that none is used twice. `None` where numbers have run out.
#[must_use]
pub fn next_origin<'a>(known: impl IntoIterator<Item = &'a str>, configured: &str) -> Option<String> {
    let of_this_name = known.into_iter().map(numbered).filter(|(name, _)| *name == configured);
    match of_this_name.map(|(_, number)| number).max() {
        Some(highest) => Some(with_number(configured, highest.checked_add(1)?)),
        // under another name it is the first
        None => Some(configured.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_is_opened_again_gets_the_next_number() {
        let next = |known: &[&str], configured| next_origin(known.iter().copied(), configured);
        assert_eq!(next(&["a.example"], "a.example").as_deref(), Some("a.example#2"));
        assert_eq!(next(&["a.example#2", "a.example#3", "a.example"], "a.example").as_deref(), Some("a.example#4"));
        assert_eq!(next(&["a.example#9"], "new.example").as_deref(), Some("new.example"));
        assert_eq!(next(&["a.example#9", "b.example#3"], "b.example").as_deref(), Some("b.example#4"));
        assert_eq!(next(&["a.example#4294967295"], "a.example"), None, "never one a second time");
    }
}
