//! What is answered while the sessions are still being loaded after a start.

use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use uuid::Uuid;

use crate::service::{Ours, Service, Setup, json, owned, request};

/// A session of `before`, and the service after it, which does not get to its end with loading.
pub fn restarted(before: &Service) -> Service {
    before.store.load_for_ever();
    Service::start(Setup { store: Arc::clone(&before.store), ..Setup::default() })
}

#[tokio::test]
async fn whoever_asks_for_a_session_gets_it() {
    let before = Service::plain();
    let claimed = before.authorized().await;
    let [read, cancelled, checked] = [before.pending().await, before.pending().await, before.pending().await];
    let service = restarted(&before);
    assert_eq!(service.get(&read.path()).await.json()["status"], "pending");
    assert_eq!(service.claim(&claimed, None).await.status, 200);
    assert_eq!(service.delete(&cancelled).await.status, 204);
    assert_eq!(service.send(request(Method::POST, &format!("{}/check", checked.path())).body("".into()).unwrap()).await.status, 202);

    service.get(&format!("/sessions/{}", Uuid::new_v4())).await.is_problem(404, "session_not_found");
    let stranger = Ours { secret: read.secret.clone(), ..before.pending().await };
    service.send(owned(Method::DELETE, &stranger.path(), &stranger).body("".into()).unwrap()).await.is_problem(404, "session_not_found");
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_no_missing_session() {
    let before = Service::plain();
    let session = before.pending().await;
    let service = restarted(&before);
    service.store.fail();
    service.get(&session.path()).await.is_problem(503, "store_unavailable");
}

#[tokio::test]
async fn a_sign_in_begins_unless_it_may_be_an_old_one() {
    let service = restarted(&Service::plain());
    assert_eq!(service.post("{}").await.status, 201);
    let (begun, mut request) = (service.provider.begun(), json("/sessions", "{}"));
    request.headers_mut().insert("idempotency-key", "0123456789abcdef".parse().unwrap());
    let (answer, ()) = tokio::join!(service.send(request), async { service.clock.advance(Duration::from_secs(30)) });
    answer.is_problem(503, "store_unavailable");
    assert_eq!(service.provider.begun(), begun);
}

#[tokio::test]
async fn it_lives_and_is_not_ready() {
    let service = restarted(&Service::plain());
    assert_eq!(service.get("/livez").await.status, 200);
    let ready = service.get("/readyz").await;
    assert_eq!((ready.status.as_u16(), ready.text()), (503, r#"{"status":"unavailable","store":"loading","watchdog":"ok"}"#));
}
