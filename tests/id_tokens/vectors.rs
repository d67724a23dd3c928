//! Tokens that must not be believed, each sent by a provider over the network.

use anteroom::clock::Clock;
use anteroom::kernel::verdict::Verdict;
use anteroom::provider::Provider;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use super::forge::{Forge, KID, Vector, encode, key, modulus, public_pem, sign, sign_as, sign_text, stranger, with};
use super::{Fixture, client_of, settings, settled, signing_key};

fn hmac(forge: &Forge, algorithm: Algorithm, secret: &[u8]) -> String {
    let header = json!({ "alg": format!("{algorithm:?}"), "typ": "JWT", "kid": KID });
    sign_as(&header.to_string(), forge.claims().to_string().as_bytes(), algorithm, &EncodingKey::from_secret(secret))
}

/// Signed by a key that the token brings along or points to.
fn smuggled(forge: &Forge, name: &str, value: Value) -> String {
    let header = with(json!({ "alg": "EdDSA", "kid": "smuggled" }), name, value);
    sign_as(&header.to_string(), forge.claims().to_string().as_bytes(), Algorithm::EdDSA, &stranger())
}

fn parts(token: &str) -> [&str; 3] {
    token.split('.').collect::<Vec<_>>().try_into().unwrap()
}

fn unsigned(header: &Value, forge: &Forge) -> String {
    format!("{}.{}.", encode(header.to_string().as_bytes()), encode(forge.claims().to_string().as_bytes()))
}

const HEADERS: &[Vector] = &[
    ("alg none", |f| unsigned(&json!({ "alg": "none" }), f)),
    ("alg none, with the name of a key", |f| unsigned(&json!({ "alg": "none", "typ": "JWT", "kid": KID }), f)),
    ("alg nOnE", |f| unsigned(&json!({ "alg": "nOnE" }), f)),
    ("alg none over a good signature", |f| f.heading("alg", json!("none"))),
    ("no alg", |f| f.heading("alg", Value::Null)),
    ("alg a number", |f| f.heading("alg", json!(256))),
    ("alg in lower case", |f| f.heading("alg", json!("rs256"))),
    ("alg unknown", |f| f.heading("alg", json!("ES256K"))),
    ("HS256 with the public key in PEM", |f| hmac(f, Algorithm::HS256, &public_pem())),
    ("HS256 with the modulus", |f| hmac(f, Algorithm::HS256, &modulus())),
    ("HS384 with the modulus in base64url", |f| hmac(f, Algorithm::HS384, encode(&modulus()).as_bytes())),
    ("HS512 with the client id", |f| hmac(f, Algorithm::HS512, b"demo-tv")),
    ("HS256 with nothing", |f| hmac(f, Algorithm::HS256, b"")),
    ("PS256 named, RS256 made", |f| f.heading("alg", json!("PS256"))),
    ("RS512 named, RS256 made", |f| f.heading("alg", json!("RS512"))),
    ("ES256 named for an RSA key", |f| f.heading("alg", json!("ES256"))),
    ("EdDSA in the name of an RSA key", |f| {
        let header = json!({ "alg": "EdDSA", "kid": KID });
        sign_as(&header.to_string(), f.claims().to_string().as_bytes(), Algorithm::EdDSA, &stranger())
    }),
    ("RS384 made with the key for RS256", |f| {
        sign_as(&json!({ "alg": "RS384", "kid": KID }).to_string(), f.claims().to_string().as_bytes(), Algorithm::RS384, &key())
    }),
    ("a key in jwk", |f| smuggled(f, "jwk", serde_json::to_value(signing_key(Algorithm::EdDSA).named("smuggled").public()).unwrap())),
    ("a key at jku", |f| smuggled(f, "jku", json!(format!("{}/jwks", f.issuer)))),
    ("a key at x5u", |f| smuggled(f, "x5u", json!("https://evil.example/chain.pem"))),
    ("a key in x5c", |f| smuggled(f, "x5c", json!(["MIIB"]))),
    ("an unknown kid", |f| f.heading("kid", json!("unknown"))),
    ("a kid that is a path", |f| f.heading("kid", json!("../../dev/null"))),
    ("a kid that is a number", |f| f.heading("kid", json!(1))),
    ("no kid, a stranger's key", |f| smuggled(f, "kid", Value::Null)),
    ("crit", |f| f.heading("crit", json!(["exp"]))),
    ("crit, empty", |f| f.heading("crit", json!([]))),
    ("crit with b64", |f| sign(&with(with(f.header(), "crit", json!(["b64"])), "b64", json!(false)), &f.claims())),
    ("b64 alone", |f| f.heading("b64", json!(false))),
    ("an access token", |f| f.heading("typ", json!("at+jwt"))),
    ("a logout token", |f| f.heading("typ", json!("logout+jwt"))),
    ("typ a number", |f| f.heading("typ", json!(1))),
    ("alg twice", |f| sign_text(r#"{"alg":"none","kid":"known","alg":"RS256"}"#, &f.claims().to_string())),
];

const CLAIMS: &[Vector] = &[
    ("another iss", |f| f.claiming("iss", json!("https://evil.example"))),
    ("iss with a slash", |f| f.claiming("iss", json!(format!("{}/", f.issuer)))),
    ("iss in upper case", |f| f.claiming("iss", json!(f.issuer.to_uppercase()))),
    ("no iss", |f| f.claiming("iss", Value::Null)),
    ("iss a list", |f| f.claiming("iss", json!([f.issuer]))),
    ("another aud", |f| f.claiming("aud", json!("other"))),
    ("aud that begins like ours", |f| f.claiming("aud", json!("demo-tv2"))),
    ("no aud", |f| f.claiming("aud", Value::Null)),
    ("aud an empty list", |f| f.claiming("aud", json!([]))),
    ("aud a list without us", |f| f.claiming("aud", json!(["other", "another"]))),
    ("aud a list with a number", |f| f.claiming("aud", json!(["demo-tv", 1]))),
    ("aud an object", |f| f.claiming("aud", json!({ "demo-tv": true }))),
    ("several aud without azp", |f| f.claiming("aud", json!(["demo-tv", "other"]))),
    ("several aud, another azp", |f| sign(&f.header(), &with(with(f.claims(), "aud", json!(["demo-tv", "other"])), "azp", json!("other")))),
    ("another azp", |f| f.claiming("azp", json!("other"))),
    ("azp a number", |f| f.claiming("azp", json!(7))),
    ("exp text", |f| f.claiming("exp", json!((f.now + 600).to_string()))),
    ("exp a bool", |f| f.claiming("exp", json!(true))),
    ("exp a list", |f| f.claiming("exp", json!([f.now + 600]))),
    ("exp negative", |f| f.claiming("exp", json!(-1))),
    ("exp beyond all numbers", |f| {
        sign_text(&f.header().to_string(), &f.claims().to_string().replace(&format!("\"exp\":{}", f.now + 600), "\"exp\":1e999"))
    }),
    ("no exp", |f| f.claiming("exp", Value::Null)),
    ("expired a minute ago", |f| f.claiming("exp", json!(f.now - 60))),
    ("expired long ago", |f| f.claiming("exp", json!(1))),
    ("no iat", |f| f.claiming("iat", Value::Null)),
    ("iat text", |f| f.claiming("iat", json!(f.now.to_string()))),
    ("iat in two minutes", |f| f.claiming("iat", json!(f.now + 120))),
    ("iat in milliseconds", |f| f.claiming("iat", json!(f.now * 1000))),
    ("nbf in two minutes", |f| f.claiming("nbf", json!(f.now + 120))),
    ("nbf text", |f| f.claiming("nbf", json!("0"))),
    ("no sub", |f| f.claiming("sub", Value::Null)),
    ("sub empty", |f| f.claiming("sub", json!(""))),
    ("sub a number", |f| f.claiming("sub", json!(1))),
    ("nonce a number", |f| f.claiming("nonce", json!(1))),
    ("at_hash of another token", |f| f.claiming("at_hash", json!("77QmUPtjPfzWtF2AnpK9RQ"))),
    ("at_hash by another digest", |f| f.claiming("at_hash", json!(f.at_hash(Algorithm::RS512)))),
    ("at_hash empty", |f| f.claiming("at_hash", json!(""))),
    ("at_hash a number", |f| f.claiming("at_hash", json!(1))),
    ("aud twice", |f| sign_text(&f.header().to_string(), &f.claims().to_string().replacen('{', r#"{"aud":"other","#, 1))),
    ("exp twice", |f| sign_text(&f.header().to_string(), &f.claims().to_string().replacen('{', r#"{"exp":1,"#, 1))),
];

const SHAPES: &[Vector] = &[
    ("a token in a token", |f| {
        let inner = f.claiming("sub", json!("1"));
        sign_as(&with(f.header(), "cty", json!("JWT")).to_string(), inner.as_bytes(), Algorithm::RS256, &key())
    }),
    ("encrypted", |_| format!("{}.a.b.c.d", encode(br#"{"alg":"RSA-OAEP","enc":"A256GCM"}"#))),
    ("a JSON serialization", |f| {
        let token = f.claiming("sub", json!("1"));
        let [header, payload, signature] = parts(&token);
        json!({ "payload": payload, "protected": header, "signature": signature }).to_string()
    }),
    ("two parts", |f| parts(&f.claiming("sub", json!("1")))[..2].join(".")),
    ("four parts", |f| format!("{}.", f.claiming("sub", json!("1")))),
    ("a signature cut short", |f| f.claiming("sub", json!("1")).chars().rev().skip(1).collect::<Vec<_>>().into_iter().rev().collect()),
    ("no signature", |f| f.claiming("sub", json!("1")).rsplit_once('.').map(|(message, _)| format!("{message}.")).unwrap()),
    ("a signature of zeros", |f| format!("{}.{}", f.claiming("sub", json!("1")).rsplit_once('.').unwrap().0, encode(&[0; 256]))),
    ("another payload under the signature", |f| {
        let (good, other) = (f.claiming("sub", json!("1")), f.claiming("sub", json!("2")));
        [parts(&good)[0], parts(&other)[1], parts(&good)[2]].join(".")
    }),
    ("another header over the signature", |f| {
        let (good, other) = (f.claiming("sub", json!("1")), f.heading("typ", Value::Null));
        [parts(&other)[0], parts(&good)[1], parts(&good)[2]].join(".")
    }),
    ("padding", |f| format!("{}==", f.claiming("sub", json!("1")))),
    ("a line break at the end", |f| format!("{}\n", f.claiming("sub", json!("1")))),
    ("a blank in front", |f| format!(" {}", f.claiming("sub", json!("1")))),
    ("a payload that is a list", |f| sign_text(&f.header().to_string(), "[]")),
    ("a payload that is null", |f| sign_text(&f.header().to_string(), "null")),
    ("a payload that is no UTF-8", |f| sign_as(&f.header().to_string(), b"{\"iss\":\"\xff\"}", Algorithm::RS256, &key())),
    ("an object and more", |f| sign_text(&f.header().to_string(), &format!("{} {{}}", f.claims()))),
    ("an empty object", |f| sign_text(&f.header().to_string(), "{}")),
    ("longer than 64 KiB", |f| f.claiming("padding", json!("x".repeat(64 * 1024)))),
    ("deeper than any parser goes", |f| {
        let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
        sign_text(&f.header().to_string(), &f.claims().to_string().replacen('{', &format!("{{\"deep\":{deep},"), 1))
    }),
    ("a word", |_| "x".to_owned()),
    ("dots", |_| "..".to_owned()),
];

#[tokio::test]
async fn no_bad_token_is_believed() {
    let fixture = Fixture::start().await;
    fixture.idp.rotate(signing_key(Algorithm::RS256).named(KID));
    let settings = settings(fixture.idp.issuer(), &[]);
    let vectors: Vec<&Vector> = [HEADERS, CLAIMS, SHAPES].into_iter().flatten().collect();
    assert!(vectors.len() >= 90);
    for (what, make) in vectors {
        // A provider that nobody has asked for keys yet, so that no cool-down is in the way.
        let provider = client_of(&settings, &fixture.clock);
        let began = provider.begin("openid").await.unwrap();
        Forge::script(&fixture.idp, fixture.clock.now(), make);
        let first = provider.ask(super::sign_in(&began.device_code)).await;
        let verdict = settled(&provider, first).await;
        assert!(matches!(verdict, Verdict::Untrusted(_)), "{what}: {}", verdict.name());
    }
}

#[tokio::test]
async fn a_bad_token_is_refused_with_the_keys_at_hand_too() {
    let fixture = Fixture::start().await;
    fixture.idp.rotate(signing_key(Algorithm::RS256).named(KID));
    assert!(matches!(fixture.sign_in().await, Verdict::Authorized(_)));
    let now = fixture.clock.now();
    Forge::script(&fixture.idp, now, |f| parts(&f.claiming("sub", json!("1")))[..2].join(".") + "." + &encode(&[0; 256]));
    assert!(matches!(fixture.sign_in().await, Verdict::Untrusted(_)));
    assert_eq!(fixture.idp.counts().key_requests, 1, "a known key that did not sign is no reason to ask for keys");
}
