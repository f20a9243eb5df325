//! Locks. Each change is written by one statement, before which some look for other locks; whether a lock stops something stands in the statement of what
//! it would stop.

use deadpool_postgres::{Object, Transaction};
use jiff::Timestamp;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

use crate::domain::{LockId, Person, ProviderAlias, SessionId};
use crate::store::Condition;
use crate::store::KEPT;
use crate::store::lock::{Account, KnownPerson, LiftAsk, LockChange, LockKeys, LockRow, columns, target};

use super::Failure;
use super::human::{Told, surely_another};
use super::nul::has_nul;
use crate::store::value::{hash, id, micros, signed, time};

const COLUMNS: &str =
    "SELECT id, kind, one, two, set_by, reason, at, until, asked_provider, asked_issuer, asked_subject,
    asked_user, asked_until, ended_by, ended_at, asked_human, set_issuer, set_subject, asked_session FROM lock";

/// What a change comes to: done, or the condition that failed.
type Done = Result<Result<(), Condition>, Failure>;

/// The condition that a lock on any of [`LockKeys`] holds, for a statement whose parameters from `$first` on are those of
/// [`Held::values`]; `now` is the parameter of the time, and `used` further grants, as a query of their ids, or nothing.
pub(super) fn stops(first: usize, now: &str, used: &str) -> String {
    let [issuer, subject, session, grant, renewal, cluster] =
        [0, 1, 2, 3, 4, 5].map(|place| format!("${}", first + place));
    let used = if used.is_empty() { String::new() } else { format!(" OR one IN ({used})") };
    format!(
        "EXISTS (SELECT FROM lock WHERE ended_at IS NULL AND (until IS NULL OR until > {now}) AND (kind = 4
             OR (kind = 0 AND one = {issuer}::text AND two = {subject}::text) OR (kind = 1 AND one = {session}::text)
             OR (kind = 2 AND (one = {grant}::text OR two = {renewal}::text{used})) OR (kind = 3 AND one = {cluster}::text)))"
    )
}

/// The condition that someone is locked who approved the request whose id `request` gives, or the session that they approved with.
pub(super) fn stops_approver(request: &str, now: &str) -> String {
    format!(
        "EXISTS (SELECT FROM break_glass_approval a JOIN lock l ON (l.kind = 0 AND l.one = a.issuer AND l.two = a.subject)
             OR (l.kind = 1 AND l.one = encode(a.session, 'hex'))
             WHERE a.request = {request} AND l.ended_at IS NULL AND (l.until IS NULL OR l.until > {now}))"
    )
}

/// The same as [`stops`] for a login of the person whose issuer and subject these parameters are.
pub(super) fn stops_login(issuer: &str, subject: &str, now: &str) -> String {
    format!(
        "EXISTS (SELECT FROM lock WHERE ended_at IS NULL AND (until IS NULL OR until > {now}) AND kind = 0
             AND one = {issuer} AND two = {subject})"
    )
}

/// The condition that whoever asked for the lock of the row `row` to be lifted may still count: they are in that session, and neither
/// it nor they are locked.
fn asking_counts(row: &str, now: &str) -> String {
    format!(
        "(EXISTS (SELECT FROM session s WHERE s.id = {row}.asked_session AND s.ended_at IS NULL AND s.expires_at > {now})
            AND NOT EXISTS (SELECT FROM lock l WHERE l.ended_at IS NULL AND (l.until IS NULL OR l.until > {now})
                AND ((l.kind = 0 AND l.one = {row}.asked_issuer AND l.two = {row}.asked_subject)
                    OR (l.kind = 1 AND l.one = encode({row}.asked_session, 'hex')))))"
    )
}

/// [`LockKeys`] as parameters.
pub(super) struct Held<'a> {
    keys: &'a LockKeys,
    texts: [Option<String>; 3],
}

/// The statements, prepared.
pub(super) struct Statements {
    stops: Statement,
    set: Statement,
    ask_lift: Statement,
    lift: Statement,
    time_out: Statement,
}

// === impl Held ===

impl<'a> Held<'a> {
    pub(super) fn of(keys: &'a LockKeys) -> Self {
        Self { keys, texts: keys.texts() }
    }

    pub(super) fn values(&self) -> [&(dyn ToSql + Sync); 6] {
        let [session, grant, renewal] = &self.texts;
        [&self.keys.issuer, &self.keys.subject, session, grant, renewal, &self.keys.cluster]
    }
}

// === impl Statements ===

impl Statements {
    pub(super) async fn prepare(db: &Transaction<'_>) -> Result<Self, Failure> {
        let live = "($9::bytea IS NULL OR EXISTS (SELECT FROM session
            WHERE id = $9 AND ended_at IS NULL AND expires_at > $10))";
        // an account by issuer and subject, anybody else by name
        let set_by = "(set_issuer IS NOT DISTINCT FROM $13::text AND set_subject IS NOT DISTINCT FROM $14::text
            AND ($13::text IS NOT NULL OR set_by = $5))";
        // its setter's own of the same, one that ended, and one whose end is later by now are in the way
        let set = format!(
            "WITH live AS (SELECT WHERE {live}),
                moved AS (UPDATE lock SET until = $8, asked_provider = NULL, asked_issuer = NULL, asked_subject = NULL,
                        asked_user = NULL, asked_until = NULL, asked_human = NULL, asked_session = NULL
                    WHERE id = $1 AND kind = $2 AND one = $3 AND two = $4 AND {set_by} AND ended_at IS NULL
                        AND (until IS NULL OR until > $10) AND ($8::bigint IS NULL OR until <= $8)
                        AND EXISTS (SELECT FROM live) RETURNING 1),
                other AS (SELECT FROM lock WHERE NOT EXISTS (SELECT FROM moved) AND (id = $1 OR (kind = $2 AND one = $3
                    AND two = $4 AND {set_by} AND ended_at IS NULL AND (until IS NULL OR until > $10)))),
                room AS (SELECT FROM lock WHERE ended_at IS NULL AND (until IS NULL OR until > $10) AND kind <> 4
                        AND set_by NOT LIKE '% %'
                    HAVING $11::bigint IS NULL OR (count(*) < $11 AND count(*) FILTER (WHERE {set_by}) < $12::bigint)),
                made AS (INSERT INTO lock (id, kind, one, two, set_by, reason, at, until, set_issuer, set_subject)
                    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $13, $14 WHERE EXISTS (SELECT FROM live) AND EXISTS (SELECT FROM room)
                        AND NOT EXISTS (SELECT FROM moved) AND NOT EXISTS (SELECT FROM other)
                    ON CONFLICT DO NOTHING RETURNING 1),
                done AS (SELECT FROM made UNION ALL SELECT FROM moved),
                ended AS (UPDATE session SET ended_at = $10, refresh_sealed = NULL, lease_until = NULL
                    WHERE ended_at IS NULL AND EXISTS (SELECT FROM done)
                        AND (($2 = 0 AND issuer = $3 AND subject = $4) OR ($2 = 1 AND encode(id, 'hex') = $3)))
             SELECT EXISTS (SELECT FROM done), EXISTS (SELECT FROM live), EXISTS (SELECT FROM other),
                EXISTS (SELECT FROM room)"
        );
        Ok(Self {
            stops: db.prepare_cached(&format!("SELECT {}", stops(2, "$1", ""))).await?,
            set: db.prepare_cached(&set).await?,
            ask_lift: db
                .prepare_cached(&format!(
                    "WITH live AS (SELECT FROM session WHERE id = $7 AND ended_at IS NULL AND expires_at > $8),
                        asked AS (UPDATE lock SET asked_provider = $2, asked_issuer = $3, asked_subject = $4, asked_user = $5,
                                asked_until = $6, asked_human = $9, asked_session = $7
                            WHERE id = $1 AND kind = 4 AND ended_at IS NULL AND (until IS NULL OR until > $8)
                                AND (asked_until IS NULL OR asked_until <= $8 OR (asked_provider = $2 AND asked_issuer = $3
                                    AND asked_subject = $4) OR asked_session = $10::bytea OR NOT {})
                                AND EXISTS (SELECT FROM live) RETURNING 1)
                     SELECT EXISTS (SELECT FROM asked), EXISTS (SELECT FROM live)",
                    asking_counts("lock", "$8")
                ))
                .await?,
            lift: db
                .prepare_cached(&format!(
                    "WITH live AS (SELECT WHERE $6::bytea IS NULL OR EXISTS (SELECT FROM session
                            WHERE id = $6 AND ended_at IS NULL AND expires_at > $7)),
                        held AS (SELECT * FROM lock WHERE id = $1 AND ended_at IS NULL AND (until IS NULL OR until > $7)),
                        may AS (SELECT FROM held WHERE kind <> 4 OR (asked_until > $7 AND {} AND {})),
                        lifted AS (UPDATE lock SET ended_by = $2, ended_at = $7
                            WHERE id = $1 AND EXISTS (SELECT FROM live) AND EXISTS (SELECT FROM may) RETURNING 1)
                     SELECT EXISTS (SELECT FROM lifted), EXISTS (SELECT FROM live), EXISTS (SELECT FROM held)",
                    asking_counts("held", "$7"),
                    surely_another(
                        Told {
                            human: "asked_human",
                            provider: "asked_provider",
                            issuer: "asked_issuer",
                            subject: "asked_subject",
                        },
                        Told { human: "$8::bytea", provider: "$3::text", issuer: "$4::text", subject: "$5::text" }
                    )
                ))
                .await?,
            time_out: db
                .prepare_cached(
                    "UPDATE lock SET ended_by = 'its time was over', ended_at = $2
                     WHERE id = $1 AND ended_at IS NULL AND until <= $2",
                )
                .await?,
        })
    }

    /// Whether a lock on any of this holds at `now`.
    pub(super) async fn stops(&self, db: &Transaction<'_>, keys: &LockKeys, now: Timestamp) -> Result<bool, Failure> {
        let (held, now) = (Held::of(keys), micros(now));
        let values: Vec<&(dyn ToSql + Sync)> =
            std::iter::once(&now as &(dyn ToSql + Sync)).chain(held.values()).collect();
        Ok(db.query_one(&self.stops, &values).await?.try_get(0)?)
    }

    pub(super) async fn change(&self, db: &Transaction<'_>, change: &LockChange, now: Timestamp) -> Done {
        let now = micros(now);
        match change {
            LockChange::Set { lock, session, quota } => {
                let (kind, one, two) = columns(&lock.target);
                let kind = i16::try_from(kind).unwrap_or(i16::MAX);
                let row = db
                    .query_one(
                        &self.set,
                        &[
                            &lock.id.0.as_bytes().as_slice(),
                            &kind,
                            &one,
                            &two,
                            &lock.by,
                            &lock.reason,
                            &micros(lock.at),
                            &lock.until.map(micros),
                            &session.map(|session| session.0.as_bytes().to_vec()),
                            &now,
                            &quota.map(|quota| signed(quota.all)),
                            &quota.map(|quota| signed(quota.own)),
                            &lock.setter.as_ref().map(|account| account.issuer.as_str()),
                            &lock.setter.as_ref().map(|account| account.subject.as_str()),
                        ],
                    )
                    .await?;
                Ok(match (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?) {
                    (true, _, _, _) => Ok(()),
                    (_, false, _, _) => Err(Condition::SessionEnded),
                    (_, _, true, _) => Err(Condition::Stale),
                    (_, _, _, false) => Err(Condition::TooManyLocks),
                    _ => Err(Condition::Stale),
                })
            }
            LockChange::AskLift { lock, ask, instead } => {
                let LiftAsk { person: Person { provider, issuer, subject }, user, until, told, session } = &**ask;
                let row = db
                    .query_one(
                        &self.ask_lift,
                        &[
                            &lock.0.as_bytes().as_slice(),
                            &provider.as_str(),
                            issuer,
                            subject,
                            user,
                            &micros(*until),
                            &session.0.as_bytes().as_slice(),
                            &now,
                            &told.as_ref().map(<[u8; 32]>::as_slice),
                            &instead.map(|session| session.0.as_bytes().to_vec()),
                        ],
                    )
                    .await?;
                Ok(match (row.try_get(0)?, row.try_get(1)?) {
                    (true, _) => Ok(()),
                    (_, false) => Err(Condition::SessionEnded),
                    _ => Err(Condition::LockGone),
                })
            }
            LockChange::Lift { lock, person, by, session } => {
                let account = person.as_ref().map(|human| &human.person);
                let row = db
                    .query_one(
                        &self.lift,
                        &[
                            &lock.0.as_bytes().as_slice(),
                            by,
                            &account.map(|person| person.provider.as_str()),
                            &account.map(|person| person.issuer.as_str()),
                            &account.map(|person| person.subject.as_str()),
                            &session.map(|session| session.0.as_bytes().to_vec()),
                            &now,
                            &person.as_ref().and_then(|human| human.told.as_ref()).map(<[u8; 32]>::as_slice),
                        ],
                    )
                    .await?;
                Ok(match (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?) {
                    (true, _, _) => Ok(()),
                    (_, false, _) => Err(Condition::SessionEnded),
                    (_, _, false) => Err(Condition::LockGone),
                    _ => Err(Condition::SecondPerson),
                })
            }
            LockChange::TimeOut { lock } => {
                let ended = db.execute(&self.time_out, &[&lock.0.as_bytes().as_slice(), &now]).await?;
                Ok(if ended == 1 { Ok(()) } else { Err(Condition::LockGone) })
            }
        }
    }
}

pub(super) async fn sweep(db: &Object, now: i64) -> Result<(), Failure> {
    let delete = "DELETE FROM lock WHERE id IN (SELECT id FROM lock WHERE ended_at < $1 FOR UPDATE SKIP LOCKED)";
    let delete = db.prepare_cached(delete).await?;
    db.execute(&delete, &[&now.saturating_sub(KEPT)]).await?;
    Ok(())
}

// === reading ===

pub(super) async fn by_id(db: &Object, lock: LockId) -> Result<Option<LockRow>, Failure> {
    let select = db.prepare_cached(&format!("{COLUMNS} WHERE id = $1")).await?;
    db.query_opt(&select, &[&lock.0.as_bytes().as_slice()]).await?.map(|row| parse(&row)).transpose()
}

pub(super) async fn list(db: &Object, with_ended: bool, limit: u32) -> Result<Vec<LockRow>, Failure> {
    let which = if with_ended { "true" } else { "ended_at IS NULL" };
    let select = db.prepare_cached(&format!("{COLUMNS} WHERE {which} ORDER BY id DESC LIMIT $1")).await?;
    db.query(&select, &[&i64::from(limit)]).await?.iter().map(parse).collect()
}

/// Whoever had a session and has this subject or this value behind `user:`, each once, with what was told last.
pub(super) async fn people(db: &Object, name: &str, limit: u32) -> Result<Vec<KnownPerson>, Failure> {
    if has_nul([name]) {
        return Ok(Vec::new());
    }
    let select = db
        .prepare_cached(
            "SELECT DISTINCT ON (provider COLLATE \"C\", issuer COLLATE \"C\", subject COLLATE \"C\") provider, issuer, subject, name,
                 \"user\" FROM session
             WHERE subject = $1 OR \"user\" = $1
             ORDER BY provider COLLATE \"C\", issuer COLLATE \"C\", subject COLLATE \"C\", created_at DESC LIMIT $2",
        )
        .await?;
    let rows = db.query(&select, &[&name, &i64::from(limit)]).await?;
    rows.iter()
        .map(|row| Ok(KnownPerson { person: person(row, 0)?, name: row.try_get(3)?, user: row.try_get(4)? }))
        .collect()
}

fn person(row: &Row, at: usize) -> Result<Person, Failure> {
    let provider = ProviderAlias::new(row.try_get(at)?).map_err(|error| Failure::Damaged(error.to_string()))?;
    Ok(Person { provider, issuer: row.try_get(at + 1)?, subject: row.try_get(at + 2)? })
}

fn parse(row: &Row) -> Result<LockRow, Failure> {
    let target = target(row.try_get::<_, i16>(1)?.into(), row.try_get(2)?, row.try_get(3)?);
    let at = |place| -> Result<_, Failure> { Ok(row.try_get::<_, Option<i64>>(place)?.map(time).transpose()?) };
    // one without its session was asked before that was kept, and counts no more
    let asked = match (at(12)?, row.try_get(11)?, row.try_get::<_, Option<&[u8]>>(18)?) {
        (Some(until), Some(user), Some(session)) => {
            let told = row.try_get::<_, Option<&[u8]>>(15)?.map(hash).transpose()?;
            Some(LiftAsk { person: person(row, 8)?, user, until, told, session: SessionId(id(session)?) })
        }
        _ => None,
    };
    let setter = row.try_get::<_, Option<String>>(16)?.zip(row.try_get(17)?);
    Ok(LockRow {
        id: LockId(id(row.try_get(0)?)?),
        target: target.ok_or_else(|| Failure::Damaged("a lock is on nothing that this build knows".into()))?,
        by: row.try_get(4)?,
        setter: setter.map(|(issuer, subject)| Account { issuer, subject }),
        reason: row.try_get(5)?,
        at: time(row.try_get(6)?)?,
        until: at(7)?,
        asked,
        ended: row.try_get::<_, Option<String>>(13)?.zip(at(14)?),
    })
}
