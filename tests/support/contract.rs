//! Holds answers against `openapi.yaml`: path, method, status, required headers, media type and body.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use axum::http::{HeaderMap, Method, StatusCode, header};
use serde_json::{Value, json};

pub struct Contract {
    document: Value,
}

/// One line of the contract: this operation may answer with this status.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Promise {
    pub path: String,
    pub method: String,
    pub status: u16,
}

impl Contract {
    pub fn get() -> &'static Self {
        static CONTRACT: LazyLock<Contract> =
            LazyLock::new(|| Contract { document: yaml_serde::from_str(anteroom::http::OPENAPI).expect("openapi.yaml is YAML") });
        &CONTRACT
    }

    pub fn document(&self) -> &Value {
        &self.document
    }

    pub fn paths(&self) -> Vec<&str> {
        self.document["paths"].as_object().expect("paths").keys().map(String::as_str).collect()
    }

    /// The methods of a path as it is written in the description, upper case.
    pub fn methods(&self, path: &str) -> BTreeSet<String> {
        let item = self.document["paths"][path].as_object().expect("a path");
        item.keys().filter(|key| *key != "parameters").map(|method| method.to_uppercase()).collect()
    }

    pub fn promises(&self) -> BTreeSet<Promise> {
        let mut promises = BTreeSet::new();
        for path in self.paths() {
            for method in self.methods(path) {
                let responses = self.operation(path, &method).expect("an operation")["responses"].as_object().expect("responses");
                promises.extend(responses.keys().map(|status| Promise {
                    path: path.to_owned(),
                    method: method.clone(),
                    status: status.parse().expect("a status"),
                }));
            }
        }
        promises
    }

    /// # Panics
    /// When the answer to `method` on `path` (as requested, without query) is not one that the description allows.
    #[track_caller]
    pub fn check(&self, method: &Method, path: &str, status: StatusCode, headers: &HeaderMap, body: &[u8]) {
        if let Err(breach) = self.breach(method, path, status, headers, body) {
            panic!("{method} {path} answered {status} against openapi.yaml: {breach}\n{}", String::from_utf8_lossy(body));
        }
    }

    /// # Errors
    /// What is wrong with `value`.
    pub fn validate(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let root = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "allOf": [schema],
            "components": self.document["components"],
        });
        let validator = jsonschema::options().should_validate_formats(true).build(&root).map_err(|error| error.to_string())?;
        let errors: Vec<_> = validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
        if errors.is_empty() { Ok(()) } else { Err(errors.join("\n")) }
    }

    /// What a `$ref` leads to, or the value itself.
    pub fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value.get("$ref").and_then(Value::as_str) {
            Some(pointer) => self.document.pointer(pointer.trim_start_matches('#')).expect("a reference leads somewhere"),
            None => value,
        }
    }

    fn breach(&self, method: &Method, path: &str, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Result<(), String> {
        let described = if method == Method::HEAD { "GET" } else { method.as_str() };
        let Some(template) = self.paths().into_iter().find(|template| fits(template, path)) else {
            return self.problem(status, headers, body, 404, "not_found");
        };
        let Some(operation) = self.operation(template, described) else {
            // What CORS asks beforehand is no operation of ours.
            let is_preflight = method == Method::OPTIONS && status == StatusCode::OK;
            return if is_preflight { Ok(()) } else { self.problem(status, headers, body, 405, "method_not_allowed") };
        };
        let response = operation["responses"].get(status.as_str()).ok_or("status not described")?;
        let response = self.resolve(response);
        self.check_headers(response, headers)?;
        let Some(content) = response.get("content") else {
            let is_bare = body.is_empty() && !headers.contains_key(header::CONTENT_TYPE);
            return if is_bare { Ok(()) } else { Err("body not described".into()) };
        };
        let media = media_type(headers);
        let schema = &content.get(media).ok_or_else(|| format!("media type {media:?} not described"))?["schema"];
        if method == Method::HEAD {
            return if body.is_empty() { Ok(()) } else { Err("an answer to HEAD has a body".into()) };
        }
        let body = if media.ends_with("json") {
            serde_json::from_slice(body).map_err(|error| error.to_string())?
        } else if media == "image/png" {
            // JSON Schema has no bytes; `format: binary` says that much.
            Value::String(String::new())
        } else {
            Value::String(String::from_utf8(body.to_vec()).map_err(|error| error.to_string())?)
        };
        self.validate(schema, &body)
    }

    fn operation(&self, template: &str, method: &str) -> Option<&Value> {
        self.document["paths"][template].get(method.to_lowercase())
    }

    fn check_headers(&self, response: &Value, headers: &HeaderMap) -> Result<(), String> {
        for (name, described) in response.get("headers").and_then(Value::as_object).into_iter().flatten() {
            let described = self.resolve(described);
            let values: Vec<_> = headers.get_all(name).iter().collect();
            match values.as_slice() {
                [] if described["required"] == true => return Err(format!("header {name} is missing")),
                [] => {}
                [value] => {
                    let value = value.to_str().map_err(|_| format!("header {name} is not ASCII"))?;
                    self.validate(&described["schema"], &json!(value)).map_err(|error| format!("header {name}: {error}"))?;
                }
                _ => return Err(format!("header {name} is there more than once")),
            }
        }
        Ok(())
    }

    fn problem(&self, status: StatusCode, headers: &HeaderMap, body: &[u8], expected: u16, code: &str) -> Result<(), String> {
        if status.as_u16() != expected || media_type(headers) != "application/problem+json" {
            return Err(format!("not described, so it must be a problem {expected} {code}"));
        }
        if body.is_empty() {
            return Ok(());
        }
        let body: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        self.validate(&json!({"$ref": "#/components/schemas/Problem", "properties": {"code": {"const": code}}}), &body)
    }
}

fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

fn fits(template: &str, path: &str) -> bool {
    let (mut expected, mut actual) = (template.split('/'), path.split('/'));
    loop {
        match (expected.next(), actual.next()) {
            (None, None) => return true,
            (Some(expected), Some(actual)) if expected == actual || (expected.starts_with('{') && !actual.is_empty()) => {}
            _ => return false,
        }
    }
}
