//! The databases that the suite runs on.

use std::fs;
use std::sync::Arc;

use anteroom::clock::Clock;
use anteroom::store::memory::MemoryStore;
use anteroom::store::{OpenError, Store, postgres, sqlite};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection};

use crate::scratch::Scratch;

pub enum Database {
    Memory(Arc<MemoryStore>),
    Sqlite(Scratch),
    Postgres(Schema),
}

/// A schema of its own, dropped at the end.
pub struct Schema {
    pub name: String,
    scratch: Scratch,
}

impl Database {
    pub fn memory() -> Self {
        Self::Memory(Arc::default())
    }

    pub fn sqlite() -> Self {
        Self::Sqlite(Scratch::default())
    }

    pub async fn open(&self, clock: Arc<dyn Clock>) -> Result<Arc<dyn Store>, OpenError> {
        Ok(match self {
            Self::Memory(rows) => Arc::clone(rows) as Arc<dyn Store>,
            Self::Sqlite(scratch) => Arc::new(sqlite::open(&scratch.join("a.db"), &scratch.join("a.key"), clock).await?),
            Self::Postgres(schema) => Arc::new(postgres::open(&schema.url(), &schema.scratch.join("a.key"), false, clock).await?),
        })
    }

    /// The end of the process without warning: what the store has not written by now is gone.
    pub async fn crash(self, store: Arc<dyn Store>) -> Self {
        match self {
            Self::Memory(rows) => Self::Memory(rows),
            // The files as they stand at this instant; what the old process still does to its own reaches them no more.
            Self::Sqlite(before) => {
                let after = Scratch::default();
                for name in ["a.db", "a.db-wal", "a.key"] {
                    if before.join(name).exists() {
                        fs::copy(before.join(name), after.join(name)).expect("a copy");
                    }
                }
                Self::Sqlite(after)
            }
            Self::Postgres(schema) => {
                schema.end_connections().await;
                drop(store);
                Self::Postgres(schema)
            }
        }
    }
}

/// `None`: there is no PostgreSQL here. With `ANTEROOM_TEST_REQUIRE=all` that is a failure.
pub async fn postgres() -> Option<Database> {
    let name = format!("anteroom_{}", uuid::Uuid::new_v4().simple());
    match PgConnection::connect(&server()).await {
        Ok(mut connection) => {
            sqlx::query(AssertSqlSafe(format!("CREATE SCHEMA {name}"))).execute(&mut connection).await.expect("a schema");
            Some(Database::Postgres(Schema { name, scratch: Scratch::default() }))
        }
        Err(error) => {
            let why = format!("skipped: no PostgreSQL at {}: {error}; set ANTEROOM_TEST_POSTGRES to the URL of one", server());
            assert!(std::env::var("ANTEROOM_TEST_REQUIRE").as_deref() != Ok("all"), "{why}");
            eprintln!("{why}");
            None
        }
    }
}

fn server() -> String {
    std::env::var("ANTEROOM_TEST_POSTGRES").unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/test".to_owned())
}

impl Schema {
    pub fn url(&self) -> String {
        format!("{}?options[search_path]={}", server(), self.name)
    }

    pub fn key_file(&self) -> std::path::PathBuf {
        self.scratch.join("a.key")
    }

    /// A connection beside the store's.
    pub async fn connect(&self) -> PgConnection {
        let options: PgConnectOptions = self.url().parse().expect("a URL");
        PgConnection::connect_with(&options.application_name("test")).await.expect("a connection")
    }

    /// Ends the connections of the stores on this schema: those that hold its lock.
    pub async fn end_connections(&self) {
        let mut connection = self.connect().await;
        let holders = "SELECT pg_terminate_backend(pid, 2000) FROM pg_locks WHERE locktype = 'advisory' \
             AND (classid::bigint << 32 | objid::bigint) = hashtextextended($1 || '.sessions', 0)";
        sqlx::query(holders).bind(&self.name).execute(&mut connection).await.expect("a superuser");
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        let (url, name) = (server(), self.name.clone());
        // A runtime of its own: the test's may be on its way out.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let mut connection = PgConnection::connect(&url).await?;
                sqlx::query(AssertSqlSafe(format!("DROP SCHEMA {name} CASCADE"))).execute(&mut connection).await
            })
        });
        if let Ok(Err(error)) = dropped.join() {
            eprintln!("schema {} is left behind: {error}", self.name);
        }
    }
}

/// One test for each database.
macro_rules! on_every_database {
    ($($test:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { super::$test($crate::database::Database::memory()).await })*
        }
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { super::$test($crate::database::Database::sqlite()).await })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                if let Some(database) = $crate::database::postgres().await {
                    super::$test(database).await;
                }
            })*
        }
    };
}
pub(crate) use on_every_database;
