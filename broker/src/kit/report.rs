//! An opening that is brought back: its record held against the log's kits, and the entry that it becomes.

use ichor_wire::api::KitLabel;
use ichor_wire::kit::{Record, RecordError, SignedRecord};
use ichor_wire::log::{Content, Kind, Kit};
use ichor_wire::reason::visible;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::beyond::{BEYOND, Claim, can_be_a_name, is_to_come};
use super::{Opening, Standing};
use crate::audit::as_recorded;
use crate::domain::{GrantId, check_reason};
use crate::store::{EntryFilter, Store, StoreError};

/// So many reports of one grant are looked through.
const LOOKED_THROUGH: u32 = 200;

/// An opening that can be recorded.
#[derive(Clone, Debug)]
pub struct Reported {
    /// What the opener's machine recorded, signed by the kit's key.
    pub record: Record,
    /// The opener's name, as it can be shown.
    pub name: String,
    /// In what the record claims more than the kit gives. It is recorded as that, explains nothing, and every alarm stays.
    pub beyond: Option<String>,
    /// The entry; who brings it is to be added.
    pub content: Content,
}

/// Why a record is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// It is none, or not as it was signed.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The note cannot stand in the audit.
    #[error("the note cannot be taken: {0}")]
    Note(String),
    /// The log has no such kit.
    #[error("the log tells of no kit {0} with this id")]
    UnknownKit(u16),
    /// The kit's key is of another kind than kits have.
    #[error("the kit's key is of another kind; keep the record as evidence")]
    Key,
    /// It was signed by the kit's key, and does not say what the log says of the kit.
    #[error("the record names another kit, cluster or grant than the log has under this id; keep it as evidence")]
    OtherKit,
    /// It names a grant that the log has as another's: of a person, of another kit.
    #[error(
        "the record names a grant that the log has as another's, so the kit's key may be in strangers' hands; keep it as evidence"
    )]
    OthersGrant,
    /// It was reported before, with the same label.
    #[error("this opening is reported already, as {0}")]
    Already(&'static str),
    /// The log could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The opening that a record tells of, if the kit's key signed it and it fits what the log says of the kit. One that was reported before
/// can be reported once more with another label. One that claims more than the kit gives is taken as [`BEYOND`], whatever it is said to be.
///
/// # Errors
/// Why it is not taken.
pub async fn reported(
    store: &dyn Store,
    kits: &[Standing],
    text: &str,
    label: KitLabel,
    note: Option<&str>,
    now: Timestamp,
) -> Result<Reported, ReportError> {
    if let Some(note) = note {
        check_reason(note).map_err(|error| ReportError::Note(error.to_string()))?;
    }
    let claimed = SignedRecord::unverified_record(text)?;
    let kit = kits.iter().find(|kit| kit.id == claimed.kit).ok_or(ReportError::UnknownKit(claimed.number))?;
    let signed = SignedRecord::parse(text, &kit.record_key().ok_or(ReportError::Key)?)?;
    let record = signed.record();
    let is_its_grant = !kit.is_static() || record.grant == kit.id;
    if record.number != kit.number || record.cluster != kit.cluster || !is_its_grant {
        return Err(ReportError::OtherKit);
    }
    let of_another = |other: &Standing| other.id != kit.id && other.is_static() && other.id == record.grant;
    if kits.iter().any(of_another) || is_others(store, record.grant, kit.id).await? {
        return Err(ReportError::OthersGrant);
    }
    let roles: Vec<String> = record.roles.iter().map(ToString::to_string).collect();
    let mut beyond = kit.beyond(&Claim { roles: &roles, opened: record.opened, until: record.not_after });
    if is_to_come(record.opened, now) {
        beyond.push("it was opened at a time that has not come".into());
    }
    let name = if can_be_a_name(&record.name) {
        record.name.clone()
    } else {
        beyond.push("no certificate can hold its opener's name".into());
        record.name.escape_default().take(120).collect()
    };
    let beyond = (!beyond.is_empty()).then(|| beyond.join("; "));
    let (said, label) = (label.as_str(), if beyond.is_some() { BEYOND } else { label.as_str() });
    let is_same = |grant, opened: Timestamp, until: Timestamp| {
        // entries have whole seconds
        let seconds = [record.opened, record.not_after].map(Timestamp::as_second);
        grant == record.grant && [opened, until].map(Timestamp::as_second) == seconds
    };
    let mut same = kit.openings.iter().filter(|it| is_same(it.grant, it.opened, it.until) && it.name == name);
    if same.any(|opening| opening.labels.iter().any(|known| known == label)) {
        return Err(ReportError::Already(label));
    }
    let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).ok();
    let shares: Vec<String> = record.shares.iter().map(ToString::to_string).collect();
    let claims =
        |beyond| format!("it claims more than the kit gives, and explains nothing: {beyond}; reported as {said}; ");
    let message = format!(
        "{}kit {} was opened with shares {}, by its record as {}@{}{}",
        beyond.as_ref().map(claims).unwrap_or_default(),
        kit.number,
        shares.join(" "),
        visible(&record.os_user, 64),
        visible(&record.host, 64),
        note.map(|note| format!("; {note}")).unwrap_or_default()
    );
    let content = Content {
        cluster: Some(kit.cluster.clone()),
        kit: Some(Kit {
            number: kit.number,
            id: Some(kit.id.into_bytes().to_vec()),
            user: kit.user(),
            ..Kit::default()
        }),
        grant: Some(record.grant.into_bytes().to_vec()),
        roles: Some(roles),
        reason: Some(readable(&record.reason)),
        not_after: Some(record.not_after.as_second()),
        opened: Some(record.opened.as_second()),
        claimed: Some(name.clone()),
        kit_label: Some(label.into()),
        shares: Some(record.shares.clone()),
        serial: hex(&record.serial),
        public_key: hex(&record.public_key).filter(|digest| digest.len() == Sha256::output_size()),
        digests: Some([("record".to_owned(), data_encoding::HEXLOWER.encode(&signed.digest()))].into()),
        message: Some(message.chars().take(1_000).collect()),
        ..Content::of(Kind::KitOpened)
    };
    Ok(Reported { record: record.clone(), name, beyond, content })
}

impl Standing {
    /// Whether this entry's opening is recorded already, with its label.
    pub(super) fn has_reported(&self, content: &Content) -> bool {
        let is_its = content.kit.as_ref().and_then(|kit| kit.id.as_deref()) == Some(self.id.as_bytes().as_slice());
        let is_same = |opening: &Opening| {
            content.grant.as_deref() == Some(opening.grant.as_bytes().as_slice())
                && content.opened == Some(opening.opened.as_second())
                && content.not_after == Some(opening.until.as_second())
                && content.claimed.as_deref() == Some(opening.name.as_str())
                && content.kit_label.as_ref().is_some_and(|label| opening.labels.contains(label))
        };
        is_its && self.openings.iter().any(is_same)
    }
}

/// Whether the log has this grant as another's than this kit's: the broker's own, or what another kit gave.
async fn is_others(store: &dyn Store, grant: Uuid, kit: Uuid) -> Result<bool, StoreError> {
    let of = |kind| EntryFilter { grant: Some(GrantId(grant)), kind: Some(kind), ..EntryFilter::default() };
    if !store.entries(&of(Kind::Grant), None, 1).await?.is_empty() {
        return Ok(true);
    }
    let reports = store.entries(&of(Kind::KitOpened), None, LOOKED_THROUGH).await?;
    for stored in reports {
        let entry = as_recorded(&stored, Some(Kind::KitOpened))?;
        if entry.and_then(|entry| entry.content.kit?.id).is_some_and(|id| id != kit.as_bytes()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The reason as the log takes it. What was signed is never refused: what cannot be seen in it is written out.
fn readable(reason: &str) -> String {
    if check_reason(reason).is_ok() {
        return reason.to_owned();
    }
    let plain: String = reason.escape_default().take(400).collect();
    format!("as the record has it: {plain}")
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::Ed25519KeyPair;
    use ichor_wire::role::Role;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, PKCS_ED25519, date_time_ymd};

    use super::*;
    use crate::audit::tests::Room;
    use crate::kit::ledger::tests::made;
    use crate::kit::{State, read};
    use crate::store::conformance::{after, noon};

    const GRANT: Uuid = Uuid::from_u128(9);

    /// A log with the kit 7, of os:admin for an hour at most, and the key of its CA, as whoever combines its shares has it.
    struct Key {
        room: Room,
        key: Ed25519KeyPair,
    }

    impl Key {
        async fn new() -> Self {
            let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            (params.not_before, params.not_after) = (date_time_ymd(2026, 11, 22), date_time_ymd(2027, 11, 22));
            let ca = params.self_signed(&pair).unwrap().der().to_vec();
            let made = made();
            let until = "2027-11-22T00:00:00Z".parse::<Timestamp>().unwrap().as_second();
            let kit = Kit { ca: Some(ca), until: Some(until), ..made.kit.clone().unwrap() };
            let room = Room::new([]);
            room.sequencer.note(Content { kit: Some(kit), ..made }, None).await.unwrap();
            Self { room, key: Ed25519KeyPair::from_pkcs8(&pair.serialize_der()).unwrap() }
        }

        async fn kit(&self) -> Standing {
            read(&*self.room.store).await.unwrap().remove(0)
        }

        async fn tried(&self, record: Record, label: KitLabel) -> Result<Reported, ReportError> {
            let signed = record.signed(|bytes| Some(self.key.sign(bytes).as_ref().to_vec())).unwrap();
            reported(&*self.room.store, &[self.kit().await], signed.text(), label, None, noon()).await
        }

        async fn recorded(&self, record: Record, label: KitLabel) -> Result<Reported, ReportError> {
            let reported = self.tried(record, label).await?;
            self.room.sequencer.note(reported.content.clone(), None).await.unwrap();
            Ok(reported)
        }
    }

    fn record() -> Record {
        Record {
            version: 1,
            number: 7,
            kit: Uuid::from_u128(7),
            cluster: "prod".into(),
            grant: GRANT,
            name: "ada".into(),
            reason: "INC-42 etcd down".into(),
            roles: vec![Role::Admin],
            opened: after(-60),
            not_after: after(-60 + 3600),
            serial: "01".into(),
            public_key: "00".repeat(32),
            shares: vec![1, 2],
            os_user: "ada".into(),
            host: "laptop".into(),
        }
    }

    /// An unreported use of the grant stands in the log; each of these is signed by the kit's own key.
    #[tokio::test]
    async fn a_report_that_claims_more_than_the_kit_gives_is_recorded_as_that_and_explains_nothing() {
        let year = 365 * 24 * 3600;
        let beyond = [
            ("the kit does not give os:etcd:backup", Record { roles: vec![Role::Admin, Role::EtcdBackup], ..record() }),
            ("it lasts longer than 3600 s", Record { not_after: after(-60 + 3601), ..record() }),
            ("it lasts longer than 3600 s", Record { not_after: after(3 * year), ..record() }),
            ("it ends before it begins", Record { not_after: after(-120), ..record() }),
            ("the kit is good from", Record { opened: after(-year), not_after: after(60 - year), ..record() }),
            ("the kit is good from", Record { opened: after(year), not_after: after(year + 60), ..record() }),
            ("a time that has not come", Record { opened: after(3600), not_after: after(7200), ..record() }),
            (
                "no certificate can hold its opener's name",
                Record { name: "Ada\x1b[2J\nkit 7  fresh\u{202e}".into(), ..record() },
            ),
            ("no certificate can hold its opener's name", Record { name: String::new(), ..record() }),
        ];
        for (why, record) in beyond {
            let key = Key::new().await;
            let used = Content {
                cluster: Some("prod".into()),
                kit: Some(Kit { number: 7, ..Kit::default() }),
                grant: Some(GRANT.into_bytes().to_vec()),
                ..Content::of(Kind::KitInUse)
            };
            key.room.sequencer.note(used, None).await.unwrap();
            let reported = key.recorded(record.clone(), KitLabel::Drill).await.unwrap();
            assert!(reported.beyond.as_ref().is_some_and(|said| said.contains(why)), "{why}: {:?}", reported.beyond);
            let content = reported.content;
            assert_eq!(content.kit_label.as_deref(), Some(BEYOND), "{why}");
            let message = content.message.unwrap();
            assert!(message.contains(why) && message.contains("reported as drill"), "{message}");
            for text in [&message, &reported.name, content.claimed.as_ref().unwrap()] {
                assert!(!text.chars().any(ichor_wire::reason::is_unseen), "{text:?}");
            }
            assert_eq!(key.kit().await.state(noon()), State::Unreported, "{why}: the alarm stays");
            let again = key.tried(record, KitLabel::Emergency).await.unwrap_err();
            assert_eq!(again, ReportError::Already(BEYOND), "{why}");
        }
    }

    #[tokio::test]
    async fn what_the_kit_gives_is_reported_once_for_each_label_and_every_label_stays() {
        let key = Key::new().await;
        for label in [KitLabel::Misuse, KitLabel::Drill] {
            let reported = key.recorded(record(), label).await.unwrap();
            assert_eq!((reported.beyond, reported.content.kit_label.as_deref()), (None, Some(label.as_str())));
            let again = key.tried(record(), label).await.unwrap_err();
            assert_eq!(again, ReportError::Already(label.as_str()));
        }
        let openings = key.kit().await.openings;
        assert_eq!(openings.len(), 1);
        assert_eq!(openings[0].labels, ["misuse", "drill"]);
        let hidden =
            Record { os_user: "x\x1b[2J".into(), host: "h\u{202e}".into(), grant: Uuid::from_u128(10), ..record() };
        let message = key.recorded(hidden, KitLabel::Drill).await.unwrap().content.message.unwrap();
        assert!(!message.chars().any(ichor_wire::reason::is_unseen), "{message:?}");
    }

    #[tokio::test]
    async fn a_report_of_another_kit_or_that_its_key_did_not_sign_is_refused() {
        let key = Key::new().await;
        for other in [Record { number: 8, ..record() }, Record { cluster: "lab".into(), ..record() }] {
            assert_eq!(key.tried(other, KitLabel::Drill).await.unwrap_err(), ReportError::OtherKit);
        }
        let unknown = Record { kit: Uuid::from_u128(8), ..record() };
        assert_eq!(key.tried(unknown, KitLabel::Drill).await.unwrap_err(), ReportError::UnknownKit(7));
        let stranger = Ed25519KeyPair::generate().unwrap();
        let signed = record().signed(|bytes| Some(stranger.sign(bytes).as_ref().to_vec())).unwrap();
        let kits = [key.kit().await];
        let refused = reported(&*key.room.store, &kits, signed.text(), KitLabel::Drill, None, noon()).await;
        assert_eq!(refused.unwrap_err(), ReportError::Record(RecordError::Signature));
    }

    #[tokio::test]
    async fn a_report_of_anothers_grant_is_refused() {
        let key = Key::new().await;
        let of =
            |kind, kit: Option<Kit>| Content { grant: Some(GRANT.into_bytes().to_vec()), kit, ..Content::of(kind) };
        key.tried(record(), KitLabel::Drill).await.unwrap();
        key.room.sequencer.note(of(Kind::Grant, None), None).await.unwrap();
        assert_eq!(key.tried(record(), KitLabel::Drill).await.unwrap_err(), ReportError::OthersGrant, "a person's");

        let key = Key::new().await;
        let another = Kit { number: 8, id: Some(Uuid::from_u128(8).into_bytes().to_vec()), ..Kit::default() };
        key.room.sequencer.note(of(Kind::KitOpened, Some(another)), None).await.unwrap();
        assert_eq!(key.tried(record(), KitLabel::Drill).await.unwrap_err(), ReportError::OthersGrant, "another kit's");

        let key = Key::new().await;
        let fixed = Standing { id: GRANT, number: 8, certificate: Some(vec![1]), ..key.kit().await };
        let kits = [key.kit().await, fixed];
        let signed = record().signed(|bytes| Some(key.key.sign(bytes).as_ref().to_vec())).unwrap();
        let refused = reported(&*key.room.store, &kits, signed.text(), KitLabel::Drill, None, noon()).await;
        assert_eq!(refused.unwrap_err(), ReportError::OthersGrant, "a static kit's");
    }

    #[test]
    fn whatever_reason_was_signed_can_be_reported() {
        assert_eq!(readable("INC-42 etcd down"), "INC-42 etcd down");
        for signed in ["INC \u{2764}\u{fe0f}", "", "\u{202e}", &"x".repeat(2_000)] {
            assert_eq!(check_reason(&readable(signed)), Ok(()), "{signed:?}");
        }
        assert_eq!(readable("INC\u{fe0f}"), "as the record has it: INC\\u{fe0f}");
    }
}
