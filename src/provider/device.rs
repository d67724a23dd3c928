//! The device authorization response (RFC 8628 §3.2): read leniently where providers differ, strictly where people are shown it.

use core::fmt;
use core::time::Duration;

use icu_properties::CodePointMapData;
use icu_properties::props::BidiClass;
use secrecy::SecretString;
use serde_json::Value;

use super::body::{Body, Number, whole_seconds};
use super::uri;
use crate::shown;

/// What a device authorization response says, checked and clamped.
pub struct DeviceAuthorization {
    pub device_code: SecretString,
    pub user_code: String,
    pub verification_uri: String,
    pub verification_uri_complete: Option<String>,
    /// Counts from the moment the request was sent.
    pub expires_in: Duration,
    /// Absent: the default of 5 s.
    pub interval: Option<Duration>,
}

/// Without the codes.
impl fmt::Debug for DeviceAuthorization {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("DeviceAuthorization")
            .field("verification_uri", &self.verification_uri)
            .field("expires_in", &self.expires_in)
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

/// The answer is no device authorization response, or one that people must not be shown. Names the member at fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(&'static str);

/// What is written as no time at all is over at once.
const MIN_LIFETIME: Duration = Duration::from_secs(1);
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);

const MAX_DEVICE_CODE: usize = 8 * 1024;
/// Twice what anybody would type.
const MAX_USER_CODE: usize = 32;

/// Reads a 2xx answer. `allow_http` as in the provider's settings; `assumed_lifetime` holds where the answer names none.
///
/// # Errors
/// [`Invalid`] when a required member is missing or unusable, or any URI is unsafe.
pub fn parse(bytes: &[u8], allow_http: bool, assumed_lifetime: Duration) -> Result<DeviceAuthorization, Invalid> {
    let mut body = Body::parse(bytes).ok_or(Invalid("the answer is neither a JSON object nor a form, or is too long"))?;
    let verification_uri = body.text("verification_uri").or_else(|| body.text("verification_url"));
    let verification_uri = verification_uri
        .and_then(|text| uri::for_people(text.trim(), allow_http))
        .ok_or(Invalid("`verification_uri` is missing or unsafe"))?;
    Ok(DeviceAuthorization {
        verification_uri,
        verification_uri_complete: verification_uri_complete(&body, allow_http)?,
        expires_in: lifetime(&body, assumed_lifetime)?,
        interval: body.interval(),
        user_code: body.take_text("user_code").filter(|code| is_fit_to_show(code)).ok_or(Invalid("`user_code` is missing or unfit"))?,
        device_code: body
            .take_text("device_code")
            .filter(|code| code.len() <= MAX_DEVICE_CODE)
            .ok_or(Invalid("`device_code` is missing or too long"))?
            .into(),
    })
}

fn verification_uri_complete(body: &Body, allow_http: bool) -> Result<Option<String>, Invalid> {
    match body.get("verification_uri_complete") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
        Some(value) => {
            let shown = value.as_str().and_then(|text| uri::for_people(text.trim(), allow_http));
            shown.map(Some).ok_or(Invalid("`verification_uri_complete` is unsafe"))
        }
    }
}

fn lifetime(body: &Body, assumed: Duration) -> Result<Duration, Invalid> {
    match body.number("expires_in") {
        Number::Absent => Ok(assumed),
        Number::Unreadable => Err(Invalid("`expires_in` is not a number")),
        Number::Seconds(seconds) => Ok(whole_seconds(seconds).clamp(MIN_LIFETIME, MAX_LIFETIME)),
    }
}

/// The code is shown exactly as it came: it may be case-sensitive, and a dash may or may not belong to it. So each character must
/// be seen for itself, and where it came: what is read from right to left, or was lost on the way, cannot be typed.
fn is_fit_to_show(user_code: &str) -> bool {
    let turns = |c| {
        let direction = CodePointMapData::<BidiClass>::new().get(c);
        matches!(direction, BidiClass::RightToLeft | BidiClass::ArabicLetter | BidiClass::ArabicNumber)
    };
    user_code.chars().count() <= MAX_USER_CODE
        && shown::is_plain(user_code)
        && !user_code.contains(|c| turns(c) || c == char::REPLACEMENT_CHARACTER)
        && !is_sentence(user_code)
}

/// People do what a screen tells them, so a code must not be the provider's words to them. Groups of a code are of one length, the
/// last perhaps shorter, and of capitals where there are several; words are not. Digits alone say nothing.
fn is_sentence(user_code: &str) -> bool {
    let lengths: Vec<usize> = user_code.split_whitespace().map(|group| group.chars().count()).collect();
    let [first, middle @ .., last] = lengths.as_slice() else { return false };
    let is_even = middle.iter().all(|length| length == first) && last <= first;
    let is_small = user_code.contains(char::is_lowercase);
    let looks_spoken = if middle.is_empty() { is_small && !is_even } else { is_small || !is_even };
    looks_spoken && user_code.contains(char::is_alphabetic)
}

#[cfg(test)]
mod tests;
