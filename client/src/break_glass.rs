//! Break-glass: asking for access that others approve, and approving it.

use std::time::Duration;

use ichor_wire::api::{
    BreakGlassAnswer, BreakGlassAsk, BreakGlassContents, BreakGlassEnd, BreakGlassLabel, BreakGlassList,
    BreakGlassReport, BreakGlassUse, BreakGlassVote, CONTENTS_FORMAT, contents_sha256,
};
use uuid::Uuid;

use crate::broker::Broker;
use crate::certificate::{Held, Wish, issued};
use crate::error::Error;
use crate::session::Session;

/// How often the broker is asked whether others have decided.
const PACE: Duration = Duration::from_secs(2);

/// So many requests are asked for at a time.
const LARGEST_PAGE: usize = 500;

/// A request whose contents were checked: what is shown is the text whose SHA-256 is approved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glass {
    /// The broker's answer.
    pub answer: BreakGlassAnswer,
    /// What is asked for.
    pub contents: BreakGlassContents,
}

/// What someone who may decide says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    /// Yes.
    Approve,
    /// No.
    Deny,
}

/// How a request is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Whoever asked takes it back.
    Cancel,
    /// What it still allows is taken away.
    Revoke,
}

/// Asks for access.
///
/// # Errors
/// The broker's refusal or problem.
pub async fn ask(session: &Session, ask: &BreakGlassAsk) -> Result<Glass, Error> {
    Glass::of(session, session.broker().post(session, &["break-glass"], ask).await?)
}

/// Requests that this person may see, newest first, one page.
///
/// # Errors
/// The broker's problem.
pub async fn list(session: &Session, query: &[(&str, String)]) -> Result<(Vec<Glass>, Option<Uuid>), Error> {
    let list: BreakGlassList = session.broker().get(session, &["break-glass"], query).await?;
    let glasses = list.requests.into_iter().map(|answer| Glass::of(session, answer)).collect::<Result<_, _>>()?;
    Ok((glasses, list.next))
}

/// Requests that this person may see, newest first, at most `limit` of them, page by page; and where to go on, if there are more.
///
/// # Errors
/// The broker's problem.
pub async fn list_up_to(
    session: &Session,
    query: &[(&str, String)],
    limit: usize,
) -> Result<(Vec<Glass>, Option<Uuid>), Error> {
    let (mut found, mut next) = (Vec::new(), None);
    loop {
        let page = limit.saturating_sub(found.len()).min(LARGEST_PAGE);
        let mut asked = vec![("limit", page.to_string())];
        asked.extend_from_slice(query);
        asked.extend(next.map(|next: Uuid| ("cursor", next.to_string())));
        let (mut glasses, behind) = list(session, &asked).await?;
        found.append(&mut glasses);
        // a broker that leads nowhere is not followed
        let is_stuck = behind.is_some() && behind == next;
        next = behind;
        if next.is_none() || is_stuck || found.len() >= limit {
            return Ok((found, next));
        }
    }
}

/// One request.
///
/// # Errors
/// The broker's problem.
pub async fn show(session: &Session, id: Uuid) -> Result<Glass, Error> {
    Glass::of(session, session.broker().get(session, &["break-glass", &id.to_string()], &[]).await?)
}

/// Returns once it is no longer pending. A broker that is out of reach or asks for patience is asked again, as long as the request
/// waits.
///
/// # Errors
/// The broker's problem.
pub async fn decided(session: &Session, asked: &Glass) -> Result<Glass, Error> {
    loop {
        match show(session, asked.answer.id).await {
            Ok(glass) if glass.answer.state != "pending" => return Ok(glass),
            Err(error) if !passes(&error) || session.broker().clock().now() >= asked.contents.waits_until => {
                return Err(error);
            }
            Ok(_) | Err(_) => tokio::time::sleep(PACE).await,
        }
    }
}

/// Whether it may be gone at the next try: the network, a restart of the broker, too many requests at a time.
fn passes(error: &Error) -> bool {
    match error {
        Error::Unreachable { .. } => true,
        Error::Problem(problem) => matches!(problem.status, 429 | 503),
        _ => false,
    }
}

/// Approves or denies exactly what `glass` says.
///
/// # Errors
/// The broker's refusal or problem: also when the request says something else by now.
pub async fn vote(session: &Session, glass: &Glass, vote: Vote, comment: Option<String>) -> Result<Glass, Error> {
    let what = match vote {
        Vote::Approve => "approve",
        Vote::Deny => "deny",
    };
    let body = BreakGlassVote { sha256: contents_sha256(&glass.answer.contents), comment };
    let path = ["break-glass", &glass.answer.id.to_string(), what];
    Glass::of(session, session.broker().post(session, &path, &body).await?)
}

/// Ends a request.
///
/// # Errors
/// The broker's refusal or problem.
pub async fn end(session: &Session, id: Uuid, end: End, comment: Option<String>) -> Result<Glass, Error> {
    let what = match end {
        End::Cancel => "cancel",
        End::Revoke => "revoke",
    };
    let path = ["break-glass", &id.to_string(), what];
    Glass::of(session, session.broker().post(session, &path, &BreakGlassEnd { comment }).await?)
}

/// Labels the use of someone else's request.
///
/// # Errors
/// The broker's refusal or problem.
pub async fn review(session: &Session, id: Uuid, label: &BreakGlassLabel) -> Result<Glass, Error> {
    Glass::of(session, session.broker().post(session, &["break-glass", &id.to_string(), "review"], label).await?)
}

/// What was done under a request.
///
/// # Errors
/// The broker's problem.
pub async fn report(session: &Session, id: Uuid) -> Result<BreakGlassReport, Error> {
    session.broker().get(session, &["break-glass", &id.to_string(), "report"], &[]).await
}

/// A certificate of an approved request, for a key made here.
///
/// # Errors
/// The broker's refusal or problem, or an answer that is not for this key or grant.
pub async fn certificate(session: &Session, glass: &Glass) -> Result<Held, Error> {
    let path = ["break-glass", &glass.answer.id.to_string(), "certificates"];
    issued(session, &path, &glass.wish(), |csr| BreakGlassUse { csr }).await
}

// === impl Glass ===

impl Glass {
    /// The broker's answer, once its contents are the text that its hash is of, about this very request.
    fn of(session: &Session, answer: BreakGlassAnswer) -> Result<Self, Error> {
        let contents: Option<BreakGlassContents> = serde_json::from_str(&answer.contents).ok();
        let fits = contents.filter(|contents| {
            contents.format == CONTENTS_FORMAT
                && contents.id == answer.id
                && contents_sha256(&answer.contents) == answer.sha256
        });
        match fits {
            Some(contents) => Ok(Self { answer, contents }),
            None => Err(session.broker().not_a_broker("a break-glass request that it shows is not what its hash says")),
        }
    }

    /// The address of its page at this broker, for approvers' browsers.
    #[must_use]
    pub fn page(&self, broker: &Broker) -> String {
        format!("{}/break-glass/{}", broker.url().trim_end_matches('/'), self.answer.id)
    }

    /// What a certificate of it is for.
    #[must_use]
    pub fn wish(&self) -> Wish {
        Wish {
            cluster: self.contents.cluster.clone(),
            roles: self.contents.roles.clone(),
            ttl: Some(self.contents.ttl),
            reason: Some(self.contents.reason.clone()),
        }
    }

    /// Whether the person may do this with it now.
    #[must_use]
    pub fn may(&self, what: &str) -> bool {
        self.answer.may.iter().any(|may| may == what)
    }
}
