//! Entries as people and programs read them.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Entry, KitHolder, Leaf, NodeCalls, Places};
use crate::api::AuditEntry;

impl AuditEntry {
    /// The answer for one entry of the log; `leaf_hash` is its leaf's hash.
    #[must_use]
    pub fn of(index: u64, entry: &Entry, leaf_hash: &[u8; 32]) -> Self {
        let content = &entry.content;
        let person = content.person.as_ref();
        Self {
            index,
            id: uuid(&entry.id).unwrap_or_default(),
            time: time(entry.time),
            kind: content.kind.as_str().into(),
            user: person.map(|person| person.user.clone()),
            issuer: person.map(|person| person.issuer.clone()),
            subject: person.map(|person| person.subject.clone()),
            cluster: content.cluster.clone(),
            grant_id: content.grant.as_deref().and_then(uuid),
            session_id: content.session.as_deref().and_then(uuid),
            detail: detail(entry),
            leaf_hash: HEXLOWER.encode(leaf_hash),
        }
    }

    /// The answer for an entry whose body was dropped: nothing but its place, time and hash; its kind reads `dropped`.
    #[must_use]
    pub fn of_dropped(leaf: &Leaf, leaf_hash: &[u8; 32]) -> Self {
        Self {
            index: leaf.index,
            id: Uuid::nil(),
            time: time(leaf.time),
            kind: "dropped".into(),
            user: None,
            issuer: None,
            subject: None,
            cluster: None,
            grant_id: None,
            session_id: None,
            detail: BTreeMap::new(),
            leaf_hash: HEXLOWER.encode(leaf_hash),
        }
    }
}

/// A length of time, as `30m`.
fn life(seconds: u64) -> String {
    format!("{:#}", SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX)))
}

/// Every field that has no place of its own, by its name. A file's digest is named `digest of FILE`.
fn detail(entry: &Entry) -> BTreeMap<String, String> {
    let content = &entry.content;
    let person = content.person.as_ref();
    let kit = content.kit.as_ref();
    let fields = [
        ("broker", Some(entry.broker.clone())),
        ("provider", person.map(|person| person.provider.clone())),
        ("name", person.map(|person| person.name.clone())),
        ("address", content.address.clone()),
        ("roles", content.roles.as_ref().map(|roles| roles.join(" "))),
        ("not_after", content.not_after.map(seconds)),
        ("reason", content.reason.clone()),
        ("policies", content.policies.as_ref().map(|policies| policies.join(" "))),
        ("code", content.code.clone()),
        ("serial", content.serial.as_deref().map(hex)),
        ("fingerprint", content.fingerprint.as_deref().map(hex)),
        ("public_key", content.public_key.as_deref().map(hex)),
        ("count", content.count.map(|count| count.to_string())),
        ("os_user", content.os_user.clone()),
        ("host", content.host.clone()),
        ("message", content.message.clone()),
        ("mode", content.mode.clone()),
        ("policy_digest", content.policy_digest.as_deref().map(hex)),
        ("key_made_by", content.key_made_by.clone()),
        ("log_key", content.log_key.as_ref().map(|key| key.new.clone())),
        ("old_log_key", content.log_key.as_ref().and_then(|key| key.old.clone())),
        ("old_log", content.old_head.as_ref().map(|head| head.origin.clone())),
        ("old_size", content.old_head.as_ref().map(|head| head.size.to_string())),
        ("old_root", content.old_head.as_ref().map(|head| hex(&head.root))),
        ("dropped", content.dropped.as_deref().and_then(Places::read).map(|places| places.to_string())),
        ("drop_request", content.drop_request.as_deref().and_then(uuid).map(|id| id.to_string())),
        ("calls", content.calls.as_deref().map(hex)),
        ("lines", content.lines.as_deref().map(hex)),
        ("node", content.node.clone()),
        ("method", content.method.clone()),
        ("break_glass", content.break_glass.as_deref().and_then(uuid).map(|id| id.to_string())),
        ("contents", content.contents.as_deref().map(hex)),
        ("quorum", content.quorum.map(|quorum| quorum.to_string())),
        ("approvers", content.approvers.as_ref().map(|approvers| approvers.join(" "))),
        ("nodes", content.nodes.as_ref().map(|nodes| nodes.join(" "))),
        ("ticket", content.ticket.clone()),
        ("requester", content.requester.clone()),
        ("label", content.label.clone()),
        ("lock", content.lock.as_deref().and_then(uuid).map(|id| id.to_string())),
        ("locked", content.locked.clone()),
        ("locked_issuer", content.locked_user.as_ref().map(|(issuer, _)| issuer.clone())),
        ("locked_subject", content.locked_user.as_ref().map(|(_, subject)| subject.clone())),
        ("locked_session", content.locked_session.as_deref().and_then(uuid).map(|id| id.to_string())),
        ("locked_until", content.locked_until.map(seconds)),
        ("kit", kit.map(|kit| kit.number.to_string())),
        ("kit_id", kit.and_then(|kit| kit.id.as_deref()).and_then(uuid).map(|id| id.to_string())),
        ("kit_ca", kit.and_then(|kit| kit.ca.as_deref()).map(|ca| hex(&Sha256::digest(ca)))),
        ("kit_until", kit.and_then(|kit| kit.until).map(seconds)),
        ("kit_threshold", kit.and_then(|kit| kit.threshold).map(|threshold| threshold.to_string())),
        ("kit_ttl_cap", kit.and_then(|kit| kit.ttl_cap).map(|cap| cap.to_string())),
        ("kit_holders", kit.and_then(|kit| kit.holders.as_deref()).map(holders)),
        ("kit_file", kit.and_then(|kit| kit.file.as_deref()).map(hex)),
        ("kit_certificate", kit.and_then(|kit| kit.certificate.as_deref()).map(|der| hex(&Sha256::digest(der)))),
        ("kit_leads_to", kit.and_then(|kit| kit.leads_to.as_ref()).map(|endpoints| endpoints.join(" "))),
        ("kit_user", kit.and_then(|kit| kit.user.clone())),
        ("kit_replaces", kit.and_then(|kit| kit.replaces).map(|number| number.to_string())),
        ("witnesses", content.witnesses.as_ref().map(|witnesses| witnesses.join(", "))),
        ("shares", content.shares.as_deref().map(numbers)),
        ("claimed", content.claimed.clone()),
        ("kit_label", content.kit_label.clone()),
        ("challenge", content.challenge.as_deref().map(hex)),
        ("opened", content.opened.map(seconds)),
        ("by_account", content.by_account.map(|is_weak| is_weak.to_string())),
        ("self_service", content.self_service.map(|is_alone| is_alone.to_string())),
        ("told", content.told.clone()),
        ("life", content.life.map(life)),
        ("uses", content.uses.map(|uses| uses.to_string())),
        ("accepting", content.accepting.map(|(accept, asked)| format!("{accept} of {asked}"))),
        ("channel", content.channel.clone()),
        ("auth_time", content.auth_time.map(seconds)),
        ("acr", content.acr.clone()),
        ("node_calls", content.node_calls.as_deref().map(node_calls)),
    ];
    let named = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let digests = content.digests.iter().flatten().map(|(name, digest)| (format!("digest of {name}"), digest.clone()));
    named.chain(digests).collect()
}

/// Each holder with what their share is sealed to.
fn holders(holders: &[KitHolder]) -> String {
    let each = holders.iter().map(|holder| match &holder.recipient {
        Some(recipient) => format!("{} ({recipient})", holder.name),
        None => format!("{} (paper)", holder.name),
    });
    each.collect::<Vec<_>>().join(", ")
}

/// Each node with how many calls, and their digest.
fn node_calls(nodes: &[NodeCalls]) -> String {
    let each = nodes.iter().map(|of| format!("{} {} {}", of.node, of.count, hex(&of.calls)));
    each.collect::<Vec<_>>().join(", ")
}

fn numbers(numbers: &[u8]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn seconds(at: i64) -> String {
    time(at.saturating_mul(1_000_000)).to_string()
}

fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

fn uuid(bytes: &[u8]) -> Option<Uuid> {
    Uuid::from_slice(bytes).ok()
}

/// A time outside what a clock can show is shown as the epoch rather than refused: the log is what it is.
fn time(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::UNIX_EPOCH)
}
