//! The gate alone: pure, given the time.

use anteroom::kernel::pace::Jitter;
use anteroom::provider::gate::{Backlog, Gate, Limits};
use tokio::sync::Notify;

use super::*;

const START: Timestamp = Timestamp::from_millis(1_000_000_000);
const ORDINARY: Urgency = Urgency::Ordinary;

fn gate(max_in_flight: usize, max_per_second: Option<u32>) -> Gate {
    Gate::new(Limits { max_in_flight, max_per_second }, Arc::new(Notify::new()))
}

fn after(millis: u64) -> Timestamp {
    START + Duration::from_millis(millis)
}

#[test]
fn a_place_is_free_again_when_its_request_has_ended() {
    let gate = gate(2, None);
    let first = gate.enter(START, ORDINARY).unwrap();
    let _second = gate.enter(START, Urgency::Urgent).unwrap();
    assert_eq!(gate.room(START, Urgency::Urgent), Room::WhenOneEnds);
    assert!(gate.enter(START, Urgency::Urgent).is_none());
    drop(first);
    assert_eq!((gate.room(START, ORDINARY), gate.in_flight()), (Room::Now(1), 1));
}

#[test]
fn no_second_sees_more_requests_than_the_rate() {
    for rate in [1, 3, 7, 100, 999, 1000, 2500] {
        let gate = gate(usize::MAX, Some(rate));
        let mut made = Vec::new();
        for millis in 0..3000 {
            while gate.enter(after(millis), ORDINARY).is_some() {
                made.push(millis);
            }
        }
        let most = (0..2000).map(|from| made.iter().filter(|at| (from..from + 1000).contains(*at)).count()).max();
        assert!(most <= Some(rate as usize), "{rate}: {most:?}");
        assert!(made.len() >= rate as usize * 3 / 2, "{rate}: {}", made.len());
    }
}

#[test]
fn a_pause_holds_back_all_but_the_urgent() {
    let gate = gate(2, None);
    assert_eq!(gate.pause(START, Some(secs(30))), Some(Backlog { from: after(30_000), over: secs(10) }));
    assert_eq!(gate.room(START, ORDINARY), Room::At(after(30_000)));
    assert_eq!(gate.room(START, Urgency::Urgent), Room::Now(2));
    assert_eq!(gate.paused_until(after(29_999)), Some(after(30_000)));
    assert_eq!((gate.paused_until(after(30_000)), gate.room(after(30_000), ORDINARY)), (None, Room::Now(2)));
}

#[test]
fn a_pause_is_five_seconds_if_nothing_is_said_and_a_minute_at_most() {
    let gate = gate(1, None);
    gate.pause(START, None);
    assert_eq!(gate.paused_until(START), Some(after(5_000)));
    gate.pause(START, Some(secs(3600)));
    assert_eq!(gate.paused_until(START), Some(after(60_000)));
    gate.pause(START, Some(secs(1)));
    assert_eq!(gate.paused_until(START), Some(after(60_000)), "a shorter one does not end it");
}

#[test]
fn what_gathers_in_a_pause_is_spread_over_no_more_time_than_it_gathered_in() {
    let gate = gate(1, None);
    assert_eq!(gate.pause(START, Some(secs(4))), Some(Backlog { from: after(4_000), over: secs(4) }));
    assert_eq!(gate.pause(after(10), Some(secs(4))), None, "10 ms more gather nothing");
    assert_eq!(gate.pause(after(3_000), Some(secs(10))), Some(Backlog { from: after(13_000), over: secs(10) }));
    assert_eq!(gate.pause(after(60_000), Some(secs(2))), Some(Backlog { from: after(62_000), over: secs(2) }));
}

#[test]
fn beginnings_are_paused_alone_when_only_they_are_refused() {
    let gate = gate(1, None);
    gate.pause_beginnings(START, secs(20));
    assert_eq!(gate.paused_until(START), Some(after(20_000)));
    assert_eq!(gate.room(START, ORDINARY), Room::Now(1));
}

#[test]
fn a_provider_that_only_fails_is_asked_ever_more_seldom_and_one_at_a_time() {
    let gate = gate(10, None);
    for millis in [0, 100, 200, 59_000] {
        gate.unheard(after(millis), Jitter(0));
        assert_eq!(gate.room(after(millis), ORDINARY), Room::Now(10), "not down yet");
    }
    assert!(!gate.is_reachable());
    let mut now = 60_000;
    for wait in [5, 10, 20, 40, 60, 60] {
        gate.unheard(after(now), Jitter(0));
        // What was under way counts no more.
        gate.unheard(after(now + 1), Jitter(0));
        assert_eq!(gate.room(after(now), ORDINARY), Room::At(after(now + wait * 1000)));
        assert_eq!(gate.room(after(now), Urgency::Urgent), Room::Now(10));
        now += wait * 1000;
        assert_eq!(gate.room(after(now), ORDINARY), Room::Now(1));
    }
    assert_eq!(gate.heard(after(now)), Some(Backlog { from: after(now), over: secs(10) }));
    assert_eq!(gate.heard(after(now)), None);
    assert!(gate.is_reachable());
    assert_eq!(gate.room(after(now), ORDINARY), Room::Now(10));
}

#[test]
fn jitter_only_ever_makes_the_wait_longer() {
    let gate = gate(1, None);
    for millis in [0, 1, 2] {
        gate.unheard(after(millis), Jitter(0));
    }
    gate.unheard(after(60_000), Jitter(255));
    let Room::At(opens) = gate.room(after(60_000), ORDINARY) else { panic!("it is closed") };
    assert!(opens > after(65_000) && opens <= after(65_500), "{opens:?}");
}

#[test]
fn failures_between_good_answers_close_nothing() {
    let gate = gate(1, None);
    for second in 0..1000 {
        gate.unheard(after(second * 1000), Jitter(0));
        assert_eq!(gate.room(after(second * 1000), ORDINARY), Room::Now(1));
        if second % 50 == 49 {
            gate.heard(after(second * 1000));
        }
    }
}
