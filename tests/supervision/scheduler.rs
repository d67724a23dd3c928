//! The scheduler dies.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anteroom::clock::Clock;
use anteroom::kernel::session::Status;
use anteroom::kernel::time::{Offset, Timestamp};
use futures_util::future::BoxFuture;

use crate::clock::ManualClock;
use crate::rig::{Rig, Setup, eventually, within};

/// A clock on which an idle scheduler cannot lie down: its longest sleep panics while the trap is set.
#[derive(Clone, Default)]
struct Trap {
    clock: ManualClock,
    set: Arc<AtomicBool>,
}

const LONGEST_SLEEP: Duration = Duration::from_secs(20);

impl Clock for Trap {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()> {
        assert!(!self.set.load(Ordering::SeqCst) || deadline.since(self.now()) != LONGEST_SLEEP, "on purpose");
        self.clock.sleep_until(deadline)
    }
}

impl Trap {
    /// Lets the scheduler lie down, sets the trap and wakes it.
    async fn spring(&self) {
        let longest = self.now() + LONGEST_SLEEP;
        within(self.clock.sleeper(|deadline| deadline == longest)).await;
        self.set.store(true, Ordering::SeqCst);
        self.clock.advance_to(longest);
    }

    async fn advance_to_sleeper(&self, after: Duration) {
        let at = self.now() + after;
        within(self.clock.sleeper(|deadline| deadline == at)).await;
        self.clock.advance_to(at);
    }
}

#[tokio::test]
async fn a_scheduler_that_cannot_be_kept_alive_ends_supervision_and_the_table_stays() {
    let trap = Trap::default();
    let rig = Rig::with(Setup::on(trap.clone())).await;
    let sign_in = rig.begin().await;
    rig.sessions.cancel(sign_in.id).await.unwrap();
    let health = rig.app.health();
    // Past the poll that it still lies in wait for.
    trap.clock.advance(Duration::from_secs(10));
    trap.spring().await;
    // The first replacement comes at once, the others after these.
    for delay in [1, 2, 4, 4] {
        assert!(health.watchdog_is_ready());
        trap.advance_to_sleeper(Duration::from_secs(delay)).await;
    }
    within(rig.app.broken()).await;
    assert!(!health.watchdog_is_ready());
    assert_eq!(rig.sessions.get(sign_in.id).map(|session| session.status()), Some(Status::Cancelled));
}

#[tokio::test]
async fn a_scheduler_that_crashed_goes_on_from_the_table() {
    let trap = Trap::default();
    let rig = Rig::with(Setup::on(trap.clone())).await;
    trap.spring().await;
    // It has crashed twice and waits for its third life.
    let third = trap.now() + Duration::from_secs(1);
    within(trap.clock.sleeper(|deadline| deadline == third)).await;
    trap.set.store(false, Ordering::SeqCst);
    let (sign_in, ()) = tokio::join!(rig.begin(), async { trap.clock.advance_to(third) });
    rig.provider.approve(&sign_in.user_code);
    trap.clock.advance_to(rig.due(&sign_in));
    eventually("it is polled", || rig.status(&sign_in) == Status::Authorized).await;
    assert!(rig.app.health().watchdog_is_ready());
}

/// Counts how often somebody asks where the wall clock is.
#[derive(Clone, Default)]
struct Counted {
    clock: ManualClock,
    looks: Arc<AtomicUsize>,
}

impl Clock for Counted {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn offset(&self) -> Offset {
        self.looks.fetch_add(1, Ordering::SeqCst);
        self.clock.offset()
    }

    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()> {
        self.clock.sleep_until(deadline)
    }
}

#[tokio::test]
async fn that_somebody_set_the_wall_clock_is_noticed_without_being_asked() {
    let counted = Counted::default();
    let rig = Rig::with(Setup::on(counted.clone())).await;
    for _ in 0..3 {
        let longest = counted.now() + LONGEST_SLEEP;
        within(counted.clock.sleeper(|deadline| deadline == longest)).await;
        let before = counted.looks.load(Ordering::SeqCst);
        counted.clock.advance_to(longest);
        eventually("it is looked at", || counted.looks.load(Ordering::SeqCst) > before).await;
    }
    drop(rig);
}
