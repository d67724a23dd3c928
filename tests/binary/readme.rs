//! What the README promises is so.

use std::collections::BTreeSet;
use std::path::Path;

use anteroom::config::Config;
use reqwest::Method;
use serde_json::{Map, Value};

use super::demo::Demo;
use super::service::{Service, TempFile, answer, text};
use super::{client_of, provider};

const README: &str = include_str!("../../README.md");

/// A fenced block.
struct Block {
    language: &'static str,
    text: String,
}

/// A `curl` command, with the shell's quotes resolved.
struct Curl {
    method: Method,
    url: String,
    headers: Vec<(String, String)>,
    body: String,
}

#[tokio::test]
async fn the_sign_in_with_curl_is_as_described() {
    let demo = Demo::start().await;
    let blocks = blocks(section("One sign-in with curl"));
    let mut variables = vec![("http://127.0.0.1:8080", demo.service.url.clone())];
    let mut steps = 0;
    for (index, block) in blocks.iter().enumerate().filter(|(_, block)| block.language == "sh") {
        let curl = Curl::read(&block.text, &variables);
        let mut request = demo.service.request(curl.method, curl.url.strip_prefix(&demo.service.url).unwrap()).body(curl.body);
        for (name, value) in curl.headers {
            request = request.header(name, value);
        }
        let answered = answer(request).await;
        assert!(answered.status.is_success(), "{}: {}", block.text, answered.body);
        match blocks.get(index + 1).filter(|next| next.language == "json") {
            Some(documented) => assert_described(&answered.body, &documented.text),
            None => assert_eq!(answered.body, Value::Null, "the answer to {} is not shown", block.text),
        }
        if steps == 0 {
            variables.extend([("$ID", text(&answered.body, "id")), ("$SECRET", text(&answered.body, "secret"))]);
            demo.press("approve", &text(&answered.body, "user_code")).await;
        }
        steps += 1;
    }
    assert_eq!(steps, 4);
}

#[test]
fn the_sample_configuration_loads() {
    let samples: Vec<Block> = blocks(section("Configuration")).into_iter().filter(|block| block.language == "toml").collect();
    assert!(!samples.is_empty());
    for Block { text, .. } in samples {
        let file = TempFile::new(&text);
        let config = Config::load(Some(Path::new(file.path())), std::iter::empty()).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(config.providers.len(), 2);
        assert!(!config.is_open());
    }
}

/// What the proxy sends on is answered: it names the public host, and comes from loopback.
#[tokio::test]
async fn the_proxy_of_the_example_gets_through() {
    let samples = blocks(section("TLS"));
    let sample = |language| &samples.iter().find(|block| block.language == language).unwrap_or_else(|| panic!("no {language}")).text;
    let (nginx, ours) = (sample("nginx"), sample("toml"));
    let value = |name: &str| nginx.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_suffix(';')).unwrap().trim();
    assert!(value("proxy_pass").contains("//127.0.0.1:") && nginx.contains("proxy_set_header Host $host;"));
    let provider = provider().await;
    let service = Service::start(&format!("{ours}{}", client_of(&provider))).await;
    let begin = |host: &str| {
        let request = service.request(Method::POST, "/sessions").header("Host", host).header("Sec-Fetch-Site", "same-site");
        request.header("Origin", format!("https://{host}")).header("X-Forwarded-For", "198.51.100.7")
    };
    assert_eq!(answer(begin(value("server_name"))).await.status, 201);
    assert_eq!(answer(begin("rebound.example")).await.problem(), (421, "misdirected_request"));
}

#[test]
fn every_endpoint_is_listed_and_no_other() {
    let listed: BTreeSet<String> =
        section("Endpoints").lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned())).collect();
    let description: Value = yaml_serde::from_str(include_str!("../../openapi.yaml")).unwrap();
    let is_method = |name: &str| matches!(name, "get" | "post" | "put" | "patch" | "delete");
    let operations = description["paths"].as_object().unwrap().iter().flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().keys().filter(|name| is_method(name));
        methods.map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    assert_eq!(listed, operations.collect());
}

#[test]
fn what_it_links_to_exists() {
    let local: Vec<&str> = README.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(to, _)| to).collect();
    for to in local.into_iter().filter(|to| !to.starts_with("https://")) {
        let exists = match to.strip_prefix('#') {
            Some(anchor) => {
                README.lines().any(|line| line.strip_prefix("## ").is_some_and(|title| title.to_lowercase().replace(' ', "-") == anchor))
            }
            None => Path::new(env!("CARGO_MANIFEST_DIR")).join(to).exists(),
        };
        assert!(exists, "there is no {to}");
    }
}

/// The same members, and the status that is promised.
fn assert_described(answered: &Value, documented: &str) {
    let documented: Map<String, Value> = serde_json::from_str(documented).unwrap();
    let members = |object: &Map<String, Value>| object.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(members(answered.as_object().unwrap()), members(&documented));
    assert_eq!(answered.get("status"), documented.get("status"));
}

fn section(title: &str) -> &'static str {
    let (_, rest) = README.split_once(&format!("\n## {title}\n")).unwrap_or_else(|| panic!("there is no section {title}"));
    rest.split("\n## ").next().unwrap()
}

fn blocks(text: &'static str) -> Vec<Block> {
    let fenced = text.split("```").skip(1).step_by(2);
    fenced.map(|block| block.split_once('\n').unwrap()).map(|(language, text)| Block { language, text: text.to_owned() }).collect()
}

impl Curl {
    fn read(command: &str, variables: &[(&str, String)]) -> Self {
        let expand = |text: &str| variables.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
        let mut words = words(&command.replace("\\\n", " ")).into_iter().map(|word| expand(&word));
        assert_eq!(words.next().as_deref(), Some("curl"));
        let mut curl = Self { method: Method::GET, url: String::new(), headers: Vec::new(), body: String::new() };
        while let Some(word) = words.next() {
            match word.as_str() {
                "-X" => curl.method = words.next().unwrap().parse().unwrap(),
                "-H" => {
                    curl.headers.extend(words.next().unwrap().split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned())))
                }
                "-d" => curl.body = words.next().unwrap(),
                option if option.starts_with('-') => panic!("what does curl do with {option}?"),
                _ => curl.url = word,
            }
        }
        curl
    }
}

/// Splits at spaces outside of quotes, and takes the quotes off.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut quote) = (vec![String::new()], None);
    for char in command.trim().chars() {
        match (quote, char) {
            (None, '\'' | '"') => quote = Some(char),
            (Some(open), _) if open == char => quote = None,
            (None, char) if char.is_whitespace() => words.push(String::new()),
            (_, char) => words.last_mut().unwrap().push(char),
        }
    }
    assert_eq!(quote, None, "a quote is open in {command}");
    words.retain(|word| !word.is_empty());
    words
}
