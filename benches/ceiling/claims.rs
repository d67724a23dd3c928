//! Claiming tokens, each claim durable before it is acknowledged: beside the store alone, which is given the same changes in batches
//! of the same size, and beside a bare handler that has to answer and commit, on the same cores.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anteroom::clock::SystemClock;
use anteroom::kernel::session::Session;
use anteroom::store::{Store, sqlite};

use super::bare::Bare;
use super::child::{Beside, Folder, Service};
use super::client::{Begun, begin, recorded, send};
use super::fill::{self, at_random, save};
use super::rate::median;
use super::table::Table;
use super::{Options, runtime};

const CLIENTS: usize = 64;
const ROUNDS: usize = 21;
/// In a round.
const CLAIMS: usize = 2_500;

pub fn measure(_: &Options, table: &mut Table) {
    runtime().block_on(claims(table));
}

async fn claims(table: &mut Table) {
    let folder = Folder::new();
    let beside = Beside::approving();
    let service = Service::start(&folder, &beside.issuer, &[("CLAIM_TTL", "1h")]);
    let mut sessions = begin(service.address, ROUNDS * CLAIMS + 1).await;
    while service.series("anteroom_sessions{", "authorized").await < sessions.len() as f64 {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    sessions.sort_unstable_by_key(|begun| at_random(begun.id));
    let first = sessions.pop().expect("one more than is claimed in rounds");
    let (alone, mut changes) = store(&folder, ROUNDS * CLAIMS).await;
    let bare = Bare::claiming(&folder, ROUNDS * CLAIMS, recorded(service.address, &claim(&first)).await);
    let (mut ours, mut ceiling, mut handler, mut sizes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let claimed = sessions.split_off(sessions.len() - CLAIMS);
        let commits_before = commits(&service).await;
        ours.push(in_a_second(claim_all(service.address, claimed.clone())).await);
        let size = CLAIMS as f64 / (commits(&service).await - commits_before);
        let changes = changes.split_off(changes.len() - CLAIMS);
        // While one half is committed the other half gathers.
        let at_once = (2.0 * size).round() as usize;
        ceiling.push(in_a_second(save(&alone, changes, at_once)).await);
        handler.push(in_a_second(claim_all(bare.address, claimed)).await);
        sizes.push(size);
    }
    let what = format!("claims, SQLite, {CLIENTS} clients, about {:.0} in a commit", median(sizes));
    table.ratio(&*what, &ours, &ceiling, "/s", 0.70);
    table.ratio(format!("{what}, beside a bare handler that commits"), &ours, &handler, "/s", 0.70);
}

/// How many claims that makes in a second.
async fn in_a_second(claims: impl Future<Output = ()>) -> f64 {
    let begun = Instant::now();
    claims.await;
    CLAIMS as f64 / begun.elapsed().as_secs_f64()
}

async fn claim_all(address: SocketAddr, sessions: Vec<Begun>) {
    send(address, CLIENTS, sessions, claim, |status, body| assert_eq!(status, 200, "{}", String::from_utf8_lossy(body))).await;
}

fn claim(Begun { id, secret }: &Begun) -> String {
    format!(
        "POST /sessions/{id}/claim HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\nIdempotency-Key: k\r\nContent-Length: 0\r\n\r\n"
    )
}

async fn commits(service: &Service) -> f64 {
    service.series("anteroom_store_batch_size_count", "").await
}

/// A store of its own, and what it is given.
async fn store(folder: &Folder, claims: usize) -> (Arc<impl Store>, Vec<(u64, Session)>) {
    let file = sqlite::open(&folder.join("alone.db"), &folder.join("alone.key"), SystemClock::start()).await;
    let store = Arc::new(file.expect("a database"));
    let changes = fill::claims(&store, claims).await;
    (store, changes)
}
