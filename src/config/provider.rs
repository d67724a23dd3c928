//! `[providers.NAME]`: what we are told of one provider.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

use super::addresses::{self, web_url};
use super::section::Section;
use crate::provider::dialect::Dialect;
use crate::provider::egress::Network;
use crate::provider::gate::Limits;
use crate::provider::presets::{self, Preset};
use crate::provider::private_key::PrivateKey;
use crate::provider::settings::{AssertionAudience, ClientAuth, Settings};

const MAX_IN_FLIGHT: usize = 64;
/// Reading and writing by everybody, of a file's mode.
const OTHERS: u32 = 0o006;

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
    let proof =
        Proof { has_secret: section.has("client_secret") || section.has("client_secret_file"), has_key: section.has("private_key_file") };
    let client_secret = client_secret(&mut section);
    let private_key = private_key(&mut section);
    let client_auth = client_auth(&mut section, proof, preset);
    let assertion_audience = section.take("assertion_audience").and_then(|entry| entry.text(assertion_audience)).unwrap_or_default();
    let scopes = section.take("scopes").and_then(|entry| entry.texts(scope)).unwrap_or_default();
    let allowed_scopes = allowed_scopes(&mut section, &scopes);
    let audience = section.take("audience").and_then(|entry| entry.text(plain));
    let resource = section.take("resource").and_then(|entry| entry.text_or_texts(plain)).unwrap_or_default();
    let pkce = section.take("pkce").and_then(|entry| entry.boolean()).unwrap_or(preset.is_none_or(|preset| preset.pkce));
    let display_name = section
        .take("display_name")
        .and_then(|entry| entry.text(plain))
        .unwrap_or_else(|| preset.map_or(name, |preset| preset.title).to_owned());
    let allow_networks = section.take("allow_networks").and_then(|entry| entry.texts(network)).unwrap_or_default();
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
        private_key,
        assertion_audience,
        scopes,
        allowed_scopes,
        audience,
        resource,
        pkce,
        allow_http,
        allow_networks,
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
    let from_file = secret_file(section, "client_secret_file", one_line);
    if has_both {
        section.report("client_secret", "and client_secret_file are both set; keep one of them");
    }
    secret.or(from_file)
}

/// The file is PEM or a JWK; the id becomes the `kid` of the assertions.
fn private_key(section: &mut Section<'_>) -> Option<Arc<PrivateKey>> {
    let id = section.take("private_key_id").and_then(|entry| entry.text(plain));
    if id.is_some() && !section.has("private_key_file") {
        section.report("private_key_id", "names no key; set private_key_file");
    }
    let read = |text: &str| PrivateKey::read(text, id.clone()).map(Arc::new).map_err(|why| format!("the file {why}"));
    secret_file(section, "private_key_file", read)
}

/// What the client can prove itself with.
#[derive(Clone, Copy)]
struct Proof {
    has_secret: bool,
    has_key: bool,
}

fn client_auth(section: &mut Section<'_>, proof: Proof, preset: Option<&Preset>) -> ClientAuth {
    let default = match proof {
        Proof { has_secret: true, .. } => preset.map_or(ClientAuth::ClientSecretBasic, |preset| preset.client_auth),
        Proof { has_key: true, .. } => ClientAuth::PrivateKeyJwt,
        _ => ClientAuth::None,
    };
    let method = section.take("client_auth").map_or(Some(default), |entry| entry.text(method));
    let basic_raw = section.take("basic_raw").and_then(|entry| entry.boolean()).unwrap_or(false);
    let Some(method) = method else { return default };
    let Proof { has_secret, has_key } = proof;
    match method {
        ClientAuth::None if has_secret => {
            section.report("client_auth", "is none, but there is a client secret; remove the secret, or use client_secret_basic");
        }
        ClientAuth::ClientSecretBasic | ClientAuth::ClientSecretPost if !has_secret => {
            section.report("client_secret", "is missing, and client_auth needs it; set client_secret or client_secret_file");
        }
        ClientAuth::PrivateKeyJwt if !has_key => {
            section.report("private_key_file", "is missing, and client_auth needs it; name a PEM or JWK file");
        }
        ClientAuth::PrivateKeyJwt if has_secret => {
            section.report("client_auth", "is private_key_jwt, but there is a client secret; remove the secret");
        }
        method if method != ClientAuth::PrivateKeyJwt && has_key => {
            section.report("private_key_file", "is of no use to this client_auth; remove it, or use private_key_jwt");
        }
        _ => {}
    }
    match (method, basic_raw) {
        (ClientAuth::ClientSecretBasic, true) => ClientAuth::ClientSecretBasicRaw,
        (_, true) => {
            section.report("basic_raw", "is for client_auth = \"client_secret_basic\"; remove it");
            method
        }
        (_, false) => method,
    }
}

fn method(text: &str) -> Result<ClientAuth, String> {
    match text {
        "none" => Ok(ClientAuth::None),
        "client_secret_basic" => Ok(ClientAuth::ClientSecretBasic),
        "client_secret_post" => Ok(ClientAuth::ClientSecretPost),
        "private_key_jwt" => Ok(ClientAuth::PrivateKeyJwt),
        _ => Err("expected \"none\", \"client_secret_basic\", \"client_secret_post\" or \"private_key_jwt\"".to_owned()),
    }
}

fn assertion_audience(text: &str) -> Result<AssertionAudience, String> {
    match text {
        "issuer" => Ok(AssertionAudience::Issuer),
        "token_endpoint" => Ok(AssertionAudience::TokenEndpoint),
        _ => Err("expected \"issuer\" or \"token_endpoint\"".to_owned()),
    }
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

fn one_line(text: &str) -> Result<SecretString, String> {
    secret(text).map_err(|_| "the file has more than one line".to_owned())
}

/// What editors leave around a secret, a byte order mark and blanks, is no part of it. What others may read is used all the same.
fn secret_file<T>(section: &mut Section<'_>, key: &'static str, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
    let cannot = |error: std::io::Error| format!("the file cannot be read ({})", error.kind());
    let (value, mode) = section.take(key)?.text(|path| {
        let text = Zeroizing::new(fs::read_to_string(path).map_err(cannot)?);
        let mode = fs::metadata(path).map_err(cannot)?.permissions().mode();
        match text.trim_start_matches('\u{feff}').trim_ascii_end() {
            "" => Err("the file is empty".to_owned()),
            text => Ok((read(text)?, mode)),
        }
    })?;
    if mode & OTHERS != 0 {
        section.warn(key, "everybody on this machine may read or change the file; run `chmod o=` on it");
    }
    Some(value)
}

fn network(text: &str) -> Result<Network, String> {
    text.parse().map_err(|()| "expected networks such as [\"10.0.0.0/8\", \"fd00::/8\"]".to_owned())
}

/// RFC 6749 §3.3.
pub(super) fn scope(text: &str) -> Result<String, String> {
    match text.chars().all(|char| matches!(char, '!' | '#'..='[' | ']'..='~')) {
        true if !text.is_empty() => Ok(text.to_owned()),
        _ => Err("has a scope that is empty or has spaces or quotes in it; write [\"openid\", \"profile\"]".to_owned()),
    }
}
