//! The disk fails while the service runs.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anteroom::clock::SystemClock;
use anteroom::demo::{DevProvider, Options};
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use serde_json::Value;
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use crate::scratch::Scratch;
use crate::service::{Answer, Service, configure};

async fn provider(scratch: &Scratch) -> DevProvider {
    let options = Options { interval: Some(1), ..Options::default() };
    let provider = DevProvider::start((Ipv4Addr::LOCALHOST, 0).into(), options, SystemClock::start()).await.expect("a free port");
    configure(scratch, provider.issuer());
    provider
}

/// The path that is to exist while the fault lasts.
fn fault(scratch: &Scratch, name: &'static str) -> (PathBuf, [(&'static str, String); 1]) {
    let path = scratch.join("fault");
    (path.clone(), [(name, path.display().to_string())])
}

fn answered(answer: Answer) -> (u16, Value) {
    answer.expect("it answers")
}

async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let waited = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waited).await.unwrap_or_else(|_| panic!("in vain: {what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_sync_the_process_ends_and_has_acknowledged_nothing_more() {
    let scratch = Scratch::default();
    let provider = provider(&scratch).await;
    let (path, faults) = fault(&scratch, "SYNC_FAILS");
    let service = Service::start(&scratch, &faults).expect("it starts");
    let (status, kept) = answered(service.http().create("kept").await);
    assert_eq!(status, 201);

    fs::write(&path, "").expect("a scratch file");
    let answer = service.http().create("lost").await;
    assert!(answer.as_ref().is_none_or(|(status, _)| *status >= 500), "{answer:?}");
    let ended = service.ended();
    assert_eq!(ended.code(), Some(1), "{ended}");
    assert_eq!(provider.counts().device_requests, 2, "nothing was known of the failure yet");

    fs::remove_file(&path).expect("our own file");
    let service = Service::start(&scratch, &faults).expect("it starts again");
    let id = kept["id"].as_str().expect("an id");
    assert_eq!(answered(service.http().get(&format!("/sessions/{id}")).await).1["status"], "pending");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_what_is_new_and_loses_nothing() {
    let scratch = Scratch::default();
    let provider = provider(&scratch).await;
    let (path, faults) = fault(&scratch, "NO_SPACE");
    let service = Service::start(&scratch, &faults).expect("it starts");
    let http = service.http();
    let (_, session) = answered(http.create("first").await);
    let (id, secret) = (session["id"].as_str().expect("an id"), session["secret"].as_str().expect("a secret"));
    let user_code = session["user_code"].as_str().expect("a code");
    let status = || async { answered(http.get(&format!("/sessions/{id}")).await).1["status"].as_str().map(str::to_owned) };
    assert_eq!(answered(http.get("/readyz").await).0, 200);

    fs::write(&path, "").expect("a scratch file");
    let (refused, problem) = answered(http.create("second").await);
    assert_eq!((refused, problem["code"].as_str()), (503, Some("store_unavailable")));
    assert_eq!(provider.counts().device_requests, 2, "nothing was known of the failure yet");
    let (refused, problem) = answered(http.create("third").await);
    assert_eq!((refused, problem["code"].as_str()), (503, Some("store_unavailable")));
    assert_eq!(provider.counts().device_requests, 2, "the provider was not asked for a code that could not be kept");
    until("it is not ready", || async { answered(http.get("/readyz").await).0 == 503 }).await;
    assert_eq!(answered(http.get("/livez").await).0, 200);
    let polls = provider.poll_count(user_code);
    until("the poller keeps its pace", || async { provider.poll_count(user_code) > polls }).await;

    assert_eq!(provider.approve(user_code), 1);
    until("the tokens are fetched", || async { provider.redemptions(user_code) == 1 }).await;
    assert_eq!(status().await.as_deref(), Some("pending"), "nobody sees what is not durable");
    assert_eq!(answered(http.claim(id, secret, None).await).1["code"], "session_pending");

    fs::remove_file(&path).expect("our own file");
    until("it is ready again by itself", || async { answered(http.get("/readyz").await).0 == 200 }).await;
    until("the verdict is saved", || async { status().await.as_deref() == Some("authorized") }).await;
    let (claimed, tokens) = answered(http.claim(id, secret, None).await);
    assert_eq!(claimed, 200);
    assert!(tokens["access_token"].is_string());
    assert_eq!((provider.redemptions(user_code), provider.early_polls()), (1, 0));
    assert_eq!(answered(http.create("second").await).0, 201, "its key was freed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_committed_is_acknowledged_though_it_cannot_be_merged() {
    // The second merge tells how the first one ended.
    const CREATED: u64 = 4_500;
    let scratch = Scratch::default();
    let options = Options { interval: Some(600), ..Options::default() };
    let provider = DevProvider::start((Ipv4Addr::LOCALHOST, 0).into(), options, SystemClock::start()).await.expect("a free port");
    configure(&scratch, provider.issuer());
    let (path, [no_space]) = fault(&scratch, "NO_SPACE");
    let service = Service::start(&scratch, &[no_space, ("NO_SPACE_FOR", "a.db".to_owned())]).expect("it starts");
    let http = service.http();
    fs::write(&path, "").expect("a scratch file");
    let created = |number: u64| {
        let http = &http;
        async move { answered(http.create(&number.to_string()).await).0 }
    };
    let answers: Vec<u16> = stream::iter(0..CREATED).map(created).buffer_unordered(64).collect().await;
    let acknowledged = answers.iter().filter(|status| **status == 201).count();
    service.kill();

    let options = SqliteConnectOptions::new().filename(scratch.join("a.db"));
    let mut file = options.connect().await.expect("a database");
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM sessions").fetch_one(&mut file).await.expect("a number");
    assert_eq!(usize::try_from(kept).ok(), Some(acknowledged), "of {CREATED}");
    assert!(acknowledged > 4_000, "{acknowledged} of {CREATED}: too few for two merges");
}

#[test]
fn a_first_start_that_was_cut_off_anywhere_is_made_up_for_by_the_next() {
    for point in ["after:write", "after:sync"] {
        let mut survived = 0;
        for number in 1.. {
            let scratch = Scratch::default();
            configure(&scratch, "http://127.0.0.1:1");
            if Service::start(&scratch, &[("KILL_AT", format!("{point}:{number}"))]).is_some() {
                break;
            }
            Service::start(&scratch, &[]).expect("it starts");
            survived = number;
        }
        eprintln!("cut off {survived} times {point}");
        assert!(survived > 5, "a first start writes and syncs more than {survived} times");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledged_change_was_synced_alone_or_with_others() {
    const ALONE: u64 = 10;
    const TOGETHER: u64 = 100;
    let scratch = Scratch::default();
    let _provider = provider(&scratch).await;
    let (path, faults) = fault(&scratch, "SYNCS");
    let service = Service::start(&scratch, &faults).expect("it starts");
    let http = service.http();
    let syncs = || fs::metadata(&path).map_or(0, |file| file.len());
    let created = |number: u64| {
        let http = &http;
        async move { assert_eq!(answered(http.create(&number.to_string()).await).0, 201) }
    };
    let mut before = syncs();
    for number in 0..ALONE {
        created(number).await;
        let after = syncs();
        assert!(after > before, "{before} and then {after}");
        before = after;
    }
    join_all((ALONE..ALONE + TOGETHER).map(created)).await;
    let together = syncs() - before;
    eprintln!("{TOGETHER} creations at once: {together} syncs");
    assert!((1..TOGETHER).contains(&together), "{together} syncs for {TOGETHER} changes");
}
