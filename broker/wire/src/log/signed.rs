//! Keys, notes and checkpoints against known ones, and against some that are nearly right.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use proptest::prelude::*;

use super::note::{Note, NoteError};
use super::*;

/// The key and note of the documentation of golang.org/x/mod/sumdb/note.
const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const NOTE: &str = "If you think cryptography is the answer to your problem,\n\
    then you don't know what your problem is.\n\n\
    \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

const ORIGIN: &str = "ichor.example.com/audit";

fn pair(seed: u8) -> (Ed25519KeyPair, LogKey) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let key = LogKey::ed25519(ORIGIN, pair.public_key().as_ref()).unwrap();
    (pair, key)
}

fn signed(seed: u8, size: u64) -> (String, LogKey) {
    let (pair, key) = pair(seed);
    let checkpoint = Checkpoint::new(&key, size, [9; 32]);
    let signature = pair.sign(checkpoint.unsigned_text().as_bytes());
    (checkpoint.signed(&key, signature.as_ref()).unwrap(), key)
}

#[test]
fn a_note_and_a_key_of_gos_documentation_are_read() {
    let peter: LogKey = PETER.parse().unwrap();
    assert_eq!((peter.name(), peter.id(), peter.to_string()), ("PeterNeumann", 0xc74f_20a3, PETER.into()));
    let note = Note::parse(NOTE).unwrap();
    assert_eq!(note.verify(&peter), Ok(()));
    assert!(note.text().ends_with("your problem is.\n"));
    let (_, other) = pair(1);
    assert!(matches!(note.verify(&other), Err(NoteError::Unsigned(_))));
    let changed = NOTE.replace("answer", "Answer");
    assert!(matches!(Note::parse(&changed).unwrap().verify(&peter), Err(NoteError::BadSignature(_))));
    let go = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";
    assert_eq!(go.parse::<LogKey>().unwrap().to_string(), go, "a `+` within the base64");
}

#[test]
fn a_signed_checkpoint_comes_back() {
    let (note, key) = signed(1, 4711);
    assert!(note.starts_with("ichor.example.com/audit\n4711\nCQkJ"), "{note}");
    let checkpoint = Checkpoint::parse_and_verify(&note, &key).unwrap();
    assert_eq!((checkpoint.origin(), checkpoint.size(), checkpoint.root()), (ORIGIN, 4711, &[9; 32]));
    assert_eq!(Checkpoint::parse_unverified(&note), Ok(checkpoint));
    // A witness that signs too, before or behind, takes nothing away.
    let (text, signature) = note.split_once("\n\n").unwrap();
    let witness = "\u{2014} witness.example AAAAAAAA\n";
    for both in [format!("{text}\n\n{witness}{signature}"), format!("{note}{witness}")] {
        assert!(Checkpoint::parse_and_verify(&both, &key).is_ok());
    }
}

#[test]
fn a_checkpoint_is_signed_by_its_own_logs_key_over_its_own_bytes() {
    let ((pair, key), (_, other)) = (pair(1), pair(2));
    let checkpoint = Checkpoint::new(&key, 3, [1; 32]);
    let good = pair.sign(checkpoint.unsigned_text().as_bytes());
    assert!(checkpoint.signed(&key, good.as_ref()).is_ok());
    let bad = |note: Result<String, _>| matches!(note, Err(CheckpointError::Note(NoteError::BadSignature(_))));
    assert!(bad(checkpoint.signed(&other, good.as_ref())), "another key");
    assert!(bad(checkpoint.signed(&key, pair.sign(b"else").as_ref())), "other bytes");
    assert!(bad(checkpoint.signed(&key, b"short")));
    let elsewhere = LogKey::ed25519("elsewhere", key.public()).unwrap();
    assert!(matches!(checkpoint.signed(&elsewhere, good.as_ref()), Err(CheckpointError::OtherLog { .. })));

    let (note, _) = signed(1, 3);
    let unsigned = |refused| matches!(refused, Err(CheckpointError::Note(NoteError::Unsigned(_))));
    assert!(unsigned(Checkpoint::parse_and_verify(&note, &other)));
    assert_eq!(
        Checkpoint::parse_and_verify(&note, &elsewhere).unwrap_err().to_string(),
        "the checkpoint is of the log `ichor.example.com/audit`, not of `elsewhere`"
    );
}

#[test]
fn nearly_right_checkpoints_are_refused() {
    let (pair, key) = pair(1);
    let signed = |text: &str| {
        let signature = pair.sign(text.as_bytes());
        let note = format!("{text}\n{}", note::signature_line(&key, signature.as_ref()));
        Checkpoint::parse_and_verify(&note, &key)
    };
    let root = "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=";
    assert!(signed(&format!("{ORIGIN}\n7\n{root}\n")).is_ok());
    assert!(signed(&format!("{ORIGIN}\n7\n{root}\nwhat others add\n")).is_ok());
    for text in [
        format!("{ORIGIN}\n"),
        format!("{ORIGIN}\n7\n"),
        format!("\n7\n{root}\n"),
        format!("{ORIGIN}\n07\n{root}\n"),
        format!("{ORIGIN}\n+7\n{root}\n"),
        format!("{ORIGIN}\n-7\n{root}\n"),
        format!("{ORIGIN}\n18446744073709551616\n{root}\n"),
        format!("{ORIGIN}\n7\n{}\n", &root[4..]),
        format!("{ORIGIN}\n7\n{}\n", root.trim_end_matches('=')),
        format!("{ORIGIN}\n7\n{root}\n\nmore\n"),
    ] {
        assert!(matches!(signed(&text), Err(CheckpointError::Malformed(_))), "{text}");
    }
}

#[test]
fn nearly_right_notes_are_refused() {
    let (good, _) = signed(1, 7);
    let text = good.split_once("\n\n").unwrap().0;
    for wrong in [
        String::new(),
        "\n\n".into(),
        text.to_owned(),
        format!("{text}\n"),
        format!("{text}\n\n"),
        good.trim_end().to_owned(),
        good.replace('\u{2014}', "-"),
        good.replace("\u{2014} ", "\u{2014}"),
        good.replace("audit", "aud\tit"),
        format!("{good}\n"),
        format!("{good}\u{2014} witness AAAA\n"),
        format!("{good}\u{2014} wit+ness AAAAAAAA\n"),
        format!("{good}\u{2014}  AAAAAAAA\n"),
        format!("{text}\n\n{}", "\u{2014} w AAAAAAAA\n".repeat(101)),
        format!("{}{good}", "x".repeat(note::MAX_NOTE)),
    ] {
        assert!(matches!(Note::parse(&wrong), Err(NoteError::Malformed(_))), "{wrong:.200}");
    }
}

#[test]
fn a_key_with_a_typing_error_is_refused() {
    for (wrong, error) in [
        ("PeterNeumann", LogKeyError::Form),
        ("PeterNeumann+c74f20a3", LogKeyError::Form),
        ("PeterNeumann+c74f20a+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", LogKeyError::Form),
        ("PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", LogKeyError::Form),
        ("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10T", LogKeyError::Form),
        ("Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", LogKeyError::Name),
        ("+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", LogKeyError::Name),
        ("PeterNeumann+c74f20a3+Ahpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", LogKeyError::Type),
        ("PeterNeumann+c74f20a3+ARpc", LogKeyError::Type),
    ] {
        assert_eq!(wrong.parse::<LogKey>(), Err(error), "{wrong}");
    }
    let swapped = PETER.replace("Peter", "Petra");
    assert!(matches!(swapped.parse::<LogKey>(), Err(LogKeyError::Id { found: 0xc74f_20a3, .. })));
    assert_eq!(LogKey::ed25519(&"x".repeat(256), &[1; 32]), Err(LogKeyError::Name));
}

proptest! {
    #[test]
    fn any_text_is_a_note_or_none(text in "(a\n){0,3}\n?(\u{2014} [a+ ]{0,3} [A-Za-z0-9+/=]{0,12}\n){0,3}") {
        if let Ok(note) = Note::parse(&text) {
            prop_assert!(text.starts_with(note.text()) && note.text().ends_with('\n'));
        }
        let _ = Checkpoint::parse_unverified(&text);
    }

    #[test]
    fn one_flipped_bit_of_a_checkpoint_is_found(at in any::<usize>(), bit in 0u8..8) {
        let (note, key) = signed(1, 4711);
        let mut changed = note.clone().into_bytes();
        let at = at % changed.len();
        changed[at] ^= 1 << bit;
        if let Ok(changed) = String::from_utf8(changed) {
            prop_assert!(Checkpoint::parse_and_verify(&changed, &key).is_err(), "{changed}");
        }
    }
}
