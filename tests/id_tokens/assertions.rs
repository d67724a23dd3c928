//! Clients that prove themselves with a private key (RFC 7523), at a provider that looks closely.

use std::fs;
use std::time::Duration;

use anteroom::demo::{Client, Counts, Endpoint, Options};
use anteroom::kernel::verdict::{Failure, Revocation, Verdict};
use anteroom::provider::Provider;
use jsonwebtoken::Algorithm;

use super::{Fixture, authorized, client_of, fixture, settings, settled, signing_key};

/// A provider that knows the client `keyed` by the public half of this key.
async fn start(algorithm: Algorithm, keys: &[(&str, &str)]) -> Fixture {
    let clients = vec![Client::with_key("keyed", "Keyed", signing_key(algorithm).public())];
    let keys = [&[("client_id", "keyed")], keys].concat();
    Fixture::start_with(Options { clients, approve_at_poll: Some(3), ..Options::default() }, &keys).await
}

fn path(file: &str) -> String {
    fixture(file).to_str().unwrap().to_owned()
}

#[tokio::test]
async fn every_request_carries_an_assertion_of_its_own() {
    let files = [
        (Algorithm::RS256, "rsa.pem"),
        (Algorithm::RS256, "rsa-pkcs1.pem"),
        (Algorithm::RS256, "rsa.json"),
        (Algorithm::ES256, "p256.pem"),
        (Algorithm::ES256, "p256.json"),
        (Algorithm::ES384, "p384.pem"),
        (Algorithm::ES384, "p384.json"),
        (Algorithm::EdDSA, "ed25519.pem"),
        (Algorithm::EdDSA, "ed25519.json"),
    ];
    for (algorithm, file) in files {
        for audience in ["issuer", "token_endpoint"] {
            let keys = [("client_auth", "private_key_jwt"), ("private_key_file", &path(file)), ("assertion_audience", audience)];
            let f = start(algorithm, &keys).await;
            let began = f.begin().await;
            for _ in 0..2 {
                f.clock.advance(Duration::from_secs(5));
                assert!(matches!(f.provider.ask(super::sign_in(&began.device_code)).await, Verdict::Pending), "{file}");
            }
            let grant = authorized(settled(&f.provider, f.provider.ask(super::sign_in(&began.device_code)).await).await);
            assert_eq!(f.provider.revoke(&grant).await, Revocation::Revoked);
            let Counts { device_requests, token_requests, revocations, .. } = f.idp.counts();
            assert_eq!((device_requests, token_requests, revocations), (1, 3, 2), "{file} {audience}");
            let params = f.idp.exchanges(Endpoint::Token).remove(0).params;
            assert!(!params.iter().any(|(name, _)| name == "client_secret"));
        }
    }
}

#[tokio::test]
async fn another_key_or_audience_opens_nothing() {
    let wrong_key = start(Algorithm::RS256, &[("private_key_file", &path("ed25519.pem"))]).await;
    assert_eq!(wrong_key.provider.begin("openid").await.unwrap_err(), Failure::ProviderRejected);

    let right = start(Algorithm::EdDSA, &[("private_key_file", &path("ed25519.pem"))]).await;
    right.begin().await;
    let (device, token) = (right.idp.url("/device/code"), right.idp.url("/token"));
    let keys = [
        ("client_id", "keyed"),
        ("private_key_file", &*path("ed25519.pem")),
        ("device_authorization_endpoint", &*device),
        ("token_endpoint", &*token),
    ];
    let elsewhere = client_of(&settings("https://other.example", &keys), &right.clock);
    assert_eq!(elsewhere.begin("openid").await.unwrap_err(), Failure::ProviderRejected);
    let keys = [&keys[..], &[("assertion_audience", "token_endpoint")]].concat();
    assert!(client_of(&settings("https://other.example", &keys), &right.clock).begin("openid").await.is_ok());
}

/// The provider's side: what was sent once counts for nothing the second time.
#[tokio::test]
async fn an_assertion_is_good_once() {
    let f = start(Algorithm::ES256, &[("private_key_file", &path("p256.pem"))]).await;
    let now = anteroom::clock::Clock::now(&f.clock).as_millis() / 1000;
    let claims = serde_json::json!({ "iss": "keyed", "sub": "keyed", "aud": f.idp.issuer(), "jti": "1", "exp": now + 60 });
    let assertion = signing_key(Algorithm::ES256).sign(claims.as_object().unwrap());
    let form = [
        ("client_id", "keyed"),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", &assertion),
    ];
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for expected in [200, 401] {
        assert_eq!(http.post(f.idp.url("/device/code")).form(&form).send().await.unwrap().status(), expected);
    }
}

#[tokio::test]
async fn raw_basic_sends_id_and_secret_as_they_are() {
    use anteroom::demo::ClientAuth;
    let clients = vec![Client { auth: ClientAuth::SecretBasic("s+%2B".into()), ..Client::public("raw", "Raw") }];
    for (basic_raw, secret, is_let_in) in [("false", "s+%2B", true), ("true", "s%2B%252B", true), ("true", "s+%2B", false)] {
        let options = Options { clients: clients.clone(), ..Options::default() };
        let f = Fixture::start_with(options, &[("client_id", "raw"), ("client_secret", secret), ("basic_raw", basic_raw)]).await;
        assert_eq!(f.provider.begin("openid").await.is_ok(), is_let_in, "{basic_raw} {secret}");
    }
}

#[tokio::test]
async fn the_debug_output_of_a_private_key_does_not_show_it() {
    let f = settings("https://id.example", &[("private_key_file", &path("ed25519.json")), ("private_key_id", "mine")]);
    let shown = format!("{f:?}");
    let jwk: serde_json::Value = serde_json::from_slice(&fs::read(fixture("ed25519.json")).unwrap()).unwrap();
    assert!(shown.contains("mine") && !shown.contains(jwk["d"].as_str().unwrap()), "{shown}");
}
