use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::kernel::time::WallTime;

const ISSUER: &str = "https://id.example/tenant";

fn document() -> Value {
    json!({
        "issuer": ISSUER,
        "device_authorization_endpoint": "https://id.example/device",
        "token_endpoint": "https://other.example/token?tenant=1",
        "revocation_endpoint": null,
        "jwks_uri": "https://id.example/jwks",
        "code_challenge_methods_supported": ["S256", "bad\u{1b}word", 5],
    })
}

fn answer(status: u16, body: impl ToString) -> Answer {
    Answer { status, received_at: WallTime::default(), date: None, retry_after: None, body: body.to_string().into_bytes() }
}

fn with(name: &str, value: Value) -> Result<Metadata, Problem> {
    let mut document = document();
    document[name] = value;
    parse(&answer(200, document), ISSUER, false)
}

#[test]
fn a_document_is_read() {
    let metadata = parse(&answer(200, document()), ISSUER, false).unwrap();
    assert_eq!(metadata.device_authorization_endpoint.unwrap().as_str(), "https://id.example/device");
    assert_eq!(metadata.token_endpoint.unwrap().as_str(), "https://other.example/token?tenant=1");
    assert_eq!(metadata.revocation_endpoint, None);
    assert_eq!(metadata.code_challenge_methods, Some(vec!["S256".to_owned()]));
    assert_eq!(metadata.token_endpoint_auth_methods, None);
    assert_eq!(metadata.grant_types, None);
}

#[test]
fn the_issuer_must_be_the_same_to_the_byte() {
    assert_eq!(with("issuer", "https://id.example/tenant/".into()), Err(Problem::Slash("with")));
    assert_eq!(parse(&answer(200, document()), "https://id.example/tenant/", false), Err(Problem::Slash("without")));
    for other in [json!("https://ID.example/tenant"), json!("https://evil.example"), json!(""), Value::Null, json!([ISSUER])] {
        assert_eq!(with("issuer", other), Err(Problem::OtherIssuer));
    }
}

#[test]
fn every_endpoint_must_be_safe() {
    for name in ["device_authorization_endpoint", "token_endpoint", "revocation_endpoint", "jwks_uri"] {
        for value in
            [json!("http://id.example/a"), json!("http://169.254.169.254/a"), json!("/a"), json!(""), json!(5), json!("file:///etc/passwd")]
        {
            assert_eq!(with(name, value), Err(Problem::UnsafeEndpoint(name)));
        }
        assert!(with(name, json!("http://127.0.0.1:9000/a")).is_ok());
    }
}

#[test]
fn anything_but_a_document_at_200_is_a_problem() {
    let rows = [
        (answer(200, "<html>"), Problem::NotMetadata, Failure::ProviderInvalidResponse),
        (answer(200, ""), Problem::NotMetadata, Failure::ProviderInvalidResponse),
        (answer(404, document()), Problem::Status(404), Failure::ProviderInvalidResponse),
        (answer(302, document()), Problem::Redirected, Failure::ProviderInvalidResponse),
        (answer(503, document()), Problem::Status(503), Failure::ProviderUnreachable),
        (answer(429, ""), Problem::Throttled(None), Failure::ProviderRateLimited { retry_after_secs: None }),
    ];
    for (answer, problem, failure) in rows {
        assert_eq!(parse(&answer, ISSUER, false), Err(problem));
        assert_eq!(Failure::from(problem), failure);
    }
    assert_eq!(Failure::from(Problem::NoAnswer(NoAnswer::TimedOut)), Failure::ProviderTimeout);
}

#[test]
fn the_two_documents_are_where_their_specifications_put_them() {
    let rows = [
        (
            "https://id.example",
            "https://id.example/.well-known/openid-configuration",
            "https://id.example/.well-known/oauth-authorization-server",
        ),
        (
            "https://id.example/",
            "https://id.example/.well-known/openid-configuration",
            "https://id.example/.well-known/oauth-authorization-server",
        ),
        (
            "https://id.example:8443/a/b",
            "https://id.example:8443/a/b/.well-known/openid-configuration",
            "https://id.example:8443/.well-known/oauth-authorization-server/a/b",
        ),
    ];
    for (issuer, openid, oauth) in rows {
        let documents = Documents::of(issuer, false).unwrap();
        assert_eq!((documents.openid.as_str(), documents.oauth.as_str()), (openid, oauth));
    }
    for issuer in ["http://id.example", "https://id.example?a=b", "https://id.example#a", "https://u@id.example", "id.example", ""] {
        assert!(Documents::of(issuer, false).is_none(), "{issuer}");
    }
}

#[test]
fn of_two_problems_the_telling_one_is_reported() {
    let problem = |openid, oauth| better(Err(openid), Err(oauth)).unwrap_err();
    assert_eq!(problem(Problem::Status(404), Problem::OtherIssuer), Problem::OtherIssuer);
    assert_eq!(problem(Problem::OtherIssuer, Problem::Status(404)), Problem::OtherIssuer);
    assert_eq!(problem(Problem::Status(404), Problem::Status(404)), Problem::Status(404));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(status in 100u16..1000, body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&Answer { status, received_at: WallTime::default(), date: None, retry_after: None, body }, ISSUER, true);
    }

    #[test]
    fn no_issuer_makes_it_panic(issuer in ".{0,40}", path in "https://a/.{0,20}") {
        let _ = Documents::of(&issuer, true);
        let _ = Documents::of(&path, true);
    }
}
