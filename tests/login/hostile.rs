//! Services that try to hurt the person, the terminal or the machine.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::folder;
use crate::process::{Program, login};
use crate::scripted::{ID, Scripted, session, with};

const ESCAPES: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{1b}[31mABCD\r\n\u{9b}1m\u{202e}";

/// A service whose first answer is this, and whose person denies.
async fn denying(first: Value) -> Scripted {
    let read = get(async || Json(with(session("denied", 600), "revision", 3.into())));
    Scripted::start(Router::new().route("/sessions", post(async || Json(first))).route(&format!("/sessions/{ID}"), read)).await
}

fn is_plain(text: &str) -> bool {
    !text.contains(|c: char| c.is_control() && c != '\n' || c == '\u{202e}')
}

/// A browser opener that writes what it is told to open into a file. Gives the `PATH` to find it.
fn opener(folder: &Path) -> (String, std::path::PathBuf) {
    let (program, opened) = (folder.join("xdg-open"), folder.join("opened"));
    fs::write(&program, format!("#!/bin/sh\nprintf '%s\\n' \"$#\" \"$@\" > {0}.new && mv {0}.new {0}\n", opened.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    (format!("{}:{}", folder.display(), std::env::var("PATH").unwrap()), opened)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_escape_sequence_reaches_the_terminal() {
    let mut first = session("pending", 600);
    for member in ["user_code", "provider", "label"] {
        first[member] = ESCAPES.into();
    }
    first["verification_uri"] = format!("https://id.acme.test/{ESCAPES}").into();
    first["verification_uri_complete"] = format!("https://id.acme.test/?code={ESCAPES}").into();
    let service = denying(first).await;
    for options in ["", "--json"] {
        let mut login = Program::login(&service.url, options);
        assert_eq!(login.exit(), Some(1));
        let stderr = login.stderr.complete();
        assert!(is_plain(&stderr) && stderr.contains("ABCD"), "{stderr:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_escape_sequence_of_a_failure_or_a_problem_reaches_the_terminal() {
    let failed = with(session("failed", 600), "failure", json!({"code": ESCAPES, "detail": ESCAPES}));
    let problem = async || (StatusCode::BAD_REQUEST, Json(json!({"code": "invalid_request", "detail": ESCAPES})));
    for begin in [post(async || Json(failed)), post(problem)] {
        let service = Scripted::start(Router::new().route("/sessions", begin)).await;
        let mut login = Program::login(&service.url, "");
        assert_eq!(login.exit(), Some(1));
        let stderr = login.stderr.complete();
        assert!(is_plain(&stderr) && stderr.contains("ABCD"), "{stderr:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_keep_their_meaning_and_lose_their_escapes() {
    let claim = post(async || format!("{{\n \"access_token\": \"at\u{9b}\u{202e}ü\",\r\n\t\"n\": 123456789012345678901234567890}}\n"));
    let routes = Router::new().route("/sessions", post(async || Json(session("authorized", 600))));
    let service = Scripted::start(routes.route(&format!("/sessions/{ID}/claim"), claim)).await;
    let mut login = Program::login(&service.url, "");
    assert_eq!(login.exit(), Some(0));
    assert_eq!(login.stdout.complete(), "{  \"access_token\": \"at\\u009b\\u202eü\",   \"n\": 123456789012345678901234567890}\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_web_addresses_are_shown_or_opened() {
    let folder = folder();
    let (path, opened) = opener(&folder);
    for uri in ["javascript:alert(1)", "file:///etc/passwd", "--version", "https://google.com@evil.test/", "ssh://a", ""] {
        let cancelled = Arc::new(AtomicUsize::new(0));
        let (count, first) = (Arc::clone(&cancelled), with(session("pending", 600), "verification_uri", uri.into()));
        let delete = axum::routing::delete(async move || {
            count.fetch_add(1, Ordering::SeqCst);
            StatusCode::NO_CONTENT
        });
        let routes = Router::new().route("/sessions", post(async || Json(first))).route(&format!("/sessions/{ID}"), delete);
        let mut command = login(&Scripted::start(routes).await.url, "--open");
        command.env("PATH", &path);
        let mut login = Program::start(command);
        assert_eq!(login.exit(), Some(1), "{uri}");
        assert!(login.stderr.complete().contains("its verification address is not a web address"), "{uri}");
        assert_eq!(cancelled.load(Ordering::SeqCst), 1, "{uri}: the session is cancelled");
    }
    assert!(!opened.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_with_the_code_that_is_no_web_address_is_left_out() {
    let folder = folder();
    let (path, opened) = opener(&folder);
    let service = denying(with(session("pending", 600), "verification_uri_complete", "javascript:alert(1)".into())).await;
    let mut command = login(&service.url, "--open");
    command.env("PATH", &path);
    let mut login = Program::start(command);
    assert_eq!(login.exit(), Some(1));
    assert!(!login.stderr.complete().contains("javascript"));
    assert_eq!(wait_for_file(&opened), "1\nhttps://id.acme.test/device\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_browser_gets_the_address_as_one_argument_that_no_shell_reads() {
    let folder = folder();
    let (path, opened) = opener(&folder);
    let complete = "https://id.acme.test/$(touch%20x)?a=1&b=`id`;reboot #\n";
    let service = denying(with(session("pending", 600), "verification_uri_complete", complete.into())).await;
    let mut command = login(&service.url, "--open");
    command.env("PATH", &path);
    assert_eq!(Program::start(command).exit(), Some(1));
    assert_eq!(wait_for_file(&opened), format!("1\n{}\n", url::Url::parse(complete).unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_a_browser_is_told_so() {
    let service = denying(session("pending", 600)).await;
    let mut command = login(&service.url, "--open");
    command.env("PATH", folder());
    let login = Program::start(command);
    login.stderr.wait_for("No browser could be opened here");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed() {
    let elsewhere = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&elsewhere);
    let trap = Scripted::start(Router::new().fallback(async move || {
        count.fetch_add(1, Ordering::SeqCst);
        Json(session("pending", 600))
    }))
    .await;
    let location = format!("{}/sessions", trap.url);
    for status in [StatusCode::MOVED_PERMANENTLY, StatusCode::TEMPORARY_REDIRECT, StatusCode::PERMANENT_REDIRECT] {
        let location = location.clone();
        let begin = post(async move || (status, [("location", location)]));
        let mut login = Program::login(&Scripted::start(Router::new().route("/sessions", begin)).await.url, "--key k");
        assert_eq!(login.exit(), Some(1));
        assert!(login.stderr.complete().contains("a redirect"), "{}", login.stderr.complete());
    }
    assert_eq!(elsewhere.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_end_is_cut_off() {
    let begin =
        post(async || Body::from_stream(futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 65536])))));
    let service = Scripted::start(Router::new().route("/sessions", begin)).await;
    let mut login = Program::login(&service.url, "");
    assert_eq!(login.exit(), Some(1));
    assert_eq!(login.stderr.complete(), "Not signed in: the service makes no sense: its answer is too large.\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_anteroom_is_said_to_be_something_else() {
    let mut answers: Vec<String> = ["", "<html>", "null", "[]", "{}", "{\"id\":\"../../etc\"}", "\u{0}"].map(str::to_owned).into();
    answers.push("[".repeat(100_000));
    answers.push(with(session("pending", 600), "id", "../x".into()).to_string());
    answers.push(with(session("pending", 600), "secret", Value::Null).to_string());
    answers.push(with(session("pending", 600), "secret", "a\r\nX-Evil: 1".into()).to_string());
    answers.push(with(session("pending", 600), "expires_at", "soon".into()).to_string());
    for answer in answers {
        let shown = answer.chars().take(300).collect::<String>();
        let routes = Router::new().route("/sessions", post(async || answer));
        let mut login = Program::login(&Scripted::start(routes).await.url, "");
        assert_eq!(login.exit(), Some(1), "{shown}");
        assert!(login.stderr.complete().starts_with("Not signed in: the service makes no sense: "), "{shown}: {}", login.stderr.complete());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_holds_no_answer_back_is_not_asked_in_a_tight_loop() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let read = get(async move |headers: HeaderMap| {
        let mut asked = log.lock().unwrap();
        let seen = asked.len() as u64;
        asked.push(["prefer", "if-none-match", "accept"].map(|name| headers[name].to_str().unwrap().to_owned()));
        let status = if seen == 3 { "denied" } else { "pending" };
        ([("preference-applied", "wait=30")], Json(with(session(status, 600), "revision", (3 + seen).into()))).into_response()
    });
    let routes = Router::new().route("/sessions", post(async || Json(session("pending", 600))));
    let service = Scripted::start(routes.route(&format!("/sessions/{ID}"), read)).await;
    let begun = std::time::Instant::now();
    assert_eq!(Program::login(&service.url, "").exit(), Some(1));
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 4);
    for (revision, request) in asked.iter().enumerate() {
        assert_eq!(*request, ["wait=30", &format!("\"{}\"", revision + 2), "application/json"]);
    }
    assert!(begun.elapsed().as_secs() >= 3, "a second lies between two requests");
}

fn wait_for_file(path: &Path) -> String {
    let deadline = std::time::Instant::now() + crate::SOON;
    while !path.exists() {
        assert!(std::time::Instant::now() < deadline, "no {}", path.display());
        std::thread::yield_now();
    }
    fs::read_to_string(path).unwrap()
}
