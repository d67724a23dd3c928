//! The watchdog ends, and with it all that it ran; the table stays.

use std::time::Duration;

use anteroom::demo::Answer;
use anteroom::kernel::session::Status;
use anteroom::kernel::time::Timestamp;

use crate::rig::{Rig, eventually, within};

const DRAIN: Duration = Duration::from_secs(8);

#[tokio::test]
async fn a_stop_waits_8_s_for_an_exchange_and_then_leaves_it_open() {
    let rig = Rig::start().await;
    let (open, idle) = (rig.begin().await, rig.begin().await);
    rig.provider.script_polls(&open.user_code, [Answer::Stall]);
    rig.set_off(&open).await;
    rig.rest(&idle).await;
    let (sessions, provider, clock) = (rig.sessions.clone(), rig.provider.clone(), rig.clock.clone());
    let stopping_at = sessions.clock().now();
    let mut stop = tokio::spawn(rig.app.stop());
    within(clock.sleeper(|deadline| deadline == stopping_at + DRAIN)).await;
    assert!(!stop.is_finished());
    clock.advance(DRAIN);
    within(&mut stop).await.unwrap();

    let left = sessions.get(open.id).unwrap();
    assert_eq!((left.status(), left.next_poll_at()), (Status::Pending, None), "open: ambiguous for whoever loads it");
    within(provider.wait_for(|provider| provider.polls(&open.user_code)[0].answered_at.is_some())).await;
    let polls = provider.poll_count(&idle.user_code);
    clock.advance(Duration::from_secs(100));
    assert_eq!(sessions.get(idle.id).unwrap().status(), Status::Pending, "the table outlives its supervision");
    assert_eq!(provider.poll_count(&idle.user_code), polls);
}

#[tokio::test]
async fn an_answer_that_comes_while_we_stop_is_taken() {
    let rig = Rig::start().await;
    let sign_in = rig.begin().await;
    rig.provider.approve(&sign_in.user_code);
    rig.provider.script_polls(&sign_in.user_code, [Answer::LateReply(Duration::from_secs(5))]);
    rig.set_off(&sign_in).await;
    let (sessions, clock) = (rig.sessions.clone(), rig.clock.clone());
    let now = sessions.clock().now();
    let stop = tokio::spawn(rig.app.stop());
    let sleeps_until = |at: Timestamp| within(clock.sleeper(move |deadline| deadline == at));
    sleeps_until(now + DRAIN).await;
    sleeps_until(now + Duration::from_secs(5)).await;
    clock.advance(Duration::from_secs(5));
    within(stop).await.unwrap();
    assert_eq!(sessions.get(sign_in.id).unwrap().status(), Status::Authorized);
}

#[tokio::test]
async fn a_stop_with_nothing_under_way_is_immediate() {
    let rig = Rig::start().await;
    rig.begin().await;
    eventually("the device request is over", || rig.provider.counts().device_requests == 1).await;
    within(rig.app.stop()).await;
}
