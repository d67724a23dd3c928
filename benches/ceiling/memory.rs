//! What a waiting person costs: bytes and idle processor time, and whether it is given back.

use std::time::{Duration, Instant};

use super::child::{Beside, Folder, Service};
use super::client::{begin, cancel};
use super::table::Table;
use super::{Options, runtime};

/// Makes connections, pools and buffers, which are not the sessions'.
const FIRST: usize = 2_000;
const SIZES: [usize; 2] = [100_000, 1_000_000];
const SETTLE: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(10);

pub fn measure(options: &Options, table: &mut Table) {
    for count in SIZES.into_iter().take(if options.full { 2 } else { 1 }) {
        with(count, table);
    }
}

fn with(count: usize, table: &mut Table) {
    let folder = Folder::new();
    // An interval so long that nothing is asked while we look.
    let beside = Beside::start(3_600);
    let service = Service::start(&folder, &beside.issuer, &[]);
    runtime().block_on(async {
        let first = begin(service.address, FIRST).await;
        cancel(service.address, first).await;
        empty(&service).await;
        let idle = service.resident();

        let sessions = begin(service.address, count).await;
        tokio::time::sleep(SETTLE).await;
        let each = (service.resident() - idle) / count as f64;
        table.at_most(format!("resident memory of a pending session, {count} of them"), each, "B", 768.0);

        let (begun, before) = (Instant::now(), service.cpu());
        tokio::time::sleep(IDLE).await;
        let share = (service.cpu() - before) / begun.elapsed().as_secs_f64() * 100.0;
        table.at_most(format!("idle processor time, {count} pending"), share, "% of a core", 2.0);

        cancel(service.address, sessions).await;
        empty(&service).await;
        let what = format!("resident memory once {count} are gone, beside the idle start");
        table.at_most(what, service.resident() / idle, "x", 1.3);
    });
}

/// Waits until every session has left the table, and what is cleared away by time.
pub async fn empty(service: &Service) {
    while service.series("anteroom_sessions{", "").await > 0.0 {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    tokio::time::sleep(SETTLE).await;
}
