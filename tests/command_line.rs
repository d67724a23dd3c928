//! The options, and what the small subcommands and the process's own plumbing do.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command as Program;
use std::sync::Arc;
use std::time::Duration;

use anteroom::check::{Row, Severity, render};
use anteroom::cli::{Cli, Command};
use anteroom::config::Config;
use anteroom::healthcheck;
use anteroom::provider::discovery::Metadata;
use anteroom::provider::settings::Settings;
use anteroom::shutdown::{Shutdown, Signals};
use anteroom::telemetry::{Format, log_panic};
use axum::Router;
use axum::http::StatusCode;
use axum::response::Redirect;
use axum::routing::get;
use clap::{CommandFactory, Parser};
use parking_lot::Mutex;
use reqwest::Url;
use tokio::net::TcpListener;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split(' '))
}

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_subcommand_is_understood() {
    let Command::Serve(file) = parse("anteroom serve --config a.toml").unwrap().command else { panic!("serve") };
    assert_eq!(file.path(), Some(Path::new("a.toml")));
    let Command::Check(file) = parse("anteroom check").unwrap().command else { panic!("check") };
    assert_eq!(file.path(), None, "there is no anteroom.toml here");
    let Command::Healthcheck(check) = parse("anteroom healthcheck --url http://127.0.0.1:1").unwrap().command else {
        panic!("healthcheck")
    };
    assert_eq!(check.url, Some(url("http://127.0.0.1:1")));
}

#[cfg(feature = "demo")]
#[test]
fn the_ports_of_the_demo_can_be_chosen() {
    let Command::Demo(demo) = parse("anteroom demo").unwrap().command else { panic!("demo") };
    assert_eq!((demo.port, demo.provider_port), (8080, 8090));
    let Command::Demo(demo) = parse("anteroom demo --port 0 --provider-port 1").unwrap().command else { panic!("demo") };
    assert_eq!((demo.port, demo.provider_port), (0, 1));
}

#[test]
fn log_options_stand_before_or_after_the_subcommand() {
    for line in ["anteroom --log-format json --log debug serve", "anteroom serve --log debug --log-format json"] {
        let log = parse(line).unwrap().log;
        assert_eq!((log.format, log.filter.as_str()), (Format::Json, "debug"), "{line}");
    }
    let log = parse("anteroom serve").unwrap().log;
    assert_eq!((log.format, log.filter.as_str()), (Format::Pretty, "info"));
}

#[test]
fn what_is_not_understood_exits_with_2() {
    for line in [
        "anteroom",
        "anteroom fly",
        "anteroom serve --port 1",
        "anteroom serve --log-format xml",
        "anteroom serve --log a=b=c",
        "anteroom healthcheck --url ftp://a",
        "anteroom healthcheck --url 127.0.0.1:8080",
    ] {
        assert_eq!(parse(line).expect_err(line).exit_code(), 2, "{line}");
    }
    assert_eq!(parse("anteroom --help").unwrap_err().exit_code(), 0);
}

async fn service(router: Router) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = healthcheck::url_of(listener.local_addr().unwrap()).unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

#[tokio::test]
async fn a_service_is_healthy_if_and_only_if_it_says_200() {
    let ready = service(Router::new().route("/readyz", get(|| async { "ok" }))).await;
    assert_eq!(healthcheck::ask(ready.clone()).await, Ok(()));
    assert_eq!(healthcheck::ask(ready.join("/readyz").unwrap()).await, Ok(()));

    let unready = service(Router::new().route("/readyz", get(|| async { StatusCode::SERVICE_UNAVAILABLE }))).await;
    assert_eq!(healthcheck::ask(unready).await, Err("not ready: the service answered 503".to_owned()));

    let empty = service(Router::new().route("/readyz", get(|| async { StatusCode::NO_CONTENT }))).await;
    assert_eq!(healthcheck::ask(empty).await, Err("not ready: the service answered 204".to_owned()));

    let elsewhere =
        service(Router::new().route("/readyz", get(|| async { Redirect::temporary("/ok") })).route("/ok", get(|| async {}))).await;
    assert_eq!(healthcheck::ask(elsewhere).await, Err("not ready: the service answered 307".to_owned()));
}

#[tokio::test]
async fn a_service_that_is_not_there_or_silent_is_not_healthy() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = healthcheck::url_of(listener.local_addr().unwrap()).unwrap();
    assert_eq!(healthcheck::ask(address.clone()).await, Err("not ready: no answer within 3 s".to_owned()));
    drop(listener);
    assert_eq!(healthcheck::ask(address).await, Err("not ready: nobody accepts connections there".to_owned()));
}

#[test]
fn the_health_of_a_service_that_listens_everywhere_is_asked_on_loopback() {
    let url_of = |listen: &str| healthcheck::url_of(listen.parse::<SocketAddr>().unwrap()).map(String::from);
    assert_eq!(url_of("0.0.0.0:8080").unwrap(), "http://127.0.0.1:8080/");
    assert_eq!(url_of("[::]:8080").unwrap(), "http://[::1]:8080/");
    assert_eq!(url_of("10.0.0.7:80").unwrap(), "http://10.0.0.7/");
    assert!(url_of("127.0.0.1:0").unwrap_err().contains("--url"));
}

fn settings(more: &[(&str, &str)]) -> Settings {
    let variables = [("ISSUER", "https://id.acme.test"), ("CLIENT_ID", "tv")].iter().chain(more);
    let variables = variables.map(|(key, value)| (format!("ANTEROOM_PROVIDERS__ACME__{key}"), (*value).to_owned()));
    Config::load(None, variables).unwrap().providers.remove(0)
}

fn discovered() -> Metadata {
    Metadata {
        device_authorization_endpoint: Some(url("https://id.acme.test/device")),
        token_endpoint: Some(url("https://id.acme.test/token")),
        revocation_endpoint: Some(url("https://id.acme.test/revoke")),
        token_endpoint_auth_methods: Some(vec!["none".to_owned()]),
        code_challenge_methods: Some(vec!["S256".to_owned()]),
        ..Metadata::default()
    }
}

fn remedies(row: &Row) -> Vec<(Severity, &str)> {
    row.remedies.iter().map(|remedy| (remedy.severity, remedy.text.split(';').next().unwrap())).collect()
}

#[test]
fn a_provider_that_has_everything_needs_no_remedy() {
    let row = Row::new(&settings(&[]), Ok(Some(discovered())));
    assert!(row.is_usable());
    assert_eq!(remedies(&row), []);
}

#[test]
fn what_a_provider_lacks_has_a_remedy() {
    let lacking = Metadata { token_endpoint: discovered().token_endpoint, ..Metadata::default() };
    let row = Row::new(&settings(&[]), Ok(Some(lacking)));
    assert!(!row.is_usable());
    assert_eq!(
        remedies(&row),
        [
            (Severity::Error, "it names no device authorization endpoint"),
            (Severity::Info, "it names no revocation endpoint"),
            (Severity::Info, "it does not list PKCE with S256"),
        ]
    );

    let row = Row::new(&settings(&[("CLIENT_SECRET", "x")]), Ok(Some(discovered())));
    assert!(row.is_usable());
    assert_eq!(remedies(&row), [(Severity::Warning, "it does not list client_secret_basic among its client authentication methods")]);

    let silent = Metadata { code_challenge_methods: None, token_endpoint_auth_methods: None, ..discovered() };
    assert_eq!(remedies(&Row::new(&settings(&[("PKCE", "false")]), Ok(Some(silent)))), []);
}

#[test]
fn endpoints_in_the_configuration_outlive_a_failed_discovery() {
    let endpoints = [("DEVICE_AUTHORIZATION_ENDPOINT", "https://a.test/d"), ("TOKEN_ENDPOINT", "https://a.test/t")];
    let failed = || Err("no answer within 15 s".to_owned());
    let row = Row::new(&settings(&endpoints), failed());
    assert!(row.is_usable());
    assert_eq!(remedies(&row), [(Severity::Warning, "discovery failed: no answer within 15 s")]);
    let row = Row::new(&settings(&[]), failed());
    assert!(!row.is_usable());
    assert_eq!(remedies(&row), [(Severity::Error, "discovery failed: no answer within 15 s")]);
}

#[test]
fn the_table_is_aligned_and_the_remedies_follow() {
    let found = Row::new(&settings(&[]), Ok(Some(discovered())));
    let missing = Row { provider: "other-idp".to_owned(), ..Row::new(&settings(&[]), Ok(None)) };
    let text = render(&[found, missing], None);
    assert_eq!(
        text,
        "\
PROVIDER   DISCOVERY  CLIENT AUTH  PKCE  REVOCATION  JWKS  DEVICE ENDPOINT              TOKEN ENDPOINT
acme       ok         none         yes   yes         no    https://id.acme.test/device  https://id.acme.test/token
other-idp  -          none         yes   no          no    missing                      missing
other-idp: error: it names no device authorization endpoint; allow the device grant for this client there, or set device_authorization_endpoint
other-idp: error: it names no token endpoint; set token_endpoint
other-idp: info: it names no revocation endpoint; tokens that nobody claims stay valid until they expire
people cannot sign in at 1 of 2 providers
"
    );
}

#[test]
fn a_preset_says_what_it_changes_and_what_it_needs() {
    let row = |keys: &[(&str, &str)]| {
        let keys: Vec<_> = keys.iter().map(|(key, value)| (format!("ANTEROOM_PROVIDERS__ACME__{key}"), (*value).to_owned())).collect();
        Row::new(&Config::load(None, keys.into_iter()).unwrap().providers[0], Ok(None))
    };
    let salesforce = row(&[("PRESET", "salesforce"), ("CLIENT_ID", "tv-app")]);
    assert!(salesforce.is_usable() && salesforce.jwks && salesforce.revocation);
    assert_eq!(
        salesforce.remedies[0].text,
        "preset salesforce: PKCE is off; the device request has response_type=device_code scope; the token request has \
         grant_type=device code; \"too_fast\" means slow down; codes without expires_in live 600 s"
    );
    assert_eq!(salesforce.remedies[1].text, "preset salesforce: enable the device flow on the connected app");
    let trakt = row(&[("PRESET", "trakt"), ("CLIENT_ID", "tv-app")]);
    assert!(!trakt.is_usable(), "it needs a secret");
    assert!(row(&[("PRESET", "trakt"), ("CLIENT_ID", "tv-app"), ("CLIENT_SECRET", "x")]).is_usable());
    let keycloak = row(&[("PRESET", "keycloak"), ("HOST", "a.test"), ("REALM", "r"), ("CLIENT_ID", "tv-app")]);
    assert!(keycloak.remedies.iter().all(|remedy| !remedy.text.contains("PKCE is off")));
}

#[test]
fn what_nobody_could_ask_is_unknown_and_not_missing() {
    let text = render(&[Row::new(&settings(&[]), Err("no answer within 15 s".to_owned()))], None);
    let cells: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(cells, ["acme", "failed", "none", "yes", "unknown", "unknown", "unknown", "unknown"]);
}

/// A writer into memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_panic_is_one_line_that_says_where_and_keeps_what_was_formatted() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(log_panic));
    let canary = std::hint::black_box("canary");
    tracing::subscriber::with_default(subscriber, || {
        std::panic::catch_unwind(|| panic!("the table is upside down")).unwrap_err();
        std::panic::catch_unwind(|| panic!("no such key: {canary}")).unwrap_err();
    });
    std::panic::set_hook(previous);

    let text = String::from_utf8(log.0.lock().clone()).unwrap();
    let [plain, formatted] = text.lines().collect::<Vec<_>>()[..] else { panic!("two lines: {text}") };
    assert!(plain.contains("ERROR") && plain.contains("the table is upside down") && plain.contains("command_line.rs:"), "{plain}");
    assert!(formatted.contains("ERROR") && formatted.contains("command_line.rs:") && !formatted.contains("canary"), "{formatted}");
    assert!(formatted.contains("thread="), "{formatted}");
}

#[tokio::test]
async fn the_first_signal_asks_and_the_second_insists() {
    let shutdown = Shutdown::default();
    let obeying = tokio::spawn(shutdown.clone().obey(Signals::listen().unwrap()));
    let send = |signal: &str| assert!(Program::new("kill").args([signal, &std::process::id().to_string()]).status().unwrap().success());

    assert!(!shutdown.is_requested());
    send("-TERM");
    timeout(SOON, shutdown.requested()).await.unwrap();
    assert!(!obeying.is_finished(), "one signal does not abort");
    send("-INT");
    timeout(SOON, shutdown.aborted()).await.unwrap();
    timeout(SOON, obeying).await.unwrap().unwrap();
}
