//! The rate check, and the record of how politely a client polls.

use anteroom::demo::{Answer, Codes, Endpoint, Outcome, RateCheck, Recording, Window};

use super::*;

fn secs(secs: &[u64]) -> Vec<Duration> {
    secs.iter().copied().map(Duration::from_secs).collect()
}

async fn start_checking(rate_check: Option<RateCheck>) -> Fixture {
    start_with(Options { rate_check, ..Options::default() }).await
}

#[tokio::test]
async fn an_early_poll_is_slowed_down_and_raises_the_interval_for_good() {
    let f = start().await;
    let sign_in = f.sign_in().await;
    assert_eq!(error(&f.poll_after(5, &sign_in).await), (400, "authorization_pending"));
    assert_eq!(error(&f.poll_after(4, &sign_in).await), (400, "slow_down"));
    assert_eq!(error(&f.poll_after(9, &sign_in).await), (400, "authorization_pending"), "13 s after the last good poll");
    assert_eq!(f.provider.early_polls(), 2, "the audit counts from the last answer, and wanted 10 s");
    assert_eq!(error(&f.poll_after(9, &sign_in).await), (400, "slow_down"));
    assert_eq!(error(&f.poll_after(15, &sign_in).await), (400, "authorization_pending"));
    assert_eq!(f.provider.early_polls(), 3);
    assert_eq!((f.provider.counts().slow_downs, f.provider.overlapping_polls()), (2, 0));
    assert_eq!(f.provider.gaps(&sign_in.user_code), secs(&[5, 4, 9, 9, 15]));
}

#[tokio::test]
async fn the_first_poll_waits_too() {
    let f = start().await;
    let sign_in = f.sign_in().await;
    assert_eq!(error(&f.poll_after(4, &sign_in).await), (400, "slow_down"));
    assert_eq!(f.provider.early_polls(), 1);
}

#[tokio::test]
async fn an_approved_code_forgives_an_early_poll_unless_the_rate_is_checked_first() {
    for (check, expected) in [(RateCheck::WhilePending(Window::Fixed), 200), (RateCheck::BeforeApproval(Window::Fixed), 400)] {
        let f = start_checking(Some(check)).await;
        let sign_in = f.sign_in().await;
        f.provider.approve(&sign_in.user_code);
        assert_eq!(f.poll_after(1, &sign_in).await.0, expected, "{check:?}");
    }
}

#[tokio::test]
async fn an_early_poll_starts_a_sliding_window_again() {
    for (window, expected) in [(Window::Fixed, 200), (Window::Sliding, 400)] {
        let f = start_checking(Some(RateCheck::BeforeApproval(window))).await;
        let sign_in = f.sign_in().await;
        f.provider.approve(&sign_in.user_code);
        assert_eq!(error(&f.poll_after(4, &sign_in).await), (400, "slow_down"));
        assert_eq!(f.poll_after(7, &sign_in).await.0, expected, "11 s after the device response, 7 s after the early poll: {window:?}");
    }
}

#[tokio::test]
async fn without_a_rate_check_early_polls_are_counted_all_the_same() {
    let f = start_checking(None).await;
    let sign_in = f.sign_in().await;
    assert_eq!(error(&f.poll(&sign_in).await), (400, "authorization_pending"));
    assert_eq!(f.provider.early_polls(), 1);
}

#[tokio::test]
async fn a_scripted_slow_down_raises_what_the_audit_demands() {
    let f = start_checking(None).await;
    let sign_in = f.sign_in().await;
    let with_interval = Answer::Json(400, serde_json::json!({ "error": "slow_down", "interval": 30 }));
    f.provider.script_polls(&sign_in.user_code, [Answer::error(429, "slow_down"), with_interval]);
    assert_eq!(error(&f.poll_after(5, &sign_in).await), (429, "slow_down"));
    assert_eq!(error(&f.poll_after(10, &sign_in).await), (400, "slow_down"));
    assert_eq!(f.provider.early_polls(), 0);
    f.poll_after(29, &sign_in).await;
    assert_eq!(f.provider.early_polls(), 1);
}

#[tokio::test]
async fn overlapping_polls_are_seen_and_waited_for_nothing() {
    let f = start().await;
    let sign_in = f.sign_in().await;
    f.provider.script_polls(&sign_in.user_code, [Answer::Delay(Duration::from_secs(3))]);
    f.clock.advance(Duration::from_secs(5));
    let (first, second) = tokio::join!(f.poll(&sign_in), async {
        within(f.provider.wait_for(|provider| provider.polls(&sign_in.user_code).len() == 1)).await;
        assert_eq!(f.provider.overlapping_polls(), 0);
        let second = f.poll(&sign_in).await;
        within(f.clock.sleeper(|_| true)).await;
        f.clock.tick();
        second
    });
    assert_eq!((first.0, second.0), (400, 400));
    assert_eq!(f.provider.overlapping_polls(), 1);
    assert_eq!(f.provider.gaps(&sign_in.user_code)[0], Duration::from_secs(5));
}

#[tokio::test]
async fn the_record_shows_what_was_asked_and_answered() {
    let f = start().await;
    let sign_in = f.sign_in().await;
    f.poll_after(5, &sign_in).await;
    let begun = &f.provider.exchanges(Endpoint::DeviceAuthorization)[0];
    assert_eq!(begun.user_code.as_deref(), Some(sign_in.user_code.as_str()));
    assert!(begun.params.contains(&("scope".to_owned(), "openid profile".to_owned())));
    let poll = &f.provider.polls(&sign_in.user_code)[0];
    assert_eq!(poll.outcome, Some(Outcome::Error("authorization_pending".into())));
    assert_eq!(poll.answered_at, Some(poll.at));
    assert!(!poll.authorization);
    assert_eq!(f.provider.polls(&sign_in.user_code.to_lowercase()).len(), 1, "a user code in any spelling will do");
}

#[tokio::test]
async fn counts_alone_can_be_kept() {
    let f = start_with(Options { recording: Recording::Counts, ..Options::default() }).await;
    let sign_in = f.sign_in().await;
    f.provider.approve(Codes::All);
    f.poll(&sign_in).await;
    assert_eq!(f.provider.exchanges(Endpoint::Token).len(), 0);
    let counts = f.provider.counts();
    assert_eq!((counts.device_requests, counts.token_requests, counts.grants, counts.early_polls), (1, 1, 1, 1));
    assert_eq!((f.provider.poll_count(&sign_in.user_code), f.provider.redemptions(&sign_in.user_code)), (1, 1));
}
