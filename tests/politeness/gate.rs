//! The gate alone: pure, given the time.

use anteroom::kernel::pace::Jitter;
use anteroom::provider::gate::{Backlog, Gate, Limits};
use futures_util::FutureExt;
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
fn each_kind_of_request_has_its_share_of_the_places() {
    let places = |gate: &Gate, urgency| std::iter::from_fn(|| gate.enter(START, urgency)).collect::<Vec<_>>();
    for (most, beginnings, revocations) in [(1, 1, 1), (2, 1, 1), (16, 8, 1), (32, 16, 3), (64, 32, 7)] {
        assert_eq!(places(&gate(most, None), Urgency::Beginning).len(), beginnings, "of {most}");
        assert_eq!(places(&gate(most, None), Urgency::Verification).len(), 1, "of {most}");
        let gate = gate(most, None);
        let hanging = places(&gate, Urgency::Background);
        assert_eq!(hanging.len(), revocations, "of {most}");
        let verification = gate.enter(START, Urgency::Verification);
        assert_eq!(verification.is_some(), most >= 16, "of {most}");
        assert_eq!(places(&gate, ORDINARY).len(), most - revocations - usize::from(most >= 16), "the rest of {most}");
    }
}

#[test]
fn one_slot_in_eight_is_for_what_nobody_waits_for() {
    let gate = gate(64, Some(2));
    assert!(gate.enter(START, Urgency::Background).is_some());
    assert_eq!(gate.room(START, ORDINARY), Room::At(after(500)));
    assert_eq!(gate.room(after(500), Urgency::Background), Room::At(after(4_000)));
    assert_eq!(gate.room(after(500), Urgency::Beginning), Room::Now(1));
    assert_eq!(gate.room(after(4_000), Urgency::Background), Room::Now(1));
}

#[test]
fn requests_become_more_little_by_little() {
    let gate = gate(1_000, None);
    let mut under_way = Vec::new();
    let mut begin = |number: usize, millis: u64| under_way.extend((0..number).map(|_| gate.enter(after(millis), ORDINARY).unwrap()));
    assert_eq!(gate.room(START, ORDINARY), Room::Now(64));
    begin(64, 0);
    assert_eq!(gate.room(START, ORDINARY), Room::Now(16));
    begin(6, 0);
    assert_eq!(gate.room(START, ORDINARY), Room::Now(10));
    begin(10, 0);
    assert_eq!(gate.room(START, ORDINARY), Room::At(after(1)));
    assert_eq!(gate.room(after(1), Urgency::Urgent), Room::Now(16));
    begin(320, 1);
    assert_eq!(gate.room(after(1), ORDINARY), Room::At(after(2)));
    assert_eq!(gate.room(after(2), ORDINARY), Room::Now(50));
    begin(599, 2);
    assert_eq!(gate.room(after(3), ORDINARY), Room::Now(1));
    begin(1, 3);
    assert_eq!(gate.room(after(4), ORDINARY), Room::WhenOneEnds);
    // In place of a request that has ended, another one.
    under_way.truncate(40);
    assert_eq!(gate.room(after(4), ORDINARY), Room::Now(24));
}

#[test]
fn a_provider_that_is_far_away_soon_has_all_that_it_may() {
    const ANSWER: u64 = 20;
    let gate = gate(1_000, None);
    let mut under_way = std::collections::VecDeque::new();
    let all = (0..1_000).find(|millis| {
        while under_way.front().is_some_and(|(begun, _)| begun + ANSWER <= *millis) {
            under_way.pop_front();
        }
        while let Room::Now(room) = gate.room(after(*millis), ORDINARY) {
            under_way.extend((0..room).map(|_| (*millis, gate.enter(after(*millis), ORDINARY).unwrap())));
        }
        gate.in_flight() == 1_000
    });
    assert!(all.is_some_and(|millis| millis < 100), "{all:?} ms");
}

#[tokio::test]
async fn whoever_was_held_back_is_told_when_few_are_under_way() {
    let bell = Arc::new(Notify::new());
    let gate = Gate::new(Limits { max_in_flight: 1_000, max_per_second: None }, Arc::clone(&bell));
    let rang = || bell.notified().now_or_never().is_some();
    let mut under_way: Vec<_> = (0..80).map(|_| gate.enter(START, ORDINARY).unwrap()).collect();
    under_way.truncate(20);
    assert!(!rang(), "nobody was held back");
    under_way.extend((0..60).map(|_| gate.enter(after(1), ORDINARY).unwrap()));
    assert_eq!(gate.room(after(1), ORDINARY), Room::At(after(2)));
    under_way.truncate(33);
    assert!(!rang());
    under_way.truncate(32);
    assert!(rang());
    under_way.truncate(1);
    assert!(!rang(), "told once");
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
