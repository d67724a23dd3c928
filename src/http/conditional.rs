//! How a session wants to be read: as which representation, if it is newer than what (RFC 9110 §13), and how long the answer
//! may wait for that (RFC 7240).

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use std::convert::Infallible;

use super::texts::Texts;

pub const PREFER: HeaderName = HeaderName::from_static("prefer");
pub const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// What the representations of a session depend on.
pub const VARY: &str = "Accept, Accept-Language, Prefer, Origin";
/// The longest wait, in seconds.
const MAX_WAIT: u64 = 60;

pub struct Reading {
    pub format: Format,
    /// The words of a page.
    pub texts: &'static Texts,
    pub known: Known,
    /// Seconds; absent when no wait was asked for.
    pub wait: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    Json,
    Page,
}

/// `If-None-Match`: what the client has already.
pub struct Known(Vec<HeaderValue>);

impl Known {
    pub fn is_unsaid(&self) -> bool {
        self.0.is_empty()
    }

    /// Weak comparison (RFC 9110 §8.8.3.2), as is right for `If-None-Match`. A tag has its quotes.
    pub fn matches(&self, tag: &str) -> bool {
        let is_it = |known: &str| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag;
        self.0.iter().any(|line| line == tag || parts(line).any(is_it))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Reading {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let headers = &parts.headers;
        let known = Known(headers.get_all(header::IF_NONE_MATCH).iter().cloned().collect());
        Ok(Self { format: format(headers), texts: language(headers), known, wait: wait(headers) })
    }
}

/// A page only for those who would rather have HTML than JSON (RFC 9110 §12.5.1).
fn format(headers: &HeaderMap) -> Format {
    let html = quality(headers, "text/html", "text/*");
    let json = quality(headers, "application/json", "application/*");
    if html > json { Format::Page } else { Format::Json }
}

/// The language that `Accept-Language` weighs most (RFC 9110 §12.5.4), the first named where weights are equal.
fn language(headers: &HeaderMap) -> &'static Texts {
    let mut best = (0, Texts::default());
    for range in elements(headers, &header::ACCEPT_LANGUAGE) {
        let mut parts = range.split(';').map(str::trim);
        let Some(texts) = parts.next().and_then(Texts::speaking) else { continue };
        let weight = weight(parts);
        if weight > best.0 {
            best = (weight, texts);
        }
    }
    best.1
}

/// The weight of the most specific media range that fits, in thousandths.
fn quality(headers: &HeaderMap, exact: &str, family: &str) -> u16 {
    let mut best = (0, 0);
    for range in elements(headers, &header::ACCEPT) {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let precision = match media {
            _ if media.eq_ignore_ascii_case(exact) => 3,
            _ if media.eq_ignore_ascii_case(family) => 2,
            "*/*" => 1,
            _ => continue,
        };
        if precision > best.0 {
            best = (precision, weight(parts));
        }
    }
    best.1
}

/// The weight among the parameters of a preference, in thousandths (RFC 9110 §12.4.2).
fn weight<'a>(mut parameters: impl Iterator<Item = &'a str>) -> u16 {
    let weight = parameters.find_map(|parameter| parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q=")));
    (weight.map_or(1.0, |q| q.parse::<f32>().unwrap_or(0.0)).clamp(0.0, 1.0) * 1000.0) as u16
}

/// The first `wait` preference, if it is a number of seconds. Anything else is ignored (RFC 7240 §2).
fn wait(headers: &HeaderMap) -> Option<u64> {
    let value = elements(headers, &PREFER).find_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then_some(value.trim())
    })?;
    let digits = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    let number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    number.then(|| digits.parse().unwrap_or(MAX_WAIT).min(MAX_WAIT))
}

fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).iter().flat_map(parts)
}

/// The elements of a list header (RFC 9110 §5.6.1) in one of its lines; commas within quotes do not separate.
fn parts(line: &HeaderValue) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let outside_quotes = move |c: char| {
        quoted ^= c == '"';
        c == ',' && !quoted
    };
    line.to_str().unwrap_or_default().split(outside_quotes).map(str::trim).filter(|element| !element.is_empty())
}
