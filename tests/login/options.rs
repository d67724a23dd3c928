//! The options, and what of them the service gets to see.

use std::fs;
use std::sync::{Arc, Mutex};

use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::folder;
use crate::process::{Program, login};
use crate::scripted::{Scripted, session};

/// What came with `POST /sessions`.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<(HeaderMap, Value)>>>);

impl Seen {
    /// A service where every sign-in is denied at once.
    async fn start(&self) -> Scripted {
        let seen = self.clone();
        let begin = post(async move |headers: HeaderMap, Json(body): Json<Value>| {
            seen.0.lock().unwrap().push((headers, body));
            Json(session("denied", 600))
        });
        Scripted::start(Router::new().route("/sessions", begin)).await
    }

    fn take(&self) -> (HeaderMap, Value) {
        let seen = std::mem::take(&mut *self.0.lock().unwrap());
        let [one] = <[_; 1]>::try_from(seen).expect("one request");
        one
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_gets_what_was_asked_for_and_no_more() {
    let seen = Seen::default();
    let service = seen.start().await;
    Program::login(&service.url, "").exit();
    let (headers, body) = seen.take();
    assert_eq!(body, json!({}));
    assert!(!headers.contains_key("authorization") && headers["idempotency-key"].len() >= 32);

    let mut command = login(&service.url, "--provider acme --label");
    command.args(["the TV", "--scope", "openid profile"]);
    Program::start(command).exit();
    assert_eq!(seen.take().1, json!({"provider": "acme", "label": "the TV", "scope": "openid profile"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_caller_key_comes_from_an_option_a_file_or_the_environment() {
    let seen = Seen::default();
    let service = seen.start().await;
    let file = folder().join("key");
    fs::write(&file, "from-a-file\n").unwrap();
    let from_file = format!("--key-file {}", file.display());
    for (options, expected) in [("", "Bearer from-the-environment"), (&from_file, "Bearer from-a-file"), ("--key given", "Bearer given")] {
        let mut command = login(&service.url, options);
        command.env("ANTEROOM_KEY", "from-the-environment");
        let mut login = Program::start(command);
        assert_eq!(login.exit(), Some(1));
        assert_eq!(seen.take().0["authorization"], expected);
        let key = expected.strip_prefix("Bearer ").unwrap();
        assert!(!login.stderr.complete().contains(key));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_caller_key_is_asked_for() {
    let problem = async || (StatusCode::UNAUTHORIZED, Json(json!({"code": "unauthorized", "detail": "x"})));
    let service = Scripted::start(Router::new().route("/sessions", post(problem))).await;
    let mut login = Program::login(&service.url, "");
    assert_eq!(login.exit(), Some(1));
    assert_eq!(login.stderr.complete(), "Not signed in: the service wants a caller key: --key-file FILE, or ANTEROOM_KEY.\n");
}

#[test]
fn options_that_make_no_sense_exit_with_2_and_never_repeat_the_key() {
    let canary = folder().join("key");
    fs::write(&canary, "canary with spaces").unwrap();
    let with_spaces = format!("--key-file {}", canary.display());
    let cases = [
        ("http://signin.example", "", "--insecure-http"),
        ("http://192.0.2.1:8080", "", "--insecure-http"),
        ("http://localhost.evil.example", "", "--insecure-http"),
        ("ftp://127.0.0.1", "", "expected a URL"),
        ("127.0.0.1:8080", "", "expected a URL"),
        ("https://me:canary@signin.example", "", "without user name"),
        ("https://signin.example/?a=canary", "", "without user name"),
        ("https://signin.example/#canary", "", "without user name"),
        ("https://signin.example", "--key canary --key-file x", "cannot be used with"),
        ("https://signin.example", "--key-file /nowhere/canary", "cannot be read"),
        ("https://signin.example", "--key canary\u{fc}", "visible ASCII"),
        ("https://signin.example", &with_spaces, "visible ASCII"),
        ("https://signin.example", "--qr", "unexpected argument"),
    ];
    for (url, options, expected) in cases {
        let mut login = Program::login(url, options);
        assert_eq!(login.exit(), Some(2), "{url} {options}");
        let stderr = login.stderr.complete();
        assert!(stderr.contains(expected), "{url} {options}: {stderr}");
        assert!(!stderr.replace("/nowhere/canary", "").contains("canary"), "{stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_of_the_environment_carries_https_alone() {
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", proxy.local_addr().unwrap());
    let mut command = login("https://signin.example", "--key canary");
    command.env("HTTPS_PROXY", &address);
    let mut login_over_https = Program::start(command);
    let (mut connection, _) = proxy.accept().await.unwrap();
    let mut head = [0; 1024];
    let length = connection.read(&mut head).await.unwrap();
    let head = String::from_utf8_lossy(&head[..length]).into_owned();
    assert!(head.starts_with("CONNECT signin.example:443 HTTP/1.1\r\n") && !head.contains("canary"), "{head}");
    connection.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n").await.unwrap();
    drop((connection, proxy));
    assert_eq!(login_over_https.exit(), Some(1));

    let seen = Seen::default();
    let mut command = login(&seen.start().await.url, "");
    command.env("HTTP_PROXY", &address).env("http_proxy", &address).env("ALL_PROXY", &address);
    assert_eq!(Program::start(command).exit(), Some(1));
    seen.take();
}
