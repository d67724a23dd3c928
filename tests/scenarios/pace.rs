//! How long the provider is left in peace.

use std::sync::Arc;
use std::time::Duration;

use anteroom::clock::Clock;
use anteroom::demo::{Answer, Options, RateCheck, Window};
use anteroom::kernel::session::Status;
use anteroom::kernel::verdict::{Began, Failure, Grant, Revocation, Verdict};
use anteroom::provider::Provider;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::json;

use crate::clock::ManualClock;
use crate::rig::{Rig, Setup, SignIn, within};

/// Each gap is at least that of `intervals`, a fifth more, and two fifths once the provider has said `slow_down`; and it is not
/// more than a tenth longer.
fn assert_gaps(rig: &Rig, sign_in: &SignIn, intervals: &[u64], calm: usize) {
    let gaps = rig.provider.gaps(&sign_in.user_code);
    assert_eq!(gaps.len(), intervals.len());
    for (at, (gap, interval)) in gaps.iter().zip(intervals).enumerate() {
        let least = Duration::from_millis(interval * if at < calm { 1_200 } else { 1_400 });
        assert!(least <= *gap && *gap <= least * 11 / 10 + Duration::from_millis(1), "gap {at}: {gap:?}, not {least:?} and a little");
    }
    assert_eq!(rig.provider.early_polls(), 0);
}

fn slow_down(interval: Option<u64>) -> Answer {
    Answer::Json(400, interval.map_or(json!({ "error": "slow_down" }), |interval| json!({ "error": "slow_down", "interval": interval })))
}

#[tokio::test]
async fn pending_at_any_status_is_pending_until_the_tokens_come() {
    for pending_status in [400, 200, 401, 403, 428, 429] {
        let rig = Rig::with_options(Options { pending_status, slow_down_status: 429, ..Options::default() }).await;
        let sign_in = rig.begin().await;
        rig.polls(3, &sign_in).await;
        rig.provider.approve(&sign_in.user_code);
        rig.poll(&sign_in).await;
        assert_eq!(rig.status(&sign_in), Status::Authorized, "{pending_status}");
        assert_gaps(&rig, &sign_in, &[5, 5, 5, 5], 4);
    }
}

#[tokio::test]
async fn every_slow_down_adds_5_s_for_good() {
    for status in [400, 403, 429] {
        let rig = Rig::start().await;
        let sign_in = rig.begin().await;
        rig.provider.script_polls(&sign_in.user_code, (0..3).map(|_| Answer::error(status, "slow_down")));
        rig.polls(6, &sign_in).await;
        assert_gaps(&rig, &sign_in, &[5, 10, 15, 20, 20, 20], 1);
    }
}

#[tokio::test]
async fn a_slow_down_with_a_smaller_interval_shrinks_nothing_and_one_with_a_larger_counts() {
    let rig = Rig::start().await;
    let sign_in = rig.begin().await;
    rig.provider.script_polls(&sign_in.user_code, [slow_down(Some(1)), Answer::Normal, slow_down(Some(40))]);
    rig.polls(5, &sign_in).await;
    assert_gaps(&rig, &sign_in, &[5, 10, 10, 40, 40], 1);
}

#[tokio::test]
async fn a_failure_after_slow_down_does_not_shrink_the_interval() {
    for fault in [Answer::Reset, Answer::CloseWithoutAnswer, Answer::text(502, "<h1>Bad Gateway</h1>")] {
        let rig = Rig::start().await;
        let sign_in = rig.begin().await;
        rig.provider.script_polls(&sign_in.user_code, [slow_down(None), slow_down(None), slow_down(None), fault]);
        rig.polls(6, &sign_in).await;
        let gaps = rig.provider.gaps(&sign_in.user_code);
        assert!(gaps[3..].iter().all(|gap| *gap >= Duration::from_secs(28)), "{gaps:?}");
        assert_eq!(rig.provider.early_polls(), 0);
    }
}

#[tokio::test]
async fn a_provider_that_checks_the_rate_before_the_approval_still_gives_its_tokens() {
    for window in [Window::Fixed, Window::Sliding] {
        let rig = Rig::with_options(Options { rate_check: Some(RateCheck::BeforeApproval(window)), ..Options::default() }).await;
        let sign_in = rig.begin().await;
        // One that comes for no fault of ours: the provider's clock may run slow.
        rig.provider.script_polls(&sign_in.user_code, [Answer::Normal, slow_down(None)]);
        rig.polls(2, &sign_in).await;
        rig.provider.approve(&sign_in.user_code);
        rig.polls(1, &sign_in).await;
        assert_eq!((rig.status(&sign_in), rig.provider.counts().slow_downs), (Status::Authorized, 1));
    }
}

#[tokio::test]
async fn five_hundred_polls_over_a_jittery_line_meet_a_sliding_window_without_one_slow_down() {
    const POLLS: usize = 500;
    let rate_check = Some(RateCheck::BeforeApproval(Window::Sliding));
    let clock = ManualClock::default();
    let line = clock.clone();
    let around = Box::new(move |inner| Arc::new(JitteryLine { inner, clock: line, state: Mutex::new(7) }) as Arc<dyn Provider>);
    let options = Options { rate_check, expires_in: 24 * 3600, ..Options::default() };
    let rig = Rig::with(Setup { options, around, ..Setup::on(clock) }).await;
    let sign_in = rig.begin().await;
    for _ in 0..POLLS {
        rig.clock.advance_to(rig.due(&sign_in));
        // Time passes while the poll or its answer travels.
        let travelling = async {
            loop {
                let now = rig.clock.now();
                rig.clock.advance_to(rig.clock.sleeper(|at| now < at && at <= now + Duration::from_millis(500)).await);
            }
        };
        tokio::select! {
            () = rig.rest(&sign_in) => {}
            () = travelling => {}
        }
    }
    assert_eq!(rig.provider.poll_count(&sign_in.user_code), POLLS as u64);
    assert_eq!((rig.provider.counts().slow_downs, rig.provider.early_polls()), (0, 0));
    assert_eq!(rig.status(&sign_in), Status::Pending);
}

#[tokio::test]
async fn a_429_delays_the_whole_provider_and_changes_no_interval() {
    let rig = Rig::start().await;
    let (one, other) = (rig.begin().await, rig.begin().await);
    let (first, second) = if rig.due(&one) <= rig.due(&other) { (one, other) } else { (other, one) };
    let too_many = Answer::Raw { status: 429, headers: vec![("retry-after".into(), "40".into())], body: Vec::new() };
    rig.provider.script_polls(&first.user_code, [too_many]);
    rig.poll(&first).await;
    let paused_until = rig.clock.now() + Duration::from_secs(40);
    assert!(rig.due(&first) >= paused_until);
    rig.clock.advance_to(paused_until - Duration::from_millis(1));
    within(rig.clock.sleeper(|at| at >= paused_until)).await;
    assert_eq!(rig.provider.poll_count(&second.user_code), 0);
    // What gathered meanwhile is spread over ten seconds, so that the provider meets no burst.
    rig.clock.advance_to(paused_until + Duration::from_secs(10));
    rig.rest(&second).await;
    assert_eq!(rig.provider.poll_count(&second.user_code), 1);
    // Its own poll came due by then and may still be under way.
    rig.rest(&first).await;
    rig.poll(&first).await;
    let gaps = rig.provider.gaps(&first.user_code);
    assert!(gaps[1] >= Duration::from_secs(40) && gaps[2] <= Duration::from_millis(6_601), "{gaps:?}");
    assert_eq!(rig.provider.early_polls(), 0);
}

/// Lets 1 to 250 ms pass on the way of each poll, and as much on the way of each answer.
struct JitteryLine {
    inner: Arc<dyn Provider>,
    clock: ManualClock,
    state: Mutex<u64>,
}

impl JitteryLine {
    async fn travel(&self) {
        let millis = {
            let mut state = self.state.lock();
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            1 + (*state >> 33) % 250
        };
        self.clock.sleep_until(self.clock.now() + Duration::from_millis(millis)).await;
    }
}

impl Provider for JitteryLine {
    fn begin<'a>(&'a self, scope: &'a str) -> BoxFuture<'a, Result<Began, Failure>> {
        self.inner.begin(scope)
    }

    fn ask<'a>(&'a self, sign_in: anteroom::provider::SignIn<'a>) -> BoxFuture<'a, Verdict> {
        async move {
            self.travel().await;
            let verdict = self.inner.ask(sign_in).await;
            self.travel().await;
            verdict
        }
        .boxed()
    }

    fn verify<'a>(&'a self, grant: &'a Arc<Grant>) -> BoxFuture<'a, Verdict> {
        self.inner.verify(grant)
    }

    fn revoke<'a>(&'a self, grant: &'a Grant) -> BoxFuture<'a, Revocation> {
        self.inner.revoke(grant)
    }
}
