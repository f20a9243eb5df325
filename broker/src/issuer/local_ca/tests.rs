//! The whole way: a decision, its record, a certificate, its record.

use std::net::{IpAddr, Ipv4Addr};

use ichor_wire::log::{Entry, Kind};
use ichor_wire::problem::Code;
use ichor_wire::profile::{Names, pem};
use uuid::Uuid;

use super::*;
use crate::audit::{self, Sequencer};
use crate::clock::FrozenClock;
use crate::custody::ToBeSigned;
use crate::custody::{LocalSigner, SignError, ca};
use crate::domain::{Cluster, ClusterName, GrantId, Request, Role};
use crate::identity::fixture::who;
use crate::policy::{self, PolicySet, Source};
use crate::store::conformance::{login, noon, session};
use crate::store::sqlite::{Options, SqliteStore};
use crate::store::{Change, Store};

pub(in crate::issuer) struct Room {
    pub(in crate::issuer) store: Arc<SqliteStore>,
    pub(in crate::issuer) sequencer: Sequencer,
    _folder: tempfile::TempDir,
}

fn name() -> ClusterName {
    ClusterName::new("prod").unwrap()
}

fn material() -> (LocalSigner, CaCertificate) {
    let (certificate, signer) = ca::create(&name(), noon(), 1).unwrap().into_parts();
    (signer, certificate)
}

impl Room {
    /// A store with one live session.
    pub(in crate::issuer) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(folder.path().join("ichor.db"), Options::default()).unwrap());
        let (sequencer, _) =
            Sequencer::start(store.clone(), FrozenClock::at(noon()), audit::Settings::named("broker-1"));
        let expires = noon() + SignedDuration::from_secs(60);
        assert!(store.begin_login(login(1, expires), 9, noon()).await.unwrap());
        let change = Change::SessionCreate { session: Box::new(session(1)), code_hash: [101; 32], now: noon() };
        sequencer.note(ichor_wire::log::Content::of(Kind::Login), Some(change)).await.unwrap();
        Self { store, sequencer, _folder: folder }
    }

    pub(in crate::issuer) async fn grant(&self) -> Recorded<Grant> {
        self.grant_for(&rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap()).await
    }

    /// A grant of os:reader and os:etcd:backup for two hours to `ada`, for a request that says much more.
    pub(in crate::issuer) async fn grant_for(&self, key: &rcgen::KeyPair) -> Recorded<Grant> {
        let mut wishes = rcgen::CertificateParams::new(vec!["node.example".to_owned()]).unwrap();
        wishes.distinguished_name.push(rcgen::DnType::OrganizationName, "os:admin");
        wishes.distinguished_name.push(rcgen::DnType::CommonName, "node.example");
        let csr = wishes.serialize_request(key).unwrap().der().to_vec();
        let text = "@id(\"read\") @max_ttl(\"8h\") permit (principal, action == Action::\"hold:os:reader\", resource);\n\
                    @id(\"etcd\") @max_ttl(\"8h\") permit (principal, action == Action::\"hold:os:etcd:backup\", resource);";
        let source = Source { name: "test.cedar".into(), text: text.into() };
        let policies = PolicySet::load(&[source], policy::Limits::default()).unwrap();
        let cluster =
            Cluster { name: name(), labels: [].into(), endpoints: Vec::new(), nodes: Vec::new(), ca: String::new() };
        let request = Request {
            cluster: name(),
            roles: vec![Role::Reader, Role::EtcdBackup],
            ttl: Some(SignedDuration::from_hours(2)),
            reason: None,
            public_key: rcgen::PublicKeyData::subject_public_key_info(key),
            csr,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        let identity = who(&session(1));
        let id = GrantId(Uuid::from_u128(7));
        let grant = policy::decide(&policies, &identity, &cluster, &request, None, id, noon()).unwrap();
        self.sequencer.record(grant).await.unwrap()
    }
}

/// Signs something other than it was given, or nothing.
#[derive(Debug)]
struct Bent {
    public_key: Vec<u8>,
    inner: Result<LocalSigner, SignError>,
}

#[async_trait]
impl Signer for Bent {
    fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    async fn sign(&self, _bytes: ToBeSigned) -> Result<Vec<u8>, SignError> {
        self.inner.as_ref().map_err(Clone::clone)?.sign(ToBeSigned::certificate(b"something else")).await
    }
}

#[tokio::test]
async fn a_grant_becomes_a_certificate_and_both_are_recorded() {
    let room = Room::new().await;
    let grant = room.grant().await;
    let (signer, ca) = material();
    let issuer = LocalCa::new(name(), Arc::new(signer), ca.clone(), profile::DEFAULT_BACKDATE);
    let issued = issuer.issue(grant, noon()).await.unwrap();
    let issued = room.sequencer.record(issued).await.unwrap();

    let granted = issued.value().grant();
    let der = pem::blocks(&issued.certificate_pem()).unwrap().remove(0).der;
    let expected = Expected {
        public_key: granted.public_key(),
        roles: &[Role::Reader, Role::EtcdBackup],
        names: Names::Whole { user: "ada", grant: Uuid::from_u128(7).into() },
        until: noon() + SignedDuration::from_hours(2),
        now: noon(),
    };
    let facts = judge(&der, &expected, &ca).unwrap();
    assert_eq!(issued.value().not_before(), noon() - SignedDuration::from_secs(30));
    assert_eq!(issued.value().not_after(), noon() + SignedDuration::from_hours(2));

    let stored = room.store.entry_range(1..3).await.unwrap();
    let entries: Vec<Entry> = stored.iter().map(|e| Entry::decode(e.body.as_ref().unwrap()).unwrap()).collect();
    let (first, second) = (&entries[0].content, &entries[1].content);
    assert_eq!((first.kind, second.kind), (Kind::Grant, Kind::Issued));
    assert_eq!(second.grant, first.grant);
    assert_eq!(second.person, first.person);
    assert_eq!(second.session, first.session);
    assert_eq!(second.cluster.as_deref(), Some("prod"));
    assert_eq!(second.public_key, first.public_key);
    assert_eq!(second.serial.as_deref(), Some(facts.serial.as_slice()));
    assert_eq!(second.fingerprint.as_deref(), Some(facts.fingerprint.as_slice()));
    assert_eq!(second.not_after, Some(facts.not_after.as_second()));
}

#[tokio::test]
async fn two_certificates_have_two_serials() {
    let room = Room::new().await;
    let (signer, ca) = material();
    let issuer = LocalCa::new(name(), Arc::new(signer), ca, SignedDuration::ZERO);
    let one = issuer.issue(room.grant().await, noon()).await.unwrap();
    let two = issuer.issue(room.grant().await, noon()).await.unwrap();
    assert_ne!(one.serial(), two.serial());
}

#[tokio::test]
async fn what_custody_signed_wrongly_is_not_issued() {
    let room = Room::new().await;
    let (signer, ca) = material();
    let bent = |inner| {
        let signer = Bent { public_key: ca.public_key().to_vec(), inner };
        LocalCa::new(name(), Arc::new(signer), ca.clone(), SignedDuration::ZERO)
    };
    let error = bent(Ok(signer)).issue(room.grant().await, noon()).await.unwrap_err();
    assert!(matches!(&error, IssueError::Mismatch(why) if why.contains("no signature by the key")), "{error}");
    assert_eq!(error.code(), Code::CertificateMismatch);
    let gone = SignError::Unavailable("gone".into());
    let error = bent(Err(gone)).issue(room.grant().await, noon()).await.unwrap_err();
    assert_eq!(error, IssueError::Custody("the CA key cannot sign: gone".into()));
}

#[tokio::test]
async fn nothing_is_issued_outside_of_ca_and_grant() {
    let room = Room::new().await;
    let (signer, ca) = material();
    let end = ca.not_after();
    let issuer = LocalCa::new(name(), Arc::new(signer), ca, SignedDuration::ZERO);
    for now in [noon() + SignedDuration::from_hours(2), noon() - SignedDuration::from_hours(2), end] {
        let error = issuer.issue(room.grant().await, now).await.unwrap_err();
        assert!(matches!(error, IssueError::Validity(_)), "{now}: {error}");
    }
}

#[tokio::test]
async fn another_key_or_too_much_backdating_issues_nothing() {
    let room = Room::new().await;
    let ((signer, ca), (other, _)) = (material(), material());
    let foreign = LocalCa::new(name(), Arc::new(other), ca.clone(), SignedDuration::ZERO);
    assert!(matches!(foreign.issue(room.grant().await, noon()).await, Err(IssueError::Mismatch(_))));
    let early = LocalCa::new(name(), Arc::new(signer), ca, SignedDuration::from_mins(11));
    assert!(matches!(early.issue(room.grant().await, noon()).await, Err(IssueError::Build(_))));
}
