//! Client authentication, PKCE, and the life of tokens.

use anteroom::demo::{Endpoint, Options, Replay};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use super::*;

/// A device authorization request with an `Authorization: Basic` header and this body.
async fn begin_with_basic(f: &Fixture, credentials: &str, form: &[(&str, &str)]) -> reqwest::Response {
    let header = format!("Basic {}", STANDARD.encode(credentials));
    f.http.post(f.provider.url("/device/code")).header("authorization", header).form(form).send().await.unwrap()
}

#[tokio::test]
async fn a_basic_client_must_send_its_form_encoded_secret() {
    let f = start().await;
    let right = "basic:s3cret%2B%26%2F%C3%BC";
    assert_eq!(begin_with_basic(&f, right, &[]).await.status(), 200);
    assert_eq!(begin_with_basic(&f, right, &[("client_id", "basic")]).await.status(), 200);

    let wrong = begin_with_basic(&f, "basic:guess", &[]).await;
    assert!(wrong.headers()["www-authenticate"].to_str().unwrap().starts_with("Basic "));
    assert_eq!(error(&answered(wrong).await), (401, "invalid_client"));
    for (credentials, form, expected) in [
        ("basic:s3cret+&/ü", [("client_id", "basic")], (401, "invalid_client")),
        (right, [("client_id", "post")], (400, "invalid_request")),
        (right, [("client_secret", "s3cret")], (400, "invalid_request")),
        ("post:s3cret", [("client_id", "post")], (401, "invalid_client")),
        ("demo-tv:", [("client_id", "demo-tv")], (401, "invalid_client")),
    ] {
        assert_eq!(error(&answered(begin_with_basic(&f, credentials, &form).await).await), expected, "{credentials} {form:?}");
    }
    assert_eq!(error(&f.post("/device/code", &[("client_id", "basic")]).await), (401, "invalid_client"));
}

#[tokio::test]
async fn a_post_client_must_send_its_secret_in_every_request() {
    let f = start().await;
    let sign_in = f.sign_in_with(&[("client_id", "post"), ("client_secret", "s3cret")]).await;
    f.provider.approve(&sign_in.user_code);
    let poll = [("grant_type", DEVICE_GRANT), ("device_code", &sign_in.device_code), ("client_id", "post")];
    assert_eq!(error(&f.post("/token", &poll).await), (401, "invalid_client"));
    assert_eq!(error(&f.post("/token", &[&poll[..], &[("client_secret", "wrong")]].concat()).await), (401, "invalid_client"));
    assert_eq!(f.post("/token", &[&poll[..], &[("client_secret", "s3cret")]].concat()).await.0, 200);

    let polls = f.provider.exchanges(Endpoint::Token);
    assert!(polls[1].params.contains(&("client_secret".to_owned(), "[redacted]".to_owned())), "{:?}", polls[1].params);
}

#[tokio::test]
async fn a_code_with_a_pkce_challenge_yields_tokens_only_to_its_verifier() {
    let f = start().await;
    let verifier = "a-verifier-of-at-least-forty-three-characters";
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
    let form = [("client_id", "demo-tv"), ("code_challenge", challenge.as_str())];
    assert_eq!(error(&f.post("/device/code", &form).await), (400, "invalid_request"), "plain is not taken");

    let sign_in = f.sign_in_with(&[&form[..], &[("code_challenge_method", "S256")]].concat()).await;
    f.provider.approve(&sign_in.user_code);
    let poll = [("grant_type", DEVICE_GRANT), ("device_code", sign_in.device_code.as_str()), ("client_id", "demo-tv")];
    assert_eq!(error(&f.post("/token", &poll).await), (400, "invalid_grant"));
    assert_eq!(error(&f.post("/token", &[&poll[..], &[("code_verifier", &challenge)]].concat()).await), (400, "invalid_grant"));
    assert_eq!(f.post("/token", &[&poll[..], &[("code_verifier", verifier)]].concat()).await.0, 200);
}

#[tokio::test]
async fn a_second_redemption_kills_the_tokens_unless_told_otherwise() {
    for (replay, alive_after) in [(Replay::Revoke, 401), (Replay::Refuse, 200)] {
        let f = start_with(Options { replay, ..Options::default() }).await;
        let sign_in = f.sign_in().await;
        f.provider.approve(&sign_in.user_code);
        let (_, tokens) = f.poll_after(5, &sign_in).await;
        assert_eq!(f.userinfo(&text(&tokens, "access_token")).await, 200);
        assert_eq!(error(&f.poll_after(5, &sign_in).await), (400, "invalid_grant"));
        assert_eq!(f.userinfo(&text(&tokens, "access_token")).await, alive_after, "{replay:?}");
        assert_eq!(f.provider.redemptions(&sign_in.user_code), 2);
    }
}

#[tokio::test]
async fn of_many_concurrent_redemptions_one_wins() {
    let f = start().await;
    let sign_in = f.sign_in().await;
    f.provider.approve(&sign_in.user_code);
    let answers = futures_util::future::join_all((0..16).map(|_| f.poll(&sign_in))).await;
    assert_eq!(answers.iter().filter(|(status, _)| *status == 200).count(), 1);
    assert_eq!(f.provider.counts().grants, 1);
}

#[tokio::test]
async fn revoking_any_token_of_a_grant_ends_all_of_it() {
    let f = start().await;
    let sign_in = f.sign_in_with(&[("client_id", "demo-tv"), ("scope", "openid offline_access")]).await;
    f.provider.approve(&sign_in.user_code);
    let (_, tokens) = f.poll_after(5, &sign_in).await;
    let (access, refresh) = (text(&tokens, "access_token"), text(&tokens, "refresh_token"));

    assert_eq!(f.post("/revoke", &[("client_id", "other"), ("token", &refresh)]).await.0, 200);
    assert_eq!(f.userinfo(&access).await, 200, "another client's wish counts for nothing");
    assert_eq!(f.post("/revoke", &[("client_id", "demo-tv"), ("token", &refresh)]).await.0, 200);
    assert_eq!(f.userinfo(&access).await, 401);
    assert_eq!(f.provider.counts().revocations, 2);
}

#[tokio::test]
async fn a_refresh_token_is_exchanged_once() {
    let f = start().await;
    let sign_in = f.sign_in_with(&[("client_id", "demo-tv"), ("scope", "offline_access")]).await;
    f.provider.approve(&sign_in.user_code);
    let (_, tokens) = f.poll_after(5, &sign_in).await;
    let refresh = [("grant_type", "refresh_token"), ("client_id", "demo-tv"), ("refresh_token", &text(&tokens, "refresh_token"))];
    let (status, renewed) = f.post("/token", &refresh).await;
    assert_eq!(status, 200);
    assert_eq!(f.userinfo(&text(&renewed, "access_token")).await, 200);
    assert_eq!(f.userinfo(&text(&tokens, "access_token")).await, 401);
    assert_eq!(error(&f.post("/token", &refresh).await), (400, "invalid_grant"));
}

#[tokio::test]
async fn an_access_token_expires() {
    let f = start().await;
    let sign_in = f.sign_in().await;
    f.provider.approve(&sign_in.user_code);
    let (_, tokens) = f.poll_after(5, &sign_in).await;
    f.clock.advance(Duration::from_secs(3599));
    assert_eq!(f.userinfo(&text(&tokens, "access_token")).await, 200);
    f.clock.advance(Duration::from_secs(1));
    assert_eq!(f.userinfo(&text(&tokens, "access_token")).await, 401);
}
