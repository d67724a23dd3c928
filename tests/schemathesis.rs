//! The shipped binary and its own description, held against each other by schemathesis: thousands of requests that nobody thought
//! of, and sequences of them.
#![cfg(feature = "demo")]

#[path = "support/service.rs"]
mod service;

use std::path::PathBuf;
use std::process::Command;

use anteroom::clock::SystemClock;
use anteroom::demo::{DevProvider, Options};

use self::service::Service;

/// Where `.ci/run` installs it; see `tests/schemathesis/requirements.txt`.
const PROGRAM: &str = "ANTEROOM_TEST_SCHEMATHESIS";

#[tokio::test(flavor = "multi_thread")]
async fn the_api_is_as_described_whatever_it_is_asked() {
    let Some(program) = program() else { return };
    let options = Options { interval: Some(1), ..Options::default() };
    let provider = DevProvider::start(([127, 0, 0, 1], 0).into(), options, SystemClock::start()).await.unwrap();
    let issuer = provider.issuer();
    let scopes = r#"["openid", "profile"]"#;
    let service = Service::start(&format!("[providers.acme]\nissuer = \"{issuer}\"\nclient_id = \"demo-tv\"\nscopes = {scopes}\n")).await;

    let mut command = Command::new(program);
    command.args(["--config-file", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schemathesis/schemathesis.toml")]);
    command.args(["run", &format!("{}/openapi.yaml", service.url), "--checks", "all", "--continue-on-failure", "--no-color"]);
    command.args(["--max-examples", "100", "--max-time", "45", "--request-timeout", "20"]);
    // A stream of events ends with its session, which here never ends.
    command.args(["--exclude-path", "/sessions/{id}/events"]);
    command.current_dir(env!("CARGO_TARGET_TMPDIR"));
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    for phase in ["Coverage", "Fuzzing", "Stateful"] {
        assert!(said.contains(&format!("✅  {phase}")), "it did not get to {phase}: {said}");
    }
}

/// The program, or a line that says why there is none.
fn program() -> Option<PathBuf> {
    let named = std::env::var_os(PROGRAM).map(PathBuf::from);
    let installed = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/schemathesis/bin/schemathesis"));
    let program = named.unwrap_or(installed);
    if program.exists() {
        return Some(program);
    }
    let venv = "target/schemathesis";
    let hint = format!(
        "schemathesis is not installed: python3 -m venv {venv} && {venv}/bin/pip install --requirement tests/schemathesis/requirements.txt"
    );
    assert_ne!(std::env::var("ANTEROOM_TEST_REQUIRE").as_deref(), Ok("all"), "{hint}");
    println!("SKIPPED: {hint}");
    None
}
