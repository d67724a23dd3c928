//! SQLite, embedded: one file, one process, every acknowledged change synced to the disk.

mod backup;
mod merger;
pub mod mount;
mod own;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use rustix::process::Signal;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteConnectOptions, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, FromRow, Row as _, SqliteConnection};
use tokio::signal::unix::{SignalKind, signal};
use tracing::warn;
use uuid::Uuid;

pub use self::backup::backup;
use self::merger::Merger;
use self::own::{Missing, Own};
use super::row::{Columns, Row, columns};
use super::schema::{self, Scripts};
use super::seal::Keyring;
use super::sealed::{SealedStore, try_keys};
use super::writer::{Backend, Fault, Mark, Op, Page, Read};
use super::{OpenError, Unreadable};
use crate::clock::Clock;

pub struct SqliteFile {
    connection: SqliteConnection,
    merger: Merger,
    /// Rows written since the last merge began.
    unmerged: usize,
    /// Rows written since all of the WAL was last merged.
    in_wal: usize,
    /// What was erased may still stand in the WAL.
    is_untidy: bool,
    own: Own,
}

const MIGRATIONS: &Scripts = &[
    (1, "sessions", include_str!("../../migrations/sqlite/0001_sessions.sql")),
    (2, "digests", include_str!("../../migrations/sqlite/0002_digests.sql")),
    (3, "starts", include_str!("../../migrations/sqlite/0003_starts.sql")),
];
/// The table in which sqlx keeps which migrations were applied. It is made before the first of them.
const MIGRATED: &str = "_sqlx_migrations";
/// Set by the first migration.
const APPLICATION_ID: i32 = 0x616e_7472;
const BUSY: Duration = Duration::from_secs(2);
/// So many rows may be written before they are merged; by time the WAL is merged and emptied as well.
const MERGE_ROWS: usize = 2_000;
/// As long as there is more to write, a merge never gets to the end of the WAL, and so it grows. With so many rows it is let end.
const WAL_ROWS: usize = 10_000;
const PAGE: i64 = 500;
/// How many rows one statement writes at most.
const ROWS: usize = 64;

/// Opens the file, or makes it and the key file.
///
/// # Errors
/// Another process uses it, it is damaged, not ours or from a newer version, or its key is missing. It is left as it is.
pub async fn open(path: &Path, key_file: &Path, clock: Arc<dyn Clock>) -> Result<SealedStore, OpenError> {
    bear_limits().map_err(|error| refusal(path, &format!("cannot be opened: {error}")))?;
    let mut own = Own::take(path)?;
    let keyring = inspect(own.path(), key_file).await?;
    own.create()?;
    let (file, epoch) = SqliteFile::connect(own).await.map_err(|error| cannot_open(path, &error))?;
    if let Some(warning) = mount::warning(path) {
        warn!("{warning}");
    }
    Ok(SealedStore::start(file, keyring, epoch, clock))
}

/// A file that reaches the limit of the process (`ulimit -f`) is to be an error of that write, not the death of the process: so the
/// signal is caught, and that is all.
fn bear_limits() -> std::io::Result<()> {
    signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).map(drop)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Looks at the file without changing it. Returns the keys of its rows.
async fn inspect(path: &Path, key_file: &Path) -> Result<Keyring, OpenError> {
    if !std::fs::metadata(path).is_ok_and(|file| file.len() > 0) {
        return Keyring::open(key_file, false);
    }
    let damaged = |_| refusal(path, "is damaged or no SQLite database; restore it from a backup, or move it away to start with none");
    // Where there is no WAL, not even the files are made that reading one takes.
    let options = options(path).read_only(true).immutable(!beside(path, "-wal").exists());
    let mut file = options.connect().await.map_err(|error| cannot_open(path, &error))?;
    let found: Vec<String> = sqlx::query_scalar(QUICK_CHECK).fetch_all(&mut file).await.map_err(damaged)?;
    if !found.iter().all(|problem| problem == "ok" || is_of_one_row(problem)) {
        return Err(damaged(sqlx::Error::RowNotFound));
    }
    let tables: HashSet<String> = sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'table'")
        .fetch_all(&mut file)
        .await
        .map_err(damaged)?
        .into_iter()
        .collect();
    let applied: Option<i64> = match tables.contains(MIGRATED) {
        true => sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(&mut file).await.map_err(damaged)?,
        false => None,
    };
    // Nothing yet, or the table of migrations alone: the first start was cut off before the first of them.
    if applied.is_none() && tables.iter().all(|table| table == MIGRATED) {
        file.close().await.map_err(damaged)?;
        return Keyring::open(key_file, false);
    }
    let application_id: i32 = sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut file).await.map_err(damaged)?;
    if application_id != APPLICATION_ID || applied.is_none() {
        return Err(refusal(path, "is a database of another program; give Anteroom a file of its own"));
    }
    schema::refuse_newer(MIGRATIONS, applied, &path.display().to_string())?;
    let is_used = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sessions)").fetch_one(&mut file).await.map_err(damaged)?;
    let keyring = Keyring::open(key_file, is_used)?;
    let all = sqlx::query(AssertSqlSafe(schema::every_row(applied, "0"))).fetch(&mut file).map_ok(|row| read(&row));
    try_keys(&keyring, key_file, all, damaged).await?;
    file.close().await.map_err(damaged)?;
    Ok(keyring)
}

/// The structure of the whole file comes first, then what does not fit in single rows.
const QUICK_CHECK: &str = "PRAGMA quick_check(100)";

/// A cell that holds what its column cannot: that row fails, and no other.
fn is_of_one_row(problem: &str) -> bool {
    ["NULL value in ", "NUMERIC value in ", "TEXT value in ", "CHECK constraint failed in ", "non-"]
        .into_iter()
        .any(|start| problem.starts_with(start) && !problem.starts_with("non-unique"))
}

async fn connect(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    let mut connection = options(path).connect().await?;
    for (pragma, wanted) in PRAGMAS {
        let (name, _) = pragma.split_once(" =").unwrap_or((pragma, ""));
        sqlx::raw_sql(*pragma).execute(&mut connection).await?;
        let row = sqlx::query(AssertSqlSafe(name)).fetch_one(&mut connection).await?;
        let actual = row.try_get::<i64, _>(0).map(|number| number.to_string()).or_else(|_| row.try_get(0))?;
        if actual != *wanted {
            return Err(sqlx::Error::Configuration(format!("{pragma} was not obeyed").into()));
        }
    }
    Ok(connection)
}

/// Each with what it must read as afterwards. Merging is left to us, as SQLite hides the errors of its automatic merges.
const PRAGMAS: &[(&str, &str)] = &[
    ("PRAGMA journal_mode = wal", "wal"),
    ("PRAGMA synchronous = full", "2"),
    ("PRAGMA secure_delete = on", "1"),
    ("PRAGMA wal_autocheckpoint = 0", "0"),
    ("PRAGMA temp_store = memory", "2"),
    ("PRAGMA trusted_schema = off", "0"),
];

fn options(path: &Path) -> SqliteConnectOptions {
    // A page at a time: with few rows on their way, reading waits for whoever takes them, and they for it.
    let rows = PAGE.unsigned_abs() as usize;
    SqliteConnectOptions::new().filename(path).busy_timeout(BUSY).row_buffer_size(rows).disable_statement_logging()
}

// === reading and writing ===

impl Backend for SqliteFile {
    async fn commit(&mut self, batch: &[Op]) -> Result<Vec<bool>, Fault> {
        let doubtful = match self.transaction(batch).await {
            Ok(doubtful) => doubtful,
            Err(error) => {
                // Where the failure has ended the transaction already, there is none to roll back.
                let _ = sqlx::raw_sql("ROLLBACK").execute(&mut self.connection).await;
                return Err(fault(&error));
            }
        };
        // What was written is durable by now, whatever comes of looking.
        self.written(batch.len());
        self.look().await?;
        let refused = self.refused(&doubtful).await.map_err(|error| Fault::Unknown(error.to_string()))?;
        self.merge().await?;
        Ok(batch.iter().map(|op| !refused.contains(&op.id())).collect())
    }

    async fn version(&mut self, id: Uuid) -> Result<Option<i64>, Fault> {
        let version = sqlx::query_scalar("SELECT version FROM sessions WHERE id = ?").bind(id).fetch_optional(&mut self.connection);
        match version.await {
            // A cell that is damaged is none of ours.
            Err(sqlx::Error::ColumnDecode { .. }) => Ok(None),
            version => version.map_err(|error| fault(&error)),
        }
    }

    /// In the order of the file: by id, every row would be looked for in another place.
    async fn page(&mut self, after: Option<Mark>) -> Result<Page, Fault> {
        let after = if let Some(Mark::RowId(after)) = after { after } else { i64::MIN };
        let rows = sqlx::query(concat!("SELECT ", columns!(), ", rowid FROM sessions WHERE rowid > ? ORDER BY rowid LIMIT ?"));
        let rows = rows.bind(after).bind(PAGE).fetch_all(&mut self.connection).await.map_err(|error| fault(&error))?;
        let end = rows.last().map(|row| row.try_get("rowid").map(Mark::RowId)).transpose().map_err(|error| fault(&error))?;
        Ok(Page { rows: Box::new(rows.into_iter().map(|row| read(&row))), end })
    }

    async fn row(&mut self, id: Uuid) -> Result<Option<Result<Row, Unreadable>>, Fault> {
        let row = sqlx::query(concat!("SELECT ", columns!(), " FROM sessions WHERE id = ?")).bind(id);
        let row = row.fetch_optional(&mut self.connection).await.map_err(|error| fault(&error))?;
        Ok(row.as_ref().and_then(read))
    }

    async fn probe(&mut self, bytes: usize) -> Result<(), Fault> {
        let size = i64::try_from(bytes).unwrap_or(i64::MAX);
        let written = sqlx::query("UPDATE starts SET probe = randomblob(?)").bind(size).execute(&mut self.connection).await;
        written.map_err(|error| fault(&error))?;
        self.written(1);
        self.look().await
    }

    /// What goes into a file that has no name any more is acknowledged to nobody.
    async fn look(&mut self) -> Result<(), Fault> {
        let Some(missing) = self.own.missing() else { return Ok(()) };
        if missing == Missing::Wal {
            // What was acknowledged before is in a WAL that only we can still read, and into the database it can still go.
            let _ = self.checkpoint("PRAGMA wal_checkpoint(PASSIVE)").await;
        }
        Err(Fault::Broken("the database, or the WAL beside it, was removed or replaced".to_owned()))
    }

    async fn tidy(&mut self) -> Result<(), Fault> {
        if self.is_untidy {
            self.is_untidy = !self.empty().await?;
        }
        Ok(())
    }

    async fn close(mut self) {
        // Without it the next start reads the WAL instead.
        let _ = self.empty().await;
        self.merger.close().await;
        let _ = self.connection.close().await;
        self.own.close();
    }
}

impl SqliteFile {
    /// Also tells the number of this start.
    async fn connect(mut own: Own) -> Result<(Self, i64), sqlx::Error> {
        let mut connection = connect(own.path()).await?;
        schema::migrator(MIGRATIONS).run(&mut connection).await?;
        let merger = Merger::new(connect(own.path()).await?).await?;
        let epoch = sqlx::query_scalar(schema::COUNT_START).fetch_one(&mut connection).await?;
        own.remember()?;
        Ok((Self { connection, merger, unmerged: 0, in_wal: 0, is_untidy: true, own }, epoch))
    }

    /// Returns the rows of the statements that did not write all of theirs. SQLite tells how many it wrote and not which: each row
    /// that it names wakes the task that waits for it, so that much of a commit would be spent on that.
    async fn transaction<'a>(&mut self, batch: &'a [Op]) -> Result<Vec<&'a Row>, sqlx::Error> {
        let (mut saved, mut removed, mut doubtful) = (Vec::new(), Vec::new(), Vec::new());
        for op in batch {
            match op {
                Op::Save { expected, row } => saved.push((*expected, &**row)),
                Op::Remove(id) => removed.push(*id),
            }
        }
        let connection = &mut self.connection;
        // One statement is a transaction of its own, and each further one a round trip to the connection's thread.
        let several = saved.len().div_ceil(ROWS) + removed.len().div_ceil(ROWS) > 1;
        if several {
            sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut *connection).await?;
        }
        for chunk in saved.chunks(ROWS) {
            let query = sqlx::query(AssertSqlSafe(save(places(chunk.len()))));
            let query = chunk.iter().fold(query, |query, (expected, row)| bind(query, *expected, row));
            if query.execute(&mut *connection).await?.rows_affected() < chunk.len() as u64 {
                doubtful.extend(chunk.iter().map(|(_, row)| *row));
            }
        }
        for chunk in removed.chunks(ROWS) {
            let ids = vec!["?"; places(chunk.len())].join(",");
            let query = sqlx::query(AssertSqlSafe(format!("DELETE FROM sessions WHERE id IN ({ids})")));
            chunk.iter().fold(query, |query, id| query.bind(*id)).execute(&mut *connection).await?;
        }
        if several {
            sqlx::raw_sql("COMMIT").execute(&mut *connection).await?;
        }
        Ok(doubtful)
    }

    /// Returns the ids of those rows that were not written.
    async fn refused(&mut self, rows: &[&Row]) -> Result<HashSet<Uuid>, sqlx::Error> {
        let mut refused: HashSet<Uuid> = rows.iter().map(|row| row.id).collect();
        for chunk in rows.chunks(ROWS) {
            let query = sqlx::query_scalar(AssertSqlSafe(written(places(chunk.len()))));
            let query = chunk.iter().fold(query, |query, row| query.bind(row.id).bind(&*row.seal));
            for id in query.fetch_all(&mut self.connection).await? {
                refused.remove(&id);
            }
        }
        Ok(refused)
    }

    fn written(&mut self, rows: usize) {
        self.unmerged += rows;
        self.in_wal += rows;
        self.is_untidy = true;
    }

    /// Behind a commit, which must not seem to have failed because of this. What fails in passing is tried again behind a later
    /// one, and told by `tidy`.
    async fn merge(&mut self) -> Result<(), Fault> {
        let merged = if self.in_wal >= WAL_ROWS {
            self.checkpoint("PRAGMA wal_checkpoint(PASSIVE)").await
        } else if self.unmerged >= MERGE_ROWS
            && let Some(begun) = self.merger.begin()
        {
            self.unmerged = 0;
            begun.map_err(|error| fault(&error))
        } else {
            Ok(())
        };
        match merged {
            Err(Fault::Broken(reason)) => Err(Fault::Broken(reason)),
            Ok(()) | Err(Fault::Unavailable(_) | Fault::Unknown(_)) => Ok(()),
        }
    }

    /// To the end of the WAL, while nothing is written.
    async fn checkpoint(&mut self, pragma: &'static str) -> Result<(), Fault> {
        self.merger.end().await.map_err(|error| fault(&error))?;
        sqlx::raw_sql(pragma).fetch_one(&mut self.connection).await.map_err(|error| fault(&error))?;
        (self.unmerged, self.in_wal) = (0, 0);
        Ok(())
    }

    /// Merges what is in the WAL and empties it. False: somebody reads it; nobody waits for that, and it is tried again.
    async fn empty(&mut self) -> Result<bool, Fault> {
        let emptied = self.merger.empty().await.map_err(|error| fault(&error))?;
        (self.unmerged, self.in_wal) = (0, 0);
        Ok(emptied)
    }
}

// === statements ===

/// For how many rows the statement is made that so many are given to. Each is prepared once and kept, and the large ones take 90 KB,
/// so there are few. A place that stays unbound is NULL, and nothing is equal to that.
fn places(rows: usize) -> usize {
    rows.next_power_of_two()
}

type Bound<'q> = Query<'q, Sqlite, SqliteArguments>;

/// Writes those of so many rows whose stored version is the expected one. An id that is there already is not set again, or its
/// entry in the index would be written as well: another page, somewhere, for each row.
fn save(rows: usize) -> String {
    const TUPLE: &str = "(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)";
    const COLUMNS: &str = columns!();
    let (tuples, but_id) = (vec![TUPLE; rows].join(","), COLUMNS.trim_start_matches("id, "));
    let values = but_id.replace(", ", ", excluded.");
    format!(
        "WITH next (expected, {COLUMNS}) AS (VALUES {tuples}) INSERT INTO sessions ({COLUMNS}) SELECT {COLUMNS} FROM next WHERE expected = ifnull((SELECT version FROM sessions WHERE id = next.id), 0) ON CONFLICT (id) DO UPDATE SET ({but_id}) = (excluded.{values})"
    )
}

/// Which of so many rows are there; no two have the same seal.
fn written(rows: usize) -> String {
    format!("SELECT id FROM sessions WHERE (id, seal) IN (VALUES {})", vec!["(?,?)"; rows].join(","))
}

fn bind<'q>(query: Bound<'q>, expected: i64, row: &'q Row) -> Bound<'q> {
    let query = query.bind(expected).bind(row.id).bind(row.version).bind(row.revision).bind(&*row.provider).bind(row.caller.as_deref());
    let query = query.bind(&*row.status).bind(row.opened_at).bind(&*row.facts).bind(&*row.key_id);
    let query = query.bind(row.device_code.as_deref()).bind(row.tokens.as_deref()).bind(row.secret.as_deref());
    query.bind(row.revocation.as_deref()).bind(&*row.seal).bind(row.epoch)
}

fn read(row: &SqliteRow) -> Read {
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

// === errors ===

/// What the file system could not do may be mended; what it did wrong cannot. After a failed sync nobody knows what is on the
/// disk, and a second sync that succeeds says nothing about it.
fn fault(error: &sqlx::Error) -> Fault {
    const IO_ERROR: i32 = 10;
    const IO_ERROR_WRITE: i32 = IO_ERROR | 3 << 8;
    const IO_ERROR_SHM_SIZE: i32 = IO_ERROR | 19 << 8;
    const CORRUPT: i32 = 11;
    const NOT_A_DATABASE: i32 = 26;
    const READONLY_DB_MOVED: i32 = 8 | 4 << 8;
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<i32>().ok());
    match code {
        Some(IO_ERROR_WRITE | IO_ERROR_SHM_SIZE) => Fault::Unavailable(error.to_string()),
        Some(READONLY_DB_MOVED) => Fault::Broken(error.to_string()),
        Some(code) if [IO_ERROR, CORRUPT, NOT_A_DATABASE].contains(&(code & 0xff)) => Fault::Broken(error.to_string()),
        Some(_) => Fault::Unavailable(error.to_string()),
        None => Fault::Broken(error.to_string()),
    }
}

fn cannot_open(path: &Path, error: &sqlx::Error) -> OpenError {
    OpenError::new(format!("store.url: {} cannot be opened: {error}", path.display()))
}

fn refusal(path: &Path, what: &str) -> OpenError {
    OpenError::new(format!("store.url: {} {what}", path.display()))
}
