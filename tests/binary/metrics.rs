//! What Prometheus is told by a service at work.

use anteroom::demo::DevProvider;
use reqwest::header::ETAG;
use serde_json::json;

use super::service::{Folder, Program, Service, TempFile, within};
use super::{client_of, provider};

#[tokio::test]
async fn a_service_at_work_says_what_it_waits_for_and_what_it_commits() {
    let (provider, folder) = (provider().await, Folder::new());
    let file = configuration(&provider, &folder);
    let service = Service::of(Program::start(&["serve", "--config", file.path()])).await;
    let metrics = service.program.stderr_after("metrics on ").await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let value = async |series: &str| {
        let text = http.get(&metrics).send().await.unwrap().text().await.unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse::<f64>().ok());
        value.unwrap_or_else(|| panic!("no {series} in {text}"))
    };

    assert_eq!(value(concat!("anteroom_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}")).await, 1.0);
    assert_eq!(value("anteroom_store_commit_seconds_count").await, 0.0);
    assert_eq!(value("anteroom_open_streams").await, 0.0);

    let session = service.begin(&json!({})).await;
    let commits = value("anteroom_store_commit_seconds_count").await;
    assert_eq!(commits, 1.0, "with its code");
    assert!(value("anteroom_store_batch_size_sum").await >= commits);
    assert_eq!(value("anteroom_store_queue").await, 0.0);
    assert_eq!(value("anteroom_provider_reachable{provider=\"acme\"}").await, 1.0);
    assert_eq!(value("anteroom_log_lines_dropped_total").await, 0.0);

    let tag = session.read().await.headers[ETAG].to_str().unwrap().to_owned();
    let watching = async {
        within(async { while value("anteroom_open_streams").await < 2.0 {} }).await;
        assert_eq!(session.delete().await.status, 204);
    };
    tokio::join!(session.watch(&tag, 60), session.watch(&tag, 60), watching);
    assert_eq!(value("anteroom_open_streams").await, 0.0);
}

fn configuration(provider: &DevProvider, folder: &Folder) -> TempFile {
    let listeners = "listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n";
    let store = format!("store.url = \"sqlite://{}/sessions.db\"\n", folder.0.display());
    TempFile::new(&format!("{listeners}{store}{}", client_of(provider)))
}
