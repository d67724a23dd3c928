//! A clock that runs faster than real time.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anteroom::clock::Clock;
use anteroom::kernel::time::Timestamp;
use futures_util::future::BoxFuture;

/// Clones show the same time.
#[derive(Clone)]
pub struct FastClock(Arc<Mutex<Gear>>);

#[derive(Clone, Copy)]
struct Gear {
    since: Instant,
    time_then: Timestamp,
    factor: u32,
}

const START: Timestamp = Timestamp::from_millis(1_795_341_600_000);
/// How soon a sleeper notices a change of gear.
const SLICE: Duration = Duration::from_millis(50);

impl FastClock {
    /// Runs `factor` times as fast as real time.
    pub fn new(factor: u32) -> Self {
        Self(Arc::new(Mutex::new(Gear { since: Instant::now(), time_then: START, factor })))
    }

    pub fn shift(&self, factor: u32) {
        let mut gear = self.0.lock().unwrap();
        *gear = Gear { since: Instant::now(), time_then: gear.time(), factor };
    }
}

impl Gear {
    fn time(self) -> Timestamp {
        // Down to the millisecond: time that has not passed must not show.
        let elapsed = (self.since.elapsed() * self.factor).as_millis();
        self.time_then + Duration::from_millis(u64::try_from(elapsed).unwrap())
    }
}

impl Clock for FastClock {
    fn now(&self) -> Timestamp {
        self.0.lock().unwrap().time()
    }

    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()> {
        let clock = self.clone();
        Box::pin(async move {
            loop {
                let gear = *clock.0.lock().unwrap();
                let left = deadline.since(gear.time());
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep((left / gear.factor).min(SLICE)).await;
            }
        })
    }
}
