//! What a waiting person costs: bytes and idle processor time.

use std::time::{Duration, Instant};

use super::table::Table;
use super::{Options, rig};

pub fn measure(options: &Options, table: &mut Table) {
    let count = if options.full { 1_000_000 } else { 100_000 };
    rig::runtime().block_on(async {
        // An interval so long that nothing is asked while we look.
        let beside = rig::Beside::start(3_600);
        let app = rig::app(&beside, 256).await;
        // Connections, pools and buffers are not the sessions'.
        let first = rig::begin(&app, 2_000, 128).await;
        let empty = resident();
        let ids = rig::begin(&app, count, 128).await;
        let each = (resident() - empty) / count as f64;
        table.at_most(format!("resident memory of a pending session, {count} of them"), each, "B", 768.0);

        let (begun, before) = (Instant::now(), cpu());
        tokio::time::sleep(Duration::from_secs(10)).await;
        let share = (cpu() - before) / begun.elapsed().as_secs_f64() * 100.0;
        table.at_most(format!("idle processor time, {count} pending"), share, "% of a core", 2.0);

        for id in ids.into_iter().chain(first) {
            app.sessions.cancel(id).await.expect("it was pending");
        }
        while !app.sessions.census().values().all(|count| *count == 0) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        table.at_most("resident memory once all are gone, beside the start", resident() / empty, "x", 1.3);
        app.stop().await;
    });
}

/// Bytes.
fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<f64>().ok()).expect("pages") * 4096.0
}

/// Seconds of processor time of this process.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let after_name = stat.rsplit(')').next().expect("a name");
    let fields: Vec<f64> = after_name.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    // utime and stime are the 14th and 15th fields; pid, name and state are not among these.
    (fields[10] + fields[11]) / 100.0
}
