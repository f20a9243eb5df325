//! Rates: per person for those who are logged in, per address for those who are not.

use std::net::IpAddr;
use std::num::NonZeroU32;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use ichor_wire::problem::Code;

use super::error::ApiError;
use crate::domain::{Person, network};

/// The limiters. Each allows its minute's worth at once and refills evenly.
#[derive(Debug)]
pub struct Limits {
    people: DefaultKeyedRateLimiter<Person>,
    strangers: DefaultKeyedRateLimiter<IpAddr>,
}

impl Limits {
    /// Limiters for so many requests a minute; zero counts as one.
    #[must_use]
    pub fn per_minute(person: u32, stranger: u32) -> Self {
        let quota = |n: u32| Quota::per_minute(NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN));
        Self { people: RateLimiter::keyed(quota(person)), strangers: RateLimiter::keyed(quota(stranger)) }
    }

    /// Counts one request of this person.
    ///
    /// # Errors
    /// `too-many-requests` when the minute's worth is used up.
    pub fn person(&self, person: &Person) -> Result<(), ApiError> {
        self.people.check_key(person).map_err(|until| too_many(until.wait_time_from(DefaultClock::default().now())))
    }

    /// Counts one request from this address that had no valid session. IPv6 addresses count by their /64.
    ///
    /// # Errors
    /// `too-many-requests` when the minute's worth is used up.
    pub fn stranger(&self, address: IpAddr) -> Result<(), ApiError> {
        self.strangers
            .check_key(&network(address))
            .map_err(|until| too_many(until.wait_time_from(DefaultClock::default().now())))
    }

    /// Forgets keys that are full again, so that memory stays bounded. Called once a minute.
    pub fn sweep(&self) {
        self.people.retain_recent();
        self.strangers.retain_recent();
    }
}

fn too_many(wait: std::time::Duration) -> ApiError {
    let seconds = wait.as_secs().saturating_add(1);
    ApiError::new(Code::TooManyRequests, format!("too many requests; try again in {seconds} s")).retry_after(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_limited_and_another_is_not() {
        let limits = Limits::per_minute(5, 2);
        let (one, two) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        assert!(limits.stranger(one).is_ok() && limits.stranger(one).is_ok());
        assert_eq!(limits.stranger(one).unwrap_err().code(), Code::TooManyRequests);
        assert!(limits.stranger(two).is_ok());
    }

    #[test]
    fn an_ipv6_network_counts_as_one() {
        let limits = Limits::per_minute(5, 1);
        assert!(limits.stranger("2001:db8::1".parse().unwrap()).is_ok());
        assert!(limits.stranger("2001:db8::2".parse().unwrap()).is_err());
    }
}
