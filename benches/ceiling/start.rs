//! Coming back with many durable sessions, beside the bare driver that reads the same rows.

use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anteroom::clock::SystemClock;
use anteroom::store::row::Columns;
use futures_util::TryStreamExt;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use uuid::Uuid;

use super::child::{Beside, Folder, Service};
use super::client::Client;
use super::fill::keep;
use super::rate::percentile;
use super::table::Table;
use super::{Options, runtime, sample};

const ROUNDS: usize = 3;
/// Nobody is asked meanwhile.
const INTERVAL: Duration = Duration::from_secs(3_600);
/// How often a watcher asks while it loads.
const PAUSE: Duration = Duration::from_millis(1);

pub fn measure(options: &Options, table: &mut Table) {
    let count = if options.full { 1_000_000 } else { 100_000 };
    let folder = Folder::new();
    let beside = Beside::start(3_600);
    runtime().block_on(async {
        let database = folder.join("anteroom.db");
        let clock = SystemClock::start();
        let sessions: Vec<_> = (0..count).map(|_| sample::pending(clock.now(), INTERVAL)).collect();
        let known = sessions[0].id();
        keep(&folder, sessions).await;
        let (mut ours, mut ceiling, mut waits) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ceiling.push(count as f64 / read(&database, count).await);
            let service = Service::start(&folder, &beside.issuer, &[]);
            let is_ready = AtomicBool::new(false);
            let (ready, seen) = tokio::join!(until_ready(&service, &is_ready), watch(&service, known, &is_ready));
            ours.push(count as f64 / ready);
            waits.extend(seen);
        }
        table.ratio(format!("start with {count} durable sessions, to ready"), &ours, &ceiling, "/s", 0.5);
        table.at_most(format!("an answer while {count} are loaded, p99"), percentile(waits, 0.99), "ms", 100.0);
    });
}

/// Seconds that the bare driver takes for all rows.
async fn read(database: &Path, count: usize) -> f64 {
    let begun = Instant::now();
    let options = SqliteConnectOptions::new().filename(database).read_only(true).disable_statement_logging();
    let mut connection = options.connect().await.expect("a database");
    let rows = sqlx::query_as::<_, Columns>(
        "SELECT id, version, revision, provider, caller, status, opened_at, facts, key_id, device_code, tokens, secret, revocation, seal \
         FROM sessions",
    );
    let read = rows.fetch(&mut connection).try_fold(0, async |read, row| Ok(read + usize::from(black_box(row).1 > 0))).await;
    assert_eq!(read.expect("rows"), count);
    connection.close().await.expect("an open connection");
    begun.elapsed().as_secs_f64()
}

/// Seconds from the start of the process.
async fn until_ready(service: &Service, is_ready: &AtomicBool) -> f64 {
    let mut client = Client::connect(service.address).await;
    while client.ask(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n").await != 200 {
        tokio::time::sleep(PAUSE).await;
    }
    is_ready.store(true, Ordering::Relaxed);
    service.begun.elapsed().as_secs_f64()
}

/// What watchers and probes wait for their answers, in milliseconds; the first since the start of the process.
async fn watch(service: &Service, known: Uuid, is_ready: &AtomicBool) -> Vec<f64> {
    let requests = ["/livez".to_owned(), format!("/sessions/{known}")].map(|path| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    let (mut client, mut waits, mut begun) = (Client::connect(service.address).await, Vec::new(), service.begun);
    for request in requests.iter().cycle() {
        client.ask(request.as_bytes()).await;
        waits.push(begun.elapsed().as_secs_f64() * 1e3);
        if is_ready.load(Ordering::Relaxed) {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        begun = Instant::now();
    }
    waits
}
