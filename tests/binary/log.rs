//! The log: what it calls a session and a request, and that nobody waits for its reader.

use anteroom::demo::DevProvider;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::service::{Program, Service, TempFile, answer, text, within};
use super::{client_of, provider};

#[tokio::test]
async fn lines_name_the_session_by_its_digest_and_the_request_by_its_id() {
    let provider = provider().await;
    let file = configuration(&provider, "");
    let arguments = ["serve", "--log", "info,exchange=debug", "--log-format", "json", "--config", file.path()];
    let mut service = Service::of(Program::start(&arguments)).await;

    let create = service.request(Method::POST, "/sessions").header("x-request-id", "the-create");
    let begun = answer(create.header("content-type", "application/json").body("{}")).await.body;
    let (id, secret) = (text(&begun, "id"), text(&begun, "secret"));
    let cancel = service.request(Method::DELETE, &format!("/sessions/{id}")).header("x-request-id", "the-cancel").bearer_auth(&secret);
    assert_eq!(answer(cancel).await.status, StatusCode::NO_CONTENT);
    service.program.signal("TERM");
    assert_eq!(service.program.exit().await.code(), Some(0));

    let lines: Vec<Value> = service.program.stderr().iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of_target = |target: &str| lines.iter().filter(|line| line["target"] == target).collect::<Vec<_>>();
    let (audit, exchanges) = (of_target("audit"), of_target("exchange"));
    let events: Vec<_> = audit.iter().map(|line| (line["event"].as_str(), line["span"]["request_id"].as_str())).collect();
    assert_eq!(events[0], (Some("opened"), Some("the-create")), "{audit:#?}");
    assert_eq!(events.last(), Some(&(Some("cancelled"), Some("the-cancel"))), "{audit:#?}");
    assert!(exchanges.iter().any(|line| line["errand"] == "begin" && line["took_ms"].is_u64()), "{exchanges:#?}");
    for line in audit.iter().chain(&exchanges) {
        assert_eq!(line["session"], digest_of(&id), "{line}");
    }
    let all = service.program.stderr().join("\n");
    for hidden in [id.as_str(), &secret, begun["user_code"].as_str().unwrap()] {
        assert!(!all.contains(hidden), "{hidden} is in the log");
    }
}

#[tokio::test]
async fn a_full_log_pipe_holds_nothing_up() {
    let provider = provider().await;
    let file = configuration(&provider, "admin_listen = \"127.0.0.1:0\"\n");
    let program = Program::start_read_until("metrics on ", &["serve", "--log", "trace", "--config", file.path()]);
    let metrics = program.stderr_after("metrics on ").await;
    let mut service = Service::of(program).await;

    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    within(async {
        loop {
            for _ in 0..100 {
                assert_eq!(answer(service.request(Method::GET, "/livez")).await.status, StatusCode::OK);
            }
            let metrics = http.get(&metrics).send().await.unwrap().text().await.unwrap();
            let dropped = metrics.lines().find_map(|line| line.strip_prefix("anteroom_log_lines_dropped_total "));
            if dropped.expect("the series").parse::<u64>().unwrap() > 0 {
                break;
            }
        }
    })
    .await;
    service.begin(&serde_json::json!({})).await;
    service.program.signal("TERM");
    assert_eq!(service.program.exit().await.code(), Some(0));
}

/// What the log, and the trace, call a session.
pub fn digest_of(id: &str) -> String {
    let id: uuid::Uuid = id.parse().unwrap();
    Sha256::digest(id.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

pub fn configuration(provider: &DevProvider, more: &str) -> TempFile {
    let admin = if more.contains("admin_listen") { "" } else { "admin_listen = \"\"\n" };
    TempFile::new(&format!("listen = \"127.0.0.1:0\"\n{admin}{more}{}", client_of(provider)))
}
