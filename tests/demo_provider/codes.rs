//! Device authorization, polling and the person's decision.

use anteroom::demo::{AfterExpiry, Codes, Options};
use std::time::Duration;

use super::*;

#[tokio::test]
async fn both_discovery_documents_name_the_endpoints() {
    let f = start().await;
    for path in ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"] {
        let (status, body) = answered(f.http.get(f.provider.url(path)).send().await.unwrap()).await;
        assert_eq!(status, 200);
        assert_eq!(body["issuer"], f.provider.issuer());
        assert_eq!(body["device_authorization_endpoint"], f.provider.url("/device/code"));
        assert_eq!(body["token_endpoint"], f.provider.url("/token"));
        assert_eq!(body["revocation_endpoint"], f.provider.url("/revoke"));
    }
}

#[tokio::test]
async fn a_sign_in_goes_from_pending_to_tokens_once_approved() {
    let f = start().await;
    let (_, body) = f.post("/device/code", &[("client_id", "demo-tv"), ("scope", "openid")]).await;
    assert_eq!(body["interval"], 5);
    assert_eq!(body["expires_in"], 600);
    assert_eq!(body["verification_uri"], f.provider.url("/device"));
    let user_code = text(&body, "user_code");
    assert_eq!(body["verification_uri_complete"], f.provider.url(&format!("/device?user_code={user_code}")));
    let well_formed = user_code.bytes().enumerate().all(|(i, b)| if i == 4 { b == b'-' } else { b"BCDFGHJKLMNPQRSTVWXZ".contains(&b) });
    assert!(user_code.len() == 9 && well_formed, "{user_code}");

    let sign_in = SignIn { device_code: text(&body, "device_code"), user_code };
    assert_eq!(error(&f.poll_after(5, &sign_in).await), (400, "authorization_pending"));
    assert_eq!(f.provider.approve(&sign_in.user_code), 1);
    let (status, tokens) = f.poll_after(5, &sign_in).await;
    assert_eq!((status, &tokens["token_type"], &tokens["scope"]), (200, &"Bearer".into(), &"openid".into()));
    assert!(tokens["id_token"].is_string());
    assert_eq!(f.userinfo(&text(&tokens, "access_token")).await, 200);
    assert_eq!(f.provider.redemptions(&sign_in.user_code), 1);
}

#[tokio::test]
async fn a_denied_sign_in_is_refused_and_cannot_be_approved_any_more() {
    let f = start().await;
    let sign_in = f.sign_in().await;
    assert_eq!(f.provider.deny(&sign_in.user_code), 1);
    assert_eq!(f.provider.approve(&sign_in.user_code), 0);
    assert_eq!(error(&f.poll_after(5, &sign_in).await), (400, "access_denied"));
}

#[tokio::test]
async fn a_code_expires_on_the_providers_clock() {
    let f = start().await;
    let sign_in = f.sign_in().await;
    assert_eq!(error(&f.poll_after(599, &sign_in).await), (400, "authorization_pending"));
    f.clock.advance(Duration::from_secs(1));
    assert_eq!(f.provider.approve(&sign_in.user_code), 0, "nobody approves an expired code");
    assert_eq!(error(&f.poll(&sign_in).await), (400, "expired_token"));
}

#[tokio::test]
async fn expiry_can_be_brought_forward_but_not_back() {
    let f = start().await;
    let sign_in = f.sign_in().await;
    f.provider.expire_soon(&sign_in.user_code, Duration::from_secs(10));
    f.provider.expire_soon(&sign_in.user_code, Duration::from_secs(100));
    assert_eq!(error(&f.poll_after(9, &sign_in).await), (400, "authorization_pending"));
    assert_eq!(error(&f.poll_after(5, &sign_in).await), (400, "expired_token"));
}

#[tokio::test]
async fn what_follows_expiry_is_an_option() {
    for (after_expiry, expected) in [(AfterExpiry::InvalidGrant, "invalid_grant"), (AfterExpiry::Pending, "authorization_pending")] {
        let f = start_with(Options { after_expiry, ..Options::default() }).await;
        let sign_in = f.sign_in().await;
        assert_eq!(error(&f.poll_after(700, &sign_in).await), (400, expected));
    }
    for (redeems_late, expected) in [(true, 200), (false, 400)] {
        let f = start_with(Options { redeems_late, ..Options::default() }).await;
        let sign_in = f.sign_in().await;
        f.provider.approve(Codes::All);
        assert_eq!(f.poll_after(700, &sign_in).await.0, expected);
    }
}

#[tokio::test]
async fn the_statuses_of_other_providers_can_be_imitated() {
    let f = start_with(Options { pending_status: 428, slow_down_status: 403, interval: None, ..Options::default() }).await;
    let (_, body) = f.post("/device/code", &[("client_id", "demo-tv")]).await;
    assert_eq!(body.get("interval"), None);
    let sign_in = SignIn { device_code: text(&body, "device_code"), user_code: text(&body, "user_code") };
    assert_eq!(error(&f.poll_after(5, &sign_in).await), (428, "authorization_pending"));
    assert_eq!(error(&f.poll_after(4, &sign_in).await), (403, "slow_down"));
    f.provider.configure(|options| options.pending_status = 200);
    assert_eq!(error(&f.poll_after(10, &sign_in).await), (200, "authorization_pending"));
}

#[tokio::test]
async fn new_codes_can_be_approved_without_people() {
    let f = start_with(Options { approve_at_poll: Some(2), ..Options::default() }).await;
    let sign_in = f.sign_in().await;
    assert_eq!(f.poll_after(5, &sign_in).await.0, 400);
    assert_eq!(f.poll_after(5, &sign_in).await.0, 200);
}

#[tokio::test]
async fn malformed_requests_are_named() {
    let f = start().await;
    let sign_in = f.sign_in().await;
    let code = sign_in.device_code.as_str();
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], (u16, &'a str));
    let cases: &[Case] = &[
        ("/device/code", &[], (400, "invalid_request")),
        ("/device/code", &[("client_id", "nobody")], (401, "invalid_client")),
        ("/device/code", &[("client_id", "demo-tv"), ("scope", "a\"b")], (400, "invalid_scope")),
        ("/device/code", &[("client_id", "demo-tv"), ("scope", "a"), ("scope", "b")], (400, "invalid_request")),
        ("/device/code", &[("client_id", "demo-tv"), ("resource", "https://a.test"), ("resource", "https://b.test")], (200, "")),
        ("/token", &[("client_id", "demo-tv"), ("device_code", code)], (400, "invalid_request")),
        ("/token", &[("client_id", "demo-tv"), ("grant_type", "password")], (400, "unsupported_grant_type")),
        ("/token", &[("client_id", "demo-tv"), ("grant_type", DEVICE_GRANT)], (400, "invalid_request")),
        ("/token", &[("client_id", "demo-tv"), ("grant_type", DEVICE_GRANT), ("device_code", "x")], (400, "invalid_grant")),
        ("/token", &[("client_id", "other"), ("grant_type", DEVICE_GRANT), ("device_code", code)], (400, "invalid_grant")),
        ("/revoke", &[("client_id", "demo-tv")], (400, "invalid_request")),
        ("/revoke", &[("client_id", "demo-tv"), ("token", "unknown")], (200, "")),
    ];
    for (path, form, expected) in cases {
        assert_eq!(error(&f.post(path, form).await), *expected, "{path} {form:?}");
    }
    let json = f.http.post(f.provider.url("/device/code")).header("content-type", "application/json").body("{}").send().await.unwrap();
    assert_eq!(error(&answered(json).await), (400, "invalid_request"));
}

#[tokio::test]
async fn it_listens_on_loopback_only_and_frees_its_port_when_stopped() {
    let clock = ManualClock::default();
    let refused = DevProvider::start(([0, 0, 0, 0], 0).into(), Options::default(), clock.as_clock()).await;
    assert!(refused.is_err_and(|error| error.to_string().contains("loopback")));

    let f = start().await;
    let address = f.provider.issuer().trim_start_matches("http://").parse().unwrap();
    f.sign_in().await;
    within(f.provider.stop()).await;
    within(DevProvider::start(address, Options::default(), clock.as_clock())).await.unwrap();
}
