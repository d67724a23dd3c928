//! The file: whose it is, when it is refused, and that nothing happens to it then.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anteroom::clock::SystemClock;
use anteroom::store::seal::Keyring;
use anteroom::store::sealed::SealedStore;
use anteroom::store::{OpenError, Store, sqlite};
use futures_util::future::join_all;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection};
use uuid::Uuid;

use crate::conformance::put;
use crate::sample::{self, SECRETS};
use crate::scratch::Scratch;

async fn open(scratch: &Scratch) -> Result<SealedStore, OpenError> {
    sqlite::open(&scratch.join("a.db"), &scratch.join("a.key"), SystemClock::start()).await
}

/// A database with a session in it, closed.
async fn with_a_session() -> Scratch {
    let scratch = Scratch::default();
    let store: Arc<dyn Store> = Arc::new(open(&scratch).await.expect("it opens"));
    put(&store, &sample::pending(Uuid::new_v4())).await;
    store.close().await;
    scratch
}

async fn change(path: &Path, sql: &str) {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut file = SqliteConnection::connect_with(&options).await.expect("the file");
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut file).await.expect("the statement");
    file.close().await.expect("it closes");
}

/// Every file with what is in it; the lock aside, which is empty.
fn files(scratch: &Scratch) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(scratch.path()).expect("the folder").map(|entry| entry.expect("an entry").path());
    let named = entries.map(|path| (path.file_name().expect("a name").to_string_lossy().into_owned(), path));
    named.filter(|(name, _)| !name.ends_with(".lock")).map(|(name, path)| (name, fs::read(path).expect("a file"))).collect()
}

/// Why it is refused, and that it was left as it was.
async fn refused(scratch: &Scratch) -> String {
    let before = files(scratch);
    let error = open(scratch).await.err().expect("it is refused").to_string();
    assert_eq!(files(scratch).keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>(), "no file came or went");
    assert!(files(scratch) == before, "no file was changed");
    assert!(!error.contains('\n'), "one line: {error}");
    error
}

#[tokio::test]
async fn a_second_process_is_refused() {
    let scratch = Scratch::default();
    let first = open(&scratch).await.expect("it opens");
    let error = refused(&scratch).await;
    assert!(error.ends_with("a.db is in use by another process; stop that one, or give this one a file of its own"), "{error}");
    first.close().await;
    open(&scratch).await.expect("it is free again");
}

#[tokio::test]
async fn a_second_process_is_refused_whatever_name_it_knows() {
    let scratch = Scratch::default();
    let first = open(&scratch).await.expect("it opens");
    fs::create_dir(scratch.join("elsewhere")).expect("a folder");
    std::os::unix::fs::symlink(scratch.join("a.db"), scratch.join("elsewhere/soft.db")).expect("a link");
    fs::hard_link(scratch.join("a.db"), scratch.join("elsewhere/hard.db")).expect("a link");
    for name in ["elsewhere/soft.db", "elsewhere/hard.db"] {
        let error = sqlite::open(&scratch.join(name), &scratch.join("a.key"), SystemClock::start()).await.err().expect("it is refused");
        assert!(error.to_string().contains("is in use by another process"), "{name}: {error}");
    }
    first.close().await;
    sqlite::open(&scratch.join("elsewhere/soft.db"), &scratch.join("a.key"), SystemClock::start()).await.expect("it is free again");
}

/// An earlier version knows no other lock.
#[tokio::test]
async fn the_lock_of_an_earlier_version_is_respected() {
    let scratch = with_a_session().await;
    let lock = fs::File::create(scratch.join("a.db.lock")).expect("our own file");
    lock.try_lock().expect("it is free");
    fs::create_dir(scratch.join("elsewhere")).expect("a folder");
    std::os::unix::fs::symlink(scratch.join("a.db"), scratch.join("elsewhere/soft.db")).expect("a link");
    for name in ["a.db", "elsewhere/soft.db"] {
        let error = sqlite::open(&scratch.join(name), &scratch.join("a.key"), SystemClock::start()).await.err().expect("it is refused");
        assert!(error.to_string().contains("is in use by another process"), "{name}: {error}");
    }
}

#[tokio::test]
async fn a_missing_key_file_is_refused_and_no_new_one_made() {
    let scratch = with_a_session().await;
    fs::rename(scratch.join("a.key"), scratch.join("elsewhere")).expect("our own file");
    let error = refused(&scratch).await;
    assert!(error.ends_with("a.key: is missing, and the store holds sessions that only it can open; put it back"), "{error}");
    fs::rename(scratch.join("elsewhere"), scratch.join("a.key")).expect("our own file");
    open(&scratch).await.expect("it opens again");
}

#[tokio::test]
async fn the_key_file_of_another_database_is_refused() {
    let scratch = with_a_session().await;
    fs::remove_file(scratch.join("a.key")).expect("our own file");
    Keyring::create(&scratch.join("a.key")).expect("another key");
    let error = refused(&scratch).await;
    assert!(error.contains("lacks key ") && error.ends_with("put back the right file"), "{error}");
}

#[tokio::test]
async fn a_damaged_file_is_refused() {
    let scratch = with_a_session().await;
    let intact = fs::read(scratch.join("a.db")).expect("the file");
    let mut broken = intact.clone();
    broken[4096 + 8..4096 + 600].fill(0xff);
    for damaged in [&b"no database at all, but long enough to be read as one".repeat(100)[..], &intact[..intact.len() - 4096], &broken] {
        fs::write(scratch.join("a.db"), damaged).expect("our own file");
        let error = refused(&scratch).await;
        assert!(error.contains("is damaged or no SQLite database; restore it from a backup"), "{error}");
    }
}

#[tokio::test]
async fn a_database_of_another_program_is_refused() {
    let scratch = Scratch::default();
    change(&scratch.join("a.db"), "CREATE TABLE sessions (mine TEXT)").await;
    let error = refused(&scratch).await;
    assert!(error.ends_with("a.db is a database of another program; give Anteroom a file of its own"), "{error}");
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let scratch = with_a_session().await;
    let newer =
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'later', 1, x'00', 0)";
    change(&scratch.join("a.db"), newer).await;
    let error = refused(&scratch).await;
    assert!(error.contains("was written by a newer Anteroom (schema 9999, this one knows up to "), "{error}");
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_refused() {
    let scratch = Scratch::default();
    let error =
        sqlite::open(&scratch.join("missing/a.db"), &scratch.join("a.key"), SystemClock::start()).await.err().expect("it is refused");
    assert!(error.to_string().contains("missing/a.db.lock: cannot be opened"), "{error}");
}

#[tokio::test]
async fn its_files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::default();
    let store: Arc<dyn Store> = Arc::new(open(&scratch).await.expect("it opens"));
    put(&store, &sample::pending(Uuid::new_v4())).await;
    for name in ["a.db", "a.db-wal", "a.key"] {
        let mode = fs::metadata(scratch.join(name)).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn no_secret_stands_in_its_files() {
    let scratch = Scratch::default();
    let store: Arc<dyn Store> = Arc::new(open(&scratch).await.expect("it opens"));
    for stage in sample::Stage::ALL {
        put(&store, &sample::in_stage(stage, Uuid::new_v4())).await;
    }
    for closed in [false, true] {
        for (name, bytes) in files(&scratch) {
            for secret in SECRETS.iter().chain(&["subject-4711"]) {
                assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{name} shows {secret}");
            }
        }
        if !closed {
            store.close().await;
        }
    }
}

/// The way that looks right and is not: it shows that these races are real, and that the suite would notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn selecting_before_updating_hands_over_twice() {
    let scratch = Scratch::default();
    let options = SqliteConnectOptions::new().filename(scratch.join("naive.db")).create_if_missing(true);
    let mut connections = Vec::new();
    for _ in 0..16 {
        connections.push(SqliteConnection::connect_with(&options).await.expect("the file"));
    }
    sqlx::raw_sql("CREATE TABLE sessions (id INTEGER PRIMARY KEY, status TEXT)").execute(&mut connections[0]).await.expect("a table");
    let mut twice = 0;
    for id in 0..20 {
        sqlx::query("INSERT INTO sessions VALUES (?, 'authorized')").bind(id).execute(&mut connections[0]).await.expect("a row");
        let claims = connections.iter_mut().map(|connection| async move {
            let status = sqlx::query_scalar("SELECT status FROM sessions WHERE id = ?").bind(id).fetch_one(&mut *connection);
            let status: String = status.await.expect("the row");
            if status != "authorized" {
                return 0;
            }
            let claimed = sqlx::query("UPDATE sessions SET status = 'claimed' WHERE id = ?").bind(id).execute(connection);
            claimed.await.expect("it waits for its turn").rows_affected()
        });
        let winners: u64 = join_all(claims).await.into_iter().sum();
        twice += u64::from(winners > 1);
    }
    assert!(twice > 0, "not once in 20 rounds");
}
