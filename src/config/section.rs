//! Reading one table of the configuration. A key is known because somebody took it; [`Section::finish`] reports the others.

use std::cell::RefCell;
use std::num::NonZeroU32;

use toml::Value;

use super::source::{Entries, Node, entries, variable_name};

/// Lines for the operator. They name keys and never repeat a value.
#[derive(Default)]
pub(super) struct Errors {
    lines: RefCell<Vec<String>>,
    /// What is no error, and should be otherwise all the same.
    warnings: RefCell<Vec<String>>,
}

pub(super) struct Section<'a> {
    path: String,
    entries: Entries,
    known: Vec<&'static str>,
    errors: &'a Errors,
}

/// A key that is there. Every way to read it reports what is wrong and then gives `None`.
pub(super) struct Entry<'a> {
    path: String,
    node: Node,
    errors: &'a Errors,
}

impl Errors {
    pub fn push(&self, at: &str, message: &str) {
        self.lines.borrow_mut().push(format!("{at}: {message}"));
    }

    /// The errors, and the warnings.
    pub fn into_lines(self) -> (Vec<String>, Vec<String>) {
        (self.lines.into_inner(), self.warnings.into_inner())
    }
}

impl<'a> Section<'a> {
    pub fn root(entries: Entries, errors: &'a Errors) -> Self {
        Self::new(String::new(), entries, errors)
    }

    pub fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    pub fn take(&mut self, key: &'static str) -> Option<Entry<'a>> {
        self.known.push(key);
        let node = self.entries.remove(key)?;
        Some(Entry { path: self.path_of(key), node, errors: self.errors })
    }

    /// As [`Self::take`], but a key that is not there is reported.
    pub fn need(&mut self, key: &'static str) -> Option<Entry<'a>> {
        let entry = self.take(key);
        if entry.is_none() {
            let path = self.path_of(key);
            let variable = match path.split_once('[') {
                Some((array, _)) => format!("in {}", variable_name(array)),
                None => format!("as {}", variable_name(&path)),
            };
            self.report(key, &format!("is missing; set it here or {variable}"));
        }
        entry
    }

    /// The table behind a key; an empty one where there is none.
    pub fn section(&mut self, key: &'static str) -> Section<'a> {
        let path = self.path_of(key);
        let entries = self.take(key).and_then(Entry::table).unwrap_or_default();
        Section::new(path, entries, self.errors)
    }

    /// The tables in the table behind a key by name, which is the operator's to choose; `None` for what is no table.
    pub fn sections(&mut self, key: &'static str) -> Vec<(String, Option<Section<'a>>)> {
        let mut section = self.section(key);
        let entries = std::mem::take(&mut section.entries);
        let named = |(name, node): (String, Node)| {
            let path = section.path_of(&name);
            let entries = Entry { path: path.clone(), node, errors: section.errors }.table();
            (name, entries.map(|entries| Section::new(path, entries, section.errors)))
        };
        entries.into_iter().map(named).collect()
    }

    /// The tables of the array behind a key.
    pub fn tables(&mut self, key: &'static str) -> Vec<Section<'a>> {
        self.take(key).and_then(Entry::tables).unwrap_or_default()
    }

    pub fn report(&self, key: &str, message: &str) {
        self.errors.push(&self.path_of(key), message);
    }

    pub fn warn(&self, key: &str, message: &str) {
        self.errors.warnings.borrow_mut().push(format!("{}: {message}", self.path_of(key)));
    }

    /// Reports what the section itself, not one of its keys, has wrong.
    pub fn report_self(&self, message: &str) {
        self.errors.push(&self.path, message);
    }

    /// Reports the keys that nobody took.
    pub fn finish(self) {
        for (key, node) in &self.entries {
            let hint = nearest(key, &self.known).map(|known| format!("; did you mean `{known}`?")).unwrap_or_default();
            self.errors.push(&located(&self.path_of(key), node), &format!("unknown key{hint}"));
        }
    }

    fn new(path: String, entries: Entries, errors: &'a Errors) -> Self {
        Self { path, entries, known: Vec::new(), errors }
    }

    fn path_of(&self, key: &str) -> String {
        let is_bare = !key.is_empty() && key.chars().all(|char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-' | '.'));
        let key = if is_bare { key.to_owned() } else { format!("{key:?}") };
        if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }
    }
}

impl<'a> Entry<'a> {
    /// A string in the file, or a variable's text just as it is. `read` says what is wrong with it.
    pub fn text<T>(self, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let result = match &self.node {
            Node::Value(Value::String(text)) | Node::Text { text, .. } => read(text),
            Node::Value(_) | Node::Table(_) => Err("expected a string in quotes".to_owned()),
        };
        self.settle(result)
    }

    pub fn boolean(self) -> Option<bool> {
        let result = match self.literal() {
            Some(Value::Boolean(value)) => Ok(value),
            _ => Err("expected true or false".to_owned()),
        };
        self.settle(result)
    }

    /// A whole number from 1 on.
    pub fn whole<T: TryFrom<i64>>(self) -> Option<T> {
        let result = match self.literal() {
            Some(Value::Integer(number)) if number >= 1 => T::try_from(number).map_err(|_| "is too large".to_owned()),
            _ => Err("expected a whole number, 1 or more".to_owned()),
        };
        self.settle(result)
    }

    /// As [`Self::whole`], for what counts without zero.
    pub fn count(self) -> Option<NonZeroU32> {
        self.whole().and_then(NonZeroU32::new)
    }

    /// An array of strings, each of which `read` accepts.
    pub fn texts<T>(self, read: impl Fn(&str) -> Result<T, String>) -> Option<Vec<T>> {
        let expected = || "expected an array of strings, such as [\"a\", \"b\"]".to_owned();
        let one = |item: &Value| read(item.as_str().ok_or_else(expected)?);
        let result = match self.literal() {
            Some(Value::Array(items)) => items.iter().map(one).collect(),
            _ => Err(expected()),
        };
        self.settle(result)
    }

    /// One string, or an array of them. In the environment what begins with `[` is an array.
    pub fn text_or_texts<T>(self, read: impl Fn(&str) -> Result<T, String>) -> Option<Vec<T>> {
        let is_array = match &self.node {
            Node::Value(value) => value.is_array(),
            Node::Text { text, .. } => text.trim_start().starts_with('['),
            Node::Table(_) => false,
        };
        if is_array { self.texts(read) } else { self.text(|text| Ok(vec![read(text)?])) }
    }

    fn table(self) -> Option<Entries> {
        match self.node {
            Node::Table(entries) => Some(entries),
            node => {
                self.errors.push(&located(&self.path, &node), "expected a table of keys; in the environment set its keys one by one");
                None
            }
        }
    }

    fn tables(self) -> Option<Vec<Section<'a>>> {
        let section = |(index, item)| match item {
            Value::Table(table) => Some(Section::new(format!("{}[{index}]", self.path), entries(table), self.errors)),
            _ => None,
        };
        let sections = match self.literal() {
            Some(Value::Array(items)) => items.into_iter().enumerate().map(section).collect(),
            _ => None,
        };
        let expected = format!("expected [[{0}]] tables; in the environment an array such as [{{ key = \"value\" }}]", self.path);
        self.settle(sections.ok_or(expected))
    }

    fn literal(&self) -> Option<Value> {
        match &self.node {
            Node::Value(value) => Some(value.clone()),
            Node::Text { text, .. } => text.trim().parse().ok(),
            Node::Table(_) => None,
        }
    }

    fn settle<T>(&self, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.errors.push(&located(&self.path, &self.node), &message)).ok()
    }
}

/// The key, and the variable where the value came from there.
fn located(path: &str, node: &Node) -> String {
    match node {
        Node::Text { variable, .. } => format!("{path} ({variable})"),
        Node::Value(_) | Node::Table(_) => path.to_owned(),
    }
}

/// The known key that was probably meant: at most a third of it mistyped.
fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let distances = known.iter().map(|known| (distance(key, known), *known));
    distances.filter(|(distance, known)| *distance <= known.len().div_ceil(3)).min().map(|(_, known)| known)
}

/// Levenshtein's: how many characters to insert, delete or replace.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (index, from) in from.chars().enumerate() {
        let mut left = index + 1;
        let mut next = vec![left];
        for (pair, to) in row.windows(2).zip(to.chars()) {
            if let [diagonal, above] = pair {
                left = (left + 1).min(above + 1).min(diagonal + usize::from(from != to));
                next.push(left);
            }
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}
