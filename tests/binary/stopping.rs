//! How the service ends: soon, and well, whatever is under way.

use std::time::{Duration, Instant};

use anteroom::demo::{Answer, DevProvider, Endpoint};
use reqwest::StatusCode;
use reqwest::header::ETAG;
use serde_json::json;

use super::service::{Program, Service, within};
use super::{client_of, provider};

/// That all is over by then is promised; the rest is for a busy machine.
const TEN_SECONDS: Duration = Duration::from_secs(12);

#[tokio::test]
async fn a_signal_ends_an_idle_service() {
    let provider = provider().await;
    for signal in ["TERM", "INT"] {
        let mut service = Service::start(&client_of(&provider)).await;
        service.begin(&json!({})).await;
        let took = stop(&mut service.program, signal).await;
        assert!(took < TEN_SECONDS, "SIG{signal}: {took:?}");
    }
}

#[tokio::test]
async fn an_open_long_poll_is_answered_before_the_end() {
    let provider = provider().await;
    let mut service = Service::start_logging("info,anteroom::http=debug", &client_of(&provider)).await;
    let session = service.begin(&json!({})).await;
    let tag = session.read().await.headers[ETAG].to_str().unwrap().to_owned();
    let requests = |log: &Vec<String>| log.iter().filter(|line| line.contains("started processing request")).count();
    let before = requests(&service.program.stderr());

    let (answer, ()) = tokio::join!(session.watch(&tag, 60), async {
        service.program.stderr_until(|log| requests(log) > before).await;
        service.program.signal("TERM");
    });
    assert_eq!(answer.status, StatusCode::NOT_MODIFIED);
    let took = ended(&mut service.program).await;
    assert!(took < TEN_SECONDS, "{took:?}");
}

#[tokio::test]
async fn a_provider_that_stalls_holds_nobody_up() {
    let provider = provider().await;
    let mut service = asking_a_stalled(&provider).await;
    let took = stop(&mut service.program, "TERM").await;
    assert!(took < TEN_SECONDS, "{took:?}");
}

#[tokio::test]
async fn the_second_signal_ends_it_at_once() {
    let provider = provider().await;
    let mut service = asking_a_stalled(&provider).await;
    service.program.signal("TERM");
    service.program.stderr_after("shutting down").await;
    let took = stop(&mut service.program, "TERM").await;
    assert!(took < Duration::from_secs(4), "a poll would have had 8 s, and it took {took:?}");
}

/// With a poll under way that is never answered.
async fn asking_a_stalled(provider: &DevProvider) -> Service {
    provider.always(Endpoint::Token, Some(Answer::Stall));
    let service = Service::start(&client_of(provider)).await;
    service.begin(&json!({})).await;
    within(provider.wait_for(|provider| !provider.exchanges(Endpoint::Token).is_empty())).await;
    service
}

async fn stop(program: &mut Program, signal: &str) -> Duration {
    program.signal(signal);
    ended(program).await
}

/// How long it took, from here on, until it had ended well.
async fn ended(program: &mut Program) -> Duration {
    let begin = Instant::now();
    let status = program.exit().await;
    assert_eq!(status.code(), Some(0), "{:#?}", program.stderr());
    begin.elapsed()
}
