//! `verify`: a whole log checked offline, by an export and the log's key alone, as `ichor audit verify --from FILE` does it.
//!
//! A generator writes the export that a broker would send: entries of a grant's and a certificate's size in pages of [`PAGE`],
//! a signed checkpoint with each, here and there an absent body that a later entry says was dropped. It is checked at sizes that
//! grow tenfold. What was just written is read out of the page cache, as far as it fits in there.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::ensure;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use ichor_wire::log::export::{write_begin, write_checkpoint, write_dropped, write_entry};
use ichor_wire::log::tree::Edge;
use ichor_wire::log::{
    Checkpoint, Content, Entry, Kind, Leaf, LogKey, Person, Places, VERSION, Verdict, leaf_hash, verify,
};
use tokio::time::Instant;

use crate::Settings;
use crate::meter::{each, micros, own_cpu, peak, rate};
use crate::report::{Goal, Report};

/// Entries a second.
const GOAL_RATE: f64 = 500_000.0;
/// What the memory of this process may grow by from the smallest log to the largest, in MiB.
const GOAL_GROWTH: f64 = 8.0;
/// Entries of one page of an export.
const PAGE: u64 = 2_000;
/// One body in so many was dropped.
const DROPPED: u64 = 100;
/// So often an entry names the bodies that were dropped since the one before.
const NAMED: u64 = 1_000;
/// The smallest size, from which sizes grow tenfold.
const FIRST: u64 = 10_000;

pub(crate) fn run(settings: &Settings) -> anyhow::Result<Report> {
    let mut report = Report::new("verify");
    report.note(format!(
        "an export of entries of a grant's size in pages of {PAGE}, one body in {DROPPED} dropped; checked with the log's key alone"
    ));
    let folder = tempfile::tempdir_in(&settings.dir)?;
    let path = folder.path().join("export.cbor");
    let log = Generated::new()?;
    let sizes =
        std::iter::successors(Some(FIRST), |size| size.checked_mul(10)).take_while(|size| *size < settings.entries);
    let mut first = None;
    for size in sizes.chain([settings.entries]) {
        let bytes = log.write(&path, size)?;
        let (began, cpu) = (Instant::now(), own_cpu()?);
        let verdict = verify(File::open(&path)?, &log.key, &[])?;
        let (took, cpu) = (began.elapsed(), own_cpu()?.saturating_sub(cpu));
        log.expect(&verdict, size)?;
        let count = usize::try_from(size)?;
        report.hold(format!("{size} entries: verified"), rate(count, took), "1/s", Goal::AtLeast(GOAL_RATE));
        report.add(format!("{size} entries: CPU each"), micros(each(cpu, count)?), "µs");
        #[expect(clippy::cast_precision_loss, reason = "a file's size fits into 53 bits")]
        report.add(format!("{size} entries: bytes each in the export"), bytes as f64 / size as f64, "B");
        let memory = peak()?;
        report.add(format!("{size} entries: most memory of this process so far"), memory, "MiB");
        let growth = memory - *first.get_or_insert(memory);
        report.hold(format!("{size} entries: more than at {FIRST}"), growth, "MiB", Goal::AtMost(GOAL_GROWTH));
    }
    Ok(report)
}

/// A log that is written as it is made: nothing of it is kept.
struct Generated {
    pair: Ed25519KeyPair,
    key: LogKey,
}

impl Generated {
    fn new() -> anyhow::Result<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[1; 32])?;
        let key = LogKey::ed25519("bench", pair.public_key().as_ref())?;
        Ok(Self { pair, key })
    }

    /// Writes the export of so many entries, and answers its size in bytes.
    fn write(&self, path: &Path, entries: u64) -> anyhow::Result<u64> {
        let mut file = BufWriter::new(File::create(path)?);
        let (mut edge, mut page, mut absent) = (Edge::default(), Vec::new(), Places::default());
        for index in 0..entries {
            if index.is_multiple_of(PAGE) {
                write_begin(&mut page, index);
            }
            let is_named = is_naming(index, entries);
            let content = match is_named {
                true => {
                    let named = std::mem::take(&mut absent).numbers();
                    Content { dropped: Some(named), ..Content::of(Kind::BodyDropped) }
                }
                false => content(index),
            };
            let entry = entry(index, content);
            let encoded = entry.encode()?;
            let leaf = Leaf::of(index, &encoded, entry.time).encode()?;
            let hash = leaf_hash(&leaf);
            edge.push(hash);
            if is_absent(index) && !is_named {
                absent.push(index);
                write_dropped(&mut page, &hash, &leaf);
            } else {
                write_entry(&mut page, &hash, &encoded);
            }
            if edge.size().is_multiple_of(PAGE) || edge.size() == entries {
                let checkpoint = Checkpoint::new(&self.key, edge.size(), edge.root());
                let signature = self.pair.sign(checkpoint.unsigned_text().as_bytes());
                write_checkpoint(&mut page, &checkpoint.signed(&self.key, signature.as_ref())?);
                file.write_all(&page)?;
                page.clear();
            }
        }
        file.flush()?;
        Ok(file.get_ref().metadata()?.len())
    }

    /// All of it was read, and nothing else believed.
    fn expect(&self, verdict: &Verdict, entries: u64) -> anyhow::Result<()> {
        let absent = (0..entries).filter(|index| is_absent(*index) && !is_naming(*index, entries)).count();
        ensure!(
            (verdict.entries, verdict.uncovered, verdict.dropped, &verdict.key)
                == (entries, 0, u64::try_from(absent)?, &self.key),
            "{verdict:?}"
        );
        Ok(())
    }
}

/// Whether this entry's body is absent, unless it is one that names others.
fn is_absent(index: u64) -> bool {
    index % DROPPED == 7
}

/// Whether this entry names the bodies that were dropped before it; the last does, so that none is left unnamed.
fn is_naming(index: u64, entries: u64) -> bool {
    index % NAMED == NAMED - 1 || index + 1 == entries
}

fn entry(index: u64, content: Content) -> Entry {
    let bytes = |seed: u8| [&[seed; 8][..], &index.to_be_bytes()].concat();
    let time = 1_790_000_000_000_000 + i64::try_from(index).unwrap_or(i64::MAX) * 1_000;
    Entry { version: VERSION, id: bytes(1), time, salt: bytes(2), broker: "broker-1".into(), content }
}

/// A grant, then the certificate of it.
fn content(index: u64) -> Content {
    let about = Content {
        person: Some(Person {
            provider: "corp".into(),
            issuer: "https://login.example.com/realms/company".into(),
            subject: "248289761001-4fd1-9d31".into(),
            name: "Alice Example".into(),
            user: "alice@example.com".into(),
        }),
        cluster: Some("prod-eu-central-1".into()),
        grant: Some([&[7; 8][..], &(index / 2).to_be_bytes()].concat()),
        session: Some(vec![8; 16]),
        address: Some("203.0.113.17".into()),
        roles: Some(vec!["os:reader".into()]),
        not_after: Some(1_800_000_000),
        public_key: Some(vec![9; 32]),
        ..Content::of(if index.is_multiple_of(2) { Kind::Grant } else { Kind::Issued })
    };
    if about.kind == Kind::Issued {
        return Content { serial: Some(vec![5; 16]), fingerprint: Some(vec![6; 32]), ..about };
    }
    Content {
        reason: Some("INC-4242: node 10.0.0.5 drops packets, looking at dmesg and the link's counters".into()),
        policies: Some(vec!["sre-read-prod".into()]),
        mode: Some("direct".into()),
        policy_digest: Some(vec![10; 32]),
        ..about
    }
}
