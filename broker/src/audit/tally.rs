//! Refusals of strangers, counted: one entry per minute and address, so that nobody outside can fill the disk.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use ichor_wire::log::{Content, Kind};
use ichor_wire::problem::Code;
use jiff::Timestamp;

use crate::clock::SharedClock;
use crate::domain::network;

use super::sequencer::{RecordError, Sequencer};

/// So many addresses are told apart; the rest of a minute's refusals are counted together. 256 entries a minute of 200
/// bytes are 75 MB a day at the worst.
const ADDRESSES: usize = 256;

/// So many minutes are kept while the store cannot record; beyond, counts go to the newest kept minute.
const MINUTES: usize = 5;

/// Counts refusals of strangers until they are recorded by [`Self::flush`].
pub struct Tally {
    sequencer: Sequencer,
    clock: SharedClock,
    /// By minute since the epoch.
    minutes: Mutex<BTreeMap<i64, Minute>>,
}

/// One minute's refusals, by address; [`Source::Others`] for those beyond the bound.
type Minute = BTreeMap<Source, BTreeMap<&'static str, u64>>;

/// Where refusals came from. An IPv6 host owns its whole /64, so that is what counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Address(IpAddr),
    Others,
}

// === impl Tally ===

impl Tally {
    /// An empty tally that records through `sequencer`.
    #[must_use]
    pub fn new(sequencer: Sequencer, clock: SharedClock) -> Self {
        Self { sequencer, clock, minutes: Mutex::default() }
    }

    /// Counts one refusal. Never waits, and takes bounded memory whatever comes.
    pub fn count(&self, address: IpAddr, code: Code) {
        let minute = self.clock.now().as_second().div_euclid(60);
        self.add(minute, Source::of(address), code.as_str(), 1);
    }

    /// Records the minutes that are over, and with `all` the present one too, as at the end of the process. Returns once
    /// they are durable.
    ///
    /// # Errors
    /// When some were not recorded; these are counted still and will be tried again.
    pub async fn flush(&self, all: bool) -> Result<(), RecordError> {
        let now = self.clock.now().as_second().div_euclid(60);
        let over = {
            let mut minutes = self.minutes.lock().unwrap_or_else(PoisonError::into_inner);
            let running = if all { BTreeMap::new() } else { minutes.split_off(&now) };
            std::mem::replace(&mut *minutes, running)
        };
        let each = over.into_iter().flat_map(|(minute, sources)| {
            sources.into_iter().map(move |(source, codes)| async move {
                let noted = self.sequencer.note(content(minute, source, &codes), None).await;
                if noted.is_err() {
                    for (code, count) in codes {
                        self.add(minute, source, code, count);
                    }
                }
                noted.map(drop)
            })
        });
        futures_util::future::join_all(each).await.into_iter().collect()
    }

    fn add(&self, minute: i64, source: Source, code: &'static str, count: u64) {
        let mut minutes = self.minutes.lock().unwrap_or_else(PoisonError::into_inner);
        let crowded = minutes.len() >= MINUTES && !minutes.contains_key(&minute);
        let minute = match minutes.last_key_value() {
            Some((&newest, _)) if crowded => newest,
            _ => minute,
        };
        let sources = minutes.entry(minute).or_default();
        let known = sources.contains_key(&source) || sources.len() < ADDRESSES;
        let counted = sources.entry(if known { source } else { Source::Others }).or_default().entry(code).or_default();
        *counted = counted.saturating_add(count);
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tally").finish_non_exhaustive()
    }
}

// === impl Source ===

impl Source {
    fn of(address: IpAddr) -> Self {
        Self::Address(network(address))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V6(network)) => write!(f, "{network}/64"),
            Self::Address(address) => address.fmt(f),
            Self::Others => f.write_str("other addresses"),
        }
    }
}

fn content(minute: i64, source: Source, codes: &BTreeMap<&'static str, u64>) -> Content {
    let counted: Vec<_> = codes.iter().map(|(code, count)| format!("{code} {count}")).collect();
    let began = Timestamp::from_second(minute.saturating_mul(60)).unwrap_or(Timestamp::UNIX_EPOCH);
    Content {
        address: Some(source.to_string()),
        count: Some(codes.values().fold(0, |sum, count| sum.saturating_add(*count))),
        // Only where there is one: several stand in the message.
        code: codes.first_key_value().filter(|_| codes.len() == 1).map(|(code, _)| (*code).into()),
        message: Some(format!("refused in the minute from {began}: {}", counted.join(", "))),
        ..Content::of(Kind::LoginRefused)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use jiff::SignedDuration;

    use super::*;
    use crate::audit::tests::Room;
    use crate::store::faulty::Fault;

    fn tally(room: &Room) -> Tally {
        Tally::new(room.sequencer.clone(), room.clock.clone())
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    async fn recorded(room: &Room) -> Vec<(String, u64)> {
        let log = room.log().await;
        assert!(log.iter().all(|entry| entry.content.kind == Kind::LoginRefused));
        log.into_iter().map(|entry| (entry.content.address.unwrap(), entry.content.count.unwrap())).collect()
    }

    #[tokio::test]
    async fn a_minute_of_refusals_is_one_entry_per_address() {
        let room = Room::new([]);
        let tally = tally(&room);
        for _ in 0..1000 {
            tally.count(address("192.0.2.1"), Code::NotLoggedIn);
        }
        tally.count(address("192.0.2.1"), Code::BadProof);
        tally.count(address("::ffff:192.0.2.1"), Code::BadProof);
        tally.count(address("2001:db8::1"), Code::BadProof);
        tally.count(address("2001:db8::ffff:2"), Code::BadProof);
        tally.flush(false).await.unwrap();
        assert_eq!(recorded(&room).await, [], "the minute is not over");

        room.clock.advance(SignedDuration::from_mins(1));
        tally.count(address("192.0.2.1"), Code::BadProof);
        tally.flush(false).await.unwrap();
        assert_eq!(recorded(&room).await, [("192.0.2.1".into(), 1002), ("2001:db8::/64".into(), 2)]);
        let first = room.log().await.remove(0).content;
        assert_eq!(
            first.message.as_deref(),
            Some("refused in the minute from 2026-11-22T12:00:00Z: bad-proof 2, not-logged-in 1000")
        );
        assert_eq!(room.log().await[1].content.code.as_deref(), Some("bad-proof"));

        tally.flush(true).await.unwrap();
        tally.flush(true).await.unwrap();
        assert_eq!(recorded(&room).await.len(), 3, "the last minute at the end, and nothing twice");
    }

    #[tokio::test]
    async fn strangers_cannot_make_more_entries_than_the_bound() {
        let room = Room::new([]);
        let tally = tally(&room);
        for number in 0..5000u32 {
            tally.count(Ipv4Addr::from(0x0a00_0000 + number).into(), Code::NotLoggedIn);
        }
        tally.flush(true).await.unwrap();
        let recorded = recorded(&room).await;
        assert_eq!(recorded.len(), ADDRESSES + 1);
        assert_eq!(recorded.iter().map(|(_, count)| count).sum::<u64>(), 5000);
        assert_eq!(recorded.last().unwrap().0, "other addresses");
    }

    #[tokio::test]
    async fn what_could_not_be_recorded_is_counted_still() {
        let room = Room::new([Fault::Before]);
        let tally = tally(&room);
        tally.count(address("192.0.2.1"), Code::NotLoggedIn);
        assert!(tally.flush(true).await.is_err());
        tally.count(address("192.0.2.1"), Code::NotLoggedIn);
        tally.flush(true).await.unwrap();
        assert_eq!(recorded(&room).await, [("192.0.2.1".into(), 2)]);
    }

    #[tokio::test]
    async fn a_store_that_stays_away_costs_bounded_memory() {
        let room = Room::new([]);
        let tally = tally(&room);
        for _ in 0..100 {
            tally.count(address("192.0.2.1"), Code::NotLoggedIn);
            room.clock.advance(SignedDuration::from_mins(1));
        }
        assert_eq!(tally.minutes.lock().unwrap().len(), MINUTES);
        tally.flush(true).await.unwrap();
        assert_eq!(recorded(&room).await.iter().map(|(_, count)| count).sum::<u64>(), 100);
    }
}
