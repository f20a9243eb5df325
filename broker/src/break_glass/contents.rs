//! The exact contents of a request, and the broker's mark on them and on approvals.

use ichor_wire::api::{BreakGlassContents, CONTENTS_FORMAT};
use sha2::{Digest, Sha256};

use crate::custody::DataKey;
use crate::domain::{BreakGlassId, ClusterName, Human, Person, ProviderAlias};
use crate::store::{ApprovalRow, BreakGlassRow, ToldRow};

const REQUEST: &[u8] = b"ichor break-glass request 1\0";
const TOLD: &[u8] = b"ichor break-glass notification 1\0";
const APPROVAL: &[u8] = b"ichor break-glass approval 1\0";

/// A request's contents, as the broker wrote them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// What is asked for.
    pub said: BreakGlassContents,
    /// The exact text.
    pub text: String,
    /// SHA-256 of the text.
    pub hash: [u8; 32],
    /// Who asked.
    pub person: Person,
    /// What tells the human behind the account from others.
    pub human: [u8; 32],
    /// The cluster's name.
    pub cluster: ClusterName,
    /// SHA-256 of the policy set.
    pub policy_digest: [u8; 32],
}

// === impl Contents ===

impl Contents {
    /// The human who asked.
    pub(super) fn requester(&self) -> Human {
        Human { person: self.person.clone(), told: self.said.human_told.then_some(self.human) }
    }

    /// The mark on these contents.
    pub(super) fn tag(&self, key: &DataKey) -> [u8; 32] {
        key.tag(REQUEST, &marked(&self.human, &self.text))
    }
}

/// What the mark is over: the human's 32 bytes, then the text.
fn marked(human: &[u8; 32], text: &str) -> Vec<u8> {
    [human.as_slice(), text.as_bytes()].concat()
}

/// The contents of what is asked for.
pub(super) fn write(
    said: BreakGlassContents,
    person: Person,
    human: [u8; 32],
    policy_digest: [u8; 32],
) -> Option<Contents> {
    let text = serde_json::to_string(&said).ok()?;
    let cluster = ClusterName::new(&said.cluster).ok()?;
    let hash = Sha256::digest(text.as_bytes()).into();
    Some(Contents { said, text, hash, person, human, cluster, policy_digest })
}

/// The contents of a row, if the broker wrote them for this request.
pub(super) fn read(row: &BreakGlassRow, key: &DataKey) -> Option<Contents> {
    let forged = || {
        tracing::error!(request = %row.id, "a break-glass request was not written by this broker and is not believed: someone else writes the database");
        metrics::counter!("ichor_forged_rows_total", "table" => "break_glass").increment(1);
        None
    };
    let hash: [u8; 32] = Sha256::digest(row.contents.as_bytes()).into();
    if !key.has_tagged(REQUEST, &marked(&row.human, &row.contents), &row.tag) || hash != row.hash {
        return forged();
    }
    let said: BreakGlassContents = serde_json::from_str(&row.contents).ok()?;
    let person = Person {
        provider: ProviderAlias::new(&said.provider).ok()?,
        issuer: said.issuer.clone(),
        subject: said.subject.clone(),
    };
    if said.format != CONTENTS_FORMAT || BreakGlassId(said.id) != row.id || person != row.person {
        return forged();
    }
    let policy_digest = data_encoding::HEXLOWER.decode(said.policy_digest.as_bytes()).ok()?.try_into().ok()?;
    Some(Contents {
        text: row.contents.clone(),
        hash,
        person,
        human: row.human,
        cluster: ClusterName::new(&said.cluster).ok()?,
        policy_digest,
        said,
    })
}

/// The mark on an approval of the request.
pub(super) fn approval_tag(request: BreakGlassId, row: &ApprovalRow, key: &DataKey) -> [u8; 32] {
    key.tag(APPROVAL, &told(request, row))
}

/// Whether the broker wrote this approval of the request.
pub(super) fn is_vouched(request: BreakGlassId, row: &ApprovalRow, key: &DataKey) -> bool {
    let is_ours = key.has_tagged(APPROVAL, &told(request, row), &row.tag);
    if !is_ours {
        tracing::error!(%request, "an approval was not written by this broker and does not count: someone else writes the database");
        metrics::counter!("ichor_forged_rows_total", "table" => "break_glass_approval").increment(1);
    }
    is_ours
}

/// The mark on the acceptance of a notification of the request.
pub(super) fn told_tag(request: BreakGlassId, row: &ToldRow, key: &DataKey) -> [u8; 32] {
    key.tag(TOLD, &accepted(request, row))
}

/// Whether the broker wrote that a notification of the request was accepted.
pub(super) fn was_told(request: BreakGlassId, row: &ToldRow, key: &DataKey) -> bool {
    let is_ours = key.has_tagged(TOLD, &accepted(request, row), &row.tag);
    if !is_ours {
        tracing::error!(%request, "that a notification was accepted was not written by this broker and does not count: someone else writes the database");
        metrics::counter!("ichor_forged_rows_total", "table" => "break_glass_told").increment(1);
    }
    is_ours
}

/// All of it; the sink's name is what is left.
fn accepted(request: BreakGlassId, ToldRow { hash, sink, at, tag: _ }: &ToldRow) -> Vec<u8> {
    [request.0.as_bytes().as_slice(), hash, &at.as_microsecond().to_be_bytes(), sink.as_bytes()].concat()
}

/// All of it, in parts that tell their own lengths.
fn told(request: BreakGlassId, row: &ApprovalRow) -> Vec<u8> {
    let ApprovalRow { human, hash, person, name, user, session, comment, at, tag: _ } = row;
    let mut out = [request.0.as_bytes().as_slice(), human, hash, session.0.as_bytes()].concat();
    out.extend_from_slice(&at.as_microsecond().to_be_bytes());
    let texts = [person.provider.as_str(), &person.issuer, &person.subject, name, user];
    for text in texts.into_iter().chain(comment.as_deref()) {
        out.extend_from_slice(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        out.extend_from_slice(text.as_bytes());
    }
    out
}
