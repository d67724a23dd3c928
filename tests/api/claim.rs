//! Claiming and cancelling, which only the owner may.

use std::time::Duration;

use anteroom::kernel::verdict::Verdict;
use axum::body::Body;
use axum::http::Method;
use futures_util::future::join_all;

use crate::service::{Ours, Service, claim, request};

const TOKENS: &str = r#"{"access_token":"an-access-token","token_type":"Bearer","expires_at":"2100-01-01T00:00:00Z","refresh_token":null,"id_token":"an.id.token","scope":"openid","claims":{"sub":"248289","n":1.0}}"#;

#[tokio::test]
async fn the_owner_gets_the_tokens_and_with_the_same_key_the_same_bytes_again() {
    let service = Service::plain();
    let session = service.authorized().await;
    let first = service.claim(&session, Some("k")).await;
    assert_eq!((first.status.as_u16(), first.text()), (200, TOKENS));
    service.clock.advance(Duration::from_millis(59_999));
    assert_eq!(service.claim(&session, Some("\"k\"")).await.body, first.body);
    service.claim(&session, Some("other")).await.is_problem(410, "already_claimed");
    service.claim(&session, None).await.is_problem(410, "already_claimed");
    service.clock.advance(Duration::from_millis(1));
    service.claim(&session, Some("k")).await.is_problem(410, "already_claimed");
    assert_eq!(service.get(&session.path()).await.json()["status"], "claimed");
}

#[tokio::test]
async fn without_a_key_the_tokens_are_there_strictly_once() {
    let service = Service::plain();
    let session = service.authorized().await;
    assert_eq!(service.claim(&session, None).await.text(), TOKENS);
    service.claim(&session, None).await.is_problem(410, "already_claimed");
}

#[tokio::test]
async fn of_64_keys_at_once_one_gets_the_tokens() {
    let service = Service::plain();
    let session = service.authorized().await;
    let answers = join_all((0..64).map(|n| service.send(claim(&session, Some(&format!("key-{n}")))))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.status == 410).count(), 63);
}

#[tokio::test]
async fn an_acknowledged_claim_is_over() {
    let service = Service::plain();
    let session = service.authorized().await;
    assert_eq!(service.claim(&session, Some("k")).await.status, 200);
    assert_eq!(service.delete(&session).await.status, 204);
    service.claim(&session, Some("k")).await.is_problem(410, "already_claimed");
    assert_eq!(service.delete(&session).await.status, 204);
    assert_eq!(service.get(&session.path()).await.json()["status"], "claimed");
}

#[tokio::test]
async fn a_claim_that_comes_too_early_or_after_a_bad_end_changes_nothing() {
    let service = Service::plain();
    let denied = service.polled(Verdict::Denied).await;
    service.claim(&denied, None).await.is_problem(409, "session_not_authorized");
    assert_eq!(service.delete(&denied).await.status, 204);
    assert_eq!(service.get(&denied.path()).await.json()["status"], "denied");
    let pending = service.pending().await;
    service.claim(&pending, None).await.is_problem(409, "session_pending");
    assert_eq!(service.get(&pending.path()).await.json()["revision"], 2);
}

#[tokio::test]
async fn deleting_cancels_what_is_not_claimed() {
    let service = Service::plain();
    for session in [service.authorized().await, service.pending().await] {
        assert_eq!(service.delete(&session).await.status, 204);
        assert_eq!(service.get(&session.path()).await.json()["status"], "cancelled");
        service.claim(&session, None).await.is_problem(409, "session_not_authorized");
    }
}

#[tokio::test]
async fn whoever_is_not_the_owner_gets_the_same_bytes_as_for_no_session() {
    let service = Service::plain();
    let (ours, other) = (service.authorized().await, service.pending().await);
    let nowhere = service.get("/sessions/2f6c1d2e-8f3b-4c55-9a0e-6d1f0c9b7a42").await;
    nowhere.is_problem(404, "session_not_found");
    let upper = ours.id.to_uppercase();
    let simple = ours.id.replace('-', "");
    let ids = [&*ours.id, &*upper, &*simple, "x", "%ff%fe", "2f6c1d2e-8f3b-4c55-9a0e-6d1f0c9b7a42"];
    let secrets = [None, Some(""), Some("Bearer"), Some("Bearer ars_"), Some("Bearer \u{fc}"), Some("Basic YTpi")];
    let foreign = format!("Bearer {}", other.secret);
    let secrets = secrets.into_iter().chain([Some(foreign.as_str())]);
    for (secret, id) in secrets.flat_map(|secret| ids.map(|id| (secret, id))) {
        for (method, path) in [(Method::POST, format!("/sessions/{id}/claim")), (Method::DELETE, format!("/sessions/{id}"))] {
            let mut request = request(method, &format!("{path}?secret={}", ours.secret));
            if let Some(secret) = secret {
                request = request.header("authorization", secret.as_bytes());
            }
            let answer = service.send(request.body(Body::empty()).unwrap()).await;
            assert_eq!((answer.status, &answer.body), (nowhere.status, &nowhere.body), "{id} with {secret:?}");
        }
    }
    for id in &ids[1..] {
        assert_eq!(service.get(&format!("/sessions/{id}")).await.body, nowhere.body);
    }
    let shouted = Ours { id: upper, secret: ours.secret.clone() };
    assert_eq!(service.claim(&shouted, None).await.body, nowhere.body);
    assert_eq!(service.claim(&ours, None).await.status, 200);
}
