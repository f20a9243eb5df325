//! A break-glass kit is made here: its CA's key is born, sealed under a key that is split, and wiped. Nothing of it stays. The CA's key of
//! a static kit signs one certificate, whose key is sealed in its place. What was made leaves for evidence of its entry alone:
//! [`MadeKit`].

mod made;

use ichor_wire::kit::{
    Facts, FactsError, KitError, KitFile, PAPER, RANDOM_BYTES, Secret, Share, ShareFacts, SplitError, VERSION,
    VERSION_WITH_CA_KEY, commitment, split,
};
use ichor_wire::profile::{BuildError, CaCertificate, Profile, assemble, kept_span, pem, tbs};
use ichor_wire::role::Role;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

pub use self::made::{KitEntry, MadeKit, MadeShare, RecordedKit};
use super::ca::{CreateError, Draft};
use super::{KeyLoadError, LocalSigner, Plugins, Signer, ToBeSigned, VaultError, vault};
use crate::domain::ClusterName;
use crate::entropy::{self, EntropyError};

/// The kit that is to be made.
#[derive(Clone, Debug)]
pub struct KitPlan<'a> {
    /// Its number.
    pub number: u16,
    /// Its id.
    pub id: Uuid,
    /// The cluster.
    pub cluster: &'a ClusterName,
    /// Whether it is a static kit: one certificate, and its CA's key nowhere.
    pub is_static: bool,
    /// The roles that its certificates may hold.
    pub roles: Vec<Role>,
    /// How long one of them is good at most.
    pub ttl_cap: SignedDuration,
    /// How long its CA lasts.
    pub life: SignedDuration,
    /// How many shares open it.
    pub threshold: u8,
    /// Who holds a share.
    pub holders: &'a [Holder],
    /// Where talosctl connects.
    pub endpoints: Vec<String>,
    /// The default targets of a call.
    pub nodes: Vec<String>,
    /// The CA that the nodes' own certificates come from, PEM.
    pub cluster_ca: String,
    /// What to do, for whoever holds the file.
    pub instructions: String,
}

/// Who holds a share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Their name.
    pub name: String,
    /// The age recipient that their share is sealed to; `None`: on paper.
    pub recipient: Option<String>,
}

/// Why no kit was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MakeKitError {
    /// The CA could not be made.
    #[error(transparent)]
    Ca(#[from] CreateError),
    /// Its key could not be taken.
    #[error(transparent)]
    Key(#[from] KeyLoadError),
    /// A share could not be sealed to its holder.
    #[error("the share of `{holder}` cannot be sealed: {why}")]
    Holder {
        /// Who.
        holder: String,
        /// Why.
        why: VaultError,
    },
    /// Two shares would be opened by one key.
    #[error("`{0}` and `{1}` have the same recipient; each share needs a key of its own")]
    SameRecipient(String, String),
    /// The key could not be split.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// The kit could not be sealed, or breaks a rule of its format.
    #[error(transparent)]
    Kit(#[from] KitError),
    /// The certificate of a static kit could not be made.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// It is not what was to be made.
    #[error(transparent)]
    Certificate(#[from] FactsError),
    /// What was made does not serve.
    #[error(
        "the kit that was made is not read back and opened as it is to be, so none was made; report this as a fault of ichor's"
    )]
    ReadBack,
    /// It is not what was recorded.
    #[error(
        "the entry that was recorded is not of this kit, so nothing of it is written; report this as a fault of ichor's"
    )]
    OtherEntry,
    /// No random values.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// Makes a kit in memory, reads it back, and opens it with its shares. Its CA is Ed25519 and good for client certificates only, as a dedicated CA is; the subject names cluster,
/// kit and id, so that a node's list of accepted CAs tells it from every other.
///
/// # Errors
/// When something failed; then there is no kit.
pub fn make_kit(plan: &KitPlan<'_>, now: Timestamp, plugins: &Plugins) -> Result<MadeKit, MakeKitError> {
    let signer = LocalSigner::generate()?;
    let name = ca_name(plan.cluster, plan.number, plan.id);
    let draft = Draft::named(&name, now, plan.life, signer.public_key(), signer.algorithm())?;
    let signature = signer.sign_now(&draft.to_be_signed()).map_err(CreateError::from)?;
    let certificate = draft.finish(&signature)?;

    let key = Zeroizing::new(entropy::bytes::<32>()?);
    let random = Zeroizing::new(entropy::bytes::<RANDOM_BYTES>()?);
    let limit = u8::try_from(plan.holders.len()).map_err(|_| SplitError::Numbers)?;
    let values = split(&key, plan.threshold, limit, &random)?;
    let (mut shares, mut said, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    for ((value, holder), index) in values.into_iter().zip(plan.holders).zip(1..) {
        let share = Share::new(plan.number, plan.id, index, value);
        let salt = entropy::bytes::<16>()?;
        let (commitment, proof_key) = commitment(&share, plan.id, &salt)?;
        let text = share.to_text();
        let made = match &holder.recipient {
            Some(recipient) => {
                let sealed = vault::seal_to(recipient, plugins, text.as_bytes());
                let failed = |why| MakeKitError::Holder { holder: holder.name.clone(), why };
                let (recipient, sealed) = sealed.map_err(failed)?;
                MadeShare {
                    index,
                    holder: holder.name.clone(),
                    recipient: Some(recipient),
                    body: Zeroizing::new(sealed),
                }
            }
            None => {
                let body = Zeroizing::new(text.as_bytes().to_vec());
                MadeShare { index, holder: holder.name.clone(), recipient: None, body }
            }
        };
        let same = |other: &&MadeShare| made.recipient.is_some() && other.recipient == made.recipient;
        if let Some(other) = shares.iter().find(same) {
            return Err(MakeKitError::SameRecipient(other.holder.clone(), made.holder));
        }
        let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
        let sealed_to = made.recipient.as_ref().map(|text| hex(&Sha256::digest(text)));
        said.push(ShareFacts {
            index,
            holder: holder.name.clone(),
            sealed_to: sealed_to.unwrap_or_else(|| PAPER.into()),
            salt: hex(&salt),
            commitment,
            proof_key,
        });
        shares.push(made);
        plain.push(text);
    }
    let client = plan.is_static.then(LocalSigner::generate).transpose()?;
    let mut facts = Facts {
        version: if plan.is_static { VERSION } else { VERSION_WITH_CA_KEY },
        number: plan.number,
        id: plan.id,
        cluster: plan.cluster.to_string(),
        made: now,
        until: certificate.not_after(),
        roles: plan.roles.clone(),
        ttl_cap: u64::try_from(plan.ttl_cap.as_secs()).unwrap_or_default(),
        threshold: plan.threshold,
        endpoints: plan.endpoints.clone(),
        nodes: plan.nodes.clone(),
        instructions: plan.instructions.clone(),
        cluster_ca: plan.cluster_ca.clone(),
        kit_ca: certificate.pem(),
        certificate: None,
        shares: said,
    };
    let secret = match &client {
        Some(client) => {
            facts.certificate = Some(fixed_certificate(&facts, &certificate, &signer, client, now)?);
            facts.fixed_certificate(client.public_key(), now)?;
            Secret::new(client.to_pkcs8()?.as_slice())
        }
        None => Secret::new(signer.to_pkcs8()?.as_slice()),
    };
    // what signed a static kit's certificate signs nothing more
    drop(signer);
    let file = KitFile::seal(facts, &secret, &key, entropy::bytes()?)?;
    let text = file.to_text()?;
    MadeKit::proven(file, text, shares, &plain, &secret)
}

/// The one certificate of a static kit, PEM, good until its CA's end.
fn fixed_certificate(
    facts: &Facts,
    ca: &CaCertificate,
    signer: &LocalSigner,
    client: &LocalSigner,
    now: Timestamp,
) -> Result<String, MakeKitError> {
    let tbs = tbs(&Profile {
        ca,
        serial: entropy::bytes()?,
        public_key: client.public_key(),
        roles: &facts.roles,
        user: &facts.fixed_user(),
        grant: facts.fixed_grant(),
        span: kept_span(ca, now)?,
    })?;
    let signature = signer.sign_now(&ToBeSigned::kit_certificate(&tbs)).map_err(CreateError::from)?;
    let der = assemble(&tbs, ca.algorithm().signature_algorithm(), &signature)?;
    Ok(pem::encode("CERTIFICATE", &der).to_string())
}

/// The common name of a kit's CA.
fn ca_name(cluster: &ClusterName, number: u16, id: Uuid) -> String {
    // the last digits of a UUIDv7 are random; the cluster's name stands last, for it is what may be cut
    let id = id.simple().to_string();
    let tail = id.get(24..).unwrap_or_default();
    format!("ichor kit {number} {tail} {cluster}")
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use age::x25519;
    use ichor_wire::api::Receipt;
    use ichor_wire::kit::Gathered;
    use ichor_wire::log::{Content, Kind};

    use super::*;
    use crate::custody::{IdentitySource, open_sealed};

    const ID: Uuid = Uuid::from_u128(0x0193_5a2b_7c4d_7e8f_9011_2233_4455_6677);

    fn holder(name: &str, recipient: Option<String>) -> Holder {
        Holder { name: name.into(), recipient }
    }

    /// The evidence that an entry of this kind with this file's digest is recorded.
    fn noted(kind: Kind, file: [u8; 32]) -> Option<KitEntry> {
        let kit = ichor_wire::log::Kit { number: 7, file: Some(file.to_vec()), ..ichor_wire::log::Kit::default() };
        KitEntry::noted(&Content { kit: Some(kit), ..Content::of(kind) }, &Receipt::pending(1, &[0; 32]))
    }

    /// What is written of it once it is recorded.
    fn written(made: MadeKit) -> (KitFile, Vec<MadeShare>) {
        let entry = noted(Kind::KitMade, made.digest()).unwrap();
        let kit = made.recorded(entry).unwrap();
        (KitFile::parse(&kit.text).unwrap(), kit.shares)
    }

    fn plan<'a>(cluster: &'a ClusterName, holders: &'a [Holder]) -> KitPlan<'a> {
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        KitPlan {
            number: 7,
            id: ID,
            cluster,
            is_static: false,
            roles: vec![Role::Admin],
            ttl_cap: SignedDuration::from_hours(1),
            life: SignedDuration::from_hours(24 * 365),
            threshold: 2,
            holders,
            endpoints: vec!["192.0.2.1".into()],
            nodes: Vec::new(),
            cluster_ca: super::super::ca::create(cluster, now, 1).unwrap().certificate().pem(),
            instructions: "two holders\n".into(),
        }
    }

    #[test]
    fn what_is_made_opens_with_its_shares_and_holds_the_cas_own_key() {
        let cluster = ClusterName::new(&"p".repeat(63)).unwrap();
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        let ada = x25519::Identity::generate();
        let holders = [holder("ada", Some(ada.to_public().to_string())), holder("bob", None), holder("eve", None)];
        let made = make_kit(&plan(&cluster, &holders), now, &Plugins::default()).unwrap();
        let debug = format!("{made:?}");
        let (file, shares) = written(made);
        let facts = file.unverified_facts();
        let ca = facts.kit_certificate().unwrap();
        assert!(ca.subject().starts_with("O=ichor, CN=ichor kit 7 44556677 ppp"), "{}", ca.subject());
        assert_eq!(ca.not_after(), "2027-11-22T12:00:00Z".parse().unwrap());

        let mut sealed = Vec::new();
        let decryptor = age::Decryptor::new_buffered(shares[0].body.as_slice()).unwrap();
        decryptor.decrypt(std::iter::once(&ada as &dyn age::Identity)).unwrap().read_to_end(&mut sealed).unwrap();
        assert!(!shares[0].body.windows(32).any(|window| sealed.windows(32).any(|plain| plain == window)));
        let mut gathered = Gathered::new(facts);
        for text in [sealed.as_slice(), shares[2].body.as_slice()] {
            gathered.take(facts, Share::parse(std::str::from_utf8(text).unwrap()).unwrap()).unwrap();
        }
        let (_, secret) = file.open(&gathered).unwrap();
        assert_eq!(LocalSigner::from_der(secret.key()).unwrap().public_key(), ca.public_key());
        assert!(!file.to_text().unwrap().contains(&data_encoding::BASE64.encode(secret.key())));
        assert!(!debug.contains(std::str::from_utf8(&shares[2].body).unwrap()));
    }

    #[test]
    fn a_static_kit_holds_one_certificate_and_the_key_of_its_ca_is_not_in_it() {
        let cluster = ClusterName::new("prod").unwrap();
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        let holders = [holder("bob", None), holder("eve", None)];
        let plan = KitPlan { is_static: true, ..plan(&cluster, &holders) };
        let (file, shares) = written(make_kit(&plan, now, &Plugins::default()).unwrap());
        let facts = file.unverified_facts();
        let mut gathered = Gathered::new(facts);
        for share in &shares {
            gathered.take(facts, Share::parse(std::str::from_utf8(&share.body).unwrap()).unwrap()).unwrap();
        }
        let (facts, secret) = file.open(&gathered).unwrap();
        let key = LocalSigner::from_der(secret.key()).unwrap();
        let ca = facts.kit_certificate().unwrap();
        assert_ne!(key.public_key(), ca.public_key(), "the CA's key is nowhere");
        let (_, said) = facts.fixed_certificate(key.public_key(), now).unwrap().unwrap();
        assert_eq!((said.not_after, facts.until), (ca.not_after(), ca.not_after()));
        let long = KitPlan { life: SignedDuration::from_hours(24 * 366), ..plan };
        assert!(matches!(make_kit(&long, now, &Plugins::default()), Err(MakeKitError::Build(_))), "a year at most");
    }

    #[test]
    fn case_22_a_plugin_that_is_not_allowed_seals_nothing_and_is_not_run() {
        let cluster = ClusterName::new("prod").unwrap();
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        // a plugin's recipient: what stands before the last `1` names the program
        let holders = [
            holder("ada", Some("age1sh1qqqsyqcyq5rqwzqfpg9scrgwpugpzysnzs23v9ccrydpk8qarc0jqxuzx4s".into())),
            holder("bob", None),
        ];
        let error = make_kit(&plan(&cluster, &holders), now, &Plugins::default()).unwrap_err();
        assert!(matches!(error, MakeKitError::Holder { .. }), "{error}");
    }

    #[test]
    fn a_share_for_a_plugin_that_is_allowed_is_sealed_by_it_and_opens_the_kit() {
        let cluster = ClusterName::new("prod").unwrap();
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let double = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins/age-plugin-double");
        std::os::unix::fs::symlink(double, folder.path().join("age-plugin-double")).unwrap();
        let path = std::env::join_paths([folder.path(), "/usr/bin".as_ref(), "/bin".as_ref()]).unwrap();
        let plugins = Plugins::allow(&["double".to_owned()], path, None).unwrap();
        let holders = [holder("ada", Some("age1double10qnf9hl4".into())), holder("bob", None)];
        let made = make_kit(&plan(&cluster, &holders), now, &plugins).unwrap();
        assert!(folder.path().join("ran-double").exists(), "the plugin was run");
        assert_eq!(made.recipients().collect::<Vec<_>>(), [Some("age1double10qnf9hl4"), None]);
        let (file, shares) = written(made);

        // the holder opens their share with the plugin's identity
        let sealed = folder.path().join("share.age");
        std::fs::write(&sealed, &shares[0].body).unwrap();
        let source = IdentitySource::Text("AGE-PLUGIN-DOUBLE-10QH4Y7PM".to_owned().into());
        let mut text = String::new();
        open_sealed(&sealed, source, folder.path(), &plugins).unwrap().read_to_string(&mut text).unwrap();
        let facts = file.unverified_facts();
        let mut gathered = Gathered::new(facts);
        for text in [text.as_str(), std::str::from_utf8(&shares[1].body).unwrap()] {
            gathered.take(facts, Share::parse(text).unwrap()).unwrap();
        }
        file.open(&gathered).unwrap();
    }

    #[test]
    fn nothing_is_written_for_another_entry() {
        let cluster = ClusterName::new("prod").unwrap();
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        let holders = [holder("bob", None), holder("eve", None)];
        let make = || make_kit(&plan(&cluster, &holders), now, &Plugins::default()).unwrap();
        let (one, other) = (make(), make());
        let entry = noted(Kind::KitMade, other.digest()).unwrap();
        assert_eq!(one.recorded(entry).map(drop), Err(MakeKitError::OtherEntry), "a kit of the same number");
        assert!(noted(Kind::KitDrill, other.digest()).is_none(), "an entry of another kind");
    }

    #[test]
    fn two_shares_for_one_key_are_refused() {
        let cluster = ClusterName::new("prod").unwrap();
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        let one = x25519::Identity::generate().to_public().to_string();
        let holders = [holder("ada", Some(one.clone())), holder("bob", Some(one))];
        let error = make_kit(&plan(&cluster, &holders), now, &Plugins::default()).unwrap_err();
        assert_eq!(error, MakeKitError::SameRecipient("ada".into(), "bob".into()));
        let alone = [holder("ada", None)];
        let error = make_kit(&plan(&cluster, &alone), now, &Plugins::default()).unwrap_err();
        assert_eq!(error, MakeKitError::Split(SplitError::Numbers));
    }
}
