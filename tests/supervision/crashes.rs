//! One poller dies, hangs or lies.

use std::sync::Arc;
use std::time::Duration;

use anteroom::demo::{Answer, Crash, Endpoint, Outcome};
use anteroom::kernel::session::{Errand, Refused, Status};
use anteroom::kernel::verdict::{Began, Failure, Grant, Revocation, Verdict};
use anteroom::provider::Provider;
use anteroom::provider::gate::Limits;
use anteroom::sessions::{Answer as Report, CreateError};
use anteroom::store::Store;
use anteroom::store::memory::MemoryStore;
use futures_util::future::BoxFuture;

use crate::rig::{PROVIDER, Rig, Setup, SignIn, eventually, within};

/// The least wait after an answer: 5 s and a fifth.
const GAP: Duration = Duration::from_secs(6);
const DELAYS: [u64; 5] = [0, 1, 2, 4, 4];

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Crashes the session's next poll, which is its `nth` crash in a row, and checks that the replacement starts exactly when it
/// should and how long it then waits.
async fn crash(rig: &Rig, sign_in: &SignIn, how: Crash, nth: usize) {
    let before = rig.crashes(sign_in);
    assert!(rig.provider.crash_poller(&sign_in.user_code, how));
    let crashed_at = rig.due(sign_in);
    rig.clock.advance_to(crashed_at);
    eventually("the poller crashes", || rig.crashes(sign_in) > before).await;
    let restarted_at = crashed_at + secs(DELAYS[nth - 1]);
    if restarted_at > crashed_at {
        rig.advance_to_sleeper(restarted_at).await;
    }
    rig.rest(sign_in).await;
    assert_eq!(rig.crashes(sign_in), before + 1, "the replacement does not ask at once");
    assert_eq!(rig.due(sign_in), restarted_at + GAP, "crash {nth} in a row");
}

#[tokio::test]
async fn a_poller_that_panics_leaves_the_session_as_it_was_and_the_next_one_goes_on() {
    let store = Arc::new(MemoryStore::default());
    let rig = Rig::with(Setup { store: store.clone(), ..Setup::default() }).await;
    let sign_in = rig.begin().await;
    let before = rig.session(&sign_in);
    for how in [Crash::BeforeAsking, Crash::AfterTheAnswer] {
        crash(&rig, &sign_in, how, 1).await;
        let after = rig.session(&sign_in);
        assert_eq!((after.status(), after.revision(), after.version()), (before.status(), before.revision(), before.version()));
        assert_eq!((after.prompt(), after.provider_reachable()), (before.prompt(), true));
        assert_eq!(store.version(sign_in.id).await, Ok(Some(before.version())));
        rig.poll(&sign_in).await;
    }
    rig.provider.approve(&sign_in.user_code);
    rig.poll(&sign_in).await;
    assert_eq!(rig.status(&sign_in), Status::Authorized);
    assert_eq!((rig.provider.redemptions(&sign_in.user_code), rig.provider.early_polls()), (1, 0));
}

#[tokio::test]
async fn a_replacement_starts_at_once_then_after_1_2_4_and_4_s_and_never_asks_too_early() {
    let rig = Rig::start().await;
    let sign_in = rig.begin().await;
    for nth in 1..=5 {
        crash(&rig, &sign_in, Crash::AfterTheAnswer, nth).await;
    }
    let gaps = rig.provider.gaps(&sign_in.user_code);
    let expected: Vec<_> = DELAYS[..4].iter().map(|delay| GAP + secs(*delay)).collect();
    assert_eq!(gaps[1..], expected);
    rig.poll(&sign_in).await;
    assert_eq!((rig.status(&sign_in), rig.provider.early_polls()), (Status::Pending, 0));
}

#[tokio::test]
async fn the_sixth_crash_in_a_row_fails_the_session_and_no_other() {
    let rig = Rig::start().await;
    let (poisoned, other) = (rig.begin().await, rig.begin().await);
    for nth in 1..=5 {
        crash(&rig, &poisoned, Crash::BeforeAsking, nth).await;
        rig.rest(&other).await;
    }
    rig.provider.crash_poller(&poisoned.user_code, Crash::BeforeAsking);
    rig.poll(&poisoned).await;
    eventually("the session is given up", || rig.status(&poisoned) == Status::Failed).await;
    assert_eq!(rig.failure(&poisoned), Some(Failure::InternalError));
    assert_eq!(rig.crashes(&poisoned), 6);

    rig.rest(&other).await;
    rig.provider.approve(&other.user_code);
    rig.poll(&other).await;
    assert_eq!((rig.status(&other), rig.crashes(&other)), (Status::Authorized, 0));
    assert_eq!(rig.provider.poll_count(&poisoned.user_code), 0);
}

#[tokio::test]
async fn a_session_whose_poller_cannot_even_begin_fails_and_leaves_nothing_behind() {
    let rig = Rig::with(Setup { around: Box::new(|_| Arc::new(Panicking)), ..Setup::default() }).await;
    let (begun, ()) = tokio::join!(rig.try_begin(None), async {
        for delay in &DELAYS[1..] {
            let now = rig.sessions.clock().now();
            rig.advance_to_sleeper(now + secs(*delay)).await;
        }
    });
    assert_eq!(begun.unwrap_err(), CreateError::Failed(Failure::InternalError));
    assert_eq!((rig.sessions.live(), rig.sessions.all().len()), (0, 0));
}

#[tokio::test]
async fn an_accepted_verdict_clears_the_count() {
    let rig = Rig::start().await;
    let sign_in = rig.begin().await;
    for _ in 0..2 {
        for nth in 1..=5 {
            crash(&rig, &sign_in, Crash::AfterTheAnswer, nth).await;
        }
        rig.poll(&sign_in).await;
    }
    assert_eq!((rig.status(&sign_in), rig.crashes(&sign_in)), (Status::Pending, 10));
}

#[tokio::test]
async fn a_poller_that_hangs_for_30_s_counts_as_crashed() {
    let rig = Rig::start().await;
    let sign_in = rig.begin().await;
    rig.provider.script_polls(&sign_in.user_code, [Answer::Stall]);
    rig.set_off(&sign_in).await;
    let asked_at = rig.sessions.clock().now();
    rig.advance_to_sleeper(asked_at + secs(30)).await;
    rig.rest(&sign_in).await;
    assert_eq!((rig.status(&sign_in), rig.crashes(&sign_in)), (Status::Pending, 1));
    assert_eq!(rig.due(&sign_in), asked_at + secs(30) + GAP);
    let hung_up = |exchange: &anteroom::demo::Exchange| exchange.outcome == Some(Outcome::NoAnswer);
    within(rig.provider.wait_for(|provider| provider.polls(&sign_in.user_code).iter().any(hung_up))).await;

    rig.provider.approve(&sign_in.user_code);
    rig.poll(&sign_in).await;
    assert_eq!(rig.status(&sign_in), Status::Authorized);
    assert_eq!((rig.provider.early_polls(), rig.provider.overlapping_polls()), (0, 0));
}

#[tokio::test]
async fn a_zombies_late_report_is_refused_and_changes_nothing() {
    let rig = Rig::with(Setup { limits: Limits { max_in_flight: 1, max_per_second: None }, ..Setup::default() }).await;
    let sign_in = rig.begin().await;
    // With the only place at the gate taken no other poller comes in between.
    let gate = &rig.app.providers[PROVIDER].gate;
    let mut place = None;
    eventually("the place is free", || {
        place = gate.enter(rig.sessions.clock().now(), anteroom::kernel::session::Urgency::Ordinary);
        place.is_some()
    })
    .await;
    rig.clock.advance_to(rig.due(&sign_in));
    let (zombie, errand) = rig.sessions.attempt(sign_in.id).expect("a poll is due");
    assert!(matches!(errand, Errand::Poll(_)));
    drop(place);
    rig.clock.advance(secs(60));
    rig.rest(&sign_in).await;
    let (revision, due) = (rig.session(&sign_in).revision(), rig.due(&sign_in));

    let late = rig.sessions.report(sign_in.id, zombie, Report::Verdict(Verdict::Denied));
    assert_eq!(late, Err(Refused::Stale));
    assert_eq!((rig.status(&sign_in), rig.session(&sign_in).revision(), rig.due(&sign_in)), (Status::Pending, revision, due));
    rig.poll(&sign_in).await;
    assert_eq!(rig.status(&sign_in), Status::Pending);
}

#[tokio::test]
async fn a_crash_behind_a_full_gate_does_not_delay_the_session_for_long() {
    let rig = Rig::with(Setup { limits: Limits { max_in_flight: 1, max_per_second: Some(1) }, ..Setup::default() }).await;
    let sign_in = rig.begin().await;
    // The replacement finds the gate shut: this second's request has been made.
    crash(&rig, &sign_in, Crash::AfterTheAnswer, 1).await;
    rig.poll(&sign_in).await;
    assert_eq!(rig.status(&sign_in), Status::Pending);
}

#[tokio::test]
async fn a_crash_with_the_tokens_in_hand_loses_the_grant_and_says_so() {
    let rig = Rig::start().await;
    let sign_in = rig.begin().await;
    rig.provider.approve(&sign_in.user_code);
    crash(&rig, &sign_in, Crash::AfterTheAnswer, 1).await;
    rig.poll(&sign_in).await;
    assert_eq!(rig.failure(&sign_in), Some(Failure::GrantLost));
    assert_eq!(rig.provider.exchanges(Endpoint::Token).len(), 2);
}

struct Panicking;

impl Provider for Panicking {
    fn begin<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Began, Failure>> {
        panic!("on purpose, before there is a future")
    }

    fn ask<'a>(&'a self, _: anteroom::provider::SignIn<'a>) -> BoxFuture<'a, Verdict> {
        panic!("on purpose")
    }

    fn verify<'a>(&'a self, _: &'a Arc<Grant>) -> BoxFuture<'a, Verdict> {
        panic!("on purpose")
    }

    fn revoke<'a>(&'a self, _: &'a Grant) -> BoxFuture<'a, Revocation> {
        panic!("on purpose")
    }
}
