//! How sign-ins end: in the last moment, too late, lost, or because their owner had enough.

use std::time::Duration;

use anteroom::clock::Clock;
use anteroom::demo::{AfterExpiry, Answer, Options};
use anteroom::kernel::session::Status;
use anteroom::kernel::time::Timestamp;
use anteroom::kernel::verdict::Failure;
use secrecy::ExposeSecret;

use crate::rig::{Rig, Setup, SignIn, TERMS, eventually, within};

fn expires_at(rig: &Rig, sign_in: &SignIn) -> Timestamp {
    rig.session(sign_in).prompt().unwrap().expires_at
}

/// Polls until the session waits for its last poll.
async fn poll_until_the_last(rig: &Rig, sign_in: &SignIn) {
    while rig.due(sign_in) < expires_at(rig, sign_in) {
        rig.poll(sign_in).await;
    }
}

#[tokio::test]
async fn an_approval_200_ms_before_expiry_is_not_missed() {
    let options = Options { expires_in: 30, redeems_late: true, ..Options::default() };
    let rig = Rig::with_options(options).await;
    let sign_in = rig.begin().await;
    poll_until_the_last(&rig, &sign_in).await;
    rig.clock.advance_to(expires_at(&rig, &sign_in) - Duration::from_millis(200));
    assert_eq!(rig.provider.approve(&sign_in.user_code), 1);
    rig.poll(&sign_in).await;
    assert_eq!((rig.status(&sign_in), rig.provider.early_polls()), (Status::Authorized, 0));
}

#[tokio::test]
async fn a_provider_that_says_pending_for_ever_is_asked_exactly_once_after_expiry() {
    let rig = Rig::with_options(Options { expires_in: 30, after_expiry: AfterExpiry::Pending, ..Options::default() }).await;
    let sign_in = rig.begin().await;
    let expiry = expires_at(&rig, &sign_in);
    while rig.status(&sign_in) == Status::Pending {
        rig.poll(&sign_in).await;
    }
    assert_eq!(rig.status(&sign_in), Status::Expired);
    let polls = rig.provider.polls(&sign_in.user_code);
    let late = polls.iter().filter(|poll| poll.at >= expiry).count();
    assert_eq!((late, rig.clock.now().since(expiry) <= Duration::from_millis(6_600)), (1, true));
    // Whatever is due now or soon has passed when another session has been polled twice.
    let other = rig.begin().await;
    rig.polls(2, &other).await;
    assert_eq!(rig.provider.polls(&sign_in.user_code).len(), polls.len());
}

#[tokio::test]
async fn a_failure_of_the_last_poll_is_an_expiry() {
    for fault in [Answer::Reset, Answer::text(503, "busy"), Answer::error(400, "slow_down"), Answer::error(400, "expired_token")] {
        let rig = Rig::with_options(Options { expires_in: 30, ..Options::default() }).await;
        let sign_in = rig.begin().await;
        poll_until_the_last(&rig, &sign_in).await;
        rig.provider.script_polls(&sign_in.user_code, [fault.clone()]);
        rig.poll(&sign_in).await;
        assert_eq!(rig.status(&sign_in), Status::Expired, "{fault:?}");
    }
}

#[tokio::test]
async fn a_dead_code_is_an_expiry_after_the_expiry_and_a_rejection_before() {
    let rig = Rig::with_options(Options { expires_in: 30, after_expiry: AfterExpiry::InvalidGrant, ..Options::default() }).await;
    let (early, late) = (rig.begin().await, rig.begin().await);
    rig.provider.script_polls(&early.user_code, [Answer::error(400, "invalid_grant")]);
    rig.poll(&early).await;
    assert_eq!(rig.failure(&early), Some(Failure::ProviderRejected));
    rig.rest(&late).await;
    poll_until_the_last(&rig, &late).await;
    rig.poll(&late).await;
    assert_eq!(rig.status(&late), Status::Expired);
}

#[tokio::test]
async fn a_reply_that_was_lost_after_the_tokens_were_issued_is_a_lost_grant_and_no_denial() {
    for lost in [Answer::DropReply, Answer::ResetReply, Answer::HalfBody] {
        let rig = Rig::start().await;
        let sign_in = rig.begin().await;
        rig.provider.approve(&sign_in.user_code);
        rig.provider.script_polls(&sign_in.user_code, [lost.clone()]);
        rig.poll(&sign_in).await;
        assert_eq!(rig.status(&sign_in), Status::Pending, "{lost:?}");
        rig.poll(&sign_in).await;
        assert_eq!(rig.failure(&sign_in), Some(Failure::GrantLost), "{lost:?}");
        assert_eq!(rig.provider.redemptions(&sign_in.user_code), 2);
    }
}

#[tokio::test]
async fn a_lost_reply_that_issued_nothing_loses_nothing() {
    let rig = Rig::start().await;
    let sign_in = rig.begin().await;
    rig.provider.script_polls(&sign_in.user_code, [Answer::DropReply]);
    rig.poll(&sign_in).await;
    rig.provider.approve(&sign_in.user_code);
    rig.poll(&sign_in).await;
    assert_eq!((rig.status(&sign_in), rig.provider.redemptions(&sign_in.user_code)), (Status::Authorized, 1));
}

#[tokio::test]
async fn tokens_that_come_after_the_cancel_are_revoked() {
    let rig = Rig::start().await;
    let sign_in = rig.begin().await;
    rig.provider.approve(&sign_in.user_code);
    rig.provider.script_polls(&sign_in.user_code, [Answer::LateReply(Duration::from_secs(3))]);
    rig.set_off(&sign_in).await;
    within(rig.provider.wait_for(|provider| provider.redemptions(&sign_in.user_code) == 1)).await;
    rig.sessions.cancel(sign_in.id).await.unwrap();
    assert_eq!(rig.status(&sign_in), Status::Cancelled);
    let answered = rig.clock.now() + Duration::from_secs(3);
    rig.advance_to_sleeper(answered).await;
    within(rig.provider.wait_for(|provider| provider.counts().revocations == 1)).await;
    assert_eq!(rig.status(&sign_in), Status::Cancelled);
}

#[tokio::test]
async fn the_tokens_of_a_cancelled_session_are_revoked_until_the_provider_takes_it() {
    let rig = Rig::start().await;
    let sign_in = rig.begin().await;
    rig.provider.approve(&sign_in.user_code);
    rig.poll(&sign_in).await;
    rig.provider.script(anteroom::demo::Endpoint::Revocation, [Answer::text(503, "busy")]);
    rig.sessions.cancel(sign_in.id).await.unwrap();
    within(rig.provider.wait_for(|provider| provider.counts().revocations == 1)).await;
    let again = rig.clock.now() + Duration::from_secs(30);
    eventually("it is to be tried again", || rig.session(&sign_in).due(&TERMS).is_some_and(|(at, _)| at == again)).await;
    rig.clock.advance_to(again);
    within(rig.provider.wait_for(|provider| provider.counts().revocations == 2)).await;
    assert_eq!(rig.status(&sign_in), Status::Cancelled);
}

#[tokio::test]
async fn tokens_that_nobody_claims_are_revoked_and_the_session_expires() {
    let rig = Rig::start().await;
    let sign_in = rig.begin().await;
    rig.provider.approve(&sign_in.user_code);
    rig.poll(&sign_in).await;
    assert_eq!(rig.status(&sign_in), Status::Authorized);
    rig.clock.advance(TERMS.claim_ttl);
    eventually("it expires", || rig.status(&sign_in) == Status::Expired).await;
    within(rig.provider.wait_for(|provider| provider.counts().revocations == 1)).await;
}

#[tokio::test]
async fn pkce_proves_that_the_poll_is_ours() {
    let rig = Rig::with(Setup { pkce: true, ..Setup::default() }).await;
    let sign_in = rig.begin().await;
    rig.poll(&sign_in).await;
    rig.provider.approve(&sign_in.user_code);
    rig.poll(&sign_in).await;
    let grant = rig.sessions.claim(sign_in.id, None).await.unwrap();
    assert!(!grant.access_token.expose_secret().is_empty());
    let has = |endpoint, name: &str| {
        let exchanges = rig.provider.exchanges(endpoint);
        exchanges.iter().all(|exchange| exchange.params.iter().any(|(param, _)| param == name))
    };
    assert!(has(anteroom::demo::Endpoint::DeviceAuthorization, "code_challenge"));
    assert!(has(anteroom::demo::Endpoint::Token, "code_verifier"));
}

#[tokio::test]
async fn a_denial_and_an_expiry_are_told_apart() {
    let rig = Rig::with_options(Options { expires_in: 30, ..Options::default() }).await;
    let (denied, expired) = (rig.begin().await, rig.begin().await);
    rig.provider.deny(&denied.user_code);
    rig.poll(&denied).await;
    assert_eq!(rig.status(&denied), Status::Denied);
    rig.rest(&expired).await;
    poll_until_the_last(&rig, &expired).await;
    rig.poll(&expired).await;
    assert_eq!(rig.status(&expired), Status::Expired);
}
