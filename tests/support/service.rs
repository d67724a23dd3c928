//! The shipped binary as a child process, and its HTTP API as the programs of others use it.
#![allow(dead_code, reason = "every test binary uses its own part")]

use std::future::Future;
use std::io::{BufRead, BufReader, Read};
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
    #[expect(dead_code, reason = "is there as long as the service")]
    configuration: Option<TempFile>,
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

/// A folder in the build directory; removed on drop.
pub struct Folder(pub PathBuf);

/// For what should take seconds at most, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

impl Service {
    /// `configuration` is all but the listeners.
    pub async fn start(configuration: &str) -> Self {
        Self::start_logging("info", configuration).await
    }

    /// `filter` is that of `--log`.
    pub async fn start_logging(filter: &str, configuration: &str) -> Self {
        let file = TempFile::new(&format!("listen = \"127.0.0.1:0\"\nadmin_listen = \"\"\n{configuration}"));
        let program = Program::start(&["serve", "--log", filter, "--config", file.path()]);
        Self { configuration: Some(file), ..Self::of(program).await }
    }

    /// Of a program that serves already, or will soon.
    pub async fn of(program: Program) -> Self {
        let url = program.stderr_after("listening on ").await;
        Self { program, url, http: client(), configuration: None }
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
        self.resume(&created.body)
    }

    /// The sign-in that was answered with `begun`, here or by the service before this one.
    pub fn resume(&self, begun: &Value) -> SignIn<'_> {
        SignIn { service: self, id: text(begun, "id"), secret: text(begun, "secret"), begun: begun.clone() }
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
        Self::start_in(&[], arguments)
    }

    /// With these variables of ours.
    pub fn start_in(environment: &[(&str, &str)], arguments: &[&str]) -> Self {
        Self::start_read(command(environment, arguments), |_| false)
    }

    /// May have so many files open, connections among them.
    pub fn start_with_files(files: u32, arguments: &[&str]) -> Self {
        let plain = command(&[], arguments);
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\"")]).arg(plain.get_program()).args(plain.get_args());
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(env!("CARGO_TARGET_TMPDIR")).stdin(Stdio::null());
        Self::start_read(command, |_| false)
    }

    /// Where `resolv_conf` is the system's, in a mount namespace of its own. None where that is not permitted.
    pub fn start_resolving(resolv_conf: &str, arguments: &[&str]) -> Option<Self> {
        let mount = format!("mount --bind {resolv_conf} /etc/resolv.conf");
        let tried = Command::new("unshare").args(["--mount", "sh", "-c", &mount]).stderr(Stdio::null()).status();
        if !tried.is_ok_and(|status| status.success()) {
            return None;
        }
        let plain = command(&[], arguments);
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &format!("{mount} && exec \"$0\" \"$@\"")]);
        command.arg(plain.get_program()).args(plain.get_args());
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(env!("CARGO_TARGET_TMPDIR")).stdin(Stdio::null());
        Some(Self::start_read(command, |_| false))
    }

    /// After a line with `mark` in it nobody reads on, and the pipe fills up.
    pub fn start_read_until(mark: &'static str, arguments: &[&str]) -> Self {
        Self::start_read(command(&[], arguments), move |line| line.contains(mark))
    }

    /// Not as the others are run.
    pub fn start_command(command: Command) -> Self {
        Self::start_read(command, |_| false)
    }

    fn start_read(mut command: Command, is_last: impl Fn(&str) -> bool + Send + 'static) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, receiver) = watch::channel(Vec::new());
        std::thread::spawn(move || {
            for line in stderr.by_ref().lines().map_while(Result::ok) {
                let is_last = is_last(&line);
                sender.send_modify(|lines| lines.push(line));
                if is_last {
                    // Never closed, so that it fills up instead of breaking.
                    std::mem::forget(stderr);
                    break;
                }
            }
        });
        Self { child, stderr: receiver }
    }

    /// Nobody will read what it writes.
    pub fn start_unread(arguments: &[&str]) -> Self {
        let mut child = command(&[], arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop((child.stdout.take(), child.stderr.take()));
        Self { child, stderr: watch::channel(Vec::new()).1 }
    }

    /// Runs to its end.
    pub async fn run(arguments: &[&str]) -> Output {
        Self::run_in(&[], arguments).await
    }

    pub async fn run_in(environment: &[(&str, &str)], arguments: &[&str]) -> Output {
        let mut command = command(environment, arguments);
        within(tokio::task::spawn_blocking(move || command.output())).await.unwrap().unwrap()
    }

    /// All of stderr so far.
    pub fn stderr(&self) -> Vec<String> {
        self.stderr.borrow().clone()
    }

    /// Waits until stderr is as wanted.
    pub async fn stderr_until(&self, wanted: impl FnMut(&Vec<String>) -> bool) {
        let is_open = within(self.stderr.clone().wait_for(wanted)).await.is_ok();
        assert!(is_open, "it ended, and had said {:#?}", self.stderr());
    }

    /// Waits for a line of stderr that has `mark` in it, and gives what follows in that line.
    pub async fn stderr_after(&self, mark: &str) -> String {
        let after = |lines: &[String]| lines.iter().find_map(|line| Some(line.split_once(mark)?.1.to_owned()));
        self.stderr_until(|lines| after(lines).is_some()).await;
        after(&self.stderr()).unwrap()
    }

    /// `TERM` or `INT`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Once all it said has been read.
    pub async fn exit(&mut self) -> ExitStatus {
        within(async {
            while self.stderr.changed().await.is_ok() {}
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

impl Folder {
    pub fn new() -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(uuid::Uuid::new_v4().to_string());
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
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

/// The binary, in a directory without an anteroom.toml, and with no variables of ours but these.
fn command(environment: &[(&str, &str)], arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_anteroom"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ANTEROOM_")) {
        command.env_remove(name);
    }
    // The default store is one file in the working folder, which one process at a time may use. The environment wins over a file.
    let chosen_in_file = arguments.iter().any(|path| std::fs::read_to_string(path).is_ok_and(|file| file.contains("sqlite://")));
    if !chosen_in_file && !environment.iter().any(|(name, _)| name.starts_with("ANTEROOM_STORE")) {
        command.env("ANTEROOM_STORE__URL", "memory:");
    }
    command.envs(environment.iter().copied()).args(arguments).current_dir(env!("CARGO_TARGET_TMPDIR")).stdin(Stdio::null());
    command
}

fn client() -> reqwest::Client {
    let redirect = reqwest::redirect::Policy::none();
    reqwest::Client::builder().no_proxy().redirect(redirect).timeout(PATIENCE).build().unwrap()
}
