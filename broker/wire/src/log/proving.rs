//! Receipts, proof files and exports of a small log: what verifies, and what no longer does.

use proptest::prelude::*;

use super::export::{Item, ReadError, Reader, write_checkpoint};
use super::proof::{NoProof, follow};
use super::sample::{Log, at};
use super::verify::{Verdict, verify};
use super::*;
use crate::api::{EntryProof, ProofFile, Receipt};

/// 600 entries; the key changes at 300, and the body of 77 was dropped.
fn log() -> Log {
    Log::of(600, 300, 77)
}

fn receipt(log: &Log, index: u64, size: u64) -> Receipt {
    let path = log.prover(size).inclusion(index).unwrap();
    let pending = Receipt::pending(index, &log.leaf_hash(index));
    pending.with_proof(&log.entries[at(index)], &path, log.checkpoint(size))
}

#[test]
fn a_receipt_proves_its_entry_under_the_key_that_signed() {
    let log = log();
    for (index, size, key) in [(0, 1, 0), (7, 300, 0), (300, 301, 0), (300, 302, 1), (599, 600, 1)] {
        let proven = receipt(&log, index, size).verify(&log.keys[key]).unwrap();
        assert_eq!(proven.entry.unwrap().encode().unwrap(), log.entries[at(index)]);
        assert_eq!((proven.leaf.index, proven.checkpoint.size()), (index, size));
        let other = receipt(&log, index, size).verify(&log.keys[1 - key]);
        assert!(matches!(other, Err(NoProof::Checkpoint(_))), "{other:?}");
    }
}

#[test]
fn a_receipt_is_pending_until_the_log_has_signed() {
    let log = log();
    let pending = Receipt::pending(7, &log.leaf_hash(7));
    assert!(pending.is_pending() && !receipt(&log, 7, 300).is_pending());
    assert_eq!(pending.verify(&log.keys[0]), Err(NoProof::Pending));
    let json = serde_json::to_string(&pending).unwrap();
    assert_eq!(json, format!("{{\"index\":7,\"leaf_hash\":\"{}\"}}", pending.leaf_hash), "as before there were proofs");
}

#[test]
fn a_receipt_with_anything_else_in_it_proves_nothing() {
    let log = log();
    let good = receipt(&log, 7, 300);
    let refused = |receipt: Receipt| receipt.verify(&log.keys[0]).unwrap_err();
    let other = receipt(&log, 9, 300);
    assert_eq!(refused(Receipt { entry: other.entry.clone(), ..good.clone() }), NoProof::OtherEntry);
    assert_eq!(refused(Receipt { index: 8, ..good.clone() }), NoProof::OtherEntry);
    let swapped = Receipt { entry: other.entry.clone(), leaf_hash: other.leaf_hash.clone(), ..good.clone() };
    assert_eq!(refused(swapped), NoProof::OtherEntry, "the entry of another index");
    assert!(matches!(refused(Receipt { index: 9, proof: good.proof.clone(), ..other }), NoProof::Path(_)));
    assert!(matches!(refused(Receipt { proof: Vec::new(), ..good.clone() }), NoProof::Path(_)));
    assert_eq!(refused(Receipt { proof: vec!["?".into()], ..good.clone() }), NoProof::Unreadable("proof"));
    assert_eq!(
        refused(Receipt { proof: vec![good.proof[0].clone(); 129], ..good.clone() }),
        NoProof::Unreadable("proof")
    );
    assert_eq!(refused(Receipt { entry: None, ..good.clone() }), NoProof::Unreadable("entry"));
    let note = log.signed(300, 1);
    assert!(matches!(refused(Receipt { checkpoint: Some(note), ..good.clone() }), NoProof::Checkpoint(_)));
    assert!(matches!(refused(Receipt { checkpoint: Some(log.checkpoint(299)), ..good }), NoProof::Path(_)));
}

#[test]
fn a_proof_file_needs_nothing_but_a_key() {
    let log = log();
    let rotations = || vec![log.proof(300, 301)];
    let file = |index| ProofFile::new(&log.keys[1], log.proof(index, 600), rotations());
    for key in &log.keys {
        let json = serde_json::to_string(&file(7)).unwrap();
        let read: ProofFile = serde_json::from_str(&json).unwrap();
        let proven = read.verify(key).unwrap();
        assert_eq!(proven.entry.unwrap().content.kind, Kind::Issued);
    }
    let dropped = file(77).verify(&log.keys[0]).unwrap();
    assert_eq!((dropped.entry, dropped.leaf.index), (None, 77));
    // The key in the file is nobody's word.
    let (_, stranger) = (0, LogKey::ed25519(sample::ORIGIN, &[9; 32]).unwrap());
    let lying = ProofFile { key: stranger.to_string(), ..file(7) };
    assert!(lying.verify(&log.keys[1]).is_ok());
    assert!(matches!(lying.verify(&stranger), Err(NoProof::Checkpoint(_))));
    let newer = ProofFile { format: "ichor-proof/2\u{1b}".into(), ..file(7) };
    assert_eq!(newer.verify(&log.keys[1]), Err(NoProof::Format("ichor-proof/2".into())));
}

#[test]
fn an_older_key_leads_to_the_newer_one_only_through_the_log() {
    let log = log();
    let [first, second] = &log.keys;
    assert_eq!(follow(first, &[log.proof(300, 301)]).unwrap(), [first.clone(), second.clone()]);
    assert_eq!(
        follow(second, &[log.proof(300, 301)]).unwrap(),
        std::slice::from_ref(second),
        "it began behind the change"
    );
    assert_eq!(follow(first, &[log.proof(0, 1), log.proof(7, 300)]).unwrap(), std::slice::from_ref(first));
    let broken = |rotation: EntryProof| matches!(follow(first, &[rotation]), Err(NoProof::Rotation { index: 300, .. }));
    assert!(broken(log.proof(300, 302)), "signed by the key that it brings in");
    assert!(broken(EntryProof { checkpoint: log.signed(300, 0), ..log.proof(300, 301) }), "not in that tree");
    let without = ProofFile::new(second, log.proof(7, 600), Vec::new());
    assert!(matches!(without.verify(first), Err(NoProof::Checkpoint(_))));

    // A change that an entry of another kind names is none, and so is one to another log.
    let change = |new: String| KeyChange { origin: sample::ORIGIN.into(), new, old: Some(first.to_string()) };
    let elsewhere = LogKey::ed25519("elsewhere", &[9; 32]).unwrap();
    for content in [
        Content { log_key: Some(change(second.to_string())), ..Content::of(Kind::Admin) },
        Content { log_key: Some(change(elsewhere.to_string())), ..Content::of(Kind::AuditKey) },
        Content { log_key: Some(change("no key".into())), ..Content::of(Kind::AuditKey) },
    ] {
        let mut log = Log::of(300, 1000, 77);
        log.append(content);
        let refused = follow(first, &[log.proof(300, 301)]);
        assert!(matches!(refused, Err(NoProof::Rotation { index: 300, .. })), "{refused:?}");
    }
}

/// The whole log as one export: both checkpoints ahead, as a broker writes it.
fn export(log: &Log) -> Vec<u8> {
    let checkpoints = [301, 600].map(|size| Log::exported(&log.checkpoint(size))).concat();
    [log.export(0..0), checkpoints, log.export(0..log.size())].concat()
}

fn verdict(log: &Log, export: &[u8]) -> Result<Verdict, Fault> {
    verify(export, &log.keys[0], &[])
}

fn said(result: Result<Verdict, Fault>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_whole_log_verifies_from_its_first_key_across_the_change() {
    let log = log();
    let verdict = verdict(&log, &export(&log)).unwrap();
    assert_eq!((verdict.entries, verdict.dropped, verdict.uncovered, verdict.others), (600, 1, 0, 0));
    assert_eq!((verdict.checkpoint.size(), verdict.key), (600, log.keys[1].clone()));
    // With the newest key alone, what the first signed is passed over.
    let newest = verify(&export(&log)[..], &log.keys[1], &[]).unwrap();
    assert_eq!((newest.checkpoint.size(), newest.others), (600, 1));
    // Pages one behind the other, each with the newest checkpoint of its time.
    let page =
        |entries: std::ops::Range<u64>, size| [Log::exported(&log.checkpoint(size)), log.export(entries)].concat();
    let pages = [page(0..250, 301), page(250..301, 301), page(301..590, 600), page(590..600, 600)].concat();
    let paged = super::verify::verify(&pages[..], &log.keys[0], &[]).unwrap();
    assert_eq!((paged.checkpoint.size(), paged.others), (600, 0));
    // What no checkpoint covers yet is counted, not vouched for.
    let early = [Log::exported(&log.checkpoint(301)), log.export(0..400)].concat();
    let early = super::verify::verify(&early[..], &log.keys[0], &[]).unwrap();
    assert_eq!((early.checkpoint.size(), early.uncovered), (301, 99));
}

#[test]
fn the_first_entry_that_does_not_fit_is_named() {
    let log = log();
    let good = export(&log);
    let find = |bytes: &[u8]| good.windows(bytes.len()).position(|window| window == bytes).unwrap();
    let with = |position: usize, by: u8| {
        let mut changed = good.clone();
        changed[position] ^= by;
        said(verdict(&log, &changed))
    };
    // A bit of a body, of a hash, of a leaf record that stands for a dropped body.
    let body = find(&log.entries[8]);
    assert_eq!(with(body + 30, 1), "entry 8 does not fit: the log's tree has another one in its place");
    let hash = find(&log.leaf_hash(9));
    assert_eq!(with(hash, 128), "entry 9 does not fit: the log's tree has another one in its place");
    let leaf = find(&log.leaves[77]);
    assert_eq!(with(leaf + 40, 1), "entry 77 does not fit: the log's tree has another one in its place");
    assert!(with(leaf + 5, 1).starts_with("entry 77 does not fit: "));
    assert!(with(body + 1, 0x40).starts_with("entry 8 does not fit: "), "no longer an entry");

    // Rewritten with hashes that agree: the checkpoints tell between which two it lies.
    let mut forged = Log::of(350, 300, 77);
    forged.append(Content::of(Kind::Start));
    let checkpoints = [301, 600].map(|size| Log::exported(&log.checkpoint(size))).concat();
    let rest = log.export(351..600);
    let rewritten = [log.export(0..0), checkpoints, forged.export(0..351), rest].concat();
    assert_eq!(
        said(verdict(&log, &rewritten)),
        "the log does not fit its checkpoint of 600 entries: one from 301 to 599 was changed"
    );
}

#[test]
fn what_is_missing_or_in_another_order_is_found() {
    let log = log();
    let checkpoints = [301, 600].map(|size| Log::exported(&log.checkpoint(size))).concat();
    let of = |parts: &[Vec<u8>]| said(verdict(&log, &[checkpoints.clone(), parts.concat()].concat()));
    assert_eq!(
        of(&[log.export(0..590)]),
        "the log ends at 590 entries, but a checkpoint says it had 600: entry 590 and what follows is missing"
    );
    assert_eq!(of(&[log.export(0..50), log.export(51..600)]), "the export goes on at entry 51; entry 50 is missing");
    assert_eq!(of(&[log.export(0..50), log.export(49..600)]), "the export goes on at entry 49; entry 50 is missing");
    let bare =
        |range: std::ops::Range<u64>| log.export(range.clone())[log.export(range.start..range.start).len()..].to_vec();
    let unnamed = |a, b| of(&[log.export(0..a), bare(b)]);
    assert_eq!(unnamed(50, 51..600), "entry 50 does not fit: the log's tree has another one in its place");
    assert!(
        unnamed(70, 77..600).contains("in its place stands the leaf record of entry 77"),
        "a leaf record elsewhere"
    );

    // A log cut together with its checkpoint shows only against one that was kept elsewhere.
    let cut = [Log::exported(&log.checkpoint(301)), log.export(0..301)].concat();
    assert!(verify(&cut[..], &log.keys[0], &[]).is_ok());
    let kept = [log.checkpoint(600)];
    assert!(matches!(verify(&cut[..], &log.keys[0], &kept), Err(Fault::Cut { entries: 301, size: 600 })));
    // the key that signed it is one that the log leads to, and it may be met before that is known
    assert!(verify(&export(&log)[..], &log.keys[0], &kept).is_ok());
    assert!(verify(&export(&log)[..], &log.keys[0], &[log.signed(17, 1)]).is_ok());
    let mut other = Log::of(16, 1000, 77);
    other.append(Content::of(Kind::Admin));
    let refused = verify(&export(&log)[..], &log.keys[0], &[other.signed(17, 0)]);
    assert!(matches!(refused, Err(Fault::Root { size: 17, since: 0 })), "{refused:?}");
    let refused = verify(&export(&log)[..], &log.keys[1], &[log.signed(17, 0)]);
    assert!(matches!(refused, Err(Fault::Stranger { size: 17 })), "{refused:?}");
}

#[test]
fn a_body_is_absent_only_where_a_signed_entry_behind_it_says_so() {
    let numbers = |numbers: &[u64]| Some(numbers.to_vec());
    let drop_of = |at: &[u64]| Content { dropped: numbers(at), ..Content::of(Kind::BodyDropped) };
    let with = |last: Content, covered: u64| {
        let mut log = Log::of(80, 300, 77);
        log.append(last);
        log.append(Content::of(Kind::Start));
        verdict(&log, &[Log::exported(&log.checkpoint(covered)), log.export(0..82)].concat())
    };
    assert_eq!(with(drop_of(&[77, 1]), 82).unwrap().dropped, 1);
    assert_eq!(with(drop_of(&[70, 9]), 82).unwrap().dropped, 1, "others were read before they were dropped");
    let missing = "entry 77 has no body, and no signed entry behind it says that it was dropped";
    assert_eq!(said(with(drop_of(&[77, 1]), 80)), missing, "nobody signed that it was dropped");
    for at in [&[76, 1][..], &[78, 1], &[]] {
        assert_eq!(said(with(drop_of(at), 82)), missing, "{at:?}");
    }
    assert_eq!(said(with(Content { dropped: numbers(&[77, 1]), ..Content::of(Kind::Admin) }, 82)), missing);

    // An entry says nothing of what comes behind it, whatever it says of what came before: 3 is explained, 72 is not.
    let mut log = Log::of(70, 300, 200);
    log.append(drop_of(&[3, 1, 68, 1]));
    for _ in 0..3 {
        log.append(Content::of(Kind::Start));
    }
    log.dropped = 3;
    let first = log.export(0..10);
    log.dropped = 72;
    let early = verdict(&log, &[Log::exported(&log.checkpoint(74)), first, log.export(10..74)].concat());
    assert!(matches!(early, Err(Fault::NoBody { index: 72 })), "{early:?}");
}

#[test]
fn only_a_believed_key_vouches() {
    let log = log();
    let with = |notes: &[String]| {
        let notes: Vec<u8> = notes.iter().flat_map(|note| Log::exported(note)).collect();
        verdict(&log, &[notes, log.export(0..600)].concat())
    };
    assert!(matches!(with(&[]), Err(Fault::Unsigned(_))));
    // Without the checkpoint that the first key signed over the change, the second is a stranger.
    assert!(matches!(with(&[log.signed(600, 1)]), Err(Fault::Unsigned(_))));
    assert!(
        matches!(with(&[log.signed(300, 0), log.signed(600, 1)]), Ok(Verdict { others: 1, .. })),
        "not yet covered"
    );
    assert!(with(&[log.signed(301, 1), log.signed(301, 0), log.signed(600, 1)]).unwrap().others == 0);
    let broken = log.checkpoint(301).replace("\n301\n", "\n302\n");
    assert!(matches!(with(&[broken]), Err(Fault::Checkpoint(_))), "a signature that is not valid is no stranger's");
    assert!(matches!(with(&["no note".into()]), Err(Fault::Checkpoint(_))));
    let late = [log.export(0..600), Log::exported(&log.checkpoint(301))].concat();
    assert!(matches!(verdict(&log, &late), Err(Fault::Late { size: 301, after: 600 })));
}

#[test]
fn an_export_is_read_in_pieces_of_any_size() {
    struct Pieces<'a>(&'a [u8], usize);
    impl std::io::Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = self.0.len().min(self.1).min(buffer.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }
    let log = Log::of(20, 9, 7);
    let export = [log.export(0..20), Log::exported(&log.checkpoint(20))].concat();
    let read = |piece| {
        let mut reader = Reader::new(Pieces(&export, piece));
        let mut kinds = String::new();
        while let Some(item) = reader.item().unwrap() {
            kinds.push(match item {
                Item::Begin { first: 0 } => 'b',
                Item::Begin { .. } => '?',
                Item::Entry { .. } => 'e',
                Item::Dropped { .. } => 'd',
                Item::Checkpoint(_) => 'c',
            });
        }
        kinds
    };
    for piece in [1, 7, 100, 1_000_000] {
        assert_eq!(read(piece), "beeeeeeedeeeeeeeeeeeec");
    }
    for end in (1..export.len()).step_by(61) {
        let mut reader = Reader::new(&export[..end]);
        let read = loop {
            match reader.item() {
                Ok(Some(_)) => {}
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let between = Reader::new(&export[end..]).item().is_ok();
        assert!(between || matches!(read, Err(ReadError::Damaged { .. })), "cut at {end}: {read:?}");
    }
}

#[test]
fn what_is_no_export_is_refused_where_it_begins() {
    let refused = |bytes: &[u8]| Reader::new(bytes).item().unwrap_err().to_string();
    assert_eq!(refused(b"{\"index\":0}"), "the export is damaged at byte 0: what stands there is no item of an export");
    assert_eq!(refused(&[0x83]), "the export is damaged at byte 0: it ends within an item");
    let mut other = Vec::new();
    export::write_begin(&mut other, 0);
    let at = other.iter().position(|byte| *byte == b'1').unwrap();
    other[at] = b'2';
    assert!(refused(&other).contains("another format"));
    assert!(refused(&[0x82, 3, 0x7a, 0xff, 0xff, 0xff, 0xff]).contains("longer than any may be"));
    assert!(refused(&[0x82, 3, 0x7f]).contains("no definite length"));
    assert!(refused(&[0x83, 1, 0x41, 7, 0x40]).contains("a hash has not 32 bytes"));
    assert!(refused(&[0x82, 3, 0x61, 0xff]).contains("no text"));
    let mut note = Vec::new();
    write_checkpoint(&mut note, "");
    assert_eq!(Reader::new(&note[..]).item().unwrap(), Some(Item::Checkpoint("")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn one_flipped_bit_of_an_export_is_found(position in any::<usize>(), bit in 0u8..8) {
        let log = Log::of(40, 20, 7);
        let good = [Log::exported(&log.checkpoint(21)), Log::exported(&log.checkpoint(40)), log.export(0..40)].concat();
        let read = verdict(&log, &good).unwrap();
        let mut changed = good.clone();
        let position = position % changed.len();
        changed[position] ^= 1 << bit;
        // The em dash of a signature line and the like may name another signer: then that checkpoint counts for nothing.
        if let Ok(verdict) = verdict(&log, &changed) {
            prop_assert_ne!(verdict, read);
        }
    }

    #[test]
    fn any_bytes_are_an_export_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut reader = Reader::new(&bytes[..]);
        while let Ok(Some(_)) = reader.item() {}
        let mut reader = Reader::new(&bytes[..]);
        prop_assert!(std::iter::from_fn(|| reader.item().ok().flatten().map(|_| ())).count() <= bytes.len());
    }

    #[test]
    fn one_flipped_bit_of_a_receipt_proves_nothing(which in 0usize..4, position in any::<usize>(), bit in 0u8..8) {
        let log = Log::of(40, 20, 7);
        let good = receipt(&log, 12, 15);
        let flip = |text: &str| {
            let mut bytes = text.to_owned().into_bytes();
            let position = position % bytes.len();
            bytes[position] ^= 1 << bit;
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let mut changed = good.clone();
        match which {
            0 => changed.leaf_hash = flip(&good.leaf_hash),
            1 => changed.entry = good.entry.as_deref().map(flip),
            2 => changed.proof[position % good.proof.len()] = flip(&good.proof[position % good.proof.len()]),
            _ => changed.checkpoint = good.checkpoint.as_deref().map(flip),
        }
        prop_assert!(changed.verify(&log.keys[0]).is_err(), "{changed:?}");
    }
}
