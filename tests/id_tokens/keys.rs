//! The provider's keys: fetched when needed, kept, renewed, and never a way to make us ask too often.

use std::sync::Arc;
use std::time::Duration;

use anteroom::clock::Clock;
use anteroom::demo::{Answer, Endpoint, SigningKey};
use anteroom::kernel::verdict::{Grant, Verdict};
use anteroom::provider::Provider;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::forge::{Forge, encode};
use super::{Fixture, authorized, signing_key, within};

fn grant(id_token: String) -> Arc<Grant> {
    Arc::new(Grant {
        access_token: "at".into(),
        token_type: "Bearer".into(),
        expires_at: None,
        refresh_token: None,
        id_token: Some(SecretString::from(id_token)),
        scope: None,
        arrived_at: None,
        claims: None,
    })
}

impl Fixture {
    /// Tokens as they would come now, signed by `key`.
    fn tokens(&self, key: &SigningKey) -> Arc<Grant> {
        let forge = Forge { issuer: self.idp.issuer().to_owned(), now: self.clock.now().as_millis() / 1000, access_token: "at".into() };
        grant(key.sign(forge.claims().as_object().unwrap()))
    }

    async fn verdict(&self, key: &SigningKey) -> &'static str {
        self.provider.verify(&self.tokens(key)).await.name()
    }

    fn publish(&self, keys: &[Value]) {
        self.idp.always(Endpoint::Keys, Some(Answer::Json(200, json!({ "keys": keys }))));
    }

    fn fetches(&self) -> u64 {
        self.idp.counts().key_requests
    }
}

fn public(key: &SigningKey) -> Value {
    serde_json::to_value(key.public()).unwrap()
}

#[tokio::test]
async fn tokens_are_safe_before_keys_are_asked_for() {
    let fixture = Fixture::start().await;
    let began = fixture.begin().await;
    let Verdict::Unverified(grant) = fixture.provider.ask(super::sign_in(&began.device_code)).await else {
        panic!("the keys are not known yet")
    };
    assert_eq!(fixture.fetches(), 0);
    assert!(authorized(fixture.provider.verify(&grant).await).claims.is_some());

    let began = fixture.begin().await;
    assert!(authorized(fixture.provider.ask(super::sign_in(&began.device_code)).await).claims.is_some(), "now they are at hand");
    assert_eq!(fixture.fetches(), 1);
}

#[tokio::test]
async fn keys_rotate_without_a_failure() {
    let fixture = Fixture::start().await;
    for _ in 0..10 {
        assert!(matches!(fixture.sign_in().await, Verdict::Authorized(_)));
        fixture.clock.advance(Duration::from_secs(1));
        fixture.idp.rotate(SigningKey::generate());
    }
    assert_eq!(fixture.fetches(), 10);
}

#[tokio::test]
async fn many_that_need_keys_share_one_fetch() {
    let fixture = Fixture::start().await;
    let tokens = fixture.tokens(&fixture.idp.key());
    let verdicts = futures_util::future::join_all((0..50).map(|_| fixture.provider.verify(&tokens))).await;
    assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Authorized(_))));
    assert_eq!(fixture.fetches(), 1);
}

#[tokio::test]
async fn a_flood_of_unknown_keys_costs_a_fetch_in_thirty_seconds() {
    let fixture = Fixture::start().await;
    let (mut untrusted, mut unverified) = (0, 0);
    for number in 0..10_000 {
        let claims =
            Forge { issuer: fixture.idp.issuer().to_owned(), now: fixture.clock.now().as_millis() / 1000, access_token: "at".into() }
                .claims();
        let header = json!({ "alg": "EdDSA", "kid": format!("k{number}") });
        let token = [header, claims].map(|part| encode(part.to_string().as_bytes())).join(".");
        match fixture.provider.verify(&grant(format!("{token}.{}", encode(&[0; 64])))).await {
            Verdict::Untrusted(_) => untrusted += 1,
            Verdict::Unverified(_) => unverified += 1,
            verdict => panic!("{}", verdict.name()),
        }
        fixture.clock.advance(Duration::from_millis(12));
    }
    // Two minutes.
    assert_eq!(fixture.fetches(), 4);
    assert_eq!((untrusted, unverified), (4, 9_996));
}

#[tokio::test]
async fn a_key_that_came_during_the_cool_down_is_found_after_it() {
    let fixture = Fixture::start().await;
    assert_eq!(fixture.verdict(&SigningKey::generate()).await, "untrusted");
    fixture.idp.rotate(SigningKey::generate());
    let key = fixture.idp.key();
    assert_eq!(fixture.verdict(&key).await, "unverified");
    fixture.clock.advance(Duration::from_secs(30));
    assert_eq!(fixture.verdict(&key).await, "authorized");
}

#[tokio::test]
async fn a_failed_fetch_drops_no_key() {
    let fixture = Fixture::start().await;
    let key = fixture.idp.key();
    assert_eq!(fixture.verdict(&key).await, "authorized");
    let long = json!({ "keys": vec![public(&key); 10_000] });
    for answer in [
        Answer::text(503, "down"),
        Answer::text(200, "a portal's page"),
        Answer::Json(200, json!({ "keys": [] })),
        Answer::Json(200, json!({ "keys": [{ "kty": "oct", "k": "AAAA" }] })),
        Answer::Json(200, json!([])),
        Answer::Json(200, long),
        Answer::Raw { status: 302, headers: vec![("location".into(), "/elsewhere".into())], body: Vec::new() },
        Answer::Reset,
        Answer::HalfBody,
        Answer::EndlessBody(u64::MAX),
    ] {
        let shown = format!("{answer:?}");
        let fetches = fixture.fetches();
        fixture.idp.script(Endpoint::Keys, [answer]);
        fixture.clock.advance(Duration::from_secs(2 * 3600));
        assert_eq!(within(10, fixture.verdict(&key)).await, "authorized", "{shown}");
        assert_eq!(fixture.fetches(), fetches + 1, "old keys are asked for again: {shown}");
    }
}

#[tokio::test]
async fn without_keys_the_tokens_wait() {
    let fixture = Fixture::start().await;
    fixture.idp.always(Endpoint::Keys, Some(Answer::text(503, "down")));
    let key = fixture.idp.key();
    assert_eq!(fixture.verdict(&key).await, "unverified");
    assert_eq!(fixture.verdict(&key).await, "unverified");
    assert_eq!(fixture.fetches(), 1, "a provider that is down is left alone for a moment");
    fixture.idp.always(Endpoint::Keys, None);
    fixture.clock.advance(Duration::from_secs(5));
    assert_eq!(fixture.verdict(&key).await, "authorized");
}

#[tokio::test]
async fn a_flawed_token_is_refused_though_the_keys_are_out_of_reach() {
    let fixture = Fixture::start().await;
    fixture.idp.always(Endpoint::Keys, Some(Answer::Reset));
    assert_eq!(fixture.provider.verify(&grant("x.y.z".into())).await.name(), "untrusted");
    assert_eq!(fixture.fetches(), 0);
}

#[tokio::test]
async fn of_keys_with_one_name_the_one_that_signed_counts() {
    let fixture = Fixture::start().await;
    let [rsa, p256, ed25519] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA].map(|algorithm| signing_key(algorithm).named("same"));
    fixture.publish(&[public(&p256), public(&SigningKey::generate().named("same")), public(&rsa), public(&ed25519)]);
    for key in [&rsa, &p256, &ed25519] {
        assert_eq!(fixture.verdict(key).await, "authorized");
    }
    assert_eq!(fixture.verdict(&SigningKey::generate().named("same")).await, "untrusted");
    assert_eq!(fixture.fetches(), 1);
}

#[tokio::test]
async fn a_key_is_used_for_nothing_that_it_is_not_for() {
    let key = signing_key(Algorithm::RS256).named("k");
    let good = public(&key);
    let set = |name: &str, value: Value| super::forge::with(good.clone(), name, value);
    for (jwk, expected) in [
        (good.clone(), "authorized"),
        (set("alg", Value::Null), "authorized"),
        (set("use", json!("sig")), "authorized"),
        (set("key_ops", json!(["verify"])), "authorized"),
        (set("x5c", json!(["MII"])), "authorized"),
        (set("use", json!("enc")), "unverified"),
        (set("key_ops", json!(["encrypt"])), "unverified"),
        (set("alg", json!("HS256")), "unverified"),
        (set("alg", json!("RSA-OAEP")), "unverified"),
        (set("alg", json!("PS256")), "untrusted"),
        (set("kid", json!("K")), "untrusted"),
        (set("kid", Value::Null), "authorized"),
        (set("kty", json!("EC")), "unverified"),
        (set("n", json!("AQAB")), "unverified"),
        (set("n", json!("!")), "unverified"),
        (set("e", json!(encode(&[0xff; 256]))), "unverified"),
    ] {
        let fixture = Fixture::start().await;
        fixture.publish(std::slice::from_ref(&jwk));
        assert_eq!(fixture.verdict(&key).await, expected, "{jwk}");
    }
}

#[tokio::test]
async fn more_than_a_hundred_keys_are_not_looked_at() {
    let fixture = Fixture::start().await;
    let keys: Vec<SigningKey> = (0..150).map(|_| SigningKey::generate()).collect();
    fixture.publish(&keys.iter().map(public).collect::<Vec<_>>());
    assert_eq!(fixture.verdict(&keys[99]).await, "authorized");
    assert_eq!(fixture.verdict(&keys[100]).await, "untrusted");
}

/// The public half of an RSA key, with some members written otherwise.
fn written(change: impl FnOnce(&mut Value)) -> (SigningKey, Value) {
    let key = signing_key(Algorithm::RS256);
    let mut jwk = public(&key);
    change(&mut jwk);
    (key, jwk)
}

#[tokio::test]
async fn a_key_may_be_written_in_more_than_one_way() {
    type Way = (&'static str, fn(&mut Value));
    let ways: [Way; 4] = [
        ("a zero octet before the modulus", |jwk| {
            let modulus = BASE64_URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
            jwk["n"] = encode(&[&[0], modulus.as_slice()].concat()).into();
        }),
        ("a zero octet before the exponent", |jwk| jwk["e"] = "AAEAAQ".into()),
        ("with padding", |jwk| {
            jwk["n"] = format!("{}==", jwk["n"].as_str().unwrap()).into();
            jwk["e"] = "AAEAAQ==".into();
        }),
        ("members that are null", |jwk| {
            for name in ["use", "key_ops", "alg", "x5c", "crv"] {
                jwk[name] = Value::Null;
            }
        }),
    ];
    for (way, change) in ways {
        let fixture = Fixture::start().await;
        let (key, jwk) = written(change);
        fixture.publish(&[jwk]);
        assert_eq!(fixture.verdict(&key).await, "authorized", "{way}");
    }
}

#[tokio::test]
async fn keys_without_a_name_are_tried_for_tokens_that_name_one() {
    let fixture = Fixture::start().await;
    let (key, mut jwk) = written(|_| {});
    for kid in [None, Some(Value::Null)] {
        jwk.as_object_mut().unwrap().remove("kid");
        jwk.as_object_mut().unwrap().extend(kid.map(|kid| ("kid".to_owned(), kid)));
        fixture.publish(&[public(&SigningKey::generate()), jwk.clone()]);
        assert_eq!(fixture.verdict(&key.clone().named("k-1")).await, "authorized");
        fixture.clock.advance(Duration::from_secs(3600));
    }
    assert_eq!(fixture.verdict(&SigningKey::generate()).await, "untrusted");
}
