//! `GET /sessions/{id}` as JSON: conditional reads and the long poll.

use std::time::Duration;

use anteroom::kernel::verdict::Verdict;
use axum::body::Body;
use axum::http::Method;
use futures_util::join;

use crate::service::{Answer, Beginning, Ours, PATIENCE, Service, grant, request};

#[tokio::test]
async fn what_the_client_has_already_is_not_sent_again() {
    let service = Service::plain();
    let session = service.pending().await;
    for (known, status) in [
        ("\"2\"", 304),
        ("W/\"2\"", 304),
        ("*", 304),
        ("\"1\", \"a,b\",,W/\"2\"", 304),
        ("\"1\"", 200),
        ("2", 200),
        ("\"2-html-en\"", 200),
        ("garbage", 200),
        ("", 200),
    ] {
        let answer = service.get_with(&session.path(), &[("if-none-match", known)]).await;
        assert_eq!((answer.status.as_u16(), answer.header("etag")), (status, Some("\"2\"")), "{known}");
        assert_eq!(answer.body.is_empty(), status == 304);
    }
    let lines = request(Method::GET, &session.path()).header("if-none-match", "\"1\"").header("if-none-match", "\"2\"");
    assert_eq!(service.send(lines.body(Body::empty()).unwrap()).await.status, 304);
}

#[tokio::test]
async fn the_answer_waits_for_news_when_asked_to() {
    let service = Service::plain();
    let session = service.pending().await;
    let (answer, ()) = join!(long_poll(&service, &session, &[("if-none-match", "\"2\""), ("prefer", "wait=60")]), async {
        service.provider.says(Verdict::Authorized(grant()));
        service.clock.advance(Duration::from_secs(7));
    });
    assert_eq!((answer.status.as_u16(), answer.header("etag")), (200, Some("\"3\"")));
    assert_eq!(answer.header("preference-applied"), Some("wait=60"));
    assert_eq!(answer.header("retry-after"), None);
    let json = answer.json();
    assert_eq!((&json["status"], &json["claim_by"]), (&"authorized".into(), &"2026-11-22T10:05:07Z".into()));
}

#[tokio::test]
async fn without_news_it_answers_when_the_time_is_over() {
    let service = Service::plain();
    let session = service.pending().await;
    for (headers, status) in [
        (vec![("if-none-match", "\"2\""), ("prefer", "wait=3")], 304),
        (vec![("prefer", "wait=3")], 200),
        (vec![("if-none-match", "*"), ("prefer", "respond-async, Wait = \"3\"; x=y")], 304),
    ] {
        let mut waiting = Box::pin(long_poll(&service, &session, &headers));
        assert!(still_waits(&mut waiting).await, "{headers:?}");
        service.clock.advance(Duration::from_secs(2));
        assert!(still_waits(&mut waiting).await, "{headers:?}");
        service.clock.advance(Duration::from_secs(1));
        let answer = waiting.await;
        assert_eq!((answer.status.as_u16(), answer.header("preference-applied")), (status, Some("wait=3")), "{headers:?}");
    }
}

#[tokio::test]
async fn nobody_waits_longer_than_60_s() {
    let service = Service::plain();
    let session = service.pending().await;
    for wait in ["wait=61", "wait=99999999999999999999999"] {
        let headers = [("prefer", wait)];
        let mut waiting = Box::pin(long_poll(&service, &session, &headers));
        assert!(still_waits(&mut waiting).await);
        service.clock.advance(Duration::from_secs(60));
        assert_eq!(waiting.await.header("preference-applied"), Some("wait=60"));
    }
}

#[tokio::test]
async fn nobody_waits_for_what_is_known_or_settled_or_was_not_asked_for() {
    let service = Service::plain();
    let at_once = async |session: &Ours, headers: &[(&str, &str)]| {
        let answer = service.get_with(&session.path(), headers).await;
        (answer.status.as_u16(), answer.header("preference-applied").map(str::to_owned))
    };
    let applied = |wait: &str| Some(wait.to_owned());
    let denied = service.polled(Verdict::Denied).await;
    assert_eq!(at_once(&denied, &[("if-none-match", "\"3\""), ("prefer", "wait=9")]).await, (304, applied("wait=9")));
    assert_eq!(at_once(&denied, &[("prefer", "wait=9")]).await, (200, applied("wait=9")));

    let pending = service.pending().await;
    assert_eq!(at_once(&pending, &[("if-none-match", "\"1\""), ("prefer", "wait=9")]).await, (200, applied("wait=9")));
    assert_eq!(at_once(&pending, &[("prefer", "wait=0")]).await, (200, applied("wait=0")));
    for garbage in ["wait", "wait=", "wait=-1", "wait=1.5", "wait=x", "await=5", "wait=x, wait=5", "\"wait=5\"", "foo=\"a, wait=5, b\""] {
        assert_eq!(at_once(&pending, &[("prefer", garbage)]).await, (200, None), "{garbage}");
    }
}

#[tokio::test]
async fn a_service_that_stops_keeps_nobody_waiting() {
    let service = Service::plain();
    let session = service.pending().await;
    let mut waiting = Box::pin(long_poll(&service, &session, &[("if-none-match", "\"2\""), ("prefer", "wait=60")]));
    assert!(still_waits(&mut waiting).await);
    service.stopping.cancel();
    assert_eq!(waiting.await.status, 304);
}

#[tokio::test]
async fn a_session_that_is_created_is_seen_while_it_is_starting() {
    let service = Service::plain();
    service.provider.begins(Beginning::Hang);
    let mut creating = Box::pin(service.post("{}"));
    tokio::select! {
        biased;
        _ = &mut creating => panic!("the provider hangs"),
        () = service.provider.was_asked() => {}
    }
    let id = service.app.sessions.all()[0].id();
    let answer = service.get(&format!("/sessions/{id}")).await;
    assert_eq!((&answer.json()["status"], answer.header("retry-after")), (&"starting".into(), Some("1")));
    assert!(answer.json()["user_code"].is_null() && answer.json()["expires_at"].is_null());
}

#[tokio::test]
async fn a_pending_session_says_when_there_can_be_news() {
    let service = Service::plain();
    let session = service.pending().await;
    let soon = async || -> u64 { service.get(&session.path()).await.header("retry-after").unwrap().parse().unwrap() };
    // 5 s and their margins, rounded up.
    assert!((6..=7).contains(&soon().await));
    service.clock.advance(Duration::from_millis(4_500));
    assert!((2..=3).contains(&soon().await));
}

#[tokio::test]
async fn the_end_of_a_session_is_told_and_then_forgotten() {
    let service = Service::plain();
    let session = service.polled(Verdict::Rejected).await;
    let json = service.get(&session.path()).await.json();
    assert_eq!((&json["status"], &json["failure"]["code"]), (&"failed".into(), &"provider_rejected".into()));
    service.clock.advance(Duration::from_secs(600));
    service.get(&session.path()).await.is_problem(404, "session_not_found");
    service.claim(&session, None).await.is_problem(404, "session_not_found");
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_is_news() {
    let service = Service::plain();
    let session = service.pending().await;
    for _ in 0..3 {
        service.provider.says(Verdict::Unreachable { ambiguous: false, retry_after: None });
    }
    let watching = long_poll(&service, &session, &[("if-none-match", "\"2\"")]);
    assert_eq!(watching.await.status, 304);
    service.advance_until(|| service.app.sessions.all()[0].revision() == 3).await;
    let json = service.get(&session.path()).await.json();
    assert_eq!((&json["status"], &json["provider_reachable"]), (&"pending".into(), &false.into()));
    assert_eq!(service.get("/readyz").await.status, 200);
    assert_eq!(service.get("/providers").await.json()["providers"][0]["reachable"], false);
}

#[tokio::test]
async fn what_others_wrote_is_escaped() {
    let service = Service::plain();
    for odd in ["\"", "a\\", "\n\u{1}\u{7f}", "ÄÖ-\u{2028}-\u{1f511}"] {
        service.provider.begins(Beginning::Prompt { user_code: odd, uri: "https://id.acme.test/device", complete: None });
        let json = service.get(&service.pending().await.path()).await.json();
        assert_eq!(json["user_code"], odd);
    }
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let service = Service::plain();
    let session = service.pending().await;
    let answer = service.send(request(Method::HEAD, &session.path()).body(Body::empty()).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.header("etag")), (200, Some("\"2\"")));
}

async fn long_poll(service: &Service, session: &Ours, headers: &[(&str, &str)]) -> Answer {
    service.get_with(&session.path(), headers).await
}

/// Lets everything run that can, then looks whether the answer is there.
async fn still_waits(answer: &mut (impl Future<Output = Answer> + Unpin)) -> bool {
    let settled = async {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, async {
        tokio::select! { biased; _ = answer => false, () = settled => true }
    })
    .await
    .expect("yielding does not hang")
}
