//! The log as the generator makes it.

use anyhow::Context;
use ichor_broker::clock::{Clock, SystemClock};
use ichor_broker::domain::{GrantId, Person, ProviderAlias};
use ichor_broker::store::rows::NewEntry;
use ichor_broker::store::{Append, Call, CallClass, Change, NodeService, Store};
use ichor_wire::log::{Content, Entry, Kind, Person as LogPerson, VERSION};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

/// What the log covers, in days.
pub(super) const DAYS: i64 = 120;
pub(super) const CLUSTERS: u64 = 50;
pub(super) const NODES: u64 = 10;
pub(super) const PERSONS: u64 = 200;
const METHODS: [&str; 8] = ["Version", "Dmesg", "Logs", "ServiceList", "Reboot", "Read", "Containers", "Events"];
/// Entries of one batch, and calls kept with each: so many that the pages of the indexes, which every batch touches, are not
/// written once for each few rows.
const BATCH: u64 = 20_000;

/// The first entry's time.
pub(super) fn begin() -> anyhow::Result<Timestamp> {
    let now = SystemClock.now();
    Ok(now.checked_sub(SignedDuration::from_hours(DAYS * 24))?)
}

/// The log as the generator makes it.
pub(super) struct History {
    pub(super) began: Timestamp,
    /// How many entries there will be in the end; they lie evenly over the days.
    pub(super) entries: u64,
    /// Whether calls are kept with the entries, as many as these.
    pub(super) has_calls: bool,
}

// === impl History ===

impl History {
    fn time(&self, index: u64) -> anyhow::Result<Timestamp> {
        let whole = i128::from(DAYS) * 24 * 3_600_000_000;
        let micros = whole * i128::from(index) / i128::from(self.entries.max(1));
        Ok(self.began.checked_add(SignedDuration::from_micros(i64::try_from(micros)?))?)
    }

    /// Appends until there are `size` entries or a few more: where there are calls, each batch's last entry keeps a batch of them.
    pub(super) async fn fill(&self, store: &dyn Store, size: u64) -> anyhow::Result<()> {
        let mut next = store.head().await?.size;
        while next < size {
            let end = (next + BATCH).min(size).max(next + 1);
            let mut batch = Vec::new();
            for index in next..end {
                let is_last = self.has_calls && index + 1 == end;
                let content = if is_last { Content::of(Kind::NodeLog) } else { content(index) };
                let calls = if is_last {
                    (next..end).map(|number| self.call(number)).collect::<Result<_, _>>()?
                } else {
                    Vec::new()
                };
                let change = is_last.then_some(Change::CallsKept { calls, most: u64::MAX });
                batch.push(Append { entry: entry(index, content, self.time(index)?)?, change });
            }
            store.append(batch, None).await?;
            next = end;
        }
        Ok(())
    }

    fn call(&self, number: u64) -> anyhow::Result<Call> {
        let spread = scattered(number);
        let person = spread % PERSONS;
        let method = METHODS.get(usize::try_from(spread / 7 % 8)?).copied().unwrap_or_default();
        let is_explained = !spread.is_multiple_of(1000);
        Ok(Call {
            cluster: cluster(spread / 3 % CLUSTERS),
            node: node(spread / 3 % CLUSTERS, spread / 151 % NODES),
            service: NodeService::Machined,
            method: format!("/machine.MachineService/{method}"),
            code: Some(0),
            started: self.time(number)?,
            duration: 93,
            roles: "os:reader".into(),
            owner: is_explained.then(|| owner(person)).transpose()?,
            user: Some(user(person)),
            grant: Some(grant(number)),
            peer: None,
            class: if is_explained { CallClass::Explained } else { CallClass::Unexplained },
            why: None,
            entry: None,
        })
    }
}

/// Spreads numbers: neighbours differ in everything (the finaliser of splitmix64).
pub(super) fn scattered(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

pub(super) fn cluster(number: u64) -> String {
    format!("prod-{number}")
}

pub(super) fn node(cluster: u64, number: u64) -> String {
    format!("10.{cluster}.0.{number}")
}

pub(super) fn user(number: u64) -> String {
    format!("person{number}@example.com")
}

fn grant(number: u64) -> GrantId {
    GrantId(Uuid::from_u128(0x0193_533d_9c00_7000_8000_0000_0000_0000 + u128::from(number / 2)))
}

fn owner(number: u64) -> anyhow::Result<Person> {
    let provider = ProviderAlias::new("corp").context("an alias")?;
    Ok(Person { provider, issuer: ISSUER.into(), subject: format!("248289761001-{number}") })
}

const ISSUER: &str = "https://login.example.com/realms/company";

/// A grant, and at the next place its certificate.
fn content(index: u64) -> Content {
    let spread = scattered(index / 2);
    let person = spread % PERSONS;
    let is_issued = index % 2 == 1;
    let bytes = |salt: u64| [scattered(index ^ salt), scattered(index ^ salt ^ 1)].map(u64::to_be_bytes).concat();
    Content {
        person: Some(LogPerson {
            provider: "corp".into(),
            issuer: ISSUER.into(),
            subject: format!("248289761001-{person}"),
            name: "Alice Example".into(),
            user: user(person),
        }),
        cluster: Some(cluster(spread / 3 % CLUSTERS)),
        grant: Some(grant(index).0.into_bytes().to_vec()),
        session: Some(vec![8; 16]),
        address: (!is_issued).then(|| "203.0.113.17".into()),
        roles: Some(vec!["os:reader".into()]),
        not_after: Some(1_800_000_000),
        reason: (!is_issued).then(|| "INC-4242: drops packets, looking at dmesg and the link's counters".into()),
        serial: is_issued.then(|| bytes(2)),
        fingerprint: is_issued.then(|| [bytes(4), bytes(6)].concat()),
        ..Content::of(if is_issued { Kind::Issued } else { Kind::Grant })
    }
}

/// An entry as the log has it; what is random in others follows from `index`.
pub(crate) fn entry(index: u64, content: Content, at: Timestamp) -> anyhow::Result<NewEntry> {
    let random = [scattered(index), scattered(!index)].map(u64::to_be_bytes).concat();
    let entry = Entry {
        version: VERSION,
        id: random.clone(),
        time: at.as_microsecond(),
        salt: random,
        broker: "bench".into(),
        content,
    };
    let encoded = entry.encode()?;
    Ok(NewEntry { entry, encoded })
}
