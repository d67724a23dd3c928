//! How a provider's conversation differs from RFC 8628: a value, so that the code which speaks it knows no names.

use core::time::Duration;

use super::client_auth::Form;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dialect {
    pub encoding: Encoding,
    /// The device authorization request (RFC 8628 §3.1), without what identifies the client. A part that is empty is left out.
    pub begin: &'static [(&'static str, Part)],
    /// The device access token request (RFC 8628 §3.4), likewise.
    pub poll: &'static [(&'static str, Part)],
    /// Whether the token request carries `client_id`.
    pub poll_names_client: bool,
    /// Where an answer has its error code; the first of these members that is there counts.
    pub error_members: &'static [&'static str],
    /// Error codes beyond those that everybody uses, or with a meaning of their own here.
    pub words: &'static [(&'static str, Meaning)],
    /// Statuses of a token response that say all there is to say, whatever the body.
    pub statuses: &'static [(u16, Meaning)],
    /// What holds when a device authorization response names no lifetime.
    pub assumed_lifetime: Duration,
}

/// How request bodies are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    Form,
    Json,
}

/// What stands behind a parameter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    Text(&'static str),
    Scope,
    DeviceCode,
    UserCode,
}

/// What is known of a sign-in when a request is written; empty where it is not known yet.
#[derive(Clone, Copy, Default)]
pub struct Known<'a> {
    pub scope: &'a str,
    pub device_code: &'a str,
    pub user_code: &'a str,
}

/// What an error means for the sign-in. All that are not listed end it as rejected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meaning {
    Pending,
    SlowDown,
    Denied,
    /// The person said no, or the code is spent or unknown.
    DeniedOrDead,
    Expired,
    DeadCode,
    Throttled,
    /// The provider is out of order.
    Outage,
}

const DEVICE_CODE_GRANT: Part = Part::Text("urn:ietf:params:oauth:grant-type:device_code");

impl Dialect {
    pub const RFC8628: Self = Self {
        encoding: Encoding::Form,
        begin: &[("scope", Part::Scope)],
        poll: &[("grant_type", DEVICE_CODE_GRANT), ("device_code", Part::DeviceCode)],
        poll_names_client: true,
        error_members: &["error", "error_code"],
        words: &[],
        statuses: &[],
        assumed_lifetime: Duration::from_secs(1800),
    };

    /// The meaning of an error code, where it is not the usual one.
    pub fn word(&self, code: &str) -> Option<Meaning> {
        self.words.iter().find(|(word, _)| *word == code).map(|(_, meaning)| *meaning)
    }

    /// The meaning of a token response's status, where it decides alone.
    pub fn status(&self, status: u16) -> Option<Meaning> {
        self.statuses.iter().find(|(listed, _)| *listed == status).map(|(_, meaning)| *meaning)
    }

    /// What differs, in words for the operator.
    pub fn differences(&self) -> Vec<String> {
        let usual = Self::RFC8628;
        let mut differences = Vec::new();
        if self.encoding != usual.encoding {
            differences.push("requests are JSON".to_owned());
        }
        if self.begin != usual.begin {
            differences.push(format!("the device request has {}", names(self.begin)));
        }
        if self.poll != usual.poll {
            differences.push(format!("the token request has {}", names(self.poll)));
        }
        if self.poll_names_client != usual.poll_names_client {
            differences.push("the token request has no client_id".to_owned());
        }
        if self.error_members != usual.error_members {
            differences.push(format!("error codes are in {}", self.error_members.join(" or ")));
        }
        if !self.words.is_empty() {
            let words: Vec<_> = self.words.iter().map(|(word, meaning)| format!("\"{word}\" means {}", meaning.words())).collect();
            differences.push(words.join(", "));
        }
        if !self.statuses.is_empty() {
            let statuses: Vec<_> = self.statuses.iter().map(|(status, meaning)| format!("{status} means {}", meaning.words())).collect();
            differences.push(statuses.join(", "));
        }
        if self.assumed_lifetime != usual.assumed_lifetime {
            differences.push(format!("codes without expires_in live {} s", self.assumed_lifetime.as_secs()));
        }
        differences
    }
}

/// A request's parameters: every part that is not empty.
pub fn fill<'a>(parts: &[(&'static str, Part)], known: Known<'a>) -> Form<'a> {
    let filled = parts.iter().map(|(name, part)| match part {
        Part::Text(text) => (*name, *text),
        Part::Scope => (*name, known.scope),
        Part::DeviceCode => (*name, known.device_code),
        Part::UserCode => (*name, known.user_code),
    });
    filled.filter(|(_, value)| !value.is_empty()).collect()
}

fn names(parts: &[(&str, Part)]) -> String {
    let named: Vec<_> = parts
        .iter()
        .map(|(name, part)| match part {
            Part::Text(text) => format!("{name}={text}"),
            Part::Scope | Part::DeviceCode | Part::UserCode => (*name).to_owned(),
        })
        .collect();
    named.join(" ")
}

impl Meaning {
    fn words(self) -> &'static str {
        match self {
            Self::Pending => "still pending",
            Self::SlowDown => "slow down",
            Self::Denied => "denied",
            Self::DeniedOrDead => "denied, or that the code is dead",
            Self::Expired => "expired",
            Self::DeadCode => "the code is dead",
            Self::Throttled => "too many requests",
            Self::Outage => "an outage",
        }
    }
}
