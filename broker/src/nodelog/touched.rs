//! The first call at a node under a grant that was made under break-glass: whoever is told of break-glass is told of that.

use std::collections::HashSet;

use ichor_wire::log::{Content, Kind};

use super::classify::Known;
use super::sources::Origin;
use crate::audit::{RecordError, Sequencer};
use crate::clock::SharedClock;
use crate::domain::GrantId;
use crate::store::{BreakGlassChange, Change, Condition};

/// So many grants are remembered; beyond, memory is emptied: the store knows which call was the first.
const REMEMBERED: usize = 20_000;

/// Which grants of break-glass were seen in use.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// Those that are recorded.
    known: HashSet<GrantId>,
    /// First calls that are to be recorded.
    new: Vec<(GrantId, Content)>,
}

// === impl Touched ===

impl Touched {
    /// Takes in that a call was explained by this grant.
    pub(super) fn note(&mut self, grant: GrantId, known: &Known, origin: &Origin, method: &str) {
        let Some(request) = known.break_glass else { return };
        if self.known.contains(&grant) || self.new.iter().any(|(noted, _)| *noted == grant) {
            return;
        }
        let content = Content {
            cluster: Some(known.cluster.clone()),
            grant: Some(grant.0.into_bytes().to_vec()),
            roles: Some(known.roles.clone()),
            requester: Some(known.user.clone()),
            node: Some(origin.node.to_string()),
            method: Some(method.to_owned()).filter(|method| !method.is_empty()),
            break_glass: Some(request.to_vec()),
            ..Content::of(Kind::BreakGlassTouched)
        };
        self.new.push((grant, content));
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
        Ok(())
    }
}
