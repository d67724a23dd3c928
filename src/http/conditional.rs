//! How a session wants to be read: as which representation, if it is newer than what (RFC 9110 §13), and how long the answer
//! may wait for that (RFC 7240).

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};
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
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Known {
    Unsaid,
    Anything,
    /// Opaque tags, without their quotes.
    Tags(Vec<Box<str>>),
}

impl Known {
    /// Weak comparison (RFC 9110 §8.8.3.2), as is right for `If-None-Match`.
    pub fn matches(&self, tag: &str) -> bool {
        match self {
            Self::Unsaid => false,
            Self::Anything => true,
            Self::Tags(tags) => tags.iter().any(|known| **known == *tag),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Reading {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let headers = &parts.headers;
        Ok(Self { format: format(headers), texts: language(headers), known: known(headers), wait: wait(headers) })
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

fn known(headers: &HeaderMap) -> Known {
    if !headers.contains_key(header::IF_NONE_MATCH) {
        return Known::Unsaid;
    }
    let mut tags = Vec::new();
    for element in elements(headers, &header::IF_NONE_MATCH) {
        if element == "*" {
            return Known::Anything;
        }
        let quoted = element.strip_prefix("W/").unwrap_or(element);
        if let Some(tag) = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            tags.push(Box::from(tag));
        }
    }
    Known::Tags(tags)
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

/// The elements of a list header (RFC 9110 §5.6.1); commas within quotes do not separate.
fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| {
        let mut quoted = false;
        let outside_quotes = move |c: char| {
            quoted ^= c == '"';
            c == ',' && !quoted
        };
        line.split(outside_quotes).map(str::trim).filter(|element| !element.is_empty())
    })
}
