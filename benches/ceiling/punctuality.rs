//! Polls come when they are due, and never before.

use std::time::Duration;

use super::child::{Beside, Folder, Service};
use super::fill::waiting;
use super::table::Table;
use super::{Options, runtime};

const SESSIONS: usize = 50_000;
/// For all to be loaded, and polled once.
const SETTLE: Duration = Duration::from_secs(20);
const TIME: Duration = Duration::from_secs(20);

pub fn measure(_: &Options, table: &mut Table) {
    let folder = Folder::new();
    let mut beside = Beside::start(5);
    runtime().block_on(async {
        waiting(&folder, &beside.issuer, SESSIONS).await;
        let service = Service::start(&folder, &beside.issuer, &[]);
        tokio::time::sleep(SETTLE).await;
        let before = lateness(&service.metrics().await);
        tokio::time::sleep(TIME).await;
        let late = p99(&before, &lateness(&service.metrics().await));
        table.at_most(format!("lateness of polls, p99, {SESSIONS} sessions every 5 s"), late, "ms", 100.0);
        table.at_most(format!("early polls, {SESSIONS} sessions every 5 s"), beside.early_polls(), "polls", 0.0);
    });
}

/// The cumulative buckets of the lateness histogram: upper bound in seconds, count.
fn lateness(metrics: &str) -> Vec<(f64, f64)> {
    let bucket = |line: &str| {
        let rest = line.strip_prefix("anteroom_poll_lateness_seconds_bucket{le=\"")?;
        let (bound, count) = rest.split_once("\"} ")?;
        Some((bound.parse().unwrap_or(f64::INFINITY), count.parse().ok()?))
    };
    metrics.lines().filter_map(bucket).collect()
}

/// The upper bound of the bucket that holds the 99th percentile of what came in between, in milliseconds.
fn p99(before: &[(f64, f64)], after: &[(f64, f64)]) -> f64 {
    let fresh: Vec<_> = after.iter().zip(before).map(|((bound, after), (_, before))| (*bound, after - before)).collect();
    let all = fresh.last().map_or(0.0, |(_, count)| *count);
    let found = fresh.iter().find(|(_, count)| all > 0.0 && *count >= all * 0.99);
    found.map_or(f64::NAN, |(bound, _)| bound * 1e3)
}
