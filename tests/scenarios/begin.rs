//! What a device authorization response may say.

use std::time::Duration;

use anteroom::clock::Clock;
use anteroom::demo::{Answer, Endpoint, Options};
use anteroom::kernel::session::Status;
use anteroom::kernel::verdict::Failure;
use anteroom::sessions::CreateError;
use serde_json::{Value, json};

use crate::rig::{Rig, SignIn, eventually};

/// Begins a sign-in with one member of the answer changed; null leaves it as null, `None` out.
async fn begin_with(rig: &Rig, member: &'static str, value: Option<Value>) -> Result<SignIn, CreateError> {
    let change = Answer::edit(move |body| {
        body.remove(member);
        body.extend(value.clone().map(|value| (member.to_owned(), value)));
    });
    rig.provider.script(Endpoint::DeviceAuthorization, [change]);
    rig.try_begin(None).await
}

#[tokio::test]
async fn an_interval_is_read_as_it_comes_and_never_as_less_than_it_says() {
    let rig = Rig::start().await;
    let cases = [
        (Some(json!(5)), 5),
        (Some(json!("5")), 5),
        (Some(json!(5.0)), 5),
        (Some(json!(null)), 5),
        (Some(json!(0)), 5),
        (Some(json!(-3)), 5),
        (Some(json!("soon")), 5),
        (None, 5),
        (Some(json!(0.5)), 1),
        (Some(json!(7.2)), 8),
        (Some(json!(60)), 60),
    ];
    for (value, seconds) in cases {
        let sign_in = begin_with(&rig, "interval", value.clone()).await.unwrap();
        let wait = rig.due(&sign_in).since(rig.clock.now());
        let least = Duration::from_secs(seconds) * 6 / 5;
        assert!(least <= wait && wait <= least * 11 / 10, "{value:?}: {wait:?}");
    }
}

#[tokio::test]
async fn an_interval_beyond_all_bounds_is_kept_and_the_session_expires_unasked() {
    let rig = Rig::start().await;
    for value in [json!(1_000_000_000), json!(u64::MAX), json!(1e300)] {
        let sign_in = begin_with(&rig, "interval", Some(value.clone())).await.unwrap();
        rig.clock.advance_to(rig.session(&sign_in).prompt().unwrap().expires_at);
        eventually("it expires", || rig.status(&sign_in) == Status::Expired).await;
        assert_eq!(rig.provider.poll_count(&sign_in.user_code), 0, "{value}");
    }
}

#[tokio::test]
async fn a_lifetime_is_read_as_it_comes_and_kept_within_reason() {
    const DAY: u64 = 24 * 3600;
    let rig = Rig::with_options(Options { interval: Some(1), ..Options::default() }).await;
    let cases = [
        (Some(json!("900")), 900),
        (Some(json!(900.0)), 900),
        (None, 1800),
        (Some(json!(null)), 1800),
        (Some(json!(3)), 3),
        (Some(json!(14.9)), 14),
        (Some(json!(0)), 1),
        (Some(json!(-1)), 1),
        (Some(json!(u64::MAX)), DAY),
    ];
    for (value, seconds) in cases {
        let sign_in = begin_with(&rig, "expires_in", value.clone()).await.unwrap();
        let lifetime = rig.session(&sign_in).prompt().unwrap().expires_at.since(rig.clock.now());
        assert_eq!(lifetime, Duration::from_secs(seconds), "{value:?}");
    }
    let unreadable = begin_with(&rig, "expires_in", Some(json!("a while"))).await;
    assert_eq!(unreadable.unwrap_err(), CreateError::Failed(Failure::ProviderInvalidResponse));
}

#[tokio::test]
async fn a_code_that_lives_no_longer_than_the_interval_has_its_last_poll_all_the_same() {
    let rig = Rig::start().await;
    for seconds in [1, 3, 6, 14] {
        let sign_in = begin_with(&rig, "expires_in", Some(json!(seconds))).await.unwrap();
        rig.provider.approve(&sign_in.user_code);
        while rig.status(&sign_in) == Status::Pending {
            rig.poll(&sign_in).await;
        }
        assert_eq!(rig.status(&sign_in), Status::Authorized, "{seconds}");
    }
    assert_eq!(rig.provider.early_polls(), 0);
}

#[tokio::test]
async fn a_code_that_is_over_before_it_could_be_shown_is_shown_to_nobody() {
    let rig = Rig::with_options(Options { expires_in: 2, ..Options::default() }).await;
    rig.provider.script(Endpoint::DeviceAuthorization, [Answer::LateReply(Duration::from_secs(3))]);
    let sent_at = rig.clock.now();
    let (begun, ()) = tokio::join!(rig.try_begin(None), rig.advance_to_sleeper(sent_at + Duration::from_secs(3)));
    assert_eq!(begun.unwrap_err(), CreateError::Failed(Failure::ProviderTimeout));
    assert_eq!((rig.sessions.live(), rig.sessions.all().len()), (0, 0));
}

#[tokio::test]
async fn both_spellings_of_the_verification_uri_will_do() {
    let rig = Rig::start().await;
    let google = Answer::edit(|body| {
        let uri = body.remove("verification_uri").unwrap();
        body.insert("verification_url".into(), uri);
    });
    rig.provider.script(Endpoint::DeviceAuthorization, [Answer::Normal, google]);
    let (standard, other) = (rig.begin().await, rig.begin().await);
    let uri = |sign_in| rig.session(sign_in).prompt().unwrap().verification_uri.to_string();
    assert_eq!((uri(&standard), uri(&other)), (rig.provider.url("/device"), rig.provider.url("/device")));
}

#[tokio::test]
async fn what_people_must_not_be_shown_ends_the_sign_in_before_it_begins() {
    let rig = Rig::start().await;
    let unsafe_uris =
        ["javascript:alert(1)", "https://id.test/\u{1b}[2J", "https://user@id.test/", "http://id.test/", "data:text/html,x", ""];
    for uri in unsafe_uris {
        let begun = begin_with(&rig, "verification_uri", Some(json!(uri))).await;
        assert_eq!(begun.unwrap_err(), CreateError::Failed(Failure::ProviderInvalidResponse), "{uri:?}");
    }
    for uri in &unsafe_uris[..5] {
        let begun = begin_with(&rig, "verification_uri_complete", Some(json!(uri))).await;
        assert_eq!(begun.unwrap_err(), CreateError::Failed(Failure::ProviderInvalidResponse), "{uri:?}");
    }
    for code in ["\u{1b}[2J", "AB\u{202e}CD", "", "A\nB"] {
        let begun = begin_with(&rig, "user_code", Some(json!(code))).await;
        assert_eq!(begun.unwrap_err(), CreateError::Failed(Failure::ProviderInvalidResponse), "{code:?}");
    }
    assert_eq!((rig.sessions.live(), rig.sessions.all().len()), (0, 0));
}

#[tokio::test]
async fn a_device_answer_that_never_ends_or_goes_elsewhere_is_invalid() {
    let rig = Rig::start().await;
    let redirect = Answer::Raw { status: 307, headers: vec![("location".into(), rig.provider.url("/device/code"))], body: Vec::new() };
    for answer in [Answer::EndlessBody(u64::MAX), redirect, Answer::text(200, "<html>"), Answer::Json(200, json!({}))] {
        rig.provider.script(Endpoint::DeviceAuthorization, [answer.clone()]);
        let begun = rig.try_begin(None).await;
        assert_eq!(begun.unwrap_err(), CreateError::Failed(Failure::ProviderInvalidResponse), "{answer:?}");
    }
    assert_eq!(rig.provider.counts().device_requests, 4, "nothing was repeated or followed");
}

#[tokio::test]
async fn a_provider_that_demands_pkce_rejects_a_client_without() {
    let rig = Rig::start().await;
    let keycloak = json!({ "error": "invalid_request", "error_description": "Missing parameter: code_challenge_method" });
    rig.provider.script(Endpoint::DeviceAuthorization, [Answer::Json(400, keycloak)]);
    assert_eq!(rig.try_begin(None).await.unwrap_err(), CreateError::Failed(Failure::ProviderRejected));
}
