//! Requests of which the database says something else than the broker's marks and the log: someone else writes it.

use ichor_wire::log::{Content, Kind};
use ichor_wire::problem::Code;
use jiff::{SignedDuration, Timestamp};

use super::quorum::backing;
use super::{BreakGlass, BreakGlassError, Contents, person};
use crate::audit::LedgerError;
use crate::domain::{BreakGlassId, BreakGlassState};
use crate::identity::Identity;
use crate::store::{BreakGlassFile, BreakGlassFilter};

impl BreakGlass {
    /// Why a request that could still lead to something is not believed: its approvals bear no mark of the broker's, or the log
    /// says that it was denied, taken back, revoked, over or used up, or never asked for. `None` where all of it fits.
    pub(super) async fn suspicion(
        &self,
        file: &BreakGlassFile,
        contents: &Contents,
    ) -> Result<Option<String>, BreakGlassError> {
        let is_open = |file: &BreakGlassFile| {
            matches!(self.state_now(&file.request), BreakGlassState::Pending | BreakGlassState::Approved)
        };
        if !is_open(file) {
            return Ok(None);
        }
        if file.request.state == BreakGlassState::Approved
            && let Err(BreakGlassError::State(why)) = backing(file, contents)
        {
            return Ok(Some(format!("the database says that it is approved, but {why}")));
        }
        let against = match self.ledger.said(file.request.id, contents.said.created_at).await {
            Ok(said) => said.against(&contents.hash, contents.said.uses),
            Err(LedgerError::Store(error)) => return Err(error.into()),
            Err(error) => return Ok(Some(error.to_string())),
        };
        let Some(against) = against else { return Ok(None) };
        // what ended it commits with its entry: read behind the log, an honest row says so too
        let Some(file) = self.store.break_glass(file.request.id).await?.filter(is_open) else { return Ok(None) };
        Ok(Some(format!("the database says that it is {}, but the audit log says that {against}", file.request.state)))
    }

    /// Returns unless the request is suspect; that is recorded, and said aloud.
    ///
    /// # Errors
    /// When it is, or the store or the record fails.
    pub(super) async fn believed(
        &self,
        identity: &Identity,
        file: &BreakGlassFile,
        contents: &Contents,
    ) -> Result<(), BreakGlassError> {
        let Some(why) = self.suspicion(file, contents).await? else { return Ok(()) };
        tracing::error!(request = %file.request.id, why, "a break-glass request is not believed: someone else writes the database");
        metrics::counter!("ichor_forged_rows_total", "table" => "break_glass").increment(1);
        let content = Content {
            person: Some(person(identity)),
            session: identity.session().map(|id| id.0.as_bytes().to_vec()),
            cluster: Some(contents.said.cluster.clone()),
            roles: Some(contents.said.roles.iter().map(ToString::to_string).collect()),
            break_glass: Some(file.request.id.0.as_bytes().to_vec()),
            contents: Some(contents.hash.to_vec()),
            requester: (*identity.person() != contents.person).then(|| contents.said.user.clone()),
            code: Some(Code::Suspect.as_str().into()),
            message: Some(why.clone()),
            ..Content::of(Kind::Refusal)
        };
        self.sequencer.note(content, None).await?;
        Err(BreakGlassError::Suspect(why))
    }

    /// Reads on in the log, from the oldest request on that could still lead to something.
    pub(super) async fn read_on(&self) -> Result<(), BreakGlassError> {
        let mut oldest = self.clock.now();
        if self.ledger.has_begun().await {
            // nothing older was asked about
            return self.read_since(oldest).await;
        }
        let states = vec![BreakGlassState::Pending, BreakGlassState::Approved];
        let filter = BreakGlassFilter { states, ..BreakGlassFilter::default() };
        for row in self.store.break_glass_list(&filter, None, super::times::AT_ONCE).await? {
            oldest = oldest.min(made_at(row.id).unwrap_or(oldest));
        }
        self.read_since(oldest).await
    }

    async fn read_since(&self, since: Timestamp) -> Result<(), BreakGlassError> {
        match self.ledger.keep_up(since).await {
            Err(LedgerError::Store(error)) => Err(error.into()),
            // said when someone asks for something
            _ => Ok(()),
        }
    }
}

/// When a request was made, as its id tells to the millisecond; at least that is what orders them.
fn made_at(id: BreakGlassId) -> Option<Timestamp> {
    let (seconds, nanos) = id.0.get_timestamp()?.to_unix();
    let made = Timestamp::new(i64::try_from(seconds).ok()?, i32::try_from(nanos).ok()?).ok()?;
    made.checked_sub(SignedDuration::from_secs(1)).ok()
}
