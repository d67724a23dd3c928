//! What the providers do when a bare device asks them: the ground that the tests of the product stand on.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;

use super::real_provider::{Client, RealProvider, Software};
use super::start;

const BOTH: [Software; 2] = [Software::OidcProvider, Software::BetterAuth];

#[tokio::test]
async fn an_approved_code_gives_tokens_that_work() {
    for software in BOTH {
        let Some(provider) = start(software).await else { return };
        assert_eq!(provider.endpoint("issuer"), provider.issuer());
        for name in ["public", "basic", "post"] {
            let device = Device::begin(&provider, provider.client(name)).await;
            assert_eq!(device.poll().await.error(), "authorization_pending");
            provider.approve(&device.user_code, &device.verification_uri).await;
            let tokens = device.settle().await.tokens();
            assert_eq!(provider.userinfo(&tokens.access).await, StatusCode::OK);
            assert_eq!(provider.refresh(device.client, &tokens.refresh).await, StatusCode::OK);
        }
    }
}

#[tokio::test]
async fn a_refused_code_is_denied() {
    for software in BOTH {
        let Some(provider) = start(software).await else { return };
        let device = Device::begin(&provider, provider.client("public")).await;
        provider.deny(&device.user_code, &device.verification_uri).await;
        assert_eq!(device.settle().await.error(), "access_denied");
    }
}

#[tokio::test]
async fn a_refused_consent_is_denied() {
    let Some(provider) = start(Software::OidcProvider).await else { return };
    let device = Device::begin(&provider, provider.client("public")).await;
    provider.deny_at_consent(&device.user_code, &device.verification_uri).await;
    assert_eq!(device.settle().await.error(), "access_denied");
}

#[tokio::test]
async fn a_code_that_nobody_approves_expires() {
    let Some(short_client) = RealProvider::start(Software::OidcProvider, &["--expires-in=1"]).await else { return };
    let Some(short_for_all) = RealProvider::start(Software::BetterAuth, &["--interval=1", "--expires-in=1"]).await else { return };
    for (provider, client) in [(&short_client, "short"), (&short_for_all, "public")] {
        let device = Device::begin(provider, provider.client(client)).await;
        assert_eq!(device.settle().await.error(), "expired_token");
    }
}

#[tokio::test]
async fn a_second_redemption_kills_the_tokens_of_oidc_provider() {
    let Some(provider) = start(Software::OidcProvider).await else { return };
    let device = Device::begin(&provider, provider.client("public")).await;
    provider.approve(&device.user_code, &device.verification_uri).await;
    let tokens = device.settle().await.tokens();
    assert_eq!(provider.userinfo(&tokens.access).await, StatusCode::OK);

    assert_eq!(device.poll().await.error(), "invalid_grant");
    assert_eq!(provider.userinfo(&tokens.access).await, StatusCode::UNAUTHORIZED);
    assert_eq!(provider.refresh(device.client, &tokens.refresh).await, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_second_redemption_leaves_the_tokens_of_better_auth_alone() {
    let Some(provider) = start(Software::BetterAuth).await else { return };
    let device = Device::begin(&provider, provider.client("public")).await;
    provider.approve(&device.user_code, &device.verification_uri).await;
    let tokens = device.settle().await.tokens();

    assert_eq!(device.poll().await.error(), "invalid_grant");
    assert_eq!(provider.userinfo(&tokens.access).await, StatusCode::OK);
}

#[tokio::test]
async fn better_auth_tells_a_hasty_device_to_slow_down() {
    let Some(provider) = RealProvider::start(Software::BetterAuth, &["--interval=60"]).await else { return };
    let device = Device::begin(&provider, provider.client("public")).await;
    assert_eq!(device.interval, Some(60));
    assert_eq!(device.poll().await.error(), "authorization_pending");
    assert_eq!(device.poll().await.error(), "slow_down");
}

#[tokio::test]
async fn oidc_provider_names_no_interval() {
    let Some(provider) = start(Software::OidcProvider).await else { return };
    assert_eq!(Device::begin(&provider, provider.client("public")).await.interval, None);
}

#[tokio::test]
async fn a_client_without_the_device_grant_gets_no_code() {
    for (software, error) in [(Software::OidcProvider, "invalid_request"), (Software::BetterAuth, "unauthorized_client")] {
        let Some(provider) = start(software).await else { return };
        let response = provider.post(provider.client("no_device"), "device_authorization_endpoint", &[("scope", "openid")]).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(json(response).await["error"], error);
    }
}

/// A bare RFC 8628 device that minds no pace.
struct Device<'a> {
    provider: &'a RealProvider,
    client: &'a Client,
    device_code: String,
    user_code: String,
    verification_uri: String,
    interval: Option<u64>,
}

impl<'a> Device<'a> {
    async fn begin(provider: &'a RealProvider, client: &'a Client) -> Self {
        let response = provider.post(client, "device_authorization_endpoint", &[("scope", "openid offline_access")]).await;
        assert_eq!(response.status(), StatusCode::OK);
        let answer = json(response).await;
        let interval = answer.get("interval").map(|seconds| seconds.as_u64().unwrap());
        let text = |member: &str| answer[member].as_str().unwrap().to_owned();
        let (device_code, user_code, verification_uri) = (text("device_code"), text("user_code"), text("verification_uri"));
        Self { provider, client, device_code, user_code, verification_uri, interval }
    }

    async fn poll(&self) -> Polled {
        let form = [("grant_type", "urn:ietf:params:oauth:grant-type:device_code"), ("device_code", &self.device_code)];
        let response = self.provider.post(self.client, "token_endpoint", &form).await;
        Polled { status: response.status(), body: json(response).await }
    }

    /// Polls until the provider says something else than to wait.
    async fn settle(&self) -> Polled {
        let settled = async {
            let mut tick = tokio::time::interval(Duration::from_millis(100));
            loop {
                tick.tick().await;
                let polled = self.poll().await;
                if !polled.must_wait() {
                    return polled;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), settled).await.expect("the sign-in did not settle")
    }
}

struct Polled {
    status: StatusCode,
    body: Value,
}

impl Polled {
    fn must_wait(&self) -> bool {
        self.body.get("error").is_some_and(|error| error == "authorization_pending" || error == "slow_down")
    }

    fn error(&self) -> &str {
        assert_eq!(self.status, StatusCode::BAD_REQUEST);
        self.body["error"].as_str().unwrap()
    }

    fn tokens(&self) -> Tokens {
        assert_eq!(self.status, StatusCode::OK, "no tokens: {}", self.body);
        let text = |member: &str| self.body[member].as_str().unwrap().to_owned();
        Tokens { access: text("access_token"), refresh: text("refresh_token") }
    }
}

struct Tokens {
    access: String,
    refresh: String,
}

async fn json(response: reqwest::Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}
