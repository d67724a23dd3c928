//! One request to a provider and its answer, within limits of time and size, never redirected, never repeated.

use core::future::Future;
use core::mem;
use core::pin::pin;
use core::time::Duration;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use reqwest::header::{ACCEPT, AGE, AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Client, ClientBuilder, Proxy, RequestBuilder, Response, Url, redirect, retry};
use serde_json::Value;
use tokio::time::{Instant, timeout};
use url::form_urlencoded;

use super::dialect::Encoding;
use super::egress::{Egress, Forbidden, Permitted};
use super::names::Names;
use super::settings::Settings;
use crate::clock::Clock;
use crate::kernel::time::{Timestamp, WallTime};

/// How long an exchange may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Until the connection stands: name, TCP, proxy, TLS.
    pub connect: Duration,
    /// From the start to the last byte of the answer.
    pub total: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), total: Duration::from_secs(15) }
    }
}

/// An HTTP client, and how long an exchange with it may take.
#[derive(Clone)]
pub struct Http {
    client: Client,
    total: Duration,
    /// Who resolves names, if not the system.
    names: Option<Arc<Names>>,
}

/// Without a limit of the whole.
impl From<Http> for Client {
    fn from(http: Http) -> Self {
        http.client
    }
}

/// However long the process was stopped, it is one of these of a time limit that it lost.
const SLICE: Duration = Duration::from_secs(1);
/// Some servers and what stands before them send more than a hundred. Together they have at most 408 KiB, see hyper.
const MAX_HEADERS: usize = 256;

/// The most that is read of an answer.
pub const MAX_BODY: usize = 256 * 1024;
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
/// As much as a poll takes with a code of ordinary length.
const FORM_ROOM: usize = 512;
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// The longest Retry-After that is believed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// Why there is no client to ask with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ClientError {
    #[error("the proxy must be an http:// or https:// URL")]
    Proxy,
    #[error("TLS cannot be set up")]
    Tls,
}

/// An HTTP client with all limits but those of [`Egress`]. Without `proxy` none is used, whatever the environment says.
/// Where the machine has no CA certificates, Mozilla's are used.
///
/// # Errors
/// When the proxy is of no known kind, or TLS cannot be set up at all.
pub fn client(proxy: Option<&Url>) -> Result<Http, ClientError> {
    client_with(Patience::default(), proxy)
}

/// The HTTP client of one provider: through its proxy, and to the addresses that it may have.
///
/// # Errors
/// As [`client`].
pub fn client_for(settings: &Settings) -> Result<Http, ClientError> {
    client_knowing(Names::default(), settings)
}

/// As [`client_for`], with a resolver that asks elsewhere.
///
/// # Errors
/// As [`client`].
pub fn client_knowing(names: Names, settings: &Settings) -> Result<Http, ClientError> {
    // As many as may be in use at once, or those who come next would have to connect anew.
    let idle = settings.limits.max_in_flight;
    let patience = Patience::default();
    let names = Arc::new(names);
    let client = build(|| {
        let resolver = Permitted { egress: Egress::of(settings), names: Arc::clone(&names) };
        let builder = limited(patience).pool_max_idle_per_host(idle);
        Ok(proxied(builder, settings.proxy.as_ref())?.dns_resolver(Arc::new(resolver)))
    })?;
    Ok(Http { client, total: patience.total, names: Some(names) })
}

/// As [`client`], with other time limits.
///
/// # Errors
/// As [`client`].
pub fn client_with(patience: Patience, proxy: Option<&Url>) -> Result<Http, ClientError> {
    let client = build(|| proxied(limited(patience), proxy))?;
    Ok(Http { client, total: patience.total, names: None })
}

fn proxied(builder: ClientBuilder, proxy: Option<&Url>) -> Result<ClientBuilder, ClientError> {
    match proxy {
        None => Ok(builder),
        Some(url) if matches!(url.scheme(), "http" | "https") => {
            Ok(builder.proxy(Proxy::all(url.clone()).map_err(|_| ClientError::Proxy)?))
        }
        Some(_) => Err(ClientError::Proxy),
    }
}

fn build(builder: impl Fn() -> Result<ClientBuilder, ClientError>) -> Result<Client, ClientError> {
    builder()?.build().or_else(|_| {
        let mozilla = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().filter_map(|der| Certificate::from_der(der).ok());
        builder()?.tls_certs_only(mozilla).build().map_err(|_| ClientError::Tls)
    })
}

fn limited(patience: Patience) -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("anteroom/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(patience.connect)
        .http1_max_headers(MAX_HEADERS)
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        .no_proxy()
        .pool_idle_timeout(Duration::from_secs(20))
        .pool_max_idle_per_host(16)
}

/// An answer, understood as far as HTTP goes. It has no `Debug`: the body may hold tokens.
pub struct Answer {
    pub status: u16,
    pub received_at: WallTime,
    /// What the provider's clock showed then.
    pub date: Option<WallTime>,
    /// At most an hour; absent when it is unreadable or over.
    pub retry_after: Option<Duration>,
    /// Empty when it was longer than [`MAX_BODY`]: no meaning can be taken from a part.
    pub body: Vec<u8>,
}

/// Why there is no answer. The texts are ours: nothing of the request or of what came back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoAnswer {
    /// Nothing was sent.
    #[error("no connection: {0}")]
    NotConnected(&'static str),
    /// The request may have been read.
    #[error("no complete answer in time")]
    TimedOut,
    /// The request may have been read.
    #[error("the connection broke before the answer was complete")]
    Broken,
}

/// Asks, and takes the time of the answer.
#[derive(Clone)]
pub struct Exchange {
    http: Http,
    clock: Arc<dyn Clock>,
    egress: Option<Arc<Egress>>,
}

impl Exchange {
    pub fn new(http: Http, clock: Arc<dyn Clock>) -> Self {
        Self { http, clock, egress: None }
    }

    /// The same, but addresses in URLs must be permitted. What names resolve to is up to the HTTP client: see [`client_for`].
    pub fn within(self, egress: Egress) -> Self {
        Self { egress: Some(Arc::new(egress)), ..self }
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn wall(&self) -> WallTime {
        self.clock.wall()
    }

    /// # Errors
    /// When no complete answer came.
    pub async fn get(&self, url: Url) -> Result<Answer, NoAnswer> {
        self.permitted(&url)?;
        self.send(self.http.client.get(url)).await
    }

    /// # Errors
    /// When no complete answer came.
    pub async fn post(
        &self,
        url: Url,
        encoding: Encoding,
        parameters: &[(&str, &str)],
        authorization: Option<HeaderValue>,
    ) -> Result<Answer, NoAnswer> {
        self.permitted(&url)?;
        let request = self.http.client.post(url);
        let mut request = match encoding {
            Encoding::Form => request.header(CONTENT_TYPE, FORM).body(form(parameters)),
            Encoding::Json => request.header(CONTENT_TYPE, JSON).body(object(parameters)),
        };
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        self.send(request).await
    }

    fn permitted(&self, url: &Url) -> Result<(), NoAnswer> {
        match &self.egress {
            Some(egress) => egress.check(url).map_err(|Forbidden| NoAnswer::NotConnected(FORBIDDEN)),
            None => Ok(()),
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Answer, NoAnswer> {
        let answering = async {
            let mut response = request.header(ACCEPT, JSON).send().await.map_err(no_answer)?;
            let status = response.status().as_u16();
            let headers = mem::take(response.headers_mut());
            let body = read(response).await.map_err(no_answer)?;
            let received_at = self.clock.wall();
            Ok(Answer { status, received_at, date: date(&headers), retry_after: retry_after(&headers, received_at), body })
        };
        let answer = in_time(self.http.total, answering).await.unwrap_or(Err(NoAnswer::TimedOut));
        if let (Err(NoAnswer::NotConnected(_)), Some(names)) = (&answer, &self.http.names) {
            // It may have moved.
            names.forget();
        }
        answer
    }
}

/// What comes of `answering`, unless it takes longer than `limit`. A time in which the process did not run, as it was stopped or its
/// machine was, does not count but for a second: what arrived meanwhile is read, though time is up at once when it goes on.
pub(super) async fn in_time<T>(limit: Duration, answering: impl Future<Output = T>) -> Option<T> {
    let mut answering = pin!(answering);
    let mut left = limit;
    loop {
        let slice = left.min(SLICE);
        // Of the runtime's own time, which the timeout beside it goes by too: the two are compared.
        let begun_at = Instant::now();
        if let Ok(answer) = timeout(slice, answering.as_mut()).await {
            return Some(answer);
        }
        let overslept = begun_at.elapsed() > slice + SLICE;
        left = left.saturating_sub(slice);
        if left.is_zero() {
            if !overslept {
                return None;
            }
            left = slice;
        }
    }
}

/// `application/x-www-form-urlencoded`.
fn form(parameters: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::with_capacity(FORM_ROOM)).extend_pairs(parameters).finish()
}

fn object(parameters: &[(&str, &str)]) -> String {
    let members = parameters.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value)));
    Value::Object(members.collect()).to_string()
}

async fn read(mut response: Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_BODY {
            return Ok(Vec::new());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// RFC 9110 §10.2.3: seconds or a date.
fn retry_after(headers: &HeaderMap, now: WallTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Too many digits for a number are still a very long time.
        Duration::from_secs(if text.is_empty() { 0 } else { text.parse().unwrap_or(u64::MAX) })
    } else {
        http_date(text)?.since(now)
    };
    Some(wait.min(MAX_RETRY_AFTER)).filter(|wait| !wait.is_zero())
}

/// By the clock of whoever made the answer, as it was when it was received: what comes from a cache says how old it is (RFC 9111 §5.1).
fn date(headers: &HeaderMap) -> Option<WallTime> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let age = text(AGE).and_then(|age| age.parse().ok()).unwrap_or(0);
    Some(http_date(text(DATE)?)? + Duration::from_secs(age))
}

fn http_date(text: &str) -> Option<WallTime> {
    Some(WallTime::default() + httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?)
}

fn no_answer(error: reqwest::Error) -> NoAnswer {
    if error.is_connect() {
        NoAnswer::NotConnected(why_not_connected(&error))
    } else if error.is_builder() {
        NoAnswer::NotConnected("the request cannot be built")
    } else if error.is_timeout() {
        NoAnswer::TimedOut
    } else {
        NoAnswer::Broken
    }
}

const FORBIDDEN: &str = "its address is in a network that is not allowed; see `allow_networks`";

fn why_not_connected(error: &reqwest::Error) -> &'static str {
    let causes = core::iter::successors(error.source(), |error| (*error).source());
    if causes.clone().any(|cause| cause.is::<Forbidden>()) {
        return FORBIDDEN;
    }
    if error.is_dns() {
        return "the name cannot be resolved";
    }
    if error.is_timeout() {
        return "not in time";
    }
    match causes.filter_map(|cause| cause.downcast_ref::<io::Error>()).last().map(innermost) {
        Some(io::ErrorKind::ConnectionRefused) => "refused",
        Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => "no route",
        Some(io::ErrorKind::InvalidData) => "TLS failed, or the certificate is not trusted",
        _ => "it broke while it was being made",
    }
}

/// TLS errors come wrapped twice.
fn innermost(error: &io::Error) -> io::ErrorKind {
    error.get_ref().and_then(|inner| inner.downcast_ref()).map_or(error.kind(), innermost)
}

#[cfg(test)]
mod tests;
