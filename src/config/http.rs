//! `[http]`: what the public listener believes of browsers and proxies.

use std::net::IpAddr;

use reqwest::Url;

use super::section::Section;

#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct HttpSettings {
    /// `http.allowed_origins`, `ANTEROOM_HTTP__ALLOWED_ORIGINS`: pages that may watch sign-ins from a browser (CORS), as
    /// `scheme://host[:port]` in the form in which browsers send it. Default: none.
    pub allowed_origins: Vec<String>,
    /// `http.owner_origins`, `ANTEROOM_HTTP__OWNER_ORIGINS`: pages that may moreover begin, claim, renew and cancel sign-ins
    /// from a browser, so that secrets and tokens get there. Default: none.
    pub owner_origins: Vec<String>,
    /// `http.trusted_proxies`, `ANTEROOM_HTTP__TRUSTED_PROXIES`: addresses or networks (CIDR) whose `Forwarded` headers are
    /// believed. Default: none.
    pub trusted_proxies: Vec<String>,
}

impl HttpSettings {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let allowed_origins = section.take("allowed_origins").and_then(|entry| entry.texts(origin)).unwrap_or_default();
        let owner_origins = section.take("owner_origins").and_then(|entry| entry.texts(origin)).unwrap_or_default();
        let trusted_proxies = section.take("trusted_proxies").and_then(|entry| entry.texts(network)).unwrap_or_default();
        section.finish();
        Self { allowed_origins, owner_origins, trusted_proxies }
    }
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
