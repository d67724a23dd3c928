//! The shipped binary as a child process, and its HTTP API as the programs of others use it.
#![allow(dead_code, reason = "every test binary uses its own part")]

use std::future::Future;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, ETAG, HeaderMap, IF_NONE_MATCH};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tokio::sync::watch;

/// `anteroom serve`, on a free port, until this is dropped.
pub struct Service {
    pub program: Program,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    http: reqwest::Client,
    _configuration: TempFile,
}

/// One run of the binary; killed on drop.
pub struct Program {
    child: Child,
    stderr: watch::Receiver<Vec<String>>,
}

/// A sign-in, as its owner holds it.
pub struct SignIn<'a> {
    service: &'a Service,
    pub id: String,
    pub secret: String,
    /// The answer to `POST /sessions`.
    pub begun: Value,
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Null where there is no body, or one that is no JSON.
    pub body: Value,
}

/// A file in the build directory; removed on drop.
pub struct TempFile(pub PathBuf);

/// For what should take seconds at most, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

impl Service {
    /// `configuration` lacks the listeners and ends with the providers.
    pub async fn start(configuration: &str) -> Self {
        let file = TempFile::new(&format!("listen = \"127.0.0.1:0\"\nadmin_listen = \"\"\n{configuration}"));
        let program = Program::start(&["serve", "--config", file.path()]);
        let url = program.stderr_after("listening on ").await;
        Self { program, url, http: client(), _configuration: file }
    }

    /// A service for one more binary that listens itself: the demo's.
    pub async fn of(program: Program) -> Self {
        let url = program.stderr_after("listening on ").await;
        Self { program, url, http: client(), _configuration: TempFile::new("") }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    /// `POST /sessions`, whatever comes of it.
    pub async fn create(&self, body: &Value) -> Answer {
        let request = self.request(Method::POST, "/sessions").header(CONTENT_TYPE, "application/json").body(body.to_string());
        answer(request).await
    }

    /// `POST /sessions`, which succeeds.
    pub async fn begin(&self, body: &Value) -> SignIn<'_> {
        let created = self.create(body).await;
        assert_eq!(created.status, StatusCode::CREATED, "{}", created.body);
        let text = |member: &str| text(&created.body, member);
        SignIn { service: self, id: text("id"), secret: text("secret"), begun: created.body }
    }
}

impl SignIn<'_> {
    pub fn user_code(&self) -> &str {
        self.begun["user_code"].as_str().unwrap()
    }

    pub fn verification_uri(&self) -> &str {
        self.begun["verification_uri"].as_str().unwrap()
    }

    pub async fn read(&self) -> Answer {
        answer(self.service.request(Method::GET, &self.path(""))).await
    }

    /// One long poll, up to `seconds`: 200 with news, or 304.
    pub async fn watch(&self, tag: &str, seconds: u64) -> Answer {
        let request = self.service.request(Method::GET, &self.path("")).header(IF_NONE_MATCH, tag);
        answer(request.header("Prefer", format!("wait={seconds}"))).await
    }

    /// Watches until it is no longer pending, and says what it is then.
    pub async fn outcome(&self) -> Value {
        within(async {
            let mut seen = self.read().await;
            while seen.status == StatusCode::NOT_MODIFIED || matches!(seen.body["status"].as_str(), Some("starting" | "pending")) {
                let tag = seen.headers[ETAG].to_str().unwrap().to_owned();
                seen = self.watch(&tag, 30).await;
            }
            assert_eq!(seen.status, StatusCode::OK);
            seen.body
        })
        .await
    }

    /// Without a key: strictly once.
    pub async fn claim(&self) -> Answer {
        answer(self.service.request(Method::POST, &self.path("/claim")).bearer_auth(&self.secret)).await
    }

    pub async fn delete(&self) -> Answer {
        answer(self.service.request(Method::DELETE, &self.path("")).bearer_auth(&self.secret)).await
    }

    fn path(&self, more: &str) -> String {
        format!("/sessions/{}{more}", self.id)
    }
}

impl Answer {
    /// The `code` of a problem document.
    pub fn problem(&self) -> (u16, &str) {
        (self.status.as_u16(), self.body["code"].as_str().unwrap_or_default())
    }
}

impl Program {
    pub fn start(arguments: &[&str]) -> Self {
        let mut child = command(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, receiver) = watch::channel(Vec::new());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                sender.send_modify(|lines| lines.push(line));
            }
        });
        Self { child, stderr: receiver }
    }

    /// Runs to its end.
    pub async fn run(arguments: &[&str]) -> Output {
        let mut command = command(arguments);
        within(tokio::task::spawn_blocking(move || command.output())).await.unwrap().unwrap()
    }

    /// All of stderr so far.
    pub fn stderr(&self) -> Vec<String> {
        self.stderr.borrow().clone()
    }

    /// Waits for a line of stderr that has `mark` in it, and gives what follows.
    pub async fn stderr_after(&self, mark: &str) -> String {
        let after = |lines: &[String]| lines.iter().find_map(|line| Some(line.split_once(mark)?.1.to_owned()));
        let mut stderr = self.stderr.clone();
        let found = within(stderr.wait_for(|lines| after(lines).is_some())).await.ok().and_then(|lines| after(&lines));
        found.unwrap_or_else(|| panic!("it ended without {mark:?}: {:#?}", self.stderr()))
    }

    /// `TERM` or `INT`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub async fn exit(&mut self) -> ExitStatus {
        within(async {
            let mut tick = tokio::time::interval(Duration::from_millis(10));
            loop {
                tick.tick().await;
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
            }
        })
        .await
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails only for a process that has ended, which is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl TempFile {
    pub fn new(content: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(uuid::Uuid::new_v4().to_string());
        std::fs::write(&path, content).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Sends a request and reads the whole answer.
pub async fn answer(request: RequestBuilder) -> Answer {
    let response: Response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    Answer { status, headers, body: serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default() }
}

/// Fails a test that would hang.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it did not happen within 60 s")
}

pub fn text(body: &Value, member: &str) -> String {
    body[member].as_str().unwrap_or_else(|| panic!("no {member} in {body}")).to_owned()
}

/// The binary, in a directory without an anteroom.toml and with none of our variables.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_anteroom"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ANTEROOM_")) {
        command.env_remove(name);
    }
    command.args(arguments).current_dir(env!("CARGO_TARGET_TMPDIR")).stdin(Stdio::null());
    command
}

fn client() -> reqwest::Client {
    let redirect = reqwest::redirect::Policy::none();
    reqwest::Client::builder().no_proxy().redirect(redirect).timeout(PATIENCE).build().unwrap()
}
