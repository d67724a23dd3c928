//! Answers that are none, half ones, and ones that mean something else than they seem to.

use std::time::Duration;

use anteroom::clock::Clock;
use anteroom::demo::{Answer, DevProvider, Endpoint, Options};
use anteroom::kernel::session::Status;
use anteroom::kernel::verdict::Failure;
use anteroom::provider::exchange::Patience;
use secrecy::ExposeSecret;
use serde_json::json;

use crate::rig::{Rig, Setup, within};

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn raw(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Answer::Raw { status, headers, body: body.as_bytes().to_vec() }
}

#[tokio::test]
async fn a_sign_in_survives_every_fault_of_the_line_and_its_provider_counts_as_unreachable_meanwhile() {
    let patience = Patience { total: Duration::from_millis(300), ..Patience::default() };
    let rig = Rig::with(Setup { patience, ..Setup::default() }).await;
    let sign_in = rig.begin().await;
    let faults = [
        Answer::Reset,
        Answer::CloseWithoutAnswer,
        Answer::Stall,
        Answer::HalfBody,
        Answer::SlowBody(secs(1)),
        Answer::text(502, "<html><h1>502 Bad Gateway</h1>"),
        Answer::text(403, "<html>Attention Required!"),
        raw(429, &[], ""),
        Answer::EndlessBody(u64::MAX),
        Answer::text(200, "<html>Welcome to the hotel's network"),
    ];
    for (failures, fault) in (1..).zip(faults) {
        rig.provider.script_polls(&sign_in.user_code, [fault.clone()]);
        let before = rig.clock.now();
        rig.poll(&sign_in).await;
        assert_eq!((rig.status(&sign_in), rig.session(&sign_in).provider_reachable()), (Status::Pending, failures < 3), "{fault:?}");
        let wait = rig.due(&sign_in).since(rig.clock.now());
        let back_off = secs(5 * 2_u64.pow(failures)).min(secs(60));
        assert!(back_off <= wait && wait <= back_off * 11 / 10, "{fault:?}: {wait:?}");
        assert!(rig.clock.now() > before);
        // Some ends the provider notices only when we have hung up; then its wait begins.
        within(rig.provider.wait_for(|provider| provider.polls(&sign_in.user_code).iter().all(|poll| poll.answered_at.is_some()))).await;
    }
    rig.poll(&sign_in).await;
    assert!(rig.session(&sign_in).provider_reachable());
    assert!(rig.due(&sign_in).since(rig.clock.now()) < secs(7), "back to the interval");
    rig.provider.approve(&sign_in.user_code);
    rig.poll(&sign_in).await;
    assert_eq!((rig.status(&sign_in), rig.provider.early_polls(), rig.crashes(&sign_in)), (Status::Authorized, 0, 0));
}

#[tokio::test]
async fn a_503_is_believed_when_it_says_until_when() {
    let rig = Rig::start().await;
    let sign_in = rig.begin().await;
    let back_at = std::time::UNIX_EPOCH + Duration::from_millis(rig.due(&sign_in).as_millis()) + secs(100);
    let date = httpdate::fmt_http_date(back_at);
    rig.provider.script_polls(&sign_in.user_code, [raw(503, &[("retry-after", &date)], "busy")]);
    rig.poll(&sign_in).await;
    let wait = rig.due(&sign_in).since(rig.clock.now());
    assert!(secs(99) <= wait && wait <= secs(111), "{wait:?}");
    rig.poll(&sign_in).await;
    assert_eq!(rig.status(&sign_in), Status::Pending);
}

#[tokio::test]
async fn endless_nonsense_fails_the_session_in_the_end() {
    for (status, borne) in [(200, 6), (404, 3)] {
        // Each has a provider of its own: what one of them takes for an outage keeps the other waiting.
        let rig = Rig::start().await;
        let sign_in = rig.begin().await;
        rig.provider.script_polls(&sign_in.user_code, (0..borne).map(|_| Answer::text(status, "<html>")));
        while rig.status(&sign_in) == Status::Pending {
            rig.poll(&sign_in).await;
        }
        assert_eq!((rig.failure(&sign_in), rig.provider.poll_count(&sign_in.user_code)), (Some(Failure::ProviderInvalidResponse), borne));
    }
}

#[tokio::test]
async fn a_redirect_ends_the_sign_in_and_the_other_host_sees_nothing() {
    for status in [301, 302, 307, 308] {
        let rig = Rig::start().await;
        let elsewhere = DevProvider::start(([127, 0, 0, 1], 0).into(), Options::default(), rig.sessions.clock().clone()).await.unwrap();
        let sign_in = rig.begin().await;
        rig.provider.script_polls(&sign_in.user_code, [raw(status, &[("location", &elsewhere.url("/token"))], "")]);
        rig.poll(&sign_in).await;
        assert_eq!(rig.failure(&sign_in), Some(Failure::ProviderInvalidResponse), "{status}");
        assert_eq!(elsewhere.counts().connections, 0, "{status}");
    }
}

#[tokio::test]
async fn a_form_encoded_reply_is_understood() {
    let rig = Rig::start().await;
    let sign_in = rig.begin().await;
    let form = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
    let answers = [
        raw(200, &form, "error=authorization_pending&error_description=not+yet&interval=5"),
        raw(200, &form, "access_token=gho_16C7e42F292c6912E7&scope=repo%2Cgist&token_type=bearer"),
    ];
    rig.provider.script_polls(&sign_in.user_code, answers);
    rig.poll(&sign_in).await;
    assert_eq!(rig.status(&sign_in), Status::Pending);
    rig.poll(&sign_in).await;
    let grant = rig.sessions.claim(sign_in.id, None).await.unwrap();
    assert_eq!((grant.access_token.expose_secret(), &*grant.token_type), ("gho_16C7e42F292c6912E7", "bearer"));
    assert_eq!(grant.scope.as_deref(), Some("repo gist"));
}

#[tokio::test]
async fn entra_s_loop_detection_is_no_dead_code() {
    let rig = Rig::start().await;
    let sign_in = rig.begin().await;
    let looping = json!({ "error": "invalid_grant", "error_codes": [50196], "error_description": "AADSTS50196: a client request loop" });
    rig.provider.script_polls(&sign_in.user_code, [Answer::Json(400, looping)]);
    rig.provider.approve(&sign_in.user_code);
    rig.poll(&sign_in).await;
    assert_eq!(rig.status(&sign_in), Status::Pending);
    rig.poll(&sign_in).await;
    assert_eq!(rig.status(&sign_in), Status::Authorized);
    assert!(rig.provider.gaps(&sign_in.user_code)[1] >= secs(60));
}

#[tokio::test]
async fn an_answer_without_a_token_and_one_with_a_strange_token_are_no_grant() {
    for body in [json!({}), json!({ "access_token": {} }), json!({ "access_token": "" }), json!({ "token_type": "Bearer" })] {
        let rig = Rig::start().await;
        let sign_in = rig.begin().await;
        rig.provider.script_polls(&sign_in.user_code, [Answer::Json(200, body)]);
        rig.poll(&sign_in).await;
        assert_eq!(rig.status(&sign_in), Status::Pending);
    }
}

#[tokio::test]
async fn an_unknown_error_code_stops_the_polling() {
    let rig = Rig::start().await;
    let sign_in = rig.begin().await;
    rig.provider.script_polls(&sign_in.user_code, [Answer::error(400, "the_moon_is_full")]);
    rig.poll(&sign_in).await;
    assert_eq!(rig.failure(&sign_in), Some(Failure::ProviderRejected));
    assert_eq!(rig.provider.exchanges(Endpoint::Token).len(), 1);
}
