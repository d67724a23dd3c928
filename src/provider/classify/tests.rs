use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::*;

const NOW: WallTime = WallTime::from_millis(1_700_000_000_000);

fn answer(status: u16, body: &str) -> Answer {
    Answer { status, received_at: NOW, date: None, retry_after: None, body: body.as_bytes().to_vec() }
}

fn limited(status: u16, body: &str) -> Answer {
    Answer { retry_after: Some(Duration::from_secs(30)), ..answer(status, body) }
}

/// A verdict in one line, so that a table can be read at a glance.
fn said(answer: Answer) -> String {
    match verdict(&Ok(answer), &Dialect::RFC8628) {
        Verdict::Authorized(_) => "authorized".into(),
        other => format!("{other:?}").replace("Duration { secs: ", "").replace("Some(", "").replace(')', "").to_lowercase(),
    }
}

#[test]
fn a_device_error_code_counts_at_any_status() {
    let words = [
        ("authorization_pending", "pending"),
        ("slow_down", "slowdown { interval: none, retry_after: none }"),
        ("access_denied", "denied"),
        ("authorization_declined", "denied"),
        ("expired_token", "expired"),
        ("token_expired", "expired"),
        ("code_expired", "expired"),
        ("invalid_grant", "deadcode"),
        ("bad_verification_code", "deadcode"),
        ("incorrect_device_code", "deadcode"),
        ("invalid_code_pair", "deadcode"),
    ];
    for (code, expected) in words {
        for status in [200, 400, 401, 403, 404, 409, 428, 429, 500, 503] {
            let bodies = [
                format!(r#"{{"error":"{code}","error_description":"text \u001b[31m"}}"#),
                format!(r#"{{"error":" {} "}}"#, code.to_uppercase()),
                format!("error={code}&error_description=text"),
            ];
            for body in bodies {
                assert_eq!(said(answer(status, &body)), expected, "{status} {body}");
            }
        }
    }
}

#[test]
fn every_other_oauth_error_ends_the_sign_in_unless_the_status_speaks_of_an_outage() {
    let words = [
        "invalid_client",
        "unauthorized_client",
        "invalid_scope",
        "invalid_request",
        "unsupported_grant_type",
        "invalid_target",
        "device_flow_disabled",
        "admin_policy_enforced",
        "org_internal",
        "use_dpop_nonce",
        "never_heard_of",
    ];
    for code in words {
        let body = format!(r#"{{"error":"{code}"}}"#);
        for status in [200, 400, 401, 403, 404] {
            assert_eq!(said(answer(status, &body)), "rejected", "{status} {code}");
        }
        assert_eq!(said(answer(500, &body)), "unreachable { ambiguous: true, retry_after: none }");
        assert_eq!(said(answer(429, &body)), "throttled { retry_after: none }");
        assert_eq!(said(answer(408, &body)), "unreachable { ambiguous: false, retry_after: none }");
    }
}

#[test]
fn without_an_error_code_the_status_decides() {
    let outage = "unreachable { ambiguous: true, retry_after: none }";
    let refused = "unreachable { ambiguous: false, retry_after: none }";
    let throttled = "throttled { retry_after: none }";
    let page = "gibberish { ambiguous: true, tolerated: 5 }";
    let bare = "gibberish { ambiguous: false, tolerated: 2 }";
    let rows = [
        (200, page),
        (204, page),
        (301, "redirected"),
        (302, "redirected"),
        (307, "redirected"),
        (308, "redirected"),
        (400, bare),
        (401, bare),
        (403, refused),
        (404, bare),
        (408, refused),
        (418, bare),
        (425, refused),
        (429, throttled),
        (500, outage),
        (502, outage),
        (503, outage),
        (504, outage),
        (599, outage),
    ];
    let bodies = [
        "",
        "{}",
        "[]",
        "null",
        "<html>&error=access_denied&</html>",
        "Too many requests",
        r#"{"error":{"message":"no"}}"#,
        r#"{"error":""}"#,
    ];
    for (status, expected) in rows {
        for body in bodies {
            assert_eq!(said(answer(status, body)), expected, "{status} {body}");
        }
    }
}

#[test]
fn a_redirect_is_one_whatever_it_carries() {
    assert_eq!(said(answer(302, r#"{"error":"authorization_pending"}"#)), "redirected");
    assert_eq!(said(answer(307, r#"{"access_token":"a"}"#)), "redirected");
}

#[test]
fn no_answer_is_ambiguous_once_something_may_have_been_sent() {
    let ambiguous = |no_answer| match verdict(&Err(no_answer), &Dialect::RFC8628) {
        Verdict::Unreachable { ambiguous, retry_after: None } => ambiguous,
        other => panic!("{other:?}"),
    };
    assert!(!ambiguous(NoAnswer::NotConnected("refused")));
    assert!(ambiguous(NoAnswer::TimedOut));
    assert!(ambiguous(NoAnswer::Broken));
}

#[test]
fn retry_after_and_interval_come_along() {
    assert_eq!(said(limited(503, "")), "unreachable { ambiguous: true, retry_after: 30s }");
    assert_eq!(said(limited(429, "")), "throttled { retry_after: 30s }");
    assert_eq!(said(limited(403, "")), "unreachable { ambiguous: false, retry_after: 30s }");
    assert_eq!(said(limited(400, r#"{"error":"slow_down","interval":"10"}"#)), "slowdown { interval: 10s, retry_after: 30s }");
}

#[test]
fn entras_loop_detection_is_a_pause_of_a_minute_at_least() {
    let bodies = [
        r#"{"error":"invalid_grant","error_codes":[50196]}"#,
        r#"{"error":"invalid_grant","error_codes":["50196"]}"#,
        r#"{"error":"invalid_grant","error_description":"AADSTS50196: The server terminated an operation"}"#,
    ];
    for body in bodies {
        assert_eq!(said(limited(400, body)), "throttled { retry_after: 60s }");
    }
    assert_eq!(said(answer(400, r#"{"error":"invalid_grant","error_codes":[70018]}"#)), "deadcode");
    let long = Answer { retry_after: Some(Duration::from_secs(90)), ..answer(400, bodies[0]) };
    assert_eq!(said(long), "throttled { retry_after: 90s }");
}

#[test]
fn googles_quota_is_a_pause() {
    assert_eq!(said(answer(403, r#"{"error_code":"rate_limit_exceeded"}"#)), "throttled { retry_after: none }");
}

fn granted(body: &str) -> Grant {
    match verdict(&Ok(answer(200, body)), &Dialect::RFC8628) {
        Verdict::Authorized(grant) => Arc::unwrap_or_clone(grant),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_full_token_response_is_read_in_full() {
    let grant = granted(
        r#"{"access_token":"at","token_type":"bearer","expires_in":3600,"refresh_token":"rt","id_token":"it","scope":"openid profile","x":[{}]}"#,
    );
    assert_eq!(grant.access_token.expose_secret(), "at");
    assert_eq!(&*grant.token_type, "bearer");
    assert_eq!(grant.expires_at, Some(NOW + Duration::from_secs(3600)));
    assert_eq!(grant.refresh_token.unwrap().expose_secret(), "rt");
    assert_eq!(grant.id_token.unwrap().expose_secret(), "it");
    assert_eq!(grant.scope.as_deref(), Some("openid profile"));
    assert!(grant.claims.is_none());
}

#[test]
fn everything_but_the_access_token_is_optional() {
    for body in [
        r#"{"access_token":"at"}"#,
        r#"{"access_token":"at","token_type":null,"expires_in":null,"refresh_token":"","id_token":{},"scope":[]}"#,
        r#"{"access_token":"at","expires_in":"soon","scope":""}"#,
        r#"{"access_token":"at","expires_in":0}"#,
        "access_token=at&expires_in=&scope=",
    ] {
        let grant = granted(body);
        assert_eq!(&*grant.token_type, "Bearer");
        assert!(grant.expires_at.is_none() && grant.refresh_token.is_none() && grant.id_token.is_none() && grant.scope.is_none(), "{body}");
    }
}

#[test]
fn a_lifetime_is_read_from_whatever_it_is_written_as() {
    let rows = [("3599", 3599), ("\"3599\"", 3599), ("3599.9", 3599), ("1e300", MAX_LIFETIME.as_secs())];
    for (text, seconds) in rows {
        let grant = granted(&format!(r#"{{"access_token":"at","expires_in":{text}}}"#));
        assert_eq!(grant.expires_at, Some(NOW + Duration::from_secs(seconds)), "{text}");
    }
}

#[test]
fn scopes_come_out_space_separated() {
    let rows = [
        (r#""repo gist""#, "repo gist"),
        (r#""repo,gist""#, "repo gist"),
        (r#""repo, gist""#, "repo gist"),
        (r#"["user:read","chat:read"]"#, "user:read chat:read"),
        (r#"" openid ""#, "openid"),
    ];
    for (text, expected) in rows {
        assert_eq!(granted(&format!(r#"{{"access_token":"at","scope":{text}}}"#)).scope.as_deref(), Some(expected));
    }
}

#[test]
fn a_success_without_a_sound_access_token_is_gibberish() {
    let long = format!(r#"{{"access_token":"{}"}}"#, "a".repeat(MAX_TOKEN + 1));
    for body in [
        r#"{"token_type":"Bearer"}"#,
        r#"{"access_token":""}"#,
        r#"{"access_token":null}"#,
        r#"{"access_token":{"a":1}}"#,
        r#"{"access_token":5}"#,
        &long,
    ] {
        assert_eq!(said(answer(200, body)), "gibberish { ambiguous: true, tolerated: 5 }");
    }
    assert_eq!(said(answer(400, r#"{"access_token":"at"}"#)), "gibberish { ambiguous: false, tolerated: 2 }");
}

#[test]
fn a_refused_device_request_says_why() {
    let retry = Failure::ProviderRateLimited { retry_after_secs: Some(30) };
    let rows = [
        (limited(200, r#"{"device_code":"a"}"#), None),
        (limited(400, r#"{"error":"invalid_client"}"#), Some(Failure::ProviderRejected)),
        (limited(401, r#"{"error":"invalid_client"}"#), Some(Failure::ProviderRejected)),
        (limited(200, r#"{"error":"unauthorized_client"}"#), Some(Failure::ProviderRejected)),
        (limited(400, r#"{"error":"access_denied"}"#), Some(Failure::ProviderRejected)),
        (limited(400, r#"{"error":"slow_down"}"#), Some(retry)),
        (limited(429, r#"{"error":"slow_down"}"#), Some(retry)),
        (limited(429, ""), Some(retry)),
        (limited(503, r#"{"error":"slow_down"}"#), Some(retry)),
        (limited(403, r#"{"error_code":"rate_limit_exceeded"}"#), Some(retry)),
        (answer(429, "<html>"), Some(Failure::ProviderRateLimited { retry_after_secs: None })),
        (limited(500, r#"{"error":"server_error"}"#), Some(Failure::ProviderUnreachable)),
        (limited(502, "<html>"), Some(Failure::ProviderUnreachable)),
        (limited(302, r#"{"error":"invalid_client"}"#), Some(Failure::ProviderInvalidResponse)),
        (limited(404, "<html>"), Some(Failure::ProviderInvalidResponse)),
        (limited(403, ""), Some(Failure::ProviderInvalidResponse)),
    ];
    for (answer, expected) in rows {
        assert_eq!(refusal(&answer, &Dialect::RFC8628), expected, "{}", answer.status);
    }
    assert_eq!(failure(NoAnswer::NotConnected("refused")), Failure::ProviderUnreachable);
    assert_eq!(failure(NoAnswer::Broken), Failure::ProviderUnreachable);
    assert_eq!(failure(NoAnswer::TimedOut), Failure::ProviderTimeout);
}

#[test]
fn a_complaint_never_repeats_what_the_provider_wrote() {
    let words = |body| complaint(&answer(400, body), &Dialect::RFC8628);
    assert!(words(r#"{"error":"invalid_client","error_description":"canary"}"#).contains("`client_id`"));
    assert_eq!(words(r#"{"error":"canary\u001b"}"#), "another error code");
    assert_eq!(words("<html>"), "another error code");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(status in 100u16..1000, body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let answer = Answer { status, received_at: NOW, date: None, retry_after: None, body };
        refusal(&answer, &Dialect::RFC8628);
        verdict(&Ok(answer), &Dialect::RFC8628);
    }

    #[test]
    fn no_members_make_it_panic(
        status in 100u16..1000,
        name in "(error|error_codes|error_code|access_token|expires_in|scope|interval|error_description)",
        value in r#"(-?[0-9]{1,25}(\.[0-9]{1,3})?(e[0-9]{1,4})?|"[^"\\]{0,20}"|null|\[[0-9]{0,3}\]|\{\})"#,
        code in "(slow_down|invalid_grant|other)",
    ) {
        let body = format!(r#"{{"access_token":"at","{name}":{value},"error":"{code}","{name}":{value}}}"#);
        let answer = answer(status, &body);
        refusal(&answer, &Dialect::RFC8628);
        verdict(&Ok(answer), &Dialect::RFC8628);
    }
}
