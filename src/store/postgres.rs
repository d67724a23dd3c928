//! PostgreSQL, one primary. Every change is a single statement, so no transaction is ever left open, and a connection that broke
//! while it was answering is ended at the server before anything is read or written again.

use std::collections::HashSet;
use std::future::Future;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, Stream};
use futures_util::{StreamExt, TryStreamExt};
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, FromRow, PgConnection, Row as _};
use uuid::Uuid;

use super::row::{Columns, Row, columns};
use super::schema::{self, Scripts};
use super::seal::Keyring;
use super::sealed::{SealedStore, try_keys};
use super::writer::{Backend, Fault, Mark, Op, Page, Read};
use super::{OpenError, Unreadable};
use crate::clock::Clock;

pub struct Postgres {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    /// The server's side of our last connection.
    session: ServerSession,
}

/// A process of the server; its number alone may have been given to another by now.
#[derive(Clone, PartialEq, Eq, Debug)]
struct ServerSession {
    pid: i32,
    started: String,
}

const MIGRATIONS: &Scripts = &[
    (1, "sessions", include_str!("../../migrations/postgres/0001_sessions.sql")),
    (2, "digests", include_str!("../../migrations/postgres/0002_digests.sql")),
    (3, "starts", include_str!("../../migrations/postgres/0003_starts.sql")),
];
const OLDEST: i32 = 140_000;
const CONNECT: Duration = Duration::from_secs(2);
/// Longer than the limits that the server has from [`LIMITS`], so that only a silent connection runs into it.
const STATEMENT: Duration = Duration::from_secs(5);
const LIMITS: [(&str, &str); 3] = [("lock_timeout", "2s"), ("statement_timeout", "4s"), ("idle_in_transaction_session_timeout", "5s")];
const PAGE: i64 = 500;

/// Opens the database. With `allow_data_loss` also one that forgets acknowledged changes when its machine fails.
///
/// # Errors
/// It cannot be reached, another process uses it, it is too old, unsafe or from a newer version, or its key is missing. It is
/// left as it is.
pub async fn open(url: &str, key_file: &Path, allow_data_loss: bool, clock: Arc<dyn Clock>) -> Result<SealedStore, OpenError> {
    let plain = PgConnectOptions::from_str(url).map_err(|_| refusal("is no URL of a PostgreSQL database"))?;
    let plain = plain.application_name("anteroom").disable_statement_logging();
    let options = plain.clone().options(LIMITS);
    let mut connection = connect(&options).await.map_err(|reason| refusal(&format!("cannot be reached: {reason}")))?;
    let unusable = |error: sqlx::Error| refusal(&format!("cannot be used: {error}"));

    let settings = "SELECT current_setting('server_version_num')::int, current_setting('fsync'), current_setting('synchronous_commit')";
    let (version, fsync, commit): (i32, String, String) = sqlx::query_as(settings).fetch_one(&mut connection).await.map_err(unusable)?;
    if version < OLDEST {
        return Err(refusal("is older than PostgreSQL 14; use 14 or later"));
    }
    for (setting, value) in [("fsync", fsync), ("synchronous_commit", commit)] {
        if value == "off" && !allow_data_loss {
            return Err(refusal(&format!(
                "has {setting} off, so acknowledged sign-ins could be lost; turn it on, or set store.allow_data_loss = true"
            )));
        }
    }
    let session = take(&mut connection).await.map_err(|error| match is_lock_timeout(&error) {
        true => refusal("is in use by another process; stop that one, or give this one a database or schema of its own"),
        false => unusable(error),
    })?;
    let known = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL AND to_regclass('sessions') IS NOT NULL";
    let keyring = if sqlx::query_scalar(known).fetch_one(&mut connection).await.map_err(unusable)? {
        let applied = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(&mut connection).await.map_err(unusable)?;
        schema::refuse_newer(MIGRATIONS, applied, "the database")?;
        let is_used = sqlx::query_scalar("SELECT EXISTS (SELECT FROM sessions)").fetch_one(&mut connection).await.map_err(unusable)?;
        let keyring = Keyring::open(key_file, is_used)?;
        try_keys(&keyring, key_file, every_row(&mut connection, applied), unusable).await?;
        keyring
    } else {
        Keyring::open(key_file, false)?
    };

    // Without the limits: a migration may take its time.
    let mut migrating = plain.connect().await.map_err(unusable)?;
    schema::migrator(MIGRATIONS).run(&mut migrating).await.map_err(|error| unusable(error.into()))?;
    migrating.close().await.map_err(unusable)?;
    let epoch = sqlx::query_scalar(schema::COUNT_START).fetch_one(&mut connection).await.map_err(unusable)?;
    Ok(SealedStore::start(Postgres { options, connection: Some(connection), session }, keyring, epoch, clock))
}

/// Page by page: what is left of a statement whose end nobody wants would have to be received nevertheless.
fn every_row(connection: &mut PgConnection, applied: Option<i64>) -> impl Stream<Item = Result<Read, sqlx::Error>> {
    let sql = schema::every_row(applied, "0::bigint") + " WHERE id > $1 ORDER BY id LIMIT $2";
    let pages = stream::try_unfold((connection, sql, Uuid::nil()), async |(connection, sql, after)| {
        let rows = sqlx::query(AssertSqlSafe(sql.clone())).bind(after).bind(PAGE).fetch_all(&mut *connection).await?;
        let Some(last) = rows.last() else { return Ok::<_, sqlx::Error>(None) };
        let after = last.try_get("id")?;
        Ok(Some((stream::iter(rows).map(|row| Ok(read(&row))), (connection, sql, after))))
    });
    pages.try_flatten()
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, String> {
    match tokio::time::timeout(CONNECT, options.connect()).await {
        Ok(connected) => connected.map_err(|error| error.to_string()),
        Err(_) => Err("no answer within 2 s".to_owned()),
    }
}

/// Makes the sessions ours alone, for as long as the connection lasts.
async fn take(connection: &mut PgConnection) -> Result<ServerSession, sqlx::Error> {
    sqlx::query("SELECT pg_advisory_lock(hashtextextended(current_schema() || '.sessions', 0))").execute(&mut *connection).await?;
    let session = "SELECT pid, extract(epoch FROM backend_start)::text FROM pg_stat_activity WHERE pid = pg_backend_pid()";
    let (pid, started) = sqlx::query_as(session).fetch_one(connection).await?;
    Ok(ServerSession { pid, started })
}

// === reading and writing ===

impl Backend for Postgres {
    async fn commit(&mut self, batch: &[Op]) -> Result<Vec<bool>, Fault> {
        let (mut expected, mut rows, mut removed) = (Vec::new(), Vec::new(), Vec::new());
        for op in batch {
            match op {
                Op::Save { expected: version, row } => {
                    expected.push(*version);
                    rows.push(&**row);
                }
                Op::Remove(id) => removed.push(*id),
            }
        }
        fn column<'a, T>(rows: &[&'a Row], of: impl Fn(&'a Row) -> T) -> Vec<T> {
            rows.iter().map(|row| of(row)).collect()
        }
        let query = sqlx::query_scalar(COMMIT)
            .bind(expected)
            .bind(column(&rows, |row| row.id))
            .bind(column(&rows, |row| row.version))
            .bind(column(&rows, |row| row.revision))
            .bind(column(&rows, |row| &*row.provider))
            .bind(column(&rows, |row| row.caller.as_deref()))
            .bind(column(&rows, |row| &*row.status))
            .bind(column(&rows, |row| row.opened_at))
            .bind(column(&rows, |row| &*row.facts))
            .bind(column(&rows, |row| &*row.key_id))
            .bind(column(&rows, |row| row.device_code.as_deref()))
            .bind(column(&rows, |row| row.tokens.as_deref()))
            .bind(column(&rows, |row| row.secret.as_deref()))
            .bind(column(&rows, |row| row.revocation.as_deref()))
            .bind(column(&rows, |row| &*row.seal))
            .bind(column(&rows, |row| row.epoch))
            .bind(removed);
        let connection = self.connected().await?;
        let answer = timed(query.fetch_all(connection)).await;
        let written: HashSet<Uuid> = self.heed(answer)?.into_iter().collect();
        Ok(batch.iter().map(|op| matches!(op, Op::Remove(_)) || written.contains(&op.id())).collect())
    }

    async fn version(&mut self, id: Uuid) -> Result<Option<i64>, Fault> {
        let query = sqlx::query_scalar("SELECT version FROM sessions WHERE id = $1").bind(id);
        match timed(query.fetch_optional(self.connected().await?)).await {
            // A cell that is damaged is none of ours.
            Err(sqlx::Error::ColumnDecode { .. }) => Ok(None),
            answer => self.heed(answer),
        }
    }

    async fn page(&mut self, after: Option<Mark>) -> Result<Page, Fault> {
        let after = if let Some(Mark::Id(after)) = after { after } else { Uuid::nil() };
        let query = sqlx::query(concat!("SELECT ", columns!(), " FROM sessions WHERE id > $1 ORDER BY id LIMIT $2")).bind(after).bind(PAGE);
        let answer = timed(query.fetch_all(self.connected().await?)).await;
        let rows = self.heed(answer)?;
        let end = self.heed(rows.last().map(|row| row.try_get("id").map(Mark::Id)).transpose())?;
        Ok(Page { rows: Box::new(rows.into_iter().map(|row| read(&row))), end })
    }

    async fn row(&mut self, id: Uuid) -> Result<Option<Result<Row, Unreadable>>, Fault> {
        let query = sqlx::query(concat!("SELECT ", columns!(), " FROM sessions WHERE id = $1")).bind(id);
        let answer = timed(query.fetch_optional(self.connected().await?)).await;
        Ok(self.heed(answer)?.as_ref().and_then(read))
    }

    async fn probe(&mut self, bytes: usize) -> Result<(), Fault> {
        let mut probe = vec![0; bytes];
        // Random, or the server would keep it in less room.
        getrandom::fill(&mut probe).map_err(|error| Fault::Unavailable(error.to_string()))?;
        // Removes nothing, but only where something could be removed.
        let query = "WITH removed AS (DELETE FROM sessions WHERE id = $1) UPDATE starts SET probe = $2";
        let query = sqlx::query(query).bind(Uuid::nil()).bind(probe);
        let answer = timed(query.execute(self.connected().await?)).await;
        self.heed(answer).map(|_| ())
    }

    /// Left to the server; what it keeps for a while is sealed.
    async fn tidy(&mut self) -> Result<(), Fault> {
        Ok(())
    }

    async fn close(self) {
        if let Some(connection) = self.connection {
            let _ = timed(connection.close()).await;
        }
    }
}

impl Postgres {
    /// The connection, made anew where the last one broke. What that one had begun is over by then, so what is read now is
    /// what became of it.
    async fn connected(&mut self) -> Result<&mut PgConnection, Fault> {
        if self.connection.is_none() {
            let mut connection = connect(&self.options).await.map_err(Fault::Unavailable)?;
            let unavailable = |error: sqlx::Error| Fault::Unavailable(error.to_string());
            let standby = sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(&mut connection);
            if timed(standby).await.map_err(unavailable)? {
                return Err(Fault::Unavailable("the server is a standby".to_owned()));
            }
            let ServerSession { pid, started } = &self.session;
            let end = "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE pid = $1 AND extract(epoch FROM backend_start)::text = $2";
            let ended = sqlx::query_scalar(end).bind(pid).bind(started).fetch_optional(&mut connection);
            if timed(ended).await.map_err(unavailable)? == Some(false) {
                return Err(Fault::Unavailable("the server does not end our last connection".to_owned()));
            }
            self.session = timed(take(&mut connection)).await.map_err(|error| match is_lock_timeout(&error) {
                true => Fault::Broken("another process has taken over the sessions".to_owned()),
                false => unavailable(error),
            })?;
            self.connection = Some(connection);
        }
        self.connection.as_mut().ok_or_else(|| Fault::Unavailable("not connected".to_owned()))
    }

    /// What the server refused it did not do. Anything else that is no success leaves open what it did.
    fn heed<T>(&mut self, answer: Result<T, sqlx::Error>) -> Result<T, Fault> {
        let error = match answer {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        // https://www.postgresql.org/docs/current/errcodes-appendix.html: classes 08 and 57 end connections.
        let refused = |error: &dyn sqlx::error::DatabaseError| {
            error.code().is_some_and(|code| code == QUERY_CANCELED || !(code.starts_with("08") || code.starts_with("57")))
        };
        if error.as_database_error().is_some_and(refused) {
            return Err(Fault::Unavailable(error.to_string()));
        }
        self.connection = None;
        Err(Fault::Unknown(error.to_string()))
    }
}

const QUERY_CANCELED: &str = "57014";
const LOCK_NOT_AVAILABLE: &str = "55P03";

const COMMIT: &str = concat!(
    "WITH next AS (SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[], ",
    "$8::bigint[], $9::text[], $10::text[], $11::bytea[], $12::bytea[], $13::bytea[], $14::bytea[], $15::bytea[], $16::bigint[]) AS next (expected, ",
    columns!(),
    ")), inserted AS (INSERT INTO sessions (",
    columns!(),
    ") SELECT ",
    columns!(),
    " FROM next WHERE expected = 0 ON CONFLICT DO NOTHING RETURNING id), ",
    "updated AS (UPDATE sessions SET version = next.version, revision = next.revision, provider = next.provider, caller = next.caller, ",
    "status = next.status, opened_at = next.opened_at, facts = next.facts, key_id = next.key_id, device_code = next.device_code, ",
    "tokens = next.tokens, secret = next.secret, revocation = next.revocation, seal = next.seal, epoch = next.epoch ",
    "FROM next WHERE sessions.id = next.id AND sessions.version = next.expected AND next.expected <> 0 RETURNING sessions.id), ",
    "removed AS (DELETE FROM sessions WHERE id = ANY($17::uuid[])) ",
    "SELECT id FROM inserted UNION ALL SELECT id FROM updated",
);

async fn timed<T>(query: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    tokio::time::timeout(STATEMENT, query).await.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
}

fn is_lock_timeout(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == LOCK_NOT_AVAILABLE)
}

fn read(row: &PgRow) -> Read {
    if let Ok(columns) = Columns::from_row(row) {
        return Some(Ok(columns.into()));
    }
    let number = |column| row.try_get::<i64, _>(column).unwrap_or_default().cast_unsigned();
    Some(Err(Unreadable {
        id: row.try_get("id").ok()?,
        version: number("version"),
        provider: Arc::from(row.try_get::<&str, _>("provider").unwrap_or_default()),
        caller: row.try_get::<Option<&str>, _>("caller").unwrap_or_default().map(Arc::from),
    }))
}

fn refusal(what: &str) -> OpenError {
    OpenError::new(format!("store.url: the PostgreSQL database {what}"))
}
