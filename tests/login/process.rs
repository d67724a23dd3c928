//! The program as a child: what it says, how it ends, and the demo that it signs in at.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

use serde_json::Value;

use crate::{SOON, http};

/// Text that grows while a child writes it.
#[derive(Clone, Default)]
pub struct Transcript(Arc<(Mutex<Text>, Condvar)>);

#[derive(Default)]
struct Text {
    written: String,
    is_complete: bool,
}

pub struct Program {
    child: Child,
    pub stdout: Transcript,
    pub stderr: Transcript,
}

/// `anteroom demo`.
pub struct Demo {
    program: Program,
    pub address: String,
    provider: String,
}

pub fn anteroom() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_anteroom"));
    for name in ["ANTEROOM_KEY", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"] {
        command.env_remove(name);
    }
    command
}

/// `anteroom login` at `url`, with more options separated by spaces.
pub fn login(url: &str, more: &str) -> Command {
    let mut command = anteroom();
    command.args(["login", "--url", url]).args(more.split_whitespace());
    command
}

impl Transcript {
    fn collect(mut reader: impl Read + Send + 'static) -> Self {
        let transcript = Self::default();
        let writer = transcript.clone();
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            loop {
                let read = reader.read(&mut chunk).unwrap_or(0);
                let (text, changed) = &*writer.0;
                let mut text = text.lock().unwrap();
                text.written.push_str(&String::from_utf8_lossy(&chunk[..read]));
                text.is_complete = read == 0;
                changed.notify_all();
                if read == 0 {
                    return;
                }
            }
        });
        transcript
    }

    /// The first line that `wanted` finds something in.
    pub fn find<T>(&self, what: &str, wanted: impl Fn(&str) -> Option<T>) -> T {
        let (text, changed) = &*self.0;
        let (mut text, deadline) = (text.lock().unwrap(), Instant::now() + SOON);
        loop {
            let complete_lines = text.written.rfind('\n').map_or("", |end| &text.written[..end]);
            if let Some(found) = complete_lines.lines().find_map(&wanted) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!text.is_complete && !left.is_zero(), "no {what} in: {}", text.written);
            text = changed.wait_timeout(text, left).unwrap().0;
        }
    }

    pub fn wait_for(&self, part: &str) {
        self.find(part, |line| line.contains(part).then_some(()));
    }

    /// What follows `before` in its line.
    pub fn after(&self, before: &str) -> String {
        self.find(before, |line| line.split_once(before).map(|(_, rest)| rest.to_owned()))
    }

    /// The line in JSON with this `event`.
    pub fn event(&self, event: &str) -> Value {
        self.find(event, |line| serde_json::from_str::<Value>(line).ok().filter(|line| line["event"] == event))
    }

    /// All of it, once the child has closed it.
    pub fn complete(&self) -> String {
        let (text, changed) = &*self.0;
        let (text, timeout) = changed.wait_timeout_while(text.lock().unwrap(), SOON, |text| !text.is_complete).unwrap();
        assert!(!timeout.timed_out(), "still open: {}", text.written);
        text.written.clone()
    }
}

impl Program {
    pub fn start(mut command: Command) -> Self {
        command.stdout(Stdio::piped());
        Self::start_with_stdout_as_it_is(command)
    }

    pub fn start_with_stdout_as_it_is(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().map(Transcript::collect).unwrap_or_default();
        let stderr = Transcript::collect(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    pub fn login(url: &str, more: &str) -> Self {
        Self::start(login(url, more))
    }

    pub fn send(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// The exit status, once it has ended by itself.
    pub fn exit(&mut self) -> Option<i32> {
        let stderr = self.stderr.complete();
        let status = self.child.wait().unwrap();
        status.code().or_else(|| panic!("{status}: {stderr}"))
    }

    fn kill(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Demo {
    pub fn start() -> Self {
        Self::start_at("0")
    }

    fn start_at(port: &str) -> Self {
        let mut command = anteroom();
        command.args(["demo", "--provider-port", "0", "--port", port]);
        let program = Program::start(command);
        let provider = program.stderr.after("  the provider  ").split(' ').next().unwrap().to_owned();
        let address = program.stderr.after("listening on http://");
        Self { program, address, provider }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Another one in its place, which knows nothing of this one's sessions.
    pub fn kill_and_start_again(mut self) -> Self {
        self.program.kill();
        Self::start_at(self.address.rsplit(':').next().unwrap())
    }

    /// Presses a button on the provider's page.
    pub async fn press(&self, action: &str, user_code: &str) {
        let form = [("user_code", user_code), ("action", action)];
        let status = http().post(&self.provider).form(&form).send().await.unwrap().status();
        assert_eq!(status, 303, "{action}");
    }

    pub async fn session(&self, id: &str) -> Value {
        let body = http().get(format!("{}/sessions/{id}", self.url())).send().await.unwrap().bytes().await.unwrap();
        serde_json::from_slice(&body).unwrap()
    }
}
