//! The shipped binary as a child process, and how to break it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use reqwest::{Client, Method};
use serde_json::Value;

use crate::scratch::Scratch;

pub struct Service {
    child: Child,
    base: String,
    http: Client,
}

/// The answer's status and its body as JSON; `None`: there was none, so nobody knows what was done.
pub type Answer = Option<(u16, Value)>;

/// For the whole test binary.
fn shim() -> &'static Path {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    SHIM.get_or_init(|| {
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("faults-{}.so", std::process::id()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kills/faults.c");
        let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl").status();
        assert!(built.expect("a C compiler; the service itself needs one to be built").success());
        library
    })
}

/// Writes the configuration of a service with its database in `scratch`, for one provider.
pub fn configure(scratch: &Scratch, issuer: &str) {
    let text = format!(
        "listen = '127.0.0.1:0'\nadmin_listen = ''\n[store]\nurl = 'sqlite://{}'\n[providers.dev]\nissuer = '{issuer}'\nclient_id = 'demo-tv'\n",
        scratch.join("a.db").display(),
    );
    fs::write(scratch.join("a.toml"), text).expect("a scratch file");
}

impl Service {
    /// `None`: it died before it listened, as it may when it is to be killed.
    pub fn start(scratch: &Scratch, faults: &[(&str, String)]) -> Option<Self> {
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_anteroom")), scratch, faults)
    }

    /// As [`Service::start`], where no file of the service may become larger.
    pub fn start_with_file_limit(scratch: &Scratch, blocks: u32) -> Option<Self> {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("ulimit -f {blocks}; exec \"$0\" \"$@\"")).arg(env!("CARGO_BIN_EXE_anteroom"));
        Self::start_by(command, scratch, &[])
    }

    fn start_by(mut command: Command, scratch: &Scratch, faults: &[(&str, String)]) -> Option<Self> {
        command.args(["--log", "error", "serve", "--config"]).arg(scratch.join("a.toml")).stdin(Stdio::null()).stderr(Stdio::piped());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ANTEROOM_")) {
            command.env_remove(name);
        }
        if !faults.is_empty() {
            command.env("LD_PRELOAD", shim()).envs(faults.iter().map(|(name, value)| (*name, value)));
        }
        let mut child = command.spawn().expect("the binary");
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let mut seen = String::new();
        while let Some(Ok(line)) = lines.next() {
            if let Some(base) = line.strip_prefix("listening on ") {
                let base = base.to_owned();
                // Read to the end, so that it never waits for us.
                std::thread::spawn(move || lines.for_each(drop));
                let http = Client::builder().no_proxy().timeout(Duration::from_secs(25)).build().expect("a client");
                return Some(Self { child, base, http });
            }
            seen.push_str(&line);
        }
        let ended = child.wait().expect("our child");
        assert!(was_killed(ended) && !faults.is_empty(), "it did not start: {ended}: {seen}");
        None
    }

    pub fn http(&self) -> Http {
        Http { base: self.base.clone(), http: self.http.clone() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn kill(mut self) {
        self.child.kill().expect("our child");
        self.child.wait().expect("our child");
    }

    /// How it ended; panics if it does not within 20 s.
    pub fn ended(mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(ended) = self.child.try_wait().expect("our child") {
                return ended;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "it goes on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_none()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn was_killed(ended: ExitStatus) -> bool {
    std::os::unix::process::ExitStatusExt::signal(&ended) == Some(9)
}

#[derive(Clone)]
pub struct Http {
    base: String,
    http: Client,
}

impl Http {
    pub async fn create(&self, key: &str) -> Answer {
        self.ask(Method::POST, "/sessions", None, Some(&format!("creation-{key:0>16}"))).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, None, None).await
    }

    pub async fn claim(&self, id: &str, secret: &str, key: Option<&str>) -> Answer {
        self.ask(Method::POST, &format!("/sessions/{id}/claim"), Some(secret), key).await
    }

    pub async fn cancel(&self, id: &str, secret: &str) -> Answer {
        self.ask(Method::DELETE, &format!("/sessions/{id}"), Some(secret), None).await
    }

    async fn ask(&self, method: Method, path: &str, secret: Option<&str>, key: Option<&str>) -> Answer {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(secret) = secret {
            request = request.bearer_auth(secret);
        }
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        let body = response.text().await.ok()?;
        Some((status, serde_json::from_str(&body).unwrap_or(Value::Null)))
    }
}
