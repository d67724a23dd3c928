//! What the operator may write, and what is said when it is wrong.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anteroom::config::{Config, ConfigErrors, StoreSettings};
use anteroom::provider::presets;
use anteroom::provider::settings::{AssertionAudience, ClientAuth, Settings};
use proptest::prelude::*;
use secrecy::ExposeSecret;

const SECRET: &str = "s3cr3t-canary";
const KEY: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
const ACME: &str = "[providers.acme]\nissuer = 'https://id.acme.test'\nclient_id = 'tv-app'\n";

struct TempFile(PathBuf);

impl TempFile {
    fn new(content: impl AsRef<[u8]>) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(uuid::Uuid::new_v4().to_string());
        std::fs::write(&path, content).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn load(file: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let file = TempFile::new(file);
    Config::load(Some(&file.0), variables(environment))
}

fn load_environment(environment: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    Config::load(None, variables(environment))
}

fn variables(environment: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
}

/// The top-level keys, `[providers.acme]` and further keys of it.
fn acme(top: &str, more: &str) -> String {
    format!("{top}\n{ACME}{more}\n")
}

fn lines(file: &str, environment: &[(&str, &str)]) -> Vec<String> {
    load(file, environment).expect_err(file).lines().to_vec()
}

#[test]
fn the_documented_sample_loads() {
    let secret = TempFile::new("from-file\r\n");
    let config = load(
        &format!(
            r#"
listen = "127.0.0.1:8080"
admin_listen = "127.0.0.1:9090"
allow_anonymous = false
claim_ttl = "5m"
retention = "10m"
max_sessions = 1000000
max_settled_sessions = 5000
[store]
url = "memory:"
[providers.acme]
issuer = "https://id.acme.test"
device_authorization_endpoint = "https://id.acme.test/device"
token_endpoint = "https://id.acme.test/token"
revocation_endpoint = "https://id.acme.test/revoke"
jwks_uri = "https://id.acme.test/keys"
client_id = "tv-app"
client_secret_file = "{}"
client_auth = "client_secret_post"
scopes = ["openid", "profile"]
allowed_scopes = ["openid", "profile", "email"]
audience = "https://api.acme.test"
resource = "https://api.acme.test/tv"
pkce = false
display_name = "Acme"
proxy = "http://proxy.acme.test:3128"
allow_http = true
allow_anonymous = true
max_polls_per_second = 50
max_in_flight = 8
[providers.a-second]
issuer = "https://id.second.test"
client_id = "tv"
[[callers]]
name = "tv-backend"
key_sha256 = "{KEY}"
providers = ["acme"]
scopes = ["openid", "email"]
max_creates_per_minute = 30
max_sessions = 1000
[[callers]]
name = "kiosk"
key_sha256 = "{}"
[http]
allowed_origins = ["https://tv.example", "https://TV.example:8443"]
owner_origins = ["https://kiosk.example"]
trusted_proxies = ["10.0.0.0/8", "::1", "fd00::/8"]
max_requests_per_minute = 1
max_creates_per_minute = 2
max_reads_per_minute = 3
max_connections = 4
"#,
            secret.path(),
            KEY.to_uppercase().replace('9', "8"),
        ),
        &[],
    )
    .unwrap();

    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.admin_listen.unwrap().to_string(), "127.0.0.1:9090");
    assert_eq!((config.terms.claim_ttl, config.terms.retention), (Duration::from_secs(300), Duration::from_secs(600)));
    assert_eq!((config.max_sessions, config.max_settled_sessions), (1_000_000, 5_000));
    assert!(matches!(config.store, StoreSettings::Memory));
    assert!(!config.is_open());
    assert_eq!(config.http.allowed_origins, ["https://tv.example", "https://tv.example:8443"]);
    assert_eq!(config.http.owner_origins, ["https://kiosk.example"]);
    assert_eq!(config.http.trusted_proxies, ["10.0.0.0/8", "::1", "fd00::/8"]);
    let http = &config.http;
    let rates = [http.max_requests_per_minute, http.max_creates_per_minute, http.max_reads_per_minute].map(NonZeroU32::get);
    assert_eq!((rates, http.max_connections), ([1, 2, 3], 4));

    let [second, acme] = &config.providers[..] else { panic!("two providers, sorted by name") };
    assert_eq!((&*second.name, &*second.display_name, second.pkce), ("a-second", "a-second", true));
    assert_eq!((second.client_auth, second.limits.max_in_flight, second.limits.max_per_second), (ClientAuth::None, 64, None));
    assert_eq!((&*acme.name, &*acme.display_name, acme.pkce), ("acme", "Acme", false));
    assert_eq!(acme.issuer.as_deref(), Some("https://id.acme.test"));
    assert_eq!(acme.endpoints.device_authorization.as_ref().unwrap().as_str(), "https://id.acme.test/device");
    assert_eq!(acme.endpoints.token.as_ref().unwrap().as_str(), "https://id.acme.test/token");
    assert_eq!(acme.endpoints.revocation.as_ref().unwrap().as_str(), "https://id.acme.test/revoke");
    assert_eq!(acme.endpoints.jwks.as_ref().unwrap().as_str(), "https://id.acme.test/keys");
    assert_eq!(acme.client_secret.as_ref().unwrap().expose_secret(), "from-file");
    assert_eq!(acme.client_auth, ClientAuth::ClientSecretPost);
    assert_eq!(acme.scopes, ["openid", "profile"]);
    assert_eq!(acme.allowed_scopes, ["openid", "profile", "email"]);
    assert_eq!(acme.audience.as_deref(), Some("https://api.acme.test"));
    assert_eq!(acme.resource, ["https://api.acme.test/tv"]);
    assert_eq!(acme.proxy.as_ref().unwrap().as_str(), "http://proxy.acme.test:3128/");
    assert!(acme.allow_http && acme.allow_anonymous);
    assert_eq!((acme.limits.max_in_flight, acme.limits.max_per_second), (8, Some(50)));

    let [backend, kiosk] = &config.callers[..] else { panic!("two callers") };
    assert_eq!((&*backend.name, backend.key_sha256[0], backend.max_sessions), ("tv-backend", 0x9f, Some(1000)));
    assert_eq!(backend.providers.as_deref(), Some(&[Arc::from("acme")][..]));
    assert_eq!((&*kiosk.name, kiosk.key_sha256[0], kiosk.max_sessions), ("kiosk", 0x8f, None));
    assert_eq!(backend.scopes.as_deref(), Some(&["openid".to_owned(), "email".to_owned()][..]));
    assert_eq!(backend.max_creates_per_minute.map(NonZeroU32::get), Some(30));
    assert_eq!((&kiosk.providers, &kiosk.scopes, kiosk.max_creates_per_minute), (&None, &None, None));
}

#[test]
fn an_issuer_and_a_client_id_are_enough() {
    let config = load(ACME, &[]).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.admin_listen.unwrap().to_string(), "127.0.0.1:9090");
    assert!(config.is_open());
    assert_eq!(config.providers[0].client_auth, ClientAuth::None);
    assert!(config.providers[0].pkce && config.providers[0].scopes.is_empty());
}

#[test]
fn both_endpoints_stand_in_for_the_issuer() {
    let file = "[providers.acme]\nclient_id = 'tv'\ntoken_endpoint = 'https://a.test/t?tenant=1'\ndevice_authorization_endpoint = 'https://a.test/d'";
    assert_eq!(load(file, &[]).unwrap().providers[0].issuer, None);
}

#[test]
fn a_secret_without_a_method_means_basic_and_scopes_are_what_is_allowed() {
    let config = load(&acme("", "client_secret = 'x'\nscopes = ['openid']"), &[]).unwrap();
    assert_eq!(config.providers[0].client_auth, ClientAuth::ClientSecretBasic);
    assert_eq!(config.providers[0].allowed_scopes, ["openid"]);
}

#[test]
fn the_environment_alone_is_enough() {
    let callers = format!("[{{ name = 'tv', key_sha256 = '{KEY}', providers = ['my-idp'] }}]");
    let config = load_environment(&[
        ("ANTEROOM_LISTEN", "0.0.0.0:0"),
        ("ANTEROOM_ADMIN_LISTEN", ""),
        ("ANTEROOM_CLAIM_TTL", "1m 30s"),
        ("ANTEROOM_MAX_SESSIONS", "1_000"),
        ("ANTEROOM_STORE__URL", "memory:"),
        ("ANTEROOM_PROVIDERS__MY_IDP__ISSUER", "https://id.acme.test/"),
        ("ANTEROOM_PROVIDERS__MY_IDP__CLIENT_ID", "007"),
        ("ANTEROOM_PROVIDERS__MY_IDP__CLIENT_SECRET", "123456"),
        ("ANTEROOM_PROVIDERS__MY_IDP__SCOPES", "[\"openid\", 'profile']"),
        ("ANTEROOM_PROVIDERS__MY_IDP__PKCE", "false"),
        ("ANTEROOM_PROVIDERS__MY_IDP__RESOURCE", "['urn:a', 'urn:b']"),
        ("ANTEROOM_PROVIDERS__MY_IDP__MAX_POLLS_PER_SECOND", "5"),
        ("ANTEROOM_CALLERS", &callers),
        ("ANTEROOM_HTTP__ALLOWED_ORIGINS", "['http://localhost:3000']"),
    ])
    .unwrap();
    assert_eq!(config.listen.to_string(), "0.0.0.0:0");
    assert_eq!(config.admin_listen, None);
    assert_eq!(config.terms.claim_ttl, Duration::from_secs(90));
    assert_eq!(config.max_sessions, 1000);
    let provider = &config.providers[0];
    assert_eq!((&*provider.name, &*provider.client_id, provider.pkce), ("my-idp", "007", false));
    assert_eq!(provider.client_secret.as_ref().unwrap().expose_secret(), "123456");
    assert_eq!(provider.issuer.as_deref(), Some("https://id.acme.test/"));
    assert_eq!(provider.scopes, ["openid", "profile"]);
    assert_eq!(provider.resource, ["urn:a", "urn:b"]);
    assert_eq!(provider.limits.max_per_second, Some(5));
    assert_eq!(&*config.callers[0].name, "tv");
    assert_eq!(config.http.allowed_origins, ["http://localhost:3000"]);
}

#[test]
fn the_environment_wins_over_the_file() {
    let file = acme("listen = '127.0.0.1:1'\nadmin_listen = '127.0.0.1:2'\nmax_sessions = 5", "client_secret = 'file'\npkce = true");
    let config = load(
        &file,
        &[
            ("ANTEROOM_LISTEN", "[::1]:9"),
            ("ANTEROOM_MAX_SESSIONS", "7"),
            ("ANTEROOM_PROVIDERS__ACME__CLIENT_SECRET", "environment"),
            ("ANTEROOM_PROVIDERS__ACME__PKCE", "false"),
        ],
    )
    .unwrap();
    assert_eq!((config.listen.to_string().as_str(), config.max_sessions), ("[::1]:9", 7));
    assert_eq!(config.admin_listen.unwrap().to_string(), "127.0.0.1:2");
    assert_eq!(config.providers[0].client_secret.as_ref().unwrap().expose_secret(), "environment");
    assert!(!config.providers[0].pkce);
    assert_eq!(&*config.providers[0].client_id, "tv-app");
}

#[test]
fn dashes_of_a_providers_name_are_underscores_in_the_environment() {
    for (name, variable) in [("my-idp", "MY_IDP"), ("a--b", "A__B"), ("a-", "A_"), ("-a", "_A"), ("1", "1")] {
        let file = format!("[providers.{name}]\nissuer = 'https://id.test'\nclient_id = 'file'");
        let variable = format!("ANTEROOM_PROVIDERS__{variable}__CLIENT_ID");
        let config = load(&file, &[(&variable, "environment")]).unwrap();
        assert_eq!(config.providers.len(), 1, "{name}");
        assert_eq!(config.providers[0].client_id, "environment", "{name}");
    }
}

#[test]
fn variables_that_are_not_ours_to_read_are_ignored() {
    let config = load(
        ACME,
        &[
            ("ANTEROOM_TEST_LISTEN", "x"),
            ("ANTEROOM_CONFIG", "x"),
            ("ANTEROOM_LOG", "x"),
            ("ANTEROOM_LOG_FORMAT", "x"),
            ("LISTEN", "x"),
            ("XANTEROOM_LISTEN", "x"),
            ("ANTEROOM_SERVICE_HOST", "10.0.0.1"),
            ("ANTEROOM_SERVICE_PORT", "80"),
            ("ANTEROOM_SERVICE_PORT_HTTP", "80"),
            ("ANTEROOM_PORT", "tcp://10.0.0.1:80"),
            ("ANTEROOM_PORT_80_TCP", "tcp://10.0.0.1:80"),
            ("ANTEROOM_PORT_80_TCP_PROTO", "tcp"),
            ("ANTEROOM_ADMIN_SERVICE_HOST", "10.0.0.1"),
            ("ANTEROOM_ADMIN_PORT_9090_TCP_ADDR", "10.0.0.1"),
        ],
    );
    config.unwrap();
}

#[test]
fn a_loopback_listener_needs_no_callers_even_for_a_confidential_client() {
    for listen in ["127.0.0.1:80", "127.9.9.9:0", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
        load(&acme(&format!("listen = '{listen}'"), "client_secret = 'x'"), &[]).expect(listen);
    }
}

#[test]
fn plain_http_is_for_loopback_or_for_those_who_allow_it() {
    for (issuer, more) in [
        ("http://127.0.0.1:8090", ""),
        ("http://localhost:8090/a", ""),
        ("http://id.localhost", ""),
        ("http://[::1]", ""),
        ("http://id.acme.test", "allow_http = true"),
    ] {
        load(&format!("[providers.acme]\nclient_id = 'tv'\nissuer = '{issuer}'\n{more}"), &[]).expect(issuer);
    }
}

#[test]
fn an_open_listener_is_possible_for_those_who_say_so() {
    let file = acme("listen = '0.0.0.0:8080'\nallow_anonymous = true", "client_secret = 'x'\nallow_anonymous = true");
    assert!(load(&file, &[]).unwrap().is_open());
}

#[test]
fn each_mistake_has_one_clear_line() {
    let open = "is open to other machines while no caller needs a key; add [[callers]], listen on 127.0.0.1, or set allow_anonymous = true";
    let url = "expected a URL such as \"https://id.example.com\"";
    let text = "expected a string in quotes";
    let origins = "http.allowed_origins: expected origins such as \"https://tv.example\" or \"http://localhost:3000\", without a path";
    let networks = "http.trusted_proxies: expected IP addresses or networks, such as \"10.0.0.7\" or \"10.0.0.0/8\"";
    let caller = |more: &str| format!("{ACME}[[callers]]\nname = 'tv'\nkey_sha256 = '{KEY}'\n{more}");
    let cases = [
        // Top level.
        ("".to_owned(), "providers: none is configured; add [providers.NAME] with an issuer and a client_id".to_owned()),
        (acme("listn = 'x'", ""), "listn: unknown key; did you mean `listen`?".to_owned()),
        (acme("zzz = 'x'", ""), "zzz: unknown key".to_owned()),
        (acme("'a b\\n' = 1", ""), "\"a b\\\\n\": unknown key".to_owned()),
        (format!("{ACME}[provider.acme]"), "provider: unknown key; did you mean `providers`?".to_owned()),
        (
            acme("listen = 'localhost:80'", ""),
            "listen: expected an IP address and a port, such as \"127.0.0.1:8080\" or \"[::]:8080\"".to_owned(),
        ),
        (acme("listen = 8080", ""), format!("listen: {text}")),
        (
            acme("admin_listen = 'no'", ""),
            "admin_listen: expected an IP address and a port, such as \"127.0.0.1:8080\" or \"[::]:8080\"".to_owned(),
        ),
        (
            acme("admin_listen = '127.0.0.1:8080'", ""),
            "admin_listen: is the same address as listen; give it another port, or \"\" to turn it off".to_owned(),
        ),
        (acme("allow_anonymous = 'yes'", ""), "allow_anonymous: expected true or false".to_owned()),
        (acme("claim_ttl = 300", ""), format!("claim_ttl: {text}")),
        (acme("claim_ttl = '300'", ""), "claim_ttl: expected a time with its unit, such as \"90s\" or \"5m\"".to_owned()),
        (acme("claim_ttl = '999ms'", ""), "claim_ttl: expected a time from a second to a year".to_owned()),
        (acme("retention = '0s'", ""), "retention: expected a time from a second to a year".to_owned()),
        (acme("retention = '1000y'", ""), "retention: expected a time from a second to a year".to_owned()),
        (acme("max_sessions = 0", ""), "max_sessions: expected a whole number, 1 or more".to_owned()),
        (acme("max_settled_sessions = 0", ""), "max_settled_sessions: expected a whole number, 1 or more".to_owned()),
        (acme("max_sessions = 1.5", ""), "max_sessions: expected a whole number, 1 or more".to_owned()),
        (acme("listen = '0.0.0.0:8080'", ""), format!("listen: {open}")),
        (acme("listen = '[::]:8080'", ""), format!("listen: {open}")),
        (acme("callers = []\nlisten = '10.1.1.1:8080'", ""), format!("listen: {open}")),
        (
            acme("listen = '0.0.0.0:8080'\nallow_anonymous = true", "client_secret = 'x'"),
            "providers.acme.allow_anonymous: must be true to let callers without a key use this client's secret from other machines; better add [[callers]]".to_owned(),
        ),
        (acme("store = 'memory:'", ""), "store: expected a table of keys; in the environment set its keys one by one".to_owned()),
        (format!("{ACME}[store]\nurl = 'sqlite:a.db'"), "store.url: expected \"sqlite://\" and a path, without options".to_owned()),
        (format!("{ACME}[store]\nurl = 'sqlite://a.db?mode=ro'"), "store.url: expected \"sqlite://\" and a path, without options".to_owned()),
        (
            format!("{ACME}[store]\nurl = 'postgres://a/b'"),
            "store.key_file: is missing; with PostgreSQL, say where the file with the sealing keys is or may be made".to_owned(),
        ),
        (
            format!("{ACME}[store]\nurl = 'redis://a'"),
            "store.url: expected \"sqlite://PATH\", \"postgres://…\" or \"memory:\"".to_owned(),
        ),
        (format!("{ACME}[store]\nkey_file = ''"), "store.key_file: expected a path".to_owned()),
        (format!("{ACME}[store]\nurls = 'memory:'"), "store.urls: unknown key; did you mean `url`?".to_owned()),
        // Providers.
        (acme("", "client_idd = 'x'"), "providers.acme.client_idd: unknown key; did you mean `client_id`?".to_owned()),
        (
            "[providers.acme]\nissuer = 'https://id.test'".to_owned(),
            "providers.acme.client_id: is missing; set it here or as ANTEROOM_PROVIDERS__ACME__CLIENT_ID".to_owned(),
        ),
        (
            "[providers.acme]\nclient_id = 'a'\ntoken_endpoint = 'https://id.test/t'".to_owned(),
            "providers.acme.device_authorization_endpoint: is missing; set the issuer, or both device_authorization_endpoint and token_endpoint".to_owned(),
        ),
        (
            "[providers.acme]\nclient_id = 'a'\ndevice_authorization_endpoint = 'https://id.test/d'".to_owned(),
            "providers.acme.token_endpoint: is missing; set the issuer, or both device_authorization_endpoint and token_endpoint".to_owned(),
        ),
        (
            "[providers.Acme_1]\nissuer = 'https://id.test'\nclient_id = 'a'".to_owned(),
            "providers.Acme_1: a provider's name may have a-z, 0-9 and - only".to_owned(),
        ),
        ("[providers]\nacme = 1".to_owned(), "providers.acme: expected a table of keys; in the environment set its keys one by one".to_owned()),
        (acme("", "token_endpoint = 'id.test/token'"), format!("providers.acme.token_endpoint: {url}")),
        (acme("", "jwks_uri = 'file:///etc/passwd'"), format!("providers.acme.jwks_uri: {url}")),
        (
            acme("", "revocation_endpoint = 'http://id.test/r'"),
            "providers.acme.revocation_endpoint: http sends secrets in the clear; use https, or set allow_http = true on this provider".to_owned(),
        ),
        (
            acme("", "token_endpoint = 'http://localhost.evil.test/r'"),
            "providers.acme.token_endpoint: http sends secrets in the clear; use https, or set allow_http = true on this provider".to_owned(),
        ),
        (
            acme("", "token_endpoint = 'https://u:p@id.test/r'"),
            "providers.acme.token_endpoint: has a user name or password in it; remove it".to_owned(),
        ),
        (acme("", "token_endpoint = 'https://id.test/r#f'"), "providers.acme.token_endpoint: has a fragment (#…); remove it".to_owned()),
        (acme("", "token_endpoint = ' https://id.test/r'"), "providers.acme.token_endpoint: has a space or a line break in it".to_owned()),
        (
            "[providers.acme]\nclient_id = 'a'\nissuer = 'https://id.test?x=1'".to_owned(),
            "providers.acme.issuer: an issuer has no query".to_owned(),
        ),
        (acme("", "proxy = 'socks5://proxy.test'"), format!("providers.acme.proxy: {url}")),
        (acme("", "proxy = 'http://u:p@proxy.test'"), "providers.acme.proxy: has a user name or password in it; remove it".to_owned()),
        (acme("", "display_name = ''"), "providers.acme.display_name: is empty; give it a value or leave it out".to_owned()),
        (acme("", "audience = \"a\\nb\""), "providers.acme.audience: has a line break or another control character in it".to_owned()),
        (acme("", "resource = [1]"), "providers.acme.resource: expected an array of strings, such as [\"a\", \"b\"]".to_owned()),
        (acme("", "client_secret = 5"), format!("providers.acme.client_secret: {text}")),
        (
            acme("", "client_secret = 'x'\nclient_auth = 'none'"),
            "providers.acme.client_auth: is none, but there is a client secret; remove the secret, or use client_secret_basic".to_owned(),
        ),
        (
            acme("", "client_auth = 'client_secret_basic'"),
            "providers.acme.client_secret: is missing, and client_auth needs it; set client_secret or client_secret_file".to_owned(),
        ),
        (
            acme("", "client_auth = 'client_secret_post'"),
            "providers.acme.client_secret: is missing, and client_auth needs it; set client_secret or client_secret_file".to_owned(),
        ),
        (
            acme("", "client_auth = 'private_key_jwt'"),
            "providers.acme.private_key_file: is missing, and client_auth needs it; name a PEM or JWK file".to_owned(),
        ),
        (
            acme("", &format!("client_auth = 'private_key_jwt'\nclient_secret = 'x'\nprivate_key_file = '{}'", test_key("rsa.pem"))),
            "providers.acme.client_auth: is private_key_jwt, but there is a client secret; remove the secret".to_owned(),
        ),
        (
            acme("", &format!("client_auth = 'none'\nprivate_key_file = '{}'", test_key("rsa.pem"))),
            "providers.acme.private_key_file: is of no use to this client_auth; remove it, or use private_key_jwt".to_owned(),
        ),
        (
            acme("", &format!("private_key_file = '{}'", test_key("README"))),
            "providers.acme.private_key_file: the file holds no private key; expected PKCS#8 PEM (\"BEGIN PRIVATE KEY\") or a private JWK".to_owned(),
        ),
        (
            acme("", &format!("private_key_file = '{}'", test_key("rsa-public.pem"))),
            "providers.acme.private_key_file: the file holds no private key; expected PKCS#8 PEM (\"BEGIN PRIVATE KEY\") or a private JWK".to_owned(),
        ),
        (
            acme("", &format!("private_key_file = '{}'", test_key("p256-sec1.pem"))),
            "providers.acme.private_key_file: the file is of a kind that cannot be read here; convert it with \"openssl pkcs8 -topk8 -nocrypt\""
                .to_owned(),
        ),
        (
            acme("", &format!("private_key_file = '{}'", test_key("rsa-1024.pem"))),
            "providers.acme.private_key_file: the file holds a key that cannot be used; expected RSA of 2048 bits or more, P-256, P-384 or Ed25519"
                .to_owned(),
        ),
        (acme("", "private_key_id = 'k'"), "providers.acme.private_key_id: names no key; set private_key_file".to_owned()),
        (acme("", "private_key_file = '/nonexistent'"), "providers.acme.private_key_file: the file cannot be read (entity not found)".to_owned()),
        (acme("", "assertion_audience = 'x'"), "providers.acme.assertion_audience: expected \"issuer\" or \"token_endpoint\"".to_owned()),
        (acme("", "basic_raw = true"), "providers.acme.basic_raw: is for client_auth = \"client_secret_basic\"; remove it".to_owned()),
        (
            acme("", "allow_networks = ['10.0.0.0/33']"),
            "providers.acme.allow_networks: expected networks such as [\"10.0.0.0/8\", \"fd00::/8\"]".to_owned(),
        ),
        (
            acme("", "client_auth = 'basic'"),
            "providers.acme.client_auth: expected \"none\", \"client_secret_basic\", \"client_secret_post\" or \"private_key_jwt\"".to_owned(),
        ),
        (
            "[providers.acme]\npreset = 'gitbub'\nclient_id = 'a'".to_owned(),
            format!("providers.acme.preset: there is no such preset; there are {}", presets::names()),
        ),
        (
            "[providers.acme]\npreset = 'keycloak'\nhost = 'id.acme.test'\nclient_id = 'a'".to_owned(),
            "providers.acme.realm: is missing, and the preset keycloak needs it".to_owned(),
        ),
        (
            "[providers.acme]\npreset = 'okta'\ndomain = 'http://acme.okta.test'\nclient_id = 'a'".to_owned(),
            "providers.acme.domain: http sends secrets in the clear; use https, or set allow_http = true on this provider".to_owned(),
        ),
        (
            "[providers.acme]\npreset = 'microsoft'\ntenant = 'a/../b'\nclient_id = 'a'".to_owned(),
            "providers.acme.tenant: expected one part of a path: letters, digits and -._~ only".to_owned(),
        ),
        (
            "[providers.acme]\npreset = 'github'\nrealm = 'acme'\nclient_id = 'a'".to_owned(),
            "providers.acme.realm: unknown key".to_owned(),
        ),
        (acme("", "client_secret_file = '/nonexistent'"), "providers.acme.client_secret_file: the file cannot be read (entity not found)".to_owned()),
        (acme("", "scopes = 'openid'"), "providers.acme.scopes: expected an array of strings, such as [\"a\", \"b\"]".to_owned()),
        (
            acme("", "scopes = ['openid profile']"),
            "providers.acme.scopes: has a scope that is empty or has spaces or quotes in it; write [\"openid\", \"profile\"]".to_owned(),
        ),
        (
            acme("", "scopes = ['openid', 'email']\nallowed_scopes = ['openid']"),
            "providers.acme.allowed_scopes: must contain every scope of scopes".to_owned(),
        ),
        (acme("", "pkce = 1"), "providers.acme.pkce: expected true or false".to_owned()),
        (acme("", "max_in_flight = 0"), "providers.acme.max_in_flight: expected a whole number, 1 or more".to_owned()),
        (acme("", "max_polls_per_second = 5000000000"), "providers.acme.max_polls_per_second: is too large".to_owned()),
        // Callers.
        (
            acme("callers = 'tv'", ""),
            "callers: expected [[callers]] tables; in the environment an array such as [{ key = \"value\" }]".to_owned(),
        ),
        (format!("{ACME}[[callers]]\nkey_sha256 = '{KEY}'"), "callers[0].name: is missing; set it here or in ANTEROOM_CALLERS".to_owned()),
        (format!("{ACME}[[callers]]\nname = 'tv'"), "callers[0].key_sha256: is missing; set it here or in ANTEROOM_CALLERS".to_owned()),
        (
            format!("{ACME}[[callers]]\nname = 'tv'\nkey_sha256 = '9f86'"),
            "callers[0].key_sha256: expected 64 hexadecimal digits: printf %s \"$KEY\" | sha256sum".to_owned(),
        ),
        (
            format!("{ACME}[[callers]]\nname = 'tv'\nkey_sha256 = '{}'", KEY.replace("9f", "+f")),
            "callers[0].key_sha256: expected 64 hexadecimal digits: printf %s \"$KEY\" | sha256sum".to_owned(),
        ),
        (
            format!("{ACME}[[callers]]\nname = ''\nkey_sha256 = '{KEY}'"),
            "callers[0].name: expected a name of 1 to 100 characters on one line".to_owned(),
        ),
        (caller("providers = ['other']"), "callers[0].providers: names a provider that is not configured".to_owned()),
        (caller("providers = []"), "callers[0].providers: is empty; name at least one, or leave it out to allow all".to_owned()),
        (caller("scopes = []"), "callers[0].scopes: is empty; name at least one, or leave it out to allow all".to_owned()),
        (caller("scopes = 'openid'"), "callers[0].scopes: expected an array of strings, such as [\"a\", \"b\"]".to_owned()),
        (
            caller("max_creates_per_minute = 0"),
            "callers[0].max_creates_per_minute: expected a whole number, 1 or more".to_owned(),
        ),
        (caller("key = 'x'"), "callers[0].key: unknown key".to_owned()),
        (
            caller(&format!("[[callers]]\nname = 'tv'\nkey_sha256 = '{}'", KEY.replace('9', "8"))),
            "callers[1].name: is also the name of callers[0]; give each caller its own".to_owned(),
        ),
        (
            caller(&format!("[[callers]]\nname = 'kiosk'\nkey_sha256 = '{}'", KEY.to_uppercase())),
            "callers[1].key_sha256: is also the key of callers[0]; give each caller its own".to_owned(),
        ),
        // HTTP.
        (format!("{ACME}[http]\nallowed_origins = ['*']"), origins.to_owned()),
        (format!("{ACME}[http]\nowner_origins = ['*']"), origins.replace("allowed", "owner")),
        (format!("{ACME}[http]\nallowed_origins = ['https://tv.example/']"), origins.to_owned()),
        (format!("{ACME}[http]\nallowed_origins = ['ftp://tv.example']"), origins.to_owned()),
        (format!("{ACME}[http]\nallowed_origins = ['https://u@tv.example']"), origins.to_owned()),
        (format!("{ACME}[http]\nallowed_origins = ['https://']"), origins.to_owned()),
        (format!("{ACME}[http]\ntrusted_proxies = ['10.0.0.0/33']"), networks.to_owned()),
        (format!("{ACME}[http]\ntrusted_proxies = ['proxy.test']"), networks.to_owned()),
        (format!("{ACME}[http]\ntrusted_proxies = ['::/129']"), networks.to_owned()),
        (format!("{ACME}[http]\ntrusted_proxies = ['10.0.0.0/+8']"), networks.to_owned()),
        (
            format!("{ACME}[http]\nmax_requests_per_minute = 0"),
            "http.max_requests_per_minute: expected a whole number, 1 or more".to_owned(),
        ),
        (format!("{ACME}[http]\nmax_reads_per_minute = 5000000000"), "http.max_reads_per_minute: is too large".to_owned()),
        (format!("{ACME}[http]\nmax_reads = 5"), "http.max_reads: unknown key".to_owned()),
    ];
    for (file, line) in cases {
        assert_eq!(lines(&file, &[]), [line], "{file}");
    }
}

#[test]
fn a_mistake_in_the_environment_names_the_variable() {
    for (variable, value, line) in [
        ("ANTEROOM_LISTN", "x", "listn (ANTEROOM_LISTN): unknown key; did you mean `listen`?"),
        ("ANTEROOM_PORT", "80", "port (ANTEROOM_PORT): unknown key"),
        (
            "ANTEROOM_PROVIDERS__ACME__CLIENT_IDD",
            "x",
            "providers.acme.client_idd (ANTEROOM_PROVIDERS__ACME__CLIENT_IDD): unknown key; did you mean `client_id`?",
        ),
        ("ANTEROOM_ALLOW_ANONYMOUS", "yes", "allow_anonymous (ANTEROOM_ALLOW_ANONYMOUS): expected true or false"),
        ("ANTEROOM_MAX_SESSIONS", "many", "max_sessions (ANTEROOM_MAX_SESSIONS): expected a whole number, 1 or more"),
        ("ANTEROOM_MAX_SESSIONS", "5\nallow_anonymous = true", "max_sessions (ANTEROOM_MAX_SESSIONS): expected a whole number, 1 or more"),
        (
            "ANTEROOM_PROVIDERS__ACME__SCOPES",
            "openid profile",
            "providers.acme.scopes (ANTEROOM_PROVIDERS__ACME__SCOPES): expected an array of strings, such as [\"a\", \"b\"]",
        ),
        (
            "ANTEROOM_CALLERS",
            "tv",
            "callers (ANTEROOM_CALLERS): expected [[callers]] tables; in the environment an array such as [{ key = \"value\" }]",
        ),
        ("ANTEROOM_STORE", "memory:", "store (ANTEROOM_STORE): expected a table of keys; in the environment set its keys one by one"),
        ("ANTEROOM_LISTEN__PORT", "1", "ANTEROOM_LISTEN__PORT: sets a key inside something that is not a table"),
        ("ANTEROOM_CLAIM_TTL", "\u{fffd}", "ANTEROOM_CLAIM_TTL: is not valid UTF-8"),
        ("ANTEROOM_", "x", "\"\" (ANTEROOM_): unknown key"),
        ("ANTEROOM_STORE__", "x", "store.\"\" (ANTEROOM_STORE__): unknown key"),
        (
            "ANTEROOM_PROVIDERS__ACME",
            "x",
            "providers.acme (ANTEROOM_PROVIDERS__ACME): expected a table of keys; in the environment set its keys one by one",
        ),
    ] {
        assert_eq!(lines(&acme("listen = '127.0.0.1:0'", ""), &[(variable, value)]), [line]);
    }
}

#[test]
fn all_mistakes_are_reported_together_one_a_line() {
    let errors =
        load("listen = 1\nclaim_ttl = 'x'\nfoo = 1\n[providers.a]\n[providers.b]\nissuer = 'x'\nclient_id = 'b'", &[]).unwrap_err();
    let keys: Vec<&str> = errors.lines().iter().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(
        keys,
        [
            "listen",
            "claim_ttl",
            "providers.a.device_authorization_endpoint",
            "providers.a.token_endpoint",
            "providers.a.client_id",
            "providers.b.issuer",
            "foo"
        ]
    );
    assert_eq!(errors.to_string().lines().count(), keys.len());
}

#[test]
fn a_secret_comes_from_one_place_only_and_is_not_empty() {
    let file = TempFile::new("s\n");
    let empty = TempFile::new("\n");
    let long = TempFile::new("a\nb\n");
    let binary = TempFile::new([0xff]);
    let at = |secret: &TempFile, more: &str| lines(&acme("", &format!("client_secret_file = '{}'\n{more}", secret.path())), &[]);
    assert_eq!(at(&file, "client_secret = 's'"), ["providers.acme.client_secret: and client_secret_file are both set; keep one of them"]);
    assert_eq!(at(&empty, ""), ["providers.acme.client_secret_file: the file is empty"]);
    assert_eq!(at(&long, ""), ["providers.acme.client_secret_file: the file has more than one line"]);
    assert_eq!(at(&binary, ""), ["providers.acme.client_secret_file: the file cannot be read (invalid data)"]);
}

#[test]
fn a_byte_order_mark_and_blanks_at_the_end_are_no_part_of_a_secret() {
    for around in ["\u{feff}s3cr3t canary\r\n", "s3cr3t canary \t\r\n\n", "s3cr3t canary\n  \n", "\u{feff}s3cr3t canary"] {
        let file = TempFile::new(around);
        let config = load(&acme("", &format!("client_secret_file = '{}'", file.path())), &[]).unwrap();
        let secret = config.providers[0].client_secret.as_ref().unwrap();
        assert_eq!(secret.expose_secret(), "s3cr3t canary", "{around:?}");
    }
    let empty = TempFile::new("\u{feff} \t\r\n");
    let errors = lines(&acme("", &format!("client_secret_file = '{}'", empty.path())), &[]);
    assert_eq!(errors, ["providers.acme.client_secret_file: the file is empty"]);
    for key in ["rsa.pem", "p256.json"] {
        let text = std::fs::read_to_string(test_key(key)).unwrap();
        let file = TempFile::new(format!("\u{feff}{text} \t\r\n"));
        let config = load(&acme("", &format!("private_key_file = '{}'", file.path())), &[]).unwrap();
        assert!(config.providers[0].private_key.is_some(), "{key}");
    }
    let file = format!("\u{feff}{}", acme("", ""));
    assert_eq!(load(&file, &[]).unwrap().providers.len(), 1);
}

#[test]
fn a_secret_that_everybody_may_read_draws_a_warning_that_does_not_show_it() {
    use std::os::unix::fs::PermissionsExt;
    let (secret, key) = (TempFile::new("s3cr3t-canary"), TempFile::new(std::fs::read(test_key("rsa.pem")).unwrap()));
    let second = "[providers.second]\nissuer = 'https://id.second.test'\nclient_id = 'tv'\n";
    let more = format!("client_secret_file = '{}'\n{second}private_key_file = '{}'", secret.path(), key.path());
    let warnings = |mode| {
        for file in [&secret, &key] {
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        load(&acme("", &more), &[]).unwrap().warnings
    };
    for mode in [0o644, 0o604, 0o602] {
        let remedy = "everybody on this machine may read or change the file; run `chmod o=` on it";
        let expected = [format!("providers.acme.client_secret_file: {remedy}"), format!("providers.second.private_key_file: {remedy}")];
        assert_eq!(warnings(mode), expected);
    }
    for mode in [0o600, 0o440, 0o660] {
        assert_eq!(warnings(mode), [""; 0], "{mode:o}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let missing = PathBuf::from("/nonexistent/anteroom.toml");
    let errors = Config::load(Some(&missing), std::iter::empty()).unwrap_err();
    assert_eq!(errors.lines(), ["/nonexistent/anteroom.toml: cannot be read (entity not found)"]);
}

#[test]
fn a_syntax_error_has_its_line_and_column() {
    for (content, place) in [
        ("listen = '127.0.0.1:0'\nmax_sessions = = 1\n", "line 2, column 16: "),
        ("listen = 1\nlisten = 2\n", "line 2, column 1: duplicate key"),
        ("# ü\n\u{fc}ü = 1", "line 2, column 1: "),
        ("[providers", "line 1, column 11: "),
    ] {
        let file = TempFile::new(content);
        let errors = Config::load(Some(&file.0), std::iter::empty()).unwrap_err();
        let [line] = errors.lines() else { panic!("{errors}") };
        assert!(line.starts_with(&format!("{}: {place}", file.path())), "{line}");
    }
}

#[test]
fn no_error_repeats_a_value() {
    let files = [
        format!("client_secret = {SECRET}"),
        format!("client_secret = '{SECRET}"),
        format!("client_secret = \"\\{SECRET}\""),
        format!("client_secret = '{SECRET}' x"),
        format!("client_secret = '''{SECRET}"),
        format!("client_secret = ['{SECRET}'"),
        format!("client_secret = {{ a = '{SECRET}', }} }}"),
        format!("client_secret = 1{SECRET}"),
        format!("client_secret = 1979-{SECRET}"),
        format!("client_secret = '{SECRET}'\nclient_secret = '{SECRET}'"),
        format!("client_secret = '{SECRET}'\n[client_secret.a]"),
    ];
    for file in &files {
        assert!(!load(file, &[]).unwrap_err().to_string().contains("canary"), "{file}");
    }
    for key in [
        "listen",
        "admin_listen",
        "allow_anonymous",
        "claim_ttl",
        "retention",
        "max_sessions",
        "store",
        "providers",
        "callers",
        "http",
        "x",
    ] {
        for value in
            [format!("'{SECRET}'"), format!("['{SECRET}']"), format!("[{{ name = ['{SECRET}'] }}]"), format!("{{ x = '{SECRET}' }}")]
        {
            let errors = load(&format!("{key} = {value}"), &[]).unwrap_err().to_string();
            assert!(!errors.contains("canary"), "{errors}");
        }
    }
    for key in [
        "issuer",
        "token_endpoint",
        "client_auth",
        "private_key_file",
        "private_key_id",
        "assertion_audience",
        "basic_raw",
        "allow_networks",
        "preset",
        "proxy",
        "scopes",
        "allowed_scopes",
        "pkce",
        "allow_http",
        "max_in_flight",
        "max_polls_per_second",
        "client_secret_file",
        "unknown",
    ] {
        for value in [format!("'{SECRET} \"'"), format!("['{SECRET} \"']"), format!("{{ x = '{SECRET}' }}")] {
            let errors = load(&format!("[providers.a]\n{key} = {value}"), &[]).unwrap_err().to_string();
            assert!(!errors.contains("canary"), "{errors}");
            let variable = format!("ANTEROOM_PROVIDERS__A__{}", key.to_uppercase());
            let errors = load_environment(&[(&variable, &value)]).unwrap_err().to_string();
            assert!(!errors.contains("canary"), "{errors}");
        }
    }
}

/// One provider with these keys, the names and values of the presets' parameters among them.
fn with_preset(name: &str, more: &str) -> Settings {
    let config = load(&format!("[providers.acme]\npreset = '{name}'\nclient_id = 'tv-app'\n{more}"), &[]);
    config.unwrap_or_else(|errors| panic!("{name}: {errors}")).providers.remove(0)
}

fn text(url: Option<&reqwest::Url>) -> &str {
    url.map_or("", reqwest::Url::as_str)
}

#[test]
fn a_preset_and_a_client_id_are_enough_for_the_public_providers() {
    let expected = [
        ("amazon", "https://api.amazon.com/auth/o2/create/codepair"),
        ("github", "https://github.com/login/device/code"),
        ("gitlab", "https://gitlab.com/oauth/authorize_device"),
        ("google", "https://oauth2.googleapis.com/device/code"),
        ("huggingface", "https://huggingface.co/oauth/device"),
        ("salesforce", "https://login.salesforce.com/services/oauth2/token"),
        ("trakt", "https://api.trakt.tv/oauth/device/code"),
        ("twitch", "https://id.twitch.tv/oauth2/device"),
    ];
    for (name, device) in expected {
        assert_eq!(text(with_preset(name, "").endpoints.device_authorization.as_ref()), device);
    }
}

#[test]
fn a_preset_is_completed_by_its_parameters() {
    let expected = [
        ("auth0", "domain = 'acme.eu.auth0.com'", "https://acme.eu.auth0.com/"),
        ("authentik", "host = 'id.acme.test'\napplication = 'tv'", "https://id.acme.test/application/o/tv/"),
        ("dex", "host = 'id.acme.test/dex/'", "https://id.acme.test/dex"),
        ("duende", "host = 'https://id.acme.test'", "https://id.acme.test"),
        ("hydra", "host = 'localhost:4444'", "https://localhost:4444"),
        ("keycloak", "host = 'http://127.0.0.1:8080'\nrealm = 'tv'", "http://127.0.0.1:8080/realms/tv"),
        ("okta", "domain = 'acme.okta.com'", "https://acme.okta.com/oauth2/default"),
        ("okta", "domain = 'acme.okta.com'\nauthorization_server = 'aus1'", "https://acme.okta.com/oauth2/aus1"),
        ("pingfederate", "host = 'id.acme.test'", "https://id.acme.test"),
        ("pingone", "environment = '1234'", "https://auth.pingone.com/1234/as"),
        ("spring", "host = 'id.acme.test'", "https://id.acme.test"),
        ("zitadel", "host = 'acme.zitadel.cloud'", "https://acme.zitadel.cloud"),
    ];
    for (name, parameters, issuer) in expected {
        assert_eq!(with_preset(name, parameters).issuer.as_deref(), Some(issuer), "{name}");
    }
    let microsoft = with_preset("microsoft", "tenant = 'acme.test'");
    assert_eq!(microsoft.issuer.as_deref(), Some("https://login.microsoftonline.com/{tenantid}/v2.0"));
    assert_eq!(text(microsoft.endpoints.token.as_ref()), "https://login.microsoftonline.com/acme.test/oauth2/v2.0/token");
    let enterprise = with_preset("github", "host = 'git.acme.test'");
    assert_eq!(text(enterprise.endpoints.token.as_ref()), "https://git.acme.test/login/oauth/access_token");
}

#[test]
fn the_readme_names_every_preset_and_every_parameter() {
    let readme = include_str!("../README.md");
    for preset in presets::PRESETS {
        let row = readme.lines().find(|line| line.starts_with("| `") && line.contains(&format!("`{}`", preset.name)));
        let row = row.unwrap_or_else(|| panic!("{}", preset.name));
        for parameter in preset.parameters {
            assert!(row.contains(&format!("`{}`", parameter.key)), "{} {}", preset.name, parameter.key);
        }
    }
}

#[test]
fn what_is_written_wins_over_the_preset() {
    let plain = with_preset("google", "client_secret = 's'");
    assert_eq!((plain.client_auth, plain.pkce, plain.display_name.as_str()), (ClientAuth::ClientSecretPost, false, "Google"));
    let own = "client_secret = 's'\nclient_auth = 'client_secret_basic'\npkce = true\ndisplay_name = 'Acme'\ntoken_endpoint = 'http://127.0.0.1:1/t'\nissuer = 'https://id.acme.test'";
    let own = with_preset("google", own);
    assert_eq!((own.client_auth, own.pkce, own.display_name.as_str()), (ClientAuth::ClientSecretBasic, true, "Acme"));
    assert_eq!((text(own.endpoints.token.as_ref()), own.issuer.as_deref()), ("http://127.0.0.1:1/t", Some("https://id.acme.test")));
    assert_eq!(own.endpoints.device_authorization, plain.endpoints.device_authorization);
    assert_eq!(own.dialect, plain.dialect);
}

#[test]
fn a_parameter_that_no_address_needs_any_more_may_be_missing() {
    let named = "device_authorization_endpoint = 'https://id.acme.test/d'\ntoken_endpoint = 'https://id.acme.test/t'";
    assert_eq!(with_preset("keycloak", named).issuer, None);
    assert_eq!(with_preset("okta", "issuer = 'https://acme.okta.com'").issuer.as_deref(), Some("https://acme.okta.com"));
}

proptest! {
    #[test]
    fn whatever_is_written_the_answer_is_a_configuration_or_lines(
        key in "[a-z_]{0,12}|listen|callers|providers|http|claim_ttl",
        value in "\\PC{0,20}|\\[\\{[a-z]{1,4} = '[a-z]{0,3}'\\}\\]|\"\\PC{0,8}\"|[0-9]{1,20}",
        variable in "ANTEROOM_[A-Z_]{0,24}|ANTEROOM_PROVIDERS__[A-Z_]{0,8}__(SCOPES|ISSUER|CLIENT_ID|PROXY|RESOURCE)",
        text in "\\PC{0,20}|https?://\\PC{0,12}",
    ) {
        if let Err(errors) = load(&format!("{key} = {value}"), &[(&variable, &text)]) {
            prop_assert!(!errors.lines().is_empty());
            prop_assert!(errors.lines().iter().all(|line| line.contains(": ") && !line.contains('\n')), "{errors}");
        }
    }
}

/// A key that lies in the open: for tests alone.
fn test_key(file: &str) -> String {
    format!("{}/tests/fixtures/keys/{file}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_private_key_is_a_way_to_authenticate() {
    let pem = load(&acme("", &format!("private_key_file = '{}'", test_key("p256.pem"))), &[]).unwrap().providers.remove(0);
    assert_eq!((pem.client_auth, pem.assertion_audience), (ClientAuth::PrivateKeyJwt, AssertionAudience::Issuer));
    assert!(pem.private_key.is_some());
    let key = test_key("ed25519.json");
    let more = format!("client_auth = 'private_key_jwt'\nprivate_key_file = '{key}'\nassertion_audience = 'token_endpoint'");
    let jwk = load(&acme("", &more), &[]).unwrap().providers.remove(0);
    assert_eq!((jwk.client_auth, jwk.assertion_audience), (ClientAuth::PrivateKeyJwt, AssertionAudience::TokenEndpoint));
}

#[test]
fn a_private_key_is_not_lent_to_callers_without_a_key() {
    let open = |more: &str| load(&acme("listen = '0.0.0.0:0'\nallow_anonymous = true", more), &[]);
    let key = format!("private_key_file = '{}'", test_key("p256.pem"));
    assert!(open(&key).unwrap_err().to_string().starts_with("providers.acme.allow_anonymous: must be true"));
    assert!(open(&format!("{key}\nallow_anonymous = true")).is_ok());
}

#[test]
fn what_is_said_of_a_provider_besides_its_endpoints_is_kept() {
    let more = "client_secret = 'x'\nbasic_raw = true\nallow_networks = ['10.0.0.0/8', 'fd00::1']";
    let acme = load(&acme("", more), &[]).unwrap().providers.remove(0);
    assert_eq!(acme.client_auth, ClientAuth::ClientSecretBasicRaw);
    assert_eq!(acme.allow_networks.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.0/8", "fd00::1/128"]);
}

#[test]
fn the_debug_output_of_a_configuration_has_no_secret_in_it() {
    let config = load(&acme("", &format!("client_secret = '{SECRET}'")), &[]).unwrap();
    assert!(!format!("{config:?}").contains("canary"));
}

/// `sqlite://…` → the paths of the database and its key file.
fn sqlite(store: &str) -> (String, String) {
    let config = load(&format!("{ACME}{store}"), &[]).unwrap();
    let StoreSettings::Sqlite { path, key_file } = config.store else { panic!("{store}: not SQLite") };
    (path.display().to_string(), key_file.display().to_string())
}

#[test]
fn sessions_are_kept_in_sqlite_with_the_key_file_beside_it() {
    let pair = |path: &str, key_file: &str| (path.to_owned(), key_file.to_owned());
    assert_eq!(sqlite(""), pair("anteroom.db", "anteroom.key"));
    assert_eq!(sqlite("[store]\nurl = 'sqlite:///var/lib/anteroom/a.db'"), pair("/var/lib/anteroom/a.db", "/var/lib/anteroom/a.key"));
    assert_eq!(sqlite("[store]\nurl = 'sqlite://a.db'\nkey_file = '/run/keys/a'"), pair("a.db", "/run/keys/a"));
}

#[test]
fn the_password_of_postgres_is_not_shown() {
    let config =
        load(&format!("{ACME}[store]\nurl = 'postgres://u:hidden@db/a'\nkey_file = 'a.key'\nallow_data_loss = true"), &[]).unwrap();
    assert!(!format!("{config:?}").contains("hidden"));
    let StoreSettings::Postgres { url, key_file, allow_data_loss } = config.store else { panic!("not PostgreSQL") };
    assert_eq!(url.expose_secret(), "postgres://u:hidden@db/a");
    assert_eq!((key_file.to_str(), allow_data_loss), (Some("a.key"), true));
}
