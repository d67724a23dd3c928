//! When a provider may be asked again (RFC 8628 §3.2, §3.5).
//!
//! Every wait counts from the *answer* to the last request and is never shorter than the interval times a margin: clocks drift,
//! and a poll that is a few milliseconds early can cost the whole sign-in.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::time::Timestamp;

/// RFC 8628 §3.2: what holds when the provider names no interval.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// RFC 8628 §3.5: what each `slow_down` adds, for good.
const SLOW_DOWN_STEP: Duration = Duration::from_secs(5);
/// How far back-off after failures may grow, and how much of a `slow_down`'s Retry-After becomes part of the interval.
const BACK_OFF_CAP: Duration = Duration::from_secs(60);

/// The provider's interval for one device code. It never shrinks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pace {
    interval_ms: u64,
    slowed: bool,
}

/// A random share that stretches a wait by 0 to 10 %, after a restart by up to one interval; it never shortens it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Jitter(pub u8);

impl Pace {
    /// `interval` as the device authorization response gave it; absent or zero means 5 s, less than 1 s means 1 s.
    pub fn new(interval: Option<Duration>) -> Self {
        let interval = interval.filter(|i| !i.is_zero()).unwrap_or(DEFAULT_INTERVAL).max(MIN_INTERVAL);
        Self { interval_ms: millis(interval), slowed: false }
    }

    pub fn interval(self) -> Duration {
        Duration::from_millis(self.interval_ms)
    }

    /// The least time from an answer to the next request: the interval × 1.2, × 1.4 once the provider has said `slow_down`.
    pub fn gap(self) -> Duration {
        let extra_tenths = if self.slowed { 4 } else { 2 };
        Duration::from_millis(self.interval_ms.saturating_add(self.interval_ms.div_ceil(10).saturating_mul(extra_tenths)))
    }

    /// RFC 8628 §3.5 `slow_down`: at least 5 s more for this and all later requests; more if the provider names more.
    pub fn slow_down(self, interval: Option<Duration>, retry_after: Option<Duration>) -> Self {
        let stepped = self.interval().saturating_add(SLOW_DOWN_STEP);
        let asked = interval.unwrap_or_default().max(retry_after.unwrap_or_default().min(BACK_OFF_CAP));
        Self { interval_ms: millis(stepped.max(asked)), slowed: true }
    }

    /// When to ask next after an answer at `answered`. `failures` in a row double the wait up to 60 s, on top of the interval.
    pub fn next(self, answered: Timestamp, failures: u8, retry_after: Option<Duration>, jitter: Jitter) -> Timestamp {
        let back_off = match failures {
            0 => Duration::ZERO,
            k => self.interval().saturating_mul(1u32.checked_shl(u32::from(k)).unwrap_or(u32::MAX)).min(BACK_OFF_CAP),
        };
        let wait = self.gap().max(back_off).max(retry_after.unwrap_or_default());
        answered + jitter.stretch(wait)
    }

    /// When to ask first after a restart: as if an answer had come just when the session was `loaded`, spread over one more
    /// interval.
    pub fn after_restart(self, loaded: Timestamp, jitter: Jitter) -> Timestamp {
        let spread = Duration::from_millis(self.interval_ms.saturating_mul(u64::from(jitter.0)) / 256);
        loaded + self.gap().saturating_add(spread)
    }
}

impl Jitter {
    /// The wait, and up to a tenth more.
    pub fn stretch(self, wait: Duration) -> Duration {
        wait.saturating_add(Duration::from_millis(millis(wait).saturating_mul(u64::from(self.0)) / 2560))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
