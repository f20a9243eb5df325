//! The test vectors in `tests/vectors/audit`, which `docs/audit.md` describes: a log of 300 entries, whole. They are what this
//! build writes; to write them anew, when something was added: `ICHOR_WRITE_VECTORS=1 cargo test -p ichor-wire published`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::proof::printed;
use super::sample::{Log, at};
use super::tiles::{TilePath, bundle};
use super::tree::{MAX_LEVEL, Tile};
use super::*;
use crate::api::{EntryProof, ProofFile, Receipt};

const SIZE: u64 = 300;

/// Every file, by its path.
fn files() -> BTreeMap<String, Vec<u8>> {
    let log = Log::of(SIZE, 200, 77);
    let mut files = BTreeMap::new();
    let mut put = |name: String, bytes: Vec<u8>| assert!(files.insert(name, bytes).is_none());
    for (number, key) in log.keys.iter().enumerate() {
        put(format!("key-{}", number + 1), format!("{key}\n").into());
    }
    let sizes = [1, 2, 78, 200, 201, 202, 256, 257, SIZE];
    for size in sizes {
        put(format!("checkpoint-{size}"), log.checkpoint(size).into());
    }
    put("checkpoint".into(), log.checkpoint(SIZE).into());

    let pairs = sizes.iter().flat_map(|from| sizes.iter().map(move |to| (*from, *to))).filter(|(from, to)| from < to);
    let growth: Vec<_> = pairs
        .map(|(from, to)| {
            let proof = printed(&log.prover(to).consistency(from).unwrap());
            serde_json::json!({ "from": from, "to": to, "proof": proof })
        })
        .collect();
    put("consistency.json".into(), json(&growth));
    let receipts: Vec<Receipt> =
        [(0, 1), (0, SIZE), (1, 2), (199, 200), (200, 201), (201, 202), (255, 256), (256, 257), (299, SIZE)]
            .map(|(index, size)| {
                let path = log.prover(size).inclusion(index).unwrap();
                Receipt::pending(index, &log.leaf_hash(index)).with_proof(
                    &log.entries[at(index)],
                    &path,
                    log.checkpoint(size),
                )
            })
            .into();
    put("receipts.json".into(), json(&receipts));
    let rotations: Vec<EntryProof> = vec![log.proof(200, 201)];
    for index in [3, 77, 200, 299] {
        let file = ProofFile::new(&log.keys[1], log.proof(index, SIZE), rotations.clone());
        put(format!("proof-{index}.json"), json(&file));
    }

    let ahead = [201, SIZE].map(|size| Log::exported(&log.checkpoint(size))).concat();
    put("export.cbor".into(), [log.export(0..0), ahead, log.export(0..SIZE)].concat());

    for level in 0..=MAX_LEVEL {
        for tile in (0..2).filter_map(|index| Tile::of(level, index, SIZE)) {
            put(TilePath::Hashes(tile).to_string(), log.tile(tile).concat());
        }
    }
    for tile in (0..2).filter_map(|index| Tile::of(0, index, SIZE)) {
        let first = at(tile.index * 256);
        let leaves = log.leaves[first..first + usize::from(tile.width)].iter().map(Vec::as_slice);
        put(TilePath::Entries(tile).to_string(), bundle(leaves).unwrap());
    }
    files
}

/// As text that people can read, with a line's end behind it.
fn json(value: &impl serde::Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).unwrap();
    text.push(b'\n');
    text
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/audit")
}

fn found(folder: &Path, below: &str, into: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder.join(below)).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{below}{}", entry.file_name().into_string().unwrap());
        match entry.file_type().unwrap().is_dir() {
            true => found(folder, &format!("{name}/"), into),
            false => {
                let bytes = std::fs::read(entry.path()).unwrap();
                into.insert(name, bytes);
            }
        }
    }
}

#[test]
fn the_published_log_is_what_this_build_writes() {
    let fresh = files();
    #[expect(clippy::disallowed_methods, reason = "a switch for people, not for the tests")]
    if std::env::var_os("ICHOR_WRITE_VECTORS").is_some() {
        for (name, bytes) in &fresh {
            let path = folder().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }
    let mut committed = BTreeMap::new();
    found(&folder(), "", &mut committed);
    assert_eq!(committed.keys().collect::<Vec<_>>(), fresh.keys().collect::<Vec<_>>());
    for (name, bytes) in &fresh {
        assert!(committed[name] == *bytes, "{name} is not what this build writes; published vectors never change");
    }
}

#[test]
fn the_published_log_verifies() {
    let read = |name: &str| std::fs::read(folder().join(name)).unwrap();
    let key = |name: &str| -> LogKey { String::from_utf8(read(name)).unwrap().parse().unwrap() };
    let verdict = verify(&read("export.cbor")[..], &key("key-1"), &[]).unwrap();
    assert_eq!((verdict.entries, verdict.dropped, verdict.key), (SIZE, 1, key("key-2")));
    for name in ["proof-3.json", "proof-77.json", "proof-200.json", "proof-299.json"] {
        let file: ProofFile = serde_json::from_slice(&read(name)).unwrap();
        assert!(file.verify(&key("key-1")).is_ok() && file.verify(&key("key-2")).is_ok(), "{name}");
    }
}

#[test]
fn the_page_names_every_key_and_every_kind() {
    let page = include_str!("../../../../docs/audit.md");
    for kind in Kind::ALL {
        let cell = format!("| {} | {} |", kind.number(), kind.as_str());
        assert!(page.contains(&cell), "docs/audit.md lacks `{cell}`");
    }
    let (_, keys) = page.split_once("The content's keys.").unwrap();
    let (keys, _) = keys.split_once("| number | kind |").unwrap();
    let rows: Vec<&str> = keys.lines().filter_map(|row| row.strip_prefix("| ")?.split(" |").next()).collect();
    let (_, fields) = include_str!("mod.rs").split_once("pub struct Content {").unwrap();
    let (fields, _) = fields.split_once("\n}\n").unwrap();
    let numbers: Vec<&str> = fields.split("n(").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!(numbers.len() > 40, "{numbers:?}");
    assert_eq!(rows[1..], numbers, "docs/audit.md names other keys than an entry's content has");
}
