//! `POST /sessions/{id}/renew`: a new code under the same id.

use anteroom::kernel::verdict::{Failure, Verdict};
use axum::body::Body;
use axum::http::{Method, Request};
use futures_util::join;

use crate::service::{Beginning, Ours, Service, Setup, grant, owned};

const FRESH: Beginning = Beginning::Prompt { user_code: "FRESH", uri: "https://id.acme.test/device", complete: None };

#[tokio::test]
async fn a_denied_or_expired_session_gets_a_new_code() {
    for verdict in [Verdict::Denied, Verdict::Expired] {
        let service = Service::plain();
        let session = service.polled(verdict).await;
        service.provider.begins(FRESH);
        let answer = service.send(renew(&session)).await;
        assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (200, Some("no-store")));
        let json = answer.json();
        assert_eq!((&json["status"], &json["user_code"], &json["revision"]), (&"pending".into(), &"FRESH".into(), &4.into()));
        assert_eq!(json, service.get(&session.path()).await.json());

        service.provider.says(Verdict::Authorized(grant()));
        let is_authorized = || service.app.sessions.get(session.id.parse().unwrap()).unwrap().revision() == 5;
        service.advance_until(is_authorized).await;
        assert_eq!(service.claim(&session, None).await.status, 200, "its secret is the same");
    }
}

#[tokio::test]
async fn watchers_of_the_end_see_the_new_code() {
    let service = Service::plain();
    let session = service.polled(Verdict::Denied).await;
    let events = format!("{}/events", session.path());
    assert_eq!(service.get_with(&events, &[("last-event-id", "3")]).await.status, 204);
    assert_eq!(service.send(renew(&session)).await.status, 200);
    assert_eq!(service.delete(&session).await.status, 204);
    let news = service.get_with(&events, &[("last-event-id", "3")]).await;
    assert!(news.text().contains("id: 5\n"));
}

#[tokio::test]
async fn no_other_session_is_renewed() {
    let service = Service::plain();
    service.send(renew(&service.authorized().await)).await.is_problem(409, "renew_not_possible");
    service.send(renew(&service.polled(Verdict::Rejected).await)).await.is_problem(409, "renew_not_possible");
    let session = service.pending().await;
    service.send(renew(&session)).await.is_problem(409, "renew_not_possible");
    service.delete(&session).await;
    service.send(renew(&session)).await.is_problem(409, "renew_not_possible");

    let denied = service.polled(Verdict::Denied).await;
    let stranger = Ours { secret: service.pending().await.secret, ..denied.clone() };
    service.send(renew(&stranger)).await.is_problem(404, "session_not_found");
}

#[tokio::test]
async fn five_renewals_are_the_most() {
    let service = Service::plain();
    let session = service.polled(Verdict::Denied).await;
    for _ in 0..5 {
        assert_eq!(service.send(renew(&session)).await.status, 200);
        service.provider.says(Verdict::Denied);
        let is_denied = || service.app.sessions.get(session.id.parse().unwrap()).unwrap().is_settled();
        service.advance_until(is_denied).await;
    }
    service.send(renew(&session)).await.is_problem(409, "renew_not_possible");
}

#[tokio::test]
async fn without_a_new_code_the_session_stays_as_it_ended() {
    let service = Service::plain();
    let session = service.polled(Verdict::Denied).await;
    let before = service.get(&session.path()).await.json();
    for (failure, status, code) in [
        (Failure::ProviderUnreachable, 503, "provider_unreachable"),
        (Failure::ProviderRejected, 502, "provider_rejected"),
        (Failure::ProviderTimeout, 504, "provider_timeout"),
    ] {
        service.provider.begins(Beginning::Fail(failure));
        service.send(renew(&session)).await.is_problem(status, code);
        assert_eq!(service.get(&session.path()).await.json(), before);
    }
    assert_eq!(service.app.sessions.live(), 0, "no place is taken");
    service.provider.begins(FRESH);
    assert_eq!(service.send(renew(&session)).await.status, 200);
    assert_eq!(service.app.sessions.live(), 1);
}

#[tokio::test]
async fn a_provider_that_never_answers_is_waited_for_20_s() {
    let service = Service::plain();
    let session = service.polled(Verdict::Denied).await;
    service.provider.begins(Beginning::Hang);
    let begun = service.provider.begun();
    let (answer, ()) = join!(service.send(renew(&session)), async {
        service.advance_until(|| service.provider.begun() > begun).await;
        service.send(renew(&session)).await.is_problem(409, "renew_not_possible");
        service.advance_until(|| service.app.sessions.live() == 0).await;
    });
    answer.is_problem(504, "provider_timeout");
    assert_eq!(service.get(&session.path()).await.json()["status"], "denied");
}

#[tokio::test]
async fn a_poller_that_crashes_once_does_not_end_the_renewal() {
    let service = Service::plain();
    let session = service.polled(Verdict::Denied).await;
    service.provider.begins(Beginning::Panic);
    let begun = service.provider.begun();
    let (answer, ()) = join!(service.send(renew(&session)), async {
        service.advance_until(|| service.provider.begun() > begun).await;
        service.provider.begins(FRESH);
        service.advance_until(|| service.app.sessions.get(session.id.parse().unwrap()).unwrap().revision() == 4).await;
    });
    assert_eq!((answer.status.as_u16(), &answer.json()["user_code"]), (200, &"FRESH".into()));
}

#[tokio::test]
async fn a_renewal_takes_a_place_like_a_creation() {
    let service = Service::start(Setup { max_sessions: 1, ..Setup::default() });
    let session = service.polled(Verdict::Denied).await;
    let _other = service.pending().await;
    service.send(renew(&session)).await.is_problem(429, "too_many_sessions");
}

pub fn renew(session: &Ours) -> Request<Body> {
    owned(Method::POST, &format!("{}/renew", session.path()), session).body(Body::empty()).unwrap()
}
