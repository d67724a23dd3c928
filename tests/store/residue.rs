//! What was erased is not in the files any more.

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anteroom::kernel::session::Session;
use anteroom::store::Store;
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use uuid::Uuid;

use crate::clock::ManualClock;
use crate::conformance::put;
use crate::database::Database;
use crate::sample;
use crate::scratch::Scratch;

const PART: usize = 16;

/// Every 16 bytes in a row of the database's files.
fn parts(scratch: &Scratch) -> HashSet<[u8; PART]> {
    let bytes = |name| fs::read(scratch.join(name)).unwrap_or_default();
    ["a.db", "a.db-wal"].into_iter().flat_map(|name| bytes(name).array_windows().copied().collect::<Vec<_>>()).collect()
}

/// Whether any 16 bytes of `cell` stand there.
fn is_found(parts: &HashSet<[u8; PART]>, cell: &[u8]) -> bool {
    cell.as_chunks().0.iter().any(|part| parts.contains(part))
}

/// The sealed cells of all rows, as a reader beside the store sees them.
async fn cells(scratch: &Scratch) -> Vec<Vec<u8>> {
    let options = SqliteConnectOptions::new().filename(scratch.join("a.db")).read_only(true);
    let mut file = SqliteConnection::connect_with(&options).await.expect("the file");
    type Cells = (Option<Vec<u8>>, Option<Vec<u8>>, Option<Vec<u8>>, Vec<u8>);
    let rows: Vec<Cells> =
        sqlx::query_as("SELECT device_code, tokens, secret, seal FROM sessions").fetch_all(&mut file).await.expect("rows");
    file.close().await.expect("it closes");
    rows.into_iter().flat_map(|(code, tokens, secret, seal)| [code, tokens, secret, Some(seal)]).flatten().collect()
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waited).await.unwrap_or_else(|_| panic!("in vain: {what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_claim_window_no_ciphertext_is_left_in_the_files() {
    let clock = ManualClock::default();
    let database = Database::sqlite();
    let store: Arc<dyn Store> = database.open(clock.as_clock()).await.expect("it opens");
    let Database::Sqlite(scratch) = &database else { unreachable!() };

    // Long cells too, as they go to pages of their own; and neighbours, so that pages are shared, split and freed.
    let mut lives: Vec<Session> = (0..24).map(|_| sample::pending(Uuid::new_v4())).collect();
    for session in &lives {
        put(&store, session).await;
    }
    let mut written = cells(scratch).await;
    for session in &mut lives {
        let authorized = long_grant(session.clone());
        for next in [authorized.clone(), sample::claimed(authorized, Some([9; 32]))] {
            store.save(next.version() - 1, Arc::new(next.clone())).await.expect("the next version");
            *session = next;
        }
    }
    written.extend(cells(scratch).await);
    assert!(written.len() > 100 && written.iter().any(|cell| cell.len() > 10_000));
    let now = parts(scratch);
    assert!(written.iter().all(|cell| is_found(&now, cell)), "a cell that is there is found");

    for (at, session) in lives.iter().enumerate() {
        if at % 2 == 0 {
            store.remove(session.id()).await.expect("it is there");
        } else {
            let erased = session.clone().cancel(sample::START + Duration::from_secs(30)).expect("tokens are held");
            store.save(session.version(), Arc::new(erased.clone())).await.expect("the next version");
            let lapsed = sample::lapsed(erased.clone(), sample::START + Duration::from_secs(601));
            store.save(erased.version(), Arc::new(lapsed)).await.expect("the next version");
        }
    }
    let now = parts(scratch);
    assert!(written.iter().all(|cell| is_found(&now, cell)), "not yet merged");
    clock.sleeper(|_| true).await;
    clock.advance(Duration::from_secs(11));
    until("the WAL is emptied", || fs::metadata(scratch.join("a.db-wal")).is_ok_and(|wal| wal.len() == 0)).await;
    let now = parts(scratch);
    let left = written.iter().filter(|cell| is_found(&now, cell)).count();
    assert_eq!(left, 0, "of {} cells", written.len());
}

/// Nobody waits for whoever reads, and the traces go once nobody does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_puts_the_emptying_off_and_does_not_call_it_off() {
    let clock = ManualClock::default();
    let database = Database::sqlite();
    let store: Arc<dyn Store> = database.open(clock.as_clock()).await.expect("it opens");
    let Database::Sqlite(scratch) = &database else { unreachable!() };
    put(&store, &sample::pending(Uuid::new_v4())).await;
    let options = SqliteConnectOptions::new().filename(scratch.join("a.db")).read_only(true);
    let mut reader = SqliteConnection::connect_with(&options).await.expect("the file");
    sqlx::raw_sql("BEGIN; SELECT * FROM sessions").execute(&mut reader).await.expect("a look");
    put(&store, &sample::pending(Uuid::new_v4())).await;
    clock.sleeper(|_| true).await;
    clock.advance(Duration::from_secs(11));
    put(&store, &sample::pending(Uuid::new_v4())).await;
    assert!(fs::metadata(scratch.join("a.db-wal")).is_ok_and(|wal| wal.len() > 0));
    clock.sleeper(|_| true).await;
    clock.advance(Duration::from_secs(11));
    store.version(Uuid::new_v4()).await.expect("it can be asked");
    sqlx::raw_sql("COMMIT").execute(&mut reader).await.expect("it ends");
    reader.close().await.expect("it closes");
    clock.sleeper(|_| true).await;
    clock.advance(Duration::from_secs(11));
    until("the WAL is emptied", || fs::metadata(scratch.join("a.db-wal")).is_ok_and(|wal| wal.len() == 0)).await;
}

/// Authorized, with an ID token of several pages.
fn long_grant(session: Session) -> Session {
    use anteroom::kernel::verdict::{Grant, Verdict};
    let grant = Grant { id_token: Some("x".repeat(20_000).into()), ..Grant::clone(&sample::grant()) };
    sample::polled(session, Verdict::Authorized(Arc::new(grant)))
}
