//! What is durable before it is acknowledged: beginning sign-ins, and claiming tokens.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anteroom::clock::SystemClock;
use anteroom::kernel::session::Session;
use anteroom::provider::exchange::client;
use anteroom::store::{Store, sqlite};

use super::child::{Beside, DISTANCE, Folder, Service};
use super::client::{BEGIN, Begun, begin, send};
use super::fill::save;
use super::rate::{answers, median, rate};
use super::table::Table;
use super::{Options, runtime, sample};

const CLIENTS: usize = 64;
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(3);
/// Claims in a round.
const CLAIMS: usize = 8_000;

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
    let (mut ours, mut ceiling) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(answers(service.address, BEGIN, 201, CLIENTS, ROUND).await);
        ceiling.push(device_requests(&beside.issuer).await);
    }
    table.ratio(format!("POST /sessions, SQLite, {CLIENTS} clients{away}"), median(ours), median(ceiling), "/s", 0.60);
}

async fn device_requests(issuer: &str) -> f64 {
    let http = client(None).expect("a client");
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
    let mut sessions = begin(service.address, ROUNDS * CLAIMS).await;
    while service.series("anteroom_sessions{", "authorized").await < sessions.len() as f64 {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (mut ours, mut ceiling, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let claimed = sessions.split_off(sessions.len() - CLAIMS);
        let commits_before = commits(&service).await;
        let begun = Instant::now();
        send(service.address, CLIENTS, claimed, claim, |status, body| assert_eq!(status, 200, "{}", String::from_utf8_lossy(body))).await;
        ours.push(CLAIMS as f64 / begun.elapsed().as_secs_f64());
        let size = CLAIMS as f64 / (commits(&service).await - commits_before);
        ceiling.push(alone(&folder, round, size).await);
        sizes.push(size);
    }
    let what = format!("claims, SQLite, {CLIENTS} clients, about {:.0} in a commit", median(sizes));
    table.ratio(what, median(ours), median(ceiling), "/s", 0.70);
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
    let clock = SystemClock::start();
    let name = |kind| folder.join(&format!("{round}.{kind}"));
    let store = Arc::new(sqlite::open(&name("db"), &name("key"), Arc::clone(&clock)).await.expect("a database"));
    let authorized: Vec<_> = (0..CLAIMS).map(|_| sample::authorized(clock.now())).collect();
    let stored = authorized.iter().map(|(session, _)| (0, session.clone())).collect();
    save(&store, stored, CLIENTS).await;
    let claimed = |(session, at): (Session, _)| (session.version(), session.claim(Some([1; 32]), at).expect("tokens").1.expect("a change"));
    let claimed: Vec<_> = authorized.into_iter().map(claimed).collect();
    // While one half is committed the other half gathers.
    let at_once = (2.0 * size).round() as usize;
    let begun = Instant::now();
    save(&store, claimed, at_once).await;
    let rate = CLAIMS as f64 / begun.elapsed().as_secs_f64();
    store.close().await;
    rate
}
