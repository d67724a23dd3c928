//! `[http]`: what the public listener believes of browsers and proxies, and how much it takes from whom.

use std::net::IpAddr;
use std::num::NonZeroU32;

use reqwest::Url;

use super::section::{Entry, Section};
use crate::http::client::ForwardedBy;
use crate::http::site::HostName;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpSettings {
    /// `http.allowed_origins`, `ANTEROOM_HTTP__ALLOWED_ORIGINS`: pages that may watch sign-ins from a browser (CORS), as
    /// `scheme://host[:port]` in the form in which browsers send it. Default: none.
    pub allowed_origins: Vec<String>,
    /// `http.owner_origins`, `ANTEROOM_HTTP__OWNER_ORIGINS`: pages that may moreover begin, claim, renew and cancel sign-ins
    /// from a browser, so that secrets and tokens get there. Default: none.
    pub owner_origins: Vec<String>,
    /// `http.trusted_proxies`, `ANTEROOM_HTTP__TRUSTED_PROXIES`: addresses or networks (CIDR) that are believed for whom they ask.
    /// Default: none; then a proxy on another machine counts as one client.
    pub trusted_proxies: Vec<String>,
    /// `http.forwarded_by`, `ANTEROOM_HTTP__FORWARDED_BY`: the header in which they say so, `x-forwarded-for` or `forwarded`. Default
    /// `x-forwarded-for`; the other is not looked at, as it may be the client's own.
    pub forwarded_by: ForwardedBy,
    /// `http.hosts`, `ANTEROOM_HTTP__HOSTS`: host names that requests may name on a loopback listener, beside loopback's own and that
    /// of `public_url`; for a proxy on this machine that keeps `Host`. Default: none.
    pub hosts: Vec<HostName>,
    /// `http.max_requests_per_minute`, `ANTEROOM_HTTP__MAX_REQUESTS_PER_MINUTE`: requests of one client address, or IPv6 /64.
    /// Default 6000. This and the next do not hold for this machine itself.
    pub max_requests_per_minute: NonZeroU32,
    /// `http.max_creates_per_minute`, `ANTEROOM_HTTP__MAX_CREATES_PER_MINUTE`: sign-ins that one client address may begin without
    /// a caller key. Default 600. Those with a key have the `max_creates_per_minute` of their caller.
    pub max_creates_per_minute: NonZeroU32,
    /// `http.max_reads_per_minute`, `ANTEROOM_HTTP__MAX_READS_PER_MINUTE`: reads of one session, whoever asks. Default 60000.
    pub max_reads_per_minute: NonZeroU32,
    /// `http.max_connections`, `ANTEROOM_HTTP__MAX_CONNECTIONS`: connections at a time; fewer where the process may not open as
    /// many files. Default 10000.
    pub max_connections: usize,
    /// `http.max_connections_per_address`, `ANTEROOM_HTTP__MAX_CONNECTIONS_PER_ADDRESS`: of these, of one client address or IPv6 /64;
    /// and so many event streams of one, and of one session. Default: a quarter of `max_connections`. Connections of this machine
    /// and of `trusted_proxies` are not counted by address.
    pub max_connections_per_address: usize,
}

const MAX_REQUESTS: NonZeroU32 = NonZeroU32::new(6_000).unwrap();
const MAX_CREATES: NonZeroU32 = NonZeroU32::new(600).unwrap();
const MAX_READS: NonZeroU32 = NonZeroU32::new(60_000).unwrap();
const MAX_CONNECTIONS: usize = 10_000;

impl HttpSettings {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let allowed_origins = section.take("allowed_origins").and_then(|entry| entry.texts(origin)).unwrap_or_default();
        let owner_origins = section.take("owner_origins").and_then(|entry| entry.texts(origin)).unwrap_or_default();
        let trusted_proxies = section.take("trusted_proxies").and_then(|entry| entry.texts(network)).unwrap_or_default();
        let max_requests_per_minute = section.take("max_requests_per_minute").and_then(Entry::count).unwrap_or(MAX_REQUESTS);
        let max_creates_per_minute = section.take("max_creates_per_minute").and_then(Entry::count).unwrap_or(MAX_CREATES);
        let max_reads_per_minute = section.take("max_reads_per_minute").and_then(Entry::count).unwrap_or(MAX_READS);
        let max_connections = section.take("max_connections").and_then(Entry::whole).unwrap_or(MAX_CONNECTIONS);
        let share = section.take("max_connections_per_address").and_then(Entry::whole);
        let max_connections_per_address = share.unwrap_or(max_connections.div_ceil(4));
        let forwarded_by = section.take("forwarded_by").and_then(|entry| entry.text(forwarded_by)).unwrap_or_default();
        let hosts = section.take("hosts").and_then(|entry| entry.texts(host)).unwrap_or_default();
        section.finish();
        Self {
            allowed_origins,
            owner_origins,
            trusted_proxies,
            forwarded_by,
            hosts,
            max_requests_per_minute,
            max_creates_per_minute,
            max_reads_per_minute,
            max_connections,
            max_connections_per_address,
        }
    }
}

fn forwarded_by(text: &str) -> Result<ForwardedBy, String> {
    match text {
        "x-forwarded-for" => Ok(ForwardedBy::XForwardedFor),
        "forwarded" => Ok(ForwardedBy::Forwarded),
        _ => Err("expected \"x-forwarded-for\" or \"forwarded\"".to_owned()),
    }
}

fn host(text: &str) -> Result<HostName, String> {
    HostName::read(text).ok_or_else(|| "expected host names such as \"signin.example\" or \"signin.example:8443\"".to_owned())
}

/// RFC 6454 §6.2.
fn origin(text: &str) -> Result<String, String> {
    let expected = || "expected origins such as \"https://tv.example\" or \"http://localhost:3000\", without a path".to_owned();
    let authority = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).ok_or_else(expected)?;
    if authority.contains(|char: char| matches!(char, '/' | '\\' | '?' | '#' | '@') || char.is_whitespace() || char.is_control()) {
        return Err(expected());
    }
    Url::parse(text).map(|url| url.origin().ascii_serialization()).map_err(|_| expected())
}

fn network(text: &str) -> Result<String, String> {
    let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let longest = match address.parse() {
        Ok(IpAddr::V4(_)) => Some(32),
        Ok(IpAddr::V6(_)) => Some(128),
        Err(_) => None,
    };
    let is_length = |text: &str, longest: u8| !text.starts_with('+') && text.parse::<u8>().is_ok_and(|length| length <= longest);
    match longest {
        Some(longest) if length.is_none_or(|length| is_length(length, longest)) => Ok(text.to_owned()),
        _ => Err("expected IP addresses or networks, such as \"10.0.0.7\" or \"10.0.0.0/8\"".to_owned()),
    }
}
