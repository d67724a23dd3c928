//! What is durable before it is acknowledged: beginning sign-ins, and claiming tokens. Each beside a part of the work alone, and
//! beside a bare handler that has all of it to do: HTTP, the provider, the commit, on the same cores.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anteroom::clock::SystemClock;
use anteroom::store::{Store, sqlite};

use super::bare::Bare;
use super::child::{Beside, DISTANCE, Folder, Service};
use super::client::{BEGIN, Begun, begin, recorded, send};
use super::fill::{self, http, save};
use super::rate::{answers, median, rate};
use super::table::Table;
use super::{Options, runtime};

const CLIENTS: usize = 64;
const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_secs(1);
/// Claims in a round.
const CLAIMS: usize = 5_000;

pub fn measure(_: &Options, table: &mut Table) {
    runtime().block_on(async {
        begins(Beside::start(3_600), "", table).await;
        let away = format!(", provider {} ms away", DISTANCE.as_millis());
        begins(Beside::distant(3_600), &away, table).await;
        claims(table).await;
    });
}

/// Beside a bare loop of device authorization requests with the same client.
async fn begins(beside: Beside, away: &str, table: &mut Table) {
    let folder = Folder::new();
    let service = Service::start(&folder, &beside.issuer, &[]);
    let bare = Bare::beginning(&folder, &beside.issuer, recorded(service.address, BEGIN).await);
    let (mut ours, mut ceiling, mut handler) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(answers(service.address, BEGIN, 201, CLIENTS, ROUND).await);
        ceiling.push(device_requests(&beside.issuer).await);
        handler.push(answers(bare.address, BEGIN, 201, CLIENTS, ROUND).await);
    }
    let (what, ours) = (format!("POST /sessions, SQLite, {CLIENTS} clients{away}"), median(ours));
    table.ratio(&*what, ours, median(ceiling), "/s", 0.60);
    table.ratio(format!("{what}, beside a bare handler that asks and commits"), ours, median(handler), "/s", 0.60);
}

async fn device_requests(issuer: &str) -> f64 {
    let http = http(issuer);
    rate(CLIENTS, ROUND, |meter| {
        let (http, url) = (http.clone(), format!("{issuer}/device/code"));
        async move {
            let challenge = "c".repeat(43);
            let form = [("client_id", "demo-tv"), ("code_challenge", &challenge), ("code_challenge_method", "S256")];
            loop {
                let answer = http.post(&url).form(&form).header("accept", "application/json").send().await.expect("an answer");
                assert_eq!(answer.status(), 200);
                answer.bytes().await.expect("a body");
                if !meter.count() {
                    return;
                }
            }
        }
    })
    .await
}

/// Beside the store alone, which is given the same changes in batches of the same size.
async fn claims(table: &mut Table) {
    let folder = Folder::new();
    let beside = Beside::approving();
    let service = Service::start(&folder, &beside.issuer, &[("CLAIM_TTL", "1h")]);
    let mut sessions = begin(service.address, ROUNDS * CLAIMS + 1).await;
    while service.series("anteroom_sessions{", "authorized").await < sessions.len() as f64 {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let first = sessions.pop().expect("one more than is claimed in rounds");
    let bare = Bare::claiming(&folder, ROUNDS * CLAIMS, recorded(service.address, &claim(&first)).await);
    let (mut ours, mut ceiling, mut handler, mut sizes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let claimed = sessions.split_off(sessions.len() - CLAIMS);
        let commits_before = commits(&service).await;
        ours.push(claimed_in_a_second(service.address, claimed.clone()).await);
        let size = CLAIMS as f64 / (commits(&service).await - commits_before);
        ceiling.push(alone(&folder, round, size).await);
        handler.push(claimed_in_a_second(bare.address, claimed).await);
        sizes.push(size);
    }
    let what = format!("claims, SQLite, {CLIENTS} clients, about {:.0} in a commit", median(sizes));
    let ours = median(ours);
    table.ratio(&*what, ours, median(ceiling), "/s", 0.70);
    table.ratio(format!("{what}, beside a bare handler that commits"), ours, median(handler), "/s", 0.70);
}

async fn claimed_in_a_second(address: SocketAddr, sessions: Vec<Begun>) -> f64 {
    let begun = Instant::now();
    send(address, CLIENTS, sessions, claim, |status, body| assert_eq!(status, 200, "{}", String::from_utf8_lossy(body))).await;
    CLAIMS as f64 / begun.elapsed().as_secs_f64()
}

fn claim(Begun { id, secret }: &Begun) -> String {
    format!(
        "POST /sessions/{id}/claim HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\nIdempotency-Key: k\r\nContent-Length: 0\r\n\r\n"
    )
}

async fn commits(service: &Service) -> f64 {
    service.series("anteroom_store_batch_size_count", "").await
}

async fn alone(folder: &Folder, round: usize, size: f64) -> f64 {
    let name = |kind| folder.join(&format!("{round}.{kind}"));
    let store = Arc::new(sqlite::open(&name("db"), &name("key"), SystemClock::start()).await.expect("a database"));
    let claims = fill::claims(&store, CLAIMS).await;
    // While one half is committed the other half gathers.
    let at_once = (2.0 * size).round() as usize;
    let begun = Instant::now();
    save(&store, claims, at_once).await;
    let rate = CLAIMS as f64 / begun.elapsed().as_secs_f64();
    store.close().await;
    rate
}
