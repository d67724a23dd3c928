//! SQLite, embedded: one file, one process, every acknowledged change synced to the disk.

mod merger;

use std::collections::HashSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteConnectOptions, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, FromRow, Row as _, SqliteConnection};
use uuid::Uuid;

use self::merger::Merger;
use super::row::{Columns, Row, columns};
use super::schema::{self, Scripts};
use super::seal::Keyring;
use super::sealed::SealedStore;
use super::writer::{Backend, Fault, Mark, Op, Page};
use super::{OpenError, Unreadable};
use crate::clock::Clock;

pub struct SqliteFile {
    connection: SqliteConnection,
    merger: Merger,
    /// Rows written since the last merge began.
    unmerged: usize,
    /// Rows written since the WAL last began anew.
    in_wal: usize,
    /// Held as long as the file is ours.
    _lock: File,
}

const MIGRATIONS: &Scripts = &[
    (1, "sessions", include_str!("../../migrations/sqlite/0001_sessions.sql")),
    (2, "digests", include_str!("../../migrations/sqlite/0002_digests.sql")),
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
    let lock = lock(path)?;
    let used_keys = inspect(path).await?;
    let keyring = Keyring::open(key_file, &used_keys)?;
    let file = SqliteFile::connect(path, lock).await.map_err(|error| cannot_open(path, &error))?;
    Ok(SealedStore::start(file, keyring, clock))
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let name = beside(path, ".lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&name);
    let file = file.map_err(|error| OpenError::new(format!("store.url: {}: cannot be opened: {error}", name.display())))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::new(format!(
            "store.url: {} is in use by another process; stop that one, or give this one a file of its own",
            path.display()
        ))),
        Err(TryLockError::Error(error)) => Err(OpenError::new(format!("store.url: {}: cannot be locked: {error}", name.display()))),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Looks at the file without changing it. Returns the keys that its rows are sealed with.
async fn inspect(path: &Path) -> Result<Vec<String>, OpenError> {
    if !std::fs::metadata(path).is_ok_and(|file| file.len() > 0) {
        return Ok(Vec::new());
    }
    let damaged = |_| refusal(path, "is damaged or no SQLite database; restore it from a backup, or move it away to start with none");
    // Where there is no WAL, not even the files are made that reading one takes.
    let options = options(path).read_only(true).immutable(!beside(path, "-wal").exists());
    let mut file = options.connect().await.map_err(|error| cannot_open(path, &error))?;
    let mut second = options.connect().await.map_err(|error| cannot_open(path, &error))?;
    // Each reads all of a large file, so both at once.
    let (checked, used) = tokio::join!(
        sqlx::query_scalar::<_, String>("PRAGMA quick_check(1)").fetch_one(&mut file),
        sqlx::query_scalar("SELECT DISTINCT key_id FROM sessions").fetch_all(&mut second),
    );
    if checked.map_err(damaged)? != "ok" {
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
        return Ok(Vec::new());
    }
    let application_id: i32 = sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut file).await.map_err(damaged)?;
    if application_id != APPLICATION_ID || applied.is_none() {
        return Err(refusal(path, "is a database of another program; give Anteroom a file of its own"));
    }
    schema::refuse_newer(MIGRATIONS, applied, &path.display().to_string())?;
    file.close().await.map_err(damaged)?;
    second.close().await.map_err(damaged)?;
    used.map_err(damaged)
}

async fn connect(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    // Made here for its mode; the files that SQLite puts beside it take that over.
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
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
        let refused = self.refused(&doubtful).await.map_err(|error| Fault::Unknown(error.to_string()))?;
        self.merge().await?;
        Ok(batch.iter().map(|op| !refused.contains(&op.id())).collect())
    }

    async fn version(&mut self, id: Uuid) -> Result<Option<i64>, Fault> {
        let version = sqlx::query_scalar("SELECT version FROM sessions WHERE id = ?").bind(id).fetch_optional(&mut self.connection);
        version.await.map_err(|error| fault(&error))
    }

    /// In the order of the file: by id, every row would be looked for in another place.
    async fn page(&mut self, after: Option<Mark>) -> Result<Page, Fault> {
        let after = if let Some(Mark::RowId(after)) = after { after } else { i64::MIN };
        let rows = sqlx::query(concat!("SELECT ", columns!(), ", rowid FROM sessions WHERE rowid > ? ORDER BY rowid LIMIT ?"));
        let rows = rows.bind(after).bind(PAGE).fetch_all(&mut self.connection).await.map_err(|error| fault(&error))?;
        let end = rows.last().map(|row| row.try_get("rowid").map(Mark::RowId)).transpose().map_err(|error| fault(&error))?;
        Ok(Page { rows: Box::new(rows.into_iter().filter_map(|row| read(&row))), end })
    }

    async fn row(&mut self, id: Uuid) -> Result<Option<Result<Row, Unreadable>>, Fault> {
        let row = sqlx::query(concat!("SELECT ", columns!(), " FROM sessions WHERE id = ?")).bind(id);
        let row = row.fetch_optional(&mut self.connection).await.map_err(|error| fault(&error))?;
        Ok(row.as_ref().and_then(read))
    }

    async fn probe(&mut self) -> Result<(), Fault> {
        let written = sqlx::raw_sql("PRAGMA user_version = 0").execute(&mut self.connection).await;
        written.map_err(|error| fault(&error))?;
        self.written(1);
        Ok(())
    }

    async fn tidy(&mut self) -> Result<(), Fault> {
        if self.in_wal == 0 {
            return Ok(());
        }
        self.checkpoint("PRAGMA wal_checkpoint(TRUNCATE)").await
    }

    async fn close(mut self) {
        // Without it the next start reads the WAL instead.
        let _ = self.checkpoint("PRAGMA wal_checkpoint(TRUNCATE)").await;
        self.merger.close().await;
        let _ = self.connection.close().await;
    }
}

impl SqliteFile {
    async fn connect(path: &Path, lock: File) -> Result<Self, sqlx::Error> {
        let mut connection = connect(path).await?;
        schema::migrator(MIGRATIONS).run(&mut connection).await?;
        let merger = Merger::new(connect(path).await?);
        Ok(Self { connection, merger, unmerged: 0, in_wal: 0, _lock: lock })
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
    const TUPLE: &str = "(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)";
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
    query.bind(row.revocation.as_deref()).bind(&*row.seal)
}

fn read(row: &SqliteRow) -> Option<Result<Row, Unreadable>> {
    if let Ok(columns) = Columns::from_row(row) {
        return Some(Ok(columns.into()));
    }
    let number = |column| row.try_get::<i64, _>(column).unwrap_or_default().cast_unsigned();
    Some(Err(Unreadable {
        id: row.try_get("id").ok()?,
        version: number("version"),
        revision: number("revision"),
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
