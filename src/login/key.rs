//! The caller key: from the command line, a file, or the environment.

use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use crate::cli::Login;

const VARIABLE: &str = "ANTEROOM_KEY";
/// In bytes.
const LIMIT: usize = 4096;

/// # Errors
/// The key cannot be read, or is none.
pub fn find(options: &Login) -> Result<Option<SecretString>, String> {
    if let Some(key) = &options.key {
        return checked(key.expose_secret(), "--key").map(Some);
    }
    if let Some(path) = &options.key_file {
        return from_file(path).map(Some);
    }
    match std::env::var_os(VARIABLE) {
        Some(text) if !text.is_empty() => checked(&text.to_string_lossy(), VARIABLE).map(Some),
        _ => Ok(None),
    }
}

fn from_file(path: &Path) -> Result<SecretString, String> {
    let text = std::fs::read_to_string(path).map(SecretString::from);
    let text = text.map_err(|error| format!("{}: cannot be read ({})", path.display(), error.kind()))?;
    checked(text.expose_secret().trim_start_matches('\u{feff}').trim(), &path.display().to_string())
}

fn checked(key: &str, from: &str) -> Result<SecretString, String> {
    let is_key = !key.is_empty() && key.len() <= LIMIT && key.bytes().all(|byte| byte.is_ascii_graphic());
    if is_key { Ok(key.into()) } else { Err(format!("{from}: a caller key has 1 to {LIMIT} visible ASCII characters")) }
}
