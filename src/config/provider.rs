//! `[providers.NAME]`: what we are told of one provider.

use std::path::Path;
use std::sync::Arc;

use secrecy::SecretString;

use super::addresses::{self, web_url};
use super::section::Section;
use crate::provider::dialect::Dialect;
use crate::provider::gate::Limits;
use crate::provider::presets::{self, Preset};
use crate::provider::settings::{ClientAuth, Settings};

const MAX_IN_FLIGHT: usize = 64;

/// `None` where something is wrong, and has been reported, that leaves no settings to speak of.
pub(super) fn read(name: &str, mut section: Section<'_>) -> Option<Settings> {
    if name.is_empty() || !name.chars().all(|char| matches!(char, 'a'..='z' | '0'..='9' | '-')) {
        section.report_self("a provider's name may have a-z, 0-9 and - only");
    }
    let allow_http = section.take("allow_http").and_then(|entry| entry.boolean()).unwrap_or(false);
    addresses::require(&section);
    let preset = section.take("preset").and_then(|entry| entry.text(preset));
    let (issuer, endpoints) = addresses::read(&mut section, preset, allow_http);
    let client_id = section.need("client_id").and_then(|entry| entry.text(plain));
    let has_secret = section.has("client_secret") || section.has("client_secret_file");
    let client_secret = client_secret(&mut section);
    let client_auth = client_auth(&mut section, has_secret, preset);
    let scopes = section.take("scopes").and_then(|entry| entry.texts(scope)).unwrap_or_default();
    let allowed_scopes = allowed_scopes(&mut section, &scopes);
    let audience = section.take("audience").and_then(|entry| entry.text(plain));
    let resource = section.take("resource").and_then(|entry| entry.text_or_texts(plain)).unwrap_or_default();
    let pkce = section.take("pkce").and_then(|entry| entry.boolean()).unwrap_or(preset.is_none_or(|preset| preset.pkce));
    let display_name = section
        .take("display_name")
        .and_then(|entry| entry.text(plain))
        .unwrap_or_else(|| preset.map_or(name, |preset| preset.title).to_owned());
    let proxy = section.take("proxy").and_then(|entry| entry.text(web_url));
    let allow_anonymous = section.take("allow_anonymous").and_then(|entry| entry.boolean()).unwrap_or(false);
    let limits = Limits {
        max_in_flight: section.take("max_in_flight").and_then(|entry| entry.whole()).unwrap_or(MAX_IN_FLIGHT),
        max_per_second: section.take("max_polls_per_second").and_then(|entry| entry.whole()),
    };
    section.finish();
    Some(Settings {
        name: Arc::from(name),
        display_name,
        preset,
        dialect: preset.map_or(Dialect::RFC8628, |preset| preset.dialect),
        issuer,
        endpoints,
        client_id: client_id?,
        client_secret,
        client_auth,
        scopes,
        allowed_scopes,
        audience,
        resource,
        pkce,
        allow_http,
        proxy,
        limits,
        allow_anonymous,
    })
}

fn preset(name: &str) -> Result<&'static Preset, String> {
    presets::find(name).ok_or_else(|| format!("there is no such preset; there are {}", presets::names()))
}

fn client_secret(section: &mut Section<'_>) -> Option<SecretString> {
    let has_both = section.has("client_secret") && section.has("client_secret_file");
    let secret = section.take("client_secret").and_then(|entry| entry.text(secret));
    let from_file = section.take("client_secret_file").and_then(|entry| entry.text(secret_file));
    if has_both {
        section.report("client_secret", "and client_secret_file are both set; keep one of them");
    }
    secret.or(from_file)
}

fn client_auth(section: &mut Section<'_>, has_secret: bool, preset: Option<&Preset>) -> ClientAuth {
    let with_secret = preset.map_or(ClientAuth::ClientSecretBasic, |preset| preset.client_auth);
    let default = if has_secret { with_secret } else { ClientAuth::None };
    let Some(entry) = section.take("client_auth") else { return default };
    let method = entry.text(|text| match text {
        "none" => Ok(ClientAuth::None),
        "client_secret_basic" => Ok(ClientAuth::ClientSecretBasic),
        "client_secret_post" => Ok(ClientAuth::ClientSecretPost),
        "private_key_jwt" => Err("private_key_jwt is not in this version; use client_secret_basic or client_secret_post".to_owned()),
        _ => Err("expected \"none\", \"client_secret_basic\" or \"client_secret_post\"".to_owned()),
    });
    match method {
        Some(ClientAuth::None) if has_secret => {
            section.report("client_auth", "is none, but there is a client secret; remove the secret, or use client_secret_basic");
        }
        Some(ClientAuth::ClientSecretBasic | ClientAuth::ClientSecretPost) if !has_secret => {
            section.report("client_secret", "is missing, and client_auth needs it; set client_secret or client_secret_file");
        }
        _ => {}
    }
    method.unwrap_or(default)
}

fn allowed_scopes(section: &mut Section<'_>, scopes: &[String]) -> Vec<String> {
    let Some(entry) = section.take("allowed_scopes") else { return scopes.to_vec() };
    let allowed = entry.texts(scope);
    if allowed.as_ref().is_some_and(|allowed| scopes.iter().any(|scope| !allowed.contains(scope))) {
        section.report("allowed_scopes", "must contain every scope of scopes");
    }
    allowed.unwrap_or_default()
}

/// Text for people or for the wire: not empty, one line.
fn plain(text: &str) -> Result<String, String> {
    match text {
        "" => Err("is empty; give it a value or leave it out".to_owned()),
        text if text.chars().any(char::is_control) => Err("has a line break or another control character in it".to_owned()),
        text => Ok(text.to_owned()),
    }
}

fn secret(text: &str) -> Result<SecretString, String> {
    plain(text).map(SecretString::from)
}

fn secret_file(path: &str) -> Result<SecretString, String> {
    let text = std::fs::read_to_string(Path::new(path)).map_err(|error| format!("the file cannot be read ({})", error.kind()))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err("the file is empty".to_owned()),
        text => secret(text).map_err(|_| "the file has more than one line".to_owned()),
    }
}

/// RFC 6749 §3.3.
fn scope(text: &str) -> Result<String, String> {
    match text.chars().all(|char| matches!(char, '!' | '#'..='[' | ']'..='~')) {
        true if !text.is_empty() => Ok(text.to_owned()),
        _ => Err("has a scope that is empty or has spaces or quotes in it; write [\"openid\", \"profile\"]".to_owned()),
    }
}
