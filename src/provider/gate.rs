//! How much one provider may be asked by all sessions together: requests in flight, requests per second, and pauses that it
//! demanded (429).

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::kernel::time::Timestamp;

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub max_in_flight: usize,
    /// Requests per second; absent: no limit.
    pub max_per_second: Option<u32>,
}

pub struct Gate {
    limits: Limits,
    state: Arc<Mutex<State>>,
    bell: Arc<Notify>,
}

#[derive(Default)]
struct State {
    in_flight: usize,
    /// The earliest moment for the next request under the rate limit.
    next_slot: Timestamp,
    paused_until: Timestamp,
    failures: u8,
}

/// The right to have one request under way; given back on drop.
pub struct Pass {
    state: Arc<Mutex<State>>,
    max_in_flight: usize,
    bell: Arc<Notify>,
}

/// When more may be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    /// This many requests may start now.
    Now(usize),
    /// None before this moment.
    At(Timestamp),
    /// None before a request that is under way has ended.
    WhenOneEnds,
}

/// As for a single session: from the third failure in a row the provider counts as unreachable.
const UNREACHABLE_AFTER: u8 = 3;

impl Gate {
    /// `bell` is rung when a place becomes free at a full gate.
    pub fn new(limits: Limits, bell: Arc<Notify>) -> Self {
        Self { limits, state: Arc::default(), bell }
    }

    pub fn room(&self, now: Timestamp) -> Room {
        let state = self.state.lock();
        if state.paused_until > now {
            return Room::At(state.paused_until);
        }
        let free = self.limits.max_in_flight.saturating_sub(state.in_flight);
        if free == 0 {
            return Room::WhenOneEnds;
        }
        match self.limits.max_per_second {
            Some(_) if state.next_slot > now => Room::At(state.next_slot),
            Some(_) => Room::Now(1),
            None => Room::Now(free),
        }
    }

    /// Takes a place for one request, if there is one now.
    pub fn enter(&self, now: Timestamp) -> Option<Pass> {
        let mut state = self.state.lock();
        let busy = state.in_flight >= self.limits.max_in_flight;
        if busy || state.paused_until > now || (self.limits.max_per_second.is_some() && state.next_slot > now) {
            return None;
        }
        if let Some(rate) = self.limits.max_per_second {
            state.next_slot = now + Duration::from_secs(1) / rate.max(1);
        }
        state.in_flight += 1;
        Some(Pass { state: Arc::clone(&self.state), max_in_flight: self.limits.max_in_flight, bell: Arc::clone(&self.bell) })
    }

    /// The provider asked everybody to wait (429).
    pub fn pause(&self, until: Timestamp) {
        let mut state = self.state.lock();
        state.paused_until = state.paused_until.max(until);
    }

    /// Until when the provider wants to be left alone, if it does.
    pub fn paused_until(&self, now: Timestamp) -> Option<Timestamp> {
        Some(self.state.lock().paused_until).filter(|until| *until > now)
    }

    pub fn heard(&self) {
        self.state.lock().failures = 0;
    }

    pub fn unheard(&self) {
        let mut state = self.state.lock();
        state.failures = state.failures.saturating_add(1);
    }

    pub fn is_reachable(&self) -> bool {
        self.state.lock().failures < UNREACHABLE_AFTER
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        let was_full = state.in_flight >= self.max_in_flight;
        state.in_flight = state.in_flight.saturating_sub(1);
        if was_full {
            self.bell.notify_one();
        }
    }
}
