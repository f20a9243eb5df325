//! What the log says of break-glass requests, so that a grant does not hang on rows that someone else may have edited.
//!
//! The log is read once, in order, from the entry of the oldest request that was asked about; from then on only what is new. No
//! column and no index is believed, but the places: each leaf goes into a tree whose root is held against the newest checkpoint
//! that this broker signed. So the cost of an answer is that of the entries recorded since the last one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ichor_wire::log::tree::Edge;
use ichor_wire::log::{Content, Entry, Kind, Leaf, Places, leaf_hash};
use ichor_wire::problem::Code;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Mutex, watch};
use uuid::Uuid;

use super::standing::Standing;
use crate::domain::{BreakGlassId, GrantId};
use crate::store::{EntryFilter, Store, StoreError, StoredEntry};

/// So many entries are read at a time.
const STRIDE: u64 = 1_000;

/// A request's entry is at most so much older than the request's own time says: the log's times are whole microseconds.
const BEFORE: SignedDuration = SignedDuration::from_secs(1);

/// What the log says of break-glass requests. One for the whole broker.
pub struct Ledger {
    store: Arc<dyn Store>,
    standing: watch::Receiver<Standing>,
    read: Mutex<Option<Read>>,
}

/// What the log says of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// SHA-256 of the contents that it was asked with; absent where the log has no such request.
    pub contents: Option<Vec<u8>>,
    /// Where it was denied, taken back, revoked or over, and which.
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
    /// The tree up to the next entry to read.
    edge: Edge,
    requests: HashMap<Uuid, Said>,
    /// Which request each grant used.
    grants: HashMap<Uuid, Uuid>,
    /// The entries without a body, of which no entry says yet that it was dropped.
    bare: BTreeSet<u64>,
    /// Whether that is not what was recorded: then it is read anew.
    is_forged: bool,
}

// === impl Ledger ===

impl Ledger {
    /// The ledger of this log. Nothing is read yet.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, standing: watch::Receiver<Standing>) -> Self {
        Self { store, standing, read: Mutex::new(None) }
    }

    /// What the log says now of the request that was made at this time.
    ///
    /// # Errors
    /// When the log cannot be read, or is not what was signed.
    pub async fn said(&self, request: BreakGlassId, made: Timestamp) -> Result<Said, LedgerError> {
        let mut read = self.read.lock().await;
        let known = self.read_from(made, &mut read).await?;
        Ok(known.requests.get(&request.0).cloned().unwrap_or_default())
    }

    /// Reads what is new since this time, or since what was read already, so that whoever asks next waits less.
    ///
    /// # Errors
    /// As [`Self::said`].
    pub async fn keep_up(&self, since: Timestamp) -> Result<(), LedgerError> {
        self.read_from(since, &mut *self.read.lock().await).await.map(drop)
    }

    /// Whether anything was read yet.
    pub async fn has_begun(&self) -> bool {
        self.read.lock().await.is_some()
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
    /// is forgotten, and read again next time.
    async fn read_from<'a>(&self, made: Timestamp, read: &'a mut Option<Read>) -> Result<&'a Read, LedgerError> {
        let since = made.saturating_sub(BEFORE).unwrap_or(Timestamp::MIN);
        // an older beginning is read from there on; what is in place is gone on from
        let known = match read.take() {
            Some(known) if known.since <= since && !known.is_forged => read.insert(known),
            _ => read.insert(self.begin(since).await?),
        };
        let gone = self.go_on(known).await;
        known.is_forged = matches!(gone, Err(LedgerError::Forged(_)));
        gone.map(|()| &*known)
    }

    async fn begin(&self, since: Timestamp) -> Result<Read, LedgerError> {
        let filter = EntryFilter { since: Some(since), ..EntryFilter::default() };
        let first = self.store.entries_from(&filter, 0, 1).await?.pop();
        let from = match first {
            Some(entry) => entry.index,
            None => self.store.head().await?.size,
        };
        let edge = self.store.edge(from).await?;
        Ok(Read {
            since,
            edge,
            requests: HashMap::new(),
            grants: HashMap::new(),
            bare: BTreeSet::new(),
            is_forged: false,
        })
    }

    /// Reads up to the log's end, stopping where the newest checkpoint lies to hold the tree against it.
    async fn go_on(&self, known: &mut Read) -> Result<(), LedgerError> {
        let signed = self.standing.borrow().newest.clone();
        let end = self.store.head().await?.size;
        if let Some(signed) = signed
            && signed.checkpoint.size() >= known.edge.size()
        {
            let size = signed.checkpoint.size();
            if size > end {
                return Err(LedgerError::Forged(format!("it has {end} entries where {size} were signed")));
            }
            self.read_to(known, size).await?;
            if known.edge.root() != *signed.checkpoint.root() {
                return Err(LedgerError::Forged(format!("its first {size} entries are not those that were signed")));
            }
        }
        self.read_to(known, end).await?;
        if !known.bare.is_empty() {
            // a body may have been dropped since the end was asked for: what says so was recorded with it
            let end = self.store.head().await?.size;
            self.read_to(known, end).await?;
        }
        match known.bare.first() {
            Some(place) => Err(LedgerError::Forged(format!("entry {place} has lost its body"))),
            None => Ok(()),
        }
    }

    async fn read_to(&self, known: &mut Read, end: u64) -> Result<(), LedgerError> {
        while known.edge.size() < end {
            let from = known.edge.size();
            let stride = self.store.entry_range(from..end.min(from.saturating_add(STRIDE))).await?;
            if stride.is_empty() {
                return Err(LedgerError::Forged(format!("entry {from} is missing")));
            }
            for stored in stride {
                match recorded(&stored, known.edge.size())? {
                    Some(entry) => known.take(stored.index, entry.content),
                    None => _ = known.bare.insert(stored.index),
                }
                known.edge.push(leaf_hash(&stored.leaf));
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").finish_non_exhaustive()
    }
}

/// The entry that the leaf at this place stands for; `None` where its body is gone.
fn recorded(stored: &StoredEntry, place: u64) -> Result<Option<Entry>, LedgerError> {
    let forged = |what: &str| LedgerError::Forged(format!("entry {place} {what}"));
    let leaf = Leaf::decode(&stored.leaf).map_err(|_| forged("has a damaged leaf"))?;
    if stored.index != place || leaf.index != place {
        return Err(forged("is missing"));
    }
    let Some(body) = &stored.body else { return Ok(None) };
    if !leaf.stands_for(body) {
        return Err(forged("has another body than was recorded"));
    }
    Entry::decode(body).map(Some).map_err(|_| forged("cannot be decoded"))
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

// === impl Read ===

impl Read {
    fn take(&mut self, index: u64, content: Content) {
        let named = |bytes: Option<&[u8]>| bytes.and_then(|bytes| Uuid::from_slice(bytes).ok());
        let grant = named(content.grant.as_deref());
        if let Some(dropped) = content.dropped.as_deref().and_then(Places::read) {
            self.bare.retain(|place| !dropped.runs().any(|run| run.contains(place)));
        }
        // the certificate's own entry names the grant alone
        let request = named(content.break_glass.as_deref()).or_else(|| self.grants.get(&grant?).copied());
        let Some(request) = request else { return };
        match content.kind {
            Kind::BreakGlassRequest => self.requests.entry(request).or_default().contents = content.contents,
            Kind::BreakGlassDenial | Kind::BreakGlassCancelled | Kind::BreakGlassRevoked | Kind::BreakGlassOver => {
                self.requests.entry(request).or_default().end.get_or_insert((index, content.kind));
            }
            Kind::Grant => {
                let Some(grant) = grant else { return };
                self.grants.insert(grant, request);
                let said = self.requests.entry(request).or_default();
                said.grants.entry(grant).or_insert(Used { at: index, is_issued: false, is_failed: false });
            }
            Kind::Issued | Kind::IssueFailed => {
                let used = grant.and_then(|grant| self.requests.get_mut(&request)?.grants.get_mut(&grant));
                if let Some(used) = used {
                    used.is_issued |= content.kind == Kind::Issued;
                    used.is_failed |= content.kind == Kind::IssueFailed;
                }
            }
            _ => {}
        }
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
        (self.issued() >= uses).then(|| format!("{} of {uses} certificates were made of it", self.issued()))
    }

    fn permits(&self, hash: &[u8; 32], uses: u64, grant: GrantId) -> Result<(), String> {
        if self.contents.as_deref() != Some(hash.as_slice()) {
            return Err("nobody asked for this".into());
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
        _ => "is over",
    }
}
