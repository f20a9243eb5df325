//! The rows, as plain data. Times are whole in the database (`i64` microseconds), ids 16 bytes.

use ichor_wire::log::{Content, Entry, Kind};
use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::{GrantId, Group, Human, HumanClaim, PageUse, Person, SessionId};

/// A logged-in client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// The session.
    pub id: SessionId,
    /// SHA-256 of the token; the token itself is kept nowhere.
    pub token_hash: [u8; 32],
    /// Thumbprint of the DPoP key that the token is bound to; empty where the token is a browser's cookie.
    pub jkt: String,
    /// Whose session.
    pub person: Person,
    /// The person's name as the provider tells it.
    pub name: String,
    /// The value behind `user:` in certificates.
    pub user: String,
    /// Groups, as last told.
    pub groups: Vec<Group>,
    /// When the groups were last told.
    pub groups_at: Timestamp,
    /// The authentication context vouched for at login; a refresh never renews it.
    pub acr: Option<String>,
    /// When the person authenticated; a refresh never renews it.
    pub auth_time: Option<Timestamp>,
    /// The provider's refresh token (or access token, for userinfo), sealed and bound to this row.
    pub refresh_sealed: Option<Vec<u8>>,
    /// Counts up with every refresh; the compare-and-set condition of [`super::Change::SessionRefresh`].
    pub version: u64,
    /// When it began.
    pub created_at: Timestamp,
    /// When it ends whatever happens.
    pub expires_at: Timestamp,
    /// When it was last used, to the minute.
    pub used_at: Timestamp,
    /// When it was ended, if it was.
    pub ended_at: Option<Timestamp>,
    /// The broker's own mark on what decides who this is and for how long (see [`crate::identity::vouch`]): whoever writes
    /// the database cannot make it.
    pub tag: [u8; 32],
    /// What the provider tells of the human behind the account.
    pub human: HumanClaim,
    /// What a browser may do with it at the pages; `None` for a client's session, which no cookie opens.
    pub page: Option<PageUse>,
}

/// A login on its way. Made by strangers, so bounded in number and life (10 minutes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingLogin {
    /// The row's id.
    pub id: Uuid,
    /// Counts up with every change.
    pub version: u64,
    /// SHA-256 of the browser's cookie.
    pub cookie_hash: [u8; 32],
    /// SHA-256 of the one-time code, once released.
    pub code_hash: Option<[u8; 32]>,
    /// Everything else, as the login room encodes and tags it. Holds no token of ours; a provider's refresh token in it is
    /// sealed.
    pub state: Vec<u8>,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// A device login on its way (RFC 8628).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceLogin {
    /// The row's id.
    pub id: Uuid,
    /// Counts up with every change.
    pub version: u64,
    /// SHA-256 of the device code.
    pub device_hash: [u8; 32],
    /// The code that the person types.
    pub user_code: String,
    /// Everything else, as the login room encodes and tags it.
    pub state: Vec<u8>,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// An entry on its way into the log: complete but for its index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEntry {
    /// The entry.
    pub entry: Entry,
    /// Its deterministic encoding.
    pub encoded: Vec<u8>,
}

/// An entry as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntry {
    /// Its index, from 0.
    pub index: u64,
    /// The encoded leaf record.
    pub leaf: Vec<u8>,
    /// The encoded entry; `None` where the body was dropped.
    pub body: Option<Vec<u8>>,
}

/// The columns that queries go by. They repeat what the body says: verification recomputes and compares them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// The kind's number.
    pub kind: u8,
    /// Provider's alias, issuer, subject and `user:` value.
    pub person: Option<[String; 4]>,
    /// The cluster's name.
    pub cluster: Option<String>,
    /// The grant's id.
    pub grant: Option<Vec<u8>>,
    /// How many names of a certificate lead here: its serial number, its fingerprint.
    pub names: usize,
}

/// An entry with its columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Indexed {
    /// The entry.
    pub entry: StoredEntry,
    /// The time column, in microseconds since the epoch.
    pub time: i64,
    /// The other columns.
    pub columns: Columns,
}

/// The log's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogHead {
    /// How many entries there are.
    pub size: u64,
    /// The newest entry's time, in microseconds since the epoch.
    pub time: i64,
}

/// A signed checkpoint of the log, as it is kept beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCheckpoint {
    /// How many entries it speaks of.
    pub size: u64,
    /// The signed note.
    pub note: String,
}

/// How far a forwarding of the log has come, as the database says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardRow {
    /// The place of the entry that is next.
    pub next: u64,
    /// The broker's own mark on name and place; `None` in a row of before there were marks. Whoever reads the row holds it
    /// against that: the store does not.
    pub tag: Option<Vec<u8>>,
}

/// A request to drop bodies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropRequest {
    /// Its id (UUIDv7).
    pub id: Uuid,
    /// Who asks. Someone who is surely another human must approve.
    pub asked_by: Person,
    /// Whose entries, by `user:` value or subject; absent: everyone's. Forgotten when it is done.
    pub person: Option<String>,
    /// Only entries recorded before this time.
    pub before: Timestamp,
    /// The place in the log at which dropping goes on.
    pub next: u64,
    /// Until when it can be approved.
    pub expires_at: Timestamp,
    /// When someone else approved.
    pub approved_at: Option<Timestamp>,
    /// When the last of its bodies was dropped.
    pub done_at: Option<Timestamp>,
    /// What the provider tells of the human who asks; `None` where no claim is configured.
    pub asker_told: Option<[u8; 32]>,
    /// The session that they asked in; absent in a row of before this was kept.
    pub session: Option<SessionId>,
}

/// What to look for; every given part must match. A person matches by `user:` value or by subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryFilter {
    /// The `user:` value or the subject.
    pub person: Option<String>,
    /// The person's key, exactly: what "everyone may see their own" uses.
    pub own: Option<Person>,
    /// The cluster's name.
    pub cluster: Option<String>,
    /// The kind of entry.
    pub kind: Option<Kind>,
    /// The grant.
    pub grant: Option<GrantId>,
    /// At or after.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
}

// === impl DropRequest ===

impl DropRequest {
    /// The human who asks.
    #[must_use]
    pub fn asker(&self) -> Human {
        Human { person: self.asked_by.clone(), told: self.asker_told }
    }
}

// === impl Columns ===

impl Columns {
    /// What the columns of this entry must be.
    #[must_use]
    pub fn of(entry: &Entry) -> Self {
        let content = &entry.content;
        let person = content.person.as_ref();
        Self {
            kind: content.kind.number(),
            person: person.map(|p| [&p.provider, &p.issuer, &p.subject, &p.user].map(Clone::clone)),
            cluster: content.cluster.clone(),
            grant: content.grant.clone(),
            names: certificate_names(content).count(),
        }
    }

    /// What the columns must be of an entry whose body was dropped: what names anyone went with it.
    #[must_use]
    pub fn of_dropped(kind: u8) -> Self {
        Self { kind, person: None, cluster: None, grant: None, names: 0 }
    }
}

/// The names by which an issued certificate is found, without zeros at their beginning: its serial number and its fingerprint.
pub fn certificate_names(content: &Content) -> impl Iterator<Item = &[u8]> {
    let issued = content.kind == Kind::Issued;
    let names = [content.serial.as_deref(), content.fingerprint.as_deref()];
    names.into_iter().flatten().filter(move |_| issued).map(bare)
}

/// What to call a row that leads from a certificate's name, by its first 32 bits, to an entry which has no such name, and what to do about it:
/// it would be in each backup too, and no entry is touched by it.
pub(super) fn stray_name(first: i64, index: i64) -> String {
    format!(
        "a certificate's serial number or fingerprint that begins with {first:08x} and leads to entry {index}: no entry was changed, so take \
         it out with `DELETE FROM certificate WHERE prefix = {first} AND idx = {index}`"
    )
}

/// What to do about a body, leaf or tile where none is to be.
pub(super) fn stray_place(row: &str) -> String {
    format!("{row}: restore the database from a backup")
}

/// The number without zeros at its beginning: a serial number is written with them or without.
#[must_use]
pub fn bare(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}
