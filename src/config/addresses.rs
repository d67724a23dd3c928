//! Where a provider is: the keys that say so, completed by the addresses of its preset.

use reqwest::Url;
use url::Host;

use super::section::Section;
use crate::provider::presets::{self, Parameter, Preset};
use crate::provider::settings::Endpoints;

/// Discovery needs the issuer; without it both endpoints of the grant must be named (RFC 8628 §3.1, §3.4).
pub(super) fn require(section: &Section<'_>) {
    if section.has("issuer") || section.has("preset") {
        return;
    }
    for key in ["device_authorization_endpoint", "token_endpoint"].into_iter().filter(|key| !section.has(key)) {
        section.report(key, "is missing; set the issuer, or both device_authorization_endpoint and token_endpoint");
    }
}

/// The issuer and the endpoints. What is written wins over the preset, key by key.
pub(super) fn read(section: &mut Section<'_>, preset: Option<&'static Preset>, allow_http: bool) -> (Option<String>, Endpoints) {
    let issuer = section.take("issuer").and_then(|entry| entry.text(|text| issuer_as_written(text, allow_http)));
    let mut endpoint = |key| section.take(key).and_then(|entry| entry.text(|text| endpoint(text, allow_http)));
    let written = Endpoints {
        device_authorization: endpoint("device_authorization_endpoint"),
        token: endpoint("token_endpoint"),
        revocation: endpoint("revocation_endpoint"),
        jwks: endpoint("jwks_uri"),
    };
    match preset {
        Some(preset) => complete(section, preset, issuer, written, allow_http),
        None => (issuer, written),
    }
}

fn complete(
    section: &mut Section<'_>,
    preset: &'static Preset,
    issuer: Option<String>,
    written: Endpoints,
    allow_http: bool,
) -> (Option<String>, Endpoints) {
    let needed = needed(preset, issuer.is_some(), &written);
    let mut values: Vec<(&str, String)> = Vec::new();
    for parameter in preset.parameters {
        let is_missing = !section.has(parameter.key);
        let read = |text: &str| value(parameter, text, allow_http);
        let given = section.take(parameter.key).and_then(|entry| entry.text(read));
        let value = given.or_else(|| read(parameter.default.filter(|_| is_missing)?).ok());
        if is_missing && value.is_none() && needed.contains(&parameter) {
            section.report(parameter.key, &format!("is missing, and the preset {} needs it", preset.name));
        }
        values.extend(value.map(|value| (parameter.key, value)));
    }
    let completed = |template: Option<&str>| {
        let template = template?;
        let is_known = |parameter: &Parameter| values.iter().any(|(key, _)| *key == parameter.key);
        let values = values.iter().map(|(key, value)| (*key, value.as_str()));
        presets::parameters_of(preset.parameters, template).all(is_known).then(|| presets::complete(template, values))
    };
    let endpoint = |written: Option<Url>, template| written.or_else(|| endpoint(&completed(template)?, allow_http).ok());
    let endpoints = Endpoints {
        device_authorization: endpoint(written.device_authorization, preset.device_authorization_endpoint),
        token: endpoint(written.token, preset.token_endpoint),
        revocation: endpoint(written.revocation, preset.revocation_endpoint),
        jwks: endpoint(written.jwks, preset.jwks_uri),
    };
    (issuer.or_else(|| completed(preset.issuer)), endpoints)
}

/// The parameters without which nobody knows whom to ask.
fn needed(preset: &'static Preset, has_issuer: bool, written: &Endpoints) -> Vec<&'static Parameter> {
    let asked = [
        preset.device_authorization_endpoint.or(preset.issuer.filter(|_| !has_issuer)).filter(|_| written.device_authorization.is_none()),
        preset.token_endpoint.or(preset.issuer.filter(|_| !has_issuer)).filter(|_| written.token.is_none()),
    ];
    asked.into_iter().flatten().flat_map(|template| presets::parameters_of(preset.parameters, template)).collect()
}

/// An origin, with `https://` where no scheme is written, or a part of a path.
fn value(parameter: &Parameter, text: &str, allow_http: bool) -> Result<String, String> {
    if matches!(parameter.key, "host" | "domain") {
        let url = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        return match endpoint(&url, allow_http)?.query() {
            None => Ok(url.trim_end_matches('/').to_owned()),
            Some(_) => Err("expected a host such as \"id.example.com\"".to_owned()),
        };
    }
    let is_fit = |char: char| char.is_ascii_alphanumeric() || "-._~%".contains(char);
    match !text.is_empty() && text.chars().all(is_fit) && !text.chars().all(|char| char == '.') {
        true => Ok(text.to_owned()),
        false => Err("expected one part of a path: letters, digits and -._~ only".to_owned()),
    }
}

/// Kept as it is written: it is compared byte for byte (RFC 8414 §2, §3.3).
fn issuer_as_written(text: &str, allow_http: bool) -> Result<String, String> {
    match endpoint(text, allow_http)?.query() {
        Some(_) => Err("an issuer has no query".to_owned()),
        None => Ok(text.to_owned()),
    }
}

fn endpoint(text: &str, allow_http: bool) -> Result<Url, String> {
    let url = web_url(text)?;
    if url.scheme() == "https" || allow_http || is_loopback(&url) {
        return Ok(url);
    }
    Err("http sends secrets in the clear; use https, or set allow_http = true on this provider".to_owned())
}

pub(super) fn web_url(text: &str) -> Result<Url, String> {
    let expected = || "expected a URL such as \"https://id.example.com\"".to_owned();
    // The parser would drop these without a word.
    if text.chars().any(|char| char.is_whitespace() || char.is_control()) {
        return Err("has a space or a line break in it".to_owned());
    }
    let url = Url::parse(text).map_err(|_| expected())?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err(expected());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user name or password in it; remove it".to_owned());
    }
    if url.fragment().is_some() {
        return Err("has a fragment (#…); remove it".to_owned());
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    }
}
