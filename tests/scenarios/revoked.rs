//! What comes of a revocation is counted as what it was, and asked for again only where that can help.

use std::time::Duration;

use anteroom::clock::Clock;
use anteroom::demo::{Answer, Endpoint};
use anteroom::kernel::session::Due;
use serde_json::{Map, Value};

use crate::rig::{Rig, SignIn, TERMS, eventually};

/// A cancelled sign-in whose tokens are to be revoked, once that has been tried.
async fn cancelled(rig: &Rig) -> SignIn {
    let sign_in = rig.begin().await;
    rig.provider.approve(&sign_in.user_code);
    rig.poll(&sign_in).await;
    rig.sessions.cancel(sign_in.id).await.unwrap();
    sign_in
}

/// How many exchanges were counted for a revocation, by answer.
fn counted(rig: &Rig) -> Vec<(String, String)> {
    let prefix = r#"anteroom_provider_requests_total{provider="dev",errand="revoke",answer=""#;
    let text = rig.app.metrics.render(&rig.sessions.census());
    let rest = text.lines().filter_map(|line| line.strip_prefix(prefix));
    rest.filter_map(|rest| rest.split_once("\"} ")).map(|(answer, count)| (answer.to_owned(), count.to_owned())).collect()
}

async fn gives(answer: Answer, name: &str, again: bool) {
    let rig = Rig::start().await;
    rig.provider.always(Endpoint::Revocation, Some(answer));
    let sign_in = cancelled(&rig).await;
    let is_once = || counted(&rig) == [(name.to_owned(), "1".to_owned())];
    eventually(name, is_once).await;
    let next = || rig.session(&sign_in).due(&TERMS);
    let later = rig.clock.now() + Duration::from_secs(30);
    match again {
        true => eventually("it is to be tried again", || next().is_some_and(|(at, _)| at == later)).await,
        false => eventually("it is over", || matches!(next(), Some((_, Due::Lapse)))).await,
    }
    assert_eq!(rig.provider.counts().revocations, 1);
}

#[tokio::test]
async fn a_refusal_is_counted_as_one_and_not_repeated() {
    for (status, code) in [
        (401, "invalid_client"),
        (403, "unauthorized_client"),
        (400, "invalid_client"),
        (400, "unauthorized_client"),
        (400, "unsupported_token_type"),
    ] {
        gives(Answer::error(status, code), "refused", false).await;
    }
    gives(Answer::text(401, "who are you?"), "refused", false).await;
    gives(Answer::text(403, "no"), "refused", false).await;
}

#[tokio::test]
async fn an_endpoint_that_does_not_revoke_is_counted_as_that() {
    for status in [404, 405, 501] {
        gives(Answer::text(status, "no such thing"), "unsupported", false).await;
    }
}

#[tokio::test]
async fn tokens_that_are_worth_nothing_are_revoked() {
    gives(Answer::error(400, "invalid_token"), "revoked", false).await;
    gives(Answer::text(400, "what token?"), "revoked", false).await;
    gives(Answer::text(200, ""), "revoked", false).await;
}

#[tokio::test]
async fn an_outage_is_counted_as_one_and_tried_again() {
    for status in [408, 425, 429, 500, 503] {
        gives(Answer::text(status, "busy"), "not_revoked", true).await;
    }
    gives(Answer::error(400, "temporarily_unavailable"), "not_revoked", true).await;
}

#[tokio::test]
async fn where_nobody_is_asked_no_request_is_counted() {
    let rig = Rig::start().await;
    let without = |document: &mut Map<String, Value>| {
        document.remove("revocation_endpoint");
    };
    rig.provider.always(Endpoint::Discovery, Some(Answer::edit(without)));
    let sign_in = cancelled(&rig).await;
    eventually("it is over", || matches!(rig.session(&sign_in).due(&TERMS), Some((_, Due::Lapse)))).await;
    assert_eq!((counted(&rig), rig.provider.counts().revocations), (vec![], 0));
}
