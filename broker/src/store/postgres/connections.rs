//! The connections: bounded in number, every one set as we need it, every use of one within a deadline.

use std::fmt::Write as _;
use std::future::Future;
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};

use super::{Address, AddressError, Failure, StoreError, alone};

/// The oldest server that is spoken to.
pub(super) const OLDEST: i32 = 150_000;

/// What makes a commit durable, and what a server must be; answers what is wrong. `$1` is the oldest version.
pub(super) const FITNESS: &str = "SELECT CASE
    WHEN current_setting('server_version_num')::int < $1 THEN 'it is older than PostgreSQL 15'
    WHEN current_setting('fsync') <> 'on' THEN 'it runs with fsync=off, so that an answer would mean nothing'
    WHEN current_setting('full_page_writes') <> 'on'
        THEN 'it runs with full_page_writes=off, so that a power cut could tear pages'
    WHEN current_setting('server_encoding') <> 'UTF8' THEN 'its encoding is not UTF8'
    WHEN pg_is_in_recovery() THEN 'it is a standby; name the primary'
    END";

/// The pool.
pub(super) struct Connections {
    pool: Pool,
    deadline: Duration,
}

// === impl Connections ===

impl Connections {
    /// At most `size` connections, opened when first needed. Each shares the database, unless who opens them holds it alone already.
    pub(super) fn new(
        address: &Address,
        size: usize,
        deadline: Duration,
        is_alone: bool,
    ) -> Result<Self, AddressError> {
        let mut config = address.config.clone();
        config.application_name("ichor-broker").options(settings(deadline));
        let manager = Manager::from_config(
            config,
            address.tls.connector()?,
            ManagerConfig { recycling_method: RecyclingMethod::Fast },
        );
        let pool = Pool::builder(manager)
            .max_size(size.max(1))
            .wait_timeout(Some(deadline))
            .create_timeout(Some(deadline))
            .recycle_timeout(Some(deadline))
            .runtime(Runtime::Tokio1)
            .post_create(Hook::async_fn(move |db, _| {
                Box::pin(async move {
                    match unfit(db).await {
                        Ok(None) if is_alone => Ok(()),
                        Ok(None) => match alone::share(db).await {
                            Ok(true) => Ok(()),
                            Ok(false) => Err(HookError::message(alone::HELD)),
                            Err(error) => Err(HookError::Backend(error)),
                        },
                        Ok(Some(why)) => Err(HookError::message(why)),
                        Err(error) => Err(HookError::Backend(error)),
                    }
                })
            }))
            .build()
            .map_err(|error| AddressError::Tls(error.to_string()))?;
        Ok(Self { pool, deadline })
    }

    /// A connection that is open and fit.
    pub(super) async fn one(&self) -> Result<Object, Failure> {
        Ok(self.pool.get().await?)
    }

    /// Runs a write within the deadline. Never again: whether a write whose answer was lost was done is not known.
    pub(super) async fn write<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(self.deadline, work).await {
            Ok(done) => Ok(done?),
            Err(_) => Err(Failure::Late.into()),
        }
    }

    /// Runs a read within the deadline, and once more where its connection broke.
    pub(super) async fn read<T, F>(&self, work: impl Fn() -> F + Send + Sync) -> Result<T, StoreError>
    where
        T: Send,
        F: Future<Output = Result<T, Failure>> + Send,
    {
        let tried = async {
            let first = work().await;
            match first {
                Err(failure) if failure.is_of_the_connection() => {}
                done => return done,
            }
            work().await
        };
        self.write(tried).await
    }

    /// What makes a connection's server unfit now; settings can change under it.
    pub(super) async fn fitness(&self) -> Result<(), Failure> {
        let db = self.one().await?;
        match unfit(&db).await? {
            None => Ok(()),
            Some(why) => Err(Failure::Server(why)),
        }
    }
}

/// The settings of every session, given with the connection's first message so that none is ever without them.
fn settings(deadline: Duration) -> String {
    let within = |part: u32, of: u32| (deadline * part / of).as_millis().max(1).to_string();
    let settings = [
        // an answer means that the record survives the server's power cut, and its synchronous standby's where there is one
        ("synchronous_commit", "on".to_owned()),
        ("default_transaction_isolation", "read\\ committed".to_owned()),
        ("default_transaction_read_only", "off".to_owned()),
        ("statement_timeout", within(1, 1)),
        ("lock_timeout", within(3, 4)),
        // a broker that stops in the middle of a batch loses the lock before those that wait for it give up
        ("idle_in_transaction_session_timeout", within(1, 2)),
        // a broker whose host is gone holds nothing for longer than half a minute
        ("tcp_keepalives_idle", "10".to_owned()),
        ("tcp_keepalives_interval", "5".to_owned()),
        ("tcp_keepalives_count", "4".to_owned()),
        ("client_min_messages", "warning".to_owned()),
        // every query goes by an index in its order; the planner must not guess otherwise from old statistics
        ("enable_seqscan", "off".to_owned()),
        ("enable_bitmapscan", "off".to_owned()),
        ("jit", "off".to_owned()),
    ];
    let mut text = String::new();
    for (name, value) in settings {
        // cannot fail: it is a String
        let _ = write!(text, "-c {name}={value} ");
    }
    text
}

async fn unfit(db: &deadpool_postgres::ClientWrapper) -> Result<Option<String>, tokio_postgres::Error> {
    let statement = db.prepare_cached(FITNESS).await?;
    db.query_one(&statement, &[&OLDEST]).await?.try_get(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stops_in_a_batch_loses_the_lock_before_others_give_up() {
        let text = settings(Duration::from_secs(8));
        for setting in [
            "-c synchronous_commit=on ",
            "-c statement_timeout=8000 ",
            "-c lock_timeout=6000 ",
            "-c idle_in_transaction_session_timeout=4000 ",
        ] {
            assert!(text.contains(setting), "{setting} in {text}");
        }
    }

    #[tokio::test]
    async fn no_more_connections_are_made_than_configured() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgres://u:p@127.0.0.1:{}/d?sslmode=disable", listener.local_addr().unwrap().port());
        let address = Address::parse(&url.into(), super::super::TlsFiles::default()).unwrap();
        let deadline = Duration::from_millis(300);
        let connections = Connections::new(&address, 3, deadline, false).unwrap();
        let asked = futures_util::future::join_all((0..10).map(|_| connections.one()));
        // nobody answers: each waits for its deadline, and those beyond the third for a place
        let accepted = async {
            let mut held = Vec::new();
            let until = tokio::time::Instant::now() + deadline / 2;
            while let Ok(accepted) = tokio::time::timeout_at(until, listener.accept()).await {
                held.push(accepted.unwrap());
            }
            held.len()
        };
        let (given, accepted) = tokio::join!(asked, accepted);
        assert_eq!(accepted, 3);
        assert!(given.iter().all(Result::is_err));
    }
}
