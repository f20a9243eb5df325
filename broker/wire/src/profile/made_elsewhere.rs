//! Certificates that others made for us, judged: a PKI engine's and the cluster's own.

use der::Encode;
use der::asn1::{Any, OctetString, Utf8StringRef};
use jiff::SignedDuration;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::ext::Extension;
use x509_cert::name::{RdnSequence, RelativeDistinguishedName};
use x509_parser::prelude::FromDer;

use super::build::{Tbs, draft};
use super::fixtures::{Ca, at, expected, public_key};
use super::{CLOCK_SLACK, CaCertificate, Expected, Mismatch, Names, Profile, Span, judge, pem};
use crate::role::Role;

/// A real pair, made by Talos 1.13.9's own code for `GenerateClientConfiguration`: os:reader and os:etcd:backup for an hour.
const REAL_CA: &str = include_str!("talos/ca.pem");
const REAL_CLIENT: &str = include_str!("talos/client.pem");

const ENGINE: Names<'_> = Names::Engine { user: Some("alice@example.com"), common_name: None };

type Bend = Box<dyn Fn(&mut Tbs<'_>)>;

fn rdn(attributes: &[&str]) -> RelativeDistinguishedName {
    let attribute = |text: &&str| {
        let (name, value) = text.split_once('=').unwrap();
        let oid = if name == "O" { "2.5.4.10" } else { "2.5.4.3" }.parse().unwrap();
        AttributeTypeAndValue { oid, value: Any::from(Utf8StringRef::new(value).unwrap()) }
    };
    attributes.iter().map(attribute).collect::<Vec<_>>().try_into().unwrap()
}

fn subject(rdns: &[&[&str]]) -> RdnSequence {
    rdns.iter().map(|attributes| rdn(attributes)).collect::<Vec<_>>().into()
}

fn extension(oid: &str, critical: bool, value: &[u8]) -> Extension {
    Extension { extn_id: oid.parse().unwrap(), critical, extn_value: OctetString::new(value).unwrap() }
}

/// What a node writes: the roles alone, and no basic constraints.
fn as_talos(draft: &mut Tbs<'_>) {
    draft.subject = subject(&[&["O=os:reader", "O=os:etcd:backup"]]);
    draft.extensions.remove(0);
}

/// What an engine writes for one of its roles.
fn as_engine(draft: &mut Tbs<'_>) {
    draft.subject = subject(&[&["O=os:reader", "O=os:etcd:backup", "O=user:alice@example.com"]]);
    draft.extensions.remove(0);
    draft.extensions.push(extension("2.5.29.14", false, &[4, 2, 1, 2]));
}

fn made(
    ca: &Ca,
    key: &[u8],
    names: Names<'_>,
    shape: impl FnOnce(&mut Tbs<'_>),
    bend: impl FnOnce(&mut Tbs<'_>),
) -> Result<(), Mismatch> {
    let profile = ca.profile(key);
    let mut draft = draft(&profile).unwrap();
    shape(&mut draft);
    bend(&mut draft);
    let expected = Expected { names, ..expected(key) };
    judge(&ca.finish(&draft.to_der().unwrap()), &expected, &ca.certificate).map(drop)
}

#[test]
fn a_real_certificate_of_a_cluster_passes_and_every_flipped_bit_is_found() {
    let ca = CaCertificate::parse(REAL_CA).unwrap();
    let mut der = pem::blocks(REAL_CLIENT).unwrap().remove(0).der;
    let key = {
        let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(&der).unwrap();
        parsed.public_key().raw.to_vec()
    };
    let made = at("2026-11-23T00:34:02Z");
    let until = made + SignedDuration::from_hours(1);
    let expected = Expected { names: Names::Talos, now: made, until, ..expected(&key) };
    let facts = judge(&der, &expected, &ca).unwrap();
    assert_eq!((facts.not_before, facts.not_after), (made, until));
    assert_eq!(facts.serial.len(), 16);
    let refused = |expected: Expected<'_>| judge(&der, &expected, &ca).unwrap_err();
    assert_eq!(refused(Expected { roles: &[Role::Reader], ..expected }), Mismatch::Organizations);
    assert_eq!(
        refused(Expected { roles: &[Role::Reader, Role::EtcdBackup, Role::Admin], ..expected }),
        Mismatch::Organizations
    );
    assert_eq!(refused(Expected { until: until - SignedDuration::from_secs(1), ..expected }), Mismatch::Validity);
    let whole = Names::Whole { user: "alice@example.com", grant: uuid::Uuid::nil().into() };
    assert_eq!(refused(Expected { names: whole, ..expected }), Mismatch::Organizations);
    assert_eq!(refused(Expected { names: ENGINE, ..expected }), Mismatch::Organizations);
    assert_eq!(judge(&der, &expected, &Ca::ed25519().certificate), Err(Mismatch::Issuer));
    for bit in 0..der.len() * 8 {
        der[bit / 8] ^= 1 << (bit % 8);
        assert!(judge(&der, &expected, &ca).is_err(), "bit {bit}");
        der[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn a_nodes_clock_may_be_a_little_ahead_and_no_other_makers() {
    let ca = Ca::ed25519();
    let key = public_key();
    let with = |names: Names<'_>, shape: fn(&mut Tbs<'_>), ahead: SignedDuration| {
        let not_before = at("2026-11-22T12:00:00Z") + ahead;
        let span = Span { not_before, not_after: at("2026-11-22T13:00:00Z") };
        let profile = Profile { span, ..ca.profile(&key) };
        let mut draft = draft(&profile).unwrap();
        shape(&mut draft);
        let expected = Expected { names, now: at("2026-11-22T12:00:00Z"), ..expected(&key) };
        judge(&ca.finish(&draft.to_der().unwrap()), &expected, &ca.certificate).map(drop)
    };
    let second = SignedDuration::from_secs(1);
    assert_eq!(with(Names::Talos, as_talos, CLOCK_SLACK), Ok(()));
    assert_eq!(with(Names::Talos, as_talos, CLOCK_SLACK + second), Err(Mismatch::Validity));
    assert_eq!(with(ENGINE, as_engine, SignedDuration::ZERO), Ok(()));
    assert_eq!(with(ENGINE, as_engine, second), Err(Mismatch::Validity));
}

#[test]
fn names_are_exactly_the_makers() {
    let ca = Ca::ed25519();
    let key = public_key();
    let talos = |bend: Bend| made(&ca, &key, Names::Talos, as_talos, |t| bend(t));
    let engine = |names: Names<'_>, bend: Bend| made(&ca, &key, names, as_engine, |t| bend(t));
    assert_eq!(talos(Box::new(|_| ())), Ok(()));
    assert_eq!(engine(ENGINE, Box::new(|_| ())), Ok(()));

    let roles = ["O=os:reader", "O=os:etcd:backup"];
    for more in
        ["O=os:admin", "O=user:alice@example.com", "O=grant:01935a2b-7c4d-7e8f-9011-223344556677", "O= os:reader"]
    {
        let bend: Bend = Box::new(move |t| t.subject = subject(&[&roles, &[more]]));
        assert_eq!(talos(bend), Err(Mismatch::Organizations), "{more}");
    }
    assert_eq!(talos(Box::new(|t| t.subject = subject(&[&["O=os:reader"]]))), Err(Mismatch::Organizations));
    for name in ["CN=alice@example.com", "CN="] {
        let bend: Bend = Box::new(move |t| t.subject = subject(&[&roles, &[name]]));
        assert_eq!(talos(bend), Err(Mismatch::CommonName), "{name}");
    }

    let person = ["O=os:reader", "O=os:etcd:backup", "O=user:alice@example.com"];
    let nobody = Names::Engine { user: None, common_name: None };
    assert_eq!(engine(nobody, Box::new(|_| ())), Err(Mismatch::Organizations), "a user nobody asked for");
    assert_eq!(engine(nobody, Box::new(move |t| t.subject = subject(&[&roles]))), Ok(()));
    assert_eq!(engine(ENGINE, Box::new(move |t| t.subject = subject(&[&roles]))), Err(Mismatch::Organizations));
    let mallory: Bend = Box::new(move |t| t.subject = subject(&[&roles, &["O=user:mallory@example.com"]]));
    assert_eq!(engine(ENGINE, mallory), Err(Mismatch::Organizations));
    let named = |name: &'static str| -> Bend { Box::new(move |t| t.subject = subject(&[&person, &[name]])) };
    assert_eq!(engine(ENGINE, named("CN=")), Ok(()));
    assert_eq!(engine(ENGINE, named("CN=alice")), Err(Mismatch::CommonName));
    let alice = Names::Engine { user: Some("alice@example.com"), common_name: Some("alice") };
    assert_eq!(engine(alice, named("CN=alice")), Ok(()));
    assert_eq!(engine(alice, named("CN=mallory")), Err(Mismatch::CommonName));
    assert_eq!(engine(alice, Box::new(|_| ())), Err(Mismatch::CommonName), "the CN that was stated is missing");
    let twice: Bend = Box::new(move |t| t.subject = subject(&[&person, &["CN=alice"], &["CN=alice"]]));
    assert_eq!(engine(alice, twice), Err(Mismatch::CommonName));
}

#[test]
fn every_bent_extension_of_others_is_found() {
    let ca = Ca::ed25519();
    let key = public_key();
    let no_ca = || extension("2.5.29.19", true, &[0x30, 0x00]);
    // key usage, extended key usage and authority key identifier are the first three of both
    let cases: Vec<(Mismatch, Bend)> = vec![
        (
            Mismatch::BasicConstraints,
            Box::new(|t| t.extensions.push(extension("2.5.29.19", true, &[0x30, 3, 1, 1, 0xFF]))),
        ),
        (Mismatch::BasicConstraints, Box::new(|t| t.extensions.push(extension("2.5.29.19", false, &[0x30, 0])))),
        // digitalSignature with keyEncipherment, which engines add where their role does not say otherwise
        (Mismatch::KeyUsage, Box::new(|t| t.extensions[0] = extension("2.5.29.15", true, &[3, 2, 5, 0xA0]))),
        (Mismatch::KeyUsage, Box::new(|t| t.extensions[0].critical = false)),
        (Mismatch::KeyUsage, Box::new(|t| drop(t.extensions.remove(0)))),
        (
            Mismatch::ExtendedKeyUsage,
            Box::new(|t| {
                // serverAuth and clientAuth, as engines and Talos' own defaults have it
                let both = [0x30, 20, 6, 8, 0x2B, 6, 1, 5, 5, 7, 3, 1, 6, 8, 0x2B, 6, 1, 5, 5, 7, 3, 2];
                t.extensions[1] = extension("2.5.29.37", false, &both);
            }),
        ),
        (Mismatch::ExtendedKeyUsage, Box::new(|t| drop(t.extensions.remove(1)))),
        (
            Mismatch::AuthorityKeyId,
            Box::new(|t| t.extensions[2] = extension("2.5.29.35", false, &[0x30, 3, 0x80, 1, 7])),
        ),
        (Mismatch::AuthorityKeyId, Box::new(|t| drop(t.extensions.remove(2)))),
        (
            Mismatch::Extension,
            Box::new(|t| t.extensions.push(extension("2.5.29.17", false, &[0x30, 3, 0x82, 1, b'a']))),
        ),
        (Mismatch::Extension, Box::new(|t| t.extensions.push(extension("2.5.29.31", false, &[0x30, 0])))),
        (Mismatch::Serial, Box::new(|t| t.serial = x509_cert::serial_number::SerialNumber::new(&[1; 7]).unwrap())),
    ];
    for (number, (found, bend)) in cases.iter().enumerate() {
        assert_eq!(made(&ca, &key, Names::Talos, as_talos, |t| bend(t)), Err(*found), "case {number} of a node's");
        assert_eq!(made(&ca, &key, ENGINE, as_engine, |t| bend(t)), Err(*found), "case {number} of an engine's");
    }
    let says_so = |names, shape: fn(&mut Tbs<'_>)| made(&ca, &key, names, shape, |t| t.extensions.push(no_ca()));
    assert_eq!(says_so(ENGINE, as_engine), Ok(()));
    assert_eq!(says_so(Names::Talos, as_talos), Err(Mismatch::BasicConstraints), "no node writes any");
    // an engine's numbers have up to 160 bits, which with the sign is 20 bytes
    let long: Bend = Box::new(|t| t.serial = x509_cert::serial_number::SerialNumber::new(&[0x7F; 20]).unwrap());
    assert_eq!(made(&ca, &key, ENGINE, as_engine, |t| long(t)), Ok(()));
    let other = public_key();
    let foreign = Expected { names: Names::Talos, ..expected(&other) };
    let profile = ca.profile(&key);
    let mut draft = draft(&profile).unwrap();
    as_talos(&mut draft);
    assert_eq!(judge(&ca.finish(&draft.to_der().unwrap()), &foreign, &ca.certificate), Err(Mismatch::PublicKey));
}
