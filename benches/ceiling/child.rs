//! The processes beside us: the service and the provider. Each ends with its handle.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anteroom::clock::SystemClock;
use anteroom::demo::{Answer, DevProvider, Endpoint, Options, Recording};
use rustix::process::{Pid, Signal, kill_process};

use super::client::Client;
use super::runtime;

/// A folder on the disk that the build uses; removed with its handle.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ceiling-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

// === the service ===

/// `anteroom serve` with the default store, its limits lifted, one provider called `demo`.
pub struct Service {
    child: Child,
    pub address: SocketAddr,
    admin: SocketAddr,
    /// When it was started.
    pub begun: Instant,
}

impl Service {
    /// Returns once it listens. Its database is `anteroom.db` in `folder`; `settings` are keys as the environment writes them,
    /// without `ANTEROOM_`.
    pub fn start(folder: &Folder, issuer: &str, settings: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_anteroom"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ANTEROOM_")) {
            command.env_remove(name);
        }
        let ours = [
            ("LISTEN", "127.0.0.1:0"),
            ("ADMIN_LISTEN", "127.0.0.1:0"),
            ("MAX_SESSIONS", "10000000"),
            ("RETENTION", "1s"),
            ("HTTP__MAX_READS_PER_MINUTE", "4000000000"),
            ("PROVIDERS__DEMO__ISSUER", issuer),
            ("PROVIDERS__DEMO__CLIENT_ID", "demo-tv"),
            ("PROVIDERS__DEMO__MAX_IN_FLIGHT", "1000"),
        ];
        command.envs(ours.iter().chain(settings).map(|(name, value)| (format!("ANTEROOM_{name}"), value)));
        let begun = Instant::now();
        let mut child =
            command.arg("serve").current_dir(&folder.0).stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("our program");
        let mut log = BufReader::new(child.stderr.take().expect("a pipe"));
        let address = told(&mut log, "listening on http://", "");
        let admin = told(&mut log, "metrics on http://", "/metrics");
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { child, address, admin, begun }
    }

    /// The text of its metrics.
    pub async fn metrics(&self) -> String {
        let mut client = Client::connect(self.admin).await;
        assert_eq!(client.ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await, 200);
        String::from_utf8(client.body().to_vec()).expect("text")
    }

    /// The sum of a series over all labels that contain `label`.
    pub async fn series(&self, name: &str, label: &str) -> f64 {
        let text = self.metrics().await;
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Bytes, whatever they are used for.
    pub fn resident(&self) -> f64 {
        let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id())).expect("Linux");
        let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).expect("a size");
        line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") * 1024.0
    }

    /// Seconds of processor time.
    pub fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("Linux");
        let after_name = stat.rsplit(')').next().expect("a name");
        let fields: Vec<f64> = after_name.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        // utime and stime are the 14th and 15th fields; pid, name and state are not among these.
        (fields[10] + fields[11]) / 100.0
    }

    /// Takes no processor time until [`Self::go_on`].
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("our own child");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in the line that starts with `prefix`; lines before it are of no interest.
fn told(log: &mut impl BufRead, prefix: &str, suffix: &str) -> SocketAddr {
    let mut text = String::new();
    loop {
        let from = text.len();
        assert!(log.read_line(&mut text).expect("a pipe") > 0, "the service has ended: {text}");
        if let Some(address) = text[from..].trim_end().strip_prefix(prefix) {
            return address.trim_end_matches(suffix).parse().expect("an address");
        }
    }
}

// === the provider ===

/// What a provider takes that is not on this machine.
pub const DISTANCE: Duration = Duration::from_millis(20);

/// The development provider.
pub struct Beside {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    pub issuer: String,
}

impl Beside {
    /// `interval` in seconds; nobody ever approves.
    pub fn start(interval: u64) -> Self {
        Self::with(&["--provider", &interval.to_string()])
    }

    /// Whoever asks for tokens for the first time gets them.
    pub fn approving() -> Self {
        Self::with(&["--provider", "1", "approving"])
    }

    /// As [`Self::start`], but it takes [`DISTANCE`] to give a code.
    pub fn distant(interval: u64) -> Self {
        Self::with(&["--provider", &interval.to_string(), "distant"])
    }

    fn with(args: &[&str]) -> Self {
        let (child, input, mut output) = ourselves(args);
        let issuer = line(&mut output);
        Self { child, input: Some(input), output, issuer }
    }

    /// The polls that came sooner than the interval allows, of all codes.
    pub fn early_polls(&mut self) -> f64 {
        self.input.as_mut().and_then(|input| writeln!(input, "early").ok()).expect("the provider lives");
        line(&mut self.output).parse().expect("a number")
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// What the provider's process does until its input ends. Each line of it asks for the number of early polls.
pub fn provide(args: &[String]) {
    let interval = args.first().and_then(|interval| interval.parse().ok());
    let manner = args.get(1).map(String::as_str);
    let approve_at_poll = (manner == Some("approving")).then_some(1);
    let recording = Recording::Counts;
    let options = Options { interval, expires_in: 86_400, recording, rate_check: None, approve_at_poll, ..Options::default() };
    let runtime = runtime();
    let started = runtime.block_on(DevProvider::start(([127, 0, 0, 1], 0).into(), options, SystemClock::start()));
    let provider = started.expect("a free port");
    if manner == Some("distant") {
        provider.always(Endpoint::DeviceAuthorization, Some(Answer::Delay(DISTANCE)));
    }
    println!("{}", provider.issuer());
    for _ in std::io::stdin().lines() {
        println!("{}", provider.early_polls());
    }
}

/// This program again, as another contestant.
pub fn ourselves(args: &[&str]) -> (Child, ChildStdin, BufReader<ChildStdout>) {
    let program = std::env::current_exe().expect("this program");
    let mut child = Command::new(program).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("this program again");
    let (input, output) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
    (child, input, BufReader::new(output))
}

pub fn line(output: &mut impl BufRead) -> String {
    let mut line = String::new();
    output.read_line(&mut line).expect("a pipe");
    line.trim_end().to_owned()
}
