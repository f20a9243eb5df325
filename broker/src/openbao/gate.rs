//! One login at a time, whoever waits for it.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

use super::BaoError;

/// How long after a failed login the next is tried: doubled each time, from the first to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// So soon after one refused token was replaced the next is not: that one would be refused as well.
const FRESH: Duration = Duration::from_secs(1);

/// A token of the server's, good for calls.
pub(super) struct Token {
    pub(super) secret: SecretString,
    /// Counts the logins; a token that was renewed keeps its own.
    pub(super) generation: u64,
    /// When it was made or renewed.
    pub(super) since: Instant,
    /// How long it lasts from then; `None` for ever.
    pub(super) lease: Option<Duration>,
    /// The lease that its login gave: renewals that give much less near the token's end.
    pub(super) first_lease: Option<Duration>,
    pub(super) is_renewable: bool,
}

/// What a login gives, before it is counted.
pub(super) struct Login {
    pub(super) secret: SecretString,
    pub(super) lease: Option<Duration>,
    pub(super) is_renewable: bool,
}

/// Holds the token in force.
#[derive(Default)]
pub(super) struct Gate {
    current: RwLock<Option<Arc<Token>>>,
    turn: Mutex<Turn>,
    /// Told of every login: the new token may be due earlier than the one before.
    pub(super) changed: Arc<Notify>,
}

#[derive(Default)]
struct Turn {
    logins: u64,
    replaced: Option<Instant>,
    failed: Option<(Instant, Duration, BaoError)>,
}

/// Why there is no token.
pub(super) enum NoToken {
    /// The login failed, now or just before.
    Login(BaoError),
    /// The one in force took the place of a refused one just now, and is refused too.
    Refused,
}

// === impl Gate ===

impl Gate {
    /// The token in force; a new one if there is none, if it expired, or if it is the `refused` one. Of all that wait, one
    /// logs in and the others take its result.
    pub(super) async fn token(
        &self,
        refused: Option<u64>,
        login: impl AsyncFnOnce() -> Result<Login, BaoError>,
    ) -> Result<Arc<Token>, NoToken> {
        if let Some(token) = self.usable(refused) {
            return Ok(token);
        }
        let mut turn = self.turn.lock().await;
        if let Some(token) = self.usable(refused) {
            return Ok(token);
        }
        let is_refused = self.current().is_some_and(|token| Some(token.generation) == refused);
        if is_refused && turn.replaced.is_some_and(|at| at.elapsed() < FRESH) {
            return Err(NoToken::Refused);
        }
        if let Some((at, pause, error)) = &turn.failed
            && at.elapsed() < *pause
        {
            return Err(NoToken::Login(error.clone()));
        }
        let token = self.log_in(&mut turn, login).await.map_err(NoToken::Login)?;
        if is_refused {
            turn.replaced = Some(Instant::now());
        }
        Ok(token)
    }

    /// A new token in place of this one although it may still serve; it stays if this fails. Nothing is done where another
    /// took its place meanwhile.
    pub(super) async fn replace(
        &self,
        of: &Token,
        login: impl AsyncFnOnce() -> Result<Login, BaoError>,
    ) -> Result<(), BaoError> {
        let mut turn = self.turn.lock().await;
        if self.current().is_some_and(|token| token.generation != of.generation) {
            return Ok(());
        }
        self.log_in(&mut turn, login).await.map(drop)
    }

    /// The token in force.
    pub(super) fn current(&self) -> Option<Arc<Token>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The token in force, which is none from now on.
    pub(super) fn leave(&self) -> Option<Arc<Token>> {
        self.current.write().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The same token with a new lease, unless another has taken its place.
    pub(super) fn renewed(&self, of: &Token, lease: Option<Duration>, is_renewable: bool) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|token| token.generation == of.generation) {
            let token = Token {
                secret: of.secret.clone(),
                generation: of.generation,
                since: Instant::now(),
                lease,
                first_lease: of.first_lease,
                is_renewable,
            };
            *current = Some(Arc::new(token));
        }
    }

    /// The token in force, unless it expired or is the `refused` one.
    pub(super) fn usable(&self, refused: Option<u64>) -> Option<Arc<Token>> {
        self.current().filter(|token| Some(token.generation) != refused && !token.is_expired())
    }

    async fn log_in(
        &self,
        turn: &mut Turn,
        login: impl AsyncFnOnce() -> Result<Login, BaoError>,
    ) -> Result<Arc<Token>, BaoError> {
        match login().await {
            Ok(Login { secret, lease, is_renewable }) => {
                turn.logins += 1;
                turn.failed = None;
                let since = Instant::now();
                let token =
                    Arc::new(Token { secret, generation: turn.logins, since, lease, first_lease: lease, is_renewable });
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&token));
                self.changed.notify_one();
                Ok(token)
            }
            Err(error) => {
                let pause = turn.failed.as_ref().map_or(PAUSES.0, |(_, pause, _)| (*pause * 2).min(PAUSES.1));
                turn.failed = Some((Instant::now(), pause, error.clone()));
                Err(error)
            }
        }
    }
}

// === impl Token ===

impl Token {
    fn is_expired(&self) -> bool {
        self.lease.is_some_and(|lease| self.since.elapsed() >= lease)
    }

    /// When it is to be renewed or replaced: at two thirds of its lease.
    pub(super) fn due(&self) -> Option<Instant> {
        self.lease.map(|lease| self.since + lease * 2 / 3)
    }

    /// Whether renewals give so little that its end must be near.
    pub(super) fn nears_its_end(&self) -> bool {
        matches!((self.lease, self.first_lease), (Some(lease), Some(first)) if lease <= first / 3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_nears_its_end_when_renewals_give_a_third() {
        let with = |lease: u64| Token {
            secret: SecretString::from("x"),
            generation: 1,
            since: Instant::now(),
            lease: Some(Duration::from_secs(lease)),
            first_lease: Some(Duration::from_secs(3)),
            is_renewable: true,
        };
        assert!(with(1).nears_its_end(), "the server tells whole seconds: this second may be over by two thirds of it");
        assert!(!with(2).nears_its_end());
    }
}
