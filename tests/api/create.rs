//! `POST /sessions`.

use anteroom::http::callers::Caller;
use anteroom::kernel::verdict::{Failure, Verdict};
use axum::body::Body;
use axum::http::Method;
use serde_json::json;

use crate::service::{Beginning, CALLER_KEY, Service, Setup, caller, grant, json, request};

#[tokio::test]
async fn a_new_session_is_pending_and_shows_its_secret_once() {
    let service = Service::plain();
    let answer = service.post(r#"{"provider": "acme", "scope": "openid profile", "label": "Living-room TV 📺"}"#).await;
    assert_eq!(answer.status, 201);
    let session = answer.json();
    assert_eq!(session["label"], "Living-room TV 📺");
    assert_eq!((&session["user_code"], &session["verification_uri_complete"]), (&json!("WDJB-MJHT"), &json!(null)));
    assert_eq!(session["expires_at"], "2026-11-22T10:15:00Z");
    assert_eq!(answer.header("location").unwrap(), format!("/sessions/{}", session["id"].as_str().unwrap()));
    assert_eq!(service.provider.scopes(), ["openid profile"]);

    let mut watched = service.get(answer.header("location").unwrap()).await.json();
    watched["secret"] = session["secret"].clone();
    assert_eq!(watched, session);
}

#[tokio::test]
async fn what_is_left_out_has_its_default() {
    let service = Service::plain();
    for body in ["", "{}", " {} ", r#"{"provider": null, "scope": null, "label": null}"#] {
        assert_eq!(service.post(body).await.status, 201, "{body:?}");
    }
    assert_eq!(service.send(request(Method::POST, "/sessions").body(Body::empty()).unwrap()).await.status, 201);
    assert_eq!(service.provider.scopes(), ["openid"; 5]);
}

#[tokio::test]
async fn a_scope_is_asked_for_once() {
    let service = Service::plain();
    assert_eq!(service.post(r#"{"scope": "profile openid profile"}"#).await.status, 201);
    assert_eq!(service.provider.scopes(), ["profile openid"]);
}

#[tokio::test]
async fn among_several_providers_one_must_be_named() {
    let service = Service::start(Setup { providers: &["acme", "beta"], ..Setup::default() });
    service.post("{}").await.is_problem(400, "invalid_request");
    assert_eq!(service.post(r#"{"provider": "beta"}"#).await.json()["provider"], "beta");
}

#[tokio::test]
async fn a_malformed_body_is_refused_without_a_word_of_it() {
    let service = Service::plain();
    let deep = "[".repeat(10_000);
    let bodies: &[&[u8]] = &[
        b"null",
        b"[]",
        br#"["acme", "openid", "CANARY"]"#,
        b"\"CANARY\"",
        b"{} {}",
        b"{",
        b"CANARY",
        deep.as_bytes(),
        b"   ",
        br#"{"CANARY": 1}"#,
        br#"{"provider": "CANARY"}"#,
        br#"{"label": 1e400}"#,
        br#"{"label": NaN}"#,
        br#"{"label": "a", "label": "CANARY"}"#,
        br#"{"label": {"CANARY": 1}}"#,
        br#"{"label": "\ud800"}"#,
        b"{\"label\": \"\xff\"}",
        br#"{"scope": ["openid"]}"#,
        br#"{"scope": ""}"#,
        br#"{"scope": "openid  profile"}"#,
        br#"{"scope": "open\"id"}"#,
        "{\"scope\": \"ümlaut\"}".as_bytes(),
        br#"{"label": "a\u0000b"}"#,
        br#"{"label": "a\nb"}"#,
        br#"{"label": "a\u202eb"}"#,
        br#"{"label": "a\u2066b"}"#,
        b"\xef\xbb\xbf{}",
    ];
    for body in bodies {
        let request = request(Method::POST, "/sessions").header("content-type", "application/json").body(Body::from(body.to_vec()));
        let answer = service.send(request.unwrap()).await;
        let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
        assert_eq!(answer.status, 400, "{shown}");
        assert!(!answer.text().contains("CANARY"), "{shown}");
    }
    assert_eq!(service.provider.begun(), 0);
}

#[tokio::test]
async fn the_detail_names_the_member_that_is_wrong() {
    let service = Service::plain();
    for (body, member) in [
        (r#"{"label": 1}"#, "label"),
        (r#"{"label": "a\u0007"}"#, "label"),
        (r#"{"scope": true}"#, "scope"),
        (r#"{"scope": " "}"#, "scope"),
        (r#"{"provider": []}"#, "provider"),
        (r#"{"provider": "other"}"#, "provider"),
    ] {
        let detail = service.post(body).await.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.starts_with(member), "{body}: {detail}");
    }
}

#[tokio::test]
async fn a_label_has_at_most_200_characters() {
    let service = Service::plain();
    let labelled = |length| json!({"label": "ü".repeat(length)}).to_string();
    assert_eq!(service.post(&labelled(200)).await.status, 201);
    service.post(&labelled(201)).await.is_problem(400, "invalid_request");
}

#[tokio::test]
async fn a_label_can_be_seen_and_hides_nothing() {
    let service = Service::plain();
    let status = async |label: &str| service.post(&json!({ "label": label }).to_string()).await.status;
    for label in ["Phòng khách", "ที่ห้อง", "تلویزیون خانه\u{200c}ها", "क्\u{200d}ष", "\u{30db}\u{3099}", "👩🏽\u{200d}🚀 📺", "❤\u{fe0f}"]
    {
        assert_eq!(status(label).await, 201, "{label}");
    }
    let stack = format!("T{}V", "\u{301}".repeat(5));
    for label in ["", " ", "\u{a0}", "\u{3164}", "\u{2800}", "\u{301}TV", &stack] {
        assert_eq!(status(label).await, 400, "{label:?}");
    }
    for hidden in [
        '\u{ad}',
        '\u{34f}',
        '\u{115f}',
        '\u{180e}',
        '\u{200b}',
        '\u{200c}',
        '\u{200d}',
        '\u{2060}',
        '\u{2062}',
        '\u{206a}',
        '\u{378}',
        '\u{e000}',
        '\u{fdd0}',
        '\u{fe0f}',
        '\u{feff}',
        '\u{ffa0}',
        '\u{fff9}',
        '\u{fffc}',
        '\u{e0001}',
        '\u{e0041}',
        '\u{e0100}',
    ] {
        assert_eq!(status(&format!("T{hidden}V")).await, 400, "{hidden:?}");
    }
    assert_eq!(service.provider.begun(), 7);
}

#[tokio::test]
async fn a_body_must_be_json_in_name_too() {
    let service = Service::plain();
    for (media, status) in [
        ("application/json; charset=utf-8", 201),
        ("Application/JSON", 201),
        ("text/plain", 415),
        ("application/jsonp", 415),
        ("application/x-www-form-urlencoded", 415),
    ] {
        let request = request(Method::POST, "/sessions").header("content-type", media).body("{}".into()).unwrap();
        assert_eq!(service.send(request).await.status, status, "{media}");
    }
}

#[tokio::test]
async fn a_body_has_at_most_64_kib_whether_announced_or_not() {
    let service = Service::plain();
    let body = |length: usize| format!("{{}}{}", " ".repeat(length - 2));
    assert_eq!(service.post(&body(65_536)).await.status, 201);
    service.post(&body(65_537)).await.is_problem(413, "payload_too_large");
    let chunks = futures_util::stream::iter((0..65_537).map(|_| Ok::<_, std::io::Error>(" ")));
    let request = request(Method::POST, "/sessions").header("content-type", "application/json");
    service.send(request.body(Body::from_stream(chunks)).unwrap()).await.is_problem(413, "payload_too_large");
}

#[tokio::test]
async fn only_callers_begin_sign_ins_where_there_are_any() {
    let service = Service::start(Setup { callers: vec![caller(None)], ..Setup::default() });
    let with = |authorization: &str| {
        let mut request = json("/sessions", "{}");
        request.headers_mut().insert("authorization", authorization.parse().unwrap());
        service.send(request)
    };
    assert_eq!(with(&format!("Bearer {CALLER_KEY}")).await.status, 201);
    assert_eq!(with(&format!("bearer  {CALLER_KEY}")).await.status, 201);
    for wrong in ["Bearer wrong", "Bearer", "Bearer ", "Basic YTpi", CALLER_KEY] {
        with(wrong).await.is_problem(401, "unauthorized");
    }
    let mut twice = json("/sessions", "{}");
    for _ in 0..2 {
        twice.headers_mut().append("authorization", format!("Bearer {CALLER_KEY}").parse().unwrap());
    }
    service.send(twice).await.is_problem(401, "unauthorized");
    // Whoever has no key learns nothing of what is wrong with the rest.
    service.post("nonsense").await.is_problem(401, "unauthorized");
}

#[tokio::test]
async fn a_caller_uses_only_its_providers_and_allowed_scopes() {
    let callers = vec![caller(Some(&["beta"]))];
    let service = Service::start(Setup { providers: &["acme", "beta"], callers, ..Setup::default() });
    let with = |body: &str| {
        let mut request = json("/sessions", body);
        request.headers_mut().insert("authorization", format!("Bearer {CALLER_KEY}").parse().unwrap());
        service.send(request)
    };
    assert_eq!(with(r#"{"provider": "beta"}"#).await.status, 201);
    with(r#"{"provider": "acme"}"#).await.is_problem(403, "provider_not_allowed");
    with(r#"{"provider": "gamma"}"#).await.is_problem(400, "invalid_request");
    with(r#"{"provider": "beta", "scope": "openid admin"}"#).await.is_problem(403, "scope_not_allowed");
}

#[tokio::test]
async fn a_caller_with_scopes_of_its_own_gets_no_others() {
    let limited = |scopes: &[&str]| {
        let scopes = Some(scopes.iter().map(|scope| (*scope).to_owned()).collect());
        Service::start(Setup { callers: vec![Caller { scopes, ..caller(None) }], ..Setup::default() })
    };
    let ask = async |service: &Service, body: &'static str| {
        let request = request(Method::POST, "/sessions").header("authorization", format!("Bearer {CALLER_KEY}"));
        service.send(request.header("content-type", "application/json").body(Body::from(body)).unwrap()).await
    };
    let service = limited(&["openid", "email"]);
    assert_eq!(ask(&service, "{}").await.status, 201);
    assert_eq!(ask(&service, r#"{"scope": "openid"}"#).await.status, 201);
    ask(&service, r#"{"scope": "openid profile"}"#).await.is_problem(403, "scope_not_allowed");
    ask(&service, r#"{"scope": "email"}"#).await.is_problem(403, "scope_not_allowed");
    assert_eq!(service.provider.scopes(), ["openid"; 2]);

    let service = limited(&["profile"]);
    ask(&service, "{}").await.is_problem(403, "scope_not_allowed");
    assert_eq!(ask(&service, r#"{"scope": "profile"}"#).await.status, 201);
    assert_eq!(service.provider.scopes(), ["profile"]);
}

#[tokio::test]
async fn the_providers_refusal_is_a_problem_and_leaves_no_session() {
    let service = Service::plain();
    for (failure, status, code, retry_after) in [
        (Failure::ProviderRejected, 502, "provider_rejected", None),
        (Failure::ProviderInvalidResponse, 502, "provider_invalid_response", None),
        (Failure::ProviderUnreachable, 503, "provider_unreachable", None),
        (Failure::ProviderTimeout, 504, "provider_timeout", None),
        // The last one: for these 7 s the provider is not asked again.
        (Failure::ProviderRateLimited { retry_after_secs: Some(7) }, 503, "provider_rate_limited", Some("7")),
    ] {
        service.provider.begins(Beginning::Fail(failure));
        let answer = service.post("{}").await;
        answer.is_problem(status, code);
        assert_eq!(answer.header("retry-after"), retry_after);
    }
    assert!(service.app.sessions.all().is_empty());
}

#[tokio::test]
async fn a_provider_that_is_silent_for_20_s_is_given_up_on() {
    let service = Service::plain();
    service.provider.begins(Beginning::Hang);
    let creating = service.post("{}");
    let waiting = async {
        service.provider.was_asked().await;
        service.clock.advance(std::time::Duration::from_secs(20));
    };
    let (answer, ()) = futures_util::join!(creating, waiting);
    answer.is_problem(504, "provider_timeout");
    assert!(service.app.sessions.all().is_empty());
}

#[tokio::test]
async fn a_code_that_is_stored_too_late_is_dropped_and_leaves_no_row() {
    let service = Service::plain();
    service.store.hang();
    let creating = service.post("{}");
    let waiting = async {
        while !service.app.sessions.all().iter().any(|session| session.is_answered()) {
            tokio::task::yield_now().await;
        }
        service.clock.advance(std::time::Duration::from_secs(20));
    };
    let (answer, ()) = futures_util::join!(creating, waiting);
    answer.is_problem(503, "store_unavailable");
    assert!(service.app.sessions.all().is_empty());
    service.store.go_on();
    service.app.sessions.drain().await;
    assert_eq!((service.store.rows().await, service.app.sessions.live()), (0, 0));
}

#[tokio::test]
async fn while_the_store_fails_no_more_than_one_code_is_asked_for_in_vain() {
    let service = Service::plain();
    service.store.fail();
    for _ in 0..3 {
        service.post("{}").await.is_problem(503, "store_unavailable");
    }
    assert_eq!((service.provider.begun(), service.app.sessions.live()), (1, 0));
    assert!(service.app.sessions.all().is_empty());
    service.store.mend();
    assert_eq!((service.post("{}").await.status.as_u16(), service.store.rows().await), (201, 1));
}

const KEY: &str = "5f0c6d1b-96c3-4d0f-8e65-0a6f7f1f6b5d";

#[tokio::test]
async fn a_repeated_request_gets_the_same_session_as_it_is_now() {
    let service = Service::plain();
    let create = |key: &str, body: &str| {
        let mut request = json("/sessions", body);
        request.headers_mut().insert("idempotency-key", key.parse().unwrap());
        service.send(request)
    };
    let (one, other) = futures_util::join!(create(KEY, "{}"), create(KEY, "{}"));
    let mut statuses = [one.status.as_u16(), other.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 201]);
    assert_eq!(one.body, other.body);
    assert_eq!(service.provider.begun(), 1);

    service.provider.says(Verdict::Authorized(grant()));
    service.clock.advance(std::time::Duration::from_secs(7));
    let path = one.header("location").unwrap();
    service.get_with(path, &[("if-none-match", "\"2\""), ("prefer", "wait=60")]).await;
    // The same body after defaults, and the same key in quotes.
    let again = create(&format!("\"{KEY}\""), r#"{"provider": "acme", "scope": "openid"}"#).await;
    assert_eq!((again.status.as_u16(), &again.json()["status"]), (200, &json!("authorized")));
    assert_eq!(again.json()["secret"], one.json()["secret"]);

    create(KEY, r#"{"label": "another"}"#).await.is_problem(422, "idempotency_mismatch");
    assert_eq!(create("another-0123456789", "{}").await.status, 201);
}

#[tokio::test]
async fn an_idempotency_key_is_visible_ascii_and_alone() {
    let service = Service::plain();
    let longest = "k".repeat(255);
    for (key, status) in [(longest.as_str(), 201), ("\"\"", 400), ("a b", 400), ("", 400), ("ü", 400), (&"k".repeat(256), 400)] {
        let request = request(Method::POST, "/sessions").header("idempotency-key", key.as_bytes()).body(Body::empty()).unwrap();
        assert_eq!(service.send(request).await.status, status, "{key:?}");
    }
    let twice = request(Method::POST, "/sessions").header("idempotency-key", KEY).header("idempotency-key", KEY);
    service.send(twice.body(Body::empty()).unwrap()).await.is_problem(400, "invalid_request");
}

#[tokio::test]
async fn more_sessions_than_allowed_are_told_when_to_come_back() {
    let service = Service::start(Setup { max_sessions: 1, ..Setup::default() });
    let first = service.pending().await;
    let answer = service.post("{}").await;
    answer.is_problem(429, "too_many_sessions");
    assert!(answer.header("retry-after").is_some());
    service.delete(&first).await;
    assert_eq!(service.post("{}").await.status, 201);
}
