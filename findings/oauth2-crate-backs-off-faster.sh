#!/usr/bin/env bash
# oauth2 5.0.0 (crates.io), default features off
#
# Expected: when a poll of the device grant fails to connect, the client polls less often: RFC 8628, 3.5 has it slow
#   down, doubling the pause for instance. A pause never falls below the provider's interval.
# Instead: exchange_device_access_token sets the pause to the lesser of twice the interval and max_backoff_interval,
#   10 s by default, for good. At a provider that asks for 30 s, one refused connection makes the client poll three
#   times as fast for the rest of the sign-in, just when the provider is in trouble.
#
# Seen 2026-11-30 (interval 30; the second of five polls finds no connection; no real time passes):
#   pauses between the polls: [30, 10, 10, 10]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cd "$work"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"
[dependencies]
oauth2 = { version = "=5.0.0", default-features = false }
serde_json = "1"
TOML
cat >src/main.rs <<'RS'
use std::cell::{Cell, RefCell};
use std::io;

use oauth2::basic::BasicClient;
use oauth2::{ClientId, HttpRequest, HttpResponse, StandardDeviceAuthorizationResponse, TokenUrl};

fn answer(status: u16, body: &str) -> HttpResponse {
    oauth2::http::Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(body.as_bytes().to_vec())
        .expect("an answer")
}

fn main() {
    let token_endpoint = TokenUrl::new("http://127.0.0.1/token".to_owned()).expect("a URL");
    let client = BasicClient::new(ClientId::new("device".to_owned())).set_token_uri(token_endpoint);
    let started: StandardDeviceAuthorizationResponse = serde_json::from_str(
        r#"{"device_code":"c","user_code":"u","verification_uri":"http://127.0.0.1/device","expires_in":600,"interval":30}"#,
    )
    .expect("a device response");

    let polls = Cell::new(0);
    let provider = |_: HttpRequest| -> Result<HttpResponse, io::Error> {
        polls.set(polls.get() + 1);
        match polls.get() {
            2 => Err(io::ErrorKind::ConnectionRefused.into()),
            5 => Ok(answer(200, r#"{"access_token":"t","token_type":"bearer"}"#)),
            _ => Ok(answer(400, r#"{"error":"authorization_pending"}"#)),
        }
    };
    let pauses = RefCell::new(Vec::new());
    client
        .exchange_device_access_token(&started)
        .request(&provider, |pause| pauses.borrow_mut().push(pause.as_secs()), None)
        .expect("tokens");
    println!("pauses between the polls: {:?}", pauses.borrow());
}
RS
nice cargo build -q -j1
seen=$(./target/debug/finding)
echo "$seen"
[ "$seen" = 'pauses between the polls: [30, 10, 10, 10]' ] || { echo 'no longer as described' >&2; exit 1; }
