//! The manual clock itself: everybody's tests rest on it.

use std::sync::Arc;

use anteroom::clock::Clock;

use super::*;

#[tokio::test]
async fn a_sleeper_wakes_at_its_deadline_and_not_before() {
    let clock = ManualClock::default();
    let deadline = clock.now() + Duration::from_secs(2);
    let mut sleep = clock.sleep_until(deadline);
    assert!(futures_util::poll!(&mut sleep).is_pending());
    assert_eq!(clock.next_deadline(), Some(deadline));
    clock.advance(Duration::from_millis(1999));
    assert!(futures_util::poll!(&mut sleep).is_pending());
    clock.advance(Duration::from_millis(1));
    assert!(futures_util::poll!(&mut sleep).is_ready());
    assert!(futures_util::poll!(clock.sleep_until(deadline)).is_ready(), "what has passed needs no sleep");
}

#[tokio::test]
async fn ticks_stop_at_every_deadline_and_a_dropped_sleeper_is_forgotten() {
    let clock = ManualClock::default();
    let start = clock.now();
    let mut sleeps = [3, 1, 2].map(|secs| clock.sleep_until(start + Duration::from_secs(secs)));
    for sleep in &mut sleeps {
        assert!(futures_util::poll!(sleep).is_pending());
    }
    let [three, one, two] = sleeps;
    assert_eq!(clock.tick(), Some(start + Duration::from_secs(1)));
    drop(two);
    assert_eq!(clock.tick(), Some(start + Duration::from_secs(3)));
    assert_eq!((clock.tick(), clock.sleepers(), clock.now()), (None, 0, start + Duration::from_secs(3)));
    drop((one, three));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wake_up_is_lost_between_threads() {
    const SLEEPERS: usize = 2000;
    let clock = ManualClock::default();
    let awake = Arc::new(tokio::sync::Barrier::new(2));
    for _ in 0..SLEEPERS {
        let sleep = clock.sleep_until(clock.now() + Duration::from_secs(1));
        let (moving, together) = (clock.clone(), awake.clone());
        let mover = tokio::spawn(async move {
            together.wait().await;
            moving.advance(Duration::from_secs(1));
        });
        awake.wait().await;
        within(sleep).await;
        mover.await.unwrap();
    }
    assert_eq!(clock.sleepers(), 0);
}
