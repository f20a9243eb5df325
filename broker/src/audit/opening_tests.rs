//! Case 21: a log that was cut, rolled back, forked, or changed in one bit is not opened, and the place is named.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ichor_wire::log::{Checkpoint, Content, KeyChange, Kind, Leaf};
use jiff::SignedDuration;
use rusqlite::Connection;
use tempfile::TempDir;

use super::anchor::{Anchor, FileAnchor};
use super::*;
use crate::clock::FrozenClock;
use crate::custody::AuditKey;
use crate::store::conformance::{entry, noon};
use crate::store::sqlite::{Options, SqliteStore};
use crate::store::{Append, Grown, Store};

/// A database and, beside it, another disk.
struct Disk {
    folder: TempDir,
}

impl Disk {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("ichor.db")
    }

    fn anchor(&self) -> PathBuf {
        self.folder.path().join("checkpoint")
    }

    fn notary(&self, seed: u8, is_anchored: bool) -> Arc<Notary> {
        let anchors = is_anchored.then(|| Anchor::File(FileAnchor::new(self.anchor())));
        let grace = Grace { key: SignedDuration::from_mins(1), anchor: SignedDuration::from_mins(1) };
        let key = AuditKey::from_seed(&[seed; 32]).unwrap();
        Arc::new(Notary::new(key, "log.example", anchors.into_iter().collect(), grace).unwrap())
    }

    /// Opens the log, records so many entries, and closes it.
    async fn grow(&self, notary: &Arc<Notary>, count: usize) -> Result<(), OpenError> {
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(self.database(), Options::default())?);
        let known = Known { is_signed: store.checkpoint().await?.is_some(), ..Known::default() };
        let opened = open(&*store, notary, &known, noon()).await?;
        let clock = FrozenClock::at(noon());
        let settings = Settings { max_waiting: 8192, ..Settings::named("broker-1") };
        let (sequencer, ended) = Sequencer::vouched(store, clock, settings, Arc::clone(notary), opened.standing);
        let notes = (0..count).map(|_| sequencer.note(Content::of(Kind::Reload), None));
        for noted in futures_util::future::join_all(notes).await {
            noted.unwrap();
        }
        drop(sequencer);
        ended.await.unwrap();
        Ok(())
    }

    /// Opens a log that is known to have been signed.
    async fn open(&self, notary: &Notary) -> Result<Opened, OpenError> {
        let store = SqliteStore::open(self.database(), Options::default())?;
        let anchored = notary.anchors().iter().map(Anchor::said).collect();
        open(&store, notary, &Known { is_signed: true, anchored, ..Known::default() }, noon()).await
    }

    /// The same, of which the last key and the next are known.
    async fn open_pinned(
        &self,
        notary: &Notary,
        key: &Notary,
        next: Option<&Notary>,
        rotations: Vec<(u64, String)>,
    ) -> Result<Opened, OpenError> {
        let store = SqliteStore::open(self.database(), Options::default())?;
        let (key, next) = (Some(key.log().to_string()), next.map(|next| next.log().to_string()));
        open(&store, notary, &Known { is_signed: true, anchored: Vec::new(), key, next, rotations }, noon()).await
    }

    fn sql(&self, sql: &str) {
        Connection::open(self.database()).unwrap().execute_batch(sql).unwrap();
    }
}

/// A whole database, aside.
fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_file(to.with_extension("db-wal"));
    let _ = std::fs::remove_file(to.with_extension("db-shm"));
    std::fs::copy(from, to).unwrap();
}

#[tokio::test]
async fn a_log_is_opened_again_wherever_it_was_closed() {
    let disk = Disk::new();
    let notary = disk.notary(7, true);
    for (count, size) in [(0, 0), (1, 1), (254, 255), (1, 256), (1, 257), (900, 1157)] {
        disk.grow(&notary, count).await.unwrap();
        let opened = disk.open(&notary).await.unwrap();
        assert_eq!(opened.entries, size);
        assert_eq!(opened.standing.newest.unwrap().checkpoint.size(), size);
    }
}

/// Without an anchor nothing else tells that the log had gone on under its name.
#[tokio::test]
async fn case_21_a_log_that_a_restore_made_is_refused_until_the_tree_that_has_it_is_signed_by_hand() {
    let disk = Disk::new();
    let notary = disk.notary(7, false);
    disk.grow(&notary, 3).await.unwrap();
    let restored = Content { digests: Some([(RESTORED.to_owned(), "00".into())].into()), ..Content::of(Kind::Ca) };
    let note = async |content: Content| {
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(disk.database(), Options::default()).unwrap());
        let (sequencer, ended) = Sequencer::start(store, FrozenClock::at(noon()), Settings::named("restore"));
        sequencer.note(content, None).await.unwrap();
        drop(sequencer);
        ended.await.unwrap();
    };
    note(restored).await;
    let refused = disk.open(&notary).await.unwrap_err();
    assert_eq!(refused, OpenError::Restored(3));
    assert!(refused.to_string().contains("ichor-broker audit reopen --reason"), "{refused}");
    // what is recorded behind it, by whichever command, changes nothing: not even an opening again that was cut short
    note(Content::of(Kind::LogOpened)).await;
    assert_eq!(disk.open(&notary).await.unwrap_err(), OpenError::Restored(3));
    let unseen = SqliteStore::open(disk.database(), Options::default()).unwrap();
    assert_eq!(verify_log(&unseen).await.unwrap().restored, Some(3));
    let tree = Grown { edge: unseen.edge(5).await.unwrap(), tiles: Vec::new() };
    attest(&unseen, &notary, Arc::new(tree), noon()).await.unwrap();
    drop(unseen);
    disk.open(&notary).await.unwrap();
}

/// The vault of another broker on this database, from before the key was changed at one.
#[tokio::test]
async fn a_vault_that_was_not_told_of_a_change_of_key_is_told_what_to_copy() {
    let disk = Disk::new();
    let [old, new] = [7, 8].map(|seed| disk.notary(seed, false));
    disk.grow(&old, 2).await.unwrap();
    let change =
        KeyChange { origin: "log.example".into(), new: new.log().to_string(), old: Some(old.log().to_string()) };
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(disk.database(), Options::default()).unwrap());
    let (sequencer, ended) = Sequencer::start(Arc::clone(&store), FrozenClock::at(noon()), Settings::named("other"));
    sequencer.note(Content { log_key: Some(change), ..Content::of(Kind::AuditKey) }, None).await.unwrap();
    drop(sequencer);
    ended.await.unwrap();
    let tree = Arc::new(Grown { edge: store.edge(3).await.unwrap(), tiles: Vec::new() });
    attest(&*store, &new, tree, noon()).await.unwrap();
    drop(store);
    let refused = disk.open(&old).await.unwrap_err();
    assert_eq!(refused, OpenError::Rotated(2));
    let said = refused.to_string();
    assert!(said.contains("copy `secrets/audit-key*`") && !said.contains("audit reopen"), "{said}");
    // a key that no entry names is what it always was
    assert!(matches!(disk.open(&disk.notary(9, false)).await.unwrap_err(), OpenError::Checkpoint(_)));
}

#[tokio::test]
async fn case_21_whatever_is_done_to_the_end_of_the_log_is_found_and_named() {
    let whole = Disk::new();
    let notary = whole.notary(7, false);
    whole.grow(&notary, 600).await.unwrap();
    let other = Checkpoint::new(whole.notary(8, false).log(), 600, [1; 32]);
    let forged = whole.notary(8, false).sign(Arc::new(Grown::default())).await.unwrap().note;
    let swap = |a: u64, b: u64| {
        format!(
            "UPDATE body SET idx = -1 WHERE idx = {a}; UPDATE body SET idx = {a} WHERE idx = {b};
                 UPDATE body SET idx = {b} WHERE idx = -1"
        )
    };
    let cases: Vec<(String, &str)> = vec![
        (
            "DELETE FROM leaf WHERE idx = 599; DELETE FROM body WHERE idx = 599".into(),
            "it has 599 entries where its checkpoint says 600",
        ),
        ("DELETE FROM leaf; DELETE FROM body".into(), "it has 0 entries where its checkpoint says 600"),
        ("DELETE FROM leaf WHERE idx = 590; DELETE FROM body WHERE idx = 590".into(), "audit entry 590"),
        ("DELETE FROM body WHERE idx = 598".into(), "audit entry 598: its body is missing"),
        (
            "UPDATE body SET body = CAST(substr(body, 1, length(body) - 1) || x'00' AS BLOB) WHERE idx = 3".into(),
            "audit entry 3: its body is not",
        ),
        (swap(100, 101), "audit entry 100: its body is not"),
        ("UPDATE leaf SET kind = 1 WHERE idx = 597".into(), "audit entry 597: the columns"),
        ("UPDATE leaf SET time = time + 1 WHERE idx = 300".into(), "audit entry 300: its time"),
        (
            "UPDATE tile SET hashes = zeroblob(8192) WHERE idx = 1".into(),
            "tile 1 of level 0, over the entries 256 to 511,",
        ),
        (
            "UPDATE tile SET root = zeroblob(32) WHERE idx = 0".into(),
            "its first 600 entries are not those that its checkpoint names",
        ),
        ("DELETE FROM tile WHERE idx = 0".into(), "tile 0 of level 0 of the log's tree is missing"),
        ("DELETE FROM checkpoint".into(), "its checkpoint is missing"),
        (
            "UPDATE checkpoint SET size = 9000".into(),
            "its checkpoint's row says 9000 entries, and what was signed there says 600",
        ),
        ("UPDATE checkpoint SET note = 'garbage'".into(), "its checkpoint is not one that our key signed"),
        (format!("UPDATE checkpoint SET note = '{forged}'"), "its checkpoint is not one that our key signed"),
        (
            "UPDATE checkpoint SET note = replace(note, '600', '500')".into(),
            "its checkpoint is not one that our key signed",
        ),
        (
            format!(
                "UPDATE checkpoint SET note = '{}' || substr(note, instr(note, char(10, 10)) + 1)",
                other.unsigned_text()
            ),
            "its checkpoint is not one that our key signed",
        ),
    ];
    for (sql, named) in cases {
        let disk = Disk::new();
        copy(&whole.database(), &disk.database());
        disk.open(&notary).await.unwrap();
        disk.sql(&sql);
        let found = disk.open(&notary).await.unwrap_err().to_string();
        assert!(found.contains(named), "{sql}: {found}");
    }
}

/// Changes an entry so that all in the database fits again, as whoever can write it can.
fn forge(disk: &Disk, index: u64) {
    let new = entry(Content { message: Some("forged".into()), ..Content::of(Kind::Reload) }, noon());
    let leaf = Leaf::of(index, &new.encoded, new.entry.time).encode().unwrap();
    let db = Connection::open(disk.database()).unwrap();
    db.execute("UPDATE leaf SET leaf = ?1 WHERE idx = ?2", (&leaf, index as i64)).unwrap();
    db.execute("UPDATE body SET body = ?1 WHERE idx = ?2", (&new.encoded, index as i64)).unwrap();
    // tiles are made anew from the leaves when the database is opened
    db.execute_batch("DELETE FROM tile").unwrap();
}

#[tokio::test]
async fn case_21_a_forger_who_makes_all_of_it_fit_is_found_by_the_signature() {
    for index in [0, 255, 300, 599] {
        let disk = Disk::new();
        let notary = disk.notary(7, false);
        disk.grow(&notary, 600).await.unwrap();
        forge(&disk, index);
        let store = SqliteStore::open(disk.database(), Options::default()).unwrap();
        assert!(verify_log(&store).await.is_ok(), "nothing in the database disagrees");
        drop(store);
        let found = disk.open(&notary).await.unwrap_err().to_string();
        assert!(found.contains("its first 600 entries are not those that its checkpoint names"), "{index}: {found}");
    }
}

#[tokio::test]
async fn case_21_an_older_database_is_found_by_the_anchor_and_by_nothing_else() {
    for is_anchored in [true, false] {
        let disk = Disk::new();
        let notary = disk.notary(7, is_anchored);
        disk.grow(&notary, 300).await.unwrap();
        let old = disk.folder.path().join("old.db");
        copy(&disk.database(), &old);
        disk.grow(&notary, 10).await.unwrap();
        copy(&old, &disk.database());
        let opened = disk.open(&notary).await;
        match is_anchored {
            true => {
                let found = opened.unwrap_err().to_string();
                assert!(found.contains("it has 300 entries where the anchor file `"), "{found}");
                assert!(found.contains("says 310"), "{found}");
                assert!(found.contains("ichor-broker audit reopen --reason"), "{found}");
            }
            false => assert_eq!(opened.unwrap().entries, 300, "not detected here, and said so"),
        }
    }
}

#[tokio::test]
async fn case_21_a_log_that_went_another_way_is_found_by_the_anchor() {
    let disk = Disk::new();
    let (notary, unanchored) = (disk.notary(7, true), disk.notary(7, false));
    disk.grow(&notary, 300).await.unwrap();
    let old = disk.folder.path().join("old.db");
    copy(&disk.database(), &old);
    disk.grow(&notary, 5).await.unwrap();
    copy(&old, &disk.database());
    // as long as the anchored one and longer, signed by the same key
    disk.grow(&unanchored, 9).await.unwrap();
    let found = disk.open(&notary).await.unwrap_err().to_string();
    assert!(found.contains("its first 305 entries are not those that the anchor file `"), "{found}");
}

#[tokio::test]
async fn an_anchor_that_is_gone_or_forged_is_not_taken_for_a_new_one() {
    let disk = Disk::new();
    let notary = disk.notary(7, true);
    disk.grow(&notary, 3).await.unwrap();
    std::fs::remove_file(disk.anchor()).unwrap();
    assert!(matches!(disk.open(&notary).await, Err(OpenError::AnchorGone(_))));
    let other = disk.notary(8, false).sign(Arc::new(Grown::default())).await.unwrap().note;
    std::fs::write(disk.anchor(), &*other).unwrap();
    assert!(matches!(disk.open(&notary).await, Err(OpenError::Checkpoint(_))));
}

#[tokio::test]
async fn a_new_key_opens_what_the_old_one_signed_once_the_log_says_so_and_not_before() {
    let disk = Disk::new();
    let (old, new) = (disk.notary(7, true), disk.notary(9, true));
    disk.grow(&old, 300).await.unwrap();
    assert!(matches!(disk.open(&new).await, Err(OpenError::Checkpoint(_))), "no entry says that it follows");
    {
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(disk.database(), Options::default()).unwrap());
        let opened = open(&*store, &old, &Known::default(), noon()).await.unwrap();
        let (sequencer, ended) =
            Sequencer::vouched(store, FrozenClock::at(noon()), Settings::default(), Arc::clone(&old), opened.standing);
        let change =
            KeyChange { origin: "log.example".into(), new: new.log().to_string(), old: Some(old.log().to_string()) };
        let content = Content { log_key: Some(change), ..Content::of(Kind::AuditKey) };
        sequencer.note(content, None).await.unwrap();
        drop(sequencer);
        ended.await.unwrap();
    }
    let opened = disk.open(&new).await.unwrap();
    let note = std::fs::read_to_string(disk.anchor()).unwrap();
    assert_eq!(Checkpoint::parse_and_verify(&note, new.log()).unwrap().size(), opened.entries);
    assert!(disk.open(&new).await.is_ok(), "and from then on the new one's checkpoint is there");
}

/// Adds an entry as whoever writes the database does, after the broker has gone.
async fn add(disk: &Disk, content: Content) {
    let store = SqliteStore::open(disk.database(), Options::default()).unwrap();
    store.append(vec![Append { entry: entry(content, noon()), change: None }], None).await.unwrap();
}

fn handing_over(from: &Notary, to: &Notary) -> Content {
    let (new, old) = (to.log().to_string(), Some(from.log().to_string()));
    Content { log_key: Some(KeyChange { origin: "log.example".into(), new, old }), ..Content::of(Kind::AuditKey) }
}

#[tokio::test]
async fn a_start_does_not_hand_the_log_over_to_a_key_that_it_does_not_know() {
    let disk = Disk::new();
    let (ours, theirs) = (disk.notary(7, false), disk.notary(9, false));
    disk.grow(&ours, 3).await.unwrap();
    add(&disk, handing_over(&ours, &theirs)).await;
    let opened = disk.open_pinned(&ours, &ours, None, Vec::new()).await;
    assert!(matches!(opened, Err(OpenError::Key(3))), "{opened:?}");
    // a change that was announced, or recorded, where they cannot write
    let signed = ours.sign(Arc::new(Grown::default())).await.unwrap().note.to_string();
    assert!(disk.open_pinned(&ours, &ours, None, vec![(2, signed.clone())]).await.is_err(), "another place");
    assert!(disk.open_pinned(&ours, &ours, None, vec![(3, signed)]).await.is_ok());
    let disk = Disk::new();
    disk.grow(&ours, 3).await.unwrap();
    add(&disk, handing_over(&ours, &theirs)).await;
    assert!(disk.open_pinned(&ours, &ours, Some(&theirs), Vec::new()).await.is_ok());
    let disk = Disk::new();
    disk.grow(&ours, 3).await.unwrap();
    add(&disk, handing_over(&theirs, &ours)).await;
    assert!(disk.open_pinned(&ours, &ours, None, Vec::new()).await.is_ok(), "to the key that it has");
}

#[tokio::test]
async fn a_start_does_not_sign_an_entry_whose_body_it_does_not_see() {
    let disk = Disk::new();
    let ours = disk.notary(7, false);
    disk.grow(&ours, 3).await.unwrap();
    add(&disk, Content::of(Kind::AuditRead)).await;
    disk.sql("DELETE FROM body WHERE idx = 3");
    let later = noon() + SignedDuration::from_hours(24);
    let content = Content { dropped: Some(vec![3, 1]), ..Content::of(Kind::BodyDropped) };
    let store = SqliteStore::open(disk.database(), Options::default()).unwrap();
    store.append(vec![Append { entry: entry(content, later), change: None }], None).await.unwrap();
    assert!(verify_log(&store).await.is_ok(), "nothing in the database disagrees");
    drop(store);
    let opened = disk.open_pinned(&ours, &ours, None, Vec::new()).await;
    assert!(matches!(opened, Err(OpenError::Hollow(3))), "{opened:?}");
}

/// A forger who signs with a key of their own, and has the log say that ours follows it.
#[tokio::test]
async fn a_checkpoint_of_a_key_that_was_never_the_logs_is_none() {
    let disk = Disk::new();
    let (ours, theirs) = (disk.notary(7, false), disk.notary(9, false));
    disk.grow(&theirs, 3).await.unwrap();
    add(&disk, handing_over(&theirs, &ours)).await;
    let opened = disk.open_pinned(&ours, &ours, None, Vec::new()).await;
    assert!(matches!(opened, Err(OpenError::Checkpoint(_))), "{opened:?}");
    let signed = theirs.sign(Arc::new(Grown::default())).await.unwrap().note.to_string();
    assert!(disk.open_pinned(&ours, &ours, None, vec![(0, signed)]).await.is_ok(), "one that was");
    assert!(disk.open_pinned(&ours, &theirs, None, Vec::new()).await.is_ok(), "and from then on ours is there");
}
