//! Panics on purpose at chosen points of a future, or of every exchange with a provider.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use anteroom::kernel::verdict::{Began, Failure, Grant, Revocation, Verdict};
use anteroom::provider::Provider;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

/// Panics at its n-th poll, or with the answer in its hands if that comes first.
pub struct PanicAt<'a, T> {
    inner: BoxFuture<'a, T>,
    polls_left: u32,
    /// Asks to be polled again without waiting for anything, so that it dies between two await points, too.
    restless: bool,
}

impl<'a, T> PanicAt<'a, T> {
    pub fn new(inner: BoxFuture<'a, T>, nth_poll: u32, restless: bool) -> Self {
        Self { inner, polls_left: nth_poll, restless }
    }
}

impl<T> Future for PanicAt<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        self.polls_left -= 1;
        assert!(self.polls_left > 0, "on purpose, in the middle");
        assert!(self.inner.as_mut().poll(context).is_pending(), "on purpose, with the answer");
        if self.restless {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

/// Decides where to panic next, up to a number of panics in all and four in a row for one key.
pub struct Dice {
    left: AtomicU64,
    thrown: AtomicU64,
    streaks: Mutex<HashMap<Box<str>, u8>>,
}

/// A session is given up at the sixth crash in a row; whoever waits for a code does not wait for four.
const LONGEST_STREAK: u8 = 4;
const LONGEST_STREAK_BEFORE_A_CODE: u8 = 2;
/// Before anything has happened, at every early poll, and after all has happened.
const POINTS: [u32; 12] = [1, 1, 1, 2, 3, 4, 5, 8, u32::MAX, u32::MAX, u32::MAX, u32::MAX];

impl Dice {
    pub fn new(panics: u64) -> Arc<Self> {
        Arc::new(Self { left: AtomicU64::new(panics), thrown: AtomicU64::new(0), streaks: Mutex::default() })
    }

    /// The panics that are still to come.
    pub fn left(&self) -> u64 {
        self.left.load(Ordering::SeqCst)
    }

    /// `future`, or, three times out of four, one that panics on the way.
    pub fn sabotage<'a, T: Send + 'a>(&self, key: &str, longest_streak: u8, future: BoxFuture<'a, T>) -> BoxFuture<'a, T> {
        let throw = mix(self.thrown.fetch_add(1, Ordering::SeqCst));
        let mut streaks = self.streaks.lock();
        let streak = streaks.entry(key.into()).or_default();
        let spared = *streak == longest_streak || throw.is_multiple_of(4);
        if spared || self.left.try_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err() {
            *streak = 0;
            return future;
        }
        *streak += 1;
        let nth_poll = POINTS[(throw >> 8) as usize % POINTS.len()];
        Box::pin(PanicAt::new(future, nth_poll, nth_poll < u32::MAX && (throw >> 16).is_multiple_of(2)))
    }
}

/// SplitMix64: the same throws in every run.
fn mix(n: u64) -> u64 {
    let z = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A provider at which pollers die. The scope of a session is its key until it has a code.
pub struct Deadly {
    pub inner: Arc<dyn Provider>,
    pub dice: Arc<Dice>,
}

impl Provider for Deadly {
    fn begin<'a>(&'a self, scope: &'a str) -> BoxFuture<'a, Result<Began, Failure>> {
        self.dice.sabotage(scope, LONGEST_STREAK_BEFORE_A_CODE, self.inner.begin(scope))
    }

    fn ask<'a>(&'a self, sign_in: anteroom::provider::SignIn<'a>) -> BoxFuture<'a, Verdict> {
        self.dice.sabotage(sign_in.device_code.expose_code(), LONGEST_STREAK, self.inner.ask(sign_in))
    }

    fn verify<'a>(&'a self, grant: &'a Arc<Grant>) -> BoxFuture<'a, Verdict> {
        self.inner.verify(grant)
    }

    fn revoke<'a>(&'a self, grant: &'a Grant) -> BoxFuture<'a, Revocation> {
        self.inner.revoke(grant)
    }
}
