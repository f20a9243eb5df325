//! Findings on their way into the audit: each kind once a minute, and no more kinds than a bound, so that nobody who can make
//! nodes print lines can fill the log. That a kit is in use has bounds of its own ([`uses`]), and a name that is no kit's another:
//! nobody hides a kit behind other findings, or behind made-up kits.

mod uses;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use ichor_wire::log::{Content, Kind, Kit};
use jiff::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

use uses::Uses;

/// How long findings of one kind are counted before they are told again.
const WINDOW: Duration = Duration::from_secs(60);

/// So many kinds are told apart in a window; the rest are counted together. 33 entries a minute of 300 bytes, and as many at
/// its end, are 30 MB a day at the worst.
const KINDS: usize = 32;

/// So many names of kits that the log does not have are told apart in a window; the rest are counted together.
const STRANGERS: usize = 4;

/// What a finding is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Finding {
    pub(super) cluster: String,
    /// The class, or `silent`.
    pub(super) code: &'static str,
    pub(super) node: String,
    pub(super) method: String,
    /// The kit whose certificate it was, by its line, where no report explains that.
    pub(super) kit: Option<NamedKit>,
}

/// What a line says of a kit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NamedKit {
    /// The kit's number.
    pub(super) number: u16,
    /// The grant.
    pub(super) grant: Uuid,
    /// Whether the log has a kit of this number in the line's cluster, which can have given the grant.
    pub(super) is_made: bool,
    /// Whether an opening with this grant was reported: the call is another than that explains.
    pub(super) is_reported: bool,
}

/// Counts findings and says which are to be recorded.
#[derive(Debug)]
pub(super) struct Alarms {
    since: Option<Instant>,
    kinds: Told,
    strangers: Told,
    kits: Uses,
    /// What is to be recorded now. Each window adds no more than its bounds, and while this cannot be recorded no calls are taken in, so
    /// no findings come.
    due: Vec<Content>,
}

/// What was told in a window, up to a bound.
#[derive(Debug)]
struct Told {
    most: usize,
    /// How many more calls came since.
    told: BTreeMap<Finding, u64>,
    /// Those beyond the bound.
    beyond: u64,
}

// === impl Alarms ===

impl Default for Alarms {
    fn default() -> Self {
        Self {
            since: None,
            kinds: Told::up_to(KINDS),
            strangers: Told::up_to(STRANGERS),
            kits: Uses::default(),
            due: Vec::new(),
        }
    }
}

impl Alarms {
    /// Counts `count` findings of a kind, of which the first began at `began`. Where this window has told of none of the kind yet, and its
    /// bound allows, that is [`Self::due`] now.
    pub(super) fn note(&mut self, finding: &Finding, count: u64, why: Option<&str>, began: Timestamp) {
        self.since.get_or_insert_with(Instant::now);
        // the openings of a static kit are told apart by their time
        let opened = finding.kit.map(|_| began.as_second());
        let content = Content { opened, ..content(finding, count, why) };
        let told = match finding.kit {
            Some(NamedKit { is_made: true, .. }) => return self.due.extend(self.kits.note(finding, count, content)),
            Some(_) => &mut self.strangers,
            None => &mut self.kinds,
        };
        if told.is_news(finding, count) {
            self.due.push(content);
        }
    }

    /// What is to be recorded now.
    pub(super) fn due(&mut self) -> Vec<Content> {
        std::mem::take(&mut self.due)
    }

    /// Takes back what could not be recorded: it is due again.
    pub(super) fn again(&mut self, content: Content) {
        self.due.push(content);
    }

    /// Where the window is over, what counts what came after the first of each kind is due, and uses of kits that waited; then a
    /// new window begins.
    pub(super) fn over(&mut self) {
        if self.since.is_none_or(|since| since.elapsed() < WINDOW) {
            return;
        }
        self.since = None;
        let kinds = std::mem::replace(&mut self.kinds, Told::up_to(KINDS));
        let strangers = std::mem::replace(&mut self.strangers, Told::up_to(STRANGERS));
        let total = |code: &str, count: u64, why: &str| Content {
            code: Some(code.into()),
            count: Some(count),
            message: Some(why.into()),
            ..Content::of(Kind::NodeAlarm)
        };
        if kinds.beyond > 0 {
            let why = "of more kinds than are told apart in a minute; `ichor audit unexplained` shows the calls";
            self.due.push(total("others", kinds.beyond, why));
        }
        if strangers.beyond > 0 {
            let why = "calls that name kits which this log does not have; `ichor audit unexplained` shows them";
            self.due.push(total("unknown-kits", strangers.beyond, why));
        }
        let (told, others) = self.kits.over();
        let told = kinds.told.into_iter().chain(strangers.told).chain(told).filter(|(_, more)| *more > 0);
        self.due.extend(told.map(|(finding, more)| content(&finding, more, Some("more of the same within a minute"))));
        self.due.extend(others);
        let waited = self.kits.of_new_window();
        if !waited.is_empty() {
            self.since = Some(Instant::now());
        }
        self.due.extend(waited);
    }
}

// === impl Told ===

impl Told {
    fn up_to(most: usize) -> Self {
        Self { most, told: BTreeMap::new(), beyond: 0 }
    }

    /// Counts, and answers whether this is the first of its kind and within the bound.
    fn is_news(&mut self, finding: &Finding, count: u64) -> bool {
        if let Some(more) = self.told.get_mut(finding) {
            *more = more.saturating_add(count);
            return false;
        }
        if self.told.len() >= self.most {
            self.beyond = self.beyond.saturating_add(count);
            return false;
        }
        self.told.insert(finding.clone(), 0);
        true
    }
}

/// Says in the broker's log what was recorded.
pub(super) fn show(content: &Content) {
    tracing::warn!(
        cluster = content.cluster,
        node = content.node,
        method = content.method,
        class = content.code,
        count = content.count,
        why = content.message,
        "calls at a node want a look"
    );
}

fn content(finding: &Finding, count: u64, why: Option<&str>) -> Content {
    let why = match finding.kit {
        Some(NamedKit { number, is_made: false, .. }) => Some(format!(
            "this log has no kit {number} of the cluster that can have given this grant: the name is made up, or the kit of another log"
        )),
        _ => why.map(Into::into),
    };
    Content {
        cluster: Some(finding.cluster.clone()),
        code: Some(finding.code.into()),
        node: Some(finding.node.clone()),
        method: Some(finding.method.clone()).filter(|method| !method.is_empty()),
        count: Some(count),
        message: why,
        kit: finding.kit.map(|kit| Kit { number: kit.number, ..Kit::default() }),
        grant: finding.kit.map(|kit| kit.grant.into_bytes().to_vec()),
        ..Content::of(if finding.kit.is_some() { Kind::KitInUse } else { Kind::NodeAlarm })
    }
}
