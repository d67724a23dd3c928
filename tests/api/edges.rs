//! What holds for every path: unknown ones, headers, request ids, other origins, and the small resources of the service.

use anteroom::http::OPENAPI;
use anteroom::http::cors::Origins;
use anteroom::kernel::verdict::Verdict;
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

/// Whether the origin may, by the preflight and by the answer itself.
async fn may(service: &Service, origin: &str, method: Method, path: &str) -> bool {
    let preflight = request(Method::OPTIONS, path).header("origin", origin).header("access-control-request-method", method.as_str());
    let preflight = service.send(preflight.body(Body::empty()).unwrap()).await;
    let answer = service.send(request(method.clone(), path).header("origin", origin).body(Body::empty()).unwrap()).await;
    let allowed = [&preflight, &answer].map(|answer| answer.header("access-control-allow-origin") == Some(origin));
    assert_eq!(allowed[0], allowed[1], "{origin} {method} {path}");
    if allowed[0] {
        assert_eq!(preflight.header("access-control-allow-methods"), Some(method.as_str()), "the one that was asked for");
        let headers = preflight.header("access-control-allow-headers").unwrap();
        assert!(["prefer", "if-none-match", "last-event-id"].iter().all(|name| headers.contains(name)));
        let exposed = answer.header("access-control-expose-headers").unwrap();
        assert!(exposed.contains("etag") && exposed.contains("retry-after"));
    }
    allowed[0]
}

#[tokio::test]
async fn watching_and_owning_are_allowed_apart_to_scripts_of_other_origins() {
    let (watcher, owner) = ("https://tv.example", "https://kiosk.example");
    let list = |origin: &str| vec![origin.parse().unwrap()];
    let only_watchers = Setup { origins: Origins { watchers: list(watcher), owners: Vec::new() }, ..Setup::default() };
    let both = Setup { origins: Origins { watchers: list(watcher), owners: list(owner) }, ..Setup::default() };
    for (setup, has_owner) in [(only_watchers, false), (both, true)] {
        let service = Service::start(setup);
        // Settled, so that its stream of events ends.
        let session = service.polled(Verdict::Denied).await.path();
        let watched =
            [("", Method::GET), ("/events", Method::GET), ("/qr.svg", Method::GET), ("/qr.png", Method::GET), ("/check", Method::POST)];
        for (below, method) in watched {
            let path = format!("{session}{below}");
            assert!(may(&service, watcher, method.clone(), &path).await, "{path}");
            assert_eq!(may(&service, owner, method.clone(), &path).await, has_owner, "{path}");
            assert!(!may(&service, "https://evil.example", method, &path).await, "{path}");
        }
        let owned =
            [(session.clone(), Method::DELETE), (format!("{session}/claim"), Method::POST), (format!("{session}/renew"), Method::POST)];
        for (path, method) in owned.into_iter().chain([("/sessions".to_owned(), Method::POST)]) {
            assert!(!may(&service, watcher, method.clone(), &path).await, "{path}");
            assert_eq!(may(&service, owner, method, &path).await, has_owner, "{path}");
        }
        assert!(!may(&service, watcher, Method::GET, "/providers").await);
    }
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
