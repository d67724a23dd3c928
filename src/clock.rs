//! The one reader of time. Below `sessions`, time is always an argument.
#![expect(clippy::disallowed_methods, reason = "this is where time comes from")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::kernel::time::{Offset, Timestamp, WallTime};

/// Tells the time, by both clocks, and waits for it. Deadlines of the product wait here, so that a test can advance them; deadlines of
/// sockets belong to tokio.
pub trait Clock: Send + Sync + 'static {
    /// By the clock that nobody can set: for all that we measure ourselves.
    fn now(&self) -> Timestamp;

    /// How far the wall clock is ahead of [`now`](Self::now): not at all unless somebody sets it.
    fn offset(&self) -> Offset {
        Offset::ZERO
    }

    /// By the wall clock: for all that others compare with theirs, or are shown.
    fn wall(&self) -> WallTime {
        self.offset().wall(self.now())
    }

    /// Completes at `deadline` or at once if that has passed. Cancel-safe.
    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()>;
}

/// The clocks of the machine. A suspended one wakes up to sessions that are as old as they should be.
#[derive(Debug)]
pub struct SystemClock {
    service: ServiceClock,
    /// As last read. Two readings are never quite alike; without this a time that is shown twice could differ by a millisecond.
    offset: AtomicI64,
}

/// The wall time at start plus the time elapsed since, suspended or not. A step of the wall clock changes nothing.
#[derive(Clone, Copy, Debug)]
struct ServiceClock {
    wall_at_start: Timestamp,
    boot_at_start: Duration,
}

/// A sleeping timer does not count a suspension of the machine, so long waits look at the clock this often.
const SLICE: Duration = Duration::from_secs(5);
/// What two readings of an offset may differ by though nobody set a clock.
const NOISE: Duration = Duration::from_millis(20);
/// Between two readings that count as one.
const ONE_MOMENT: Duration = Duration::from_millis(5);
const READINGS: usize = 3;

impl SystemClock {
    pub fn start() -> Arc<dyn Clock> {
        let wall_at_start = Timestamp::from_millis(wall().as_millis());
        Arc::new(Self { service: ServiceClock { wall_at_start, boot_at_start: since_boot() }, offset: AtomicI64::new(0) })
    }
}

impl ServiceClock {
    fn now(self) -> Timestamp {
        self.wall_at_start + since_boot().saturating_sub(self.boot_at_start)
    }

    /// Absent when the process was held up between the readings each time.
    fn offset(self) -> Option<Offset> {
        let read = || {
            let (before, wall, after) = (self.now(), wall(), self.now());
            (after.since(before) <= ONE_MOMENT).then(|| Offset::between(before, wall))
        };
        std::iter::repeat_with(read).take(READINGS).flatten().next()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.service.now()
    }

    fn offset(&self) -> Offset {
        let known = Offset::from_millis(self.offset.load(Ordering::Relaxed));
        match self.service.offset() {
            Some(read) if read.apart(known) > NOISE => {
                self.offset.store(read.as_millis(), Ordering::Relaxed);
                read
            }
            _ => known,
        }
    }

    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()> {
        let clock = self.service;
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

fn wall() -> WallTime {
    WallTime::default() + SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
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
