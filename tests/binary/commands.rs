//! What the commands say, and what they exit with.

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use reqwest::{Method, StatusCode};
use serde_json::json;

use super::service::{Folder, Program, Service, TempFile, answer, within};
use super::{client_at, client_of, exit_code, provider, stderr, stdout};

/// An address where nobody listens. It is not on 127.0.0.1, where other tests take the ports that are free.
fn free_address() -> String {
    TcpListener::bind("127.93.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[tokio::test]
async fn every_mistake_in_the_configuration_is_one_line_and_the_exit_code_2() {
    let file = TempFile::new("listen = \"everywhere\"\nclaim_tll = \"5m\"\n[providers.acme]\nissuer = \"https://id.acme.test\"\n");
    for command in ["serve", "check", "healthcheck"] {
        let output = Program::run(&[command, "--config", file.path()]).await;
        assert_eq!((exit_code(&output), stdout(&output)), (2, ""), "{command}");
        let mut lines = stderr(&output);
        lines.sort_unstable();
        let starts = ["claim_tll: ", "listen: ", "providers.acme.client_id: "];
        assert!(lines.len() == 3 && lines.iter().zip(starts).all(|(line, start)| line.starts_with(start)), "{command}: {lines:#?}");
    }
}

#[tokio::test]
async fn a_configuration_that_is_not_there_is_one_line_and_the_exit_code_2() {
    let output = Program::run(&["serve", "--config", "not-there.toml"]).await;
    assert_eq!(exit_code(&output), 2);
    let lines = stderr(&output);
    assert!(lines.len() == 1 && lines[0].starts_with("not-there.toml: "), "{lines:#?}");
}

#[tokio::test]
async fn an_address_in_use_is_one_line_and_the_exit_code_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let holder = TcpListener::bind(taken).unwrap();
    let port = taken.port().to_string();
    let file = TempFile::new(&format!("listen = \"{taken}\"\nadmin_listen = \"\"\n{}", client_at("https://id.acme.test")));
    for arguments in [
        &["serve", "--config", file.path()][..],
        &["demo", "--port", &port, "--provider-port", "0"],
        &["demo", "--port", "0", "--provider-port", &port],
    ] {
        let output = Program::run(arguments).await;
        assert_eq!(exit_code(&output), 1, "{arguments:?}");
        let lines = stderr(&output);
        assert!(lines.len() == 1 && lines[0].contains(&port) && lines[0].contains("another"), "{arguments:?}: {lines:#?}");
    }
    drop(holder);
}

#[tokio::test]
async fn check_shows_what_a_provider_supports() {
    let provider = provider().await;
    let file = TempFile::new(&client_of(&provider));
    let output = Program::run(&["check", "--config", file.path()]).await;
    assert_eq!((exit_code(&output), stderr(&output)), (0, vec![]));
    let text = stdout(&output);
    let row: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row, ["acme", "ok", "none", "yes", "yes", "yes", &provider.url("/device/code"), &provider.url("/token")]);
    assert_eq!(text.lines().last(), Some("people can sign in"));
}

#[tokio::test]
async fn check_says_what_to_do_about_a_provider_that_does_not_answer() {
    let file = TempFile::new(&client_at(&format!("http://{}", free_address())));
    let output = Program::run(&["check", "--config", file.path()]).await;
    assert_eq!(exit_code(&output), 1);
    let text = stdout(&output);
    let remedy = text.lines().find_map(|line| line.strip_prefix("acme: error: ")).unwrap_or_else(|| panic!("no error in {text}"));
    assert!(remedy.contains("refused") && remedy.ends_with("check the issuer and the network, or name the endpoints"), "{remedy}");
}

#[tokio::test]
async fn healthcheck_tells_a_service_that_is_ready_from_one_that_is_gone() {
    let listen = format!("listen = \"{}\"\nadmin_listen = \"\"\n", free_address());
    let file = TempFile::new(&(listen + &client_at("https://id.acme.test")));
    // As in the image: one variable names the configuration for the service and for its health check.
    let environment = [("ANTEROOM_CONFIG", file.path())];
    let service = Service::of(Program::start_in(&environment, &["serve"])).await;
    let healthy = Program::run_in(&environment, &["healthcheck"]).await;
    assert_eq!((exit_code(&healthy), stdout(&healthy), stderr(&healthy)), (0, "", vec![]));
    let healthy = Program::run(&["healthcheck", "--url", &service.url]).await;
    assert_eq!((exit_code(&healthy), stdout(&healthy), stderr(&healthy)), (0, "", vec![]));

    drop(service);
    let gone = Program::run_in(&environment, &["healthcheck"]).await;
    assert_eq!((exit_code(&gone), stderr(&gone)), (1, vec!["not ready: nobody accepts connections there"]));
}

#[tokio::test]
async fn version_and_help_are_told() {
    let version = Program::run(&["--version"]).await;
    assert_eq!((exit_code(&version), stdout(&version)), (0, concat!("anteroom ", env!("CARGO_PKG_VERSION"), "\n")));
    let help = Program::run(&["--help"]).await;
    assert_eq!(exit_code(&help), 0);
    for command in ["serve", "demo", "check", "healthcheck"] {
        let described = |line: &str| line.trim_start().strip_prefix(command).is_some_and(|rest| rest.trim().len() > 10);
        assert!(stdout(&help).lines().any(described), "{command} is not in {}", stdout(&help));
    }
    assert_eq!(exit_code(&Program::run(&[]).await), 2);
}

#[tokio::test]
async fn a_reader_that_hangs_up_changes_no_exit_code() {
    let provider = provider().await;
    let file = TempFile::new(&client_of(&provider));
    let mut check = Program::start_unread(&["check", "--config", file.path()]);
    assert_eq!(check.exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_service_whose_log_nobody_reads_serves_on() {
    let listen = format!("listen = \"{}\"\nadmin_listen = \"\"\n", free_address());
    let file = TempFile::new(&(listen + &client_at("https://id.acme.test")));
    let mut service = Program::start_unread(&["serve", "--config", file.path()]);
    within(async { while exit_code(&Program::run(&["healthcheck", "--config", file.path()]).await) != 0 {} }).await;
    service.signal("TERM");
    assert_eq!(service.exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_callers_key_is_shown_once_with_lines_that_let_it_in() {
    let output = Program::run(&["keys", "caller", "tv \"backend\""]).await;
    assert_eq!(exit_code(&output), 0);
    let (shown, lines) = stdout(&output).split_once("[[callers]]").unwrap();
    let key = shown.lines().find(|line| line.starts_with("ark_")).unwrap();
    assert_eq!(key.len(), "ark_".len() + 43, "256 bits in base64url");
    assert!(!lines.contains("ark_"), "{lines}");

    let provider = provider().await;
    let service = Service::start(&format!("{}[[callers]]{lines}", client_of(&provider))).await;
    let begin = |key: &str| answer(service.request(Method::POST, "/sessions").bearer_auth(key));
    assert_eq!(begin(key).await.status, StatusCode::CREATED);
    assert_eq!(begin("ark_of_somebody_else").await.problem(), (401, "unauthorized"));
    let again = Program::run(&["keys", "caller", "tv"]).await;
    assert!(!stdout(&again).contains(key), "the same key twice");
}

#[tokio::test]
async fn a_name_that_no_caller_can_have_exits_with_2() {
    let output = Program::run(&["keys", "caller", ""]).await;
    assert_eq!((exit_code(&output), stdout(&output)), (2, ""));
    assert!(stderr(&output)[0].contains("a name of 1 to 100 characters"), "{:?}", stderr(&output));
}

#[tokio::test]
async fn a_new_key_file_goes_to_stdout_and_seals() {
    let output = Program::run(&["keys", "new"]).await;
    assert_eq!((exit_code(&output), stderr(&output)), (0, vec![]));
    let again = Program::run(&["keys", "new"]).await;
    let keys = |text: &str| text.lines().filter(|line| line.starts_with("key = ")).map(str::to_owned).collect::<Vec<_>>();
    let (key, other) = (keys(stdout(&output)), keys(stdout(&again)));
    assert_eq!((key.len(), other.len()), (1, 1));
    assert_ne!(key, other, "the same key twice");

    let (folder, provider) = (Folder::new(), provider().await);
    let key_file = folder.0.join("of-a-secret");
    std::fs::write(&key_file, &output.stdout).unwrap();
    std::fs::set_permissions(&key_file, Permissions::from_mode(0o600)).unwrap();
    let store = format!("[store]\nurl = \"sqlite://{0}/anteroom.db\"\nkey_file = \"{0}/of-a-secret\"\n", folder.0.display());
    let service = Service::start(&(store + &client_of(&provider))).await;
    service.begin(&json!({})).await;
    assert_eq!(std::fs::read(&key_file).unwrap(), output.stdout, "left as it is");
}
