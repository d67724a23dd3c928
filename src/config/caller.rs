//! `[[callers]]`: who may begin sign-ins.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;

use super::provider::scope;
use super::section::{Entry, Section};
use crate::kernel::session::Digest;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caller {
    /// `name`: appears in logs and metrics; unique.
    pub name: Arc<str>,
    /// `key_sha256`: the SHA-256 of its key, in hexadecimal; unique.
    pub key_sha256: Digest,
    /// `providers`: which it may use; absent: all.
    pub providers: Option<Vec<Arc<str>>>,
    /// `scopes`: the scope tokens it may ask for, of those that the provider allows; absent: all of them.
    pub scopes: Option<Vec<String>>,
    /// `max_creates_per_minute`: how many sign-ins it may begin in a minute; absent: no limit of its own.
    pub max_creates_per_minute: Option<NonZeroU32>,
    /// `max_sessions`: as the service's `max_sessions`, for this caller alone; absent: no limit of its own.
    pub max_sessions: Option<usize>,
}

const LONGEST_NAME: usize = 100;

pub(super) fn read_all(sections: Vec<Section<'_>>, providers: &BTreeSet<Arc<str>>) -> Vec<Caller> {
    let mut names = BTreeMap::new();
    let mut keys = BTreeMap::new();
    let mut callers = Vec::with_capacity(sections.len());
    for (index, mut section) in sections.into_iter().enumerate() {
        let name = section.need("name").and_then(|entry| entry.text(name));
        let key_sha256 = section.need("key_sha256").and_then(|entry| entry.text(digest));
        let allowed = section.take("providers").and_then(|entry| entry.texts(|name| existing(name, providers)));
        let max_sessions = section.take("max_sessions").and_then(|entry| entry.whole());
        let scopes = section.take("scopes").and_then(|entry| entry.texts(scope));
        let max_creates_per_minute = section.take("max_creates_per_minute").and_then(Entry::count);
        for (key, is_empty) in
            [("providers", allowed.as_ref().is_some_and(Vec::is_empty)), ("scopes", scopes.as_ref().is_some_and(Vec::is_empty))]
        {
            if is_empty {
                section.report(key, "is empty; name at least one, or leave it out to allow all");
            }
        }
        if let Some(first) = name.clone().and_then(|name| earlier(&mut names, name, index)) {
            section.report("name", &format!("is also the name of callers[{first}]; give each caller its own"));
        }
        if let Some(first) = key_sha256.and_then(|key| earlier(&mut keys, key, index)) {
            section.report("key_sha256", &format!("is also the key of callers[{first}]; give each caller its own"));
        }
        section.finish();
        callers.extend(name.zip(key_sha256).map(|(name, key_sha256)| Caller {
            name,
            key_sha256,
            providers: allowed,
            scopes,
            max_creates_per_minute,
            max_sessions,
        }));
    }
    callers
}

/// The index under which the same value was seen before.
fn earlier<T: Ord>(seen: &mut BTreeMap<T, usize>, value: T, index: usize) -> Option<usize> {
    let first = *seen.entry(value).or_insert(index);
    (first != index).then_some(first)
}

/// # Errors
/// No name of a caller can be like this.
pub fn name(text: &str) -> Result<Arc<str>, String> {
    let is_good = !text.is_empty() && text.chars().count() <= LONGEST_NAME && !text.chars().any(char::is_control);
    is_good.then(|| Arc::from(text)).ok_or_else(|| format!("expected a name of 1 to {LONGEST_NAME} characters on one line"))
}

fn existing(name: &str, providers: &BTreeSet<Arc<str>>) -> Result<Arc<str>, String> {
    providers.get(name).cloned().ok_or_else(|| "names a provider that is not configured".to_owned())
}

fn digest(text: &str) -> Result<Digest, String> {
    let expected = || "expected 64 hexadecimal digits: printf %s \"$KEY\" | sha256sum".to_owned();
    let mut digest = Digest::default();
    if text.len() != 2 * digest.len() {
        return Err(expected());
    }
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
        let hex = std::str::from_utf8(pair).ok().filter(|pair| pair.chars().all(|char| char.is_ascii_hexdigit()));
        *byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).ok_or_else(expected)?;
    }
    Ok(digest)
}
