//! The wall clock of the machine is wrong, and somebody sets it, while the service runs or between two starts. libfaketime plays the
//! wall clock; the others are real.

use std::path::PathBuf;
use std::time::SystemTime;

use anteroom::clock::SystemClock;
use anteroom::demo::{Client, DevProvider, Options, SigningKey};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jsonwebtoken::Algorithm;
use reqwest::Method;
use serde_json::{Value, json};

use super::service::{Answer, Folder, Program, Service, SignIn, TempFile, answer, text, within};
use super::{client_of, exit_code, provider, stdout};

/// What programs under it take for the wall time.
struct WallClock {
    library: PathBuf,
    /// libfaketime reads it each time somebody asks for the time.
    file: TempFile,
}

impl WallClock {
    /// `None` where libfaketime is missing; with `ANTEROOM_TEST_REQUIRE=all` that is a failure.
    fn ahead(seconds: i64) -> Option<Self> {
        let library = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        let library = library.map(|folder| folder.path().join("faketime/libfaketime.so.1")).find(|library| library.exists());
        let Some(library) = library else {
            assert!(std::env::var("ANTEROOM_TEST_REQUIRE").as_deref() != Ok("all"), "faketime is missing");
            eprintln!("SKIPPED: faketime is not installed");
            return None;
        };
        Some(Self { library, file: TempFile::new(&format!("{seconds:+}\n")) })
    }

    fn set_ahead(&self, seconds: i64) {
        // In one step, or somebody could read half of it.
        let next = TempFile::new(&format!("{seconds:+}\n"));
        std::fs::rename(&next.0, &self.file.0).unwrap();
    }

    fn environment(&self) -> [(&str, &str); 4] {
        [
            ("LD_PRELOAD", self.library.to_str().unwrap()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.path()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]
    }

    async fn serve(&self, configuration: &TempFile) -> Service {
        Service::of(Program::start_in(&self.environment(), &["serve", "--config", configuration.path()])).await
    }
}

/// Seconds from now, by the true clock.
fn from_now(value: &Value) -> f64 {
    let then = humantime::parse_rfc3339(value.as_str().expect("a time")).unwrap();
    match then.duration_since(SystemTime::now()) {
        Ok(ahead) => ahead.as_secs_f64(),
        Err(past) => -past.duration().as_secs_f64(),
    }
}

/// A test may be slow; a clock that is off by a minute or more shows all the same.
fn assert_about(value: &Value, seconds: f64) {
    let found = from_now(value);
    assert!((seconds - 50.0..seconds + 20.0).contains(&found), "{value} is {found} s from now, not about {seconds}");
}

fn configuration(folder: &Folder, more: &str) -> TempFile {
    let listeners = "listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n";
    TempFile::new(&format!("{listeners}store.url = \"sqlite://{}/sessions.db\"\n{more}", folder.0.display()))
}

fn signing_key(file: &str) -> SigningKey {
    let pem = std::fs::read_to_string(file).unwrap();
    let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    SigningKey::from_der(Algorithm::EdDSA, &BASE64_STANDARD.decode(base64).unwrap()).unwrap()
}

async fn claim_with_key(service: &Service, sign_in: &SignIn<'_>, key: &str) -> Answer {
    let request = service.request(Method::POST, &format!("/sessions/{}/claim", sign_in.id));
    answer(request.bearer_auth(&sign_in.secret).header("Idempotency-Key", key)).await
}

async fn stop(mut service: Service) {
    service.program.signal("TERM");
    service.program.exit().await;
}

#[tokio::test]
async fn a_service_that_was_started_slow_is_right_once_its_clock_is() {
    let Some(wall) = WallClock::ahead(-120) else { return };
    let key_file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/keys/ed25519.pem");
    let clients = vec![Client::with_key("keyed", "Keyed", signing_key(key_file).public()), Client::public("demo-tv", "TV")];
    let options = Options { interval: Some(1), clients, ..Options::default() };
    let provider = DevProvider::start(([127, 0, 0, 1], 0).into(), options, SystemClock::start()).await.unwrap();
    let folder = Folder::new();
    let keyed = format!(
        "[providers.acme]\nissuer = \"{}\"\nclient_id = \"keyed\"\nprivate_key_file = \"{key_file}\"\nscopes = [\"openid\", \"profile\"]\nallow_anonymous = true\n",
        provider.issuer()
    );
    let file = configuration(&folder, &keyed);
    let service = wall.serve(&file).await;
    let metrics = service.program.stderr_after("metrics on ").await;
    wall.set_ahead(0);

    // Its assertions are in force, and what people see is true.
    let sign_in = service.begin(&json!({})).await;
    assert_about(&sign_in.begun["expires_at"], 600.0);
    assert_about(&sign_in.read().await.body["expires_at"], 600.0);
    provider.approve(sign_in.user_code());
    let authorized = sign_in.outcome().await;
    assert_eq!(authorized["status"], "authorized", "its ID token is not from the future: {authorized}");
    assert_about(&authorized["claim_by"], 300.0);
    let claimed = claim_with_key(&service, &sign_in, "0f1d2c3b-0000-4000-8000-000000000001").await;
    assert!(claimed.body["claims"]["sub"].is_string(), "{}", claimed.body);
    assert_about(&claimed.body["expires_at"], 3600.0);

    // Told without being asked: by the line, once, and by the metric.
    let line = "the wall clock was set forward";
    within(service.program.stderr_after(line)).await;
    let shown = reqwest::get(&metrics).await.unwrap().text().await.unwrap();
    let offset = shown.lines().find_map(|line| line.strip_prefix("anteroom_clock_offset_seconds ")).unwrap().parse::<f64>().unwrap();
    assert!((119.0..121.0).contains(&offset), "{offset}");
    assert_eq!(service.program.stderr().iter().filter(|said| said.contains(line)).count(), 1);

    // The same bytes, though the clock was set between.
    wall.set_ahead(600);
    let again = claim_with_key(&service, &sign_in, "0f1d2c3b-0000-4000-8000-000000000001").await;
    assert_eq!(again.body, claimed.body);
    wall.set_ahead(0);

    // What is stored is true as well.
    let waiting = service.begin(&json!({})).await;
    let begun = waiting.begun.clone();
    stop(service).await;
    let service = wall.serve(&file).await;
    let after = service.resume(&begun).read().await.body;
    assert_about(&after["expires_at"], 600.0);
    assert_eq!(after["status"], "pending");
}

#[tokio::test]
async fn a_clock_that_was_set_back_between_two_starts_lengthens_nothing() {
    const DAY: i64 = 24 * 3600;
    let Some(wall) = WallClock::ahead(DAY) else { return };
    let (provider, folder) = (provider().await, Folder::new());
    let file = configuration(&folder, &format!("claim_ttl = \"10m\"\n{}", client_of(&provider)));
    let service = wall.serve(&file).await;
    let waiting = service.begin(&json!({})).await;
    let sign_in = service.begin(&json!({})).await;
    provider.approve(sign_in.user_code());
    assert_eq!(sign_in.outcome().await["status"], "authorized");
    let (waiting, begun) = (waiting.begun.clone(), sign_in.begun.clone());
    stop(service).await;

    wall.set_ahead(0);
    let service = wall.serve(&file).await;
    let cut = service.resume(&begun).read().await.body;
    assert_about(&cut["claim_by"], 600.0);
    assert_about(&service.resume(&waiting).read().await.body["expires_at"], 600.0);
    stop(service).await;

    // Cut for good: one start after the other does not lengthen it either.
    wall.set_ahead(5);
    let service = wall.serve(&file).await;
    let again = service.resume(&begun).read().await.body;
    assert_eq!(text(&again, "claim_by"), text(&cut, "claim_by"));
}

#[tokio::test]
async fn check_tells_a_wrong_clock_from_a_right_one() {
    let Some(wall) = WallClock::ahead(-90) else { return };
    let provider = provider().await;
    let file = TempFile::new(&client_of(&provider));
    let check = async || {
        let output = Program::run_in(&wall.environment(), &["check", "--config", file.path()]).await;
        assert_eq!(exit_code(&output), 0, "sign-ins without ID tokens work");
        stdout(&output).to_owned()
    };
    let seconds = |text: &str| text.split_once("clock of this machine is ")?.1.split(' ').next()?.parse::<u64>().ok();
    let slow = check().await;
    assert!(seconds(&slow).is_some_and(|seconds| (80..=91).contains(&seconds)) && slow.contains(" s behind the provider's"), "{slow}");
    wall.set_ahead(90);
    let fast = check().await;
    assert!(seconds(&fast).is_some_and(|seconds| (89..=110).contains(&seconds)) && fast.contains(" s ahead of the provider's"), "{fast}");
    wall.set_ahead(0);
    assert!(!check().await.contains("clock"));
}
