//! What only a server can do to us.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anteroom::clock::SystemClock;
use anteroom::store::seal::Keyring;
use anteroom::store::{Store, StoreError, postgres};
use futures_util::FutureExt;
use futures_util::future::join_all;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use crate::conformance::{contents, put};
use crate::database::{self, Database, Schema};
use crate::sample;

/// `None`: skipped.
async fn schema() -> Option<Schema> {
    match database::postgres().await? {
        Database::Postgres(schema) => Some(schema),
        _ => None,
    }
}

async fn open(schema: &Schema) -> Arc<dyn Store> {
    Arc::new(postgres::open(&schema.url(), &schema.key_file(), false, SystemClock::start()).await.expect("it opens"))
}

async fn refused(schema: &Schema, more: &str, allow_data_loss: bool) -> Option<String> {
    let url = format!("{}{more}", schema.url());
    let opened = postgres::open(&url, &schema.key_file(), allow_data_loss, SystemClock::start()).await;
    opened.err().map(|error| error.to_string())
}

async fn run(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.expect("the statement");
}

async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let waited = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waited).await.unwrap_or_else(|_| panic!("in vain: {what}"));
}

/// How many statements of the store wait for a lock.
async fn waiting(schema: &Schema) -> i64 {
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = to_regclass('sessions') \
         OR NOT granted AND locktype = 'transactionid'";
    sqlx::query_scalar(waiting).fetch_one(&mut schema.connect().await).await.expect("a count")
}

#[tokio::test]
async fn a_second_process_is_refused() {
    let Some(schema) = schema().await else { return };
    let first = open(&schema).await;
    let error = refused(&schema, "", false).await.expect("it is refused");
    assert!(error.contains("is in use by another process"), "{error}");
    first.close().await;
    assert_eq!(refused(&schema, "", false).await, None);
}

#[tokio::test]
async fn a_server_that_may_lose_what_it_acknowledged_is_refused_unless_told() {
    let Some(schema) = schema().await else { return };
    let error = refused(&schema, "&options[synchronous_commit]=off", false).await.expect("it is refused");
    assert!(error.ends_with("turn it on, or set store.allow_data_loss = true"), "{error}");
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()";
    let tables: i64 = sqlx::query_scalar(tables).fetch_one(&mut schema.connect().await).await.expect("a count");
    assert_eq!(tables, 0, "nothing was made");
    assert_eq!(refused(&schema, "&options[synchronous_commit]=off", true).await, None);
}

#[tokio::test]
async fn a_missing_key_and_a_newer_schema_are_refused() {
    let Some(schema) = schema().await else { return };
    let store = open(&schema).await;
    put(&store, &sample::pending(Uuid::new_v4())).await;
    store.close().await;
    let kept = schema.key_file().with_extension("kept");
    std::fs::rename(schema.key_file(), &kept).expect("our own file");
    let error = refused(&schema, "", false).await.expect("it is refused");
    assert!(error.contains("is missing, and the store holds sessions"), "{error}");
    Keyring::create(&schema.key_file()).expect("another key");
    assert!(refused(&schema, "", false).await.is_some_and(|error| error.contains("lacks key")));
    std::fs::rename(&kept, schema.key_file()).expect("our own file");

    let newer =
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'later', true, '', 0)";
    run(&mut schema.connect().await, newer).await;
    let error = refused(&schema, "", false).await.expect("it is refused");
    assert!(error.contains("was written by a newer Anteroom (schema 9999"), "{error}");
}

#[tokio::test]
async fn no_server_is_a_reason_to_refuse() {
    let Some(schema) = schema().await else { return };
    let begun = Instant::now();
    let opened = postgres::open("postgres://nobody@127.0.0.1:1/none", &schema.key_file(), false, SystemClock::start()).await;
    let error = opened.err().expect("it is refused").to_string();
    assert!(error.contains("cannot be reached"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn it_goes_on_after_its_connection_was_cut() {
    let Some(schema) = schema().await else { return };
    let store = open(&schema).await;
    let [first, second] = [sample::pending(Uuid::new_v4()), sample::pending(Uuid::new_v4())];
    put(&store, &first).await;
    schema.end_connections().await;
    // The cut shows itself in the first statement, which may count as sent.
    let saved = store.save(0, Arc::new(second.clone())).await;
    let version = store.version(second.id()).await.expect("connected again");
    match saved {
        Ok(()) => assert_eq!(version, Some(1)),
        Err(StoreError::Unknown) => assert!(matches!(version, None | Some(1))),
        Err(error) => panic!("{error}"),
    }
    until("it is ready again", || store.is_ready()).await;
    assert_eq!(store.version(first.id()).await, Ok(Some(1)));
}

/// Otherwise the statement could still be carried out after we had read that it was not.
#[tokio::test]
async fn what_a_lost_connection_had_begun_is_over_when_it_is_read_back() {
    let Some(schema) = schema().await else { return };
    let store = open(&schema).await;
    let session = sample::pending(Uuid::new_v4());
    put(&store, &session).await;
    let mut other = schema.connect().await;
    run(&mut other, "BEGIN; SELECT * FROM sessions FOR UPDATE").await;
    let next = Arc::new(sample::polled(session.clone(), anteroom::kernel::verdict::Verdict::Denied));
    let saving = tokio::spawn({
        let (store, next) = (Arc::clone(&store), Arc::clone(&next));
        async move { store.save(1, next).await }
    });
    until("the save waits for the row", || async { waiting(&schema).await > 0 }).await;
    schema.end_connections().await;
    assert_eq!(saving.await.expect("no panic"), Err(StoreError::Unknown));
    let version = store.version(session.id()).await;
    run(&mut other, "COMMIT").await;
    assert_eq!(version, Ok(Some(1)), "not written");
    assert_eq!(store.version(session.id()).await, version, "and it stays so");
    assert_eq!(store.save(1, next).await, Ok(()));
}

#[tokio::test]
async fn a_row_that_somebody_else_has_locked_is_unavailable_within_the_limit() {
    let Some(schema) = schema().await else { return };
    let store = open(&schema).await;
    let session = sample::pending(Uuid::new_v4());
    put(&store, &session).await;
    let mut other = schema.connect().await;
    run(&mut other, "BEGIN; LOCK TABLE sessions").await;
    let begun = Instant::now();
    let next = Arc::new(sample::polled(session, anteroom::kernel::verdict::Verdict::Denied));
    assert_eq!(store.save(1, Arc::clone(&next)).await, Err(StoreError::Unavailable));
    assert!((Duration::from_secs(1)..Duration::from_secs(4)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    until("it is not ready", || store.is_ready().map(|ready| !ready)).await;
    run(&mut other, "ROLLBACK").await;
    assert_eq!(store.save(1, next).await, Ok(()));
    until("it is ready again", || store.is_ready()).await;
}

#[tokio::test]
async fn a_process_that_lost_the_sessions_to_another_ends() {
    let Some(schema) = schema().await else { return };
    let first = open(&schema).await;
    let session = sample::pending(Uuid::new_v4());
    schema.end_connections().await;
    let second = open(&schema).await;
    put(&second, &session).await;
    let mut answer = first.save(0, Arc::new(sample::pending(Uuid::new_v4()))).await;
    let broken = tokio::time::timeout(Duration::from_secs(20), async {
        let mut broken = first.broken();
        while (&mut broken).now_or_never().is_none() {
            answer = first.save(0, Arc::new(sample::pending(Uuid::new_v4()))).await;
        }
    });
    broken.await.expect("it notices");
    assert!(answer.is_err());
    assert_eq!(contents(&second).await.len(), 1, "nothing of the first was written");
}

/// A caller that goes away in the middle must not leave a transaction behind that swallows the next change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn saves_that_nobody_waits_for_do_no_harm() {
    let Some(schema) = schema().await else { return };
    let store = open(&schema).await;
    for micros in (0..3_000).step_by(30) {
        let session = Arc::new(sample::opened(Uuid::new_v4()));
        let _ = tokio::time::timeout(Duration::from_micros(micros), store.save(0, session)).await;
    }
    let last = sample::opened(Uuid::new_v4());
    put(&store, &last).await;
    let mut beside = schema.connect().await;
    let seen: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sessions WHERE id = $1").bind(last.id()).fetch_one(&mut beside).await.expect("rows");
    assert_eq!(seen, 1, "others see it as soon as it is acknowledged");
    let open: i64 =
        sqlx::query_scalar("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'anteroom' AND state LIKE 'idle in%'")
            .fetch_one(&mut beside)
            .await
            .expect("a count");
    assert_eq!(open, 0);
}

/// The way that looks right and is not: it shows that these races are real, and that the suite would notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn selecting_before_updating_hands_over_twice() {
    let Some(schema) = schema().await else { return };
    let store = open(&schema).await;
    let connections = tokio::sync::Mutex::new(Vec::new());
    for _ in 0..32 {
        connections.lock().await.push(schema.connect().await);
    }
    let mut twice = 0;
    for _ in 0..20 {
        let session = sample::authorized(Uuid::new_v4());
        put(&store, &session).await;
        let mut claimers = connections.lock().await;
        let claims = claimers.iter_mut().map(|connection| {
            let id = session.id();
            async move {
                let status: String =
                    sqlx::query_scalar("SELECT status FROM sessions WHERE id = $1").bind(id).fetch_one(&mut *connection).await?;
                if status != "authorized" {
                    return Ok(0);
                }
                let claimed = sqlx::query("UPDATE sessions SET status = 'claimed', version = version + 1 WHERE id = $1").bind(id);
                claimed.execute(connection).await.map(|done| done.rows_affected())
            }
        });
        let winners: u64 = join_all(claims).await.into_iter().map(|claim: Result<u64, sqlx::Error>| claim.expect("it works")).sum();
        twice += u64::from(winners > 1);
    }
    assert!(twice > 0, "not once in 20 rounds");
    for connection in connections.into_inner() {
        connection.close().await.expect("it closes");
    }
}
