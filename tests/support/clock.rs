//! A clock that stands still until the test moves it, and a wall clock that the test can set.
#![allow(dead_code, reason = "every test binary uses its own part")]

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use anteroom::clock::Clock;
use anteroom::kernel::time::{Offset, Timestamp};
use futures_util::future::BoxFuture;
use tokio::sync::Notify;

/// Clones show the same time. A sleeper registers, and an advance looks for sleepers, under one lock, so no wake-up is lost: who
/// registers after an advance sees the new time, who registered before is woken by it.
#[derive(Clone)]
pub struct ManualClock(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    somebody_slept: Notify,
}

struct State {
    now: Timestamp,
    offset: Offset,
    next_id: u64,
    /// By deadline, then in the order of arrival.
    sleepers: BTreeMap<(Timestamp, u64), Waker>,
}

impl Default for ManualClock {
    /// Starts at 2026-11-22T10:00:00Z.
    fn default() -> Self {
        Self::starting_at(Timestamp::from_millis(1_795_341_600_000))
    }
}

impl ManualClock {
    pub fn starting_at(now: Timestamp) -> Self {
        let state = State { now, offset: Offset::ZERO, next_id: 0, sleepers: BTreeMap::new() };
        Self(Arc::new(Shared { state: Mutex::new(state), somebody_slept: Notify::new() }))
    }

    /// The same clock, as the product takes it.
    pub fn as_clock(&self) -> Arc<dyn Clock> {
        Arc::new(self.clone())
    }

    /// Moves the time and wakes all whose deadline has come, the earliest first. They see the new time, not their deadline: to
    /// stop at every deadline on the way, use [`tick`](Self::tick).
    pub fn advance(&self, by: Duration) {
        self.move_time(|now| now + by);
    }

    /// Moves the time to `to`; never back.
    pub fn advance_to(&self, to: Timestamp) {
        self.move_time(|now| now.max(to));
    }

    /// Sets the wall clock so far ahead of the time that this clock counts, or behind it. Nothing else notices.
    pub fn set_wall_ahead(&self, millis: i64) {
        self.lock().offset = Offset::from_millis(millis);
    }

    /// Advances to the earliest deadline and returns it; `None` if nobody sleeps.
    pub fn tick(&self) -> Option<Timestamp> {
        let deadline = self.next_deadline()?;
        self.advance_to(deadline);
        Some(deadline)
    }

    /// The earliest deadline that somebody sleeps for.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.lock().sleepers.keys().next().map(|(deadline, _)| *deadline)
    }

    /// Waits (in real time: wrap it in a time-out) until somebody sleeps for a deadline that satisfies `wanted`, and returns it.
    pub async fn sleeper(&self, wanted: impl Fn(Timestamp) -> bool) -> Timestamp {
        loop {
            let mut slept = pin!(self.0.somebody_slept.notified());
            slept.as_mut().enable();
            if let Some(deadline) = self.lock().sleepers.keys().map(|(deadline, _)| *deadline).find(|deadline| wanted(*deadline)) {
                return deadline;
            }
            slept.await;
        }
    }

    /// The number of futures that wait for this clock.
    pub fn sleepers(&self) -> usize {
        self.lock().sleepers.len()
    }

    fn move_time(&self, to: impl FnOnce(Timestamp) -> Timestamp) {
        let woken = {
            let mut state = self.lock();
            state.now = to(state.now);
            let first_to_stay = (state.now + Duration::from_millis(1), 0);
            let staying = state.sleepers.split_off(&first_to_stay);
            std::mem::replace(&mut state.sleepers, staying)
        };
        // Outside the lock, for a waker may run what it wakes.
        woken.into_values().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.lock().now
    }

    fn offset(&self) -> Offset {
        self.lock().offset
    }

    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()> {
        Box::pin(Sleep { clock: self.clone(), deadline, id: None })
    }
}

struct Sleep {
    clock: ManualClock,
    deadline: Timestamp,
    /// Given at the first poll that has to wait.
    id: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let clock = self.clock.clone();
        {
            let mut state = clock.lock();
            if self.deadline <= state.now {
                return Poll::Ready(());
            }
            let id = *self.id.get_or_insert_with(|| {
                state.next_id += 1;
                state.next_id
            });
            state.sleepers.insert((self.deadline, id), context.waker().clone());
        }
        clock.0.somebody_slept.notify_waiters();
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.clock.lock().sleepers.remove(&(self.deadline, id));
        }
    }
}
