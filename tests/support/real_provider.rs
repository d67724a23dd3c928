//! Real providers as child processes, and a scripted person who signs in at them. Needs node and `tests/providers/node_modules`.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::header::{COOKIE, LOCATION, ORIGIN, SET_COOKIE};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::{Value, json};

/// A provider that runs until this is dropped.
pub struct RealProvider {
    software: Software,
    facts: Facts,
    metadata: Value,
    http: reqwest::Client,
    _process: Process,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Software {
    /// Never says slow_down, sends no `interval`, and revokes everything when a device code is redeemed twice. Its client `short` has codes
    /// of 3 s (`--expires-in=SECONDS`).
    OidcProvider,
    /// Says slow_down. `--interval=SECONDS` and `--expires-in=SECONDS` hold for all clients; there is no client `short`.
    BetterAuth,
}

/// A client that is registered there: `public`, `basic`, `post`, `no_device` (lacks the device grant), `short`.
#[derive(Clone, Debug, Deserialize)]
pub struct Client {
    pub id: String,
    pub secret: Option<String>,
    /// `none`, `client_secret_basic` or `client_secret_post`.
    pub auth: String,
}

impl RealProvider {
    /// `None` where node or the packages are missing; with `ANTEROOM_TEST_REQUIRE=all` that is a failure.
    pub async fn start(software: Software, options: &[&str]) -> Option<Self> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/providers");
        if !installed(&directory) {
            missing(software);
            return None;
        }
        let script = directory.join(software.script());
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let (process, line) = tokio::task::spawn_blocking(move || Process::start(script, &options)).await.unwrap();
        let facts: Facts = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{software:?} did not start; it said: {line:?}"));

        let http = client();
        let discovery = http.get(format!("{}/.well-known/openid-configuration", facts.issuer)).send().await.unwrap();
        let metadata = serde_json::from_slice(&discovery.bytes().await.unwrap()).unwrap();
        Some(Self { software, facts, metadata, http, _process: process })
    }

    pub fn issuer(&self) -> &str {
        &self.facts.issuer
    }

    pub fn client(&self, name: &str) -> &Client {
        self.facts.clients.get(name).unwrap_or_else(|| panic!("{:?} has no client {name}", self.software))
    }

    /// An endpoint by its name in the discovery document, such as `token_endpoint`.
    pub fn endpoint(&self, name: &str) -> &str {
        self.metadata[name].as_str().unwrap_or_else(|| panic!("{:?} has no {name}", self.software))
    }

    /// A person goes to `verification_uri`, types the code, signs in and consents.
    pub async fn approve(&self, user_code: &str, verification_uri: &str) {
        self.person(verification_uri).decide(Decision::Approve, user_code).await;
    }

    /// A person refuses as soon as the code is shown to them.
    pub async fn deny(&self, user_code: &str, verification_uri: &str) {
        self.person(verification_uri).decide(Decision::Deny, user_code).await;
    }

    /// A person signs in and then refuses what the client asks for; only oidc-provider has that page.
    pub async fn deny_at_consent(&self, user_code: &str, verification_uri: &str) {
        self.person(verification_uri).decide(Decision::DenyAtConsent, user_code).await;
    }

    /// 200 while the access token is good.
    pub async fn userinfo(&self, access_token: &str) -> StatusCode {
        self.http.get(self.endpoint("userinfo_endpoint")).bearer_auth(access_token).send().await.unwrap().status()
    }

    /// 200 while the refresh token is good; it is used up by this.
    pub async fn refresh(&self, client: &Client, refresh_token: &str) -> StatusCode {
        self.post(client, "token_endpoint", &[("grant_type", "refresh_token"), ("refresh_token", refresh_token)]).await.status()
    }

    /// What the client itself would send to an endpoint, authenticated in its way.
    pub async fn post(&self, client: &Client, endpoint: &str, form: &[(&str, &str)]) -> Response {
        let request = self.http.post(self.endpoint(endpoint));
        let secret = client.secret.as_deref().unwrap_or_default();
        let mut form = form.to_vec();
        let request = match client.auth.as_str() {
            "client_secret_basic" => request.basic_auth(&client.id, Some(secret)),
            "client_secret_post" => {
                form.extend([("client_id", client.id.as_str()), ("client_secret", secret)]);
                request
            }
            _ => {
                form.push(("client_id", client.id.as_str()));
                request
            }
        };
        request.form(&form).send().await.unwrap()
    }

    fn person(&self, verification_uri: &str) -> Person<'_> {
        Person {
            software: self.software,
            identity: &self.facts.person,
            browser: Browser { http: client(), cookies: BTreeMap::new(), address: verification_uri.parse().unwrap() },
        }
    }
}

impl Software {
    fn script(self) -> &'static str {
        match self {
            Self::OidcProvider => "oidc-provider.mjs",
            Self::BetterAuth => "better-auth.mjs",
        }
    }
}

/// The one line that a provider prints when it is ready.
#[derive(Deserialize)]
struct Facts {
    issuer: String,
    person: Identity,
    clients: HashMap<String, Client>,
}

#[derive(Deserialize)]
struct Identity {
    login: String,
    password: String,
}

/// Killed on drop; and if we are killed ourselves, its stdin closes and it ends of its own accord.
struct Process(Child);

impl Process {
    /// The process and its first line, which is empty if it ended without one.
    fn start(script: PathBuf, options: &[String]) -> (Self, String) {
        let mut command = Command::new("node");
        command.arg(script).args(options).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Self(command.spawn().unwrap());
        let mut line = String::new();
        BufReader::new(process.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        (process, line)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only for a process that has ended, which is what we want.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Decision {
    Approve,
    Deny,
    DenyAtConsent,
}

struct Person<'a> {
    software: Software,
    identity: &'a Identity,
    browser: Browser,
}

impl Person<'_> {
    async fn decide(mut self, decision: Decision, user_code: &str) {
        match self.software {
            Software::OidcProvider => self.decide_on_pages(decision, user_code).await,
            Software::BetterAuth => self.decide_by_api(decision, user_code).await,
        }
    }

    /// oidc-provider's own pages: code and confirmation, then sign-in, then consent.
    async fn decide_on_pages(&mut self, decision: Decision, user_code: &str) {
        let browser = &mut self.browser;
        let code_page = browser.address.clone();
        let mut with_code = code_page.clone();
        with_code.query_pairs_mut().append_pair("user_code", user_code);
        let xsrf = attribute(&browser.open(with_code).await.page(), r#"name="xsrf" value=""#);
        let choice = if decision == Decision::Deny { "abort" } else { "confirm" };
        let answer = browser.submit(code_page, &[("xsrf", &xsrf), ("user_code", user_code), (choice, "yes")]).await;
        if decision == Decision::Deny {
            assert_eq!(answer.status, StatusCode::OK, "the code could not be refused");
            return;
        }

        let sign_in_page = answer.location();
        browser.open(sign_in_page.clone()).await.page();
        let Identity { login, password } = self.identity;
        let signed_in = browser.submit(sign_in_page, &[("prompt", "login"), ("login", login), ("password", password)]).await;

        let consent_page = browser.open(signed_in.location()).await.location();
        let consent = browser.open(consent_page.clone()).await.page();
        let decided = if decision == Decision::DenyAtConsent {
            let abort = attribute(&consent, r#"<a href=""#);
            browser.open(consent_page.join(&abort).unwrap()).await
        } else {
            browser.submit(consent_page, &[("prompt", "consent")]).await
        };
        browser.open(decided.location()).await.page();
    }

    /// better-auth leaves the pages to its user and has an API for them: sign in, look at the code, decide.
    async fn decide_by_api(&mut self, decision: Decision, user_code: &str) {
        assert!(decision != Decision::DenyAtConsent, "better-auth asks for no consent");
        let origin = self.browser.address.clone();
        let at = |path: &str| origin.join(path).unwrap();
        let Identity { login, password } = self.identity;
        self.browser.send(at("/api/auth/sign-in/email"), &json!({"email": login, "password": password})).await.page();

        let mut look = at("/api/auth/device");
        look.query_pairs_mut().append_pair("user_code", user_code);
        self.browser.open(look).await.page();

        let verb = if decision == Decision::Approve { "approve" } else { "deny" };
        self.browser.send(at(&format!("/api/auth/device/{verb}")), &json!({"userCode": user_code})).await.page();
    }
}

/// One cookie jar for one site; redirects are followed by hand.
struct Browser {
    http: reqwest::Client,
    cookies: BTreeMap<String, String>,
    address: Url,
}

impl Browser {
    async fn open(&mut self, url: Url) -> Answer {
        let request = self.http.request(Method::GET, url);
        self.exchange(request).await
    }

    async fn submit(&mut self, url: Url, form: &[(&str, &str)]) -> Answer {
        let request = self.http.request(Method::POST, url).form(form);
        self.exchange(request).await
    }

    async fn send(&mut self, url: Url, body: &Value) -> Answer {
        let request = self.http.request(Method::POST, url).header("content-type", "application/json").body(body.to_string());
        self.exchange(request).await
    }

    async fn exchange(&mut self, request: RequestBuilder) -> Answer {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let origin = self.address.origin().ascii_serialization();
        let response = request.header(ORIGIN, origin).header(COOKIE, cookies.join("; ")).send().await.unwrap();
        self.keep_cookies(&response);
        let url = response.url().clone();
        let location = response.headers().get(LOCATION).map(|to| url.join(to.to_str().unwrap()).unwrap());
        Answer { url, status: response.status(), location, body: response.text().await.unwrap() }
    }

    fn keep_cookies(&mut self, response: &Response) {
        for cookie in response.headers().get_all(SET_COOKIE) {
            let cookie = cookie.to_str().unwrap();
            let pair = cookie.split_once(';').map_or(cookie, |(pair, _attributes)| pair);
            let (name, value) = pair.split_once('=').unwrap();
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }
}

struct Answer {
    url: Url,
    status: StatusCode,
    location: Option<Url>,
    body: String,
}

impl Answer {
    fn page(self) -> String {
        assert_eq!(self.status, StatusCode::OK, "no page at {}: {}", self.url, self.body);
        self.body
    }

    fn location(self) -> Url {
        self.location.unwrap_or_else(|| panic!("{} did not lead on, but answered {}: {}", self.url, self.status, self.body))
    }
}

/// The value that follows `start` in a page, up to the closing quote.
fn attribute(page: &str, start: &str) -> String {
    let (_, rest) = page.split_once(start).unwrap_or_else(|| panic!("no {start} in the page: {page}"));
    rest.split_once('"').unwrap().0.replace("&amp;", "&")
}

fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(Duration::from_secs(5))
        .timeout(Duration::from_secs(15))
        .build()
        .unwrap()
}

fn installed(directory: &Path) -> bool {
    let node = Command::new("node").arg("--version").stdout(Stdio::null()).status();
    node.is_ok_and(|status| status.success()) && directory.join("node_modules").is_dir()
}

fn missing(software: Software) {
    let why = format!("{software:?} needs node and tests/providers/node_modules (npm ci --prefix tests/providers)");
    assert!(std::env::var("ANTEROOM_TEST_REQUIRE").as_deref() != Ok("all"), "{why}");
    // Not eprintln: the test harness keeps that back while tests pass.
    std::io::stderr().write_all(format!("skipped: {why}\n").as_bytes()).unwrap();
}
