//! Asking providers: how fast at most, and how punctually.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anteroom::provider::exchange::client;

use super::table::Table;
use super::{Options, rig};

const IN_FLIGHT: usize = 1_000;
const TIME: Duration = Duration::from_secs(8);

pub fn measure(options: &Options, table: &mut Table) {
    rig::runtime().block_on(async {
        // With an interval of one second, so many sessions are due that the provider is asked as fast as we can.
        let beside = rig::Beside::start(1);
        let app = rig::app(&beside, IN_FLIGHT).await;
        rig::begin(&app, if options.full { 40_000 } else { 30_000 }, 128).await;
        let mine = rate(|| rig::series(&app, "anteroom_provider_requests_total", "errand=\"poll\"")).await;
        app.stop().await;
        let ceiling = bare(&beside).await;
        table.ratio("polls, 1,000 in flight", mine, ceiling, "/s", 0.85);
    });
    rig::runtime().block_on(async {
        let beside = rig::Beside::start(5);
        let app = rig::app(&beside, IN_FLIGHT).await;
        let count = if options.full { 50_000 } else { 20_000 };
        rig::begin(&app, count, 128).await;
        tokio::time::sleep(Duration::from_secs(8)).await;
        let before = lateness(&app);
        tokio::time::sleep(Duration::from_secs(12)).await;
        let late = p99(&before, &lateness(&app));
        table.at_most(format!("lateness of polls, p99, {count} sessions every 5 s"), late, "ms", 100.0);
        app.stop().await;
    });
}

async fn rate(count: impl Fn() -> f64) -> f64 {
    tokio::time::sleep(TIME / 4).await;
    let (begun, before) = (Instant::now(), count());
    tokio::time::sleep(TIME).await;
    (count() - before) / begun.elapsed().as_secs_f64()
}

/// A bare loop of the same client against the same provider with the same bodies.
async fn bare(beside: &rig::Beside) -> f64 {
    let http = client(None).expect("a client");
    let code = device_code(&http, &beside.issuer).await;
    let answers = Arc::new(AtomicU64::new(0));
    let mut loops = tokio::task::JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (http, answers, url) = (http.clone(), Arc::clone(&answers), format!("{}/token", beside.issuer));
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code".to_owned()),
            ("device_code", code.clone()),
            ("client_id", "demo-tv".to_owned()),
            ("code_verifier", "x".repeat(43)),
        ];
        loops.spawn(async move {
            loop {
                let answer = http.post(&url).form(&form).send().await.expect("an answer");
                answer.bytes().await.expect("a body");
                answers.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    rate(|| answers.load(Ordering::Relaxed) as f64).await
}

async fn device_code(http: &reqwest::Client, issuer: &str) -> String {
    let answer = http.post(format!("{issuer}/device/code")).form(&[("client_id", "demo-tv")]).send().await.expect("an answer");
    let answer: serde_json::Value = serde_json::from_slice(&answer.bytes().await.expect("a body")).expect("JSON");
    answer["device_code"].as_str().expect("a code").to_owned()
}

/// The cumulative buckets of the lateness histogram: upper bound in seconds, count.
fn lateness(app: &anteroom::app::App) -> Vec<(f64, f64)> {
    let text = app.metrics.render(&app.sessions.census());
    let bucket = |line: &str| {
        let rest = line.strip_prefix("anteroom_poll_lateness_seconds_bucket{le=\"")?;
        let (bound, count) = rest.split_once("\"} ")?;
        Some((bound.parse().unwrap_or(f64::INFINITY), count.parse().ok()?))
    };
    text.lines().filter_map(bucket).collect()
}

/// The upper bound of the bucket that holds the 99th percentile of what came in between, in milliseconds.
fn p99(before: &[(f64, f64)], after: &[(f64, f64)]) -> f64 {
    let fresh: Vec<_> = after.iter().zip(before).map(|((bound, after), (_, before))| (*bound, after - before)).collect();
    let all = fresh.last().map_or(0.0, |(_, count)| *count);
    fresh.iter().find(|(_, count)| *count >= all * 0.99).map_or(f64::NAN, |(bound, _)| bound * 1000.0)
}
