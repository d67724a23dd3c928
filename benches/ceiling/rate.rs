//! How often something gets done in a second, and the arithmetic of samples.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::client::Client;

/// What the tasks of a closed loop share.
#[derive(Default)]
pub struct Meter {
    done: AtomicU64,
    is_over: AtomicBool,
}

impl Meter {
    /// Counts one more. False: it is time to stop.
    pub fn count(&self) -> bool {
        self.done.fetch_add(1, Ordering::Relaxed);
        !self.is_over.load(Ordering::Relaxed)
    }
}

/// What `tasks` of the same kind get done in a second, after a short warm-up. Each goes on until [`Meter::count`] says stop.
pub async fn rate<F: Future<Output = ()> + Send + 'static>(tasks: usize, time: Duration, task: impl Fn(Arc<Meter>) -> F) -> f64 {
    let meter = Arc::<Meter>::default();
    let mut loops = JoinSet::new();
    for _ in 0..tasks {
        loops.spawn(task(Arc::clone(&meter)));
    }
    tokio::time::sleep(time / 4).await;
    let (begun, before) = (Instant::now(), meter.done.load(Ordering::Relaxed));
    tokio::time::sleep(time).await;
    let rate = (meter.done.load(Ordering::Relaxed) - before) as f64 / begun.elapsed().as_secs_f64();
    meter.is_over.store(true, Ordering::Relaxed);
    loops.join_all().await;
    rate
}

/// Answers per second of `clients` connections that repeat `request`.
pub async fn answers(address: SocketAddr, request: &str, status: u16, clients: usize, time: Duration) -> f64 {
    rate(clients, time, |meter| {
        let request = request.to_owned();
        async move {
            let mut client = Client::connect(address).await;
            loop {
                assert_eq!(client.ask(request.as_bytes()).await, status, "{}", String::from_utf8_lossy(client.body()));
                if !meter.count() {
                    return;
                }
            }
        }
    })
    .await
}

/// The value below which the given share of `sample` lies; not a number where there is none.
pub fn percentile(mut sample: Vec<f64>, share: f64) -> f64 {
    sample.sort_by(f64::total_cmp);
    let last = sample.len().saturating_sub(1);
    sample.get((last as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
}

pub fn median(sample: Vec<f64>) -> f64 {
    percentile(sample, 0.5)
}
