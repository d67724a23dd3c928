//! Bytes from a provider that means harm: whatever they are, they are read or refused.

use anteroom::kernel::time::WallTime;
use anteroom::provider::egress::Network;
use anteroom::provider::id_token::{Decoded, Expected};
use anteroom::provider::jwks;
use anteroom::provider::private_key::PrivateKey;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::forge::{Forge, encode};

fn read(token: &str) {
    let expected = Expected {
        issuer: Some("{tenantid}"),
        client_id: "a",
        access_token: "b",
        arrived_at: WallTime::from_millis(1),
        now: WallTime::from_millis(1),
    };
    if let Ok(decoded) = Decoded::read(token) {
        let _ = decoded.check(&expected);
    }
}

#[test]
fn nothing_that_can_be_printed_shows_a_token() {
    let (now, token) = (WallTime::from_millis(1), "an-access-token");
    let expected = Expected { issuer: None, client_id: "tv-app", access_token: token, arrived_at: now, now };
    let signed = jwks::Signed { algorithm: jsonwebtoken::Algorithm::RS256, kid: Some("k1"), message: token, signature: token };
    let device_code = anteroom::kernel::verdict::DeviceCode::new("a-device-code", None, "https://id.example/token".into());
    let sign_in = anteroom::provider::SignIn { device_code: &device_code, user_code: "WDJB-MJHT", scope: "openid" };
    let shown = format!("{expected:?} {signed:?} {sign_in:?}");
    for hidden in [token, "a-device-code", "WDJB-MJHT"] {
        assert!(!shown.contains(hidden), "{shown}");
    }
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        "[A-Za-z0-9_-]{0,90}|\\PC{0,20}|RSA|EC|OKP|P-256|P-384|Ed25519|RS256|EdDSA".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((names(), inner), 0..6).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn names() -> impl Strategy<Value = String> {
    "alg|kid|typ|crit|iss|sub|aud|azp|exp|iat|nbf|tid|nonce|at_hash|keys|kty|crv|use|key_ops|n|e|x|y|d|[a-z]{1,3}"
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_an_id_token_or_not(text in "\\PC{0,200}|[A-Za-z0-9_.-]{0,200}") {
        read(&text);
    }

    #[test]
    fn any_header_and_claims_are_judged(header in values(), claims in values()) {
        read(&format!("{}.{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()), encode(b"s")));
        let named = super::forge::with(json!({ "alg": "EdDSA" }), "kid", header);
        read(&format!("{}.{}.{}", encode(named.to_string().as_bytes()), encode(claims.to_string().as_bytes()), encode(b"s")));
    }

    #[test]
    fn a_good_token_with_any_byte_changed_is_read_or_refused(at in any::<prop::sample::Index>(), byte in any::<char>()) {
        let forge = Forge { issuer: "{tenantid}".into(), now: 1_795_341_600, access_token: "b".into() };
        let mut token: Vec<char> = super::signing_key(jsonwebtoken::Algorithm::EdDSA).sign(forge.claims().as_object().unwrap()).chars().collect();
        let at = at.index(token.len());
        token[at] = byte;
        read(&token.into_iter().collect::<String>());
    }

    #[test]
    fn any_key_set_is_read_or_refused(keys in prop::collection::vec(values(), 0..4), bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = jwks::parse(json!({ "keys": keys }).to_string().as_bytes());
        let _ = jwks::parse(&bytes);
    }

    #[test]
    fn any_file_is_a_private_key_or_not(jwk in values(), text in "\\PC{0,60}|-----BEGIN PRIVATE KEY-----[A-Za-z0-9+/]{0,80}={0,2}-----END|[0-9a-f.:]{0,20}/[0-9]{1,4}") {
        let _ = PrivateKey::read(&jwk.to_string(), None);
        let _ = PrivateKey::read(&text, None);
        let _ = text.parse::<Network>();
    }
}
