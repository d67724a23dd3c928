//! The process does not get the processor for a while, as when it is stopped or its machine is.

use std::time::Duration;

use anteroom::demo::Answer;
use serde_json::json;

use super::service::{Service, within};
use super::{client_of, provider};

/// Longer than an exchange may take.
const STOPPED: Duration = Duration::from_secs(18);

/// The provider answers with tokens while nobody listens. It waits in real time: nothing else shows what the timers of a process do
/// that was stopped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_arrived_while_the_process_was_stopped_are_taken() {
    let provider = provider().await;
    let service = Service::start(&client_of(&provider)).await;
    let session = service.begin(&json!({})).await;
    provider.approve(session.user_code());
    provider.script_polls(session.user_code(), [Answer::LateReply(Duration::from_secs(3))]);
    within(provider.wait_for(|provider| provider.poll_count(session.user_code()) == 1)).await;
    service.program.signal("STOP");
    tokio::time::sleep(STOPPED).await;
    service.program.signal("CONT");
    assert_eq!(session.outcome().await["status"], "authorized");
    assert_eq!(provider.redemptions(session.user_code()), 1);
}
