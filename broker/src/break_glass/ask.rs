//! Asking.

use std::net::IpAddr;

use ichor_wire::api::{BreakGlassContents, CONTENTS_FORMAT};
use ichor_wire::log::{Content, Kind};
use jiff::SignedDuration;
use url::Url;

use super::{BreakGlass, BreakGlassError, about, contents, human};
use crate::domain::{BreakGlassId, BreakGlassState, ClusterName, Role, check_reason};
use crate::entropy;
use crate::identity::Identity;
use crate::mint::person;
use crate::policy::{self, Elevation, Refusal};
use crate::store::{BreakGlassChange, BreakGlassRow};

/// The most nodes named, and the longest name of one.
const NODES: (usize, usize) = (32, 253);

/// The longest URL of a ticket, in bytes.
const LONGEST_TICKET: usize = 512;

/// What someone asks for.
#[derive(Clone, Debug)]
pub struct Ask {
    /// On which cluster.
    pub cluster: ClusterName,
    /// Which roles; none asks for `os:reader`.
    pub roles: Vec<Role>,
    /// For how long; absent asks for the broker's default.
    pub ttl: Option<SignedDuration>,
    /// Why.
    pub reason: String,
    /// The nodes that will be touched.
    pub nodes: Vec<String>,
    /// The ticket's URL.
    pub ticket: Option<String>,
    /// Where the request came from.
    pub address: IpAddr,
    /// Whether nobody is to approve it.
    pub self_service: bool,
}

impl BreakGlass {
    /// Returns the request once it is recorded and waits for approvals. Every refusal of policy is recorded too.
    ///
    /// # Errors
    /// When what is asked cannot be, policy does not let this person ask, or the human behind the account asks for too much.
    pub async fn ask(&self, identity: &Identity, ask: Ask) -> Result<BreakGlassId, BreakGlassError> {
        check(&ask)?;
        let now = self.clock.now();
        let cluster = self.cluster(&ask.cluster)?;
        let policies = std::sync::Arc::clone(&self.policies.borrow());
        let elevation = Elevation {
            roles: &ask.roles,
            ttl: ask.ttl,
            reason: &ask.reason,
            ticket: ask.ticket.as_deref(),
            address: ask.address,
            self_service: ask.self_service,
        };
        let terms = match policy::elevation(&policies, identity, &cluster, &elevation, now) {
            Ok(terms) => terms,
            Err(refusal) => return Err(self.refused(unanswered(identity, &ask), refusal).await?),
        };
        let human = match human(identity) {
            Ok(human) => human,
            Err(refusal) => return Err(self.refused(unanswered(identity, &ask), refusal).await?),
        };
        if !self.settings.apart.is_of_now(&human) {
            // else the weaker rule for what was asked before would hold for it: whoever keeps such a session could review their own use
            let refusal = Refusal::plain(
                "this session is of before people were told apart as they are now",
                "log in anew (`ichor login`), and ask again",
            );
            return Err(self.refused(unanswered(identity, &ask), refusal).await?);
        }
        if ask.self_service && self.settings.sinks.borrow().is_empty() {
            let refusal = Refusal::plain(
                "nobody lets themselves in where no notification sink would be told of it",
                "ask others to approve; whoever runs the broker configures a sink with `[[notify]]`",
            );
            return Err(self.refused(unanswered(identity, &ask), refusal).await?);
        }
        let out_of_time = |_| BreakGlassError::Bad("the request would wait beyond all times".into());
        let id = BreakGlassId(entropy::uuid_v7(now)?);
        let said = BreakGlassContents {
            format: CONTENTS_FORMAT.into(),
            id: id.0,
            provider: identity.person().provider.as_str().into(),
            issuer: identity.person().issuer.clone(),
            subject: identity.person().subject.clone(),
            name: identity.name().into(),
            user: identity.user().into(),
            address: ask.address.to_string(),
            cluster: ask.cluster.as_str().into(),
            roles: terms.roles,
            ttl: terms.life.as_secs().unsigned_abs(),
            reason: ask.reason,
            ticket: ask.ticket,
            nodes: ask.nodes,
            created_at: now,
            waits_until: now.checked_add(terms.wait).map_err(out_of_time)?,
            approvals: terms.approvals,
            self_service: ask.self_service,
            uses: terms.uses,
            policies: terms.policies,
            policy_digest: data_encoding::HEXLOWER.encode(&policies.digest()),
            human_told: human.told.is_some(),
        };
        let human = human.digest();
        let contents = contents::write(said, identity.person().clone(), human, policies.digest());
        let contents = contents.ok_or_else(|| BreakGlassError::Bad("the request cannot be written down".into()))?;
        let row = BreakGlassRow {
            id,
            state: BreakGlassState::Pending,
            person: identity.person().clone(),
            human,
            cluster: contents.said.cluster.clone(),
            contents: contents.text.clone(),
            hash: contents.hash,
            tag: contents.tag(&self.data_key),
            quorum: contents.said.approvals,
            self_service: contents.said.self_service,
            uses: contents.said.uses,
            life: terms.life,
            waits_until: contents.said.waits_until,
            good_until: None,
            used: 0,
            jkt: None,
            closing: None,
            review: None,
            given: 0,
        };
        let content = Content {
            reason: Some(contents.said.reason.clone()),
            policies: Some(contents.said.policies.clone()),
            policy_digest: Some(policies.digest().to_vec()),
            quorum: Some(contents.said.approvals).filter(|_| !contents.said.self_service),
            nodes: (!contents.said.nodes.is_empty()).then(|| contents.said.nodes.clone()),
            ticket: contents.said.ticket.clone(),
            life: Some(contents.said.ttl),
            uses: Some(contents.said.uses),
            not_after: Some(contents.said.waits_until.as_second()),
            ..about(Kind::BreakGlassRequest, identity, &contents, ask.address)
        };
        let ask = BreakGlassChange::Ask { request: Box::new(row), bounds: self.settings.bounds };
        self.record_unlocked(identity, content, ask).await?;
        metrics::counter!("ichor_break_glass_requests_total", "cluster" => contents.said.cluster).increment(1);
        Ok(id)
    }
}

/// An entry's content about what was refused before there was a request.
fn unanswered(identity: &Identity, ask: &Ask) -> Content {
    Content {
        person: Some(person(identity)),
        session: identity.session().map(|id| id.0.as_bytes().to_vec()),
        cluster: Some(ask.cluster.as_str().into()),
        roles: Some(ask.roles.iter().map(ToString::to_string).collect()),
        reason: Some(ask.reason.clone()),
        address: Some(ask.address.to_string()),
        self_service: ask.self_service.then_some(true),
        ..Content::of(Kind::Refusal)
    }
}

/// Whether people can read what is asked: it will stand before approvers.
fn check(ask: &Ask) -> Result<(), BreakGlassError> {
    let bad = |why: &str| BreakGlassError::Bad(why.into());
    check_reason(&ask.reason)?;
    let (most, longest) = NODES;
    let is_node = |node: &String| {
        !node.is_empty()
            && node.len() <= longest
            && node.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".:-_[]".contains(&byte))
    };
    if ask.nodes.len() > most || !ask.nodes.iter().all(is_node) {
        return Err(bad("name at most 32 nodes, each by its name or address"));
    }
    if let Some(ticket) = &ask.ticket {
        let url = Url::parse(ticket).ok().filter(|url| {
            url.scheme() == "https" && url.has_host() && url.username().is_empty() && url.password().is_none()
        });
        let is_plain = ticket.len() <= LONGEST_TICKET && ticket.bytes().all(|byte| byte.is_ascii_graphic());
        if url.is_none_or(|url| url.as_str() != ticket) || !is_plain {
            return Err(bad("a ticket is an `https://` URL in its plain form, of at most 512 characters"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(nodes: &[&str], ticket: Option<&str>) -> bool {
        check(&Ask {
            cluster: ClusterName::new("prod").unwrap(),
            roles: Vec::new(),
            ttl: None,
            reason: "INC-42".into(),
            nodes: nodes.iter().map(|node| (*node).into()).collect(),
            ticket: ticket.map(Into::into),
            address: "192.0.2.1".parse().unwrap(),
            self_service: false,
        })
        .is_ok()
    }

    #[test]
    fn tickets_are_https_and_nodes_are_names() {
        assert!(asks(&["cp-1", "10.0.0.5", "[2001:db8::1]"], Some("https://tickets.example.com/browse/INC-42?x=1")));
        for ticket in [
            "http://t.example/1",
            "javascript:alert(1)",
            "https://u:p@t.example/",
            "https://t.example/ x",
            "t",
            "https://T.example/",
        ] {
            assert!(!asks(&[], Some(ticket)), "{ticket}");
        }
        for node in ["", "a b", "<b>", "x\u{202e}", &"x".repeat(254)] {
            assert!(!asks(&[node], None), "{node}");
        }
        assert!(!asks(&["x"; 33], None));
    }
}
