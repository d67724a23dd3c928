//! Tokens that are as they should be.

use anteroom::clock::Clock;
use anteroom::demo::{IdTokens, Options};
use anteroom::kernel::verdict::Verdict;
use anteroom::provider::Provider;
use jsonwebtoken::Algorithm;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::forge::{Forge, KID, Vector, sign, sign_text, with};
use super::{Fixture, authorized, client_of, settings, settled, signing_key};

fn claims(verdict: Verdict) -> Value {
    serde_json::from_str(authorized(verdict).claims.as_ref().expect("claims").expose_secret()).unwrap()
}

#[tokio::test]
async fn every_algorithm_that_proves_who_signed_is_taken() {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    let fixture = Fixture::start().await;
    for algorithm in [RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA] {
        fixture.idp.rotate(signing_key(algorithm));
        let claims = claims(fixture.sign_in().await);
        assert_eq!(claims["sub"], "demo-person", "{algorithm:?}");
        assert_eq!(claims["iss"], fixture.idp.issuer(), "{algorithm:?}");
        assert_eq!(claims["name"], "Demo Person", "{algorithm:?}");
    }
}

#[tokio::test]
async fn the_hash_of_the_access_token_is_that_of_the_algorithm() {
    let fixture = Fixture::start().await;
    for algorithm in [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA] {
        fixture.idp.rotate(signing_key(algorithm).named("k"));
        let key = signing_key(algorithm).named("k");
        Forge::script(&fixture.idp, fixture.clock.now(), move |forge| {
            key.sign(with(forge.claims(), "at_hash", json!(forge.at_hash(algorithm))).as_object().unwrap())
        });
        // Another kind of key under the same name: only a client without keys can tell.
        let provider = client_of(&settings(fixture.idp.issuer(), &[]), &fixture.clock);
        let verdict = provider.ask(super::sign_in(&fixture.begin().await.device_code)).await;
        assert_eq!(claims(settled(&provider, verdict).await)["sub"], "1", "{algorithm:?}");
    }
}

#[tokio::test]
async fn what_the_standard_leaves_open_is_borne() {
    let fixture = Fixture::start().await;
    fixture.idp.rotate(signing_key(Algorithm::RS256).named(KID));
    let tokens: &[Vector] = &[
        ("one aud in a list", |f| f.claiming("aud", json!(["demo-tv"]))),
        ("several aud and our azp", |f| {
            sign(&f.header(), &with(with(f.claims(), "aud", json!(["x", "demo-tv"])), "azp", json!("demo-tv")))
        }),
        ("azp for one aud", |f| f.claiming("azp", json!("demo-tv"))),
        ("expired within the skew", |f| f.claiming("exp", json!(f.now - 59))),
        ("issued within the skew", |f| f.claiming("iat", json!(f.now + 60))),
        ("times with fractions", |f| f.claiming("exp", json!(f.now as f64 + 0.5))),
        ("a nonce that nobody asked for", |f| f.claiming("nonce", json!("n"))),
        ("other claims", |f| f.claiming("deep", json!({ "a": [1, { "b": null }] }))),
        ("no typ", |f| f.heading("typ", Value::Null)),
        ("typ in lower case", |f| f.heading("typ", json!("jwt"))),
        ("no kid", |f| f.heading("kid", Value::Null)),
        ("a jku that nobody looks at", |f| f.heading("jku", json!("https://evil.example/"))),
        ("a kid in the payload", |f| f.claiming("kid", json!(1))),
        ("typ JOSE", |f| f.heading("typ", json!("JOSE"))),
        ("typ null", |f| sign_text(r#"{"alg":"RS256","kid":"known","typ":null}"#, &f.claims().to_string())),
        ("kid null", |f| sign_text(r#"{"alg":"RS256","kid":null,"typ":"JWT"}"#, &f.claims().to_string())),
        ("at_hash with padding", |f| f.claiming("at_hash", json!(format!("{}==", f.at_hash(Algorithm::RS256))))),
        ("claims that are null", |f| {
            let mut claims = f.claims();
            for name in ["nonce", "azp", "at_hash", "nbf", "auth_time", "acr", "sid"] {
                claims[name] = Value::Null;
            }
            sign(&f.header(), &claims)
        }),
    ];
    for (what, make) in tokens {
        Forge::script(&fixture.idp, fixture.clock.now(), make);
        let verdict = fixture.sign_in().await;
        assert!(matches!(&verdict, Verdict::Authorized(grant) if grant.claims.is_some()), "{what}: {}", verdict.name());
    }
}

#[tokio::test]
async fn no_claims_come_from_nowhere() {
    let fixture = Fixture::start_with(Options { approve_at_poll: Some(1), id_tokens: IdTokens::None, ..Options::default() }, &[]).await;
    let grant = authorized(fixture.sign_in().await);
    assert!(grant.claims.is_none() && grant.id_token.is_none());
    assert_eq!(fixture.idp.counts().key_requests, 0);
}

/// Where there are no keys the token goes to its owner as it came; nobody says that its claims are true.
#[tokio::test]
async fn without_keys_a_token_is_passed_on_without_claims() {
    let fixture = Fixture::start().await;
    let (device, token) = (fixture.idp.url("/device/code"), fixture.idp.url("/token"));
    let keys = [("device_authorization_endpoint", device.as_str()), ("token_endpoint", token.as_str())];
    let provider = client_of(&settings(fixture.idp.issuer(), &keys), &fixture.clock);
    let began = provider.begin("openid").await.unwrap();
    let verdict = provider.ask(super::sign_in(&began.device_code)).await;
    let grant = authorized(settled(&provider, verdict).await);
    assert!(grant.claims.is_none() && grant.id_token.is_some());
}

/// As Google's own guide to its ID tokens says.
#[tokio::test]
async fn google_may_leave_out_the_scheme_of_its_issuer() {
    let fixture = Fixture::start().await;
    fixture.idp.rotate(signing_key(Algorithm::RS256).named(KID));
    let (device, token, jwks) = (fixture.idp.url("/device/code"), fixture.idp.url("/token"), fixture.idp.url("/jwks"));
    let keys = [("device_authorization_endpoint", device.as_str()), ("token_endpoint", token.as_str()), ("jwks_uri", jwks.as_str())];
    for (issuer, named, good) in [
        ("https://accounts.google.com", "https://accounts.google.com", true),
        ("https://accounts.google.com", "accounts.google.com", true),
        ("https://id.example.com", "id.example.com", false),
        ("https://id.example.com", "accounts.google.com", false),
    ] {
        let provider = client_of(&settings(issuer, &keys), &fixture.clock);
        let began = provider.begin("openid").await.unwrap();
        Forge::script(&fixture.idp, fixture.clock.now(), move |f| f.claiming("iss", json!(named)));
        let verdict = provider.ask(super::sign_in(&began.device_code)).await;
        let verdict = settled(&provider, verdict).await;
        assert_eq!(matches!(verdict, Verdict::Authorized(_)), good, "{issuer} {named}: {}", verdict.name());
    }
}

#[tokio::test]
async fn one_issuer_may_speak_for_many_tenants() {
    let fixture = Fixture::start().await;
    fixture.idp.rotate(signing_key(Algorithm::RS256).named(KID));
    let (device, token, jwks) = (fixture.idp.url("/device/code"), fixture.idp.url("/token"), fixture.idp.url("/jwks"));
    let keys = [("device_authorization_endpoint", device.as_str()), ("token_endpoint", token.as_str()), ("jwks_uri", jwks.as_str())];
    let settings = settings("https://login.example/{tenantid}/v2.0", &keys);
    type Tenants = (fn(&Forge) -> Value, bool);
    let tokens: [Tenants; 5] = [
        (|f| with(with(f.claims(), "iss", json!("https://login.example/t-1/v2.0")), "tid", json!("t-1")), true),
        (|f| with(with(f.claims(), "iss", json!("https://login.example/t-1/v2.0")), "tid", json!("t-2")), false),
        (|f| with(f.claims(), "iss", json!("https://login.example/t-1/v2.0")), false),
        (|f| with(with(f.claims(), "iss", json!("https://login.example/{tenantid}/v2.0")), "tid", json!("{tenantid}")), false),
        (|f| with(with(f.claims(), "iss", json!("https://login.example/a/b/v2.0")), "tid", json!("a/b")), false),
    ];
    for (make, good) in tokens {
        let provider = client_of(&settings, &fixture.clock);
        let began = provider.begin("openid").await.unwrap();
        Forge::script(&fixture.idp, fixture.clock.now(), move |f| sign(&f.header(), &make(f)));
        let verdict = provider.ask(super::sign_in(&began.device_code)).await;
        let verdict = settled(&provider, verdict).await;
        assert_eq!(matches!(verdict, Verdict::Authorized(_)), good, "{}", verdict.name());
    }
}
