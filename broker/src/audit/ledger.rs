//! What the log says of break-glass requests, so that a grant does not hang on rows that someone else may have edited.
//!
//! The log is read once, in order, from the entry of the oldest request that was asked about; from then on only what is new. No
//! column and no index is believed, but the places: each leaf goes into a tree whose root is held against the newest checkpoint
//! that this broker signed. So the cost of an answer is that of the entries recorded since the last one.
//!
//! Where a body is missing behind a request's entry nobody knows what that said, so the request gives nothing more, whatever an
//! entry says of a drop: bodies go lawfully only when a request that they could be of is over, or all but over.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ichor_wire::log::{Content, Kind};
use ichor_wire::problem::Code;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Mutex, watch};
use uuid::Uuid;

use super::standing::Standing;
use super::{NotRecorded, Walk};
use crate::domain::{BreakGlassId, GrantId};
use crate::store::{Store, StoreError};

/// A request's entry is at most so much older than the request's own time says: the log's times are whole microseconds.
const BEFORE: SignedDuration = SignedDuration::from_secs(1);

/// What is said of a request behind which a body is gone.
const HOLLOW: &str = "something behind it was dropped that may have ended it, so ask anew";

/// What the log says of break-glass requests. One for the whole broker.
pub struct Ledger {
    store: Arc<dyn Store>,
    standing: watch::Receiver<Standing>,
    read: Mutex<Memory>,
}

/// What is kept between two questions.
#[derive(Default)]
struct Memory {
    read: Option<Read>,
    /// What ended requests, as it was ever read: a log that is read anew takes no end back.
    ended: HashMap<Uuid, (u64, Kind)>,
}

/// What the log says of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// SHA-256 of the contents that it was asked with; absent where the log has no such request.
    pub contents: Option<Vec<u8>>,
    /// The place of its entry.
    asked: Option<u64>,
    /// The last entry behind that whose body is gone: nobody knows what it said.
    pub hollow: Option<u64>,
    /// Where it was denied, taken back, revoked or over, or the log was opened again after a restore, and which.
    pub end: Option<(u64, Kind)>,
    grants: BTreeMap<Uuid, Used>,
}

/// A grant that used a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Used {
    at: u64,
    /// What came of it, as far as that is recorded: nobody gives back what led to a certificate.
    is_issued: bool,
    is_failed: bool,
}

/// Why the log is not believed, or could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// It is not what was recorded and signed.
    #[error("the audit log in the database is not what was recorded: {0}; run `ichor-broker audit verify`")]
    Forged(String),
    /// It says no.
    #[error("the audit log says no: {0}")]
    Denied(String),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What has been read.
struct Read {
    /// The time from which on every entry was read.
    since: Timestamp,
    walk: Walk,
    requests: HashMap<Uuid, Said>,
    /// Which request each grant used.
    grants: HashMap<Uuid, Uuid>,
    /// Whether that is not what was recorded: then it is read anew.
    is_forged: bool,
}

// === impl Ledger ===

impl Ledger {
    /// The ledger of this log. Nothing is read yet.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, standing: watch::Receiver<Standing>) -> Self {
        Self { store, standing, read: Mutex::default() }
    }

    /// What the log says now of the request that was made at this time.
    ///
    /// # Errors
    /// When the log cannot be read, or is not what was signed.
    pub async fn said(&self, request: BreakGlassId, made: Timestamp) -> Result<Said, LedgerError> {
        let mut memory = self.read.lock().await;
        self.read_from(made, &mut memory).await?;
        let Memory { read: Some(known), ended } = &*memory else { return Ok(Said::default()) };
        let mut said = known.requests.get(&request.0).cloned().unwrap_or_default();
        said.end = said.end.or_else(|| ended.get(&request.0).copied());
        said.hollow = known.walk.last_bare().filter(|place| said.asked.is_none_or(|asked| *place >= asked));
        Ok(said)
    }

    /// Reads what is new since this time, or since what was read already, so that whoever asks next waits less.
    ///
    /// # Errors
    /// As [`Self::said`].
    pub async fn keep_up(&self, since: Timestamp) -> Result<(), LedgerError> {
        self.read_from(since, &mut *self.read.lock().await).await
    }

    /// Whether anything was read yet.
    pub async fn has_begun(&self) -> bool {
        self.read.lock().await.read.is_some()
    }

    /// Returns if the log lets this recorded grant use the request: the log has the request with these contents, nothing ended it
    /// before the grant, and fewer grants than `uses` came before it. For the moment between the grant's entry and its certificate.
    ///
    /// # Errors
    /// When it does not, or cannot be read, or is not what was signed.
    pub async fn permits(
        &self,
        request: BreakGlassId,
        (made, hash): (Timestamp, &[u8; 32]),
        uses: u64,
        grant: GrantId,
    ) -> Result<(), LedgerError> {
        self.said(request, made).await?.permits(hash, uses, grant).map_err(LedgerError::Denied)
    }

    /// All from this time on. What was read stays read when whoever waits for it goes, and when the store fails; what is forged
    /// is forgotten but for what ended, and read again next time.
    async fn read_from(&self, made: Timestamp, Memory { read, ended }: &mut Memory) -> Result<(), LedgerError> {
        let since = made.saturating_sub(BEFORE).unwrap_or(Timestamp::MIN);
        // an older beginning is read from there on; what is in place is gone on from
        let known = match read.take() {
            Some(known) if known.since <= since && !known.is_forged => read.insert(known),
            _ => {
                let walk = Walk::since(&*self.store, since).await?;
                read.insert(Read { since, walk, requests: HashMap::new(), grants: HashMap::new(), is_forged: false })
            }
        };
        let signed = self.standing.borrow().newest.clone();
        let Read { walk, requests, grants, .. } = known;
        let gone =
            walk.go_on(&*self.store, signed, |place, content| take(requests, grants, ended, place, content)).await;
        known.is_forged = matches!(gone, Err(LedgerError::Forged(_)));
        gone
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").finish_non_exhaustive()
    }
}

// === impl LedgerError ===

impl LedgerError {
    /// The problem that this is to whoever asked.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Forged(_) | Self::Denied(_) => Code::Suspect,
            Self::Store(_) => Code::StoreUnavailable,
        }
    }
}

impl From<NotRecorded> for LedgerError {
    fn from(unlike: NotRecorded) -> Self {
        Self::Forged(unlike.to_string())
    }
}

/// Takes in what the entry at this place says.
fn take(
    requests: &mut HashMap<Uuid, Said>,
    grants: &mut HashMap<Uuid, Uuid>,
    ended: &mut HashMap<Uuid, (u64, Kind)>,
    place: u64,
    content: Content,
) {
    if content.kind == Kind::LogOpened {
        // what became of it later is in the part of the log that was lost
        for (request, said) in requests.iter_mut() {
            ended.entry(*request).or_insert((place, content.kind));
            said.end.get_or_insert((place, content.kind));
        }
        return;
    }
    let named = |bytes: Option<&[u8]>| bytes.and_then(|bytes| Uuid::from_slice(bytes).ok());
    let grant = named(content.grant.as_deref());
    // the certificate's own entry names the grant alone
    let request = named(content.break_glass.as_deref()).or_else(|| grants.get(&grant?).copied());
    let Some(request) = request else { return };
    match content.kind {
        Kind::BreakGlassRequest => {
            let said = requests.entry(request).or_default();
            // one that repeats it later is no broker's
            if said.asked.is_none() {
                (said.asked, said.contents) = (Some(place), content.contents);
            }
        }
        Kind::BreakGlassDenial | Kind::BreakGlassCancelled | Kind::BreakGlassRevoked | Kind::BreakGlassOver => {
            ended.entry(request).or_insert((place, content.kind));
            requests.entry(request).or_default().end.get_or_insert((place, content.kind));
        }
        Kind::Grant => {
            let Some(grant) = grant else { return };
            grants.insert(grant, request);
            let said = requests.entry(request).or_default();
            said.grants.entry(grant).or_insert(Used { at: place, is_issued: false, is_failed: false });
        }
        Kind::Issued | Kind::IssueFailed => {
            let used = grant.and_then(|grant| requests.get_mut(&request)?.grants.get_mut(&grant));
            if let Some(used) = used {
                used.is_issued |= content.kind == Kind::Issued;
                used.is_failed |= content.kind == Kind::IssueFailed;
            }
        }
        _ => {}
    }
}

// === impl Said ===

impl Said {
    /// How many certificates were made of it.
    #[must_use]
    pub fn issued(&self) -> u64 {
        count(self.grants.values().filter(|used| used.is_issued))
    }

    /// Why the log lets nobody approve or use the request with these contents any more, in words behind "the log says that";
    /// `None` where it says nothing against it. A grant whose outcome is still to come does not count here.
    #[must_use]
    pub fn against(&self, hash: &[u8; 32], uses: u64) -> Option<String> {
        if self.contents.as_deref() != Some(hash.as_slice()) {
            return Some("nobody asked for this".into());
        }
        if let Some((place, kind)) = self.end {
            return Some(format!("it {} (entry {place})", over(kind)));
        }
        if let Some(place) = self.hollow {
            return Some(format!("{HOLLOW} (entry {place})"));
        }
        (self.issued() >= uses).then(|| format!("{} of {uses} certificates were made of it", self.issued()))
    }

    fn permits(&self, hash: &[u8; 32], uses: u64, grant: GrantId) -> Result<(), String> {
        if self.contents.as_deref() != Some(hash.as_slice()) {
            return Err("nobody asked for this".into());
        }
        if let Some(place) = self.hollow {
            return Err(format!("{HOLLOW} (entry {place})"));
        }
        let own = self.grants.get(&grant.0).ok_or("it does not have the grant")?;
        if let Some((place, kind)) = self.end.filter(|(place, _)| *place < own.at) {
            return Err(format!("the request {} (entry {place})", over(kind)));
        }
        let before = self.grants.values().filter(|used| used.at < own.at && (used.is_issued || !used.is_failed));
        let before = count(before);
        if before >= uses {
            return Err(format!("the request was used {before} times before, of {uses}"));
        }
        Ok(())
    }
}

fn count<'a>(grants: impl Iterator<Item = &'a Used>) -> u64 {
    u64::try_from(grants.count()).unwrap_or(u64::MAX)
}

const fn over(kind: Kind) -> &'static str {
    match kind {
        Kind::BreakGlassDenial => "was denied",
        Kind::BreakGlassCancelled => "was taken back",
        Kind::BreakGlassRevoked => "was revoked",
        Kind::LogOpened => "was asked before the log was opened again",
        _ => "is over",
    }
}
