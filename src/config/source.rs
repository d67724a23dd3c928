//! Where values come from: the file, and the environment on top of it.

use std::collections::BTreeMap;
use std::path::Path;

use super::section::Errors;

/// What stands behind a key.
pub(super) enum Node {
    Value(toml::Value),
    Table(Entries),
    /// An environment variable. Only the key decides whether the text is taken as it is or read as a TOML literal.
    Text {
        variable: String,
        text: String,
    },
}

pub(super) type Entries = BTreeMap<String, Node>;

const PREFIX: &str = "ANTEROOM_";
/// Read by the command line, or by the tests.
const NOT_KEYS: [&str; 4] = ["CONFIG", "KEY", "LOG", "LOG_FORMAT"];
const TEST_PREFIX: &str = "TEST_";

/// The variables of this process that may concern us. What is not Unicode keeps a replacement character, which is refused.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .filter(|(name, _)| name.starts_with(PREFIX))
}

/// # Errors
/// One line that starts with the file and never quotes it.
pub(super) fn read_file(path: &Path) -> Result<Entries, String> {
    let file = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{file}: cannot be read ({})", error.kind()))?;
    match text.parse::<toml::Table>() {
        Ok(table) => Ok(entries(table)),
        Err(error) => {
            let (line, column) = position(&text, error.span().map_or(0, |span| span.start));
            Err(format!("{file}: line {line}, column {column}: {}", error.message().lines().collect::<Vec<_>>().join(" ")))
        }
    }
}

/// Lays the `ANTEROOM_…` variables over the entries of the file.
pub(super) fn overlay(mut entries: Entries, environment: impl Iterator<Item = (String, String)>, errors: &Errors) -> Entries {
    // In order, so that the same environment always gives the same result.
    let variables: BTreeMap<String, String> = environment.collect();
    for (variable, text) in variables {
        let Some(name) = variable.strip_prefix(PREFIX) else { continue };
        if NOT_KEYS.contains(&name) || name.starts_with(TEST_PREFIX) || is_service_link(name, &text) {
            continue;
        }
        let path = key_path(name);
        if text.contains(char::REPLACEMENT_CHARACTER) {
            errors.push(&variable, "is not valid UTF-8");
        } else if !insert(&mut entries, &path, Node::Text { variable: variable.clone(), text }) {
            errors.push(&variable, "sets a key inside something that is not a table");
        }
    }
    entries
}

/// The environment's name for a key.
pub(super) fn variable_name(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "__").replace('-', "_").to_ascii_uppercase())
}

impl From<toml::Value> for Node {
    fn from(value: toml::Value) -> Self {
        match value {
            toml::Value::Table(table) => Self::Table(entries(table)),
            value => Self::Value(value),
        }
    }
}

pub(super) fn entries(table: toml::Table) -> Entries {
    table.into_iter().map(|(key, value)| (key, Node::from(value))).collect()
}

/// `STORE__URL` → `store`, `url`. A provider's name has no `_` but may have `--`, so it ends at the last `__`.
fn key_path(name: &str) -> Vec<String> {
    let name = name.to_ascii_lowercase();
    match name.strip_prefix("providers__") {
        Some(rest) => {
            let (provider, key) = rest.rsplit_once("__").map_or((rest, None), |(provider, key)| (provider, Some(key)));
            ["providers".to_owned(), provider.replace('_', "-")].into_iter().chain(key.map(str::to_owned)).collect()
        }
        None => name.split("__").map(str::to_owned).collect(),
    }
}

/// False if the path leads through something that is not a table.
fn insert(entries: &mut Entries, path: &[String], node: Node) -> bool {
    match path {
        [] => false,
        [key] => {
            entries.insert(key.clone(), node);
            true
        }
        [key, rest @ ..] => match entries.entry(key.clone()).or_insert_with(|| Node::Table(Entries::new())) {
            Node::Table(inner) => insert(inner, rest, node),
            _ => false,
        },
    }
}

/// Kubernetes gives every pod variables about each service near it; a service called `anteroom` must not stop us.
fn is_service_link(name: &str, text: &str) -> bool {
    let links_port = |port: &str| port.starts_with(|first: char| first.is_ascii_digit()) && port.contains("_TCP");
    let is_link = name.ends_with("SERVICE_HOST")
        || name.ends_with("SERVICE_PORT")
        || name.contains("SERVICE_PORT_")
        || name.split("PORT_").skip(1).any(links_port)
        || name.ends_with("PORT") && text.contains("://");
    is_link && !name.contains("__")
}

/// Line and column, both from 1, the column in characters.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
    (before.matches('\n').count() + 1, column)
}
