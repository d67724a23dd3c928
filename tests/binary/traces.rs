//! Traces, as a collector gets them.

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use parking_lot::Mutex;
use reqwest::StatusCode;
use serde_json::json;
use tokio::net::TcpListener;

use super::log::{configuration, digest_of};
use super::provider;
use super::service::{Program, Service};

/// What was posted to `/v1/traces`.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Bytes>>>);

struct Span {
    trace: String,
    id: String,
    parent: String,
    name: String,
    nanoseconds: u64,
}

#[tokio::test]
async fn a_sign_in_is_one_trace_without_secrets() {
    let (provider, collector) = (provider().await, Collector::default());
    let endpoint = collector.clone().serve().await;
    let file = configuration(&provider, "");
    let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    // Whatever is logged: the traces have an ear of their own.
    let mut service = Service::of(Program::start_in(&environment, &["serve", "--log", "error", "--config", file.path()])).await;

    let session = service.begin(&json!({})).await;
    assert_eq!(provider.approve(session.user_code()), 1);
    assert_eq!(session.outcome().await["status"], "authorized");
    let claimed = session.claim().await;
    assert_eq!(claimed.status, StatusCode::OK);
    let (id, secret, code) = (session.id.clone(), session.secret.clone(), session.user_code().to_owned());
    service.program.signal("TERM");
    assert_eq!(service.program.exit().await.code(), Some(0), "{:#?}", service.program.stderr());

    let bodies = collector.0.lock().concat();
    let spans = spans(&bodies);
    let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    for name in ["opened", "begin", "pending", "poll", "authorized", "claimed", "sign-in"] {
        assert!(names.contains(&name), "no {name} in {names:?}");
    }
    let trace = digest_of(&id);
    for span in &spans {
        let is_root = span.name == "sign-in";
        assert_eq!(span.trace, trace, "{}", span.name);
        assert_eq!(span.parent, if is_root { "" } else { &trace[..16] }, "{}", span.name);
        assert_eq!(span.id == trace[..16], is_root, "{}", span.name);
        // There was a second between the code and the first poll.
        assert!(!is_root || span.nanoseconds > 900_000_000, "{}", span.nanoseconds);
    }

    assert!(has(&bodies, "service.name") && has(&bodies, "anteroom") && has(&bodies, "acme"));
    let tokens = ["access_token", "refresh_token"].map(|token| claimed.body["tokens"][token].as_str().unwrap_or(&secret).to_owned());
    assert_ne!(tokens[0], secret, "no access token: {}", claimed.body);
    for hidden in [&id, &secret, &code, &tokens[0], &tokens[1]] {
        assert!(!has(&bodies, hidden), "{hidden} is in the trace");
    }
}

#[tokio::test]
async fn a_collector_that_is_away_holds_nothing_up() {
    let provider = provider().await;
    let file = configuration(&provider, "");
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    let mut service = Service::of(Program::start_in(&environment, &["serve", "--config", file.path()])).await;
    service.begin(&json!({})).await;
    service.program.signal("TERM");
    let begin = std::time::Instant::now();
    assert_eq!(service.program.exit().await.code(), Some(0));
    assert!(begin.elapsed().as_secs() < 10, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn an_address_that_is_none_is_a_mistake() {
    let output = Program::run_in(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[")], &["check"]).await;
    assert_eq!(super::exit_code(&output), 2);
    let lines = super::stderr(&output);
    assert!(lines.len() == 1 && lines[0].starts_with("OTEL_EXPORTER_OTLP_ENDPOINT: "), "{lines:#?}");
}

impl Collector {
    async fn serve(self) -> String {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let take = async move |body: Bytes| self.0.lock().push(body);
        tokio::spawn(async { axum::serve(listener, Router::new().route("/v1/traces", post(take))).await });
        format!("http://{address}")
    }
}

/// ExportTraceServiceRequest → resource_spans (1) → scope_spans (2) → spans (2).
fn spans(bodies: &[u8]) -> Vec<Span> {
    // Messages one after another are one message.
    let scopes = members(bodies, 1).flat_map(|resource| members(resource, 2));
    scopes.flat_map(|scope| members(scope, 2)).map(Span::read).collect()
}

impl Span {
    fn read(bytes: &[u8]) -> Self {
        let member = |number| members(bytes, number).next().unwrap_or_default();
        let hex = |number| member(number).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let time = |number| u64::from_le_bytes(member(number).try_into().unwrap());
        let name = String::from_utf8(member(5).to_vec()).unwrap();
        Self { trace: hex(1), id: hex(2), parent: hex(4), name, nanoseconds: time(8) - time(7) }
    }
}

/// The content of the members with this number in a message in the wire format of Protocol Buffers.
fn members(mut message: &[u8], number: u64) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        while !message.is_empty() {
            let key = varint(&mut message);
            let length = match key & 7 {
                0 => {
                    varint(&mut message);
                    0
                }
                1 => 8,
                2 => usize::try_from(varint(&mut message)).unwrap(),
                5 => 4,
                other => panic!("wire type {other}"),
            };
            let (content, rest) = message.split_at(length);
            message = rest;
            if key >> 3 == number {
                return Some(content);
            }
        }
        None
    })
}

fn varint(message: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (byte, rest) = message.split_first().unwrap();
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
