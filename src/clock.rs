//! The one reader of time. Below `sessions`, time is always an argument.
#![expect(clippy::disallowed_methods, reason = "this is where time comes from")]

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::kernel::time::Timestamp;

/// Tells the time and waits for it. Deadlines of the product wait here, so that a test can advance them; deadlines of sockets
/// belong to tokio.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;

    /// Completes at `deadline` or at once if that has passed. Cancel-safe.
    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()>;
}

/// The wall time at start plus the time elapsed since, suspended or not. A step of the wall clock changes nothing, and a
/// suspended machine wakes up to sessions that are as old as they should be.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    wall_at_start: Timestamp,
    boot_at_start: Duration,
}

/// A sleeping timer does not count a suspension of the machine, so long waits look at the clock this often.
const SLICE: Duration = Duration::from_secs(5);

impl SystemClock {
    pub fn start() -> Arc<dyn Clock> {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Arc::new(Self { wall_at_start: Timestamp::default() + wall, boot_at_start: since_boot() })
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.wall_at_start + since_boot().saturating_sub(self.boot_at_start)
    }

    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()> {
        let clock = *self;
        async move {
            loop {
                let left = deadline.since(clock.now());
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(SLICE)).await;
            }
        }
        .boxed()
    }
}

#[cfg(target_os = "linux")]
fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(not(target_os = "linux"))]
fn since_boot() -> Duration {
    use std::sync::OnceLock;
    use std::time::Instant;
    static FIRST: OnceLock<Instant> = OnceLock::new();
    FIRST.get_or_init(Instant::now).elapsed()
}
