//! The parameters of a request, as RFC 6749 wants them: form-encoded, none twice, an empty one counts as absent (§3.1, §3.2).

use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use url::form_urlencoded;

/// In the order in which they came.
#[derive(Clone, Debug, Default)]
pub struct Form(Vec<(String, String)>);

/// The only parameter that may be repeated (RFC 8707 §2).
const REPEATABLE: &str = "resource";

impl Form {
    /// # Errors
    /// What is wrong, for `invalid_request`.
    pub fn parse(parts: &Parts, body: &[u8]) -> Result<Self, &'static str> {
        let content_type = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err("the body must be application/x-www-form-urlencoded");
        }
        let mut fields: Vec<(String, String)> = Vec::with_capacity(6);
        for (name, value) in form_urlencoded::parse(body) {
            if name != REPEATABLE && fields.iter().any(|(seen, _)| *seen == name) {
                return Err("a parameter came twice");
            }
            fields.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(fields))
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// Everything that was sent, with what is secret for good blacked out.
    pub fn into_redacted(self) -> Vec<(String, String)> {
        let redact = |(name, value): (String, String)| match name.as_str() {
            "client_secret" | "client_assertion" | "code_verifier" | "refresh_token" | "token" => (name, "[redacted]".to_owned()),
            _ => (name, value),
        };
        self.0.into_iter().map(redact).collect()
    }
}
