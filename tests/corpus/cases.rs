//! The data: `tests/corpus/<provider>/cases.toml`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::server::Received;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Folder {
    #[serde(skip)]
    pub name: String,
    /// The provider's section of the configuration.
    pub keys: BTreeMap<String, toml::Value>,
    /// What is asked for.
    #[serde(default)]
    pub scope: String,
    /// The provider's metadata; `{issuer}` is its issuer without a slash at the end, `{exact_issuer}` the issuer.
    pub discovery: Option<String>,
    pub device: Asked,
    pub poll: Asked,
    pub revoke: Option<Asked>,
}

/// One request, and the answers that it may get.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    pub request: Request,
    pub case: Vec<Case>,
}

/// What must be sent, exactly. `*` is any value.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The path, and the query if there is one.
    pub path: String,
    pub form: Option<BTreeMap<String, String>>,
    pub json: Option<BTreeMap<String, String>>,
    /// The `Authorization` header; absent: there must be none.
    pub authorization: Option<String>,
}

#[derive(Clone, Deserialize)]
pub struct Case {
    pub is: String,
    #[serde(flatten)]
    pub answer: Answer,
    pub gives: Gives,
}

/// What the provider answers.
#[derive(Clone, Deserialize)]
pub struct Answer {
    #[serde(default)]
    pub status: u16,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    #[serde(default)]
    pub body: String,
    #[serde(default)]
    pub framing: Framing,
}

/// How the answer's end is told, or that it has none.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    #[default]
    ContentLength,
    Chunked,
    /// The connection closes behind it.
    Close,
    /// Half of what was promised, then the connection closes.
    Half,
    /// Not a byte: the connection closes.
    Nothing,
    /// Not a byte, and the connection stays open.
    Silence,
}

/// What the client must make of it: a word, or a word (`is`) and what comes with it. Members that are not listed may be there.
#[derive(Clone, Deserialize, Debug)]
#[serde(untagged)]
pub enum Gives {
    Word(String),
    Table(BTreeMap<String, toml::Value>),
}

/// What the client made of it.
#[derive(Clone, Debug)]
pub struct Said {
    word: String,
    members: BTreeMap<&'static str, String>,
}

pub fn folders() -> Vec<Folder> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut folders = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(path.join("cases.toml")).unwrap_or_else(|error| panic!("{name}: {error}"));
        let folder: Folder = toml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        folders.push(Folder { name, ..folder });
    }
    folders.sort_by(|a, b| a.name.cmp(&b.name));
    folders
}

/// As it is written, without quotes.
pub fn literal(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Boolean(value) => value.to_string(),
        _ => panic!("a string, a whole number, true or false"),
    }
}

impl Gives {
    pub fn is_met_by(&self, said: &Said) -> bool {
        match self {
            Self::Word(word) => *word == said.word,
            Self::Table(members) => members.iter().all(|(name, value)| {
                let expected = literal(value);
                match name.as_str() {
                    "is" => said.word == expected,
                    // Absence can be expected too.
                    name => said.members.get(name).map_or(expected == "none", |actual| *actual == expected),
                }
            }),
        }
    }
}

impl Said {
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.members.insert(name, value.to_string());
        self
    }
}

impl From<&str> for Said {
    fn from(word: &str) -> Self {
        Self { word: word.to_owned(), members: BTreeMap::new() }
    }
}

impl Request {
    /// What is not as it must be.
    pub fn difference(&self, received: &Received) -> Option<String> {
        let (expected, encoding) = match (&self.form, &self.json) {
            (Some(form), None) => (form, "application/x-www-form-urlencoded"),
            (None, Some(json)) => (json, "application/json"),
            _ => return Some("the case must have form or json".to_owned()),
        };
        let line = format!("POST {}", self.path);
        if received.line != line {
            return Some(format!("expected {line}, got {}", received.line));
        }
        if received.header("content-type") != Some(encoding) || received.header("accept") != Some("application/json") {
            return Some(format!("content type and accept are {:?}", received.headers));
        }
        if received.header("authorization") != self.authorization.as_deref() {
            return Some(format!("authorization is {:?}", received.header("authorization")));
        }
        let is_equal = |(name, value): (&String, &String)| received.members.get(name).is_some_and(|actual| value == "*" || actual == value);
        let all = expected.iter().all(is_equal) && expected.len() == received.members.len();
        (!all).then(|| format!("expected {expected:?}, got {:?}", received.members))
    }
}
