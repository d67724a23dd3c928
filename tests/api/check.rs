//! `POST /sessions/{id}/check`: our own back-off cut short.

use std::time::Duration;

use anteroom::kernel::verdict::Verdict;
use axum::body::Body;
use axum::http::{Method, Request};

use crate::service::{Service, grant, request};

#[tokio::test]
async fn after_failures_a_check_brings_the_next_poll_forward_as_far_as_the_pace_allows() {
    let service = Service::plain();
    let session = service.pending().await;
    let seconds_to_poll = async || service.get(&session.path()).await.header("retry-after").unwrap().parse::<u64>().unwrap();
    for _ in 0..4 {
        service.provider.says(Verdict::Unreachable { ambiguous: false, retry_after: None });
    }
    let is_backing_off = || {
        let session = service.app.sessions.get(session.id.parse().unwrap()).unwrap();
        session.next_poll_at().is_some_and(|at| at.since(service.now()) > Duration::from_secs(50))
    };
    service.advance_until(is_backing_off).await;

    let answer = service.send(check(&session.path())).await;
    assert_eq!((answer.status.as_u16(), answer.body.is_empty()), (202, true));
    assert!(seconds_to_poll().await <= 6);
    service.provider.says(Verdict::Authorized(grant()));
    service.clock.advance(Duration::from_secs(6));
    let authorized = service.get_with(&session.path(), &[("if-none-match", "\"3\""), ("prefer", "wait=5")]).await;
    assert_eq!(authorized.json()["status"], "authorized");
}

#[tokio::test]
async fn a_session_is_checked_once_in_5_s() {
    let service = Service::plain();
    let session = service.pending().await;
    let other = service.pending().await;
    assert_eq!(service.send(check(&session.path())).await.status, 202);
    for _ in 0..3 {
        let again = service.send(check(&session.path())).await;
        again.is_problem(429, "rate_limited");
        assert_eq!(again.header("retry-after"), Some("5"));
    }
    assert_eq!(service.send(check(&other.path())).await.status, 202);
    service.clock.advance(Duration::from_secs(5));
    assert_eq!(service.send(check(&session.path())).await.status, 202);
}

#[tokio::test]
async fn where_nothing_is_polled_for_a_check_does_nothing() {
    let service = Service::plain();
    let session = service.polled(Verdict::Denied).await;
    for _ in 0..3 {
        assert_eq!(service.send(check(&session.path())).await.status, 202);
    }
    assert_eq!(service.get(&session.path()).await.header("etag"), Some("\"3\""));
}

pub fn check(path: &str) -> Request<Body> {
    request(Method::POST, &format!("{path}/check")).body(Body::empty()).unwrap()
}
