//! What holds for every path: unknown ones, headers, request ids, other origins, and the small resources of the service.

use anteroom::http::OPENAPI;
use axum::body::Body;
use axum::http::Method;

use crate::service::{Service, Setup, request};

#[tokio::test]
async fn every_unknown_path_is_the_same_404() {
    let service = Service::plain();
    let first = service.get("/").await;
    first.is_problem(404, "not_found");
    let session = service.pending().await;
    let below = format!("/sessions/{}/nothing", session.id);
    for path in ["/sessions/", "/sessions/../admin", "/%2e%2e", "//", "/metrics", "/livez/", "/LIVEZ", &below] {
        let answer = service.get(path).await;
        assert_eq!((answer.status, &answer.body), (first.status, &first.body), "{path}");
    }
    let request = request(Method::POST, "/CANARY?CANARY=1").header("content-type", "x/CANARY").body("CANARY".into()).unwrap();
    assert_eq!(service.send(request).await.body, first.body);
}

#[tokio::test]
async fn every_answer_keeps_browsers_from_guessing() {
    let service = Service::plain();
    let session = service.pending().await;
    for path in ["/", "/livez", "/openapi.yaml", &session.path(), "/sessions"] {
        let answer = service.get(path).await;
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"), "{path}");
        assert!(answer.header("x-request-id").is_some(), "{path}");
    }
}

#[tokio::test]
async fn a_request_id_comes_back_if_it_looks_like_one() {
    let service = Service::plain();
    let sent = async |id: &str| service.get_with("/livez", &[("x-request-id", id)]).await.header("x-request-id").unwrap().to_owned();
    assert_eq!(sent("req-1_2.3").await, "req-1_2.3");
    for odd in ["", "a b", "<script>", "k=v", &"x".repeat(65)] {
        assert_eq!(sent(odd).await.len(), 36, "{odd}");
    }
}

#[tokio::test]
async fn the_service_tells_of_itself() {
    let service = Service::start(Setup { providers: &["beta", "acme"], ..Setup::default() });
    assert_eq!(service.get("/openapi.yaml").await.text(), OPENAPI);
    assert_eq!(service.get("/livez").await.text(), r#"{"status":"ok"}"#);
    assert_eq!(service.get("/readyz").await.text(), r#"{"status":"ok","store":"ok","watchdog":"ok"}"#);
    let expected = r#"{"providers":[{"name":"acme","display_name":"The <acme> ID","reachable":true},{"name":"beta","display_name":"The <beta> ID","reachable":true}]}"#;
    assert_eq!(service.get("/providers").await.text(), expected);
    service.store.fail();
    assert_eq!(service.get("/readyz").await.text(), r#"{"status":"unavailable","store":"unavailable","watchdog":"ok"}"#);
    assert_eq!(service.get("/livez").await.status, 200);
}

#[tokio::test]
async fn scripts_of_allowed_origins_may_watch_and_nothing_else() {
    let service = Service::start(Setup { allowed_origins: vec!["https://tv.example".parse().unwrap()], ..Setup::default() });
    let session = service.pending().await;
    let from = async |origin: &str, path: &str| {
        let answer = service.get_with(path, &[("origin", origin)]).await;
        answer.header("access-control-allow-origin").map(str::to_owned)
    };
    assert_eq!(from("https://tv.example", &session.path()).await.as_deref(), Some("https://tv.example"));
    assert_eq!(from("https://evil.example", &session.path()).await, None);
    assert_eq!(from("https://tv.example", "/providers").await, None);

    let ask = |path: &str| {
        let asked = request(Method::OPTIONS, path).header("origin", "https://tv.example");
        service.send(asked.header("access-control-request-method", "GET").body(Body::empty()).unwrap())
    };
    let preflight = ask(&session.path()).await;
    assert_eq!(preflight.header("access-control-allow-methods"), Some("GET,HEAD"));
    assert!(preflight.header("access-control-allow-headers").unwrap().contains("if-none-match"));
    assert_eq!(ask(&format!("{}/claim", session.path())).await.status, 405);
    assert_eq!(ask("/sessions").await.status, 405);
}

#[tokio::test]
async fn without_allowed_origins_there_is_no_word_of_them() {
    let service = Service::plain();
    let session = service.pending().await;
    let answer = service.get_with(&session.path(), &[("origin", "https://tv.example")]).await;
    assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("access-control")));
    let preflight = request(Method::OPTIONS, &session.path()).header("access-control-request-method", "GET");
    assert_eq!(service.send(preflight.body(Body::empty()).unwrap()).await.status, 405);
}
