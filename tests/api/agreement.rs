//! Code and description agree, in both directions.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use anteroom::http::limit::Rates;
use anteroom::http::problem::Code;
use anteroom::http::site::Site;
use anteroom::kernel::verdict::{Failure, Verdict};
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Method;
use futures_util::future::join_all;
use serde_json::Value;

use crate::check::check;
use crate::contract::{Contract, Promise};
use crate::loading::restarted;
use crate::renew::renew;
use crate::service::{Answer, Beginning, Ours, RATES, Service, Setup, caller, request};

const METHODS: [Method; 6] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::TRACE];

#[tokio::test]
async fn a_path_takes_the_methods_that_are_described_and_no_other() {
    let service = Service::plain();
    // Settled, so that its stream of events ends.
    let session = service.polled(Verdict::Denied).await;
    for path in Contract::get().paths() {
        let described = Contract::get().methods(path);
        let concrete = path.replace("{id}", &session.id);
        for method in METHODS {
            // `/` is there for people only.
            let request = request(method.clone(), &concrete).header("accept", "text/html");
            let answer = service.send(request.body(Body::empty()).unwrap()).await;
            if described.contains(method.as_str()) {
                let is_foreign = answer.status == 405 || String::from_utf8_lossy(&answer.body).contains("\"not_found\"");
                assert!(!is_foreign, "{method} {path} is described and answers {}", answer.status);
            } else {
                assert_eq!(answer.status, 405, "{method} {path}");
                let allow = answer.header("allow").expect("Allow").split(',').map(|method| method.trim().to_owned());
                let implied = described.contains("GET").then(|| "HEAD".to_owned());
                assert_eq!(allow.collect::<BTreeSet<_>>(), described.iter().cloned().chain(implied).collect());
            }
        }
    }
}

#[tokio::test]
async fn every_answer_that_is_described_can_be_had() {
    let missed = async |promise: &Promise| {
        let answer = provoke(promise).await;
        (answer.status.as_u16() != promise.status).then(|| format!("{promise:?}: {}", answer.status))
    };
    let missed: Vec<_> = join_all(Contract::get().promises().iter().map(missed)).await.into_iter().flatten().collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn the_problem_codes_are_those_of_the_description() {
    let described = &Contract::get().document()["components"]["schemas"]["Problem"]["properties"]["code"]["enum"];
    let coded: Vec<_> = Code::ALL.iter().map(|code| Value::from(code.as_str())).collect();
    assert_eq!(described, &Value::from(coded));
}

#[test]
fn the_examples_fit_their_schemas() {
    let contract = Contract::get();
    let mut media = Vec::new();
    find_media(contract.document(), &mut media);
    let mut seen = 0;
    for content in media {
        let named = content.get("examples").and_then(Value::as_object).into_iter().flatten();
        let examples = named.map(|(_, example)| &contract.resolve(example)["value"]).chain(content.get("example"));
        for example in examples {
            contract.validate(&content["schema"], example).unwrap_or_else(|error| panic!("{example}: {error}"));
            seen += 1;
        }
    }
    assert!(seen >= 10, "only {seen} examples were found");
}

fn find_media<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(members) => {
            let content = members.get("content").and_then(Value::as_object);
            found.extend(content.into_iter().flat_map(|content| content.values()));
            members.values().for_each(|member| find_media(member, found));
        }
        Value::Array(elements) => elements.iter().for_each(|element| find_media(element, found)),
        _ => {}
    }
}

/// Does what it takes to get this answer.
async fn provoke(Promise { path, method, status }: &Promise) -> Answer {
    let service = Service::plain();
    match (method.as_str(), path.as_str(), status) {
        (method, path, 421) => {
            let service = Service::start(Setup { site: Site { is_loopback: true, ..Site::default() }, ..Setup::default() });
            send_to(&service, method, path, ("host", "evil.example")).await
        }
        (method @ ("POST" | "DELETE"), path, 403) if path != "/sessions" => {
            send_to(&service, method, path, ("sec-fetch-site", "cross-site")).await
        }
        ("POST", "/sessions", status) => provoke_create(*status).await,
        ("POST", "/sessions/{id}/renew", status) => provoke_renew(*status).await,
        ("GET", "/sessions/{id}" | "/sessions/{id}/events" | "/sessions/{id}/qr.svg" | "/sessions/{id}/qr.png", 503)
        | ("POST", "/sessions/{id}/check", 503) => {
            let session = service.pending().await;
            let restarted = restarted(&service);
            restarted.store.fail();
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            restarted.send(request(method, &path.replace("{id}", &session.id)).body(Body::empty()).unwrap()).await
        }
        ("POST", "/sessions/{id}/check", 404) => service.send(check(&unknown().path())).await,
        ("POST", "/sessions/{id}/check", status) => {
            let session = service.pending().await;
            let first = service.send(check(&session.path())).await;
            if *status == 202 { first } else { service.send(check(&session.path())).await }
        }
        (method, path, 429) => provoke_limit(method, path).await,
        ("POST", "/sessions/{id}/claim", status) => provoke_claim(*status).await,
        ("GET", "/sessions/{id}", 200) => service.get(&service.pending().await.path()).await,
        ("GET", "/sessions/{id}", 304) => service.get_with(&service.pending().await.path(), &[("if-none-match", "*")]).await,
        ("GET", "/sessions/{id}", 404) => service.get(&unknown().path()).await,
        ("GET", "/sessions/{id}", 500) => {
            let service = Service::start(Setup { restarts: Some(Arc::new(|_| panic!("a bug"))), ..Setup::default() });
            service.get(&service.pending().await.path()).await
        }
        ("GET", "/sessions/{id}/events", 200) => service.get(&events(&service.polled(Verdict::Denied).await)).await,
        ("GET", "/sessions/{id}/events", 204) => {
            service.get_with(&events(&service.polled(Verdict::Denied).await), &[("last-event-id", "3")]).await
        }
        ("GET", "/sessions/{id}/events", 404) => service.get(&events(&unknown())).await,
        ("GET", "/sessions/{id}/qr.svg" | "/sessions/{id}/qr.png", status) => {
            let session = if *status == 404 { unknown() } else { service.pending().await };
            let known = if *status == 304 {
                service.get(&path.replace("{id}", &session.id)).await.header("etag").unwrap().to_owned()
            } else {
                String::new()
            };
            service.get_with(&path.replace("{id}", &session.id), &[("if-none-match", &known)]).await
        }
        ("DELETE", "/sessions/{id}", 204) => service.delete(&service.pending().await).await,
        ("DELETE", "/sessions/{id}", 404) => service.delete(&unknown()).await,
        ("DELETE", "/sessions/{id}", 503) => {
            let session = service.pending().await;
            service.store.fail();
            service.delete(&session).await
        }
        ("GET", "/readyz", 503) => {
            service.store.fail();
            service.get("/readyz").await
        }
        ("GET", "/", 200) => service.get_with("/", &[("accept", "text/html")]).await,
        ("GET", "/", 404) => service.get("/").await,
        ("GET", path, 200) => service.get(path).await,
        _ => panic!("described, but nobody knows how to provoke it: {method} {path} {status}"),
    }
}

async fn send_to(service: &Service, method: &str, path: &str, (name, value): (&str, &str)) -> Answer {
    let request = request(method.parse().unwrap(), &path.replace("{id}", &unknown().id)).header(name, value);
    service.send(request.body(Body::empty()).unwrap()).await
}

async fn provoke_limit(method: &str, path: &str) -> Answer {
    let once = NonZeroU32::MIN;
    let service = Service::start(Setup { rates: Rates { requests: once, ..RATES }, ..Setup::default() });
    let ask = || {
        let request = request(method.parse().unwrap(), &path.replace("{id}", &unknown().id));
        service.send(request.extension(ConnectInfo(SocketAddr::from(([192, 0, 2, 1], 1)))).body(Body::empty()).unwrap())
    };
    ask().await;
    ask().await
}

async fn provoke_create(status: u16) -> Answer {
    let service = Service::plain();
    let begin = async |beginning| {
        service.provider.begins(beginning);
        service.post("{}").await
    };
    let with_key = |body: &str| {
        let request =
            request(Method::POST, "/sessions").header("idempotency-key", "0123456789abcdef").header("content-type", "application/json");
        service.send(request.body(Body::from(body.to_owned())).unwrap())
    };
    match status {
        201 => service.post("{}").await,
        200 | 422 => {
            assert_eq!(with_key("{}").await.status, 201);
            with_key(if status == 200 { "" } else { r#"{"label": "another"}"# }).await
        }
        400 => service.post(r#"{"nope": 1}"#).await,
        401 => Service::start(Setup { callers: vec![caller(None)], ..Setup::default() }).post("{}").await,
        403 => service.post(r#"{"scope": "email"}"#).await,
        408 => {
            let endless = Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>());
            service.send(request(Method::POST, "/sessions").body(endless).unwrap()).await
        }
        413 => service.post(&" ".repeat(65_537)).await,
        415 => service.send(request(Method::POST, "/sessions").body("{}".into()).unwrap()).await,
        429 => Service::start(Setup { max_sessions: 0, ..Setup::default() }).post("{}").await,
        500 => {
            service.store.panic();
            service.post("{}").await
        }
        502 => begin(Beginning::Fail(Failure::ProviderRejected)).await,
        503 => begin(Beginning::Fail(Failure::ProviderUnreachable)).await,
        504 => begin(Beginning::Fail(Failure::ProviderTimeout)).await,
        _ => panic!("nobody knows how to provoke {status}"),
    }
}

async fn provoke_renew(status: u16) -> Answer {
    let service = Service::start(Setup { max_sessions: 1, ..Setup::default() });
    let session = match status {
        404 => unknown(),
        409 => service.pending().await,
        _ => service.polled(Verdict::Denied).await,
    };
    match status {
        429 => _ = service.pending().await,
        502 => service.provider.begins(Beginning::Fail(Failure::ProviderRejected)),
        503 => service.provider.begins(Beginning::Fail(Failure::ProviderUnreachable)),
        504 => service.provider.begins(Beginning::Fail(Failure::ProviderTimeout)),
        500 => service.store.panic(),
        _ => {}
    }
    service.send(renew(&session)).await
}

async fn provoke_claim(status: u16) -> Answer {
    let service = Service::plain();
    match status {
        200 => service.claim(&service.authorized().await, None).await,
        400 => service.claim(&service.authorized().await, Some("not visible")).await,
        404 => service.claim(&unknown(), None).await,
        409 => service.claim(&service.polled(Verdict::Denied).await, None).await,
        410 => {
            let session = service.authorized().await;
            assert_eq!(service.claim(&session, None).await.status, 200);
            service.claim(&session, None).await
        }
        503 => {
            let session = service.authorized().await;
            service.store.fail();
            service.claim(&session, None).await
        }
        _ => panic!("nobody knows how to provoke {status}"),
    }
}

fn events(session: &Ours) -> String {
    format!("{}/events", session.path())
}

fn unknown() -> Ours {
    Ours { id: "2f6c1d2e-8f3b-4c55-9a0e-6d1f0c9b7a42".into(), secret: "ars_".into() }
}
