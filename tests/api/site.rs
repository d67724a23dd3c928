//! Pages of others cannot have a browser change anything here, nor reach a service that is for this machine alone.

use anteroom::http::cors::Origins;
use anteroom::http::site::{HostName, Site};
use axum::body::Body;
use axum::http::{HeaderValue, Method};

use crate::service::{Answer, Service, Setup, request};

const OURS: &str = "https://signin.example";
const OWNER: &str = "https://tv.example";
const WATCHER: &str = "https://screen.example";

fn host(text: &str) -> HostName {
    HostName::read(text).unwrap()
}

fn origins() -> Origins {
    Origins { watchers: vec![HeaderValue::from_static(WATCHER)], owners: vec![HeaderValue::from_static(OWNER)] }
}

fn service(site: Site) -> Service {
    Service::start(Setup { site, origins: origins(), ..Setup::default() })
}

async fn send(service: &Service, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    let request = headers.iter().fold(request(method, path), |request, (name, value)| request.header(*name, *value));
    service.send(request.body(Body::empty()).unwrap()).await
}

async fn begin(service: &Service, headers: &[(&str, &str)]) -> u16 {
    let answer = send(service, Method::POST, "/sessions", headers).await;
    if answer.status == 403 {
        assert_eq!(answer.json()["code"], "origin_not_allowed");
    }
    answer.status.as_u16()
}

#[tokio::test]
async fn a_change_that_a_page_of_others_asks_for_is_refused() {
    let service = service(Site::default());
    let host = ("host", "signin.example");
    for headers in [
        &[host][..],
        &[host, ("origin", OURS)],
        &[host, ("origin", "http://signin.example")],
        &[host, ("origin", OWNER), ("sec-fetch-site", "cross-site")],
        &[host, ("origin", "https://elsewhere.example"), ("sec-fetch-site", "same-origin")],
        &[host, ("sec-fetch-site", "none")],
    ] {
        assert_eq!(begin(&service, headers).await, 201, "{headers:?}");
    }
    for headers in [
        &[host, ("sec-fetch-site", "cross-site")][..],
        &[host, ("origin", "https://evil.example")],
        &[host, ("origin", "null")],
        &[host, ("origin", "")],
        &[host, ("origin", OURS), ("origin", OURS)],
        &[host, ("origin", WATCHER)],
        &[host, ("origin", OURS), ("sec-fetch-site", "cross-site")],
        &[host, ("origin", "https://signin.example:8443")],
        &[host, ("origin", "https://signin.example.evil.example")],
        &[("origin", OURS)],
    ] {
        assert_eq!(begin(&service, headers).await, 403, "{headers:?}");
    }
}

#[tokio::test]
async fn everything_that_changes_something_is_guarded_and_reading_is_not() {
    let service = service(Site::default());
    let session = service.pending().await;
    let foreign = [("host", "signin.example"), ("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")];
    for (method, path) in [(Method::POST, "/claim"), (Method::POST, "/renew"), (Method::POST, "/check"), (Method::DELETE, "")] {
        let answer = send(&service, method, &format!("{}{path}", session.path()), &foreign).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (403, &"origin_not_allowed".into()), "{path}");
    }
    assert_eq!(send(&service, Method::GET, &session.path(), &foreign).await.status, 200);
    let watcher = [("origin", WATCHER), ("sec-fetch-site", "cross-site")];
    assert_eq!(send(&service, Method::POST, &format!("{}/check", session.path()), &watcher).await.status, 202);
    assert_eq!(send(&service, Method::DELETE, &session.path(), &watcher).await.status, 403);
}

#[tokio::test]
async fn the_public_url_says_which_origin_is_ours() {
    let site = Site { public: Some((host("signin.example"), HeaderValue::from_static(OURS))), ..Site::default() };
    let service = service(site);
    assert_eq!(begin(&service, &[("host", "10.0.0.7:8080"), ("origin", OURS)]).await, 201);
    assert_eq!(begin(&service, &[("host", "evil.example"), ("origin", "https://evil.example")]).await, 403);
    assert_eq!(begin(&service, &[("host", "signin.example"), ("origin", "http://signin.example")]).await, 403);
}

#[tokio::test]
async fn on_loopback_only_our_own_hosts_are_served() {
    let public = Some((host("signin.example"), HeaderValue::from_static(OURS)));
    let site = Site { public, hosts: vec![host("box.local"), host("tv.local:8080")], is_loopback: true, ..Site::default() };
    let service = service(site);
    let status = async |host: &str| {
        let answer = send(&service, Method::GET, "/providers", &[("host", host)]).await;
        if answer.status == 421 {
            assert_eq!(answer.json()["code"], "misdirected_request");
        }
        answer.status.as_u16()
    };
    for ours in [
        "localhost",
        "LOCALHOST:8080",
        "a.localhost",
        "localhost.",
        "127.0.0.1:8080",
        "127.9.9.9",
        "[::1]:8080",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "signin.example",
        "signin.example:443",
        "box.local",
        "box.local:8080",
        "tv.local:8080",
    ] {
        assert_eq!(status(ours).await, 200, "{ours}");
    }
    for other in
        ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "[2001:db8::1]", "tv.local", "tv.local:81"]
    {
        assert_eq!(status(other).await, 421, "{other}");
    }
    assert_eq!(
        send(&service, Method::GET, "http://evil.example/providers", &[("host", "localhost")]).await.status,
        421,
        "the target counts"
    );
    assert_eq!(send(&service, Method::GET, "/providers", &[]).await.status, 200, "HTTP/1.0 names none");
}

#[tokio::test]
async fn a_creation_key_that_could_be_guessed_is_refused() {
    let service = service(Site::default());
    for (key, status) in
        [("a", 400), ("123456789012345", 400), ("\"12345678901234\"", 400), ("1234567890123456", 201), ("\"1234567890123456\"", 200)]
    {
        let answer = send(&service, Method::POST, "/sessions", &[("idempotency-key", key)]).await;
        assert_eq!(answer.status.as_u16(), status, "{key}");
    }
}

#[tokio::test]
async fn event_streams_of_one_session_have_their_share_of_the_places() {
    let service = Service::start(Setup { max_streams: 2, ..Setup::default() });
    let session = service.pending().await;
    let path = format!("{}/events", session.path());
    let open = async || {
        use tower::ServiceExt;
        service.router.clone().oneshot(request(Method::GET, &path).body(Body::empty()).unwrap()).await.unwrap()
    };
    let (first, second) = (open().await, open().await);
    assert_eq!((first.status(), second.status()), (axum::http::StatusCode::OK, axum::http::StatusCode::OK));
    assert_eq!(open().await.status(), 429);
    drop(first);
    assert_eq!(open().await.status(), 200);
}
