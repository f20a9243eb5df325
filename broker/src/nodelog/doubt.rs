//! Which lines a caller may have written, by what came before and behind them.
//!
//! A node prints what a caller sent, newlines included, so one message may come as several lines: its own beginning, whole lines of
//! the caller's choice, and its own end. They are printed together and come one behind the other. So what gives the message away
//! casts doubt on the lines about it: a beginning on those behind it, an end on those before it.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::access::Sign;
use super::reader::Arrived;
use super::sources::Origin;
use crate::store::NodeService;

/// How long behind the beginning of a message its rest may come. It is written at once and a node's sender reads on within
/// milliseconds; one that has a second destination that is out may wait five seconds for each line.
const DOUBT: Duration = Duration::from_secs(30);

/// So many nodes' doubts are remembered; beyond, memory is emptied and fills again.
const REMEMBERED: usize = 20_000;

/// Nodes whose lines are in doubt.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    /// Until when a node's calls may be the rest of a message, by the readers' clock.
    until: HashMap<Origin, Duration>,
}

/// What is known of nodes from the lines behind. Lines of one node mostly stand together.
#[derive(Debug, Default)]
struct Seen {
    /// Of the node whose line was the last.
    last: Option<(Origin, Later)>,
    others: BTreeMap<Origin, Later>,
}

/// What is known of a node from the lines behind.
#[derive(Debug, Default)]
struct Later {
    /// A call at it was told of.
    has_call: bool,
    /// A message may have begun in one.
    has_beginning: bool,
    /// The end of a message is among them.
    has_end: bool,
}

// === impl Doubts ===

impl Doubts {
    /// Marks those calls of one cluster that a caller may have written: of `came`, what comes close behind the beginning of such a
    /// message; of both, what comes before the end of one. `held` came before, was marked then, and is not judged yet.
    pub(super) fn mark<'a>(&mut self, held: impl DoubleEndedIterator<Item = &'a mut Arrived>, came: &'a mut [Arrived]) {
        if self.until.len() >= REMEMBERED {
            self.until.clear();
        }
        for line in came.iter_mut() {
            if !self.until.is_empty() && self.until.get(&line.origin).is_some_and(|until| line.heard <= *until) {
                cast_on(line);
            }
            if begins(line) {
                self.until.insert(line.origin.clone(), line.heard.saturating_add(DOUBT));
            }
        }
        let mut seen = Seen::default();
        for line in held.chain(came).rev() {
            let later = seen.of(&line.origin);
            // the metadata behind an error's text may be part of that text, and then the rest follows
            let is_in_doubt = (line.access.is_free && later.has_call)
                || later.has_end
                // packets overtake one another
                || (line.is_packet && later.has_beginning);
            if is_in_doubt {
                cast_on(line);
            }
            later.has_call |= is_call(line);
            later.has_beginning |= begins(line);
            later.has_end |= line.access.is_end || line.access.sign == Some(Sign::Fragment);
        }
    }
}

// === impl Seen ===

impl Seen {
    fn of(&mut self, origin: &Origin) -> &mut Later {
        if let Some((last, later)) = self.last.take_if(|(last, _)| last != origin) {
            self.others.insert(last, later);
        }
        let others = &mut self.others;
        let (_, later) = self.last.get_or_insert_with(|| (origin.clone(), others.remove(origin).unwrap_or_default()));
        later
    }
}

/// Whether the line may be the beginning of a message whose rest follows. A caller's metadata is printed by apid and by machined; the
/// text of an error counts in machined's log alone, where the lines are that count as calls.
fn begins(line: &Arrived) -> bool {
    line.access.is_broken
        // packets overtake one another: what it is the end of may come behind it
        || (line.access.is_end && line.is_packet)
        || (line.access.is_free && line.service == NodeService::Machined)
}

/// Whether it would count as a call: apid's lines do not, nor what claims to have come over the node's own socket.
fn is_call(line: &Arrived) -> bool {
    line.service == NodeService::Machined
        && !line.access.is_end
        && (!line.access.is_local || line.access.sign.is_some())
}

fn cast_on(line: &mut Arrived) {
    if is_call(line) {
        line.access.sign = line.access.sign.or(Some(Sign::Behind));
    }
}
