//! How long after a panic the replacement runs, while many sessions are live.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anteroom::clock::SystemClock;
use anteroom::store::memory::MemoryStore;
use anteroom::watchdog::{Beat, Children, Event, watchdog};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::rate::percentile;
use super::table::Table;
use super::{Options, inside, runtime};

const LIVE: usize = 100_000;
const CRASHES: u64 = 2_000;

/// Children that panic once and note when their replacement started.
#[derive(Default)]
struct Fragile {
    crashed: Mutex<HashMap<u64, Instant>>,
    waits: Mutex<Vec<f64>>,
}

impl Children for Fragile {
    type Key = u64;
    type Ticket = ();

    fn start(&self, key: u64, _: Option<()>, _: Beat) -> BoxFuture<'static, ()> {
        if let Some(crashed) = self.crashed.lock().expect("no panic under it").remove(&key) {
            self.waits.lock().expect("no panic under it").push(crashed.elapsed().as_secs_f64() * 1e6);
            return std::future::ready(()).boxed();
        }
        self.crashed.lock().expect("no panic under it").insert(key, Instant::now());
        async { panic!("on purpose") }.boxed()
    }

    fn ends(&self, _: &u64) -> bool {
        true
    }

    fn patience(&self, _: &u64) -> Duration {
        Duration::from_secs(30)
    }

    fn give_up(&self, _: u64) {}

    fn observe(&self, _: &Event<u64>) {}
}

pub fn measure(_: &Options, table: &mut Table) {
    runtime().block_on(async {
        let (app, _) = inside::app(Arc::new(MemoryStore::default()), Duration::from_secs(3_600)).await;
        inside::begin(&app, LIVE, 128).await;
        let children = Arc::new(Fragile::default());
        let (dog, kennel) = watchdog();
        tokio::spawn(kennel.run(Arc::clone(&children), SystemClock::start()));
        for key in 0..CRASHES {
            dog.start(key, None);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        let waits = children.waits.lock().expect("no panic under it").clone();
        assert_eq!(waits.len() as u64, CRASHES);
        table.at_most(format!("panic to replacement, p99, {LIVE} sessions live"), percentile(waits, 0.99), "µs", 250.0);
        app.stop().await;
    });
}
