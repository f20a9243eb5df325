//! What ends a request: taken back, taken away, reviewed.

use std::net::IpAddr;

use ichor_wire::log::{Content, Kind};

use super::{BreakGlass, BreakGlassError, Contents, about};
use crate::domain::{BreakGlassId, BreakGlassState, check_reason};
use crate::identity::Identity;
use crate::policy::Refusal;
use crate::store::{BreakGlassChange, BreakGlassFile, Closing, Review};

/// What a use was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// It was needed.
    Emergency,
    /// It was an exercise.
    Drill,
    /// It should not have been.
    Misuse,
}

impl BreakGlass {
    /// Returns once the pending request is taken back, which only whoever asked may do.
    ///
    /// # Errors
    /// When it is someone else's, or not pending.
    pub async fn cancel(
        &self,
        identity: &Identity,
        id: BreakGlassId,
        said: Option<String>,
        address: IpAddr,
    ) -> Result<(), BreakGlassError> {
        let (file, contents) = self.load(id).await?;
        self.may_see(identity, &contents)?;
        if *identity.person() != contents.person {
            let refusal =
                Refusal::plain("only whoever asked takes a request back", "deny it with `ichor break-glass deny`");
            let content = about(Kind::Refusal, identity, &contents, address);
            return Err(self.refused(content, refusal).await?);
        }
        let state = self.state_now(&file.request);
        if state != BreakGlassState::Pending {
            return Err(BreakGlassError::State(format!("the request is {state}, so it cannot be taken back")));
        }
        let content = about(Kind::BreakGlassCancelled, identity, &contents, address);
        self.close(identity, id, BreakGlassState::Cancelled, said, content).await
    }

    /// Returns once the approved request allows nothing more, also where its last use is on its way: given back, that opens nothing. A
    /// certificate that was or is still made of it lives until it expires. Whoever asked and whoever may approve such requests now may do
    /// this, whatever the policies were when it was made.
    ///
    /// # Errors
    /// When this person may not, or nothing is left to take away.
    pub async fn revoke(
        &self,
        identity: &Identity,
        id: BreakGlassId,
        said: Option<String>,
        address: IpAddr,
    ) -> Result<(), BreakGlassError> {
        let (file, contents) = self.load(id).await?;
        self.may_decide(identity, &contents)?;
        if *identity.person() != contents.person
            && let Err(refusal) = self.may_end(identity, &contents)
        {
            let content = about(Kind::Refusal, identity, &contents, address);
            return Err(self.refused(content, refusal).await?);
        }
        if !self.can_be_revoked(&file) {
            let state = self.state_now(&file.request);
            return Err(BreakGlassError::State(format!("the request is {state}, so nothing is left to take away")));
        }
        let content = self.about_ending(Kind::BreakGlassRevoked, identity, &contents, address);
        self.close(identity, id, BreakGlassState::Revoked, said, content).await
    }

    /// Whether something is left of it: it is approved, or its last use is on its way to a certificate, so that it may be approved again.
    pub(super) fn can_be_revoked(&self, file: &BreakGlassFile) -> bool {
        let is_in_time = file.request.good_until.is_some_and(|until| self.clock.now() < until);
        match self.state_now(&file.request) {
            BreakGlassState::Approved => true,
            BreakGlassState::Used => is_in_time && file.uses.iter().any(|using| using.is_open),
            _ => false,
        }
    }

    /// An entry's content about the end that this person makes of a request, or the label that they put on it.
    pub(super) fn about_ending(
        &self,
        kind: Kind,
        identity: &Identity,
        contents: &Contents,
        address: IpAddr,
    ) -> Content {
        let is_own = *identity.person() == contents.person;
        let by_account = (!is_own && self.is_another_by_account(identity, contents)).then_some(true);
        Content { by_account, ..about(kind, identity, contents, address) }
    }

    /// Records that this person ended the request, with what they said to it.
    pub(super) async fn close(
        &self,
        identity: &Identity,
        request: BreakGlassId,
        to: BreakGlassState,
        said: Option<String>,
        content: Content,
    ) -> Result<(), BreakGlassError> {
        let comment = comment(said)?;
        let content = Content { message: comment.clone(), ..content };
        let closing = Closing { by: identity.user().into(), at: self.clock.now(), comment };
        self.record(content, BreakGlassChange::Close { request, to, closing }).await
    }

    /// Returns once the use is labelled, by someone else who may approve such requests.
    ///
    /// # Errors
    /// When this person may not, nothing was made of the request, or more can still be made of it.
    pub async fn review(
        &self,
        identity: &Identity,
        id: BreakGlassId,
        label: Label,
        note: &str,
        address: IpAddr,
    ) -> Result<(), BreakGlassError> {
        let (file, contents) = self.load(id).await?;
        self.may_see(identity, &contents)?;
        check_reason(note)?;
        if let Err(refusal) = self.may_end(identity, &contents) {
            let content = about(Kind::Refusal, identity, &contents, address);
            return Err(self.refused(content, refusal).await?);
        }
        let state = self.state_now(&file.request);
        if !matches!(state, BreakGlassState::Used | BreakGlassState::Revoked) || file.request.used == 0 {
            let why = match state {
                BreakGlassState::Approved => "it can still be used; revoke it first, or wait",
                BreakGlassState::Reviewed => "it was reviewed",
                _ => "nothing was made of it",
            };
            return Err(BreakGlassError::State(format!("there is no use to review: {why}")));
        }
        if file.uses.iter().any(|using| using.is_open) {
            let why = "a use of it is on its way to a certificate: try again once that is there, in two minutes at the latest";
            return Err(BreakGlassError::State(why.into()));
        }
        let content = Content {
            label: Some(label.as_str().into()),
            message: Some(note.into()),
            ..self.about_ending(Kind::BreakGlassReview, identity, &contents, address)
        };
        let review = Review {
            label: label.as_str().into(),
            note: note.into(),
            by: identity.user().into(),
            at: self.clock.now(),
        };
        self.record(content, BreakGlassChange::Review { request: id, review: Box::new(review) }).await
    }
}

/// A comment as people can read it; a blank one is none.
pub(super) fn comment(said: Option<String>) -> Result<Option<String>, BreakGlassError> {
    let Some(said) = said.map(|said| said.trim().to_owned()).filter(|said| !said.is_empty()) else { return Ok(None) };
    check_reason(&said).map_err(|error| BreakGlassError::Bad(error.to_string().replace("reason", "comment")))?;
    Ok(Some(said))
}

// === impl Label ===

impl Label {
    /// The label as entries have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Emergency => "emergency",
            Self::Drill => "drill",
            Self::Misuse => "misuse",
        }
    }

    /// The label of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Emergency, Self::Drill, Self::Misuse].into_iter().find(|label| label.as_str() == name)
    }
}
