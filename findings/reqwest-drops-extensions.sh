#!/usr/bin/env bash
# reqwest 0.13.5 beside hyper-util 0.1.21, both on hyper 1.12.0
#
# Expected: reqwest::Request is made from an http::Request, so what stands in the http request's extensions reaches hyper;
#   hyper::ext::on_informational is set there and tells of each 1xx answer (103 Early Hints, 102 Processing).
# Instead: the conversion keeps method, URL, headers and body and drops the extensions. The callback is never called,
#   without an error: who counts or bounds interim answers counts none. hyper-util's own client, which reqwest is built
#   on, calls it for the same request.
#
# Seen 2026-11-30 (a server that sends 103 twice, then 200; status and interim answers told):
#   hyper-util: 200 2
#   reqwest: 200 0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/src"
cat >"$work/Cargo.toml" <<'TOML'
[package]
name = "interim"
version = "0.0.0"
edition = "2024"

[dependencies]
bytes = "1"
http = "1"
http-body-util = "0.1"
hyper = { version = "=1.12.0", features = ["client", "http1"] }
hyper-util = { version = "=0.1.21", features = ["client-legacy", "http1", "tokio"] }
reqwest = { version = "=0.13.5", default-features = false }
tokio = { version = "1", features = ["full"] }
TOML
cat >"$work/src/main.rs" <<'RS'
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn counted<B>(uri: &str, body: B) -> (http::Request<B>, Arc<AtomicUsize>) {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let mut request = http::Request::get(uri).body(body).expect("a request");
    hyper::ext::on_informational(&mut request, move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    (request, seen)
}

#[tokio::main]
async fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let uri = format!("http://{}/", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((mut peer, _)) = listener.accept().await {
            let _ = peer.read(&mut [0; 4096]).await;
            let hint = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n";
            let end = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = peer.write_all(format!("{hint}{hint}{end}").as_bytes()).await;
        }
    });
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
    let (request, seen) = counted(&uri, http_body_util::Empty::<bytes::Bytes>::new());
    let status = client.request(request).await.expect("an answer").status();
    println!("hyper-util: {} {}", status.as_u16(), seen.load(Ordering::SeqCst));
    let (request, seen) = counted(&uri, "");
    let request = reqwest::Request::try_from(request).expect("a request");
    let status = reqwest::Client::new().execute(request).await.expect("an answer").status();
    println!("reqwest: {} {}", status.as_u16(), seen.load(Ordering::SeqCst));
}
RS
cd "$work"
out=$(CARGO_TARGET_DIR=$work/target cargo run --quiet)
echo "$out"
[ "$out" = $'hyper-util: 200 2\nreqwest: 200 0' ]
