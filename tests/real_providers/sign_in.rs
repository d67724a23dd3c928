//! The product at both providers, through its binary and its HTTP API alone.

use futures_util::future::join_all;
use reqwest::StatusCode;
use reqwest::header::{ETAG, RETRY_AFTER};
use serde_json::{Value, json};

use super::real_provider::{Client, RealProvider, Software};
use super::service::{Service, SignIn, text};
use super::start;

/// A provider, and the service with each of some clients of it as a provider of its own.
struct Setup {
    provider: RealProvider,
    service: Service,
}

#[tokio::test]
async fn a_person_signs_in_at_public_and_at_confidential_clients() {
    at_both(&["public", "basic", "post"], async |setup| {
        join_all(["public", "basic", "post"].map(|client| setup.signs_in(client))).await;
    })
    .await;
}

#[tokio::test]
async fn nothing_is_redeemed_twice() {
    let Some(provider) = start(Software::OidcProvider).await else { return };
    let setup = Setup::new(provider, &["public"]).await;
    let first = setup.begin("public").await;
    setup.approve(&first).await;
    let tokens = claim(&first).await;
    setup.assert_in_force(&tokens).await;

    // A second redemption would revoke what the first gave. Another sign-in lasts longer than the wait before any further poll.
    setup.signs_in("public").await;
    setup.assert_in_force(&tokens).await;
    assert_eq!(first.delete().await.status, StatusCode::NO_CONTENT);
    setup.assert_in_force(&tokens).await;
    setup.assert_refreshable("public", &tokens).await;
}

#[tokio::test]
async fn two_sign_ins_at_once_have_each_their_own_end() {
    at_both(&["public"], async |setup| {
        let (approved, denied) = tokio::join!(setup.begin("public"), setup.begin("public"));
        assert_ne!(approved.user_code(), denied.user_code());
        setup.provider.deny(denied.user_code(), denied.verification_uri()).await;
        setup.approve(&approved).await;

        let (won, lost) = tokio::join!(approved.outcome(), denied.outcome());
        assert_eq!((&won["status"], &lost["status"]), (&json!("authorized"), &json!("denied")));
        assert_eq!(denied.claim().await.problem(), (409, "session_not_authorized"));
        setup.assert_in_force(&claim(&approved).await).await;
    })
    .await;
}

#[tokio::test]
async fn a_code_that_nobody_approves_expires() {
    let expires = async |software, options: &[&str], client: &str| {
        let Some(provider) = RealProvider::start(software, options).await else { return };
        let setup = Setup::new(provider, &[client]).await;
        let session = setup.begin(client).await;
        assert_eq!(session.outcome().await["status"], "expired", "{software:?}");
        assert_eq!(session.claim().await.problem(), (409, "session_not_authorized"));
    };
    tokio::join!(
        expires(Software::OidcProvider, &["--expires-in=2"], "short"),
        expires(Software::BetterAuth, &["--interval=1", "--expires-in=2"], "public"),
    );
}

#[tokio::test]
async fn a_cancelled_sign_in_gives_nothing_even_if_it_is_approved() {
    at_both(&["public"], async |setup| {
        let cancelled = setup.begin("public").await;
        let other = setup.begin("public").await;
        assert_eq!(cancelled.claim().await.problem(), (409, "session_pending"));
        assert_eq!(cancelled.delete().await.status, StatusCode::NO_CONTENT);
        setup.approve(&cancelled).await;
        setup.approve(&other).await;

        // It began first, so by now it would have been asked for as well.
        assert_eq!(other.outcome().await["status"], "authorized");
        assert_eq!(cancelled.outcome().await["status"], "cancelled");
        assert_eq!(cancelled.claim().await.problem(), (409, "session_not_authorized"));
        assert_eq!(cancelled.delete().await.status, StatusCode::NO_CONTENT);
    })
    .await;
}

#[tokio::test]
async fn a_client_that_the_provider_does_not_accept_begins_nothing() {
    for software in [Software::OidcProvider, Software::BetterAuth] {
        let Some(provider) = start(software).await else { return };
        let wrong = |name| Client { secret: Some("not-the-secret".to_owned()), ..provider.client(name).clone() };
        let clients = [("basic", wrong("basic")), ("post", wrong("post")), ("no-device", provider.client("no_device").clone())];
        let service = serve(&provider, clients.iter().map(|(name, client)| (*name, client))).await;
        for (name, _) in &clients {
            let refused = service.create(&json!({"provider": name})).await;
            assert_eq!(refused.problem(), (502, "provider_rejected"), "{software:?} {name}");
        }
        let said = service.program.stderr().concat();
        assert!(!said.contains("not-the-secret"), "the secret is in the log");
    }
}

#[tokio::test]
async fn better_auth_never_has_to_say_slow_down() {
    let Some(provider) = start(Software::BetterAuth).await else { return };
    let setup = Setup::new(provider, &["public"]).await;
    let session = setup.begin("public").await;
    let tag = session.read().await.headers[ETAG].to_str().unwrap().to_owned();
    // A single slow_down would make the wait 6 s or more for good.
    for _ in 0..6 {
        let waited = session.watch(&tag, 1).await;
        assert_eq!(waited.status, StatusCode::NOT_MODIFIED);
        let next_poll: u64 = waited.headers[RETRY_AFTER].to_str().unwrap().parse().unwrap();
        assert!(next_poll <= 2, "the next poll is {next_poll} s away");
    }
    setup.approve(&session).await;
    setup.assert_in_force(&claim(&session).await).await;
}

impl Setup {
    async fn new(provider: RealProvider, clients: &[&str]) -> Self {
        let clients = clients.iter().map(|name| (*name, provider.client(name)));
        let service = serve(&provider, clients).await;
        Self { provider, service }
    }

    async fn begin(&self, client: &str) -> SignIn<'_> {
        let session = self.service.begin(&json!({"provider": client})).await;
        assert_eq!(session.begun["status"], "pending");
        session
    }

    async fn approve(&self, session: &SignIn<'_>) {
        self.provider.approve(session.user_code(), session.verification_uri()).await;
    }

    /// A whole sign-in, and all that its tokens are good for.
    async fn signs_in(&self, client: &str) {
        let session = self.begin(client).await;
        self.approve(&session).await;
        assert_eq!(session.outcome().await["status"], "authorized");
        let tokens = claim(&session).await;
        assert_eq!(session.claim().await.problem(), (410, "already_claimed"));
        assert_eq!(session.outcome().await["status"], "claimed");
        self.assert_in_force(&tokens).await;
        self.assert_refreshable(client, &tokens).await;
    }

    async fn assert_in_force(&self, tokens: &Value) {
        assert_eq!(self.provider.userinfo(&text(tokens, "access_token")).await, StatusCode::OK);
    }

    async fn assert_refreshable(&self, client: &str, tokens: &Value) {
        let client = self.provider.client(client);
        assert_eq!(self.provider.refresh(client, &text(tokens, "refresh_token")).await, StatusCode::OK);
    }
}

/// Runs the same against both, at the same time.
async fn at_both(clients: &[&str], scenario: impl AsyncFn(&Setup)) {
    let at = async |software| {
        let Some(provider) = start(software).await else { return };
        scenario(&Setup::new(provider, clients).await).await;
    };
    tokio::join!(at(Software::OidcProvider), at(Software::BetterAuth));
}

async fn serve<'a>(provider: &RealProvider, clients: impl Iterator<Item = (&'a str, &'a Client)>) -> Service {
    let issuer = provider.issuer();
    let mut configuration = String::new();
    for (name, Client { id, secret, auth }) in clients {
        configuration += &format!(
            "[providers.{name}]\nissuer = '{issuer}'\nclient_id = '{id}'\nclient_auth = '{auth}'\nscopes = ['openid', 'offline_access']\n"
        );
        configuration += &secret.as_ref().map(|secret| format!("client_secret = '{secret}'\n")).unwrap_or_default();
    }
    Service::start(&configuration).await
}

async fn claim(session: &SignIn<'_>) -> Value {
    assert_eq!(session.outcome().await["status"], "authorized");
    let claimed = session.claim().await;
    assert_eq!(claimed.status, StatusCode::OK, "{}", claimed.body);
    assert_eq!(claimed.body["token_type"].as_str().unwrap().to_ascii_lowercase(), "bearer");
    claimed.body
}
