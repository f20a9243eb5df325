//! Rates: per person for those who are logged in, per address for those who are not.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use ichor_wire::problem::Code;
use sha2::{Digest, Sha256};

use super::error::ApiError;
use crate::clock::SharedClock;
use crate::domain::{Person, network};
use crate::store::Store;

/// The limiters. Each allows its minute's worth at once and refills evenly. What this process lets through is then counted over
/// all brokers of the store, so that a flood never gets further than one broker's own limit.
pub struct Limits {
    people: DefaultKeyedRateLimiter<Person>,
    strangers: DefaultKeyedRateLimiter<IpAddr>,
    per_person: u32,
    per_stranger: u32,
    store: Arc<dyn Store>,
    clock: SharedClock,
}

impl Limits {
    /// Limiters for so many requests a minute; zero counts as one.
    #[must_use]
    pub fn per_minute(person: u32, stranger: u32, store: Arc<dyn Store>, clock: SharedClock) -> Self {
        let quota = |n: u32| Quota::per_minute(NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN));
        Self {
            people: RateLimiter::keyed(quota(person)),
            strangers: RateLimiter::keyed(quota(stranger)),
            per_person: person,
            per_stranger: stranger,
            store,
            clock,
        }
    }

    /// Counts one request of this person.
    ///
    /// # Errors
    /// `too-many-requests` when the minute's worth is used up, and when the store cannot be asked.
    pub async fn person(&self, person: &Person) -> Result<(), ApiError> {
        self.people.check_key(person).map_err(|until| too_many(until.wait_time_from(DefaultClock::default().now())))?;
        let parts = [person.provider.as_str(), &person.issuer, &person.subject];
        self.everywhere(b"person", &parts, self.per_person).await
    }

    /// Counts one request from this address that had no valid session. IPv6 addresses count by their /64.
    ///
    /// # Errors
    /// `too-many-requests` when the minute's worth is used up. Where the store cannot be asked this process' own count stands:
    /// what the stranger wants of the store will fail for itself.
    pub async fn stranger(&self, address: IpAddr) -> Result<(), ApiError> {
        let network = network(address);
        self.strangers
            .check_key(&network)
            .map_err(|until| too_many(until.wait_time_from(DefaultClock::default().now())))?;
        match self.everywhere(b"stranger", &[&network.to_string()], self.per_stranger).await {
            Err(error) if error.code() != Code::TooManyRequests => Ok(()),
            counted => counted,
        }
    }

    async fn everywhere(&self, kind: &[u8], parts: &[&str], per_minute: u32) -> Result<(), ApiError> {
        let mut key = Sha256::new_with_prefix(kind);
        for part in parts {
            key.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            key.update(part);
        }
        match self.store.take_allowance(&key.finalize().into(), per_minute, self.clock.now()).await? {
            true => Ok(()),
            false => Err(too_many(std::time::Duration::from_secs(60 / u64::from(per_minute.max(1))))),
        }
    }

    /// Forgets keys that are full again, so that memory stays bounded. Called once a minute.
    pub fn sweep(&self) {
        self.people.retain_recent();
        self.strangers.retain_recent();
    }
}

impl std::fmt::Debug for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limits").finish_non_exhaustive()
    }
}

fn too_many(wait: std::time::Duration) -> ApiError {
    let seconds = wait.as_secs().saturating_add(1);
    ApiError::new(Code::TooManyRequests, format!("too many requests; try again in {seconds} s")).retry_after(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::store::sqlite::{Options, SqliteStore};

    fn limits(person: u32, stranger: u32) -> (tempfile::TempDir, Limits) {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path().join("ichor.db"), Options::default()).unwrap();
        (folder, Limits::per_minute(person, stranger, Arc::new(store), Arc::new(SystemClock)))
    }

    #[tokio::test]
    async fn an_address_is_limited_and_another_is_not() {
        let (_folder, limits) = limits(5, 2);
        let (one, two) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        assert!(limits.stranger(one).await.is_ok() && limits.stranger(one).await.is_ok());
        assert_eq!(limits.stranger(one).await.unwrap_err().code(), Code::TooManyRequests);
        assert!(limits.stranger(two).await.is_ok());
    }

    #[tokio::test]
    async fn an_ipv6_network_counts_as_one() {
        let (_folder, limits) = limits(5, 1);
        assert!(limits.stranger("2001:db8::1".parse().unwrap()).await.is_ok());
        assert!(limits.stranger("2001:db8::2".parse().unwrap()).await.is_err());
    }
}
