//! `anteroom login`, the shipped program, against `anteroom demo`, against services that are away, and against hostile ones.
#![cfg(feature = "demo")]

mod away;
mod hostile;
mod options;
mod output;
mod process;
mod proxy;
mod scripted;
mod sign_in;
mod terminal;

use std::path::PathBuf;
use std::time::Duration;

use reqwest::redirect::Policy;

/// How long anything may take before a test fails.
const SOON: Duration = Duration::from_secs(60);

fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().redirect(Policy::none()).timeout(SOON).build().unwrap()
}

/// An empty folder of its own.
fn folder() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(uuid::Uuid::new_v4().to_string());
    std::fs::create_dir(&folder).unwrap();
    folder
}
