use core::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use serde_json::json;

use super::*;
use crate::kernel::time::{Offset, Timestamp};
use crate::provider::dialect::Dialect;
use crate::provider::exchange::{self, Patience};
use crate::provider::gate::Limits;
use crate::provider::script::{Server, keep_silent, reply};
use crate::provider::settings::{ClientAuth, Endpoints as Named};

pub fn settings() -> Settings {
    Settings {
        name: "acme".into(),
        display_name: "Acme".into(),
        preset: None,
        dialect: Dialect::RFC8628,
        issuer: None,
        endpoints: Named::default(),
        client_id: "tv-app".into(),
        client_secret: None,
        client_auth: ClientAuth::None,
        private_key: None,
        assertion_audience: AssertionAudience::default(),
        scopes: Vec::new(),
        allowed_scopes: Vec::new(),
        audience: None,
        resource: Vec::new(),
        pkce: false,
        allow_http: false,
        allow_networks: Vec::new(),
        proxy: None,
        limits: Limits { max_in_flight: 10, max_per_second: None },
        allow_anonymous: false,
    }
}

/// A clock that stands still until it is moved.
struct HandClock(Mutex<Timestamp>);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        *self.0.lock()
    }

    fn sleep_until(&self, _deadline: Timestamp) -> BoxFuture<'static, ()> {
        core::future::pending().boxed()
    }
}

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn provider(settings: Settings) -> (OAuthProvider, Arc<HandClock>) {
    let clock = Arc::new(HandClock(Mutex::new(NOW)));
    (OAuthProvider::new(settings, exchange::client(None).unwrap(), clock.clone()), clock)
}

/// Settings that name all endpoints.
fn named(server: &Server) -> Settings {
    let endpoints = Named {
        device_authorization: Some(server.at("device?tenant=1")),
        token: Some(server.at("token?tenant=1")),
        revocation: Some(server.at("revoke")),
        jwks: None,
    };
    Settings { endpoints, ..settings() }
}

fn sign_in(device_code: &DeviceCode) -> SignIn<'_> {
    SignIn { device_code, user_code: "WDJB-MJHT", scope: "" }
}

const CODE: &str =
    r#"{"device_code":"dc","user_code":"WDJB-MJHT","verification_uri":"https://id.example/device","expires_in":900,"interval":5}"#;

fn metadata(issuer: &str) -> String {
    json!({
        "issuer": issuer,
        "device_authorization_endpoint": format!("{issuer}/device"),
        "token_endpoint": format!("{issuer}/token"),
        "revocation_endpoint": format!("{issuer}/revoke"),
    })
    .to_string()
}

/// A provider with discovery that works while `is_up`.
fn discoverable(is_up: Arc<Mutex<bool>>) -> (Server, Settings) {
    let server = Server::start(move |request, stream| {
        let issuer = format!("http://{}", request.headers.split("host: ").nth(1).unwrap().lines().next().unwrap());
        match request.line.as_str() {
            "GET /.well-known/openid-configuration" if *is_up.lock() => reply(stream, 200, "", &metadata(&issuer)),
            "POST /device" => reply(stream, 200, "", CODE),
            "POST /revoke" => reply(stream, 200, "", ""),
            _ => reply(stream, 503, "", ""),
        }
    });
    let issuer = server.url.as_str().trim_end_matches('/').to_owned();
    (server, Settings { issuer: Some(issuer), ..settings() })
}

fn fetches(server: &Server) -> usize {
    server.requests().iter().filter(|request| request.line.starts_with("GET")).count()
}

#[tokio::test]
async fn a_device_request_carries_what_the_settings_say() {
    let server = Server::start(|_, stream| reply(stream, 200, "", CODE));
    let settings = Settings {
        audience: Some("https://api.example".into()),
        resource: vec!["https://a.example".into(), "https://b.example".into()],
        pkce: true,
        client_secret: Some("s3cr3t".into()),
        client_auth: ClientAuth::ClientSecretBasic,
        ..named(&server)
    };
    let (provider, _) = provider(settings);
    let began = Provider::begin(&provider, "openid profile").await.unwrap();
    let request = server.requests().remove(0);
    assert_eq!(request.line, "POST /device?tenant=1");
    assert!(request.headers.contains("authorization: basic "));
    let verifier = began.device_code.expose_code_verifier().unwrap();
    let expected = [
        ("scope", "openid profile"),
        ("code_challenge", &pkce::challenge(verifier)),
        ("code_challenge_method", "S256"),
        ("audience", "https://api.example"),
        ("resource", "https://a.example"),
        ("resource", "https://b.example"),
        ("client_id", "tv-app"),
    ];
    assert_eq!(request.form, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(began.device_code.expose_code(), "dc");
    assert_eq!(*began.device_code.token_endpoint, *server.at("token?tenant=1").as_str());
    assert_eq!(began.prompt.expires_at, NOW + Duration::from_secs(900));
    assert_eq!(began.interval, Some(Duration::from_secs(5)));
}

#[tokio::test]
async fn nothing_is_sent_that_is_not_set() {
    let server = Server::start(|_, stream| reply(stream, 200, "", CODE));
    let (provider, _) = provider(named(&server));
    let began = Provider::begin(&provider, "").await.unwrap();
    assert!(began.device_code.expose_code_verifier().is_none());
    let request = server.requests().remove(0);
    assert_eq!(request.form, [("client_id".to_owned(), "tv-app".to_owned())]);
    assert!(!request.headers.contains("authorization:"));
}

#[tokio::test]
async fn a_token_request_goes_to_the_endpoint_that_the_code_belongs_to() {
    let server = Server::start(|_, stream| reply(stream, 400, "", r#"{"error":"authorization_pending"}"#));
    let settings = Settings { resource: vec!["https://a.example".into()], audience: Some("unused".into()), ..named(&server) };
    let (provider, _) = provider(settings);
    let device_code = DeviceCode::new("dc", Some("verifier"), server.at("old/token?tenant=2").as_str().into());
    assert!(matches!(Provider::ask(&provider, sign_in(&device_code)).await, Verdict::Pending));
    let request = server.requests().remove(0);
    assert_eq!(request.line, "POST /old/token?tenant=2");
    let expected = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("device_code", "dc"),
        ("code_verifier", "verifier"),
        ("resource", "https://a.example"),
        ("client_id", "tv-app"),
    ];
    assert_eq!(request.form, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[tokio::test]
async fn tokens_arrive_with_an_absolute_lifetime() {
    let server = Server::start(|_, stream| reply(stream, 200, "", r#"{"access_token":"at","expires_in":60}"#));
    let (provider, _) = provider(named(&server));
    let device_code = DeviceCode::new("dc", None, server.at("token").as_str().into());
    match Provider::ask(&provider, sign_in(&device_code)).await {
        Verdict::Authorized(grant) => assert_eq!(grant.expires_at, Some(Offset::ZERO.wall(NOW + Duration::from_secs(60)))),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_device_request_that_fails_says_how() {
    let server = Server::start(|request, stream| match request.value("scope") {
        Some("rejected") => reply(stream, 400, "", r#"{"error":"invalid_scope","error_description":"canary"}"#),
        Some("limited") => reply(stream, 429, "Retry-After: 9\r\n", ""),
        Some("down") => reply(stream, 502, "", "<html>"),
        Some("page") => reply(stream, 200, "", "<html>"),
        Some("moved") => reply(stream, 307, "Location: /device\r\n", ""),
        Some("silent") => keep_silent(stream),
        _ => {}
    });
    let patience = Patience { connect: Duration::from_secs(60), total: Duration::from_millis(300) };
    let http = exchange::client_with(patience, None).unwrap();
    let provider = OAuthProvider::new(named(&server), http, Arc::new(HandClock(Mutex::new(NOW))));
    let rows = [
        ("rejected", Failure::ProviderRejected),
        ("limited", Failure::ProviderRateLimited { retry_after_secs: Some(9) }),
        ("down", Failure::ProviderUnreachable),
        ("page", Failure::ProviderInvalidResponse),
        ("moved", Failure::ProviderInvalidResponse),
        ("silent", Failure::ProviderTimeout),
        ("broken", Failure::ProviderUnreachable),
    ];
    for (scope, failure) in rows {
        assert_eq!(Provider::begin(&provider, scope).await.err(), Some(failure), "{scope}");
    }
    assert_eq!(server.requests().len(), rows.len(), "each asked once");
}

#[tokio::test]
async fn sessions_share_the_texts_that_do_not_differ() {
    let server = Server::start(|_, stream| reply(stream, 200, "", CODE));
    let (provider, _) = provider(named(&server));
    let one = Provider::begin(&provider, "").await.unwrap();
    let other = Provider::begin(&provider, "").await.unwrap();
    assert!(Arc::ptr_eq(&one.device_code.token_endpoint, &other.device_code.token_endpoint));
    assert!(Arc::ptr_eq(&one.prompt.verification_uri, &other.prompt.verification_uri));
}

#[tokio::test]
async fn many_at_once_cost_one_discovery_and_the_next_hour_none() {
    let (server, settings) = discoverable(Arc::new(Mutex::new(true)));
    let (provider, clock) = provider(settings);
    let began = join_all((0..20).map(|_| Provider::begin(&provider, ""))).await;
    assert!(began.iter().all(Result::is_ok));
    assert_eq!(fetches(&server), 1);
    *clock.0.lock() = NOW + Duration::from_secs(3599);
    Provider::begin(&provider, "").await.unwrap();
    assert_eq!(fetches(&server), 1);
    *clock.0.lock() = NOW + Duration::from_secs(3600);
    Provider::begin(&provider, "").await.unwrap();
    assert_eq!(fetches(&server), 2);
}

#[tokio::test]
async fn a_failed_discovery_is_shared_by_those_who_wait_and_forgotten() {
    let is_up = Arc::new(Mutex::new(false));
    let (server, settings) = discoverable(Arc::clone(&is_up));
    let (provider, _) = provider(settings);
    let began = join_all((0..20).map(|_| Provider::begin(&provider, ""))).await;
    assert!(began.iter().all(|began| matches!(began, Err(Failure::ProviderUnreachable))));
    assert_eq!(fetches(&server), 2, "both documents, once");
    *is_up.lock() = true;
    Provider::begin(&provider, "").await.unwrap();
}

#[tokio::test]
async fn what_was_discovered_outlives_an_outage() {
    let is_up = Arc::new(Mutex::new(true));
    let (server, settings) = discoverable(Arc::clone(&is_up));
    let (provider, clock) = provider(settings);
    Provider::begin(&provider, "").await.unwrap();
    *is_up.lock() = false;
    *clock.0.lock() = NOW + Duration::from_secs(4000);
    for _ in 0..3 {
        Provider::begin(&provider, "").await.unwrap();
    }
    assert_eq!(fetches(&server), 3, "the outage is not looked at for every sign-in");
}

#[tokio::test]
async fn a_discovery_that_is_dropped_half_way_harms_nobody() {
    let seen = Arc::new(AtomicUsize::new(0));
    let (first, count) = (Arc::new(tokio::sync::Notify::new()), Arc::clone(&seen));
    let arrived = Arc::clone(&first);
    let server = Server::start(move |request, stream| {
        if count.fetch_add(1, Ordering::Relaxed) == 0 {
            arrived.notify_one();
            keep_silent(stream);
        } else if request.line.starts_with("GET") {
            let issuer = format!("http://{}", request.headers.split("host: ").nth(1).unwrap().lines().next().unwrap());
            reply(stream, 200, "", &metadata(&issuer));
        } else {
            reply(stream, 200, "", CODE);
        }
    });
    let issuer = server.url.as_str().trim_end_matches('/').to_owned();
    let (provider, _) = provider(Settings { issuer: Some(issuer), ..settings() });
    tokio::select! {
        _ = Provider::begin(&provider, "") => panic!("the first request is never answered"),
        () = first.notified() => {}
    }
    Provider::begin(&provider, "").await.unwrap();
}

#[tokio::test]
async fn named_endpoints_need_no_discovery() {
    let server = Server::start(|_, stream| reply(stream, 200, "", CODE));
    let mut settings = Settings { issuer: Some(server.url.as_str().into()), ..named(&server) };
    settings.endpoints.revocation = None;
    let (provider, _) = provider(settings);
    Provider::begin(&provider, "").await.unwrap();
    assert_eq!(Provider::revoke(&provider, &grant()).await, Revocation::NoEndpoint);
    assert_eq!(fetches(&server), 0);
}

#[tokio::test]
async fn a_named_endpoint_wins_over_the_discovered_one() {
    let (server, mut settings) = discoverable(Arc::new(Mutex::new(true)));
    settings.endpoints.token = Some(server.at("mine"));
    let (provider, _) = provider(settings);
    let began = Provider::begin(&provider, "").await.unwrap();
    assert_eq!(*began.device_code.token_endpoint, *server.at("mine").as_str());
}

#[tokio::test]
async fn without_an_endpoint_there_is_no_sign_in() {
    let (provider, _) = provider(settings());
    assert_eq!(Provider::begin(&provider, "").await.err(), Some(Failure::ProviderInvalidResponse));
    assert_eq!(provider.discovery().look_up().await, Err(Problem::NoIssuer));
}

fn grant() -> Grant {
    Grant {
        access_token: "at".into(),
        token_type: "Bearer".into(),
        expires_at: None,
        refresh_token: Some("rt".into()),
        id_token: None,
        scope: None,
        arrived_at: None,
        claims: None,
    }
}

#[tokio::test]
async fn the_refresh_token_is_revoked_first() {
    let (server, settings) = discoverable(Arc::new(Mutex::new(true)));
    let settings = Settings { client_secret: Some("s3cr3t".into()), client_auth: ClientAuth::ClientSecretPost, ..settings };
    let (provider, _) = provider(settings);
    assert_eq!(Provider::revoke(&provider, &grant()).await, Revocation::Revoked);
    let requests = server.requests();
    let sent = |n: usize| requests[n].form.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&");
    assert_eq!(sent(1), "token=rt&token_type_hint=refresh_token&client_id=tv-app&client_secret=s3cr3t");
    assert_eq!(sent(2), "token=at&token_type_hint=access_token&client_id=tv-app&client_secret=s3cr3t");
    assert_eq!(requests.len(), 3);
}

/// What is answered for the refresh token and for the access token, and what that is together.
#[tokio::test]
async fn what_comes_of_two_tokens_is_the_worse_of_both() {
    let rows = [
        ("200", "200", "revoked"),
        ("200", "400", "revoked"),
        ("200", "400/unsupported_token_type", "revoked"),
        ("400/invalid_token", "400/invalid_token", "revoked"),
        ("400", "200", "revoked"),
        ("200", "403", "refused"),
        ("400/unsupported_token_type", "200", "refused"),
        ("401/invalid_client", "401/invalid_client", "refused"),
        ("200/invalid_client", "200/invalid_client", "refused"),
        ("422", "422", "refused"),
        ("404", "404", "unsupported"),
        ("401", "503", "not_revoked"),
        ("503", "400/invalid_token", "not_revoked"),
        ("302", "302", "not_revoked"),
        ("400/server_error", "400/server_error", "not_revoked"),
        ("400/slow_down", "200", "not_revoked"),
    ];
    for (refresh, access, name) in rows {
        let server = Server::start(move |request, stream| {
            let answer = if request.value("token") == Some("rt") { refresh } else { access };
            let (status, code) = answer.split_once('/').unwrap_or((answer, ""));
            let body = if code.is_empty() { String::new() } else { format!(r#"{{"error":"{code}"}}"#) };
            reply(stream, status.parse().unwrap(), "", &body);
        });
        let (provider, _) = provider(named(&server));
        assert_eq!(Provider::revoke(&provider, &grant()).await.name(), name, "{refresh} {access}");
        assert_eq!(server.requests().len(), 2, "a failure skips no token");
    }
}

#[tokio::test]
async fn whoever_is_refused_reads_what_to_do() {
    for (status, remedy) in [(401, "`client_auth`"), (403, "at the provider"), (415, "`revocation_endpoint`")] {
        let server = Server::start(move |_, stream| reply(stream, status, "", ""));
        let (provider, _) = provider(named(&server));
        let Revocation::Refused(words) = Provider::revoke(&provider, &grant()).await else { panic!("{status}") };
        assert!(words.contains(remedy), "{words}");
    }
}

#[tokio::test]
async fn a_revocation_that_nobody_hears_is_tried_again() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut settings = settings();
    settings.endpoints.revocation = Some(Url::parse(&format!("http://{nobody}/revoke")).unwrap());
    let (provider, _) = provider(settings);
    assert_eq!(Provider::revoke(&provider, &grant()).await, Revocation::Failed);
}
