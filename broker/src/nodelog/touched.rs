//! The first call at a node under a grant that was made under break-glass: whoever is told of break-glass is told of that.

use std::collections::HashSet;

use ichor_wire::log::{Content, Kind};

use super::classify::Known;
use super::sources::Origin;
use crate::audit::{RecordError, Sequencer};
use crate::clock::SharedClock;
use crate::domain::GrantId;
use crate::store::{BreakGlassChange, CallClass, Change, Condition};

/// So many grants are remembered; beyond, memory is emptied: the store knows which call was the first.
const REMEMBERED: usize = 20_000;

/// What a weak match rests on.
const RESEMBLES: &str = "its certificate names no grant; person, roles and time are this one's";

/// Which grants of break-glass were seen in use.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// Those that are recorded.
    known: HashSet<GrantId>,
    /// First calls that are to be recorded.
    new: Vec<(GrantId, Content)>,
    /// Those that only a line told of which a caller may have written.
    doubted: HashSet<GrantId>,
    /// What is to be told of them.
    doubts: Vec<Content>,
}

// === impl Touched ===

impl Touched {
    /// Takes in that a call was explained by this grant.
    pub(super) fn note(&mut self, grant: GrantId, known: &Known, origin: &Origin, method: &str) {
        let Some(request) = known.break_glass else { return };
        if self.known.contains(&grant) || self.new.iter().any(|(noted, _)| *noted == grant) {
            return;
        }
        self.new.push((grant, content(grant, known, request, origin, method)));
    }

    /// Takes in that a call was of a certificate that names no grant, and fits this one: where certificates name none, nothing better
    /// comes, so it counts as the first.
    pub(super) fn resembles(&mut self, known: &Known, origin: &Origin, method: &str) {
        let (Some(grant), Some(request)) = (known.grant, known.break_glass) else { return };
        if self.known.contains(&grant) || self.new.iter().any(|(noted, _)| *noted == grant) {
            return;
        }
        let content = content(grant, known, request, origin, method);
        let (code, message) = (CallClass::Weak.as_str().to_owned(), RESEMBLES.to_owned());
        self.new.push((grant, Content { code: Some(code), message: Some(message), ..content }));
    }

    /// Takes in that a line names this grant which a caller may have written, or bent. That is told once, and uses nothing up: the first
    /// call that the grant explains is told all the same.
    pub(super) fn doubt(&mut self, grant: GrantId, known: &Known, origin: &Origin, method: &str, why: Option<&str>) {
        let Some(request) = known.break_glass else { return };
        if self.known.contains(&grant) || self.doubted.contains(&grant) {
            return;
        }
        if self.doubted.len() >= REMEMBERED {
            self.doubted.clear();
        }
        self.doubted.insert(grant);
        let (code, message) = (CallClass::Suspect.as_str().to_owned(), why.map(Into::into));
        let content = content(grant, known, request, origin, method);
        self.doubts.push(Content { code: Some(code), message, ..content });
    }

    /// Returns once what is new is recorded: of all brokers that see a grant in use one records it, once.
    pub(super) async fn record(&mut self, sequencer: &Sequencer, clock: &SharedClock) -> Result<(), RecordError> {
        while let Some((grant, content)) = self.new.last().cloned() {
            let change = Change::BreakGlass { change: BreakGlassChange::Touch { grant }, now: clock.now(), keys: None };
            match sequencer.note(content, Some(change)).await {
                Ok(_) | Err(RecordError::Refused(Condition::RequestMoved)) => {}
                Err(error) => return Err(error),
            }
            if self.known.len() >= REMEMBERED {
                self.known.clear();
            }
            self.known.insert(grant);
            self.new.pop();
        }
        while let Some(content) = self.doubts.last().cloned() {
            sequencer.note(content, None).await?;
            self.doubts.pop();
        }
        Ok(())
    }
}

fn content(grant: GrantId, known: &Known, request: [u8; 16], origin: &Origin, method: &str) -> Content {
    Content {
        cluster: Some(known.cluster.clone()),
        grant: Some(grant.0.into_bytes().to_vec()),
        roles: Some(known.roles.clone()),
        requester: Some(known.user.clone()),
        node: Some(origin.node.to_string()),
        method: Some(method.to_owned()).filter(|method| !method.is_empty()),
        break_glass: Some(request.to_vec()),
        ..Content::of(Kind::BreakGlassTouched)
    }
}
