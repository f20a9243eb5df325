//! What one address may have and try: logins under way, and wrong user codes. Kept in memory: a restart forgets them, and the
//! totals in the store stand all the same.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use super::authorize::LOGIN_LIFE;
use crate::domain::network;

/// Wrong user codes a minute of one address: a person mistypes a few times.
const WRONG_OF_ONE: u32 = 10;

/// Wrong user codes a minute of everyone, so that many addresses do not add up. There are 20¹⁰ ≈ 10¹³ codes; with a hundred
/// devices waiting, 6,000 tries a minute find one of their codes once in 10¹³ / (100 × 6,000) minutes, which is 32 years. And
/// whoever finds one only gets to log another's terminal in as themselves. To reach it takes 600 addresses or IPv6 networks.
const WRONG_OF_ALL: u32 = 6_000;

/// So many addresses are kept before those whose logins are over are looked for.
const CROWDED: usize = 4096;

/// The logins under way by the address that began them. An IPv6 network counts as one address.
#[derive(Debug, Default)]
pub(super) struct UnderWay(Mutex<HashMap<IpAddr, VecDeque<Timestamp>>>);

/// The wrong codes of the running minute.
#[derive(Debug, Default)]
pub(super) struct WrongCodes(Mutex<Minute>);

#[derive(Debug, Default)]
struct Minute {
    number: i64,
    all: u32,
    by_address: HashMap<IpAddr, u32>,
}

// === impl UnderWay ===

impl UnderWay {
    /// Counts a login that begins; `false` where this address has `most` already. Each ends by itself after [`LOGIN_LIFE`].
    pub(super) fn begin(&self, address: IpAddr, most: u32, now: Timestamp) -> bool {
        let is_over = |began: &Timestamp| now.duration_since(*began) >= LOGIN_LIFE;
        let mut logins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if logins.len() >= CROWDED {
            logins.retain(|_, begun| !begun.iter().all(is_over));
        }
        let begun = logins.entry(network(address)).or_default();
        begun.retain(|began| !is_over(began));
        let fits = u32::try_from(begun.len()).is_ok_and(|count| count < most);
        if fits {
            begun.push_back(now);
        }
        fits
    }

    /// One of this address's logins came to its end, or did not begin after all.
    pub(super) fn end(&self, address: IpAddr) {
        let mut logins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = network(address);
        if let Some(begun) = logins.get_mut(&key) {
            begun.pop_front();
            if begun.is_empty() {
                logins.remove(&key);
            }
        }
    }
}

// === impl WrongCodes ===

impl WrongCodes {
    /// Whether this address, or everyone together, has used up the minute's tries.
    pub(super) fn are_too_many(&self, address: IpAddr, now: Timestamp) -> bool {
        let minute = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_one = minute.by_address.get(&network(address)).copied().unwrap_or_default();
        minute.number == minute_of(now) && (of_one >= WRONG_OF_ONE || minute.all >= WRONG_OF_ALL)
    }

    /// Counts a wrong code.
    pub(super) fn note(&self, address: IpAddr, now: Timestamp) {
        let mut minute = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if minute.number != minute_of(now) {
            *minute = Minute { number: minute_of(now), ..Minute::default() };
        }
        minute.all = minute.all.saturating_add(1);
        let of_one = minute.by_address.entry(network(address)).or_default();
        *of_one = of_one.saturating_add(1);
    }
}

fn minute_of(now: Timestamp) -> i64 {
    now.as_second().div_euclid(SignedDuration::from_mins(1).as_secs())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_so_many_logins_under_way() {
        let logins = UnderWay::default();
        let (one, two) = (address("192.0.2.1"), address("2001:db8::1"));
        assert!(logins.begin(one, 2, at(0)) && logins.begin(one, 2, at(1)));
        assert!(!logins.begin(one, 2, at(2)));
        assert!(logins.begin(two, 1, at(2)), "another address has its own");
        assert!(!logins.begin(address("2001:db8::2"), 1, at(2)), "a network is one address");
        logins.end(one);
        assert!(logins.begin(one, 2, at(3)), "one that ended makes room");
        assert!(!logins.begin(one, 2, at(599)));
        assert!(logins.begin(one, 2, at(601)), "and so does one whose time is over");
    }

    #[test]
    fn addresses_that_are_gone_take_no_memory() {
        let logins = UnderWay::default();
        for number in 0..CROWDED as u32 {
            assert!(logins.begin(Ipv4Addr::from(number).into(), 1, at(0)));
        }
        assert!(logins.begin(address("2001:db8::1"), 1, at(600)));
        assert_eq!(logins.0.lock().unwrap().len(), 1);
    }

    #[test]
    fn wrong_codes_of_one_address_lock_nobody_else() {
        let wrong = WrongCodes::default();
        for _ in 0..WRONG_OF_ONE {
            assert!(!wrong.are_too_many(address("192.0.2.1"), at(0)));
            wrong.note(address("192.0.2.1"), at(0));
        }
        assert!(wrong.are_too_many(address("192.0.2.1"), at(0)));
        assert!(!wrong.are_too_many(address("192.0.2.2"), at(0)));
        assert!(!wrong.are_too_many(address("192.0.2.1"), at(60)), "the next minute");
    }

    #[test]
    fn many_addresses_do_not_add_up() {
        let wrong = WrongCodes::default();
        for number in 0..WRONG_OF_ALL {
            wrong.note(Ipv4Addr::from(number).into(), at(0));
        }
        assert!(wrong.are_too_many(address("192.0.2.1"), at(0)));
        assert!(!wrong.are_too_many(address("192.0.2.1"), at(60)));
    }
}
