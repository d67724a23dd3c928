//! How fast providers are asked at most, beside a bare loop of the same client with the same bodies.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use super::child::{Beside, Folder, Service};
use super::fill::{http, verifier, waiting};
use super::rate::rate;
use super::table::Table;
use super::{Options, runtime};

/// With an interval of one second they want to ask far more often than they can.
const SESSIONS: usize = 60_000;
const IN_FLIGHT: usize = 1_000;
/// With as many a bare loop is quickest, as all that it needs stays in the processor's cache.
const FEW: usize = 64;
/// Many and short: the machine's moods last for seconds.
const ROUNDS: usize = 21;
const ROUND: Duration = Duration::from_millis(800);
const WARM_UP: Duration = Duration::from_millis(400);

pub fn measure(_: &Options, table: &mut Table) {
    let folder = Folder::new();
    let beside = Beside::start(1);
    runtime().block_on(async {
        let codes = waiting(&folder, &beside.issuer, SESSIONS).await;
        let service = Service::start(&folder, &beside.issuer, &[]);
        service.pause();
        // Its connections stay from round to round, as those of the service do.
        let http = http(&beside.issuer);
        let (mut ours, mut ceiling, mut best) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            service.go_on();
            ours.push(polls(&service).await);
            service.pause();
            ceiling.push(bare(&http, &beside.issuer, &codes, IN_FLIGHT).await);
            best.push(bare(&http, &beside.issuer, &codes, FEW).await);
        }
        let what = format!("polls, {IN_FLIGHT} in flight allowed, {SESSIONS} sessions");
        table.ratio(format!("{what}, beside {IN_FLIGHT} bare loops"), &ours, &ceiling, "/s", 0.85);
        table.ratio(format!("{what}, beside {FEW} bare loops"), &ours, &best, "/s", 0.85);
    });
}

/// Answered in a second, as the service counts them.
async fn polls(service: &Service) -> f64 {
    let count = async || service.series("anteroom_provider_requests_total", "errand=\"poll\"").await;
    tokio::time::sleep(WARM_UP).await;
    let (begun, before) = (Instant::now(), count().await);
    tokio::time::sleep(ROUND).await;
    (count().await - before) / begun.elapsed().as_secs_f64()
}

/// Bare loops against the same provider, with the same codes; each task has a share of its own.
async fn bare(http: &reqwest::Client, issuer: &str, codes: &[String], tasks: usize) -> f64 {
    let shares = RefCell::new(codes.chunks(codes.len().div_ceil(tasks)));
    rate(tasks, ROUND, |meter| {
        let (http, url) = (http.clone(), format!("{issuer}/token"));
        let codes = shares.borrow_mut().next().expect("a share for each").to_vec();
        async move {
            let verifier = verifier();
            for code in codes.iter().cycle() {
                let form = [
                    ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
                    ("device_code", code),
                    ("client_id", "demo-tv"),
                    ("code_verifier", &verifier),
                ];
                let answer = http.post(&url).form(&form).header("accept", "application/json").send().await.expect("an answer");
                assert_eq!(answer.status(), 400);
                answer.bytes().await.expect("a body");
                if !meter.count() {
                    return;
                }
            }
        }
    })
    .await
}
