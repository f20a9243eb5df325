//! The format against its committed vectors, and against encodings that are nearly right.

use std::collections::BTreeMap;
use std::path::PathBuf;

use data_encoding::HEXLOWER;
use proptest::prelude::*;

use super::*;
use crate::api::AuditEntry;

/// 2026-11-22T12:00:00.000001Z.
const TIME: i64 = 1_795_348_800_000_001;

fn entry(content: Content) -> Entry {
    Entry { version: 1, id: (0..16).collect(), time: TIME, salt: (16..32).collect(), broker: "test".into(), content }
}

/// An entry in which no field of the first build is absent.
fn full() -> Entry {
    let text = |text: &str| Some(text.to_owned());
    entry(Content {
        kind: Kind::Issued,
        person: Some(Person {
            provider: "corp".into(),
            issuer: "https://id.example.com".into(),
            subject: "8d3c1f0a".into(),
            name: "Åda Lovelace".into(),
            user: "ada".into(),
        }),
        cluster: text("prod"),
        grant: Some(vec![3; 16]),
        session: Some(vec![4; 16]),
        address: text("2001:db8::7"),
        roles: Some(vec!["os:admin".into(), "os:reader".into()]),
        not_after: Some(1_795_352_400),
        reason: text("INC-4711"),
        policies: Some(vec!["admin-prod".into()]),
        code: text("refused"),
        serial: Some(vec![0x7f, 0, 1]),
        fingerprint: Some(vec![12; 32]),
        public_key: Some(vec![13; 32]),
        count: Some(1000),
        // In the order of their encoded keys: `b` before `aa`, which is not the order of the texts.
        digests: Some(BTreeMap::from([("aa".into(), "00".into()), ("b".into(), "ff".into())])),
        os_user: text("root"),
        host: text("broker-1"),
        message: text("one sentence"),
        mode: text("direct"),
        policy_digest: Some(vec![20; 32]),
        key_made_by: None,
        log_key: None,
        old_head: None,
        dropped: None,
        drop_request: None,
        calls: None,
        lines: None,
        node: None,
        method: None,
        break_glass: None,
        contents: None,
        quorum: None,
        approvers: None,
        nodes: None,
        ticket: None,
        requester: None,
        label: None,
        lock: None,
        locked: None,
        locked_user: None,
        locked_session: None,
        locked_until: None,
        kit: None,
        witnesses: None,
        shares: None,
        claimed: None,
        kit_label: None,
        challenge: None,
        opened: None,
        accepting: None,
        self_service: None,
        told: None,
        life: None,
        uses: None,
        by_account: None,
        channel: None,
        auth_time: None,
        acr: None,
        node_calls: None,
    })
}

/// A key of the log, and the one after it.
fn keys() -> [LogKey; 2] {
    [1, 2].map(|byte| LogKey::ed25519("ichor.example.com/audit", &[byte; 32]).unwrap())
}

/// The key of the log changes.
fn rotated() -> Content {
    let [old, new] = keys();
    let change = KeyChange { origin: old.name().into(), new: new.to_string(), old: Some(old.to_string()) };
    Content { log_key: Some(change), ..Content::of(Kind::AuditKey) }
}

/// A log was opened in place of another.
fn reopened() -> Content {
    let [_, key] = keys();
    Content {
        log_key: Some(KeyChange { origin: key.name().into(), new: key.to_string(), old: None }),
        old_head: Some(OldHead { origin: "ichor.example.com/before".into(), size: 4711, root: vec![23; 32] }),
        ..Content::of(Kind::LogOpened)
    }
}

/// What came later, each in a vector of its own: the others stay as they are.
fn later() -> Vec<(String, Entry, u64)> {
    let made = Content { key_made_by: Some("cluster".into()), ..Content::of(Kind::Issued) };
    let dropped = Content {
        count: Some(3),
        dropped: Some(vec![5, 2, 3, 1]),
        drop_request: Some(vec![27; 16]),
        ..Content::of(Kind::BodyDropped)
    };
    let kept = Content {
        cluster: Some("prod".into()),
        count: Some(3),
        calls: Some(vec![28; 32]),
        lines: Some(vec![29; 32]),
        ..Content::of(Kind::NodeLog)
    };
    let of_node = |node: &str, count, byte| NodeCalls { node: node.into(), count, calls: vec![byte; 32] };
    let by_node =
        Content { node_calls: Some(vec![of_node("cp-1", 2, 64), of_node("worker-1", 1, 65)]), ..kept.clone() };
    let alarm = Content {
        cluster: Some("prod".into()),
        code: Some("suspect".into()),
        count: Some(1),
        message: Some("one sentence".into()),
        node: Some("cp-1".into()),
        method: Some("/machine.MachineService/Reboot".into()),
        ..Content::of(Kind::NodeAlarm)
    };
    let asked = Content {
        cluster: Some("prod".into()),
        break_glass: Some(vec![32; 16]),
        contents: Some(vec![33; 32]),
        quorum: Some(2),
        nodes: Some(vec!["cp-1".into()]),
        ticket: Some("https://tickets.example.com/INC-42".into()),
        ..Content::of(Kind::BreakGlassRequest)
    };
    let granted = Content {
        break_glass: Some(vec![32; 16]),
        contents: Some(vec![33; 32]),
        quorum: Some(2),
        approvers: Some(vec!["ada".into(), "bob".into()]),
        ..Content::of(Kind::Grant)
    };
    let reviewed = Content {
        break_glass: Some(vec![32; 16]),
        requester: Some("cleo".into()),
        label: Some("drill".into()),
        ..Content::of(Kind::BreakGlassReview)
    };
    let on_a_page = Content {
        break_glass: Some(vec![32; 16]),
        contents: Some(vec![33; 32]),
        channel: Some("page".into()),
        auth_time: Some(1_795_348_790),
        acr: Some("urn:example:mfa".into()),
        ..Content::of(Kind::BreakGlassApproval)
    };
    let alone = Content {
        cluster: Some("prod".into()),
        break_glass: Some(vec![32; 16]),
        contents: Some(vec![33; 32]),
        self_service: Some(true),
        ..Content::of(Kind::BreakGlassRequest)
    };
    let told = Content {
        cluster: Some("prod".into()),
        break_glass: Some(vec![32; 16]),
        contents: Some(vec![33; 32]),
        requester: Some("cleo".into()),
        self_service: Some(true),
        told: Some("pager".into()),
        ..Content::of(Kind::BreakGlassTold)
    };
    let timed =
        Content { life: Some(1800), uses: Some(2), quorum: Some(2), ..Content { self_service: None, ..alone.clone() } };
    let holder = |name: &str, recipient: Option<&str>, seed| KitHolder {
        name: name.into(),
        recipient: recipient.map(Into::into),
        commitment: vec![seed; 32],
        proof_key: vec![seed + 1; 32],
    };
    let kit = Content {
        cluster: Some("prod".into()),
        roles: Some(vec!["os:admin".into()]),
        witnesses: Some(vec!["Ada Lovelace".into(), "Grace Hopper".into()]),
        kit: Some(Kit {
            number: 7,
            id: Some(vec![47; 16]),
            ca: Some(vec![0x30, 0x03, 0x02, 0x01, 0x07]),
            until: Some(1_826_884_800),
            threshold: Some(2),
            ttl_cap: Some(3600),
            holders: Some(vec![holder("ada", Some("age1qq"), 1), holder("bob", None, 3)]),
            file: Some(vec![48; 32]),
            replaces: Some(6),
            certificate: None,
            user: None,
            cluster_ca: None,
            endpoints: None,
            leads_to: None,
        }),
        ..Content::of(Kind::KitMade)
    };
    let made_with_endpoints = Content {
        cluster: Some("prod".into()),
        kit: Some(Kit {
            number: 9,
            id: Some(vec![45; 16]),
            cluster_ca: Some(vec![11; 32]),
            endpoints: Some(vec![12; 32]),
            leads_to: Some(vec!["10.0.0.5".into(), "[fd00::5]:50000".into()]),
            ..Kit::default()
        }),
        ..Content::of(Kind::KitMade)
    };
    let made_static = Content {
        cluster: Some("prod".into()),
        kit: Some(Kit {
            number: 8,
            id: Some(vec![46; 16]),
            certificate: Some(vec![0x30, 0x03, 0x02, 0x01, 0x08]),
            user: Some("kit-8".into()),
            ..Kit::default()
        }),
        ..Content::of(Kind::KitMade)
    };
    let opened = Content {
        grant: Some(vec![3; 16]),
        kit: Some(Kit { number: 7, id: Some(vec![47; 16]), ..Kit::default() }),
        shares: Some(vec![1, 2]),
        claimed: Some("ada".into()),
        kit_label: Some("emergency".into()),
        opened: Some(1_795_348_800),
        ..Content::of(Kind::KitOpened)
    };
    let drill = Content {
        kit: Some(Kit { number: 7, id: Some(vec![47; 16]), ..Kit::default() }),
        shares: Some(vec![1, 2]),
        challenge: Some(vec![52; 32]),
        accepting: Some((2, 3)),
        ..Content::of(Kind::KitDrill)
    };
    let locked = Content {
        lock: Some(vec![40; 16]),
        locked: Some("user".into()),
        locked_user: Some(("https://id.example.com".into(), "8d3c1f0a".into())),
        locked_until: Some(1_795_352_400),
        reason: Some("lost laptop".into()),
        ..Content::of(Kind::Lock)
    };
    let locked_session = Content {
        lock: Some(vec![41; 16]),
        locked: Some("session".into()),
        locked_session: Some(vec![43; 16]),
        os_user: Some("root".into()),
        host: Some("broker-1".into()),
        ..Content::of(Kind::Lock)
    };
    let asked_to_unlock =
        Content { lock: Some(vec![42; 16]), locked: Some("everything".into()), ..Content::of(Kind::UnlockAsked) };
    let unlocked = Content {
        lock: Some(vec![42; 16]),
        locked: Some("everything".into()),
        requester: Some("ada".into()),
        ..Content::of(Kind::Unlock)
    };
    vec![
        ("lock-of-a-user".into(), entry(locked), 44),
        ("lock-of-a-session-on-the-host".into(), entry(locked_session), 43),
        ("unlock-of-everything-asked".into(), entry(asked_to_unlock), 41),
        ("unlock-of-everything".into(), entry(unlocked), 41),
        ("kit-made-with-its-facts".into(), entry(kit), 47),
        ("kit-made-static".into(), entry(made_static), 47),
        ("kit-made-with-where-it-leads".into(), entry(made_with_endpoints), 47),
        ("kit-opened-and-reported".into(), entry(opened), 53),
        ("kit-drill-proved".into(), entry(drill), 54),
        ("issued-key-made-by-cluster".into(), entry(made), 21),
        ("audit-key-rotated".into(), entry(rotated()), 22),
        ("log-opened-after-restore".into(), entry(reopened()), 23),
        ("body-dropped-three".into(), entry(dropped), 26),
        ("node-log-of-three".into(), entry(kept), 28),
        ("node-log-of-two-nodes".into(), entry(by_node), 64),
        ("node-alarm-suspect".into(), entry(alarm), 30),
        ("break-glass-request-of-two".into(), entry(asked), 32),
        ("grant-by-approval".into(), entry(granted), 35),
        ("break-glass-review-drill".into(), entry(reviewed), 39),
        ("break-glass-request-alone".into(), entry(alone), 55),
        ("break-glass-told-by-a-sink".into(), entry(told), 56),
        ("break-glass-approval-by-page".into(), entry(on_a_page), 61),
        ("break-glass-request-with-its-life".into(), entry(timed), 57),
    ]
}

/// Every vector: its file's name, the entry and the index of its leaf.
fn vectors() -> Vec<(String, Entry, u64)> {
    let kinds =
        Kind::ALL.into_iter().map(|kind| (kind.to_string(), entry(Content::of(kind)), u64::from(kind.number())));
    kinds.chain([("all-fields".into(), full(), u64::from(u32::MAX))]).chain(later()).collect()
}

/// What a vector's file says of an entry.
fn written(entry: &Entry, index: u64) -> String {
    let encoded = entry.encode().unwrap();
    let leaf = Leaf::of(index, &encoded, entry.time).encode().unwrap();
    let hash = leaf_hash(&leaf);
    [("entry", &encoded[..]), ("leaf", &leaf), ("leaf_hash", &hash)]
        .map(|(name, bytes)| format!("{name} {}\n", HEXLOWER.encode(bytes)))
        .concat()
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors/log")
}

/// `bytes`, a map's one-byte head, with `more` pairs more behind its end.
fn grown(encoded: &[u8], more: &[u8]) -> Vec<u8> {
    let mut grown = [encoded, more].concat();
    grown[0] += 1;
    grown
}

#[test]
fn the_encoding_is_that_of_the_committed_vectors() {
    let mut names = Vec::new();
    for (name, entry, index) in vectors() {
        let file = folder().join(format!("{name}.txt"));
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert_eq!(written(&entry, index), text, "{name}");
        let hex = text.lines().next().unwrap().strip_prefix("entry ").unwrap();
        assert_eq!(Entry::decode(&HEXLOWER.decode(hex.as_bytes()).unwrap()), Ok(entry), "{name}");
        names.push(format!("{name}.txt"));
    }
    for file in std::fs::read_dir(folder()).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        assert!(names.contains(&name), "`{name}` belongs to no kind; a vector is never taken away");
    }
}

#[test]
fn a_small_entry_written_by_hand() {
    let by_hand = concat!(
        "a6", // a map of 6
        "00",
        "01", // version
        "01",
        "50",
        "000102030405060708090a0b0c0d0e0f", // id, 16 bytes
        "02",
        "1b",
        "000660dc3778d001", // time
        "03",
        "50",
        "101112131415161718191a1b1c1d1e1f", // salt
        "04",
        "64",
        "74657374", // broker, `test`
        "05",
        "a1",
        "00",
        "0c", // content: a map of 1, the kind 12
    );
    assert_eq!(HEXLOWER.encode(&entry(Content::of(Kind::Start)).encode().unwrap()), by_hand);
}

#[test]
fn digests_are_ordered_by_their_encoded_names() {
    let encoded = HEXLOWER.encode(&full().encode().unwrap());
    assert!(encoded.contains("0fa261626266666261616230"), "15: {{b: ff, aa: 0…}} in {encoded}");
}

#[test]
fn nearly_right_encodings_are_refused() {
    let encoded = entry(Content::of(Kind::Start)).encode().unwrap();
    assert!(Entry::decode(&encoded).is_ok());
    let hex = HEXLOWER.encode(&encoded);
    let edited = |from: &str, to: &str| {
        assert_eq!(hex.matches(from).count(), 1, "{from}");
        Entry::decode(&HEXLOWER.decode(hex.replace(from, to).as_bytes()).unwrap())
    };
    let cases = [
        ("a byte behind the end", Entry::decode(&[&encoded[..], &[0]].concat())),
        ("an unknown field", Entry::decode(&grown(&encoded, &[6, 0]))),
        ("a field twice", Entry::decode(&grown(&encoded, &[4, 0x64, b't', b'e', b's', b't']))),
        ("a longer form of a number", edited("05a1000c", "05a100180c")),
        ("an absent field written as null", edited("05a1000c", "05a2000c01f6")),
        ("an open-ended map", edited("05a1000c", "05bf000cff")),
        ("keys out of order", edited("04647465737405a1000c", "05a1000c046474657374")),
        ("an open-ended text", edited("046474657374", "047f6474657374ff")),
    ];
    for (what, decoded) in cases {
        assert!(matches!(decoded, Err(LogError::NotDeterministic | LogError::Malformed(_))), "{what}: {decoded:?}");
    }
    for end in 0..encoded.len() {
        assert!(matches!(Entry::decode(&encoded[..end]), Err(LogError::Malformed(_))), "cut at {end}");
    }
    assert!(matches!(edited("05a1000c", "05a10018fa"), Err(LogError::Malformed(_))), "a kind that nobody knows");
}

#[test]
fn a_newer_record_is_told_from_a_damaged_one() {
    let newer = grown(&entry(Content::of(Kind::Start)).encode().unwrap(), &[6, 0]);
    let newer = [&newer[..2], &[2], &newer[3..]].concat();
    assert_eq!(Entry::decode(&newer), Err(LogError::Version(2)));
    assert_eq!(Entry { version: 2, ..full() }.encode(), Err(LogError::Version(2)));
    assert!(matches!(Entry { version: 0, ..full() }.encode(), Err(LogError::Malformed(_))));
    let leaf = Leaf::of(7, b"entry", 9).encode().unwrap();
    let leaf = [&leaf[..2], &[9], &leaf[3..]].concat();
    assert_eq!(Leaf::decode(&leaf), Err(LogError::Version(9)));
}

#[test]
fn an_entry_has_at_most_64_kib() {
    let of = |length: usize| entry(Content { message: Some("x".repeat(length)), ..Content::of(Kind::Admin) });
    let spare = MAX_ENTRY - of(60_000).encode().unwrap().len();
    let largest = of(60_000 + spare).encode().unwrap();
    assert_eq!(largest.len(), MAX_ENTRY);
    assert!(Entry::decode(&largest).is_ok());
    assert_eq!(of(60_001 + spare).encode(), Err(LogError::TooLarge(MAX_ENTRY + 1)));
    assert_eq!(Entry::decode(&vec![0; MAX_ENTRY + 1]), Err(LogError::TooLarge(MAX_ENTRY + 1)));
}

#[test]
fn ids_salts_and_digests_have_their_length() {
    let short = |content: Content| entry(content).encode().is_err();
    assert!(Entry { id: vec![1; 15], ..full() }.encode().is_err());
    assert!(Entry { salt: Vec::new(), ..full() }.encode().is_err());
    assert!(short(Content { grant: Some(vec![1; 17]), ..Content::of(Kind::Grant) }));
    assert!(short(Content { session: Some(vec![1]), ..Content::of(Kind::Grant) }));
    assert!(short(Content { fingerprint: Some(vec![1; 20]), ..Content::of(Kind::Issued) }));
    assert!(short(Content { public_key: Some(vec![1; 31]), ..Content::of(Kind::Grant) }));
    assert!(short(Content { policy_digest: Some(vec![1; 33]), ..Content::of(Kind::Grant) }));
    let head = reopened().old_head.map(|head| OldHead { root: vec![1; 31], ..head });
    assert!(short(Content { old_head: head, ..reopened() }));
    assert!(Leaf { body: vec![1; 31], ..Leaf::of(0, b"", 0) }.encode().is_err());
}

#[test]
fn a_leaf_stands_for_one_entry_and_hashes_as_rfc_6962_has_it() {
    let leaf = Leaf::of(0, b"entry", 9);
    assert!(leaf.stands_for(b"entry"));
    assert!(!leaf.stands_for(b"Entry"));
    assert_eq!(Leaf::decode(&leaf.encode().unwrap()), Ok(leaf));
    // RFC 6962 §2.1 for an empty leaf: SHA-256 of one zero byte.
    let empty = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d";
    assert_eq!(HEXLOWER.encode(&leaf_hash(b"")), empty);
}

#[test]
fn an_answer_has_every_field_of_the_entry() {
    let shown = AuditEntry::of(7, &full(), &[9; 32]);
    let text = serde_json::to_string(&shown).unwrap();
    let hex = |byte: u8, count: usize| HEXLOWER.encode(&vec![byte; count]);
    for value in [
        "issued",
        "corp",
        "https://id.example.com",
        "8d3c1f0a",
        "Åda Lovelace",
        "\"ada\"",
        "\"prod\"",
        "2001:db8::7",
        "os:admin os:reader",
        "2026-11-22T13:00:00Z",
        "INC-4711",
        "admin-prod",
        "refused",
        "7f0001",
        "\"1000\"",
        "\"digest of aa\":\"00\"",
        "root",
        "broker-1",
        "one sentence",
        "direct",
        "2026-11-22T12:00:00.000001Z",
        "03030303-0303-0303-0303-030303030303",
        "04040404-0404-0404-0404-040404040404",
        "00010203-0405-0607-0809-0a0b0c0d0e0f",
        &hex(12, 32),
        &hex(13, 32),
        &hex(20, 32),
        &hex(9, 32),
        "\"test\"",
    ] {
        assert!(text.contains(value), "`{value}` in {text}");
    }
    let shown = |name: &str| {
        let (_, entry, _) = later().into_iter().find(|(known, ..)| known == name).unwrap();
        AuditEntry::of(0, &entry, &[0; 32]).detail
    };
    assert_eq!(shown("issued-key-made-by-cluster")["key_made_by"], "cluster");
    let made = shown("kit-made-with-its-facts");
    assert_eq!((&*made["kit"], &*made["kit_threshold"], &*made["kit_replaces"]), ("7", "2", "6"));
    assert_eq!(
        (&*made["kit_holders"], &*made["witnesses"]),
        ("ada (age1qq), bob (paper)", "Ada Lovelace, Grace Hopper")
    );
    let made = shown("kit-made-static");
    assert_eq!((&*made["kit_user"], made["kit_certificate"].len()), ("kit-8", 64));
    assert_eq!(shown("kit-made-with-where-it-leads")["kit_leads_to"], "10.0.0.5 [fd00::5]:50000");
    let drill = shown("kit-drill-proved");
    assert_eq!((&*drill["shares"], &*drill["accepting"], &drill["challenge"]), ("1 2", "2 of 3", &hex(52, 32)));
    let opened = shown("kit-opened-and-reported");
    assert_eq!(
        (&*opened["claimed"], &*opened["kit_label"], &*opened["opened"]),
        ("ada", "emergency", "2026-11-22T12:00:00Z")
    );
    let [old, new] = keys();
    let detail = AuditEntry::of(0, &entry(rotated()), &[0; 32]).detail;
    assert_eq!((&detail["log_key"], &detail["old_log_key"]), (&new.to_string(), &old.to_string()));
    let detail = AuditEntry::of(0, &entry(reopened()), &[0; 32]).detail;
    assert_eq!((&*detail["old_log"], &*detail["old_size"]), ("ichor.example.com/before", "4711"));
    assert_eq!(detail["old_root"], hex(23, 32));
    assert_eq!(AuditEntry::of(0, &entry(Content::of(Kind::Start)), &[0; 32]).detail.len(), 1, "the broker alone");
    assert_eq!(AuditEntry::of_dropped(&Leaf::of(3, b"", TIME), &[0; 32]).kind, "dropped");
}

proptest! {
    #[test]
    fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(entry) = Entry::decode(&bytes) {
            prop_assert_eq!(entry.encode(), Ok(bytes));
        }
    }

    #[test]
    fn one_changed_byte_is_another_entry_or_none(at in 0usize..400, by in 1u8..) {
        let encoded = full().encode().unwrap();
        let mut changed = encoded.clone();
        let at = at % changed.len();
        changed[at] = changed[at].wrapping_add(by);
        if let Ok(entry) = Entry::decode(&changed) {
            prop_assert_ne!(&entry, &full());
            prop_assert_eq!(entry.encode(), Ok(changed));
        }
    }

    #[test]
    fn texts_of_any_kind_come_back(name in ".{0,40}", value in ".{0,40}", more in ".{0,400}") {
        let digests = BTreeMap::from([(name, value.clone()), (more.clone(), value), (String::new(), more.clone())]);
        let entry = entry(Content { digests: Some(digests), reason: Some(more), ..Content::of(Kind::Reload) });
        prop_assert_eq!(Entry::decode(&entry.encode().unwrap()), Ok(entry));
    }
}

#[test]
fn a_leafs_hash_is_the_same_without_its_record() {
    for index in [0, 23, 24, 255, 65_536, u64::from(u32::MAX) + 1, u64::MAX] {
        for time in [i64::MIN, -25, -1, 0, 1_790_000_000_000_000, i64::MAX] {
            let record = Leaf::of(index, b"an entry", time).encode().unwrap();
            assert_eq!(codec::leaf_hash_of(index, b"an entry", time), Ok(leaf_hash(&record)), "{index} {time}");
        }
    }
}
