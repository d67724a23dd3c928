//! A moment, by one of two clocks, as milliseconds. Arithmetic saturates: no input can overflow it.
//!
//! What we measure ourselves goes by the service's own clock, which nobody can set: pace, leases, deadlines. What others compare with
//! their clock, or are shown, goes by the wall clock as it is then. The types keep them apart; an [`Offset`] leads from one to the
//! other.

use core::ops::{Add, Sub};
use core::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment by the service's clock. That starts with the wall time and from then on only counts what elapses, so it is a wall time
/// no longer once somebody sets the wall clock. In the store it is a wall time, for the next start begins with that.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Timestamp(u64);

/// A moment by the wall clock: milliseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct WallTime(u64);

/// How far the wall clock is ahead of the service's; negative where it is behind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Offset(i64);

impl Timestamp {
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl WallTime {
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Offset {
    pub const ZERO: Self = Self(0);

    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Between two readings of the same moment.
    pub const fn between(service: Timestamp, wall: WallTime) -> Self {
        Self(signed_difference(wall.0, service.0))
    }

    /// How far one wall time is ahead of another.
    pub const fn ahead(one: WallTime, other: WallTime) -> Self {
        Self(signed_difference(one.0, other.0))
    }

    /// What the wall clock shows at `moment`, as it goes now.
    pub const fn wall(self, moment: Timestamp) -> WallTime {
        WallTime(moment.0.saturating_add_signed(self.0))
    }

    /// When the wall clock, as it goes now, shows `wall`.
    pub const fn service(self, wall: WallTime) -> Timestamp {
        Timestamp(wall.0.saturating_add_signed(self.0.saturating_neg()))
    }

    pub const fn is_ahead(self) -> bool {
        self.0 > 0
    }

    pub const fn abs(self) -> Duration {
        Duration::from_millis(self.0.unsigned_abs())
    }

    /// How far apart two offsets are.
    pub const fn apart(self, other: Self) -> Duration {
        Duration::from_millis(self.0.abs_diff(other.0))
    }
}

const fn signed_difference(one: u64, other: u64) -> i64 {
    let size = one.abs_diff(other);
    let size = if size > i64::MAX.unsigned_abs() { i64::MAX } else { size.cast_signed() };
    if one >= other { size } else { -size }
}

/// A wait in whole milliseconds, rounded up, so that it is never cut short.
fn rounded_up(wait: Duration) -> u64 {
    wait.as_secs().saturating_mul(1000).saturating_add(u64::from(wait.subsec_nanos().div_ceil(1_000_000)))
}

fn rounded_down(back: Duration) -> u64 {
    u64::try_from(back.as_millis()).unwrap_or(u64::MAX)
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(rounded_up(wait)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, back: Duration) -> Self {
        Self(self.0.saturating_sub(rounded_down(back)))
    }
}

impl Add<Duration> for WallTime {
    type Output = Self;

    fn add(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(rounded_up(wait)))
    }
}

impl Sub<Duration> for WallTime {
    type Output = Self;

    fn sub(self, back: Duration) -> Self {
        Self(self.0.saturating_sub(rounded_down(back)))
    }
}
