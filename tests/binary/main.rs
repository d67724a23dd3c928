//! The shipped binary, as a user meets it.
#![cfg(feature = "demo")]

mod canary;
mod clocks;
mod commands;
mod crowd;
mod demo;
mod log;
mod metrics;
#[path = "../support/name_server.rs"]
mod name_server;
mod names;
mod paused;
mod readme;
#[path = "../support/service.rs"]
mod service;
mod stopping;
#[cfg(feature = "otlp")]
mod traces;

use std::process::Output;

use anteroom::clock::SystemClock;
use anteroom::demo::{DevProvider, Options};

async fn provider() -> DevProvider {
    let options = Options { interval: Some(1), ..Options::default() };
    DevProvider::start(([127, 0, 0, 1], 0).into(), options, SystemClock::start()).await.unwrap()
}

/// The service as a client of this provider.
fn client_of(provider: &DevProvider) -> String {
    client_at(provider.issuer())
}

fn client_at(issuer: &str) -> String {
    format!("[providers.acme]\nissuer = \"{issuer}\"\nclient_id = \"demo-tv\"\nscopes = [\"profile\"]\n")
}

fn exit_code(output: &Output) -> i32 {
    output.status.code().expect("it exits")
}

fn stdout(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> Vec<&str> {
    str::from_utf8(&output.stderr).unwrap().lines().collect()
}
