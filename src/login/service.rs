//! What is said to the service, and what its answers mean.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, DATE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::{Host, Url};
use uuid::Uuid;

use super::session::{Body, Now, Session, timestamp};
use super::text::{printable, printable_json};
use crate::clock::Clock;
use crate::kernel::time::Timestamp;

pub struct Service {
    client: Client,
    /// Its path ends in a slash.
    base: Url,
    clock: Arc<dyn Clock>,
}

/// Absent members are left to the service.
#[derive(Serialize)]
pub struct Request<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<&'a str>,
    #[serde(skip)]
    pub key: Option<SecretString>,
}

pub struct Begun {
    pub session: Session,
    pub owner: Owner,
}

/// What it takes to claim and to cancel.
pub struct Owner {
    pub id: Uuid,
    authorization: HeaderValue,
}

pub enum News {
    Session(Box<Session>),
    None { ask_again_at: Timestamp },
}

/// Why a request did not get what it asked for. Its `Display` may be printed.
#[derive(Debug)]
pub enum Trouble {
    /// It may pass: nobody answers, or somebody in between does.
    Away {
        why: String,
        retry_after: Option<Duration>,
    },
    /// The session is not there, or not ours.
    Forgotten,
    /// The tokens are no longer there.
    TooLate,
    Refused(String),
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The service may take 20 s to get a code from the provider.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(10);
/// Seconds that the service may hold its answer. Many proxies cut a silent connection after 60.
const WAIT: u64 = 30;
/// Between two requests that brought no news.
const PACE: Duration = Duration::from_secs(1);
/// The same where something in between does not let the service hold its answers.
const PACE_WITHOUT_WAIT: Duration = Duration::from_secs(5);
/// An hour that somebody in between asks for is no reason to miss the sign-in.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);
/// In bytes. The service takes no more than 256 KiB from a provider.
const BODY_LIMIT: usize = 1024 * 1024;
const DETAIL_LIMIT: usize = 300;

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: SecretString,
    received: Timestamp,
}

/// RFC 9457.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    code: String,
    detail: String,
}

impl Service {
    /// # Errors
    /// The address is not one to send a key to.
    pub fn new(mut base: Url, insecure_http: bool, clock: Arc<dyn Clock>) -> Result<Self, String> {
        if !base.username().is_empty() || base.password().is_some() || base.query().is_some() || base.fragment().is_some() {
            return Err("--url: expected an address without user name, query and fragment".to_owned());
        }
        let is_https = base.scheme() == "https";
        if !is_https && !insecure_http && !is_loopback(&base) {
            return Err(
                "--url: everyone on the way could read the key and the tokens; use https, or insist with --insecure-http".to_owned()
            );
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let client = client(is_https).map_err(|_| "cannot make an HTTP client; are CA certificates installed?".to_owned())?;
        Ok(Self { client, base, clock })
    }

    pub async fn begin(&self, request: &Request<'_>, idempotency_key: &str) -> Result<Begun, Trouble> {
        let mut post = self.request(Method::POST, "sessions")?.timeout(BEGIN_TIMEOUT).header(IDEMPOTENCY_KEY, idempotency_key);
        if let Some(key) = &request.key {
            post = post.header(AUTHORIZATION, bearer(key)?);
        }
        let body = serde_json::to_vec(request).map_err(|_| nonsense("it cannot be asked"))?;
        let answer = self.send(post.header("content-type", "application/json").body(body)).await?;
        let mut body: Body = answer.json()?;
        let secret = body.secret.take().ok_or_else(|| nonsense("it does not hand out the session's secret"))?;
        let owner = Owner { id: body.id, authorization: bearer(&secret)? };
        match answer.session(body) {
            Ok(session) => Ok(Begun { session: Session { ask_again_at: answer.received, ..session }, owner }),
            Err(trouble) => {
                // Nobody will ever enter its code.
                _ = self.discard(&owner).await;
                Err(trouble)
            }
        }
    }

    /// Held by the service until the session differs from the one with this tag, for a while.
    pub async fn read(&self, id: Uuid, tag: &str) -> Result<News, Trouble> {
        let get = self.request(Method::GET, &format!("sessions/{id}"))?.timeout(Duration::from_secs(WAIT) + TIMEOUT);
        let get = get.header("accept", "application/json").header(PREFER, format!("wait={WAIT}")).header(IF_NONE_MATCH, tag);
        let answer = self.send(get).await?;
        if answer.status == StatusCode::NOT_MODIFIED {
            return Ok(News::None { ask_again_at: answer.ask_again_at() });
        }
        let body: Body = answer.json()?;
        if body.id != id {
            return Err(nonsense("it answers with another session"));
        }
        Ok(News::Session(Box::new(answer.session(body)?)))
    }

    /// The tokens: one line of JSON that may be printed, were it not for what it says.
    pub async fn claim(&self, owner: &Owner, claim_key: &str) -> Result<SecretString, Trouble> {
        #[derive(Deserialize)]
        struct Grant {
            #[serde(rename = "access_token")]
            _access_token: SecretString,
        }
        let post = self.request(Method::POST, &format!("sessions/{}/claim", owner.id))?.timeout(TIMEOUT);
        let answer = self.send(post.header(AUTHORIZATION, owner.authorization.clone()).header(IDEMPOTENCY_KEY, claim_key)).await?;
        let _: Grant = answer.json()?;
        Ok(printable_json(answer.body.expose_secret().trim()).into())
    }

    /// Cancels the session, or acknowledges its tokens.
    pub async fn discard(&self, owner: &Owner) -> Result<(), Trouble> {
        let delete = self.request(Method::DELETE, &format!("sessions/{}", owner.id))?.timeout(TIMEOUT);
        self.send(delete.header(AUTHORIZATION, owner.authorization.clone())).await.map(drop)
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, Trouble> {
        let url = self.base.join(path).map_err(|_| nonsense("its address cannot be extended"))?;
        Ok(self.client.request(method, url))
    }

    /// A 2xx or 304.
    async fn send(&self, request: RequestBuilder) -> Result<Answer, Trouble> {
        let mut response = request.send().await.map_err(away)?;
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let received = self.clock.now();
        let body = read_body(response).await?;
        let answer = Answer { status, headers, body, received };
        if status.is_success() || status == StatusCode::NOT_MODIFIED { Ok(answer) } else { Err(answer.trouble()) }
    }
}

/// An idempotency or claim key that nobody can guess.
pub fn new_key() -> String {
    Uuid::new_v4().to_string()
}

impl Answer {
    fn json<T: for<'de> Deserialize<'de>>(&self) -> Result<T, Trouble> {
        serde_json::from_str(self.body.expose_secret()).map_err(|_| nonsense("what answers is not Anteroom"))
    }

    fn session(&self, body: Body) -> Result<Session, Trouble> {
        let tag = self.headers.get(ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        let tag = tag.unwrap_or_else(|| format!("\"{}\"", body.revision));
        let date = self.headers.get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        let now = Now { here: self.received, at_service: date.map_or(self.received, timestamp) };
        body.into_session(now, tag, self.ask_again_at()).map_err(nonsense)
    }

    fn ask_again_at(&self) -> Timestamp {
        let pace =
            if self.headers.contains_key(PREFERENCE_APPLIED) { PACE } else { self.retry_after().unwrap_or(PACE_WITHOUT_WAIT).max(PACE) };
        self.received + pace
    }

    fn retry_after(&self) -> Option<Duration> {
        let value = self.headers.get(RETRY_AFTER)?.to_str().ok()?;
        let wait = match value.parse() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => timestamp(httpdate::parse_http_date(value).ok()?).since(self.received),
        };
        Some(wait.min(LONGEST_RETRY_AFTER))
    }

    fn trouble(&self) -> Trouble {
        let Problem { code, detail } = serde_json::from_str(self.body.expose_secret()).unwrap_or_default();
        let (code, detail, status) = (code.as_str(), printable(detail.trim_end_matches('.'), DETAIL_LIMIT), self.status);
        let why = match code {
            "" => format!("the service answers {}", status.as_u16()),
            _ => detail,
        };
        let passes = status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        match code {
            "session_not_found" => Trouble::Forgotten,
            "already_claimed" | "session_not_authorized" => Trouble::TooLate,
            "unauthorized" => Trouble::Refused("the service wants a caller key: --key-file FILE, or ANTEROOM_KEY".to_owned()),
            "provider_rejected" | "provider_invalid_response" => Trouble::Refused(why),
            _ if passes => Trouble::Away { why, retry_after: self.retry_after() },
            _ if status.is_redirection() => Trouble::Refused(format!("{why}, a redirect; name the address where it leads with --url")),
            _ => Trouble::Refused(why),
        }
    }
}

impl Trouble {
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Away { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away { why, .. } | Self::Refused(why) => f.write_str(why),
            Self::Forgotten => f.write_str("the service does not know this sign-in"),
            Self::TooLate => f.write_str("the tokens are no longer there"),
        }
    }
}

fn client(is_https: bool) -> reqwest::Result<Client> {
    let builder = Client::builder()
        .redirect(Policy::none())
        .referer(false)
        .https_only(is_https)
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(concat!("anteroom-login/", env!("CARGO_PKG_VERSION")));
    // A proxy sees nothing of TLS but the host; without it, it would see everything. Plain HTTP needs no root certificates.
    if is_https { builder.build() } else { builder.no_proxy().tls_certs_only([]).build() }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

fn bearer(secret: &SecretString) -> Result<HeaderValue, Trouble> {
    let value = HeaderValue::from_str(&format!("Bearer {}", secret.expose_secret()));
    let mut value = value.map_err(|_| nonsense("its session secret is not one"))?;
    value.set_sensitive(true);
    Ok(value)
}

async fn read_body(mut response: Response) -> Result<SecretString, Trouble> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(away)? {
        if body.len() + chunk.len() > BODY_LIMIT {
            return Err(nonsense("its answer is too large"));
        }
        body.extend_from_slice(&chunk);
    }
    String::from_utf8(body).map(SecretString::from).map_err(|_| nonsense("what answers is not Anteroom"))
}

fn nonsense(what: &str) -> Trouble {
    Trouble::Refused(format!("the service makes no sense: {what}"))
}

/// The innermost cause says the most, and never holds the address or a header.
fn away(error: reqwest::Error) -> Trouble {
    let mut cause: &dyn Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let why = match printable(&cause.to_string(), DETAIL_LIMIT) {
        _ if error.is_timeout() => "the service does not answer in time".to_owned(),
        cause if error.is_connect() => format!("the service cannot be reached ({cause})"),
        cause => format!("the service does not answer ({cause})"),
    };
    Trouble::Away { why, retry_after: None }
}
